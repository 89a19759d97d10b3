"""Distances and metrics against scipy, numpy and cases with an analytic answer."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toy_rows import SYSTEM, bundle, samples

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import FORCE_METRICS, METRICS, Ensemble, ForceErrors, observe
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.metrics import Comparison, marginals, structure, thermodynamics
from cgbench.evaluate.metrics.divergence import (
    integrated_difference,
    jensen_shannon,
    quantile,
    smoothed_free_energy,
    wasserstein,
)
from cgbench.evaluate.tally import Binning, tally
from cgbench.units import thermal_energy

TEMPERATURE = 350.0
masses = hnp.arrays(np.float64, 12, elements=st.floats(0, 1).map(lambda x: round(x, 6))).filter(
    lambda array: array.sum() > 0.1
)


def column(values):
    return (values / values.sum())[:, None]


def test_registry_and_code_have_the_same_metrics():
    assert set(METRICS) | set(FORCE_METRICS) == {spec.id for spec in registry.metrics()}


@given(masses, masses)
def test_wasserstein_of_histograms_is_scipys(first, second):
    edges = np.linspace(-1.0, 2.0, 13)
    found = wasserstein(edges, column(first), column(second), np.zeros(1))[0]
    # Even mass in a bin is the same as a hundred points in it.
    points = np.linspace(-1.0, 2.0, 1201)
    points = 0.5 * (points[1:] + points[:-1])
    expected = scipy.stats.wasserstein_distance(
        points, points, np.repeat(first, 100), np.repeat(second, 100)
    )
    assert found == pytest.approx(expected, abs=1e-3)
    assert wasserstein(edges, column(first), column(first), np.zeros(1))[0] == 0.0


@given(masses, st.floats(0, 1))
def test_dead_mass_lies_at_the_farthest_edge(reference, dead):
    edges = np.linspace(0.0, 3.0, 13)
    alive = column(reference)
    found = wasserstein(edges, alive * (1 - dead), alive, np.array([dead]))[0]
    mean = (0.5 * (edges[1:] + edges[:-1])) @ alive[:, 0]
    # Moving a share of a distribution to a point costs the share times the mean distance.
    assert found == pytest.approx(dead * max(mean, 3.0 - mean), abs=1e-9)


def test_integral_where_the_sign_changes():
    edges = np.array([0.0, 1.0, 3.0])
    # −1 to 3 crosses zero at a quarter: 1/8 + 9/8; then 3 to 1 over two units: 4.
    assert integrated_difference(edges, np.array([[-1.0], [3.0], [1.0]]))[0] == pytest.approx(5.25)


@given(masses, masses)
def test_jensen_shannon_is_what_its_definition_says(first, second):
    p, q = column(first), column(second)
    found = jensen_shannon(p, q)[0]

    def entropy(x):
        x = x[x > 0]
        return -(x * np.log2(x)).sum()

    expected = entropy(0.5 * (p + q)) - 0.5 * entropy(p) - 0.5 * entropy(q)
    assert found == pytest.approx(expected, abs=1e-9)
    assert jensen_shannon(q, p)[0] == pytest.approx(found, abs=1e-12)
    assert jensen_shannon(p, p)[0] == 0.0


def test_jensen_shannon_of_disjoint_distributions_is_one_bit():
    assert jensen_shannon(np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))[0] == 1.0


@given(masses, st.floats(0.01, 0.99))
def test_quantiles_are_inverses_of_the_distribution_function(values, probability):
    edges = np.linspace(0.0, 6.0, 13)
    found = quantile(edges, column(values), probability)[0]
    cumulative = np.concatenate([[0.0], np.cumsum(values) / values.sum()])
    assert np.interp(found, edges, cumulative) == pytest.approx(probability, abs=1e-9)


def test_quantile_passes_over_empty_bins_and_knows_nothing_of_nothing():
    edges = np.linspace(0.0, 4.0, 5)
    table = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.0], [0.5, 0.0]])
    assert quantile(edges, table, 0.01)[0] == pytest.approx(1.02)
    assert quantile(edges, table, 1.0)[0] == 4.0
    assert np.isnan(quantile(edges, table, 0.5)[1])


def plane(mean, *, sigma=1.0, n=80, reach=4.5, dead=0.0, outside=0.0):
    """A Gaussian along the first axis times a standard one along the second, on a grid."""
    edges = np.linspace(-reach, reach, n + 1)
    first = np.diff(scipy.stats.norm.cdf(edges, mean, sigma))
    second = np.diff(scipy.stats.norm.cdf(edges))
    grid = np.outer(first / first.sum(), second / second.sum()).ravel()
    inside = grid * (1.0 - dead - outside)
    return np.concatenate([inside, [outside]])[:, None], np.stack([edges, edges])


def gaussian_comparison(**changes):
    reference, edges = plane(0.0)
    model, _ = plane(**changes)
    fake = SimpleNamespace(
        fes_edges=edges,
        tic_sigma=np.ones(2),
        temperature=TEMPERATURE,
        metadata=SimpleNamespace(smoothing=registry.constants().fes_smoothing),
    )
    widths = fake.metadata.smoothing * fake.tic_sigma
    fake.fes = smoothed_free_energy(reference, edges, widths, TEMPERATURE)[:, :, 0]
    dead = changes.get("dead", 0.0)
    sides = [
        Distributions(
            masses={"plane": table},
            means={},
            state_mass=np.zeros((1, 1)),
            state_rmsd=np.zeros((1, 1)),
            dead=np.array([lost]),
            native_macrostate=np.zeros(1, dtype=np.int64),
        )
        for table, lost in ((model, dead), (reference, 0.0))
    ]
    return Comparison(sides[0], sides[1], fake, np.ones(1)), fake, edges


def test_free_energy_of_a_gaussian():
    comparison, fake, edges = gaussian_comparison(mean=0.0)
    centre = 0.5 * (edges[0][1:] + edges[0][:-1])
    variance = 1.0 + 0.1**2 + 0.0
    expected = 0.5 * thermal_energy(TEMPERATURE) * (centre**2 - centre[40] ** 2) / variance
    np.testing.assert_allclose(fake.fes[20:60, 40], expected[20:60], atol=0.01)
    assert thermodynamics.fes_rmse(comparison)[0] < 1e-12
    assert thermodynamics.js_2d(comparison)[0] == 0.0


def test_free_energy_difference_of_shifted_gaussians():
    shift = 0.05
    comparison, fake, edges = gaussian_comparison(mean=shift)
    cells = fake.fes <= registry.constants().fes_cutoff
    centre = 0.5 * (edges[0][1:] + edges[0][:-1])
    # ((x − m)² − x²) k_B T / 2(1 + s²) is linear in x; the mean difference is the shift.
    slope = thermal_energy(TEMPERATURE) * shift / 1.01
    along = (slope * centre[:, None] * np.ones(80))[cells]
    assert thermodynamics.fes_rmse(comparison)[0] == pytest.approx(along.std(), rel=0.02)
    assert thermodynamics.fes_mae(comparison)[0] == pytest.approx(
        np.abs(along - along.mean()).mean(), rel=0.02
    )


@pytest.mark.parametrize("where", ["dead", "outside"])
def test_lost_mass_raises_the_free_energy(where):
    errors = [
        thermodynamics.fes_rmse(gaussian_comparison(mean=0.0, **{where: lost})[0])[0]
        for lost in (0.0, 0.3, 0.9, 0.999, 1.0)
    ]
    assert errors == sorted(errors)
    assert errors[1] == pytest.approx(-thermal_energy(TEMPERATURE) * np.log(0.7), abs=1e-6)
    # Nothing on the grid: every cell is at the cutoff plus the clip.
    _, fake, _ = gaussian_comparison(mean=0.0)
    constants = registry.constants()
    top = constants.fes_cutoff + constants.fes_clip
    cells = fake.fes[fake.fes <= constants.fes_cutoff]
    assert errors[-1] == pytest.approx(np.sqrt(((top - cells) ** 2).mean()))


def test_the_shift_is_over_cells_that_both_visit():
    comparison, fake, edges = gaussian_comparison(mean=0.4, sigma=0.4)
    constants = registry.constants()
    cutoff, top = constants.fes_cutoff, constants.fes_cutoff + constants.fes_clip
    surface = smoothed_free_energy(
        comparison.model.masses["plane"], edges, np.full(2, 0.1), TEMPERATURE
    )[:, :, 0]
    differences, both = {}, []
    for i, j in zip(*np.nonzero(fake.fes <= cutoff), strict=True):
        differences[i, j] = surface[i, j] - fake.fes[i, j]
        both += [differences[i, j]] if surface[i, j] <= cutoff else []
    assert 0 < len(both) < 0.8 * len(differences)
    shift = sum(both) / len(both)
    squares = [
        (min(value + fake.fes[cell] - shift, top) - fake.fes[cell]) ** 2
        for cell, value in differences.items()
    ]
    assert thermodynamics.fes_rmse(comparison)[0] == pytest.approx(np.sqrt(np.mean(squares)))


def test_one_visited_cell_is_worse_than_a_uniform_model():
    reference, _ = plane(0.0)
    spot = np.zeros_like(reference)
    spot[40 * 80 + 40] = 1.0
    flat = np.append(np.full(6400, 1 / 6400), 0.0)[:, None]
    errors = []
    for table in (flat, spot):
        comparison, fake, _ = gaussian_comparison(mean=0.0)
        model = replace(comparison.model, masses={"plane": table})
        errors.append(thermodynamics.fes_rmse(replace(comparison, model=model))[0])
    assert errors[0] == pytest.approx(fake.fes[fake.fes <= 4.0].std(), rel=0.05)
    assert errors[1] > 1.5 * errors[0]


def test_divergence_counts_lost_mass():
    comparison = gaussian_comparison(mean=0.0, dead=0.5)[0]
    # Half the mass in a state of its own: H(m) − H(p)/2 − H(q)/2 of (1, 0) and (½, ½).
    expected = jensen_shannon(np.array([[0.5], [0.5]]), np.array([[1.0], [0.0]]))[0]
    assert thermodynamics.js_2d(comparison)[0] == pytest.approx(expected)


def compared(ensemble):
    observables = observe(bundle(), ensemble.trajectories, ensemble.alive_until)
    ones = np.ones((bundle().n_microstates, 1))
    binning = Binning.of(bundle())
    sides = [
        distributions(tally(seen, binning), np.ones((seen.n_trajectories, 1)), ones)
        for seen in (observables, bundle().observables)
    ]
    return Comparison(sides[0], sides[1], bundle(), np.ones(1)), observables


def test_metrics_of_raw_frames():
    comparison, seen = compared(samples(0.6))
    reference = bundle().observables
    for metric, name in (("rg_w1", "rg"), ("q_w1", "q"), ("rmsd_w1", "rmsd")):
        edges = bundle().edges[name]
        expected = scipy.stats.wasserstein_distance(getattr(seen, name), getattr(reference, name))
        found = METRICS[metric](comparison)[0]
        assert found == pytest.approx(expected, abs=edges[1] - edges[0]), metric
    expected = scipy.stats.wasserstein_distance(seen.tics[:, 0], reference.tics[:, 0])
    assert METRICS["w1_tic1"](comparison)[0] * bundle().tic_sigma[0] == pytest.approx(
        expected, abs=0.02
    )
    expected = np.percentile(seen.rmsd, registry.constants().rmsd_percentile)
    assert structure.rmsd_p1(comparison)[0] == pytest.approx(expected, abs=0.02)
    macrostate = bundle().macrostate[seen.microstate]
    native = macrostate == macrostate[seen.rmsd.argmin()]
    assert structure.rmsd_native(comparison)[0] == pytest.approx(seen.rmsd[native].mean(), rel=1e-6)
    assert structure.q_native(comparison)[0] == pytest.approx(seen.q.mean(), rel=1e-6)
    folded = seen.q >= bundle().metadata.basins.folded_q
    assert thermodynamics.native_population(comparison)[0] == pytest.approx(folded.mean())
    divergences = []
    for mine, other in zip(seen.dihedrals.T, reference.dihedrals.T, strict=True):
        edges = bundle().edges["dihedral"]
        tables = [np.histogram(angles, edges)[0][:, None] / len(angles) for angles in (mine, other)]
        divergences.append(jensen_shannon(*tables)[0])
    assert marginals.dihedral_js(comparison)[0] == pytest.approx(np.mean(divergences), abs=1e-4)


def test_frames_beyond_the_grid_cost_their_distance():
    comparison, seen = compared(samples(0.6))
    edges = bundle().edges["tic1"]
    far = tally(replace(seen, tics=np.full_like(seen.tics, edges[-1] + 7.0)), Binning.of(bundle()))
    ones = np.ones((bundle().n_microstates, 1))
    at_edge = tally(replace(seen, tics=np.full_like(seen.tics, edges[-1])), Binning.of(bundle()))
    found = [
        thermodynamics.line_distance(
            replace(comparison, model=distributions(one, np.ones((24, 1)), ones)), "tic1"
        )[0]
        for one in (far, at_edge)
    ]
    assert found[0] - found[1] == pytest.approx(7.0, rel=1e-5)


def test_mirrored_chains_differ_in_handedness_and_dihedrals_only():
    right, _ = compared(samples(0.4))
    wrong, _ = compared(samples(0.4, mirrored=True))
    assert structure.handedness(right)[0] > 0.95
    assert structure.handedness(wrong)[0] < 0.05
    for metric in ("w1_tic1", "fes_rmse", "rg_w1", "q_w1"):
        assert METRICS[metric](right)[0] == pytest.approx(METRICS[metric](wrong)[0], abs=1e-4)
    assert METRICS["dihedral_js"](wrong)[0] > METRICS["dihedral_js"](right)[0] + 0.1


def test_everything_dead_is_as_far_as_it_gets():
    ensemble = samples(0.4, n_trajectories=3)
    dead = Ensemble.from_arrays(
        SYSTEM, ensemble.trajectories, frame_interval=1.0, alive_until=[0, 0, 0]
    )
    comparison, _ = compared(dead)
    assert thermodynamics.js_2d(comparison)[0] == pytest.approx(1.0)
    assert marginals.dihedral_js(comparison)[0] == pytest.approx(1.0)
    assert thermodynamics.native_population(comparison)[0] == 0.0
    assert METRICS["w1_tic1"](comparison)[0] > 1.0
    for metric in ("rmsd_p1", "rmsd_native", "q_native", "handedness"):
        assert np.isnan(METRICS[metric](comparison)[0])


def test_force_errors_are_sums_over_trajectories():
    generator = np.random.default_rng(0)
    errors = [generator.normal(size=(n, 10, 3)) for n in (5, 9, 2)]
    summed = ForceErrors(
        force_map="optimal",
        trajectory=np.array([4, 7, 9]),
        squared=np.array([(error**2).sum() for error in errors]),
        absolute=np.array([np.abs(error).sum() for error in errors]),
        count=np.array([error.size for error in errors]),
    )
    taken = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    everything = np.concatenate([error.ravel() for error in errors])
    twice = np.concatenate([errors[0].ravel(), errors[0].ravel(), errors[2].ravel()])
    assert FORCE_METRICS["force_mse"](summed, taken) == pytest.approx(
        [(everything**2).mean(), (twice**2).mean()]
    )
    assert FORCE_METRICS["force_l1"](summed, taken) == pytest.approx(
        [np.abs(everything).mean(), np.abs(twice).mean()]
    )
    with pytest.raises(ValidationError, match="different lengths"):
        replace(summed, squared=np.zeros(2))
    with pytest.raises(ValidationError, match="without components"):
        replace(summed, count=np.array([1, 0, 1]))
