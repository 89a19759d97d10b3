"""Energies and forces of priors against a slow double loop, and where formulas have no value."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toy_priors import TYPES, case, random_chains, random_parameters

from cgbench.errors import ValidationError
from cgbench.priors import (
    BondTerm,
    DihedralSet,
    DihedralTerm,
    Prior,
    PriorParameters,
    prior_energy_forces,
)
from cgbench.priors.terms import CLASH_DISTANCE


def slow_energies(
    parameters: PriorParameters, types: list[int], chain: NDArray[np.float64]
) -> dict[str, float]:
    """The three terms of one chain, bead by bead, with angles from projected vectors."""
    bonds = repulsion = dihedrals = 0.0
    n = len(types)
    for i in range(n):
        for j in range(i + 1, n):
            distance = math.dist(chain[i], chain[j])
            if j == i + 1:
                term = parameters.bonds[f"{types[i]}-{types[j]}"]
                bonds += term.k * (distance - term.r0) ** 2
            else:
                product = parameters.repulsion[types[i]] * parameters.repulsion[types[j]]
                repulsion += 4 * math.sqrt(product) / distance**6
    sets = {item.types: item.terms for item in parameters.dihedrals}
    for i in range(n - 3):
        axis = chain[i + 2] - chain[i + 1]
        axis = axis / np.linalg.norm(axis)
        front = chain[i] - chain[i + 1]
        back = chain[i + 3] - chain[i + 2]
        front, back = (vector - (vector @ axis) * axis for vector in (front, back))
        # Seen along the middle bond, clockwise from the first to the last bead is positive.
        angle = math.atan2(np.cross(front, back) @ axis, front @ back)
        for term_ in sets.get((types[i], types[i + 1], types[i + 2], types[i + 3]), sets[None]):
            dihedrals += term_.k * (1 + math.cos(term_.n * angle - math.radians(term_.gamma)))
    return {"bonds": bonds, "repulsion": repulsion, "dihedrals": dihedrals}


def slow_forces(
    parameters: PriorParameters, types: list[int], chain: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Forces by central differences of fourth order."""
    forces = np.zeros_like(chain)
    step = 1e-3
    for index in np.ndindex(chain.shape):
        values = {}
        for shift in (-2, -1, 1, 2):
            moved = chain.copy()
            moved[index] += shift * step
            values[shift] = sum(slow_energies(parameters, types, moved).values())
        slope = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
        forces[index] = -slope
    return forces


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n_beads=st.integers(1, 8))
def test_energies_and_forces_equal_a_double_loop(seed: int, n_beads: int) -> None:
    prior, pos = case(seed, 2, n_beads)
    by_term = prior.energies_by_term(pos)
    energy, forces = prior.energy_forces(pos)
    for replica, chain in enumerate(pos.numpy()):
        expected = slow_energies(prior.prior_parameters, list(prior.bead_types), chain)
        for name, value in expected.items():
            assert by_term[name][replica].item() == pytest.approx(value, rel=1e-10, abs=1e-10)
        assert energy[replica].item() == pytest.approx(sum(expected.values()), rel=1e-10)
        slow = slow_forces(prior.prior_parameters, list(prior.bead_types), chain)
        assert forces[replica].numpy() == pytest.approx(
            slow, rel=1e-6, abs=1e-7 * max(1, abs(slow).max())
        )


