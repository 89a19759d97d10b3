"""Compiled steps against the step-by-step path, bit by bit, in every batch and on every thread."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused_dynamics import FUSED, single
from toy_simulation import assert_same, toy_network, toy_protocol, toy_run, toy_system

from cgbench.kernels import chain
from cgbench.models import FusedPotential
from cgbench.simulation import choose_engine
from cgbench.simulation.compiled_dynamics import CompiledDynamics
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.engine import simulate
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams
from cgbench.store import read_trajectories

TYPES = toy_system().bead_types
SETTINGS = LangevinSettings(0.004, 1.0, 350.0, 12.0)
N_REPLICAS = 7
Disturb = Callable[[ReplicaDynamics], None]


def potential_of(dtype: torch.dtype, n_threads: int = 1) -> FusedPotential:
    network = single() if dtype == torch.float32 else toy_network()
    return FusedPotential(network, TYPES, n_threads, dtype)


def starts(replicas: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    found = toy_system(N_REPLICAS).starts.to(dtype)
    return found[torch.tensor(replicas)]


def compiled(
    potential: FusedPotential, replicas: list[int], dtype: torch.dtype = torch.float32
) -> CompiledDynamics:
    streams = ReplicaStreams(5, replicas, len(TYPES), dtype=dtype)
    return CompiledDynamics(potential, SETTINGS, streams, starts(replicas, dtype))


def values(dynamics: ReplicaDynamics) -> list[torch.Tensor]:
    return [*vars(dynamics.state).values(), dynamics.alive, *dynamics.result[:2]]


def assert_equal(one: ReplicaDynamics, other: ReplicaDynamics) -> None:
    assert (one.step, one.evaluations) == (other.step, other.evaluations)
    for found, expected in zip(values(one), values(other), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def infinite_velocity(dynamics: ReplicaDynamics) -> None:
    dynamics.state.velocities[1, 2, 0] = torch.inf


def infinite_force(dynamics: ReplicaDynamics) -> None:
    # Squared distances overflow, and with them the forces at the next positions.
    dynamics.state.positions[3, 4] = 3e38


def not_a_number(dynamics: ReplicaDynamics) -> None:
    dynamics.state.velocities[N_REPLICAS - 1] = torch.nan


def temperatures(dynamics: ReplicaDynamics) -> None:
    dynamics.set_temperatures(np.linspace(250.0, 450.0, N_REPLICAS))


def failed(dynamics: ReplicaDynamics) -> None:
    dynamics.fail(torch.arange(N_REPLICAS) == 2)


def centred(dynamics: ReplicaDynamics) -> None:
    dynamics.recentre()


EVENTS: list[Disturb] = [
    infinite_velocity, infinite_force, not_a_number, temperatures, failed, centred,
]  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    dtype=st.sampled_from([torch.float32, torch.float64]),
    n_threads=st.sampled_from([1, 2]),
    moves=st.lists(
        st.tuples(st.integers(1, STEPS_PER_BLOCK + 20), st.sampled_from([None, *EVENTS])),
        min_size=1,
        max_size=4,
    ),
)
def test_steps_are_bitwise_those_one_by_one(
    dtype: torch.dtype, n_threads: int, moves: list[tuple[int, Disturb | None]]
) -> None:
    potential = potential_of(dtype, n_threads)
    found = compiled(potential, list(range(N_REPLICAS)), dtype)
    expected = ReplicaDynamics(
        lambda positions: potential.chains(potential.bead_types, positions),
        SETTINGS,
        ReplicaStreams(5, range(N_REPLICAS), len(TYPES), dtype=dtype),
        starts(list(range(N_REPLICAS)), dtype),
    )
    for n_steps, disturb in moves:
        for dynamics in (found, expected):
            if disturb is not None:
                disturb(dynamics)
            dynamics.advance(n_steps)
        assert_equal(found, expected)


@pytest.mark.parametrize("disturb", [infinite_velocity, infinite_force, not_a_number])
def test_failures_are_held_still_and_change_nothing_else(disturb: Disturb) -> None:
    potential, everyone = potential_of(torch.float32), list(range(N_REPLICAS))
    whole, broken = compiled(potential, everyone), compiled(potential, everyone)
    for dynamics in (whole, broken):
        dynamics.advance(10)
    before = broken.state.positions.clone()
    disturb(broken)
    for dynamics in (whole, broken):
        dynamics.advance(70)
    (lost,) = np.flatnonzero(~broken.alive.numpy())
    if disturb is not infinite_force:
        assert torch.equal(broken.state.positions[lost], before[lost])
    assert not broken.state.velocities[lost].any()
    assert not broken.state.forces[lost].any()
    kept = [replica for replica in everyone if replica != lost]
    for one, other in zip(values(broken), values(whole), strict=True):
        assert torch.equal(one[kept], other[kept])


def test_a_path_is_the_same_alone_in_a_batch_and_on_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everyone = list(range(N_REPLICAS))
    together = compiled(potential_of(torch.float32), everyone)
    together.advance(100)
    batches = [[0], [6], [5, 2], [4, 1, 0, 6]]
    for n_threads, beads in ((1, 160), (2, 160), (3, 10), (2, 25)):
        monkeypatch.setattr(chain, "BLOCK_BEADS", beads)
        potential = potential_of(torch.float32, n_threads)
        for replicas in [*batches, everyone]:
            found = compiled(potential, replicas)
            found.advance(30)
            found.advance(70)
            for one, other in zip(values(found), values(together), strict=True):
                assert torch.equal(one, other[replicas]), (n_threads, replicas)


def test_shards_of_a_run_are_bitwise_the_run(tmp_path: Path) -> None:
    whole = toy_run(single(), tmp_path / "whole.zarr", **FUSED)
    for first in (0, 2):
        out = tmp_path / f"{first}.zarr"
        simulate(
            single(), toy_system(), toy_protocol(), seed=1, out=out, model_hash="toy",
            engine="fused", replicas=[first, first + 1],
        )  # fmt: skip
        part = read_trajectories(out, toy_system().key)
        for place in range(2):
            np.testing.assert_array_equal(part.coordinates[place], whole.coordinates[first + place])


def test_a_run_continues_bitwise_with_another_number_of_threads(tmp_path: Path) -> None:
    whole = toy_run(single(), tmp_path / "whole.zarr", **FUSED)
    before = torch.get_num_threads()

    def stop(task: str, done: float, total: float) -> None:
        raise KeyboardInterrupt

    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyboardInterrupt):
            toy_run(single(), tmp_path / "cut.zarr", **FUSED, progress=stop)
        torch.set_num_threads(1)
        assert_same(toy_run(single(), tmp_path / "cut.zarr", **FUSED), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("raiser", ["caller", "another thread"])
def test_an_interrupt_stops_all_threads(monkeypatch: pytest.MonkeyPatch, raiser: str) -> None:
    monkeypatch.setattr(chain, "BLOCK_BEADS", 10)
    dynamics = compiled(potential_of(torch.float32, 2), list(range(N_REPLICAS)))
    dynamics.advance(1)
    prepared, main = [], threading.current_thread()
    both = threading.Barrier(2, timeout=30)
    draw = ReplicaStreams.draw

    def stopped(self: ReplicaStreams, *arguments: object, **options: object) -> None:
        prepared.append(1)
        if len(prepared) <= 2:
            both.wait()
        if (threading.current_thread() is main) == (raiser == "caller"):
            raise KeyboardInterrupt
        time.sleep(0.2)
        draw(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ReplicaStreams, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        dynamics.advance(STEPS_PER_BLOCK)
    if raiser == "caller":
        # The other thread had at most the block it was at and one that it had taken before.
        assert len(prepared) < N_REPLICAS


def test_the_engine_says_so() -> None:
    engine = choose_engine(single(), TYPES, torch.float32)
    assert "bitwise the same in every batch" in engine.reason
    found = engine.dynamics(SETTINGS, ReplicaStreams(5, [0], len(TYPES)), starts([0]))
    assert isinstance(found, CompiledDynamics)
    plain = choose_engine(single(), TYPES, torch.float32, "torch")
    other = plain.dynamics(SETTINGS, ReplicaStreams(5, [0], len(TYPES)), starts([0]))
    assert not isinstance(other, CompiledDynamics)


FRESH = """
import hashlib, torch
from test_compiled_dynamics import compiled, potential_of
torch.set_num_threads(1)
dynamics = compiled(potential_of(torch.float32), [0, 1, 2, 3])
dynamics.advance(100)
print(hashlib.sha256(dynamics.state.positions.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_code_just_compiled_and_code_from_the_disk_give_the_same_bits(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", FRESH],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
            text=True,
        )
        found.append(done.stdout)
        assert list(tmp_path.rglob("steps.advance_block*.nbc"))
    assert found[0] == found[1]
