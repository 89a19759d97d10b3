"""The reference work's analysis on chains whose populations, passages and fluxes are known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from toy_paper import (
    NATIVE_STATE,
    SHAPES,
    THREE,
    bundle_of,
    embedded,
    hidden,
    stationary,
    three_state_bundle,
    three_state_ensemble,
)

from cgbench import registry
from cgbench.evaluate import Ensemble
from cgbench.evaluate.msm import fit_markov_model
from cgbench.evaluate.paper import paper_analysis, paper_study, reactive_flux
from cgbench.evaluate.paper.model import PaperModel
from cgbench.evaluate.paper.readings import passages
from cgbench.evaluate.weights import count_transitions

#: 10 ps of the analysis at 2 ps a frame.
LAG = 5
UNFOLDED, MIDDLE = 0, 1


@cache
def known():
    states, ensemble = three_state_ensemble(energy=(0.0, -1.0, -3.0))
    return states, ensemble, paper_study(ensemble, three_state_bundle())


def by_state(table):
    """The macrostates by hidden state: unfolded, intermediate, native."""
    order = sorted(table.macrostates, key=lambda row: -row.rmsd_mean)
    assert len(order) == 3
    return order


def test_populations_are_those_of_the_chain():
    states, _, study = known()
    kept = states[:, 60:]
    # The same from the hidden states, by another library.
    from deeptime.markov import TransitionCountEstimator
    from deeptime.markov.msm import MaximumLikelihoodMSM

    counts = TransitionCountEstimator(LAG, "sliding").fit_fetch(list(kept))
    twin = MaximumLikelihoodMSM(reversible=True).fit_fetch(counts).stationary_distribution
    found = np.array([row.probability for row in by_state(study.analysis.table)])
    np.testing.assert_allclose(found, twin, atol=0.005)
    np.testing.assert_allclose(found, stationary(THREE), atol=0.04)
    # A microstate of few frames may be put into the wrong macrostate.
    frames = [row.n_frames for row in by_state(study.analysis.table)]
    assert sum(frames) == kept.size
    np.testing.assert_allclose(frames, [(kept == state).sum() for state in range(3)], atol=10)


def test_rows_are_weighted_averages_of_their_frames():
    states, ensemble, study = known()
    kept = states[:, 60:]
    energies = np.array(ensemble.network_energy)[:, 60:]
    for state, row in enumerate(by_state(study.analysis.table)):
        assert row.network_energy_mean == pytest.approx(energies[kept == state].mean(), abs=0.01)
        assert row.network_energy_deviation == pytest.approx(0.3, abs=0.02)
    native = by_state(study.analysis.table)[NATIVE_STATE]
    assert native.index == study.analysis.table.native
    assert native.rmsd_minimum < native.rmsd_mean < 0.3
    assert native.gdt_ts_mean == pytest.approx(1.0)
    assert native.folded_fraction > 0.99
    assert study.analysis.table.label(native.index) == f"{native.index} (native)"
    assert by_state(study.analysis.table)[UNFOLDED].index == study.analysis.table.unfolded
    assert by_state(study.analysis.table)[UNFOLDED].gdt_ts_mean < 0.7


def test_passages_of_each_replica_are_those_of_the_chain():
    states, _, study = known()
    native = (states[:, 60:][:, ::LAG] == NATIVE_STATE).astype(int)
    change = np.diff(native, axis=1)
    found = study.analysis.transitions
    # All but those that a few frames in the wrong macrostate make.
    assert np.abs((change > 0).sum(axis=1) - found.into_native).sum() <= 3
    assert np.abs((change < 0).sum(axis=1) - found.out_of_native).sum() <= 3
    assert found.n_started_unfolded == 32
    reached = int((states[:, 60:] == NATIVE_STATE).any(axis=1).sum())
    assert found.native_from_unfolded == found.folded_from_unfolded == reached


def test_passages_are_counted_once_a_lag_and_ignore_frames_without_a_macrostate():
    # Microstate 3 is entered once and never left: it is outside the connected set.
    rows = [[0, 1, 0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 3, 3, 1, 1], [1, 1, 0, 0, 0, 0, 1, 1]]
    states = np.array(rows)
    states[1, 6:] = 3
    owners = np.repeat(np.arange(3), 8)
    counts = count_transitions(states.ravel(), owners, 4, 3, 2)
    total = counts.total(np.ones(3))
    model = PaperModel(
        microstate=states.ravel(),
        trajectory=owners,
        counts=counts,
        markov=fit_markov_model(total, counts.populations.sum(axis=0), 2),
        macrostate=np.array([0, 1, -1, -1]),
        n_macrostates=2,
        source="chosen here",
        how="by hand",
        lag_ps=2.0,
        frame_interval=1.0,
    )
    folded = np.zeros(24, dtype=bool)
    folded[[3, 20]] = True
    found = passages(
        model,
        native=1,
        given=np.array([2, 0, 1]),
        started_unfolded=np.array([True, False, True]),
        folded=folded,
    )
    # Seen every second frame: 0 0 1 0, then 0 1 − −, then 1 0 0 1.
    assert found.into_native == (1, 1, 1)
    assert found.out_of_native == (0, 1, 1)
    assert found.n_started_unfolded == 2
    assert found.native_from_unfolded == 2
    assert found.folded_from_unfolded == 2


def test_only_trajectories_that_start_unfolded_count_as_recovered():
    states = np.concatenate(
        [hidden(THREE, 8, 300, seed=1), hidden(THREE, 8, 300, seed=2, start=NATIVE_STATE)]
    )
    ensemble = Ensemble.from_arrays(
        "chignolin-sample", list(embedded(states, SHAPES, 1)), frame_interval=2.0
    )
    found = paper_analysis(ensemble, three_state_bundle()).transitions
    assert found.n_started_unfolded == 8
    reached = (states[:8, 30:] == NATIVE_STATE).any(axis=1).sum()
    assert found.native_from_unfolded == reached


def test_fluxes_are_those_of_the_chain_at_the_lag():
    _, _, study = known()
    found = study.analysis.pathways
    masks = np.eye(3, dtype=bool)
    exact = reactive_flux(
        np.linalg.matrix_power(THREE, LAG), stationary(THREE), masks[UNFOLDED], masks[NATIVE_STATE]
    )
    share = exact.net / exact.total
    order = [row.index for row in by_state(study.analysis.table)]
    assert found.source == order[UNFOLDED]
    assert found.target == order[NATIVE_STATE]
    percentages = {path.macrostates: path.percentage for path in found.pathways}
    through, direct = (order[0], order[1], order[2]), (order[0], order[2])
    assert percentages[through] == pytest.approx(100 * share[0, 1], abs=4.0)
    assert percentages[direct] == pytest.approx(100 * share[0, 2], abs=4.0)
    assert sum(percentages.values()) == pytest.approx(100.0, abs=1e-3)
    assert found.total_flux == pytest.approx(exact.total / 10.0, rel=0.2)
    assert found.mean_first_passage_ps == pytest.approx(10.0 / exact.rate, rel=0.2)
    assert found.committor[order[MIDDLE]] == pytest.approx(exact.committor[MIDDLE], abs=0.05)


@pytest.mark.parametrize(
    ("energy", "lowest"), [((0.0, -1.0, -3.0), NATIVE_STATE), ((0.0, -3.0, -2.5), MIDDLE)]
)
def test_the_energy_criterion_says_yes_and_no(energy, lowest):
    _, ensemble = three_state_ensemble(n_frames=300, energy=energy)
    analysis = paper_analysis(ensemble, three_state_bundle())
    found = analysis.energy
    assert found.native_is_lowest_energy == (lowest == NATIVE_STATE)
    assert found.lowest == by_state(analysis.table)[lowest].index
    best_other = min(value for state, value in enumerate(energy) if state != NATIVE_STATE)
    assert found.gap == pytest.approx(energy[NATIVE_STATE] - best_other, abs=0.05)
    assert found.models_in_favour == (10 if lowest == NATIVE_STATE else 0)


def test_energies_that_are_handed_over_count_and_none_means_no_criterion():
    states, ensemble = three_state_ensemble(n_frames=300)
    unknown = paper_analysis(ensemble, three_state_bundle())
    assert unknown.energy is None
    assert any("energies are not known" in note for note in unknown.notes)
    given = [np.array([-5.0, 0.0, 0.0])[row] for row in states]
    found = paper_analysis(ensemble, three_state_bundle(), energies=given)
    assert found.energy.lowest == by_state(found.table)[UNFOLDED].index


def test_nothing_depends_on_the_order_of_trajectories():
    _, ensemble, study = known()
    order = np.random.default_rng(0).permutation(32)
    shuffled = replace(
        ensemble,
        trajectories=[ensemble.trajectories[index] for index in order],
        alive_until=ensemble.alive_until[order],
        network_energy=[ensemble.network_energy[index] for index in order],
    )
    again = paper_study(shuffled, three_state_bundle())
    first, second = study.analysis, again.analysis
    assert second.transitions.into_native == tuple(
        np.array(first.transitions.into_native)[order].tolist()
    )
    assert order[again.trace.index] == study.trace.index
    np.testing.assert_array_equal(study.fes, again.fes)
    ignored = {"transitions"}
    assert first.model_dump(exclude=ignored) == second.model_dump(exclude=ignored)


def test_the_spread_is_about_a_third_of_the_standard_error():
    # The label says so: here the standard error is known from chains that are made again.
    probabilities = []
    for seed in range(20, 28):
        _, ensemble = three_state_ensemble(n_frames=200, seed=seed)
        native = by_state(paper_analysis(ensemble, three_state_bundle()).table)[NATIVE_STATE]
        probabilities.append((native.probability, native.probability_spread.deviation))
    values, deviations = np.array(probabilities).T
    assert 0.2 < deviations.mean() / values.std(ddof=1) < 0.55


def test_dense_frames_are_thinned_out_to_those_of_the_reference_work():
    states, _ = three_state_ensemble(n_trajectories=8, n_frames=4000)
    ensemble = Ensemble.from_arrays(
        "chignolin-sample", list(embedded(states, SHAPES, 1)), frame_interval=0.1
    )
    found = paper_analysis(ensemble, three_state_bundle())
    assert found.table.frame_interval_ps == pytest.approx(0.2)
    assert found.table.n_frames == 8 * 1800
    assert found.table.lag_ps == pytest.approx(10.0)
    assert any("One frame of 2 is used" in note for note in found.notes)
    assert any("Not simulated as in the reference work" in note for note in found.notes)


@pytest.mark.slow
def test_trajectories_of_the_published_length():
    # Chignolin: 32 trajectories of 1.56 ns, a frame every 0.2 ps.
    rare = np.eye(3) + 0.05 * (THREE - np.eye(3))
    states = hidden(rare, 32, 7800, seed=3)
    ensemble = Ensemble.from_arrays(
        "chignolin-sample",
        list(embedded(states, SHAPES, 1)),
        frame_interval=0.2,
        network_energy=list(states * -1.0),
    )
    found = paper_analysis(ensemble, three_state_bundle())
    assert found.status == "ok"
    assert found.table.n_frames == 32 * 7020
    assert found.energy.native_is_lowest_energy


def test_frames_after_a_bad_one_are_left_out():
    _, ensemble = three_state_ensemble()
    alive = ensemble.alive_until.copy()
    alive[:8] = 300
    cut = paper_analysis(replace(ensemble, alive_until=alive), three_state_bundle())
    assert cut.status == "ok"
    assert cut.table.n_frames == 32 * 540 - 8 * 300
    assert cut.alive_fraction == pytest.approx(cut.table.n_frames / (32 * 540))


def test_short_trajectories_get_a_shorter_lag_and_a_note():
    _, ensemble = three_state_ensemble(n_trajectories=64, n_frames=16)
    found = paper_analysis(ensemble, three_state_bundle())
    assert found.table.lag_ps == 6.0
    assert any("lag is 6 ps instead of 10 ps" in note for note in found.notes)


def test_samples_have_no_kinetics():
    frames = embedded(hidden(THREE, 4, 50, 1), SHAPES, 1)
    found = paper_analysis(
        Ensemble.from_arrays("chignolin-sample", list(frames)), three_state_bundle()
    )
    assert found.status == "n/a"
    assert found.table is None
    assert found.reference is not None


def test_the_reference_has_the_same_table():
    bundle = three_state_bundle()
    table = known()[2].analysis.reference
    found = np.array([row.probability for row in by_state(table)])
    np.testing.assert_allclose(found, stationary(THREE), atol=0.05)
    assert table.lag_ps == 2.0
    assert table.n_microstates == bundle.n_microstates
    native = table.macrostates[table.native]
    assert native.gdt_ts_mean == pytest.approx(1.0)
    everything = count_transitions(
        bundle.observables.microstate, bundle.observables.trajectory, 12, 80, 2
    )
    assert table.n_frames == everything.populations.sum()


def test_protein_g_has_its_four_published_macrostates():
    generator = np.random.default_rng(8)
    steps = generator.normal(size=(4, 55, 3)) + np.array([1.0, 0.0, 0.0])
    steps *= 3.8 / np.linalg.norm(steps, axis=-1, keepdims=True)
    shapes = np.concatenate([np.zeros((4, 1, 3)), steps.cumsum(axis=1)], axis=1)
    chain = np.array(
        [[0.97, 0.03, 0, 0], [0.02, 0.96, 0.02, 0], [0, 0.02, 0.96, 0.02], [0, 0, 0.02, 0.98]]
    )
    native = shapes[3].astype(np.float32)
    bundle = bundle_of("proteing", shapes, hidden(chain, 50, 100, 2), native)
    ensemble = Ensemble.from_arrays(
        "proteing", list(embedded(hidden(chain, 24, 300, 3), shapes, 4)), frame_interval=2.0
    )
    found = paper_analysis(ensemble, bundle)
    assert found.status == "ok"
    assert len(found.table.macrostates) == 4
    assert found.table.macrostates_source == "repository"
    assert "4, as stated" in found.table.macrostates_how
    assert len(found.reference.macrostates) == 4
    names = {element.name for element in registry.secondary_structure("proteing")}
    native_row = found.table.macrostates[found.table.native]
    assert set(native_row.propensities) == names
    assert all(value == 1.0 for value in native_row.propensities.values())
    other = found.table.macrostates[found.table.unfolded]
    assert all(value == 0.0 for value in other.propensities.values())
