"""Compiled loops against the tensor expressions that are their twins."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toy_networks import SMALL, small_network

from cgbench.errors import UsageError, ValidationError
from cgbench.kernels.activation import add_bias_tanh, rational
from cgbench.kernels.spline import spline_coefficients, spline_values
from cgbench.models import FusedPotential, GraphNetworkSettings, NetworkPotential, PotentialSpec
from cgbench.priors import BondTerm, DihedralSet, DihedralTerm, Prior, PriorParameters
from cgbench.simulation import choose_engine
from cgbench.testing.strategies import random_chains

Floats = NDArray[np.float64]

KINDS = range(1, 21)
SPEC = PotentialSpec(name="small", cutoff=SMALL.cutoff_upper)
#: Largest relative difference of energies and forces, by precision.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def full_prior() -> PriorParameters:
    """A prior for every chain, with dihedrals of several multiplicities."""
    return PriorParameters(
        bonds={f"{i}-{j}": BondTerm(k=60.0 + i, r0=3.8) for i in KINDS for j in KINDS},
        repulsion={kind: 90.0 + kind for kind in KINDS},
        dihedrals=(
            DihedralSet(
                types=None,
                terms=(
                    DihedralTerm(n=1, k=0.7, gamma=30.0),
                    DihedralTerm(n=3, k=0.2, gamma=-80.0),
                ),
            ),
        ),
        temperature=350.0,
        source="made up",
    )


def potential(
    seed: int, dtype: torch.dtype, *, network: bool = True, prior: bool = True
) -> NetworkPotential:
    return NetworkPotential(
        small_network(seed, dtype=dtype) if network else None,
        full_prior() if prior else None,
        SPEC,
    )


def sequence(n_beads: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 21, n_beads))


def chains(n_replicas: int, n_beads: int, seed: int) -> Floats:
    """Random chains of any length, (n_replicas, n_beads, 3) in Å."""
    return random_chains(n_replicas, max(n_beads, 4), seed)[:, :n_beads]


def assert_same(
    chosen: NetworkPotential, types: torch.Tensor, pos: torch.Tensor, n_threads: int = 1
) -> None:
    """Compare the loops with the tensors, evaluated in double precision.

    Where large forces cancel, the rounding of the positions' precision is allowed: as much as the
    tensors themselves lose to it.
    """
    found = FusedPotential(chosen, types, n_threads, pos.dtype).chains(types, pos)
    rounded = exact(chosen, types, pos, pos.dtype)
    for name, one, other, twin in zip(
        found._fields, found, exact(chosen, types, pos, torch.float64), rounded, strict=True
    ):
        assert one.dtype == pos.dtype
        allowed = TOLERANCE[pos.dtype] * other.norm().clamp_min(1e-3)
        assert (one.double() - other).norm() <= allowed + 2 * (twin - other).norm(), name


def exact(
    chosen: NetworkPotential, types: torch.Tensor, pos: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies and forces from the twins' tensors in a precision, as float64.

    Forces of the prior are the derivative of its energy, which sums over pairs: the matrix product
    of its own forces loses digits where beads coincide.
    """
    twin = (
        NetworkPotential(deepcopy(chosen.network), None, SPEC, tabulate=False)
        if (chosen.network is not None)
        else None
    )
    pos = pos.to(dtype)
    network, prior, forces = torch.zeros(len(pos)), torch.zeros(len(pos)), torch.zeros_like(pos)
    if twin is not None:
        network, _, forces = twin.to(dtype).chains(types, pos)
    if chosen.prior is not None:
        moved = pos.clone().requires_grad_()
        prior = Prior(chosen.prior, types).energy(moved)
        (gradient,) = torch.autograd.grad(prior.sum(), moved)
        forces = forces - gradient
    return network.double(), prior.detach().double(), forces.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n_beads", [1, 2, 3, 4, 5, 10, 16, 17, 35, 80, 96])
def test_energies_and_forces_are_those_of_the_twin(n_beads: int, dtype: torch.dtype) -> None:
    pos = torch.tensor(chains(5, n_beads, seed=n_beads), dtype=dtype)
    assert_same(potential(n_beads, dtype), sequence(n_beads), pos)


@pytest.mark.slow
@pytest.mark.parametrize("n_beads", range(1, 97))
def test_every_number_of_beads(n_beads: int) -> None:
    for dtype in TOLERANCE:
        pos = torch.tensor(chains(3, n_beads, seed=n_beads), dtype=dtype)
        assert_same(potential(n_beads, dtype), sequence(n_beads), pos)