def test_a_set_for_given_types_goes_before_the_one_for_all() -> None:
    parameters = random_parameters(3)
    chain = random_chains(3, 1, 4)
    for types in ([1, 4, 8, 1], [1, 8, 4, 1]):
        found = Prior(parameters, types).energies_by_term(torch.tensor(chain))["dihedrals"].item()
        assert found == pytest.approx(slow_energies(parameters, types, chain[0])["dihedrals"])
    assert parameters.dihedral([1, 4, 8, 1]) != parameters.dihedral([1, 8, 4, 1])


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n_beads=st.integers(2, 12))
def test_automatic_differentiation_gives_the_analytic_forces(seed: int, n_beads: int) -> None:
    prior, pos = case(seed, 3, n_beads)
    energy, forces = prior.energy_forces(pos)
    tracked = pos.clone().requires_grad_()
    differentiated = prior.energy(tracked)
    (gradient,) = torch.autograd.grad(differentiated.sum(), tracked)
    scale = forces.abs().max().item()
    torch.testing.assert_close(energy, differentiated.detach(), rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(forces, -gradient, rtol=1e-9, atol=1e-10 * max(1.0, scale))


def test_forces_can_be_differentiated_again_where_positions_require_gradients() -> None:
    prior, pos = case(5, 1, 6)
    tracked = pos.clone().requires_grad_()
    _, forces = prior.energy_forces(tracked)
    (curvature,) = torch.autograd.grad(forces[0, 2, 1], tracked)
    step = 1e-5
    for bead, axis in ((0, 0), (2, 1), (5, 2)):
        values = []
        for sign in (1, -1):
            moved = pos.clone()
            moved[0, bead, axis] += sign * step
            values.append(prior.energy_forces(moved)[1][0, 2, 1].item())
        slope = (values[0] - values[1]) / (2 * step)
        assert curvature[0, bead, axis].item() == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_dihedral_sign_and_phase_by_hand() -> None:
    """Beads at a dihedral of +60° (IUPAC: the far bond is clockwise) and a phase of 60°."""
    angle = math.radians(60)
    # Looking along +z from bead 1 to bead 2, clockwise goes from x to y.
    chain = [[1, 0, 0], [0, 0, 0], [0, 0, 4], [math.cos(angle), math.sin(angle), 4]]
    terms = (DihedralTerm(n=1, k=0.7, gamma=60.0),)
    parameters = PriorParameters(
        bonds={}, repulsion={}, dihedrals=(DihedralSet(types=None, terms=terms),)
    )
    prior = Prior(parameters, [1, 1, 1, 1])
    pos = torch.tensor([chain], dtype=torch.float64)
    mirrored = pos * torch.tensor([1.0, -1.0, 1.0])
    assert prior.energy(pos).item() == pytest.approx(1.4)
    assert prior.energy(mirrored).item() == pytest.approx(0.7 * (1 + math.cos(2 * angle)))


def test_repulsion_starts_at_the_second_neighbour() -> None:
    parameters = PriorParameters(bonds={}, repulsion={1: 1000.0, 4: 2000.0})
    straight = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [5, 0, 0]]], dtype=torch.float64)
    assert Prior(parameters, [1, 4]).energy(straight[:, :2]).item() == 0.0
    expected = 4 * math.sqrt(1000.0 * 2000.0) / 5**6
    assert Prior(parameters, [1, 1, 4]).energy(straight).item() == pytest.approx(expected)


def test_bonds_depend_on_the_direction_of_the_chain() -> None:
    parameters = random_parameters(7)
    pos = torch.tensor([[[0.0, 0, 0], [4.2, 0, 0]]], dtype=torch.float64)
    forwards, backwards = (Prior(parameters, types).energy(pos) for types in ([1, 4], [4, 1]))
    assert forwards.item() == pytest.approx(
        parameters.bonds["1-4"].k * (4.2 - parameters.bonds["1-4"].r0) ** 2
    )
    assert forwards.item() != pytest.approx(backwards.item())


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_replicas_do_not_see_each_other(seed: int) -> None:
    prior, pos = case(seed, 5, 7)
    energy, forces = prior.energy_forces(pos)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    permuted_energy, permuted_forces = prior.energy_forces(pos[order])
    torch.testing.assert_close(permuted_energy, energy[order], rtol=1e-13, atol=0)
    torch.testing.assert_close(permuted_forces, forces[order], rtol=1e-12, atol=1e-9)
    alone, alone_forces = prior.energy_forces(pos[2:3])
    torch.testing.assert_close(alone, energy[2:3], rtol=1e-13, atol=0)
    torch.testing.assert_close(alone_forces, forces[2:3], rtol=1e-12, atol=1e-9)


