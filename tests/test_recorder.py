"""Frames and checkpoints that are written while a run goes on."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_simulation import KEY, N_FRAMES, Faulty, SpringChain, assert_same, interrupt, toy_run

from cgbench.models import ChainResult
from cgbench.simulation.checkpoint import Checkpoint
from cgbench.simulation.dynamics import all_intact, intact
from cgbench.store import TrajectoryWriter, read_trajectories

STEPS_PER_FRAME = 5


@pytest.mark.parametrize("slow", ["frame", "checkpoint"])
def test_steps_go_on_while_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """The disk only lets go when steps of two frames more were done."""
    reference = toy_run(SpringChain(), tmp_path / "reference.zarr")
    ahead = threading.Event()
    waited = []

    def reached(result: ChainResult) -> ChainResult:
        ahead.set()
        return result

    append, write = TrajectoryWriter.append, Checkpoint.write

    def wait() -> None:
        waited.append(ahead.wait(timeout=30.0))

    def slow_append(self: TrajectoryWriter, *arrays: np.ndarray) -> None:
        wait()
        append(self, *arrays)

    def slow_write(self: Checkpoint, path: Path) -> None:
        if self.step:
            wait()
        write(self, path)

    if slow == "frame":
        monkeypatch.setattr(TrajectoryWriter, "append", slow_append)
    else:
        monkeypatch.setattr(Checkpoint, "write", slow_write)
    potential = Faulty(SpringChain(), 3 * STEPS_PER_FRAME - 1, reached)
    found = toy_run(potential, tmp_path / "slow.zarr", checkpoint_interval=0.0)
    assert all(waited)
    assert len(waited) == N_FRAMES
    assert_same(found, reference)


def test_a_full_disk_ends_the_run_and_a_checkpoint_before_it_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = toy_run(SpringChain(), tmp_path / "reference.zarr")
    out = tmp_path / "trajectories.zarr"
    append, calls = TrajectoryWriter.append, []

    def full(self: TrajectoryWriter, *arrays: np.ndarray) -> None:
        calls.append(1)
        if len(calls) > 4:
            raise OSError("no space left on device")
        append(self, *arrays)

    with monkeypatch.context() as patch:
        patch.setattr(TrajectoryWriter, "append", full)
        with pytest.raises(OSError, match="no space left"):
            toy_run(SpringChain(), out, checkpoint_interval=0.0)
    # Nothing is stored after a frame that was lost.
    assert len(calls) == 5
    resumed = SpringChain()
    assert_same(toy_run(resumed, out), reference)
    assert resumed.calls == (N_FRAMES - 4) * STEPS_PER_FRAME


def test_an_interrupt_waits_for_the_frames_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = toy_run(SpringChain(), tmp_path / "reference.zarr")
    out = tmp_path / "trajectories.zarr"
    append, stopped = TrajectoryWriter.append, threading.Event()

    def late(self: TrajectoryWriter, *arrays: np.ndarray) -> None:
        assert stopped.wait(timeout=30.0)
        append(self, *arrays)

    def stop(result: ChainResult) -> ChainResult:
        stopped.set()
        return interrupt(result)

    with monkeypatch.context() as patch:
        patch.setattr(TrajectoryWriter, "append", late)
        with pytest.raises(KeyboardInterrupt):
            toy_run(Faulty(SpringChain(), 4 * STEPS_PER_FRAME + 1, stop), out)
    resumed = SpringChain()
    assert_same(toy_run(resumed, out), reference)
    assert resumed.calls == (N_FRAMES - 4) * STEPS_PER_FRAME


def test_no_thread_outlives_a_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        toy_run(Faulty(SpringChain(), 12, interrupt), tmp_path / "a.zarr")
    toy_run(SpringChain(), tmp_path / "b.zarr")
    assert read_trajectories(tmp_path / "b.zarr", KEY).complete
    assert "snapshots" not in {thread.name for thread in threading.enumerate()}


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(
        st.one_of(st.floats(2.9, 5.1), st.sampled_from([3.0, 5.0, 0.0, np.nan, np.inf, 1e30])),
        min_size=6,
        max_size=6,
    ),
    energy=st.sampled_from([0.0, -1e3, np.nan, np.inf, 3e38]),
)
def test_the_quick_look_never_passes_what_is_broken(lengths: list[float], energy: float) -> None:
    bonds = torch.zeros(2, 3, 3)
    bonds[..., 0] = torch.tensor(lengths).reshape(2, 3)
    positions = torch.cat([torch.zeros(2, 1, 3), bonds.cumsum(dim=1)], dim=1)
    energies = torch.tensor([energy, 1.0])
    exact = bool((intact(positions, 3.0, 5.0) & torch.isfinite(energies)).all())
    quick = all_intact(positions, energies, 3.0, 5.0)
    assert exact or not quick
    # And it is not merely always False.
    clear = all(3.01 < length < 4.99 for length in lengths) and energy in (0.0, -1e3)
    assert quick or not clear
