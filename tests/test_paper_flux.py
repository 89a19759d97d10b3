"""Reactive flux: an independent library, exact three-state results, conservation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cgbench.errors import ValidationError
from cgbench.evaluate.paper import pathways, reactive_flux


def reversible(weights):
    """A reversible chain from symmetric positive weights, and its stationary distribution."""
    flow = weights + weights.T + 0.01
    return flow / flow.sum(axis=1, keepdims=True), flow.sum(axis=1) / flow.sum()


def mask(n, *states):
    found = np.zeros(n, dtype=bool)
    found[list(states)] = True
    return found


def test_three_states_in_a_row():
    # From 0 over 1 to 2: half of what is in the middle has come from 0 and goes on to 2.
    transition = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]])
    stationary = np.full(3, 1.0 / 3.0)
    flux = reactive_flux(transition, stationary, mask(3, 0), mask(3, 2))
    assert flux.committor == pytest.approx([0.0, 0.5, 1.0])
    assert flux.total == pytest.approx(1.0 / 3.0 * 0.1 * 0.5)
    # A passage takes 1/0.1 + (1/0.1)·2 steps on average, and its inverse is the rate.
    assert 1.0 / flux.rate == pytest.approx(30.0)
    assert pathways(flux.net, 0, 2) == [((0, 1, 2), pytest.approx(1.0))]


@given(arrays.arrays(float, (7, 7), elements=st.floats(0.0, 1.0)))
@settings(max_examples=40, deadline=None)
def test_the_same_as_an_independent_library(weights):
    from deeptime.markov.msm import MarkovStateModel

    transition, stationary = reversible(weights)
    ours = reactive_flux(transition, stationary, mask(7, 0, 1), mask(7, 6))
    theirs = MarkovStateModel(transition).reactive_flux([0, 1], [6])
    np.testing.assert_allclose(ours.committor, theirs.forward_committor, atol=1e-9)
    np.testing.assert_allclose(ours.net, theirs.net_flux, atol=1e-12)
    assert ours.total == pytest.approx(theirs.total_flux)
    assert 1.0 / ours.rate == pytest.approx(theirs.mfpt)
    group = np.array([0, 0, 1, 1, 2, 2, 3])
    _, coarse = theirs.coarse_grain([[0, 1], [2, 3], [4, 5], [6]])
    np.testing.assert_allclose(ours.grouped(group, 4), coarse.net_flux, atol=1e-12)


@given(arrays.arrays(float, (6, 6), elements=st.floats(0.0, 1.0)))
@settings(max_examples=40, deadline=None)
def test_flux_is_kept_and_pathways_are_all_of_it(weights):
    transition, stationary = reversible(weights)
    flux = reactive_flux(transition, stationary, mask(6, 0), mask(6, 5))
    net = flux.net
    np.testing.assert_allclose(net[:, 1:5].sum(axis=0), net[1:5].sum(axis=1), atol=1e-12)
    assert net[0].sum() == pytest.approx(net[:, 5].sum()) == pytest.approx(flux.total)
    found = pathways(net, 0, 5)
    shares = [share for _, share in found]
    assert sum(shares) == pytest.approx(1.0, abs=1e-6)
    assert all(path[0] == 0 and path[-1] == 5 for path, _ in found)
    assert all(len(set(path)) == len(path) for path, _ in found)
    carried = np.zeros((6, 6))
    for path, share in found:
        for step in itertools.pairwise(path):
            carried[step] += share * flux.total
    np.testing.assert_allclose(carried, net, atol=1e-8)


def test_the_widest_pathway_comes_first():
    net = np.zeros((4, 4))
    net[0, 1], net[0, 2], net[1, 3], net[2, 3] = 0.7, 0.3, 0.7, 0.3
    assert pathways(net, 0, 3) == [
        ((0, 1, 3), pytest.approx(0.7)),
        ((0, 2, 3), pytest.approx(0.3)),
    ]


def test_a_loop_carries_nothing_from_end_to_end():
    net = np.zeros((4, 4))
    net[0, 3] = 1.0
    net[1, 2] = net[2, 1] = 5.0
    assert pathways(net, 0, 3) == [((0, 3), pytest.approx(1.0))]


def test_no_flux_has_no_pathway():
    assert pathways(np.zeros((3, 3)), 0, 2) == []


@pytest.mark.parametrize(("source", "target"), [((), (2,)), ((0,), ()), ((0, 1), (1, 2))])
def test_sets_that_are_empty_or_overlap_are_refused(source, target):
    transition, stationary = reversible(np.ones((3, 3)))
    with pytest.raises(ValidationError, match="two sets"):
        reactive_flux(transition, stationary, mask(3, *source), mask(3, *target))