@pytest.mark.parametrize(("network", "prior"), [(True, False), (False, True)])
def test_a_network_or_a_prior_alone(network: bool, prior: bool) -> None:
    pos = torch.tensor(chains(4, 12, seed=1), dtype=torch.float32)
    chosen = potential(1, torch.float32, network=network, prior=prior)
    assert_same(chosen, sequence(12), pos)


def test_the_reference_architecture_at_full_size() -> None:
    network = small_network(3, GraphNetworkSettings(), torch.float32)
    pos = torch.tensor(chains(9, 56, seed=2), dtype=torch.float32)
    assert_same(NetworkPotential(network, full_prior(), SPEC), sequence(56), pos)


@given(
    seed=st.integers(0, 2**16),
    n_beads=st.integers(2, 24),
    n_replicas=st.integers(1, 7),
    scale=st.floats(0.6, 1.6),
    n_threads=st.integers(1, 3),
)
@settings(max_examples=15, deadline=None)
def test_any_network_chain_and_division(
    seed: int, n_beads: int, n_replicas: int, scale: float, n_threads: int
) -> None:
    """Squeezed and stretched chains: no pair inside the cutoffs, or nearly all."""
    pos = torch.tensor(scale * chains(n_replicas, n_beads, seed=seed), dtype=torch.float64)
    assert_same(potential(seed, torch.float64), sequence(n_beads, seed), pos, n_threads)


def pathological() -> dict[str, torch.Tensor]:
    straight = torch.zeros(1, 8, 3, dtype=torch.float64)
    straight[0, :, 0] = 3.8 * torch.arange(8)
    folded_back = straight.clone()
    folded_back[0, 4:, 0] = 3.8 * torch.tensor([2.0, 1.0, 0.0, -1.0])
    at_cutoffs = straight.clone()
    at_cutoffs[0, :, 0] = torch.tensor([0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 24.0, 27.0])
    return {
        "straight": straight,
        "folded back onto itself": folded_back,
        "exactly at the cutoffs": at_cutoffs,
        "all beads at one place": torch.zeros(1, 8, 3, dtype=torch.float64),
        "far away": straight + 1e4,
    }


