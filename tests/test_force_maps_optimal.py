"""The optimal map: independent solvers, exact toys, and the sample's real forces."""

from pathlib import Path

import mdtraj
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps import (
    ForceMap,
    ForceStatistics,
    bead_atoms,
    constraint_groups,
    fit_optimal,
    hydrogens_map,
    map_report,
    slice_map,
)
from cgbench.units import thermal_energy

FloatArray = NDArray[np.float64]


def constraint_matrix(sites: NDArray[np.int64], groups: NDArray[np.int64]) -> FloatArray:
    """Rows that a consistent map's weights times give 1 or 0: beads first, then pairs."""
    rows = [np.eye(len(groups))[site] for site in sites]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        rows += [np.eye(len(groups))[a] - np.eye(len(groups))[members[0]] for a in members[1:]]
    return np.array(rows)


def by_kkt(gram: FloatArray, constraints: FloatArray, bead: int) -> FloatArray:
    """Least squares under constraints from the bordered system of Lagrange multipliers."""
    n, m = len(gram), len(constraints)
    target = np.zeros(n + m)
    target[n + bead] = 1.0
    system = np.block([[gram, constraints.T], [constraints, np.zeros((m, m))]])
    return np.linalg.lstsq(system, target)[0][:n]


def by_null_space(gram: FloatArray, constraints: FloatArray, bead: int) -> FloatArray:
    """The same: one solution of the constraints, and the best of what they leave free."""
    target = np.zeros(len(constraints))
    target[bead] = 1.0
    particular = np.linalg.lstsq(constraints, target)[0]
    free = scipy.linalg.null_space(constraints)
    if free.shape[1] == 0:
        return particular
    reduced = free.T @ gram @ free
    return particular - free @ np.linalg.solve(reduced, free.T @ gram @ particular)


@given(
    seed=st.integers(0, 10_000),
    n_beads=st.integers(1, 4),
    extra=st.integers(0, 6),
    hydrogens=st.integers(0, 5),
)
def test_two_other_solvers_agree(seed: int, n_beads: int, extra: int, hydrogens: int) -> None:
    generator = np.random.default_rng(seed)
    heavy = n_beads + extra
    groups = np.concatenate([np.arange(heavy), generator.integers(0, heavy, hydrogens)])
    order = generator.permutation(len(groups))
    groups = groups[order]
    sites = np.argsort(order)[:n_beads]
    mixing = generator.normal(size=(len(groups), len(groups)))
    forces = np.einsum("fix,ij->fjx", generator.normal(size=(60, len(groups), 3)), mixing)
    statistics = ForceStatistics.from_forces(forces, 0)
    fitted = fit_optimal(statistics, sites, groups, ridge=0.0)
    constraints = constraint_matrix(sites, groups)
    for bead in range(n_beads):
        for solve in (by_kkt, by_null_space):
            expected = solve(statistics.total(), constraints, bead)
            np.testing.assert_allclose(fitted.weights[bead], expected, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 1000), ridge=st.sampled_from([0.0, 1e-3, 0.1]))
def test_no_other_weights_are_better(seed: int, ridge: float) -> None:
    generator = np.random.default_rng(seed)
    sites, groups = np.array([0, 3]), np.array([0, 0, 1, 2, 3, 3, 4])
    statistics = ForceStatistics.from_forces(generator.normal(size=(50, 7, 3)), 0)
    fitted = fit_optimal(statistics, sites, groups, ridge)
    free = np.isin(groups, groups[sites], invert=True)
    labels = np.unique(groups[free])
    membership = (groups[:, None] == labels).astype(np.float64)
    reduced = membership.T @ statistics.total() @ membership
    penalty = ridge * np.trace(reduced) / len(reduced)

    def objective(weights: FloatArray) -> float:
        of_groups = weights[:, [int(np.flatnonzero(groups == g)[0]) for g in labels]]
        squares = np.einsum("bi,ij,bj->", weights, statistics.total(), weights)
        return float(squares + penalty * (of_groups**2).sum())

    best = objective(fitted.weights)
    for _ in range(5):
        change = generator.normal(size=(2, len(labels))) * 0.05
        assert objective(fitted.weights + change @ membership.T) > best


