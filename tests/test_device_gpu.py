"""On a graphics processor: kernels, recorded steps and runs, against the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_device_dynamics import N_REPLICAS, SETTINGS, TYPES, compared, starts, streams
from test_fused import chains, exact, pathological, potential, sequence
from test_fused_dynamics import single
from toy_simulation import assert_same, toy_network, toy_run

from cgbench.kernels.device import twin
from cgbench.kernels.device.choice import choose_operations
from cgbench.models import DevicePotential
from cgbench.simulation import choose_engine
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.engines import device_engine
from cgbench.simulation.overlapped import OverlappedRun
from cgbench.simulation.step_graph import GraphDynamics
from cgbench.simulation.streams import ReplicaStreams

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CUDA = torch.device("cuda")
CPU = torch.device("cpu")


def on_card(dtype: torch.dtype = torch.float64, operations: object = None) -> ReplicaDynamics:
    """Dynamics on the card of the chains that the CPU's tests move."""
    engine = device_engine(
        toy_network() if dtype == torch.float64 else single(),
        TYPES,
        dtype,
        CUDA,
        N_REPLICAS,
        operations,  # type: ignore[arg-type]
    )
    noise = ReplicaStreams(3, range(N_REPLICAS), len(TYPES), dtype=dtype, device=CUDA)
    return engine.dynamics(SETTINGS, noise, starts(dtype).to(CUDA))


def kinds() -> list[object]:
    """The operations that this machine has: plain torch, and Triton where it works."""
    found = choose_operations(CUDA)[0]
    return [twin] if found is twin else [twin, found]


@pytest.mark.parametrize("n_beads", [1, 2, 3, 4, 5, 10, 17, 35, 56, 80, 96])
def test_energies_and_forces_are_those_of_the_cpu(n_beads: int) -> None:
    types, chosen = sequence(n_beads), potential(n_beads, torch.float32)
    pos = torch.tensor(chains(7, n_beads, seed=n_beads), dtype=torch.float32)
    expected = exact(chosen, types, pos, torch.float64)
    rounded = exact(chosen, types, pos, torch.float32)
    for operations in kinds():
        device = DevicePotential(chosen, types, 7, device=CUDA, operations=operations)  # type: ignore[arg-type]
        for _ in range(2):
            found = device.chains(types, pos.to(CUDA))
        for one, other, coarse in zip(found, expected, rounded, strict=True):
            allowed = 1e-5 * other.norm().clamp_min(1e-3) + 2 * (coarse - other).norm()
            assert (one.cpu().double() - other).norm() <= allowed


@pytest.mark.parametrize("case", list(pathological()))
def test_pathological_geometries(case: str) -> None:
    types, chosen, pos = sequence(8), potential(5, torch.float64), pathological()[case]
    expected = DevicePotential(chosen, types, 1, device=CPU).chains(types, pos)
    for operations in kinds():
        device = DevicePotential(chosen, types, 1, device=CUDA, operations=operations)  # type: ignore[arg-type]
        for one, other in zip(device.chains(types, pos.to(CUDA)), expected, strict=True):
            assert (one.cpu() - other).norm() <= 1e-9 * other.norm().clamp_min(1e-3)


def test_a_broken_replica_is_broken_alone() -> None:
    types = sequence(10)
    device = DevicePotential(potential(6, torch.float32), types, 3, device=CUDA)
    pos = torch.tensor(chains(3, 10, seed=4), dtype=torch.float32, device=CUDA)
    whole = device.chains(types, pos)
    pos[1, 4, 1] = torch.nan
    broken = device.chains(types, pos)
    for before, after in zip(whole, broken, strict=True):
        assert after[1].isnan().all()
        assert torch.equal(before[::2], after[::2])


def test_the_same_numbers_give_the_same_bits() -> None:
    types = sequence(80)
    device = DevicePotential(potential(6, torch.float32), types, 64, device=CUDA)
    pos = torch.tensor(chains(64, 80, seed=4), dtype=torch.float32, device=CUDA)
    first = device.chains(types, pos)
    for _ in range(5):
        assert torch.equal(device.chains(types, pos).forces, first.forces)


def test_the_halves_of_a_step() -> None:
    expected = compared(twin)  # type: ignore[arg-type]
    for operations in kinds():

        class There:
            """The operations on copies of the tensors on the card."""

            def __getattr__(self, name: str, operations: object = operations) -> object:
                def work(step: object) -> None:
                    moved = [tensor.to(CUDA) for tensor in step]  # type: ignore[attr-defined]
                    getattr(operations, name)(type(step)(*moved))
                    for tensor, result in zip(step, moved, strict=True):  # type: ignore[call-overload]
                        tensor.copy_(result)

                return work

        found = compared(There())  # type: ignore[arg-type]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_hundred_recorded_steps_are_those_of_the_cpu() -> None:
    expected = choose_engine(toy_network(), TYPES, torch.float64, "fused").dynamics(
        SETTINGS, streams(), starts()
    )
    all_found = [on_card(operations=operations) for operations in kinds()]
    for _ in range(100):
        expected.advance()
        for found in all_found:
            found.advance()
    for found in all_found:
        assert isinstance(found, GraphDynamics)
        for name, one in vars(found.state).items():
            other = getattr(expected.state, name)
            assert (one.cpu() - other).norm() <= 1e-9 * other.norm(), name


def test_steps_wait_for_nothing() -> None:
    found = on_card(torch.float32)
    found.advance()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(200):
            found.advance()
        found.recentre()
        found.fail(torch.zeros(N_REPLICAS, dtype=torch.bool, device=CUDA))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(found.alive.all())


def test_a_replica_that_fails_is_held_still_and_the_others_go_on() -> None:
    found, undisturbed = on_card(torch.float32), on_card(torch.float32)
    found.state.velocities[1, 2] = torch.inf
    held = found.state.positions[1].clone()
    for _ in range(70):
        found.advance()
        undisturbed.advance()
    assert found.alive.tolist() == [True, False, True, True]
    assert torch.equal(found.state.positions[1], held)
    others = [0, 2, 3]
    assert torch.equal(found.state.positions[others], undisturbed.state.positions[others])


def test_other_temperatures_reach_the_recorded_step() -> None:
    found = on_card(torch.float32)
    found.set_temperatures(np.array([350.0, 350.0, 700.0, 700.0]))
    cooler, hotter = [], []
    for _ in range(2000):
        found.advance()
        speeds = found.state.velocities.square().mean(dim=(1, 2))
        cooler.append(speeds[:2].mean())
        hotter.append(speeds[2:].mean())
    ratio = float(torch.stack(hotter[500:]).mean() / torch.stack(cooler[500:]).mean())
    assert 1.6 < ratio < 2.4


def test_the_engine_says_what_it_took() -> None:
    engine = choose_engine(single().to(CUDA), TYPES, torch.float32, n_replicas=N_REPLICAS)
    assert engine.name == "fused"
    assert "one CUDA graph a step" in engine.reason
    assert engine.device is not None
    assert engine.device.compiled.n_replicas == N_REPLICAS


def test_a_continued_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dtype": torch.float32}
    whole = toy_run(single().to(CUDA), tmp_path / "whole.zarr", **options)
    output, calls = OverlappedRun._output, []

    def stopped(self: OverlappedRun) -> None:
        output(self)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    out = tmp_path / "cut.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(OverlappedRun, "_output", stopped)
        with pytest.raises(KeyboardInterrupt):
            toy_run(single().to(CUDA), out, **options)
    assert_same(toy_run(single().to(CUDA), out, **options), whole)
