"""The operations for graphics processors, on the CPU: against the compiled loops and each other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import SPEC, TOLERANCE, chains, exact, full_prior, pathological, potential, sequence
from torch.utils._python_dispatch import TorchDispatchMode
from toy_networks import SMALL, small_network

from cgbench.errors import ValidationError
from cgbench.kernels.device import twin
from cgbench.kernels.device.arrays import PriorArrays, StepArrays
from cgbench.kernels.device.chain import DeviceChain, DeviceNetwork
from cgbench.kernels.device.choice import choose_operations
from cgbench.models import (
    DevicePotential,
    FusedPotential,
    GraphNetworkSettings,
    NetworkPotential,
)


def assert_same(chosen: NetworkPotential, types: torch.Tensor, pos: torch.Tensor) -> None:
    """Compare with the compiled loops, and with exact filters.

    Where large forces cancel, the rounding of the positions' precision is allowed: as much as the
    tensors of the exact network lose to it.
    """
    found = DevicePotential(chosen, types, len(pos), dtype=pos.dtype).chains(types, pos)
    loops = FusedPotential(chosen, types, 1, pos.dtype).chains(types, pos)
    expected = exact(chosen, types, pos, torch.float64)
    rounded = exact(chosen, types, pos, pos.dtype)
    for name, one, loop, other, coarse in zip(
        found._fields, found, loops, expected, rounded, strict=True
    ):
        assert one.dtype == pos.dtype
        allowed = TOLERANCE[pos.dtype] * other.norm().clamp_min(1e-3)
        allowed = allowed + 2 * (coarse - other).norm()
        assert (one.double() - loop.double()).norm() <= allowed, name
        assert (one.double() - other).norm() <= allowed, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n_beads", [1, 2, 3, 4, 5, 10, 17, 35, 96])
def test_energies_and_forces_are_those_of_the_loops(n_beads: int, dtype: torch.dtype) -> None:
    pos = torch.tensor(chains(4, n_beads, seed=n_beads), dtype=dtype)
    assert_same(potential(n_beads, dtype), sequence(n_beads), pos)


@pytest.mark.slow
@pytest.mark.parametrize("n_beads", range(1, 97))
def test_every_number_of_beads(n_beads: int) -> None:
    for dtype in TOLERANCE:
        pos = torch.tensor(chains(3, n_beads, seed=n_beads), dtype=dtype)
        assert_same(potential(n_beads, dtype), sequence(n_beads), pos)


@pytest.mark.parametrize(("network", "prior"), [(True, False), (False, True)])
def test_a_network_or_a_prior_alone(network: bool, prior: bool) -> None:
    chosen = potential(1, torch.float32, network=network, prior=prior)
    assert_same(chosen, sequence(12), torch.tensor(chains(4, 12, seed=1), dtype=torch.float32))


def test_the_reference_architecture_at_full_size() -> None:
    network = small_network(3, GraphNetworkSettings(), torch.float32)
    pos = torch.tensor(chains(3, 30, seed=2), dtype=torch.float32)
    assert_same(NetworkPotential(network, full_prior(), SPEC), sequence(30), pos)


@given(
    seed=st.integers(0, 2**16),
    n_beads=st.integers(2, 24),
    n_replicas=st.integers(1, 5),
    n_layers=st.integers(1, 3),
    cutoff_lower=st.sampled_from([0.0, 3.0]),
    scale=st.floats(0.6, 1.6),
)
@settings(max_examples=12, deadline=None)
def test_any_network_and_chain(
    seed: int, n_beads: int, n_replicas: int, n_layers: int, cutoff_lower: float, scale: float
) -> None:
    """Squeezed and stretched chains: no pair inside the cutoffs, or nearly all."""
    shape = SMALL.model_copy(update={"num_layers": n_layers, "cutoff_lower": cutoff_lower})
    chosen = NetworkPotential(small_network(seed, shape), full_prior(), SPEC)
    pos = torch.tensor(scale * chains(n_replicas, n_beads, seed=seed), dtype=torch.float64)
    assert_same(chosen, sequence(n_beads, seed), pos)


@pytest.mark.parametrize("case", list(pathological()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pathological_geometries(case: str, dtype: torch.dtype) -> None:
    assert_same(potential(5, dtype), sequence(8), pathological()[case].to(dtype))


@pytest.mark.parametrize(("network", "prior"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_replica_is_broken_alone(bad: float, network: bool, prior: bool) -> None:
    types = sequence(10)
    device = DevicePotential(potential(6, torch.float32, network=network, prior=prior), types, 6)
    pos = torch.tensor(chains(6, 10, seed=4), dtype=torch.float32)
    whole = device.chains(types, pos)
    pos[2, 4, 1] = bad
    broken = device.chains(types, pos)
    others = [0, 1, 3, 4, 5]
    for name, before, after in zip(whole._fields, whole, broken, strict=True):
        assert torch.equal(before[others], after[others])
        missing = {"network_energy": network, "prior_energy": prior, "forces": True}
        assert bool(after[2].isnan().all()) == missing[name]
    # And whole again afterwards.
    pos[2] = pos[1]
    assert not any(one.isnan().any() for one in device.chains(types, pos))


def test_dense_twins_work_in_blocks_without_changing_a_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    types, chosen = sequence(14), potential(4, torch.float64)
    pos = torch.tensor(chains(5, 14, seed=9), dtype=torch.float64)
    whole = DevicePotential(chosen, types, 5).chains(types, pos)
    monkeypatch.setattr(twin, "_ELEMENTS", 1000)
    assert torch.equal(DevicePotential(chosen, types, 5).chains(types, pos).forces, whole.forces)


def test_forces_are_the_gradient_of_the_tabulated_energy() -> None:
    types = sequence(9)
    pos = torch.tensor(chains(1, 9, seed=7), dtype=torch.float64)
    device = DevicePotential(potential(9, torch.float64), types, 1)

    def energy(moved: torch.Tensor) -> float:
        result = device.chains(types, moved)
        return float(result.network_energy + result.prior_energy)

    forces = device.chains(types, pos).forces[0]
    for bead, component in ((0, 0), (4, 1), (8, 2)):
        step = torch.zeros_like(pos)
        step[0, bead, component] = 1e-4
        slope = (energy(pos + step) - energy(pos - step)) / 2e-4
        assert -slope == pytest.approx(float(forces[bead, component]), rel=1e-6, abs=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    types = sequence(10)
    device = DevicePotential(potential(1, torch.float32), types, 2)
    pos = torch.tensor(chains(2, 10, seed=1), dtype=torch.float32)
    with pytest.raises(ValidationError, match="another chain"):
        device.chains(sequence(10, seed=3), pos)
    with pytest.raises(ValidationError, match="shape"):
        device.chains(types, pos[:1])
    with pytest.raises(ValidationError, match="precision"):
        device.chains(types, pos.double())
    with pytest.raises(ValidationError, match="does not have"):
        DevicePotential(potential(1, torch.float32), torch.tensor([1, 99]), 2)


def test_weights_are_copied() -> None:
    types, chosen = sequence(8), potential(3, torch.float32)
    pos = torch.tensor(chains(2, 8, seed=2), dtype=torch.float32)
    device = DevicePotential(chosen, types, 2)
    before = device.chains(types, pos)
    for weight in chosen.parameters():
        weight.data.zero_()
    for one, other in zip(device.chains(types, pos), before, strict=True):
        assert torch.equal(one, other)


def test_how_products_are_rounded_is_given_back() -> None:
    types = sequence(5)
    pos = torch.tensor(chains(1, 5, seed=1), dtype=torch.float32)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        DevicePotential(potential(1, torch.float32), types, 1).chains(types, pos)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_processor_gets_plain_torch() -> None:
    operations, what = choose_operations(torch.device("cpu"))
    assert (operations, what) == (twin, "plain torch")


class Watch(TorchDispatchMode):
    """Fails at what cannot be recorded: asking for numbers, unknown shapes, other devices."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "equal",
        "scalar_tensor",
    )

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        result = func(*args, **(kwargs or {}))
        tensors = [one for one in torch.utils._pytree.tree_leaves((args, kwargs, result))
                   if isinstance(one, torch.Tensor)]  # fmt: skip
        assert name not in self.FORBIDDEN, name
        assert {one.device.type for one in tensors} <= {"meta"}, name
        indices = args[1] if name in ("index", "index_put_") else ()
        assert not any(one is not None and one.dtype == torch.bool for one in indices), name
        self.calls.append(name)
        return result


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: x + torch.ones(3),
    ],
    ids=["number", "unknown shape", "constant", "other device"],
)
def test_what_cannot_be_recorded_is_seen(work: Callable[[torch.Tensor], object]) -> None:
    with Watch(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        work(torch.empty(3, device="meta"))


@pytest.mark.parametrize("work", ["forces", "step"])
def test_a_step_in_plain_torch_can_be_recorded(work: str) -> None:
    """Every call of the twins is one that a graph can hold."""
    layers, filters, features, beads, replicas = 2, 6, 5, 7, 3

    def new(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    network = DeviceNetwork(
        new(3), new(layers, 23, filters), new(beads, features), new(beads, filters),
        new(layers, filters, features), new(layers, filters), new(layers, features, filters),
        new(layers, features), new(layers, features, features), new(4, features), new(4), new(4),
        new(1),
    )  # fmt: skip
    prior = PriorArrays(
        new(beads), new(beads), new(beads, beads), new(beads, 2), new(beads, 2), new(4)
    )
    chain = DeviceChain(twin, replicas, beads, network, prior)  # type: ignore[arg-type]
    shape = (replicas, beads, 3)
    state = StepArrays(
        new(*shape), new(*shape), new(*shape), new(replicas) > 0, new(64, *shape),
        new(1).long(), new(replicas), new(3),
    )  # fmt: skip
    energies = new(2, replicas)
    with Watch() as watch:
        if work == "step":
            twin.before_forces(state)
        chain.evaluate(state.positions, energies, state.forces)
        if work == "step":
            twin.after_forces(state)
    assert len(watch.calls) > 100
    assert {"addmm", "scatter_", "tanh_backward"} <= set(watch.calls)