def test_large_batches_are_evaluated_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, pos = case(11, 7, 9)
    whole = prior.energy_forces(pos)
    terms = prior.energies_by_term(pos)
    monkeypatch.setattr("cgbench.priors.evaluate._BLOCK_ELEMENTS", 2 * 81)
    assert len(prior._blocks(pos)) == 4
    for one, other in zip(whole, prior.energy_forces(pos), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-9)
    for name, value in prior.energies_by_term(pos).items():
        torch.testing.assert_close(terms[name], value, rtol=1e-12, atol=1e-10)


def test_moving_and_turning_changes_nothing() -> None:
    prior, pos = case(13, 4, 8)
    energy, forces = prior.energy_forces(pos)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    rotation = torch.tensor(turn * np.sign(np.linalg.det(turn)))
    moved = pos @ rotation.T + torch.tensor([5.0, -8.0, 20.0])
    moved_energy, moved_forces = prior.energy_forces(moved)
    torch.testing.assert_close(moved_energy, energy, rtol=1e-10, atol=0)
    torch.testing.assert_close(moved_forces, forces @ rotation.T, rtol=1e-8, atol=1e-7)
    assert forces.sum(1).abs().max() < 1e-9 * forces.abs().max()


def test_single_precision_far_from_the_origin() -> None:
    prior, pos = case(17, 4, 40)
    shifted = (pos + 512.0).float()
    energy, forces = prior.energy_forces(shifted)
    exact_energy, exact_forces = prior.energy_forces(shifted.double())
    assert energy.dtype == forces.dtype == torch.float32
    assert (energy / exact_energy - 1).abs().max() < 1e-5
    assert (forces - exact_forces).norm() / exact_forces.norm() < 1e-5


def test_a_module_that_was_in_single_precision_keeps_its_parameters() -> None:
    prior, pos = case(19, 2, 6)
    before = prior.energy(pos)
    assert torch.equal(prior.float().double().energy(pos), before)


def test_coincident_and_clashing_beads_are_finite_and_consistent() -> None:
    prior, _ = case(23, 1, 3)
    on_top = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [0, 0, 0]]], dtype=torch.float32)
    energy, forces = prior.energy_forces(on_top)
    assert torch.isfinite(energy).all()
    assert torch.isfinite(forces).all()
    # Energy and force are continuous at the clash distance, and the force is the slope inside.
    for distance in (0.3, 0.7, 0.999999, 1.000001):
        x = distance * CLASH_DISTANCE
        pos = torch.tensor([[[0.0, 0, 0], [2, 2, 0], [x, 0, 0]]], dtype=torch.float64)
        tracked = pos.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(prior.energy(tracked).sum(), tracked)
        torch.testing.assert_close(prior.energy_forces(pos)[1], -gradient, rtol=1e-10, atol=1e-3)
    edge = torch.tensor([0.99999999, 1.00000001]).double() * CLASH_DISTANCE
    pair = torch.zeros(2, 3, 3, dtype=torch.float64)
    pair[:, 1, 1] = 3.0
    pair[:, 2, 0] = edge
    energy, forces = prior.energy_forces(pair)
    assert (energy[0] / energy[1] - 1).abs() < 1e-6
    assert (forces[0, 2, 0] / forces[1, 2, 0] - 1).abs() < 1e-6


