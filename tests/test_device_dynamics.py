"""Recorded steps, done call by call on the CPU: against the dynamics of every other engine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fused_dynamics import single
from toy_simulation import (
    KEY,
    SEQUENCE,
    assert_same,
    toy_network,
    toy_protocol,
    toy_run,
    toy_system,
)

from cgbench import config
from cgbench.kernels.device import twin
from cgbench.kernels.device.arrays import Operations, StepArrays
from cgbench.models import NetworkPotential
from cgbench.simulation import Engine, choose_engine
from cgbench.simulation import engine as engine_module
from cgbench.simulation.checkpoint import RunRecord, SimulationOutcome
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.engines import device_engine
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.noise import NoiseFeed
from cgbench.simulation.overlapped import OverlappedRun
from cgbench.simulation.step_graph import GraphDynamics
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams
from cgbench.store import TrajectoryWriter

CPU = torch.device("cpu")
TYPES = toy_system().bead_types
SETTINGS = LangevinSettings(0.004, 1.0, 350.0, 12.0)
N_REPLICAS = 4


def compared(operations: Operations) -> StepArrays:
    """Two halves of a step, of replicas that live, have failed, and fail by either sort of number.

    The last step of a block, so that the count begins anew.
    """
    generator = np.random.default_rng(8)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.normal(size=shape)).float()

    shape = (4, 5, 3)
    step = StepArrays(
        numbers(*shape),
        numbers(*shape),
        numbers(*shape),
        torch.tensor([True, False, True, True]),
        numbers(6, *shape),
        torch.tensor([5]),
        numbers(4).abs(),
        torch.tensor([0.07, 0.002, 0.996]),
    )
    step.velocities[2, 1, 1] = torch.inf
    operations.before_forces(step)
    step.forces[3, 4, 2] = torch.nan
    operations.after_forces(step)
    return step


def test_the_halves_of_a_step() -> None:
    step = compared(twin)  # type: ignore[arg-type]
    assert step.alive.tolist() == [True, False, False, False]
    assert step.within.tolist() == [0]
    assert torch.isfinite(step.positions).all()
    assert not step.velocities[1:].any()
    assert not step.forces[1:].any()
    assert step.velocities[0].all()


def engine_of(potential: NetworkPotential, dtype: torch.dtype = torch.float64) -> Engine:
    return device_engine(potential, TYPES, dtype, CPU, N_REPLICAS)


def streams(dtype: torch.dtype = torch.float64) -> ReplicaStreams:
    return ReplicaStreams(3, range(N_REPLICAS), len(TYPES), dtype=dtype)


def starts(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return toy_system(N_REPLICAS).starts.to(dtype)


def test_a_hundred_steps_are_those_of_the_compiled_loops() -> None:
    loops = choose_engine(toy_network(), TYPES, torch.float64, "fused")
    expected = loops.dynamics(SETTINGS, streams(), starts())
    found = engine_of(toy_network()).dynamics(SETTINGS, streams(), starts())
    assert isinstance(found, GraphDynamics)
    assert not isinstance(expected, GraphDynamics)
    for _ in range(100):
        expected.advance()
        found.advance()
    assert (found.step, found.evaluations) == (expected.step, expected.evaluations)
    for name, one in vars(found.state).items():
        other = getattr(expected.state, name)
        assert (one - other).norm() <= 1e-9 * other.norm(), name
    for one, other in zip(found.result, expected.result, strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_are_bitwise_those_of_the_integrator(dtype: torch.dtype) -> None:
    """With the same forces nothing of the step differs, across blocks of noise and failures."""
    engine = engine_of(single() if dtype == torch.float32 else toy_network(), dtype)
    state = {"step": STEPS_PER_BLOCK - 10, "temperatures": np.array([300.0, 320.0, 350.0, 380.0])}
    expected = ReplicaDynamics(engine.evaluate, SETTINGS, streams(dtype), starts(dtype), **state)  # type: ignore[arg-type]
    found = engine.dynamics(SETTINGS, streams(dtype), starts(dtype), **state)
    for step in range(40):
        for dynamics in (expected, found):
            if step == 5:
                dynamics.state.velocities[1, 2] = torch.inf
            if step == 15:
                dynamics.fail(torch.tensor([False, False, True, False]))
            if step == 20:
                dynamics.set_temperatures(np.array([310.0, 310.0, 360.0, 360.0]))
            if step == 25:
                dynamics.recentre()
            dynamics.advance()
        for name, one in vars(found.state).items():
            assert torch.equal(one, getattr(expected.state, name)), (step, name)
        assert torch.equal(found.alive, expected.alive)
        for one, other in zip(found.result[:2], expected.result[:2], strict=True):
            assert torch.equal(one, other)
    assert found.alive.tolist() == [True, False, False, True]


def test_noise_is_that_of_the_streams() -> None:
    """Block after block, after a jump ahead and one back, whatever the threads."""
    expected = streams()
    for n_threads in (1, 3):
        feed = NoiseFeed(streams(), n_threads)
        for step in (0, 1, 63, 64, 128, 129, 700, 0, 64, 130, 65):
            within = feed.load(step)
            assert torch.equal(feed.block[within], expected.noise(step)), step


def use(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr(engine_module, "choose_engine", lambda *arguments: engine)


def plain(engine: Engine) -> Engine:
    """The same forces without recorded steps."""
    return Engine("fused", engine.reason, engine.evaluate)


def outcome(out: Path) -> SimulationOutcome:
    record = config.read_model(RunRecord, out.with_name(f"{out.stem}.{KEY}.run.json"))
    assert record.outcome is not None
    return record.outcome


@pytest.mark.parametrize(
    ("timestep", "n_alive"),
    [(0.004, 4), (0.02, None), (0.1, 0)],
    ids=["stable", "some fail", "none"],
)
def test_overlapped_runs_store_what_others_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timestep: float, n_alive: int | None
) -> None:
    engine = engine_of(toy_network())
    protocol = toy_protocol(timestep=timestep, output_interval=5 * timestep, length=40 * timestep)
    found = []
    for name, one in (("plain", plain(engine)), ("overlapped", engine)):
        use(monkeypatch, one)
        out = tmp_path / f"{name}.zarr"
        found.append((toy_run(toy_network(), out, protocol=protocol), outcome(out)))
    (expected, before), (stored, after) = found
    assert_same(stored, expected)
    changing = {"wall_time", "steps_per_second", "ns_per_day"}
    assert after.model_dump(exclude=changing) == before.model_dump(exclude=changing)
    whole = sum(frame == after.n_output_frames for frame in after.alive_until)
    assert whole == n_alive if n_alive is not None else whole <= N_REPLICAS


@pytest.mark.parametrize("interrupted_at", [1, 3])
def test_a_continued_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_at: int
) -> None:
    use(monkeypatch, engine_of(toy_network()))
    whole = toy_run(toy_network(), tmp_path / "whole.zarr")
    calls = []
    output = OverlappedRun._output

    def stopped(self: OverlappedRun, *, save: bool) -> None:
        output(self, save=save)
        calls.append(1)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt

    out = tmp_path / "cut.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(OverlappedRun, "_output", stopped)
        with pytest.raises(KeyboardInterrupt):
            toy_run(toy_network(), out)
    assert len(calls) == interrupted_at
    assert_same(toy_run(toy_network(), out), whole)
    assert len(calls) == interrupted_at


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is saved on the way out: what a killed process leaves."""
    use(monkeypatch, engine_of(toy_network()))
    whole = toy_run(toy_network(), tmp_path / "whole.zarr")
    output, out, calls = OverlappedRun._output, tmp_path / "cut.zarr", []

    class Killed(BaseException):
        pass

    def killed(self: OverlappedRun, *, save: bool) -> None:
        output(self, save=save)
        calls.append(1)
        if len(calls) == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(OverlappedRun, "_output", killed)
        with pytest.raises(Killed):
            toy_run(toy_network(), out, checkpoint_interval=0.0)
    assert_same(toy_run(toy_network(), out), whole)


