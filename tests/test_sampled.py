"""Frames that stand for an ensemble, and whether a simulation was long enough."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_rows import PROTOCOL, SEED, bundle, samples, scored, statistics, trajectories

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import Ensemble, Statistic, multiplicities, score
from cgbench.evaluate.distributions import distributions
from cgbench.evaluate.frame_choice import gather_frames, searched_subset, seeded_subset
from cgbench.evaluate.sampled import (
    BinnedFrames,
    SearchedFrames,
    sample,
    searched_weights,
    subset_weights,
    weighted_bins,
)
from cgbench.evaluate.simulation_convergence import disagreeing_halves
from cgbench.evaluate.survey import survey_ensemble


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 30), st.sampled_from([5, 900]))
def test_bins_are_kept_and_weighted(seed, k, m, width):
    random = np.random.default_rng(seed)
    bins = random.integers(-1, width, size=(k, m)).astype(np.int32)
    kept = BinnedFrames.of(bins, width)
    np.testing.assert_array_equal(kept.bins, bins)
    weights = random.random((m, 40))
    expected = np.zeros((width, 40))
    for row in bins:
        np.add.at(expected, row[row >= 0], weights[row >= 0])
    for workers in (1, 3):
        found = weighted_bins(kept, weights, workers)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert kept.steps.dtype == np.uint8 or width > 255


def frames_of(random, m, n_trajectories=4, n_states=5):
    return {
        "trajectory": random.integers(n_trajectories, size=m).astype(np.int32),
        "microstate": random.integers(n_states, size=m).astype(np.int32),
        "weight": random.random(m) + 0.1,
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 60))
def test_searched_frames_stand_for_all(seed, m):
    """Where every frame is searched, the strata give each frame the weight that it has."""
    random = np.random.default_rng(seed)
    labels = frames_of(random, m)
    taken = random.integers(0, 3, size=(4, 3)).astype(float)
    taken[:, 0] = 1.0
    states = random.random((5, 3))
    exact = labels["weight"][:, None] * taken[labels["trajectory"]] * states[labels["microstate"]]
    total = exact.sum(axis=0)
    exact = exact / np.where(total > 0, total, 1.0)
    mass, population = np.zeros((5, 3)), np.zeros((5, 3))
    np.add.at(mass, labels["microstate"], exact)
    own = labels["weight"][:, None] * taken[labels["trajectory"]]
    np.add.at(population, labels["microstate"], own)
    searched = SearchedFrames(
        **labels, closest=random.random(m) < 0.3, scores={"gdt_ts": np.ones(m)}, population="all"
    )
    found = searched_weights(searched, taken, mass, population)
    np.testing.assert_allclose(found, exact, atol=1e-9)
    np.testing.assert_allclose(subset_weights(searched, taken, mass), exact, atol=1e-9)


def test_a_subset_carries_the_mass_of_all_frames():
    ensemble = trajectories(n_trajectories=20, n_frames=60)
    taken = multiplicities(SEED, 20, 6)
    weights = np.random.default_rng(0).random((bundle().n_microstates, 7)) + 0.5
    whole = survey_ensemble(ensemble, bundle(), seed=SEED).tally
    spread = distributions(whole, taken, weights)
    subset = whole.subset
    owned = subset_weights(subset, taken, spread.state_mass)
    found = np.zeros_like(spread.state_mass)
    np.add.at(found, subset.microstate, owned)
    np.testing.assert_allclose(found, spread.state_mass, atol=1e-12)
    # A part of the frames, drawn by seed, gives nearly the same distributions.
    part = np.sort(np.random.default_rng(1).choice(len(subset), 400, replace=False))
    few = sample(
        subset.coordinates[part],
        subset.trajectory[part],
        subset.microstate[part],
        subset.weight[part],
        bundle().definition,
        [],
    )
    share = subset_weights(few, taken, spread.state_mass)
    np.testing.assert_allclose(share.sum(axis=0), 1.0)
    masses = np.zeros_like(spread.state_mass)
    np.add.at(masses, few.microstate, share)
    present = np.isin(np.arange(len(masses)), few.microstate)
    np.testing.assert_allclose(masses[present], spread.state_mass[present], rtol=0.05, atol=1e-3)


def test_samples_of_parts_join():
    ensemble = samples(0.5, n_trajectories=4, n_frames=30)
    whole = survey_ensemble(ensemble, bundle(), seed=SEED).tally
    parts = []
    for mask in (whole.subset.trajectory < 2, whole.subset.trajectory >= 2):
        cut = whole.subset
        parts.append(
            replace(
                cut,
                trajectory=cut.trajectory[mask],
                microstate=cut.microstate[mask],
                weight=cut.weight[mask],
                coordinates=cut.coordinates[mask],
                bins={
                    name: BinnedFrames.of(one.bins[:, mask], one.width)
                    for name, one in cut.bins.items()
                },
                sums={name: values[mask] for name, values in cut.sums.items()},
            )
        )
    joined = parts[0] + parts[1]
    for name, one in whole.subset.bins.items():
        np.testing.assert_array_equal(joined.bins[name].bins, one.bins)
    np.testing.assert_array_equal(joined.coordinates, whole.subset.coordinates)
    with pytest.raises(ValidationError, match="different statistics"):
        parts[0] + replace(parts[1], bins={})


def test_frames_are_chosen_by_seed_and_bounded():
    frames = np.arange(0, 3000, 3)
    chosen = seeded_subset(frames, 100, 7)
    np.testing.assert_array_equal(chosen, seeded_subset(frames, 100, 7))
    assert len(np.unique(chosen)) == 100
    assert (np.diff(chosen) > 0).all()
    assert np.isin(chosen, frames).all()
    assert not np.array_equal(chosen, seeded_subset(frames, 100, 8))
    assert seeded_subset(frames, 2000, 7) is frames
    constants = registry.constants()
    n = 3 * constants.subset_frames
    rmsd = np.random.default_rng(0).random(n)
    present = np.arange(n) % 2 == 0
    drawn = seeded_subset(np.flatnonzero(present), constants.subset_frames, 1)
    closest, others = searched_subset(rmsd, present, drawn, 1)
    assert (len(closest), len(others)) == (constants.search_closest, constants.search_frames)
    assert not np.isin(closest, others).any()
    assert rmsd[closest].max() < np.delete(rmsd[present], closest // 2).min()
    parts = [np.arange(12.0).reshape(2, 2, 3), np.zeros((0, 2, 3)), 20 + np.zeros((1, 2, 3))]
    found = gather_frames(parts, np.array([1, 2]))
    np.testing.assert_array_equal(found, [parts[0][1], parts[2][0]])
    assert gather_frames(parts, np.array([], dtype=np.int64)).shape == (0, 2, 3)


def test_scores_do_not_depend_on_the_workers():
    ensemble = trajectories(n_trajectories=6, n_frames=50)
    rows = [scored(ensemble, workers=workers) for workers in (1, 2, 5)]
    for row in rows[1:]:
        assert row.result == rows[0].result
        for metric, values in rows[0].resamples.items():
            np.testing.assert_array_equal(row.resamples[metric], values)
    assert set(rows[0].timings) >= {"observables", "superpositions", "weights", "metrics"}
    assert "reference weights" not in rows[0].timings


def test_unequal_lengths_and_lost_frames():
    ensemble = trajectories(n_trajectories=5, n_frames=60)
    frames = [part[: 12 * index] for index, part in enumerate(ensemble.trajectories)]
    frames[3] = frames[3].copy()
    frames[3][20:] = np.nan
    row = scored(Ensemble.from_arrays(ensemble.system, frames, frame_interval=1.0))
    assert row.result.n_frames == 120
    assert row.result.dead_fraction == pytest.approx(16 / 120)
    assert 0 < row.result.effective_frames <= 104
    for metric in ("gdt_ts", "dihedral_js", "clash_rate"):
        assert row.result.metrics[metric].value is not None


def test_a_suite_statistic_that_fails_is_an_error():
    broken = Statistic("x", 1, "subset", "sums", lambda _: 1, lambda frames, _: 1 / 0)
    subset = survey_ensemble(samples(0.5, n_trajectories=2), bundle(), seed=SEED).tally.subset
    with pytest.raises(ZeroDivisionError):
        sample(
            subset.coordinates,
            subset.trajectory,
            subset.microstate,
            subset.weight,
            bundle().definition,
            [broken],
        )


def test_a_long_simulation_has_converged_and_a_short_one_has_not():
    long = scored(trajectories(n_trajectories=60, n_frames=400))
    assert long.result.simulation_converged is True, long.result.simulation_converged_reason
    short = scored(trajectories(n_trajectories=4, n_frames=12))
    assert short.result.simulation_converged is False
    assert "events are fewer than 10" in short.result.simulation_converged_reason
    frames = np.repeat(bundle().start_coordinates[:, None], 20, axis=1)
    still = Ensemble.from_arrays(short.result.system, list(frames), frame_interval=1.0)
    reason = scored(still).result.simulation_converged_reason
    assert "w1_tic1" in reason
    assert "start frames held still" in reason
    unordered = scored(samples(0.3)).result
    assert unordered.simulation_converged is None
    assert unordered.simulation_converged_reason == "samples without time order"


def test_halves_that_drift_are_told():
    ensemble = trajectories(n_trajectories=40, n_frames=200)
    steady = survey_ensemble(ensemble, bundle(), seed=SEED).observables
    assert disagreeing_halves(steady, bundle(), lag_frames=3, seed=SEED) == []
    drift = np.linspace(0.0, 4.0, 200, dtype=np.float32)
    moving = replace(steady, rg=steady.rg + np.tile(drift, 40))
    assert disagreeing_halves(moving, bundle(), lag_frames=3, seed=SEED) == [
        "the mean radius of gyration"
    ]


def test_timings_of_the_reference_are_told_where_it_was_counted():
    row = score(
        samples(0.3, n_trajectories=2), bundle(), protocol=PROTOCOL, seed=SEED, n_resamples=3
    )
    assert row.timings["reference counts"] >= 0.0
    assert statistics().timings["reference weights"] >= 0.0