@pytest.mark.parametrize("case", list(pathological()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pathological_geometries(case: str, dtype: torch.dtype) -> None:
    assert_same(potential(5, dtype), sequence(8), pathological()[case].to(dtype))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_replica_is_broken_alone(bad: float) -> None:
    types, chosen = sequence(10), potential(6, torch.float32)
    pos = torch.tensor(chains(6, 10, seed=4), dtype=torch.float32)
    fused = FusedPotential(chosen, types)
    whole = fused.chains(types, pos)
    pos[2, 4, 1] = bad
    broken = fused.chains(types, pos)
    others = [0, 1, 3, 4, 5]
    for before, after in zip(whole, broken, strict=True):
        assert after[2].isnan().all()
        torch.testing.assert_close(after[others], before[others])


def test_threads_change_nothing_but_rounding_and_repeat_themselves() -> None:
    types, chosen = sequence(30), potential(7, torch.float32)
    pos = torch.tensor(chains(33, 30, seed=5), dtype=torch.float32)
    for n_threads in (1, 2, 5):
        fused = FusedPotential(chosen, types, n_threads)
        first, second = fused.chains(types, pos), fused.chains(types, pos)
        assert torch.equal(first.forces, second.forces)
        alone = FusedPotential(chosen, types).chains(types, pos)
        torch.testing.assert_close(first.forces, alone.forces, rtol=1e-5, atol=1e-4)


def test_other_numbers_of_replicas_follow_one_another() -> None:
    types, chosen = sequence(12), potential(8, torch.float64)
    fused = FusedPotential(chosen, types, 2)
    pos = torch.tensor(chains(40, 12, seed=6), dtype=torch.float64)
    whole = fused.chains(types, pos)
    for n in (1, 3, 40, 2, 0):
        part = fused.chains(types, pos[:n])
        torch.testing.assert_close(part.forces, whole.forces[:n])
        torch.testing.assert_close(part.network_energy, whole.network_energy[:n])


def test_forces_are_the_gradient_of_the_tabulated_energy() -> None:
    """Coarse tables would show it: the gradient is that of the spline, not of the filter."""
    types, chosen = sequence(9), potential(9, torch.float64)
    pos = torch.tensor(chains(1, 9, seed=7), dtype=torch.float64)
    fused = FusedPotential(chosen, types)

    def energy(moved: torch.Tensor) -> float:
        result = fused.chains(types, moved)
        return float(result.network_energy + result.prior_energy)

    forces = fused.chains(types, pos).forces[0]
    for bead, component in ((0, 0), (4, 1), (8, 2)):
        step = torch.zeros_like(pos)
        step[0, bead, component] = 1e-4
        slope = (energy(pos + step) - energy(pos - step)) / 2e-4
        assert -slope == pytest.approx(float(forces[bead, component]), rel=1e-6, abs=1e-6)


def test_the_error_of_the_table_is_what_it_says() -> None:
    fused = FusedPotential(potential(10, torch.float32), sequence(10))
    assert fused.table_intervals in (512, 1024, 2048, 4096)
    assert fused.table_error is not None
    assert 0 < fused.table_error < 5e-6
    alone = FusedPotential(potential(1, torch.float32, network=False), sequence(5))
    assert alone.table_error is None


def test_filters_too_fast_for_a_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cgbench.models.fused._INTERVALS", (4, 8))
    with pytest.raises(ValidationError, match="too fast for a table"):
        FusedPotential(potential(1, torch.float32), sequence(5))
    engine = choose_engine(potential(1, torch.float32), sequence(5), torch.float32)
    assert engine.name == "torch"
    assert "too fast" in engine.reason


def test_what_does_not_fit_is_refused() -> None:
    types = sequence(10)
    fused = FusedPotential(potential(1, torch.float32), types)
    pos = torch.tensor(chains(2, 10, seed=1), dtype=torch.float32)
    with pytest.raises(ValidationError, match="another chain"):
        fused.chains(sequence(10, seed=3), pos)
    with pytest.raises(ValidationError, match="wrong shape"):
        fused.chains(types, pos[0])
    with pytest.raises(ValidationError, match="precision"):
        fused.chains(types, pos.double())
    with pytest.raises(ValidationError, match="does not have"):
        FusedPotential(potential(1, torch.float32), torch.tensor([1, 99]))


def test_engine_says_what_it_took_and_why() -> None:
    types = sequence(6)
    single, double = potential(1, torch.float32), potential(1, torch.float64)
    assert choose_engine(single, types, torch.float32).name == "fused"
    assert choose_engine(single, types, torch.float32, "torch").reason == "asked for"
    exact = choose_engine(double, types, torch.float64)
    assert (exact.name, exact.reason) == ("torch", "double precision evaluates filters exactly")
    assert choose_engine(double, types, torch.float64, "fused").name == "fused"

    class Foreign:
        def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> None:
            raise AssertionError("never called")

    found = choose_engine(Foreign(), types, torch.float32)  # type: ignore[arg-type]
    assert found.name == "torch"
    assert "Foreign" in found.reason
    with pytest.raises(UsageError, match="Foreign"):
        choose_engine(Foreign(), types, torch.float32, "fused")  # type: ignore[arg-type]


def relative_error(values: Sequence[float]) -> float:
    x = np.array(values, np.float32)
    rows = x[None].copy()
    add_bias_tanh(rows, np.zeros_like(x), rational(np.float32))
    exact = np.tanh(x.astype(np.float64))
    scale = np.maximum(np.abs(exact), 1e-30)
    return float((np.abs(rows[0] - exact) / scale).max())


def test_hyperbolic_tangent_in_single_precision() -> None:
    grid = np.concatenate([np.linspace(-12, 12, 200_001), np.logspace(-30, 0, 2000)])
    assert relative_error(grid.tolist()) < 4e-7
    special = np.array([[np.nan, np.inf, -np.inf, 1e30, 0.0]], np.float32)
    add_bias_tanh(special, np.zeros(5, np.float32), rational(np.float32))
    assert np.isnan(special[0, 0])
    np.testing.assert_allclose(special[0, 1:], [1.0, -1.0, 1.0, 0.0], rtol=4e-7)
    assert rational(np.float64) is None


@pytest.mark.parametrize("n_intervals", [3, 4, 17, 64])
def test_splines_are_exact_for_cubics(n_intervals: int) -> None:
    knots = np.linspace(0.0, 2.0, n_intervals + 1)
    spacing = knots[1]
    curves = [np.polynomial.Polynomial(c) for c in ([1, -2, 0.5, 3], [0, 1, 0, -0.25])]
    values = np.stack([curve(knots) for curve in curves], axis=1)
    slopes = np.stack([curve.deriv()(knots) for curve in curves], axis=1) * spacing
    table = spline_coefficients(values, slopes[0], slopes[-1])
    assert table.shape == (n_intervals + 3, 2)
    x = np.linspace(0.0, 2.0, 101)
    value, slope = spline_values(table, x / spacing)
    np.testing.assert_allclose(value, np.stack([c(x) for c in curves], axis=1), atol=1e-12)
    expected = np.stack([c.deriv()(x) for c in curves], axis=1)
    np.testing.assert_allclose(slope / spacing, expected, atol=1e-10)
