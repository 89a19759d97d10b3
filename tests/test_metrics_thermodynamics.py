"""Free energies, divergences, populations: against analytic Gaussians and cases made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_metrics import (
    TEMPERATURE,
    gaussian_comparison,
    plane,
    plane_bundle,
    plane_comparison,
    side,
)

from cgbench import registry
from cgbench.evaluate import METRICS
from cgbench.evaluate.metrics import Comparison, macrostates, thermodynamics
from cgbench.evaluate.metrics.divergence import jensen_shannon, smoothed_free_energy
from cgbench.evaluate.values import metric_values, unseen_states
from cgbench.units import thermal_energy

SCALE = thermal_energy(TEMPERATURE)


def test_free_energy_of_a_gaussian():
    comparison = gaussian_comparison(mean=0.0)
    edges = comparison.bundle.fes_edges
    centre = 0.5 * (edges[0][1:] + edges[0][:-1])
    variance = 1.0 + 0.1**2
    expected = 0.5 * SCALE * (centre**2 - centre[40] ** 2) / variance
    np.testing.assert_allclose(comparison.bundle.fes[20:60, 40], expected[20:60], atol=0.01)
    for metric in ("fes_rmse", "fes_mae", "fes_rmse_paper", "js_2d", "kl_2d"):
        assert METRICS[metric](comparison)[0] < 1e-9, metric
    assert METRICS["coverage"](comparison)[0] == pytest.approx(1.0)


def test_free_energy_difference_of_shifted_gaussians():
    shift = 0.05
    comparison = gaussian_comparison(mean=shift)
    edges = comparison.bundle.fes_edges
    centre = 0.5 * (edges[0][1:] + edges[0][:-1])
    # ((x − m)² − x²) k_B T / 2(1 + s²) is linear in x; the mean difference is the shift.
    slope = SCALE * shift / 1.01
    for metric, cutoff, rel in (("fes_rmse", 4.0, 0.02), ("fes_rmse_paper", 9.0, 0.03)):
        cells = comparison.bundle.fes <= cutoff
        along = (slope * centre[:, None] * np.ones(80))[cells]
        assert METRICS[metric](comparison)[0] == pytest.approx(along.std(), rel=rel)
    along = (slope * centre[:, None] * np.ones(80))[comparison.bundle.fes <= 4.0]
    assert thermodynamics.fes_mae(comparison)[0] == pytest.approx(
        np.abs(along - along.mean()).mean(), rel=0.02
    )


@pytest.mark.parametrize("where", ["dead", "outside"])
def test_lost_mass_raises_the_free_energy(where):
    errors = [
        thermodynamics.fes_rmse(gaussian_comparison(mean=0.0, **{where: lost}))[0]
        for lost in (0.0, 0.3, 0.9, 0.999, 1.0)
    ]
    assert errors == sorted(errors)
    assert errors[1] == pytest.approx(-SCALE * np.log(0.7), abs=1e-6)
    # Nothing on the grid: every cell is at the cutoff plus the clip.
    fes = gaussian_comparison(mean=0.0).bundle.fes
    constants = registry.constants()
    top = constants.fes_cutoff + constants.fes_clip
    cells = fes[fes <= constants.fes_cutoff]
    assert errors[-1] == pytest.approx(np.sqrt(((top - cells) ** 2).mean()))


def test_the_shift_is_over_cells_that_both_visit():
    comparison = gaussian_comparison(mean=0.4, sigma=0.4)
    fes, edges = comparison.bundle.fes, comparison.bundle.fes_edges
    constants = registry.constants()
    cutoff, top = constants.fes_cutoff, constants.fes_cutoff + constants.fes_clip
    surface = smoothed_free_energy(
        comparison.model.masses["plane"], edges, np.full(2, 0.1), TEMPERATURE
    )[:, :, 0]
    differences, both = {}, []
    for i, j in zip(*np.nonzero(fes <= cutoff), strict=True):
        differences[i, j] = surface[i, j] - fes[i, j]
        both += [differences[i, j]] if surface[i, j] <= cutoff else []
    assert 0 < len(both) < 0.8 * len(differences)
    shift = sum(both) / len(both)
    squares = [
        (min(value + fes[cell] - shift, top) - fes[cell]) ** 2
        for cell, value in differences.items()
    ]
    assert thermodynamics.fes_rmse(comparison)[0] == pytest.approx(np.sqrt(np.mean(squares)))


def flat():
    return np.append(np.full(6400, 1 / 6400), 0.0)


def test_one_visited_cell_is_worse_than_a_uniform_model():
    reference, edges = plane(0.0)
    spot = np.zeros_like(reference)
    spot[40 * 80 + 40] = 1.0
    even, narrow = (plane_comparison(model, reference, edges) for model in (flat(), spot))
    fes = even.bundle.fes
    errors = [thermodynamics.fes_rmse(comparison)[0] for comparison in (even, narrow)]
    assert errors[0] == pytest.approx(fes[fes <= 4.0].std(), rel=0.05)
    assert errors[1] > 1.5 * errors[0]


def test_noise_covers_everything_with_little_precision_and_a_spot_the_reverse():
    reference, edges = plane(0.0)
    spot = np.zeros_like(reference)
    spot[40 * 80 + 40] = 1.0
    even, narrow = (plane_comparison(model, reference, edges) for model in (flat(), spot))
    assert thermodynamics.coverage(even)[0] == pytest.approx(1.0)
    likely = (even.bundle.fes <= registry.constants().fes_cutoff).mean()
    assert thermodynamics.precision(even)[0] == pytest.approx(likely)
    assert likely < 0.7
    assert thermodynamics.precision(narrow)[0] == 1.0
    assert thermodynamics.coverage(narrow)[0] == pytest.approx(reference[40 * 80 + 40])


def test_lost_mass_is_in_no_likely_cell():
    for lost in ("dead", "outside"):
        whole = thermodynamics.precision(gaussian_comparison(mean=0.0))[0]
        found = thermodynamics.precision(gaussian_comparison(mean=0.0, **{lost: 0.4}))[0]
        assert found == pytest.approx(0.6 * whole)


def test_divergences_count_lost_mass():
    comparison = gaussian_comparison(mean=0.0, dead=0.5)
    # Half the mass in a state of its own: H(m) − H(p)/2 − H(q)/2 of (1, 0) and (½, ½).
    expected = jensen_shannon(np.array([[0.5], [0.5]]), np.array([[1.0], [0.0]]))[0]
    assert thermodynamics.js_2d(comparison)[0] == pytest.approx(expected)
    # Every state that the reference visits has half its mass; the pseudo-count hardly shows.
    assert thermodynamics.kl_2d(comparison)[0] == pytest.approx(np.log(2.0), abs=0.01)


def test_the_pseudo_count_says_what_an_unvisited_cell_costs():
    reference, edges = plane(0.0)
    nowhere = np.zeros_like(reference)
    comparison = plane_comparison(nowhere, reference, edges, dead=1.0)
    pseudo = registry.constants().kl_pseudo_count
    states = len(reference) + 1
    p = (np.append(reference, 0.0) + pseudo) / (1 + pseudo * states)
    q = (np.append(nowhere, 1.0) + pseudo) / (1 + pseudo * states)
    found = thermodynamics.kl_2d(comparison)[0]
    assert found == pytest.approx((p * np.log(p / q)).sum())
    assert found < registry.metric("kl_2d").penalty
    assert np.log(1.0 / pseudo + states) < registry.metric("kl_2d").penalty


@given(st.floats(0.1, 2.0), st.floats(1.1, 1.5))
def test_larger_shifts_are_worse(shift, factor):
    near, far = (gaussian_comparison(mean=mean) for mean in (shift, shift * factor))
    for metric in ("fes_rmse", "fes_mae", "fes_rmse_paper", "js_2d", "kl_2d"):
        assert METRICS[metric](far)[0] > METRICS[metric](near)[0], metric
    assert thermodynamics.precision(far)[0] < thermodynamics.precision(near)[0]


def folding(folded, below, *, dead=0.0):
    """A comparison whose model has a share of folded frames and one below 0.3 in Q."""
    reference, edges = plane(0.0)
    q = np.zeros(100)
    q[10], q[50], q[90] = below, 1.0 - below - folded, folded
    model = side({"plane": reference, "q": q * (1.0 - dead)}, means={"folded": folded}, dead=dead)
    return Comparison(model, model, plane_bundle(reference, edges), np.ones(1))


@pytest.mark.parametrize("dead", [0.0, 0.4])
def test_free_energy_of_folding(dead):
    metric = METRICS["dG_fold"]
    comparison = folding(0.6, 0.2, dead=dead)
    assert metric(comparison)[0] == pytest.approx(-SCALE * np.log(0.6 / 0.2))
    assert metric.note(comparison) is None
    assert METRICS["native_population"](comparison)[0] == pytest.approx(0.6 * (1.0 - dead))


def test_free_energy_of_folding_is_clipped_where_a_side_is_empty():
    metric = METRICS["dG_fold"]
    for folded, below, value, unseen in (
        (0.0, 0.2, 5.0, "no frame is folded"),
        (0.3, 0.0, -5.0, "no frame is unfolded"),
        (0.9, 1e-6, -5.0, None),
    ):
        comparison = folding(folded, below)
        assert metric(comparison)[0] == value
        assert metric.note(comparison) == "clipped at 5 kcal/mol"
        assert metric.unseen(comparison) == unseen
    assert np.isnan(metric(folding(0.0, 0.0))[0])
    assert metric.note(folding(0.0, 0.0)) is None
    assert metric.unseen(folding(0.0, 0.0)) == "no frame is folded or unfolded"


def test_what_rests_on_a_state_that_no_frame_is_in_has_no_interval():
    comparison = folding(0.0, 0.2)
    columns = {
        name: METRICS[name](comparison).repeat(20) for name in ("dG_fold", "native_population")
    }
    values = metric_values(
        columns,
        {},
        {"frames": 20.0, "native_like": 0.0},
        {"dG_fold": METRICS["dG_fold"].note(comparison)},
        unseen_states(comparison),
        time_ordered=True,
        gate_status="n/a",
        single=False,
    )
    for name, value, told in (
        ("dG_fold", 5.0, "no frame is folded; clipped at 5 kcal/mol"),
        ("native_population", 0.0, "no frame is in the native basin"),
    ):
        assert (values[name].value, values[name].lo, values[name].hi) == (value, None, None)
        assert values[name].note == f"no interval: {told}"


def populated(model, reference, *, dead=0.0, frozen=None):
    """A comparison of macrostate populations, the last of which is outside."""
    table, edges = plane(0.0)
    sides = [
        side({"plane": table, "macrostate": np.asarray(masses)}, dead=lost)
        for masses, lost in ((model, dead), (reference, 0.0))
    ]
    frozen = reference[:-1] if frozen is None else frozen
    fake = plane_bundle(table, edges, n_states=len(frozen), populations=frozen)
    return Comparison(*sides, fake, np.ones(1))


def test_macrostate_populations():
    reference = [0.6, 0.395, 0.004, 0.001]
    assert macrostates.macro_pop(populated(reference, reference))[0] == 0.0
    # The third macrostate and what is outside are one state, whose half per cent counts as one.
    model = [0.3, 0.6, 0.05, 0.05]
    logs = np.abs(np.log([0.3 / 0.6, 0.6 / 0.395, 0.1 / 0.01]))
    assert macrostates.macro_pop(populated(model, reference))[0] == pytest.approx(
        SCALE * logs.mean()
    )
    # Lost frames are in that state as well.
    lost = macrostates.macro_pop(populated([0.3, 0.6, 0.0, 0.0], reference, dead=0.1))[0]
    assert lost == pytest.approx(SCALE * logs.mean())


def test_macrostate_errors_end_at_the_cutoff():
    cutoff = registry.constants().fes_cutoff
    found = macrostates.macro_pop(populated([1.0, 0.0, 0.0], [0.5, 0.5, 0.0]))[0]
    assert found == pytest.approx((SCALE * np.log(2.0) + cutoff + 0.0) / 3)
    everything = populated([0.0, 0.0, 0.0], [0.5, 0.5, 0.0], dead=1.0)
    assert macrostates.macro_pop(everything)[0] <= registry.metric("macro_pop").penalty
    # A macrostate that a resample of neither has visited is no error.
    absent = populated([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], frozen=[0.5, 0.5])
    assert macrostates.macro_pop(absent)[0] == 0.0


@given(st.floats(0.02, 0.9), st.floats(0.02, 0.9))
def test_macrostate_errors_are_those_of_each_state(population, other):
    rest = 0.95 - population
    reference = [other, 0.05, 0.95 - other]
    found = populated([population, 0.05, rest], reference, frozen=[other, 0.05])
    errors = [np.log(population / other), 0.0, np.log(rest / (0.95 - other))]
    expected = np.minimum(SCALE * np.abs(errors), registry.constants().fes_cutoff).mean()
    assert macrostates.macro_pop(found)[0] == pytest.approx(expected, abs=1e-12)


def test_columns_are_independent():
    """Every resample is scored as it would be alone."""
    parts = [gaussian_comparison(mean=mean) for mean in (0.0, 0.7)]
    both = replace(
        parts[0].model,
        masses={"plane": np.hstack([part.model.masses["plane"] for part in parts])},
        dead=np.zeros(2),
        state_mass=np.zeros((1, 2)),
        state_rmsd=np.zeros((1, 2)),
        native_macrostate=np.zeros(2, dtype=np.int64),
    )
    twice = replace(both, masses={"plane": np.hstack([parts[0].reference.masses["plane"]] * 2)})
    together = Comparison(both, twice, parts[0].bundle, np.ones(2))
    for metric in ("fes_rmse", "fes_mae", "js_2d", "kl_2d", "coverage", "precision"):
        alone = [METRICS[metric](part)[0] for part in parts]
        assert METRICS[metric](together) == pytest.approx(alone), metric
    for metric in ("bioemu_fes_mae", "bioemu_coverage"):
        alone = [METRICS[metric](part)[0] for part in parts]
        assert METRICS[metric](together) == pytest.approx(alone), metric