def test_ridge_and_singular_forces() -> None:
    forces = np.random.default_rng(0).normal(size=(1, 6, 3))
    statistics = ForceStatistics.from_forces(forces, 0)
    sites, groups = np.array([0]), np.arange(6)
    with pytest.raises(ValidationError, match="depend linearly"):
        fit_optimal(ForceStatistics.from_forces(np.zeros((2, 6, 3)), 0), sites, groups)
    fitted = fit_optimal(statistics, sites, groups, ridge=1e-3)
    assert np.isfinite(fitted.weights).all()
    assert np.abs(fit_optimal(statistics, sites, groups, 1e6).weights[:, 1:]).max() < 1e-5
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="ridge"):
            fit_optimal(statistics, sites, groups, wrong)
    with pytest.raises(ValidationError, match="other atoms"):
        fit_optimal(statistics, sites, np.arange(5))


def test_every_atom_a_bead_leaves_nothing_to_fit() -> None:
    statistics = ForceStatistics.from_forces(np.random.default_rng(0).normal(size=(9, 3, 3)), 0)
    fitted = fit_optimal(statistics, np.array([2, 0, 1]), np.arange(3))
    np.testing.assert_array_equal(fitted.weights, np.eye(3)[[2, 0, 1]])


# A harmonic molecule: U = ½ rᵀKr on each axis. Its forces are Gaussian with covariance kT·K, the
# mean force on beads R at fixed R is −(K_RR − K_RX K_XX⁻¹ K_XR) R, and the map with weights
# −K_RX K_XX⁻¹ gives it exactly: without noise.