def test_exchanges_of_temperature_wait_for_the_energies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(toy_network())
    ladder = {"temperatures": (350.0, 380.0), "interval": 0.008, "source": "chosen here"}
    protocol = toy_protocol(ladder=ladder)
    found = []
    for name, one in (("plain", plain(engine)), ("recorded", engine)):
        use(monkeypatch, one)
        found.append(toy_run(toy_network(), tmp_path / f"{name}.zarr", protocol=protocol))
    assert_same(found[1], found[0])


def test_an_error_of_the_writer_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, engine_of(toy_network()))

    def full(self: TrajectoryWriter, *arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(TrajectoryWriter, "append", full)
    with pytest.raises(OSError, match="no space left"):
        toy_run(toy_network(), tmp_path / "full.zarr")


def test_engines_of_a_processor_are_as_before() -> None:
    engine = choose_engine(single(), TYPES, torch.float32)
    assert engine.name == "fused"
    assert engine.reason.startswith("compiled loops")
    assert engine.device is None
    recorded = engine_of(single(), torch.float32)
    assert recorded.reason.startswith("plain torch, no graph on a processor, filters from splines")
    assert len(SEQUENCE) == len(TYPES)


def test_any_number_of_replicas_is_evaluated() -> None:
    engine: Callable[[torch.Tensor], object] = engine_of(toy_network()).evaluate
    many = engine(starts())
    alone = engine(starts()[:1])
    assert isinstance(many, tuple)
    assert isinstance(alone, tuple)
    torch.testing.assert_close(alone[2], many[2][:1])
