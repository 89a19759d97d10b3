"""Boltzmann inversion: known parameters come back, and the sample's prior is a sound base."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.priors import (
    DihedralSet,
    DihedralTerm,
    Prior,
    PriorFitSettings,
    PriorParameters,
    fit_priors,
    plot_priors,
)
from cgbench.priors.histograms import dihedral_angles
from cgbench.priors.plot import dihedral_curve
from cgbench.units import KCAL_PER_MOL, thermal_energy

Floats = NDArray[np.float64]
TEMPERATURE = 350.0
ENERGY = thermal_energy(TEMPERATURE)


def sample_density(
    density: Any, low: float, high: float, size: int, generator: np.random.Generator
) -> Floats:
    """Draw from a density on an interval by inverting its cumulative sum on a fine grid."""
    edges = np.linspace(low, high, 200_001)
    centres = 0.5 * (edges[1:] + edges[:-1])
    cumulative = np.concatenate([[0.0], np.cumsum(density(centres))])
    return np.interp(generator.uniform(0, cumulative[-1], size), cumulative, edges)


def sample_bond(k: float, r0: float, size: int, generator: np.random.Generator) -> Floats:
    return sample_density(
        lambda r: r**2 * np.exp(-k * (r - r0) ** 2 / ENERGY), 2.5, 5.0, size, generator
    )


def build_chains(lengths: Floats, angles: Floats, dihedrals: Floats) -> Floats:
    """Place beads from bond lengths (n, b−1), bond angles (n, b−2) and dihedrals (n, b−3)."""
    n, n_bonds = lengths.shape
    chains = np.zeros((n, n_bonds + 1, 3))
    chains[:, 1, 0] = lengths[:, 0]
    chains[:, 2] = chains[:, 1] + lengths[:, 1:2] * np.stack(
        [-np.cos(angles[:, 0]), np.sin(angles[:, 0]), np.zeros(n)], axis=1
    )
    for bead in range(3, n_bonds + 1):
        before, axis = (chains[:, bead - s] - chains[:, bead - s - 1] for s in (2, 1))
        axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
        normal = np.cross(before, axis)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        bend, turn = angles[:, bead - 2], dihedrals[:, bead - 3]
        step = (
            -np.cos(bend)[:, None] * axis
            + (np.sin(bend) * np.cos(turn))[:, None] * np.cross(normal, axis)
            + (np.sin(bend) * np.sin(turn))[:, None] * normal
        )
        chains[:, bead] = chains[:, bead - 1] + lengths[:, bead - 1 : bead] * step
    return chains


def bonded_chains(size: int, seed: int, terms: tuple[DihedralTerm, ...]) -> Floats:
    """Chains of types 1, 4, 4, 8: bonds 1-4, 4-4 and 4-8, dihedrals from the given terms."""
    generator = np.random.default_rng(seed)
    lengths = np.column_stack(
        [sample_bond(k, r0, size, generator) for k, r0 in ((60, 3.8), (100, 3.85), (20, 3.7))]
    )
    angles = generator.uniform(1.6, 2.4, (size, 2))
    turns = sample_density(
        lambda x: np.exp(-dihedral_curve(terms, x) / ENERGY), -math.pi, math.pi, size, generator
    )
    return build_chains(lengths, angles, turns[:, None])


TERMS = (DihedralTerm(n=1, k=0.4, gamma=50.0), DihedralTerm(n=2, k=0.6, gamma=-110.0))
BONDED = PriorFitSettings(terms=("bonds", "dihedrals"))


def test_bonds_and_dihedrals_come_back_from_their_boltzmann_distribution() -> None:
    chains = bonded_chains(200_000, 1, TERMS)
    prior = fit_priors(chains, np.ones(len(chains)), np.array([1, 4, 4, 8]), TEMPERATURE, BONDED)
    assert set(prior.bonds) == {"1-4", "4-4", "4-8"}
    assert prior.repulsion == {}
    for key, k, r0 in (("1-4", 60, 3.8), ("4-4", 100, 3.85), ("4-8", 20, 3.7)):
        assert prior.bonds[key].k == pytest.approx(k, rel=0.015)
        # The maximum of the distribution itself is displaced by kT / (k r0): 0.0095 Å for k = 20.
        assert prior.bonds[key].r0 == pytest.approx(r0, abs=15e-4 if k == 20 else 6e-4)
    (fitted,) = prior.dihedrals
    assert fitted.types is None
    for found, expected in zip(fitted.terms, TERMS, strict=True):
        assert found.n == expected.n
        assert found.k == pytest.approx(expected.k / 2, rel=0.03)
        assert found.gamma == pytest.approx(expected.gamma, abs=2.0)


def test_the_dihedral_scale_is_a_setting() -> None:
    chains = bonded_chains(20_000, 2, TERMS)
    amplitudes = []
    for scale in (1.0, 0.5):
        settings = PriorFitSettings(terms=("dihedrals",), dihedral_scale=scale)
        prior = fit_priors(
            chains, np.ones(len(chains)), np.array([1, 4, 4, 8]), TEMPERATURE, settings
        )
        amplitudes.append([term.k for term in prior.dihedrals[0].terms])
    assert amplitudes[0] == pytest.approx([2 * k for k in amplitudes[1]])


def test_cis_peptides_do_not_soften_a_bond() -> None:
    generator = np.random.default_rng(3)
    lengths = sample_bond(90, 3.8, 30_000, generator)
    lengths[::25] = generator.normal(2.95, 0.06, len(lengths[::25]))
    chains = np.zeros((len(lengths), 2, 3))
    chains[:, 1, 2] = lengths
    prior = fit_priors(
        chains,
        np.ones(len(chains)),
        np.array([5, 8]),
        TEMPERATURE,
        PriorFitSettings(terms=("bonds",)),
    )
    assert prior.bonds["5-8"].k == pytest.approx(90, rel=0.03)
    assert prior.bonds["5-8"].r0 == pytest.approx(3.8, abs=0.002)


def test_bonds_of_the_same_types_share_their_samples() -> None:
    generator = np.random.default_rng(4)
    chains = np.zeros((20_000, 3, 3))
    chains[:, 1, 0] = sample_bond(80, 3.8, 20_000, generator)
    chains[:, 2, 0] = chains[:, 1, 0] + sample_bond(80, 3.9, 20_000, generator)
    settings = PriorFitSettings(terms=("bonds",))
    prior = fit_priors(chains, np.ones(20_000), np.array([2, 2, 2]), TEMPERATURE, settings)
    assert list(prior.bonds) == ["2-2"]
    assert prior.bonds["2-2"].r0 == pytest.approx(3.85, abs=0.002)


def repelled_pairs(epsilon: float, size: int, seed: int) -> Floats:
    """Three beads of which the outer two have the Boltzmann distribution of repulsion."""
    generator = np.random.default_rng(seed)
    chains = np.zeros((size, 3, 3))
    chains[:, 1, 1] = 3.8
    chains[:, 2, 0] = sample_density(
        lambda r: r**2 * np.exp(-4 * epsilon * r**-6 / ENERGY), 2.0, 7.0, size, generator
    )
    return chains


def test_repulsion_comes_back_from_its_boltzmann_distribution() -> None:
    settings = PriorFitSettings(terms=("repulsion",))
    chains = repelled_pairs(1500.0, 400_000, 5)
    prior = fit_priors(chains, np.ones(len(chains)), np.array([1, 4, 1]), TEMPERATURE, settings)
    assert prior.bonds == {}
    assert prior.dihedrals == ()
    assert prior.repulsion[1] == pytest.approx(1500.0, rel=0.05)
    # Type 4 has no distances of its own and takes the value of all types together.
    assert prior.repulsion[4] == pytest.approx(prior.repulsion[1], rel=1e-9)


def test_types_with_few_distances_lean_on_all_together() -> None:
    """Bead 3 comes close to bead 0 alone; 1 and 2 are far from everything."""
    generator = np.random.default_rng(6)
    n = 100_000
    chains = np.zeros((n, 5, 3))
    chains[:, 1:] += 100.0 * np.arange(1, 5)[:, None] * np.array([0.0, 1.0, 0.0])
    near = repelled_pairs(1000.0, n, 7)[:, 2, 0]
    chains[:, 3] = 0.0
    chains[:, 3, 0] = near
    few = generator.random(n) < 0.02
    chains[:, 4] = np.where(few[:, None], [0.0, 0.0, 1.0], [0.0, 400.0, 0.0])
    chains[few, 4] *= repelled_pairs(3000.0, int(few.sum()), 8)[:, 2, :1]
    types = np.array([1, 2, 2, 3, 4])

    def fit(shared: float, minimum: float = 5.0) -> dict[int, float]:
        settings = PriorFitSettings(
            terms=("repulsion",), repulsion_shared_count=shared, minimum_count=minimum
        )
        return fit_priors(chains, np.ones(n), types, TEMPERATURE, settings).repulsion

    own, shared, pooled = fit(0.0), fit(500.0), fit(1e12)
    assert pooled[1] == pytest.approx(pooled[4], rel=1e-6)
    assert abs(math.log(own[4] / pooled[4])) > 0.1
    position = math.log(shared[4] / pooled[4]) / math.log(own[4] / pooled[4])
    distances = np.linalg.norm(chains[:, [0, 1, 2]] - chains[:, 4:5], axis=-1)
    count = ((distances >= 3.0) & (distances < 5.0)).sum()
    assert position == pytest.approx(count / (count + 500.0), rel=1e-6)
    # Too few for three bins: all from the others, whatever the shared count.
    assert fit(0.0, minimum=300.0)[4] == pytest.approx(fit(1e12, minimum=300.0)[4], rel=1e-9)


def test_weights_undo_a_biased_sampling() -> None:
    """Frames drawn at other parameters, reweighted, give the parameters of the target."""
    generator = np.random.default_rng(9)
    n = 200_000
    lengths = sample_bond(50, 3.82, n, generator)
    chains = np.zeros((n, 2, 3))
    chains[:, 1, 0] = lengths
    weights = np.exp(-(80 * (lengths - 3.80) ** 2 - 50 * (lengths - 3.82) ** 2) / ENERGY)
    settings = PriorFitSettings(terms=("bonds",))
    prior = fit_priors(chains, weights, np.array([1, 1]), TEMPERATURE, settings)
    assert prior.bonds["1-1"].k == pytest.approx(80, rel=0.02)
    assert prior.bonds["1-1"].r0 == pytest.approx(3.80, abs=0.001)
    scaled = fit_priors(chains, 1e-7 * weights, np.array([1, 1]), TEMPERATURE, settings)
    assert scaled.bonds["1-1"].k == pytest.approx(prior.bonds["1-1"].k, rel=1e-9)


def test_chunks_and_order_of_frames_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    chains = bonded_chains(3_000, 10, TERMS)
    weights = np.random.default_rng(11).uniform(0.5, 2.0, len(chains))
    types = np.array([1, 4, 4, 8])
    whole = fit_priors(chains, weights, types, TEMPERATURE, BONDED)
    told: list[float] = []
    monkeypatch.setattr("cgbench.priors.histograms._CHUNK_BYTES", 100_000)
    order = np.random.default_rng(12).permutation(len(chains))
    parts = fit_priors(
        chains[order],
        weights[order],
        types,
        TEMPERATURE,
        BONDED,
        progress=lambda _, done, total: told.append(done / total),
    )
    assert len(told) > 1
    assert told[-1] == 1.0
    for key, bond in whole.bonds.items():
        assert parts.bonds[key].k == pytest.approx(bond.k, rel=1e-9)
    for one, other in zip(whole.dihedrals[0].terms, parts.dihedrals[0].terms, strict=True):
        assert one.k == pytest.approx(other.k, rel=1e-9)


def test_dihedral_angles_have_the_sign_of_the_energy() -> None:
    turns = np.linspace(-3.0, 3.0, 13)
    chains = build_chains(np.full((13, 3), 3.8), np.full((13, 2), 1.9), turns[:, None])
    assert dihedral_angles(np.diff(chains, axis=1))[:, 0] == pytest.approx(turns)
    parameters = PriorParameters(
        bonds={}, repulsion={}, dihedrals=(DihedralSet(types=None, terms=TERMS),)
    )
    energy = Prior(parameters, [1] * 4).energy(torch.tensor(chains)).numpy()
    assert energy == pytest.approx(dihedral_curve(TERMS, turns))


def test_frames_without_weight_are_not_looked_at() -> None:
    chains = bonded_chains(2_000, 13, TERMS)
    types = np.array([1, 4, 4, 8])
    weights = np.ones(2_000)
    weights[100:200] = 0.0
    kept = fit_priors(np.delete(chains, slice(100, 200), 0), np.ones(1_900), types, 350.0, BONDED)
    chains[100:200] = np.nan
    assert fit_priors(chains, weights, types, 350.0, BONDED) == kept
    with pytest.raises(ValidationError, match="not finite"):
        fit_priors(chains, np.ones(2_000), types, 350.0, BONDED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": np.zeros((50, 3, 3))}, "do not fit the bead types"),
        ({"weights": np.ones(49)}, "one weight for each frame"),
        ({"weights": np.full(50, -1.0)}, "not a distribution"),
        ({"weights": np.zeros(50)}, "not a distribution"),
        ({"weights": np.full(50, np.nan)}, "not a distribution"),
        ({"temperature": 0.0}, "temperature"),
        ({"coordinates": np.zeros((50, 4, 3))}, r"1 \(ALA\) and 4 \(TYR\) cannot be fitted"),
        ({"settings": PriorFitSettings(terms=("repulsion",))}, "repulsion cannot be fitted"),
        ({"settings": PriorFitSettings(terms=("dihedrals",))}, "dihedrals cannot be fitted"),
    ],
)
def test_data_that_determine_nothing(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "coordinates": bonded_chains(50, 14, TERMS),
        "weights": np.ones(50),
        "bead_types": np.array([1, 4, 4, 8]),
        "temperature": TEMPERATURE,
        "settings": None,
    }
    with pytest.raises(ValidationError, match=message):
        fit_priors(**{**arguments, **change})


def test_a_range_that_is_none() -> None:
    with pytest.raises(ValueError, match="increasing"):
        PriorFitSettings(repulsion_range=(5.0, 3.0))


@pytest.fixture(scope="module")
def sample(chignolin_dir: Any) -> tuple[Floats, Floats, NDArray[Any], PriorParameters]:
    """Every third frame of the sample: coordinates, optimal forces, bead types, fitted prior."""
    coordinates, forces = (
        np.load(chignolin_dir / f"chignolin_ca_{name}.npy", mmap_mode="r")[::3].astype(np.float64)
        for name in ("coords", "forces_optimal")
    )
    types = np.load(chignolin_dir / "chignolin_ca_embeddings.npy")
    prior = fit_priors(coordinates, np.ones(len(coordinates)), types, TEMPERATURE)
    return coordinates, forces, types, prior


@pytest.mark.data
def test_the_fitted_prior_explains_the_stiff_part_of_the_forces(
    sample: tuple[Floats, Floats, NDArray[Any], PriorParameters],
) -> None:
    coordinates, forces, types, prior = sample
    _, found = Prior(prior, types).energy_forces(torch.tensor(coordinates))
    assert math.sqrt((forces**2).mean()) == pytest.approx(12.8, abs=0.1)
    rest = math.sqrt(((forces - found.numpy()) ** 2).mean())
    assert rest < 9.15
    # Every term helps, and none would help more at a very different strength.
    for name, empty in (("bonds", {}), ("repulsion", {}), ("dihedrals", ())):
        without = Prior(prior.model_copy(update={name: empty}), types)
        others = without.energy_forces(torch.tensor(coordinates))[1].numpy()
        term, target = found.numpy() - others, forces - others
        assert rest < math.sqrt((target**2).mean())
        assert 0.6 < (term * target).sum() / (term**2).sum() < 2.4
    assert all(90 < bond.k < 110 for bond in prior.bonds.values())
    assert all(1500 < epsilon < 4000 for epsilon in prior.repulsion.values())


@pytest.mark.data
def test_the_fitted_prior_runs_stably_at_four_femtoseconds(
    sample: tuple[Floats, Floats, NDArray[Any], PriorParameters],
) -> None:
    """BAOAB for 8 ps: chains stay whole, and no pair falls into a well or through another."""
    coordinates, _, types, parameters = sample
    prior = Prior(parameters, types)
    generator = torch.Generator().manual_seed(15)
    pos = torch.tensor(coordinates[::1000][:16])
    timestep, mass, friction = 0.004, 12.0, 1.0
    thermal = math.sqrt(ENERGY * KCAL_PER_MOL / mass)
    decay = math.exp(-friction * timestep)
    velocity = thermal * torch.randn(pos.shape, generator=generator, dtype=torch.float64)
    _, forces = prior.energy_forces(pos)
    frames = []
    for step in range(2_000):
        velocity += 0.5 * timestep * KCAL_PER_MOL / mass * forces
        pos = pos + 0.5 * timestep * velocity
        noise = torch.randn(pos.shape, generator=generator, dtype=torch.float64)
        velocity = decay * velocity + thermal * math.sqrt(1 - decay**2) * noise
        pos = pos + 0.5 * timestep * velocity
        _, forces = prior.energy_forces(pos)
        velocity += 0.5 * timestep * KCAL_PER_MOL / mass * forces
        if step % 10 == 9:
            frames.append(pos.numpy().copy())
    visited = np.concatenate(frames)
    bonds = np.linalg.norm(np.diff(visited, axis=1), axis=-1)
    assert bonds.min() > 3.2
    assert bonds.max() < 4.6
    assert bonds.std() == pytest.approx(
        np.linalg.norm(np.diff(coordinates, axis=1), axis=-1).std(), rel=0.15
    )
    first, second = np.triu_indices(visited.shape[1], 2)
    assert np.linalg.norm(visited[:, first] - visited[:, second], axis=-1).min() > 2.5


@pytest.mark.data
def test_the_figure_shows_every_term(
    sample: tuple[Floats, Floats, NDArray[Any], PriorParameters],
) -> None:
    coordinates, _, types, prior = sample
    figure = plot_priors(prior, coordinates, np.ones(len(coordinates)), types)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert len(titles) == 1 + len(prior.repulsion) + len(prior.bonds)
    assert "bond ASP–PRO" in titles
    # Histogram and curve agree over the bulk of a bond's distribution.
    panel = next(axes for axes in figure.axes if axes.get_title() == "bond ASP–PRO")
    points, curve = (line.get_ydata() for line in panel.get_lines())
    difference = np.asarray(points, dtype=float) - np.asarray(curve, dtype=float)
    bulk = np.asarray(points, dtype=float) < 1.0
    assert math.sqrt((difference[bulk] ** 2).mean()) < 0.08
    # So do the dihedrals' histogram and the fit before its amplitudes were halved.
    panel = next(axes for axes in figure.axes if axes.get_title() == "all dihedrals")
    points, half, full = (np.asarray(line.get_ydata(), dtype=float) for line in panel.get_lines())
    bulk = points < 1.5
    assert math.sqrt(((points - full)[bulk] ** 2).mean()) < 0.25
    assert np.ptp(full) == pytest.approx(2 * np.ptp(half))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_a_figure_needs_a_temperature() -> None:
    chains = bonded_chains(2_000, 16, TERMS)
    prior = fit_priors(chains, np.ones(2_000), np.array([1, 4, 4, 8]), TEMPERATURE, BONDED)
    unknown = prior.model_copy(update={"temperature": None})
    with pytest.raises(ValidationError, match="no temperature"):
        plot_priors(unknown, chains, np.ones(2_000), np.array([1, 4, 4, 8]))
    figure = plot_priors(prior, chains, np.ones(2_000), np.array([1, 4, 4, 8]))
    assert sum(axes.axison for axes in figure.axes) == 4