def stiffness(n_atoms: int, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    matrix = np.diag(generator.uniform(1.0, 3.0, n_atoms))
    for a in range(n_atoms):
        for b in range(a):
            spring = generator.uniform(0.0, 10.0)
            matrix[[a, b], [a, b]] += spring
            matrix[[a, b], [b, a]] -= spring
    return matrix


def exact_statistics(matrix: FloatArray, kt: float) -> ForceStatistics:
    """Statistics whose Gram matrix per component is exactly that of the ensemble, kT·K."""
    return ForceStatistics(np.array([0]), np.array([1000]), 3000 * kt * matrix[None])


def test_a_harmonic_molecule_has_a_map_without_noise() -> None:
    kt, matrix = thermal_energy(350.0), stiffness(7, 3)
    sites, free = np.array([1, 4]), np.array([0, 2, 3, 5, 6])
    fitted = fit_optimal(exact_statistics(matrix, kt), sites, np.arange(7), ridge=0.0)
    exact = -matrix[np.ix_(sites, free)] @ np.linalg.inv(matrix[np.ix_(free, free)])
    np.testing.assert_allclose(fitted.weights[:, free], exact, rtol=1e-9)
    schur = matrix[np.ix_(sites, sites)] + exact @ matrix[np.ix_(free, sites)]
    found = exact_statistics(matrix, kt).mean_square(fitted)
    # The mean square of the mean force itself is kT times its stiffness: nothing is added.
    np.testing.assert_allclose(found, kt * np.diag(schur), rtol=1e-9)
    sampled = np.random.default_rng(1).multivariate_normal(
        np.zeros(7), kt * np.linalg.inv(matrix), size=(200, 3)
    )
    forces = -np.einsum("ij,fxj->fix", matrix, sampled)
    mean_force = -np.einsum("bc,fxc->fbx", schur, sampled[:, :, sites])
    np.testing.assert_allclose(fitted.apply(forces), mean_force, rtol=1e-4, atol=1e-5)


def test_shared_weights_leave_the_noise_that_algebra_predicts() -> None:
    kt, matrix = thermal_energy(350.0), stiffness(6, 5)
    sites, groups = np.array([0]), np.array([0, 1, 1, 2, 2, 2])
    fitted = fit_optimal(exact_statistics(matrix, kt), sites, groups, ridge=0.0)
    membership = (groups[:, None] == np.arange(3)).astype(np.float64)
    reduced = membership.T @ matrix @ membership
    left = reduced[0, 0] - reduced[0, 1:] @ np.linalg.inv(reduced[1:, 1:]) @ reduced[1:, 0]
    schur = 1 / np.linalg.inv(matrix)[0, 0]
    noise = exact_statistics(matrix, kt).mean_square(fitted)[0] - kt * schur
    assert noise == pytest.approx(kt * (left - schur), rel=1e-9)
    assert noise > 0
    for other in (slice_map(sites, np.arange(6)), hydrogens_map(sites, groups)):
        assert exact_statistics(matrix, kt).mean_square(other)[0] > kt * left


# A bead C with an atom H at a fixed distance from it and an atom X on a spring. Everything is
# integrated numerically: the direction of H over the sphere, X over a box.

LENGTH, KT = 1.09, thermal_energy(350.0)


def orientations(n: int = 60) -> tuple[FloatArray, FloatArray]:
    """Directions on the unit sphere with weights that integrate polynomials exactly."""
    cosine, weight = np.polynomial.legendre.leggauss(n)
    angle = 2 * np.pi * np.arange(2 * n) / (2 * n)
    sine = np.sqrt(1 - cosine**2)
    points = np.stack(
        [
            sine[:, None] * np.cos(angle),
            sine[:, None] * np.sin(angle),
            np.broadcast_to(cosine[:, None], (n, 2 * n)),
        ],
        axis=-1,
    )
    return points.reshape(-1, 3), np.repeat(weight, 2 * n) / (4 * n)


def potential_and_forces(
    c: FloatArray, h: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Energy (n,) and forces (n, 3 atoms, 3): H feels a charge-like pull, X three springs."""
    centre = np.array([0.4, -0.7, 0.2])
    pull = h - centre
    far = np.sqrt((pull**2).sum(-1) + 0.5)
    hx, cx = h - x, c - x
    energy = 0.8 * (c**2).sum(-1) - 3.0 / far + 1.5 * (hx**2).sum(-1) + 2.0 * (cx**2).sum(-1)
    energy = energy + 0.5 * (x**2).sum(-1)
    on_h = -3.0 * pull / far[..., None] ** 3 - 3.0 * hx
    on_c = -1.6 * c - 4.0 * cx
    on_x = 3.0 * hx + 4.0 * cx - x
    return energy, np.stack(np.broadcast_arrays(on_c, on_h, on_x), axis=-2)


def conditional(c: FloatArray, directions: int = 60) -> tuple[float, FloatArray, FloatArray]:
    """Free energy at a bead position; weights (n,) and forces (n, 3, 3) of its ensemble.

    X is Gaussian given C and H, so a Gauss-Hermite rule of two points is exact for its mean.
    """
    points, weight = orientations(directions)
    h = c + LENGTH * points
    mean_x = (3.0 * h + 4.0 * c) / 8.0
    width = np.sqrt(KT / 8.0)
    offsets = width * np.array(
        [[s * (k == a) for a in range(3)] for k in range(3) for s in (-1, 1)]
    )
    x = mean_x[:, None, :] + np.sqrt(3.0) * offsets
    energy, forces = potential_and_forces(c, h[:, None, :], x)
    at_mean = potential_and_forces(c, h, mean_x)[0]
    boltzmann = weight * np.exp(-(at_mean - at_mean.min()) / KT)
    free_energy = float(at_mean.min() - KT * np.log(boltzmann.sum()))
    weights = np.repeat(boltzmann / boltzmann.sum() / 6, 6)
    assert np.isfinite(energy).all()
    return free_energy, weights, forces.reshape(-1, 3, 3)


POSITIONS = np.array([[0.1, 0.2, -0.3], [0.9, -0.5, 0.4], [-0.2, -1.3, 0.9]])
TOY_SITES, TOY_GROUPS = np.array([0]), np.array([0, 0, 1])


def toy_mean_force(c: FloatArray) -> FloatArray:
    """Minus the gradient of the free energy, by central differences."""
    step = 1e-4
    shifts = step * np.eye(3)
    return np.array([-(conditional(c + s)[0] - conditional(c - s)[0]) / (2 * step) for s in shifts])


def toy_mean(force_map: ForceMap, c: FloatArray) -> FloatArray:
    _, weights, forces = conditional(c)
    mean: FloatArray = weights @ np.einsum("i,nix->nx", force_map.weights[0], forces)
    return mean


@pytest.mark.parametrize("c", POSITIONS, ids=str)
@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.37, 2.0])
def test_every_consistent_map_is_unbiased(c: FloatArray, weight: float) -> None:
    consistent = ForceMap("any", np.array([[1.0, 1.0, weight]]), TOY_SITES, TOY_GROUPS)
    assert consistent.consistent
    np.testing.assert_allclose(toy_mean(consistent, c), toy_mean_force(c), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("c", POSITIONS, ids=str)
def test_the_slice_with_a_constrained_partner_is_biased(c: FloatArray) -> None:
    biased = slice_map(TOY_SITES, TOY_GROUPS)
    assert not biased.consistent
    assert np.linalg.norm(toy_mean(biased, c) - toy_mean_force(c)) > 0.3


def test_the_optimal_map_of_the_toy_is_unbiased_and_the_quietest() -> None:
    gram = np.zeros((3, 3))
    for c in POSITIONS:
        _, weights, forces = conditional(c)
        gram += np.einsum("n,nix,njx->ij", weights, forces, forces)
    statistics = ForceStatistics(np.array([0]), np.array([len(POSITIONS)]), gram[None])
    fitted = fit_optimal(statistics, TOY_SITES, TOY_GROUPS, ridge=0.0)
    assert 0 < fitted.weights[0, 2] < 1
    for c in POSITIONS:
        np.testing.assert_allclose(toy_mean(fitted, c), toy_mean_force(c), rtol=1e-6, atol=1e-6)
    plain = hydrogens_map(TOY_SITES, TOY_GROUPS)
    assert statistics.mean_square(fitted)[0] < 0.8 * statistics.mean_square(plain)[0]


# Four whole trajectories of CLN025, and what the sample stores of them.


@pytest.fixture(scope="module")
def forces(chignolin_dir: Path) -> list[NDArray[np.float32]]:
    with np.load(chignolin_dir / "all_atom_example.npz") as file:
        return [file[f"forces_{i}"] for i in range(4)]


@pytest.fixture(scope="module")
def places(chignolin_dir: Path, topology: mdtraj.Topology) -> list[slice]:
    """Where the four trajectories are in the sample: found by their first frames."""
    stored = np.load(chignolin_dir / "chignolin_ca_coords.npy")
    with np.load(chignolin_dir / "all_atom_example.npz") as file:
        firsts = [file[f"coords_{i}"][0, bead_atoms(topology)] for i in range(4)]
    found = [np.flatnonzero((stored[::500] == first).all(axis=(1, 2))) for first in firsts]
    assert [len(item) for item in found] == [1, 1, 1, 1]
    return [slice(int(item[0]) * 500, int(item[0]) * 500 + 500) for item in found]


@pytest.fixture(scope="module")
def topology(chignolin_dir: Path) -> mdtraj.Topology:
    return mdtraj.load_topology(str(chignolin_dir / "topology_all_atom.pdb"))


@pytest.fixture(scope="module")
def shipped(chignolin_dir: Path, topology: mdtraj.Topology) -> ForceMap:
    with np.load(chignolin_dir / "force_map_optimal.npz") as file:
        weights = file["atom_weights"]
    return ForceMap("optimal", weights, bead_atoms(topology), constraint_groups(topology))


@pytest.fixture(scope="module")
def statistics(forces: list[NDArray[np.float32]]) -> ForceStatistics:
    parts = [ForceStatistics.from_forces(values, i) for i, values in enumerate(forces)]
    return parts[0] + parts[1] + parts[2] + parts[3]


@pytest.mark.data
def test_the_shipped_weights_are_a_consistent_map(shipped: ForceMap) -> None:
    assert shipped.consistent
    assert (shipped.n_beads, shipped.n_atoms) == (10, 166)
    assert len(np.unique(shipped.groups)) == 93


@pytest.mark.parametrize("name", ["slice", "hydrogens", "optimal"])
@pytest.mark.data
def test_the_stored_forces_come_out(
    name: str,
    chignolin_dir: Path,
    shipped: ForceMap,
    forces: list[NDArray[np.float32]],
    places: list[slice],
) -> None:
    maps = {
        "slice": slice_map(shipped.sites, shipped.groups),
        "hydrogens": hydrogens_map(shipped.sites, shipped.groups),
        "optimal": shipped,
    }
    suffix = "" if name == "slice" else f"_{name}"
    stored = np.load(chignolin_dir / f"chignolin_ca_forces{suffix}.npy")
    for values, place in zip(forces, places, strict=True):
        np.testing.assert_allclose(maps[name].apply(values), stored[place], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("held_out", range(4))
@pytest.mark.data
def test_a_fit_on_three_trajectories_is_nearly_as_good(
    held_out: int, shipped: ForceMap, statistics: ForceStatistics
) -> None:
    training = [i for i in range(4) if i != held_out]
    fitted = fit_optimal(statistics.select(training), shipped.sites, shipped.groups)
    report = map_report(
        [slice_map(shipped.sites, shipped.groups), fitted, shipped],
        statistics, training, [held_out],
    )  # fmt: skip
    plain, own, theirs = (item.held_out for item in report.maps)
    # The shipped map has seen all four, and 101 trajectories more.
    assert theirs < own < 1.05 * theirs
    assert own < 0.25 * plain
    assert report.maps[1].training < own
    assert np.abs(fitted.weights - shipped.weights).max() < 0.1
