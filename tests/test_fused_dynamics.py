"""Dynamics with compiled loops: energy, restarts, threads."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from toy_simulation import KEY, assert_same, toy_network, toy_run, toy_system

from cgbench.errors import UsageError
from cgbench.models import ChainResult, NetworkPotential
from cgbench.simulation import choose_engine
from cgbench.simulation.compiled_dynamics import CompiledDynamics
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.langevin import LangevinSettings, thermal_speed
from cgbench.simulation.streams import ReplicaStreams
from cgbench.store import read_trajectories
from cgbench.units import KCAL_PER_MOL

Evaluate = Callable[[torch.Tensor], ChainResult]

TYPES = toy_system().bead_types
MASS = 12.0
FUSED: dict[str, object] = {"dtype": torch.float32, "engine": "fused"}
N_REPLICAS = 8


def single() -> NetworkPotential:
    """The toy network in single precision."""
    potential = toy_network()
    assert potential.network is not None
    return NetworkPotential(potential.network.float(), potential.prior, potential.spec)


def without_friction(
    evaluate: Evaluate, dtype: torch.dtype, n_replicas: int = N_REPLICAS
) -> ReplicaDynamics:
    """Return dynamics that keep their energy, of chains that stay where they are."""
    streams = ReplicaStreams(3, range(n_replicas), len(TYPES), dtype=dtype)
    velocities = streams.initial() * thermal_speed(350.0, MASS)
    return ReplicaDynamics(
        evaluate,
        LangevinSettings(0.001, 0.0, 350.0, MASS),
        streams,
        toy_system().starts[:1].to(dtype).repeat(n_replicas, 1, 1),
        velocities=velocities - velocities.mean(dim=1, keepdim=True),
    )


def total_energies(
    potential: NetworkPotential,
    dtype: torch.dtype,
    engine: str,
    n_steps: int,
    n_records: int,
    n_replicas: int = N_REPLICAS,
) -> np.ndarray:
    """Return total energies (n_records, R) in kcal/mol along dynamics without friction."""
    evaluate = choose_engine(potential, TYPES, dtype, engine).evaluate  # type: ignore[arg-type]
    dynamics = without_friction(evaluate, dtype, n_replicas)
    found = []
    for _ in range(n_records):
        for _ in range(n_steps // n_records):
            dynamics.advance()
        dynamics.recentre()
        result, velocities = dynamics.result, dynamics.state.velocities.double()
        kinetic = 0.5 * MASS * velocities.square().sum(dim=(1, 2)) / KCAL_PER_MOL
        found.append(
            (result.network_energy.double() + result.prior_energy.double() + kinetic).numpy()
        )
    assert bool(dynamics.alive.all())
    return np.array(found)


def drift(energies: np.ndarray) -> float:
    """Return the median over replicas of the change of a fitted line over the whole time.

    The median, because a replica that meets a steep wall swings more than all others together.
    """
    time = np.linspace(-0.5, 0.5, len(energies))
    slopes = time @ (energies - energies.mean(axis=0)) / (time @ time)
    return float(np.median(np.abs(slopes)))


def assert_conserves(dtype: torch.dtype, n_steps: int, n_replicas: int = N_REPLICAS) -> None:
    potential = toy_network() if dtype == torch.float64 else single()
    found = {
        engine: total_energies(potential, dtype, engine, n_steps, 200, n_replicas)
        for engine in ("torch", "fused")
    }
    exact, tabulated = drift(found["torch"]), drift(found["fused"])
    # Paths part after a few hundred steps, so that drifts are two draws: equal up to their noise.
    # The swing is that of the integrator's shadow energy.
    swing = float(np.median((found["torch"] - found["torch"].mean(axis=0)).std(axis=0)))
    assert tabulated <= 2.0 * max(exact, swing), (exact, tabulated, swing)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
def test_energy_is_conserved_as_by_exact_filters(dtype: torch.dtype) -> None:
    assert_conserves(dtype, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energy_is_conserved_over_a_long_time(dtype: torch.dtype) -> None:
    # Over so long a time energies walk by rounding, some chains far: a median takes many of them.
    assert_conserves(dtype, 100_000, n_replicas=48)


def test_a_force_that_is_no_gradient_drifts() -> None:
    """The measure of the tests above sees a table whose forces are not its energy's gradient."""
    potential = toy_network()
    fused = choose_engine(potential, TYPES, torch.float64, "fused").evaluate

    def turned(positions: torch.Tensor) -> ChainResult:
        result = fused(positions)
        # A force along the cross product with an axis does work around it.
        about = torch.cross(torch.tensor([[[0.0, 0.0, 1e-2]]]).to(positions), positions, dim=2)
        return result._replace(forces=result.forces + about)

    dynamics = without_friction(turned, torch.float64)
    found = []
    for step in range(10_000):
        dynamics.advance()
        if step % 20 == 0:
            result = dynamics.result
            kinetic = 0.5 * MASS * dynamics.state.velocities.square().sum(dim=(1, 2)) / KCAL_PER_MOL
            found.append((result.network_energy + result.prior_energy + kinetic).numpy())
    energies = np.array(found)
    kept = total_energies(potential, torch.float64, "fused", 2_000, 100)
    swing = float(np.median((kept - kept.mean(axis=0)).std(axis=0)))
    assert drift(energies) > 2.0 * swing


