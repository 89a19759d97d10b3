"""Markov models and weights against chains with known answers and another library."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cgbench.errors import ValidationError
from cgbench.evaluate import msm
from cgbench.evaluate.weights import (
    count_transitions,
    frame_weights,
    multiplicities_of,
    solve_weights,
    uniform_weights,
)
from cgbench.units import thermal_energy


def reversible_chain(n_states, generator, rare=1.0):
    """A reversible transition matrix, its stationary distribution and its flows."""
    flow = generator.random((n_states, n_states)) + np.diag(5.0 * np.arange(1, n_states + 1))
    half = n_states // 2
    flow[:half, half:] *= rare
    flow[half:, :half] *= rare
    flow = flow + flow.T
    flow /= flow.sum()
    stationary = flow.sum(axis=1)
    return flow / stationary[:, None], stationary, flow


def sampled(transition, n_frames, generator):
    """A trajectory of states drawn from a chain."""
    cumulative = np.cumsum(transition, axis=1)
    states = np.zeros(n_frames, dtype=np.int32)
    for frame, draw in enumerate(generator.random(n_frames - 1)):
        states[frame + 1] = min(
            int(np.searchsorted(cumulative[states[frame]], draw)), len(cumulative) - 1
        )
    return states


def self_consistent(counts, n_steps=20_000):
    """The usual iteration for the same maximum, x_ij = S_ij / (c_i/x_i + c_j/x_j), or None."""
    symmetric = counts + counts.T
    rows = counts.sum(axis=1)
    x = symmetric.copy()
    for _ in range(n_steps):
        before = x.sum(axis=1)
        ratio = rows / before
        x = symmetric / (ratio[:, None] + ratio[None, :])
        if np.allclose(x.sum(axis=1), before, rtol=1e-13, atol=0):
            return x.sum(axis=1) / x.sum()
    return None


@st.composite
def connected_counts(draw):
    n_states = draw(st.integers(2, 8))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    counts = generator.poisson(draw(st.sampled_from([0.5, 3.0, 50.0])), (n_states, n_states))
    # A cycle makes every state reachable from every other.
    for state in range(n_states):
        counts[state, (state + 1) % n_states] += 1
    return counts.astype(np.float64)


@given(connected_counts())
@settings(max_examples=80, deadline=None)
def test_stationary_distribution_is_that_of_the_usual_iteration(counts):
    expected = self_consistent(counts)
    assume(expected is not None)
    np.testing.assert_allclose(msm.solve_reversible(counts), expected, atol=1e-7)


def test_agrees_with_deeptime():
    from deeptime.markov.msm import MaximumLikelihoodMSM

    generator = np.random.default_rng(1)
    counts = generator.poisson(0.3, (60, 60)) + np.diag(generator.poisson(200.0, 60))
    counts[np.arange(60), (np.arange(60) + 1) % 60] += 1
    counts = counts.astype(np.float64)
    theirs = MaximumLikelihoodMSM(reversible=True, maxiter=10**7, maxerr=1e-14).fit(counts)
    theirs = theirs.fetch_model()
    ours = msm.fit_markov_model(counts, counts.sum(axis=1), 7)
    np.testing.assert_allclose(ours.stationary, theirs.stationary_distribution, atol=1e-8)
    np.testing.assert_allclose(ours.transition_matrix, theirs.transition_matrix, atol=1e-7)
    np.testing.assert_allclose(ours.eigenvalues[:6], theirs.eigenvalues(6), atol=1e-7)
    np.testing.assert_allclose(ours.timescales(0.5, 5), 0.5 * 7 * theirs.timescales(5), rtol=1e-4)


@pytest.mark.parametrize("rare", [1.0, 1e-3, 1e-7])
def test_expected_counts_give_the_chain_back(rare):
    transition, stationary, flow = reversible_chain(12, np.random.default_rng(2), rare)
    model = msm.fit_markov_model(flow * 1e6, stationary, 10)
    np.testing.assert_allclose(model.stationary, stationary, rtol=1e-6)
    np.testing.assert_allclose(model.transition_matrix, transition, rtol=1e-6, atol=1e-12)
    expected = np.sort(np.linalg.eigvals(transition).real)[::-1]
    np.testing.assert_allclose(model.eigenvalues, expected, atol=1e-9)
    assert model.timescales(2.0, 1)[0] == pytest.approx(-20.0 / np.log(expected[1]), rel=1e-4)


def test_adaptive_starts_do_not_bias_the_stationary_distribution():
    generator = np.random.default_rng(3)
    transition, stationary, flow = reversible_chain(6, generator, 0.02)
    # Rows drawn a hundred times more often than equilibrium would: only their sums change.
    scale = np.array([100.0, 1.0, 1.0, 1.0, 1.0, 50.0])
    model = msm.fit_markov_model(flow * scale[:, None], stationary * scale, 1)
    np.testing.assert_allclose(model.stationary, stationary, rtol=1e-7)
    np.testing.assert_allclose(model.transition_matrix, transition, rtol=1e-6)


def test_a_sampled_chain_has_its_known_eigenvalues_and_populations():
    generator = np.random.default_rng(4)
    transition, stationary, _ = reversible_chain(4, generator, 0.05)
    chains = [sampled(transition, 30_000, generator) for _ in range(3)]
    owner = np.repeat(np.arange(3), 30_000)
    counts = count_transitions(np.concatenate(chains), owner, 4, 3, 2)
    model = msm.fit_markov_model(counts.total(np.ones(3)), counts.populations.sum(axis=0), 2)
    np.testing.assert_allclose(model.stationary, stationary, atol=0.03)
    expected = np.sort(np.linalg.eigvals(transition).real)[::-1] ** 2
    np.testing.assert_allclose(model.eigenvalues, expected, atol=0.02)


@given(connected_counts(), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_the_first_guess_does_not_change_the_result(counts, seed):
    cold = msm.solve_reversible(counts)
    guess = np.random.default_rng(seed).random(len(counts)) + 1e-3
    np.testing.assert_allclose(msm.solve_reversible(counts, guess / guess.sum()), cold, rtol=1e-6)


def test_counts_that_do_not_determine_a_distribution_are_refused():
    with pytest.raises(ValidationError, match="not connected"):
        msm.solve_reversible(np.array([[3.0, 1.0], [0.0, 2.0]]))


def test_connected_set_needs_transitions_both_ways_and_is_chosen_by_frames():
    counts = np.zeros((6, 6))
    counts[0, 1] = counts[1, 0] = 5
    counts[2, 3] = counts[3, 4] = counts[4, 2] = 1
    counts[1, 5] = 9
    mask = msm.largest_connected_set(counts, np.array([50, 50, 1, 1, 1, 9]))
    np.testing.assert_array_equal(mask, [True, True, False, False, False, False])
    mask = msm.largest_connected_set(counts, np.array([5, 5, 10, 10, 10, 9]))
    np.testing.assert_array_equal(mask, [False, False, True, True, True, False])


def test_macrostates_are_the_blocks_of_a_metastable_chain():
    generator = np.random.default_rng(5)
    flow = np.full((9, 9), 1e-5)
    for block, weight in ((slice(0, 3), 1.0), (slice(3, 5), 3.0), (slice(5, 9), 0.2)):
        size = block.stop - block.start
        flow[block, block] += weight * (1 + 0.1 * generator.random((size, size)))
    flow = flow + flow.T
    model = msm.fit_markov_model(flow, flow.sum(axis=1), 1)
    assert msm.count_metastable(model.eigenvalues) == 3
    # Blocks in descending probability: 12, 9 and 3.2.
    expected = [1, 1, 1, 0, 0, 2, 2, 2, 2]
    np.testing.assert_array_equal(msm.metastable_sets(model, 3), expected)
    with pytest.raises(ValidationError, match="more macrostates"):
        msm.metastable_sets(model, 10)


def test_number_of_metastable_sets_stays_within_what_exists():
    assert msm.count_metastable(np.array([1.0, 0.9])) == 2
    assert msm.count_metastable(np.array([1.0])) == 1
    assert msm.count_metastable(np.array([1.0, 0.99, 0.98, 0.97, 0.1, 0.05])) == 4


@st.composite
def labelled_frames(draw):
    lengths = draw(st.lists(st.integers(0, 15), min_size=1, max_size=5))
    n_states = draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    states = generator.integers(n_states, size=len(owner))
    alive = generator.random(len(owner)) < 0.9
    return states, owner, n_states, len(lengths), draw(st.integers(1, 6)), alive


@given(labelled_frames())
@settings(max_examples=60, deadline=None)
def test_transitions_are_counted_within_trajectories_between_living_frames(drawn):
    states, owner, n_states, n_trajectories, lag, alive = drawn
    counts = count_transitions(states, owner, n_states, n_trajectories, lag, alive)
    for trajectory in range(n_trajectories):
        expected = np.zeros((n_states, n_states))
        frames = np.flatnonzero(owner == trajectory)
        for early, late in zip(frames[:-lag], frames[lag:], strict=True):
            expected[states[early], states[late]] += alive[early] & alive[late]
        only = multiplicities_of([trajectory], n_trajectories)
        np.testing.assert_array_equal(counts.total(only), expected)
        present = np.bincount(states[frames][alive[frames]], minlength=n_states)
        np.testing.assert_array_equal(counts.populations[trajectory], present)
    summed = counts.total(np.ones(n_trajectories))
    np.testing.assert_array_equal(summed, sum(counts.total(row) for row in np.eye(n_trajectories)))


@pytest.fixture(scope="module")
def sampled_chains():
    generator = np.random.default_rng(7)
    transition, stationary, _ = reversible_chain(5, generator, 0.2)
    chains = [sampled(transition, 2000, generator) for _ in range(4)]
    return np.concatenate(chains), np.repeat(np.arange(4), 2000), stationary


def test_a_trajectory_taken_twice_weighs_as_two_copies(sampled_chains):
    states, owner, _ = sampled_chains
    counts = count_transitions(states, owner, 5, 4, 3)
    taken = np.array([2.0, 0.0, 1.0, 1.0])
    ours = solve_weights(counts, taken)
    copies = [0, 0, 2, 3]
    repeated = np.concatenate([states[owner == index] for index in copies])
    again = count_transitions(repeated, np.repeat(np.arange(4), 2000), 5, 4, 3)
    np.testing.assert_allclose(
        ours.weight_of_state, solve_weights(again, None).weight_of_state, rtol=1e-9
    )
    weights = frame_weights(ours, states, owner, taken)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights[owner == 1] == 0).all()


def test_weights_are_the_stationary_populations(sampled_chains):
    states, owner, stationary = sampled_chains
    # Only part of each state's frames is kept, as adaptive sampling would.
    counts = count_transitions(states, owner, 5, 4, 1)
    solved = solve_weights(counts, None)
    assert solved.status == "ok"
    assert solved.reason is None
    assert solved.fraction_outside == 0.0
    weights = frame_weights(solved, states, owner)
    populations = np.bincount(states, weights=weights, minlength=5)
    np.testing.assert_allclose(populations, solved.stationary, rtol=1e-9)
    np.testing.assert_allclose(populations, stationary, atol=0.05)


def test_dead_frames_weigh_nothing(sampled_chains):
    states, owner, _ = sampled_chains
    alive = np.arange(len(states)) % 2000 < 1500
    counts = count_transitions(states, owner, 5, 4, 1, alive)
    weights = frame_weights(solve_weights(counts, None), states, owner, None, alive)
    assert (weights[~alive] == 0).all()
    assert weights.sum() == pytest.approx(1.0)
    nothing = frame_weights(
        solve_weights(counts, None), states, owner, None, np.zeros(len(states), dtype=bool)
    )
    assert not nothing.any()


def test_a_warm_start_gives_the_same_weights(sampled_chains):
    states, owner, _ = sampled_chains
    counts = count_transitions(states, owner, 5, 4, 3)
    everything = solve_weights(counts, None)
    taken = np.array([0.0, 3.0, 1.0, 0.0])
    warm = solve_weights(counts, taken, start=everything)
    np.testing.assert_allclose(
        warm.weight_of_state, solve_weights(counts, taken).weight_of_state, rtol=1e-7
    )


def test_many_frames_outside_the_connected_set_make_weights_uniform():
    # State 2 is entered and never left: 20 % of the frames, then 5 %.
    for tail, status in ((200, "weights_unreliable"), (50, "ok")):
        states = np.array([0, 1] * ((1000 - tail) // 2) + [2] * tail)
        counts = count_transitions(states, np.zeros(1000, dtype=int), 3, 1, 1)
        solved = solve_weights(counts, None)
        assert solved.status == status
        assert solved.fraction_outside == pytest.approx(tail / 1000)
        np.testing.assert_array_equal(solved.connected, [True, True, False])
        weights = frame_weights(solved, states, np.zeros(1000, dtype=int))
        assert weights.sum() == pytest.approx(1.0)
        if status == "ok":
            assert (weights[states == 2] == 0).all()
        else:
            assert "20%" in str(solved.reason)
            np.testing.assert_allclose(weights, 1e-3)


def test_populations_far_from_the_sampled_ones_make_weights_uniform():
    # Many short trajectories from state 1, which drains into state 0 and is rarely entered again.
    draining = [[1, 0, 0, 0]] * 200
    rising = [[0, 1]]
    states = np.concatenate([np.array(part) for part in draining + rising])
    owner = np.repeat(np.arange(201), [4] * 200 + [2])
    counts = count_transitions(states, owner, 2, 201, 1)
    solved = solve_weights(counts, None)
    # Detailed balance of 200 falls in 200 tries and 1 rise in 401: populations 401 to 1.
    rare = 1 / 402
    empirical = counts.populations.sum(axis=0) / counts.populations.sum()
    expected = np.array([1 - rare, rare])
    deviation = thermal_energy(350.0) * np.sqrt(expected @ np.log(expected / empirical) ** 2)
    assert deviation < 1.0
    assert solved.status == "ok"
    np.testing.assert_allclose(solved.stationary, expected, rtol=1e-9)
    # The same counts with most frames in the rare state are off by more than the limit.
    more = [[1]] * 20_000
    states = np.concatenate([states, *[np.array(part) for part in more]])
    owner = np.concatenate([owner, 201 + np.arange(20_000)])
    solved = solve_weights(count_transitions(states, owner, 2, 20_201, 1), None)
    assert solved.status == "weights_unreliable"
    assert "kcal/mol" in str(solved.reason)
    assert len(set(solved.weight_of_state)) == 1


def test_without_transitions_or_time_order_every_frame_counts_the_same():
    states = np.array([0, 1, 1, 0])
    counts = count_transitions(states, np.arange(4), 2, 4, 1)
    assert solve_weights(counts, None).status == "weights_unreliable"
    solved = uniform_weights(counts, np.array([1.0, 1.0, 0.0, 2.0]))
    assert solved.status == "uniform"
    np.testing.assert_allclose(
        frame_weights(solved, states, np.arange(4), np.array([1.0, 1.0, 0.0, 2.0])),
        [0.25, 0.25, 0.0, 0.5],
    )


@pytest.mark.parametrize(
    ("microstate", "trajectory", "lag", "message"),
    [
        ([0, 2], [0, 0], 1, "microstate index"),
        ([0, -1], [0, 0], 1, "microstate index"),
        ([0, 1], [0, 1], 1, "trajectory index"),
        ([0, 1], [0, 0], 0, "too short"),
        ([0], [0, 0], 1, "differ in length"),
    ],
)
def test_labels_that_make_no_sense_are_refused(microstate, trajectory, lag, message):
    with pytest.raises(ValidationError, match=message):
        count_transitions(np.array(microstate), np.array(trajectory), 2, 1, lag)


def test_frames_of_a_trajectory_must_lie_together():
    with pytest.raises(ValidationError, match="lie together"):
        count_transitions(np.zeros(3, dtype=int), np.array([0, 1, 0]), 1, 2, 1)


def test_multiplicities_must_fit():
    counts = count_transitions(np.zeros(4, dtype=int), np.zeros(4, dtype=int), 1, 1, 1)
    for taken in (np.ones(2), np.array([-1.0])):
        with pytest.raises(ValidationError, match="multiplicities"):
            solve_weights(counts, taken)
    with pytest.raises(ValidationError, match="out of range"):
        multiplicities_of([3], 3)
    np.testing.assert_array_equal(multiplicities_of([2, 0, 2], 4), [1, 0, 2, 0])
