"""Reference bundles: known answers on a two-state chain."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_reference import FOLDED_POPULATION, TIMESCALE, toy_input

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.observables import Observables, observe
from cgbench.evaluate.reference import (
    build_from_trajectories,
    build_reference,
    choose_start_frames,
    frame_weights,
)
from cgbench.evaluate.reference_bundle import Basins, TimescaleRow
from cgbench.evaluate.reference_statistics import (
    count_events,
    handedness_bound,
    timescale_statement,
)
from cgbench.units import thermal_energy

BASINS = Basins(folded_q=0.8, folded_rmsd=2.0, unfolded_q=0.3)


@pytest.fixture(scope="module")
def toy():
    source, folded = toy_input()
    return source, folded, build_from_trajectories(source, n_resamples=60)


def observables_of(q, trajectory=None, alive=None, handedness=None, rmsd=None):
    """Observables of which only the fraction of native contacts matters."""
    q = np.asarray(q, dtype=np.float32)
    owners = np.zeros(len(q), dtype=np.int32) if trajectory is None else np.asarray(trajectory)
    return Observables(
        trajectory=owners.astype(np.int32),
        microstate=np.zeros(len(q), dtype=np.int32),
        tics=np.zeros((len(q), 2), dtype=np.float32),
        rg=q,
        end_to_end=q,
        q=q,
        rmsd=np.zeros_like(q) if rmsd is None else np.asarray(rmsd, dtype=np.float32),
        handedness=np.ones_like(q) if handedness is None else handedness,
        centre_distance=np.zeros_like(q),
        alive=np.ones(len(q), dtype=bool) if alive is None else np.asarray(alive),
        n_trajectories=int(owners.max()) + 1,
    )


def test_folded_population_is_the_known_one_although_sampling_is_not(toy):
    _, folded, bundle = toy
    assert folded.mean() > FOLDED_POPULATION + 0.3
    population = bundle.metadata.folded_population
    assert population.value == pytest.approx(FOLDED_POPULATION, abs=0.08)
    assert population.lo < FOLDED_POPULATION < population.hi
    assert population.lo < population.value < population.hi
    assert bundle.metadata.weights_status == "ok"


def test_events_are_those_of_the_hidden_chain(toy):
    _, folded, bundle = toy
    change = np.diff(folded.astype(int), axis=1)
    assert bundle.metadata.n_folding == (change == 1).sum()
    assert bundle.metadata.n_unfolding == (change == -1).sum()
    assert bundle.converged is True


def test_slowest_timescale_is_the_known_one_at_every_lag(toy):
    _, _, bundle = toy
    rows = bundle.metadata.timescales
    assert [row.lag_ps for row in rows] == [1.0, 2.0, 3.0, 6.0, 9.0]
    for row in rows:
        assert row.timescales_ps[0] == pytest.approx(TIMESCALE, rel=0.25)
        assert row.fraction_outside == 0.0
    slowest = bundle.metadata.slowest_timescale_ps
    assert slowest.lo < TIMESCALE < slowest.hi


def test_native_state_is_where_the_native_conformer_is(toy):
    _, _, bundle = toy
    metadata = bundle.metadata
    assert (bundle.native_tics >= 0).all()
    nearest = bundle.observables.rmsd.argmin()
    assert metadata.native_microstate == bundle.observables.microstate[nearest]
    assert metadata.native_macrostate == bundle.macrostate[metadata.native_microstate]
    population = bundle.stationary[bundle.macrostate == metadata.native_macrostate].sum()
    assert population == pytest.approx(metadata.folded_population.value, abs=0.02)
    assert bundle.folded_microstate[metadata.native_microstate]
    weights = frame_weights(bundle)
    assert (bundle.observables.q[bundle.start_frames[0]] > 0.8).all()
    assert weights[bundle.observables.q > 0.8].sum() == pytest.approx(
        metadata.folded_population.value
    )


def test_distributions_hold_all_of_the_reference(toy):
    _, _, bundle = toy
    constants = registry.constants()
    weights = frame_weights(bundle)
    for name, histogram in bundle.histograms.items():
        np.testing.assert_allclose(histogram.sum(axis=-1), 1.0, atol=1e-9)
        bins = constants.q_bins if name == "q" else constants.marginal_bins
        if name == "dihedral":
            assert histogram.shape == (7, constants.dihedral_bins)
        else:
            middle = 0.5 * (bundle.edges[name][1:] + bundle.edges[name][:-1])
            values = (
                bundle.observables.tics[:, int(name[3:]) - 1]
                if name.startswith("tic")
                else getattr(bundle.observables, name)
            )
            width = np.diff(bundle.edges[name])[0]
            assert histogram @ middle == pytest.approx(weights @ values, abs=width)
            assert histogram.shape == (bins,)
    assert bundle.fes_probability.sum() == pytest.approx(1.0)
    assert bundle.fes_probability.shape == bundle.fes.shape == (80, 80)
    np.testing.assert_allclose(bundle.tic_mean, weights @ bundle.observables.tics, rtol=1e-9)
    spread = weights @ (bundle.observables.tics - bundle.tic_mean) ** 2
    np.testing.assert_allclose(bundle.tic_sigma**2, spread, rtol=1e-9)
    for axis in range(2):
        low, high = bundle.fes_edges[axis, [0, -1]]
        assert low == pytest.approx(bundle.observables.tics[:, axis].min() - 0.5, abs=1e-5)
        assert high == pytest.approx(bundle.observables.tics[:, axis].max() + 0.5, abs=1e-5)


def test_free_energy_integrates_to_the_populations(toy):
    _, _, bundle = toy
    assert bundle.fes.min() == 0.0
    mass = np.exp(-bundle.fes / thermal_energy(bundle.temperature))
    mass /= mass.sum()
    middle = 0.5 * (bundle.fes_edges[0][1:] + bundle.fes_edges[0][:-1])
    folded = mass[middle > 0.5 * (middle.min() + middle.max())].sum()
    assert folded == pytest.approx(bundle.metadata.folded_population.value, abs=0.02)


def test_kept_frames_and_structures_are_frames_of_the_trajectories(toy):
    source, folded, bundle = toy
    flat = np.concatenate(source.trajectories)
    np.testing.assert_array_equal(bundle.subset_coordinates, flat[bundle.subset_frames])
    assert (np.diff(bundle.subset_frames) > 0).all()
    assert len(bundle.subset_frames) == min(len(flat), registry.constants().subset_frames)
    assert bundle.macrostate_structures.shape == (bundle.metadata.n_macrostates, 10, 3)
    native = bundle.metadata.native_macrostate
    for index, structure in enumerate(bundle.macrostate_structures):
        place = np.flatnonzero((flat == structure).all(axis=(1, 2)))
        assert len(place) == 1
        owner = bundle.macrostate[bundle.observables.microstate[place[0]]]
        assert owner == index
        assert folded.ravel()[place[0]] == (index == native)
    distances = np.linalg.norm(
        bundle.observables.tics - bundle.centres[bundle.observables.microstate], axis=1
    )
    np.testing.assert_allclose(bundle.observables.centre_distance, distances, atol=1e-5)
    assert bundle.metadata.basins.folded_rmsd >= registry.constants().folded_rmsd_minimum


def test_no_intact_chain_leaves_the_grids(toy):
    _, _, bundle = toy
    rod = np.zeros((1, 10, 3), dtype=np.float32)
    rod[0, :, 0] = registry.constants().bond_maximum * np.arange(10)
    found = observe(bundle, [rod])
    for name in ("rg", "end_to_end", "rmsd"):
        assert getattr(found, name)[0] <= bundle.edges[name][-1] * (1 + 1e-6)
    assert found.rg[0] == pytest.approx(bundle.edges["rg"][-1])
    assert found.end_to_end[0] == pytest.approx(bundle.edges["end_to_end"][-1])


def test_builds_are_repeatable_and_depend_on_everything(toy):
    source, _, _ = toy
    short = replace(source, trajectories=source.trajectories[:60], valid=source.valid[:2400])
    first = build_from_trajectories(short, n_resamples=3)
    assert build_from_trajectories(short, n_resamples=3).fingerprint == first.fingerprint
    assert build_from_trajectories(short, n_resamples=3, seed=5).fingerprint != first.fingerprint
    moved = [trajectory.copy() for trajectory in short.trajectories]
    moved[3][5, 2, 1] += 0.5
    other = build_from_trajectories(replace(short, trajectories=moved), n_resamples=3)
    assert other.fingerprint != first.fingerprint


def test_frames_that_failed_screening_count_nowhere(toy):
    source, _, _ = toy
    short = replace(
        source,
        trajectories=[trajectory.copy() for trajectory in source.trajectories[:60]],
        valid=source.valid[:2400].copy(),
    )
    damaged = np.array([100, 1500])
    short.valid[damaged] = False
    short.trajectories[2][20] = np.nan
    short.trajectories[37][20] = 50.0
    bundle = build_from_trajectories(short, n_resamples=2)
    np.testing.assert_array_equal(np.flatnonzero(~bundle.observables.alive), damaged)
    assert not frame_weights(bundle)[damaged].any()
    assert bundle.metadata.tica_pairs == 60 * 37 - 4
    assert not set(damaged) & set(bundle.start_frames)


def test_weights_of_some_trajectories_know_nothing_of_the_others(toy):
    _, _, bundle = toy
    chosen = list(range(0, 250, 2))
    weights = frame_weights(bundle, chosen)
    owners = bundle.observables.trajectory
    assert weights.shape == (bundle.observables.n_frames,)
    assert weights.sum() == pytest.approx(1.0)
    assert not weights[owners % 2 == 1].any()
    part = bundle.observables.select(chosen)
    alone = replace(
        bundle,
        observables=part,
        metadata=bundle.metadata.model_copy(update={"n_trajectories": len(chosen)}),
    )
    np.testing.assert_allclose(frame_weights(alone), weights[owners % 2 == 0], rtol=1e-7)
    np.testing.assert_allclose(frame_weights(bundle, range(250)), frame_weights(bundle), rtol=1e-7)
    with pytest.raises(ValidationError, match="out of range"):
        frame_weights(bundle, [250])


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**16), st.booleans())
@settings(max_examples=60, deadline=None)
def test_start_frames_are_each_the_furthest_from_those_before(n, d, seed, ties):
    generator = np.random.default_rng(seed)
    points = generator.integers(3, size=(n, d)) if ties else generator.normal(size=(n, d))
    used = generator.random(n) < 0.8
    first = int(generator.integers(n))
    used[first] = True
    count = int(generator.integers(1, used.sum() + 1))
    chosen = choose_start_frames(points, first, count, used)
    assert len(set(chosen)) == count
    assert used[chosen].all()
    assert chosen[0] == first
    for index in range(1, count):
        gaps = np.linalg.norm(points[:, None] - points[chosen[:index]], axis=2).min(axis=1)
        assert gaps[chosen[index]] == pytest.approx(gaps[used].max())
    with pytest.raises(ValidationError, match="too few frames"):
        choose_start_frames(points, first, int(used.sum()) + 1, used)


def test_an_event_is_a_passage_from_core_to_core_within_a_trajectory():
    #     folds ----------  excursion ----  unfolds  | next trajectory: no passage
    q = [0.1, 0.5, 0.9, 0.5, 0.4, 0.9, 0.5, 0.29, 0.1, 0.9, 0.5, 0.31, 0.95, 0.2]
    owner = [0] * 9 + [1] * 5
    assert count_events(observables_of(q, owner), BASINS) == (1, 2)
    # The frame that reaches the folded core is dead.
    alive = np.arange(14) != 2
    assert count_events(observables_of(q, owner, alive), BASINS) == (1, 2)
    alive[5] = False
    assert count_events(observables_of(q, owner, alive), BASINS) == (0, 1)


def test_a_frame_with_the_contacts_of_another_fold_is_no_folded_one():
    q, rmsd = [0.1, 0.9, 0.1, 0.9, 0.9], [9.0, 5.0, 9.0, 1.0, 5.0]
    # Frame 1 has the contacts but not the fold; frame 4 has left it without unfolding.
    assert count_events(observables_of(q, rmsd=rmsd), BASINS) == (1, 0)


def test_handedness_bound_is_over_trajectories_with_enough_folded_frames():
    same = np.ones(40, dtype=np.float32)
    same[:20:2] = 2 / 3
    q = np.full(40, 0.9)
    q[32:] = 0.1
    owner = np.repeat([0, 1], 20)
    # Trajectory 0 has five sixths of the signs, trajectory 1 all of them, in twelve folded frames.
    bound = handedness_bound(observables_of(q, owner, handedness=same), BASINS)
    assert bound == pytest.approx(np.percentile([5 / 6, 1.0], 5))
    q[25:] = 0.1
    bound = handedness_bound(observables_of(q, owner, handedness=same), BASINS)
    assert bound == pytest.approx(5 / 6)
    nothing = observables_of(np.zeros(40), owner, handedness=same)
    assert handedness_bound(nothing, BASINS) is None


@pytest.mark.parametrize(
    ("slowest", "words"),
    [
        ((100.0, 150.0, 210.0), "still grows with the lag"),
        ((100.0, 103.0, 105.0), "does not depend on the lag"),
        ((100.0, 90.0, 60.0), "shrinks with the lag"),
        ((None, 90.0, None), "fewer than two lags"),
    ],
)
def test_statement_says_what_the_timescales_do(slowest, words):
    rows = [
        TimescaleRow(lag_ps=lag, timescales_ps=(value,), fraction_outside=0.0)
        for lag, value in zip((5.0, 10.0, 20.0), slowest, strict=True)
    ]
    assert words in timescale_statement(rows, 10.0)
    # Lags far from the model's own say nothing of it.
    assert "fewer than two lags" in timescale_statement(rows, 1000.0)


def test_lags_must_be_whole_frames_and_shorter_than_trajectories():
    with pytest.raises(ValidationError, match="no whole number of frames"):
        build_from_trajectories(toy_input(n_trajectories=5, tica_lag_ps=2.5)[0])
    with pytest.raises(ValidationError, match="no lagged pairs"):
        build_from_trajectories(toy_input(n_trajectories=5, tica_lag_ps=40.0)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": "YYDPETGTWA"}, "not the sequence"),
        ({"trajectories_known": False}, "trajectory index|known frame interval"),
        ({"frame_interval": None}, "frame interval"),
    ],
)
def test_stores_that_cannot_be_a_reference_are_refused(change, message):
    metadata = {"sequence": "YYDPETGTWY", "trajectories_known": True, "frame_interval": 1.0}
    store = SimpleNamespace(path="some.zarr", metadata=SimpleNamespace(**metadata | change))
    with pytest.raises(ValidationError, match=message):
        build_reference(store, registry.system("chignolin-sample"))
