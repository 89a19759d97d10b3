"""Resamples, intervals and paired differences."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_reference import FOLDED_POPULATION, FOLDING, UNFOLDING
from toy_rows import SEED

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import (
    ForceErrors,
    Scored,
    can_pair,
    interval,
    moved,
    multiplicities,
    paired_difference,
)
from cgbench.evaluate.bootstrap import effective_number
from cgbench.evaluate.resampling import resampled_weights
from cgbench.evaluate.weights import count_transitions, solve_weights
from cgbench.results import MetricValue, SystemResult


def test_resamples_are_a_function_of_seed_number_and_index():
    first = multiplicities(5, 20, 30)
    np.testing.assert_array_equal(first, multiplicities(5, 20, 30))
    # A longer series begins with the shorter one.
    np.testing.assert_array_equal(first, multiplicities(5, 20, 90)[:, :31])
    assert (first[:, 0] == 1).all()
    assert (first.sum(axis=0) == 20).all()
    for other in (
        multiplicities(6, 20, 30),
        multiplicities(5, 20, 30, "reference"),
        multiplicities(5, 20, 30, "forces"),
    ):
        assert (other[:, 1:] != first[:, 1:]).any(axis=0).all()
    assert multiplicities(5, 0, 3).shape == (0, 4)


def test_resamples_draw_every_trajectory_equally_often():
    taken = multiplicities(1, 10, 4000)[:, 1:]
    assert taken.mean(axis=1) == pytest.approx(np.ones(10), abs=0.07)
    # A multinomial draw: variance n · (1/n) · (1 − 1/n).
    assert taken.var(axis=1) == pytest.approx(np.full(10, 0.9), abs=0.1)


@given(st.floats(-10, 10), st.floats(-3, 3), st.integers(0, 1000))
def test_intervals_are_percentiles_about_the_estimate(value, bias, seed):
    resamples = value + bias + np.random.default_rng(seed).normal(size=400)
    lo, hi = interval(value, resamples)
    assert lo < value < hi
    centred = resamples - resamples.mean()
    assert [lo - value, hi - value] == pytest.approx(list(np.percentile(centred, [2.5, 97.5])))
    unbiased = resamples - resamples.mean() + value
    assert [lo, hi] == pytest.approx(list(np.percentile(unbiased, [2.5, 97.5])))


def test_intervals_of_missing_values():
    values = np.array([1.0, 2.0, np.nan, 3.0])
    assert interval(2.0, values) == pytest.approx(interval(2.0, values[[0, 1, 3]]))
    assert interval(2.0, np.array([1.0, np.nan, np.nan])) is None
    assert interval(np.nan, np.array([1.0, 2.0])) is None
    assert interval(2.0, np.array([])) is None


def test_effective_number():
    assert effective_number(np.full(8, 0.3)) == pytest.approx(8.0)
    assert effective_number(np.array([1.0, 0.0, 0.0])) == 1.0
    assert effective_number(np.zeros(3)) == 0.0


def markov_chains(n_trajectories, n_frames, generator):
    """Two states with known rates; all chains start in the first, far from equilibrium."""
    states = np.ones((n_trajectories, n_frames), dtype=np.int32)
    for frame in range(1, n_frames):
        draw = generator.random(n_trajectories)
        before = states[:, frame - 1] == 1
        states[:, frame] = np.where(before, draw >= 4 * UNFOLDING, draw < 4 * FOLDING)
    return states


def test_intervals_of_populations_cover_the_truth():
    repeats, covered, raw_covered = 60, 0, 0
    for seed in range(repeats):
        states = markov_chains(30, 60, np.random.default_rng(seed))
        owner = np.repeat(np.arange(30, dtype=np.int32), 60)
        counts = count_transitions(states.ravel(), owner, 2, 30, 1)
        taken = multiplicities(seed, 30, 100)
        weights = resampled_weights(counts, taken, 350.0).weight_of_state
        population = weights[1] * (counts.populations[:, 1] @ taken)
        lo, hi = interval(population[0], population[1:])
        covered += lo <= FOLDED_POPULATION <= hi
        raw = (counts.populations[:, 1] @ taken) / (60 * 30)
        raw_lo, raw_hi = interval(raw[0], raw[1:])
        raw_covered += raw_lo <= FOLDED_POPULATION <= raw_hi
    # 95 % nominal; a binomial of 60 falls below 50 with probability under 0.1 %.
    assert covered >= 50
    # Counting frames instead of weighting them keeps the bias of the starts.
    assert raw_covered < covered


def test_weights_are_solved_again_for_every_resample():
    states = markov_chains(30, 60, np.random.default_rng(0))
    counts = count_transitions(states.ravel(), np.repeat(np.arange(30), 60), 2, 30, 1)
    taken = multiplicities(0, 30, 10)
    solved = resampled_weights(counts, taken, 350.0)
    for index in range(11):
        alone = solve_weights(counts, taken[:, index])
        np.testing.assert_allclose(
            solved.weight_of_state[:, index], alone.weight_of_state, rtol=1e-8
        )
    assert solved.weight_of_state[1].std() > 0


def test_unreliable_weights_are_uniform_in_every_resample():
    # Two halves that never meet: half of the frames lie outside either connected set.
    states = np.repeat([0, 1, 2, 3], 25)
    states[::2] = states[::2] // 2 * 2
    owner = np.repeat(np.arange(4), 25)
    counts = count_transitions(states, owner, 4, 4, 1)
    solved = resampled_weights(counts, multiplicities(0, 4, 5), 350.0)
    assert solved.estimate.status == "weights_unreliable"
    assert (solved.weight_of_state == 1.0).all()


def row(name, value, resamples, **changes):
    result = SystemResult(
        system="chignolin-sample",
        status="ok",
        metrics={"rg_w1": MetricValue(value=value), "force_mse": MetricValue(value=value)},
    )
    values = {"seed": SEED, "n_trajectories": 32, "resamples": {"rg_w1": np.asarray(resamples)}}
    return Scored(name=name, result=result, **(values | changes))


def forces(scale, seed=0, **changes):
    generator = np.random.default_rng(seed)
    values = {
        "force_map": "optimal",
        "trajectory": np.arange(20),
        "squared": generator.gamma(10.0, size=20) + scale,
        "absolute": generator.gamma(10.0, size=20) + scale,
        "count": np.full(20, 10),
    }
    return ForceErrors(**(values | changes))


def test_what_two_rows_have_in_common_cancels():
    noise = np.random.default_rng(0).normal(size=200)
    jitter = np.random.default_rng(1).normal(scale=0.01, size=200)
    a, b = row("a", 1.0, 1.0 + noise), row("b", 1.5, 1.5 + noise + jitter)
    found = paired_difference(a, b, "rg_w1")
    assert (found.metric, found.a, found.b, found.diff) == ("rg_w1", "a", "b", -0.5)
    assert found.significant
    assert found.hi - found.lo < 0.05
    other = paired_difference(a, row("b", 1.5, 1.5 + noise[::-1]), "rg_w1")
    assert not other.significant
    reverse = paired_difference(b, a, "rg_w1")
    assert (reverse.lo, reverse.hi) == pytest.approx((-found.hi, -found.lo))


def test_force_errors_are_paired_by_test_trajectory():
    a = row("a", 1.0, [], force_errors=forces(0.0))
    b = row("b", 1.0, [], force_errors=forces(1.0))
    for metric in ("force_mse", "force_l1"):
        found = paired_difference(a, b, metric)
        # The same trajectories differ by 1 in 10 components each, in every resample.
        assert (found.diff, found.lo, found.hi) == pytest.approx((-0.1, -0.1, -0.1))
    unlike = row("c", 1.0, [], force_errors=forces(1.0, seed=1))
    assert paired_difference(a, unlike, "force_mse").hi > found.hi


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 99}, "seeds"),
        ({"n_trajectories": 8}, "32 and 8 trajectories"),
        ({"resamples": {}}, "no value"),
        ({"resamples": {"rg_w1": np.zeros(7)}}, "another number of resamples"),
        ({"resamples": {"rg_w1": np.full(200, np.nan)}}, "too few resamples"),
        ({"result": SystemResult(system="bba", status="ok")}, "systems"),
        ({"result": SystemResult(system="chignolin-sample", status="ok")}, "no value"),
    ],
)
def test_rows_that_cannot_be_paired(change, word):
    a = row("a", 1.0, np.ones(200))
    b = replace(row("b", 1.0, np.ones(200)), **change)
    with pytest.raises(ValidationError, match=word):
        paired_difference(a, b, "rg_w1")
    assert not can_pair(a, b, "rg_w1")


@pytest.mark.parametrize(
    ("errors", "word"),
    [
        (None, "no force errors"),
        (forces(0.0, force_map="slice"), "force maps"),
        (forces(0.0, trajectory=np.arange(1, 21)), "different test frames"),
        (forces(0.0, count=np.full(20, 11)), "different test frames"),
    ],
)
def test_force_errors_that_cannot_be_paired(errors, word):
    a = row("a", 1.0, [], force_errors=forces(0.0))
    with pytest.raises(ValidationError, match=word):
        paired_difference(a, row("b", 1.0, [], force_errors=errors), "force_mse")


def test_a_model_that_has_not_moved():
    noise = np.random.default_rng(0).normal(size=200)
    still = row("start_frames", 1.0, 1.0 + noise)
    assert moved(row("a", 1.001, 1.0 + noise[::-1]), still) == ["rg_w1"]
    assert moved(row("a", 9.0, 9.0 + noise), still) == []
    assert moved(row("a", 1.0, 1.0 + noise, n_trajectories=8), still) == []
    assert registry.constants().n_resamples >= 200
