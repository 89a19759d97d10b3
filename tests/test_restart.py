"""Simulations that are interrupted, killed, repeated or replaced."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_simulation import (
    KEY,
    N_FRAMES,
    Fault,
    Faulty,
    FlatSprings,
    SpringChain,
    assert_same,
    interrupt,
    spoil,
    toy_network,
    toy_protocol,
    toy_run,
)

from cgbench.errors import IntegrityError, UsageError
from cgbench.models import ChainResult
from cgbench.store import TrajectorySet, TrajectoryWriter, read_trajectories, trajectory_writer


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    """An undisturbed run."""
    return toy_run(SpringChain(), tmp_path_factory.mktemp("reference") / "trajectories.zarr")


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let frames reach the disk in twos, so that eight of them make several chunks."""
    monkeypatch.setattr(trajectory_writer, "_CHUNK", 2)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("step", [0, 3, 5, 22])
@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_continued_after_an_interrupt_is_bitwise_the_same(
    tmp_path: Path, reference: TrajectorySet, step: int, interval: float
) -> None:
    out = tmp_path / "trajectories.zarr"

    potential = Faulty(SpringChain(), step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        toy_run(potential, out, checkpoint_interval=interval)
    resumed = SpringChain()
    assert_same(toy_run(resumed, out), reference)
    # An interrupt in the middle of an output interval costs that interval, not the run.
    assert resumed.calls == 40 - 5 * (max(0, step - 1) // 5) + (step == 0)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("frame", [3, 4])
def test_an_interrupt_while_frames_are_written(
    tmp_path: Path,
    reference: TrajectorySet,
    monkeypatch: pytest.MonkeyPatch,
    frame: int,
    after: bool,
) -> None:
    out = tmp_path / "trajectories.zarr"
    append = TrajectoryWriter.append
    calls = []

    def interrupted(self: TrajectoryWriter, *arrays: np.ndarray) -> None:
        calls.append(1)
        if len(calls) < frame or after:
            append(self, *arrays)
        if len(calls) == frame:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrajectoryWriter, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toy_run(SpringChain(), out)
    monkeypatch.setattr(TrajectoryWriter, "append", append)
    assert_same(toy_run(SpringChain(), out), reference)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("saved", [2, 3])
def test_frames_written_after_the_last_checkpoint_are_cut_off(
    tmp_path: Path, reference: TrajectorySet, saved: int
) -> None:
    out = tmp_path / "trajectories.zarr"
    path = tmp_path / f"trajectories.{KEY}.checkpoint.npz"
    with pytest.raises(KeyboardInterrupt):
        toy_run(Faulty(SpringChain(), 5 * saved + 1, interrupt), out)
    old = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        toy_run(Faulty(SpringChain(), 17, interrupt), out)
    # As if the process had died right before a checkpoint.
    path.write_bytes(old)
    assert_same(toy_run(SpringChain(), out), reference)


@pytest.mark.usefixtures("short_chunks")
def test_interrupted_again_and_again(tmp_path: Path, reference: TrajectorySet) -> None:
    out = tmp_path / "trajectories.zarr"
    potential = SpringChain()

    def stop(task: str, done: float, total: float) -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            toy_run(Faulty(potential, 7, interrupt), out)
    with pytest.raises(KeyboardInterrupt):
        toy_run(potential, out, progress=stop)
    assert_same(toy_run(potential, out), reference)


def test_failures_survive_a_restart(tmp_path: Path) -> None:
    def fault(result: ChainResult) -> ChainResult:
        if torch.isfinite(result.forces).all() and potential.count == 30:
            raise KeyboardInterrupt
        return spoil(1, np.nan)(result)

    expected = toy_run(Faulty(SpringChain(), 11, spoil(1, np.nan)), tmp_path / "a.zarr")
    potential = Faulty(SpringChain(), 11, fault)
    with pytest.raises(KeyboardInterrupt):
        toy_run(potential, tmp_path / "b.zarr")
    # The potential is sound from here on, but the replica stays dead.
    assert_same(toy_run(SpringChain(), tmp_path / "b.zarr"), expected)


def network_run(out: Path, at: int, fault: Fault) -> tuple[TrajectorySet, int]:
    """Return the frames of a network with a prior, and the number of evaluations."""
    potential = Faulty(toy_network(), at, fault)
    return toy_run(potential, out, checkpoint_interval=0.0), potential.count


CHILD = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from test_restart import KEY, network_run
import torch

out = Path(sys.argv[1])

def kill(result):
    # Only when the checkpoint of the latest frame, which is written meanwhile, is on disk.
    while np.load(out.with_name(f"{out.stem}.{KEY}.checkpoint.npz"))["step"] < 25:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
network_run(out, 27, kill)
"""


def test_continued_after_kill_is_bitwise_the_same(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected, _ = network_run(tmp_path / "whole.zarr", 0, lambda result: result)
        assert expected.alive_until.tolist() == [N_FRAMES] * 4
        out = tmp_path / "killed.zarr"
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(out)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        found, evaluations = network_run(out, 0, lambda result: result)
        assert_same(found, expected)
        assert evaluations == 40 - 25
    finally:
        torch.set_num_threads(threads)


def test_a_finished_run_is_not_done_again(tmp_path: Path, reference: TrajectorySet) -> None:
    out = tmp_path / "trajectories.zarr"
    toy_run(SpringChain(), out)
    again = SpringChain()
    assert_same(toy_run(again, out), reference)
    assert again.calls == 0
    forced = SpringChain()
    assert_same(toy_run(forced, out, force=True), reference)
    assert forced.calls == 41


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seed", {"seed": 2}),
        ("model", {"model_hash": "other"}),
        ("protocol", {"protocol": toy_protocol(friction=2.0)}),
        ("dtype", {"dtype": torch.float32}),
        ("replicas", {"replicas": [0, 1]}),
    ],
)
def test_another_run_is_not_overwritten(
    tmp_path: Path, reference: TrajectorySet, name: str, change: dict[str, object]
) -> None:
    out = tmp_path / "trajectories.zarr"
    toy_run(SpringChain(), out)
    potential = SpringChain(dtype=torch.float32 if name == "dtype" else torch.float64)
    with pytest.raises(UsageError, match=rf"(?s)another simulation.*same {name}.*--force"):
        toy_run(potential, out, **change)
    assert_same(read_trajectories(out, KEY), reference)
    toy_run(potential, out, **change, force=True)


def test_frames_of_unknown_origin_are_not_overwritten(
    tmp_path: Path, reference: TrajectorySet
) -> None:
    out = tmp_path / "trajectories.zarr"
    toy_run(SpringChain(), out)
    (tmp_path / f"trajectories.{KEY}.run.json").unlink()
    with pytest.raises(UsageError, match="without a record"):
        toy_run(SpringChain(), out)
    assert_same(read_trajectories(out, KEY), reference)
    assert_same(toy_run(SpringChain(), out, force=True), reference)


def test_a_changed_weight_is_another_model(tmp_path: Path) -> None:
    out = tmp_path / "trajectories.zarr"
    toy_run(SpringChain(40.0), out, model_hash=None)
    with pytest.raises(UsageError, match="same model"):
        toy_run(SpringChain(41.0), out, model_hash=None)
    with pytest.raises(UsageError, match="model_hash"):
        toy_run(FlatSprings(SpringChain()), out, model_hash=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "another run"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "trajectories.zarr"

    with pytest.raises(KeyboardInterrupt):
        toy_run(Faulty(SpringChain(), 17, interrupt), out)
    path = tmp_path / f"trajectories.{KEY}.checkpoint.npz"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    else:
        values = dict(np.load(path))
        np.savez(path, **{**values, "fingerprint": np.array("sha256:0")})
    with pytest.raises(IntegrityError, match=r"checkpoint\.npz"):
        toy_run(SpringChain(), out)
    toy_run(SpringChain(), out, force=True)
