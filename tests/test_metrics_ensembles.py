"""Metrics of raw frames: against loops over them, and what must not or must change a value."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_metrics import compared, distributions_of, ensemble_of, frames_of
from toy_reference import NATIVE
from toy_rows import SYSTEM, bundle, hairpins, samples

from cgbench import registry
from cgbench.evaluate import METRICS, Ensemble, geometry
from cgbench.evaluate.distributions import distributions
from cgbench.evaluate.metrics import COMPARED, STATISTICS, Comparison, marginals, structure
from cgbench.evaluate.metrics.thermodynamics import line_distance
from cgbench.evaluate.reference_statistics import marginal_edges
from cgbench.evaluate.statistic import Frames
from cgbench.evaluate.tally import tally
from cgbench.testing.strategies import random_chains

#: Values that identical ensembles have; nothing else compared is other than zero.
IDENTITY = {"coverage": 1.0, "bioemu_coverage": 1.0}
#: Not zero for identical ensembles: what a million draws, or the reference itself, would have.
OWN = {"native_population", "dG_fold", "precision", "bioemu_fes_mae"}
fewer = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def case():
    ensemble = samples(0.6)
    comparison, seen = compared(ensemble)
    reference = Frames(bundle().subset_coordinates, bundle().definition)
    return comparison, seen, Frames(frames_of(ensemble), bundle().definition), reference


def value(metric, comparison):
    return METRICS[metric](comparison)[0]


def test_distances_of_lines_are_scipys(case):
    comparison, seen, _, _ = case
    reference = bundle().observables
    for metric, name in (
        ("rg_w1", "rg"),
        ("end_to_end_w1", "end_to_end"),
        ("q_w1", "q"),
        ("rmsd_w1", "rmsd"),
    ):
        edges = bundle().edges[name]
        expected = scipy.stats.wasserstein_distance(getattr(seen, name), getattr(reference, name))
        assert value(metric, comparison) == pytest.approx(expected, abs=edges[1] - edges[0]), metric
    for axis, metric in enumerate(("w1_tic1", "w1_tic2")):
        expected = scipy.stats.wasserstein_distance(seen.tics[:, axis], reference.tics[:, axis])
        found = value(metric, comparison) * bundle().tic_sigma[axis]
        assert found == pytest.approx(expected, abs=0.02), metric


def test_structure_by_plain_numpy(case):
    comparison, seen, model, _ = case
    percentile = registry.constants().rmsd_percentile
    expected = np.percentile(seen.rmsd, percentile)
    assert value("rmsd_p1", comparison) == pytest.approx(expected, abs=0.02)
    assert value("rmsd_below_2p5", comparison) == pytest.approx((seen.rmsd < 2.5).mean(), abs=2e-3)
    macrostate = bundle().macrostate[seen.microstate]
    native = macrostate == macrostate[seen.rmsd.argmin()]
    assert value("rmsd_native", comparison) == pytest.approx(seen.rmsd[native].mean(), rel=1e-6)
    assert value("q_native", comparison) == pytest.approx(seen.q.mean(), rel=1e-6)
    folded = bundle().metadata.basins.folded(seen.q, seen.rmsd)
    assert value("native_population", comparison) == pytest.approx(folded.mean())
    assert value("clash_rate", comparison) == pytest.approx(
        geometry.clashes(model.coordinates).mean()
    )


def test_bonds_by_scipy(case):
    comparison, _, model, reference = case
    width = np.diff(marginals.bond_edges())[0]
    expected = [
        scipy.stats.wasserstein_distance(*both)
        for both in zip(model.bonds.T, reference.bonds.T, strict=True)
    ]
    assert value("bond_w1", comparison) == pytest.approx(np.mean(expected), abs=width / 4)
    wide, _ = compared(samples(0.6, scale=0.3))
    bonds = geometry.bond_lengths(frames_of(samples(0.6, scale=0.3)))
    far = np.abs(bonds - reference.bonds.mean(axis=0)) > 5.0 * reference.bonds.std(axis=0)
    assert far.mean() > 0.02
    assert value("bond_violation_rate", wide) == pytest.approx(far.mean(), rel=0.1)
    assert value("bond_violation_rate", comparison) < 1e-3


def test_angles_and_dihedrals_by_scipy(case):
    comparison, _, model, reference = case
    for metric, name, edges in (
        ("angle_js", "angles", np.linspace(0.0, np.pi, 37)),
        ("dihedral_js", "dihedrals", np.linspace(-np.pi, np.pi, 73)),
    ):
        expected = []
        for both in zip(getattr(model, name).T, getattr(reference, name).T, strict=True):
            tables = [np.histogram(values.astype(np.float64), edges)[0] for values in both]
            expected.append(np.nan_to_num(scipy.spatial.distance.jensenshannon(*tables, base=2)))
        assert value(metric, comparison) == pytest.approx(np.mean(np.square(expected)), abs=1e-4)


def test_pairs_by_loops(case):
    comparison, _, model, reference = case
    constants = registry.constants()
    edges = marginals.pair_edges(10)
    assert len(edges) == constants.pair_distance_bins + 1
    errors, divergences = [], []
    for i in range(10):
        for j in range(i + 3, 10):
            both = [
                np.linalg.norm(side.coordinates[:, j] - side.coordinates[:, i], axis=-1)
                for side in (model, reference)
            ]
            tables = [np.histogram(distance, edges)[0] for distance in both]
            js = np.nan_to_num(scipy.spatial.distance.jensenshannon(*tables, base=2))
            divergences.append(js**2)
            if j - i >= constants.contact_separation:
                shares = [(distance < constants.contact_cutoff).mean() for distance in both]
                errors.append((shares[0] - shares[1]) ** 2)
    assert value("pair_distance_js", comparison) == pytest.approx(np.mean(divergences), abs=1e-4)
    assert value("contact_rmse", comparison) == pytest.approx(np.sqrt(np.mean(errors)))


def test_bins_of_statistics_are_those_of_their_edges():
    frames = Frames(random_chains(50, 10, 3).astype(np.float32), bundle().definition)
    for statistic, values, edges in (
        (marginals.BOND, frames.bonds, marginals.bond_edges()),
        (marginals.ANGLE, frames.angles, np.linspace(0.0, np.pi, 37)),
        (marginals.DIHEDRAL, frames.dihedrals, np.linspace(-np.pi, np.pi, 73)),
        (
            marginals.PAIR_DISTANCE,
            frames.distances[:, marginals.distant_pairs(10, 3)],
            marginals.pair_edges(10),
        ),
    ):
        n_bins = len(edges) - 1
        found = statistic.measured(frames, bundle().definition)
        expected = np.searchsorted(edges, values.astype(np.float64), side="right") - 1
        expected = np.clip(expected, 0, n_bins - 1) + n_bins * np.arange(values.shape[1])
        # Single precision may put a value beside an edge.
        assert (found != expected).mean() < 1e-3, statistic.name
        assert statistic.n_columns(bundle().definition) == n_bins * values.shape[1]


def test_an_angle_of_half_a_turn_is_in_the_first_bin():
    frames = Frames(random_chains(3, 10, 4).astype(np.float32), bundle().definition)
    frames.__dict__["dihedrals"] = np.full((3, 7), np.float32(np.pi))
    found = marginals.DIHEDRAL.measured(frames, bundle().definition)
    np.testing.assert_array_equal(found[0] % registry.constants().dihedral_bins, 0)


def test_an_ensemble_against_itself():
    ensemble = samples(0.5)
    comparison, _ = compared(ensemble, ensemble)
    for metric in COMPARED:
        if metric in OWN:
            continue
        found = value(metric, comparison)
        assert found == pytest.approx(IDENTITY.get(metric, 0.0), abs=1e-3), metric
    assert value("bioemu_fes_mae", comparison) < 0.1


def test_divergences_and_distances_are_symmetric():
    first, second = samples(0.5), samples(0.7, seed=5)
    there, back = compared(first, second)[0], compared(second, first)[0]
    for metric in COMPARED:
        if metric.endswith(("_js", "_w1")) or metric in ("js_2d", "w1_tic1", "contact_rmse"):
            assert value(metric, there) == pytest.approx(value(metric, back), abs=1e-6), metric


@fewer
@given(st.integers(2, 4), st.floats(0.2, 0.9))
def test_frames_repeated_change_nothing(times, population):
    few = samples(population, n_trajectories=5, n_frames=20)
    many = ensemble_of(np.repeat(np.stack(few.trajectories), times, axis=0))
    once, again = compared(few)[0], compared(many)[0]
    for metric in METRICS:
        one, other = value(metric, once), value(metric, again)
        assert one == pytest.approx(other, abs=1e-6, nan_ok=True), metric


@fewer
@given(st.integers(0, 10**6))
def test_every_value_is_within_its_bounds(seed):
    chains = random_chains(40, 10, seed).reshape(4, 10, 10, 3)
    comparison, _ = compared(ensemble_of(chains))
    for metric in METRICS:
        spec, found = registry.metric(metric), value(metric, comparison)
        if np.isnan(found):
            continue
        if spec.unit == "1":
            assert -1e-9 <= found <= 1.0 + 1e-9, metric
        if spec.ranked and spec.direction == "min":
            assert 0.0 <= found <= spec.penalty, metric


def test_parts_add_up_to_the_whole():
    ensemble = samples(0.5, n_trajectories=8)
    seen = distributions_of(ensemble)[1]
    halves = [seen.trajectory % 2 == part for part in range(2)]
    definition = bundle().definition
    whole = tally(seen, definition)
    parts = [tally(replace(seen, alive=seen.alive & half), definition) for half in halves]
    # A frame of the other part is no lost frame.
    parts = [replace(part, dead=np.zeros(8), frames=part.frames - part.dead) for part in parts]
    ones = np.ones((bundle().n_microstates, 1))
    added, together = (
        distributions(counted, np.ones((8, 1)), ones) for counted in (parts[0] + parts[1], whole)
    )
    reference = compared(ensemble)[0].reference
    for metric in ("w1_tic1", "fes_rmse", "kl_2d", "dG_fold", "macro_pop", "q_w1", "rmsd_native"):
        first, second = (
            value(metric, Comparison(side, reference, bundle(), np.ones(1)))
            for side in (added, together)
        )
        assert first == pytest.approx(second), metric


@pytest.mark.parametrize("metric", ["bond_w1", "angle_js", "pair_distance_js", "contact_rmse"])
def test_larger_distortions_are_worse(metric):
    found = []
    for stretch in (1.0, 1.04, 1.08, 1.16):
        folded = np.random.default_rng(7).random((24, 50)) < 1 / 3
        frames = hairpins(folded)
        found.append(value(metric, compared(ensemble_of(frames * [stretch, 1.0, 1.0]))[0]))
    assert found == sorted(found)
    assert found[-1] > found[0]


def test_lost_frames_count_in_every_comparison():
    ensemble = samples(1 / 3, n_trajectories=20)
    lost = replace(ensemble, alive_until=np.where(np.arange(20) < 10, 0, 50))
    whole, half = compared(ensemble)[0], compared(lost)[0]
    for metric in COMPARED:
        # Free energies of folding are of living frames, and so are the definitions of others.
        if metric == "dG_fold" or metric.startswith(("bioemu", "two_for_one")):
            continue
        better = value(metric, half) - value(metric, whole)
        worse = -better if registry.metric(metric).direction in ("max", "target") else better
        assert worse > (0.0 if metric == "coverage" else 0.01), metric


def test_frames_beyond_the_grid_cost_their_distance():
    comparison, seen = compared(samples(0.6))
    edges = bundle().edges["tic1"]
    ones = np.ones((bundle().n_microstates, 1))
    found = []
    for place in (edges[-1] + 7.0, edges[-1]):
        moved = tally(replace(seen, tics=np.full_like(seen.tics, place)), bundle().definition)
        model = distributions(moved, np.ones((24, 1)), ones)
        found.append(line_distance(replace(comparison, model=model), "tic1")[0])
    assert found[0] - found[1] == pytest.approx(7.0, rel=1e-5)


def test_mirrored_chains_are_seen_by_handedness_and_by_what_has_a_sense():
    right, _ = compared(samples(0.4))
    wrong, _ = compared(samples(0.4, mirrored=True))
    assert value("handedness", right) > 0.95
    assert value("handedness", wrong) < 0.05
    blind = {"w1_tic1", "fes_rmse", "kl_2d", "rg_w1", "q_w1", "macro_pop", "pair_distance_js"}
    for metric in blind:
        assert value(metric, right) == pytest.approx(value(metric, wrong), abs=1e-4), metric
    assert value("dihedral_js", wrong) > value("dihedral_js", right) + 0.1
    # The native contacts of a mirror image are at another place: it is not folded.
    assert value("native_population", right) > 0.3
    assert value("native_population", wrong) == 0.0
    assert value("gdt_ts", wrong) < value("gdt_ts", right)


def test_a_resample_of_dead_trajectories_is_as_far_as_it_gets():
    ensemble = samples(0.4, n_trajectories=3)
    dead = Ensemble.from_arrays(
        SYSTEM, ensemble.trajectories, frame_interval=1.0, alive_until=[0, 0, 50]
    )
    comparison, _ = compared(dead, taken=[2, 1, 0])
    assert comparison.model.dead[0] == 1.0
    for metric in ("js_2d", "dihedral_js", "angle_js", "pair_distance_js"):
        assert value(metric, comparison) == pytest.approx(1.0), metric
    for metric in ("native_population", "coverage", "precision", "rmsd_below_2p5"):
        assert value(metric, comparison) == 0.0, metric
    assert value("w1_tic1", comparison) > 1.0
    assert value("bond_w1", comparison) > 1.0
    # Nothing that is scored is worse than a system that failed.
    for metric in METRICS:
        spec = registry.metric(metric)
        if spec.ranked and spec.direction == "min":
            assert 0.0 < value(metric, comparison) <= spec.penalty, metric
    for metric in METRICS:
        if registry.metric(metric).group in ("structure", "gate") and metric != "rmsd_below_2p5":
            assert np.isnan(value(metric, comparison)), metric


def test_penalties_of_distances_hold_for_the_longest_chain():
    longest = max(system.n_beads for system in registry.systems())
    chain = random_chains(1, longest, 0)[0].astype(np.float32)
    edges = marginal_edges(chain, np.zeros((2, 2), np.float32), np.ones(2))
    for metric, name in (("rg_w1", "rg"), ("end_to_end_w1", "end_to_end")):
        assert registry.metric(metric).penalty >= edges[name][-1], metric
    # The deviation is largest from a compact native structure.
    assert registry.metric("rmsd_w1").penalty >= np.hypot(edges["rg"][-1], 20.0)


def test_native_frames_have_the_best_structure():
    still = ensemble_of(np.repeat(NATIVE[None, None], 12, axis=0))
    comparison, _ = compared(still)
    for metric in ("gdt_ts", "gdt_ha", "gdt_ts_native", "rmsd_below_2p5", "handedness"):
        assert value(metric, comparison) == pytest.approx(1.0, abs=1e-3), metric
    for metric in ("rmsd_p1", "rmsd_native", "clash_rate", "bond_violation_rate"):
        assert value(metric, comparison) == pytest.approx(0.0, abs=0.02), metric
    assert np.isnan(value("tm", comparison))
    assert "28 beads" in METRICS["tm"].note(comparison)
    assert "10000" in METRICS["gdt_ts"].note(comparison)


def test_statistics_are_counted_of_the_subset_or_of_all():
    assert {name for name, one in STATISTICS.items() if one.frames == "all"} == {
        "two_for_one_plane"
    }
    assert structure.CLASH.kind == "sums"