@pytest.mark.parametrize("step", [3, 22])
def test_a_continued_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = toy_run(single(), tmp_path / "whole.zarr", **FUSED)
    out = tmp_path / "cut.zarr"
    advance, done = CompiledDynamics.advance, []

    def stopped(self: CompiledDynamics, n_steps: int = 1) -> None:
        done.append(n_steps)
        if sum(done) > step:
            # Like an interrupt within steps: part of the replicas have moved, and others not.
            self.state.positions[:2] += 1.0
            raise KeyboardInterrupt
        advance(self, n_steps)

    with monkeypatch.context() as patch:
        patch.setattr(CompiledDynamics, "advance", stopped)
        with pytest.raises(KeyboardInterrupt):
            toy_run(single(), out, **FUSED)
    assert_same(toy_run(single(), out, **FUSED), whole)


@pytest.mark.parametrize(("first", "second"), [("fused", "torch"), ("torch", "fused")])
def test_a_run_is_not_continued_by_another_engine(tmp_path: Path, first: str, second: str) -> None:
    out = tmp_path / "trajectories.zarr"

    def stop(task: str, done: float, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy_run(single(), out, **{**FUSED, "engine": first}, progress=stop)
    with pytest.raises(UsageError) as error:
        toy_run(single(), out, **{**FUSED, "engine": second})
    assert "the same engine" in str(error.value)
    assert "--force" in str(error.value)
    # The first one still does.
    toy_run(single(), out, **{**FUSED, "engine": first})


def test_threads_of_the_matrix_library_change_nothing(tmp_path: Path) -> None:
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(toy_run(single(), tmp_path / f"{threads}.zarr", **FUSED))
    assert_same(*found)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_of_the_environment_change_nothing(tmp_path: Path, threads: str) -> None:
    """In a process of its own, because libraries read the environment when they are loaded."""
    code = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1); "
        "from test_fused_dynamics import FUSED, single; from toy_simulation import toy_run; "
        "toy_run(single(), Path(sys.argv[1]), **FUSED)"
    )
    out = tmp_path / "other.zarr"
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    subprocess.run(
        [sys.executable, "-c", code, str(out)],
        check=True,
        env={**os.environ, **dict.fromkeys(names, threads)},
        cwd=Path(__file__).parent,
    )
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = toy_run(single(), tmp_path / "here.zarr", **FUSED)
    finally:
        torch.set_num_threads(n_threads)
    assert_same(read_trajectories(out, KEY), here)