def test_bonded_beads_on_top_of_each_other_have_no_direction() -> None:
    parameters = PriorParameters(bonds={"1-1": BondTerm(k=10.0, r0=4.0)}, repulsion={})
    pos = torch.zeros(1, 2, 3)
    energy, forces = Prior(parameters, [1, 1]).energy_forces(pos)
    assert energy.item() == pytest.approx(160.0, rel=1e-5)
    assert torch.equal(forces, torch.zeros_like(forces))
    assert torch.isfinite(Prior(parameters, [1, 1]).energy_forces(pos.requires_grad_())[1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bend", [0.0, 1e-12, 1e-6, 1e-3])
def test_collinear_dihedrals_are_finite(dtype: torch.dtype, bend: float) -> None:
    prior = Prior(random_parameters(29), [1] * 6)
    pos = torch.zeros(1, 6, 3, dtype=dtype)
    pos[0, :, 0] = 3.8 * torch.arange(6)
    pos[0, 2, 1] = bend
    energy, forces = prior.energy_forces(pos)
    assert torch.isfinite(energy).all()
    assert torch.isfinite(forces).all()
    assert forces.abs().max() < 1e6
    if bend == 0.0:
        terms = prior.prior_parameters.dihedral([1] * 4)
        constant = 3 * sum(term.k for term in terms)
        assert prior.energies_by_term(pos)["dihedrals"].item() == pytest.approx(constant, rel=1e-5)


def test_stretched_chains_are_finite() -> None:
    prior, pos = case(31, 2, 6)
    for factor in (1e2, 1e4):
        energy, forces = prior.energy_forces((pos * factor).float())
        assert torch.isfinite(energy).all()
        assert torch.isfinite(forces).all()


def test_a_broken_replica_is_broken_alone() -> None:
    prior, pos = case(37, 3, 6)
    broken = pos.clone()
    broken[1, 4, 0] = float("nan")
    energy, forces = prior.energy_forces(broken)
    exact_energy, exact_forces = prior.energy_forces(pos)
    assert not torch.isfinite(energy[1])
    assert not torch.isfinite(forces[1]).all()
    torch.testing.assert_close(energy[[0, 2]], exact_energy[[0, 2]], rtol=1e-13, atol=0)
    torch.testing.assert_close(forces[[0, 2]], exact_forces[[0, 2]], rtol=1e-12, atol=1e-9)


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_flat_batches_of_any_sizes(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    parameters = random_parameters(seed)
    chains = [random_chains(seed + index, 1, n)[0] for index, n in enumerate(lengths)]
    types = [generator.choice(TYPES, n).tolist() for n in lengths]
    numbers = generator.permutation(len(lengths))
    batch = np.concatenate([np.full(n, k) for n, k in zip(lengths, numbers, strict=True)])
    energy, forces = prior_energy_forces(
        parameters,
        torch.tensor(np.concatenate(types)),
        torch.tensor(np.concatenate(chains)),
        torch.tensor(batch),
    )
    start = 0
    for chain, one, number in zip(chains, types, numbers, strict=True):
        expected, expected_forces = Prior(parameters, one).energy_forces(torch.tensor(chain[None]))
        assert energy[number].item() == pytest.approx(expected.item(), rel=1e-12)
        found = forces[start : start + len(one)]
        torch.testing.assert_close(found, expected_forces[0], rtol=1e-12, atol=1e-8)
        start += len(one)


def test_flat_batches_of_interleaved_and_equal_systems() -> None:
    prior, pos = case(41, 3, 5)
    types = torch.tensor(prior.bead_types)
    energy, forces = prior.energy_forces(pos)
    flat = prior_energy_forces(
        prior.prior_parameters,
        types.repeat_interleave(3),
        pos.transpose(0, 1).reshape(-1, 3),
        torch.arange(3).repeat(5),
    )
    torch.testing.assert_close(flat[0], energy, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        flat[1], forces.transpose(0, 1).reshape(-1, 3), rtol=1e-12, atol=1e-9
    )


def test_flat_batches_that_disagree_or_are_empty() -> None:
    parameters = random_parameters(43)
    long = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValidationError, match="different lengths"):
        prior_energy_forces(parameters, long, torch.zeros(3, 3), long)
    none = torch.zeros(0, dtype=torch.long)
    energy, forces = prior_energy_forces(parameters, none, torch.zeros(0, 3), none)
    assert energy.shape == (0,)
    assert forces.shape == (0, 3)
