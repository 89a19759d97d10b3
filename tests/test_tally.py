"""Tallies add up, and weighted distributions are what numpy's histograms say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_rows import bundle, samples, trajectories

from cgbench.errors import ValidationError
from cgbench.evaluate import observe
from cgbench.evaluate.distributions import distributions
from cgbench.evaluate.tally import tally


@pytest.fixture(scope="module")
def counted():
    ensemble = trajectories(n_trajectories=12, n_frames=40)
    alive = ensemble.alive_until.copy()
    alive[3] = 11
    observables = observe(bundle(), ensemble.trajectories, alive)
    return observables, tally(observables, bundle().definition)


def part(observables, mask):
    fields = {
        name: getattr(observables, name)[mask]
        for name in observables.__dataclass_fields__
        if name != "n_trajectories"
    }
    return replace(observables, **fields)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_tallies_of_parts_add_up(counted, seed, n_parts):
    observables, whole = counted
    owner = np.random.default_rng(seed).integers(n_parts, size=observables.n_frames)
    parts = [
        tally(part(observables, owner == index), bundle().definition) for index in range(n_parts)
    ]
    total = parts[0]
    for other in parts[1:]:
        total = total + other
    np.testing.assert_array_equal(total.cells, whole.cells)
    for name, matrix in whole.counts.items():
        np.testing.assert_array_equal(total.counts[name].toarray(), matrix.toarray())
    for name, values in whole.sums.items():
        np.testing.assert_allclose(total.sums[name], values, rtol=1e-12, atol=1e-12)
    for name in ("frames", "dead", "least_rmsd"):
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))


def test_tallies_of_other_trajectories_do_not_add(counted):
    _, whole = counted
    with pytest.raises(ValidationError, match="cannot be added"):
        whole + replace(whole, least_rmsd=whole.least_rmsd[:3])


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_distributions_are_weighted_histograms(counted, seed):
    observables, whole = counted
    generator = np.random.default_rng(seed)
    taken = generator.integers(0, 3, size=(12, 4)).astype(float)
    taken[0] = 1.0
    states = generator.random((bundle().n_microstates, 4))
    found = distributions(whole, taken, states)
    alive = observables.alive
    for index in range(4):
        weights = taken[observables.trajectory, index] * states[observables.microstate, index]
        frames = taken[observables.trajectory, index]
        dead = frames[~alive].sum() / frames.sum()
        weights = np.where(alive, weights, 0.0) / weights[alive].sum()
        assert found.dead[index] == pytest.approx(dead)
        for name, values in (("rg", observables.rg), ("tic1", observables.tics[:, 0])):
            expected = np.histogram(values, bundle().edges[name], weights=weights)[0]
            np.testing.assert_allclose(
                found.masses[name][:, index], expected * (1 - dead), atol=1e-12
            )
        expected = np.histogram2d(*observables.tics[:, :2].T, bundle().fes_edges, weights=weights)[
            0
        ]
        np.testing.assert_allclose(
            found.masses["plane"][:-1, index], expected.ravel() * (1 - dead), atol=1e-12
        )
        assert found.masses["plane"][:, index].sum() == pytest.approx(1 - dead)
        assert found.means["rmsd"][index] == pytest.approx(weights @ observables.rmsd)
        folded = observables.q >= bundle().metadata.basins.folded_q
        assert found.means["folded"][index] == pytest.approx(weights @ folded)
        assert found.state_mass[:, index].sum() == pytest.approx(1.0)


def test_the_native_macrostate_is_found_anew_in_every_resample(counted):
    _, whole = counted
    least = whole.least_rmsd
    best = np.unravel_index(least.argmin(), least.shape)
    taken = np.ones((12, 2))
    # Without the trajectories that visit that macrostate, it must be another one.
    taken[np.isfinite(least[:, best[1]]), 1] = 0.0
    taken[3, 1] = 1.0
    mine = replace(whole, least_rmsd=least.copy())
    mine.least_rmsd[3] = np.inf
    mine.least_rmsd[3, 1 - best[1]] = 9.0
    found = distributions(mine, taken, np.ones((bundle().n_microstates, 2)))
    assert found.native_macrostate.tolist() == [best[1], 1 - best[1]]


def test_the_last_edge_is_inside(counted):
    observables, _ = counted
    edges = bundle().fes_edges
    tics = observables.tics.copy().astype(np.float64)
    tics[:, 0], tics[:, 1] = edges[0][-1], edges[1][-1]
    whole = tally(replace(observables, tics=tics), bundle().definition)
    plane = whole.counts["plane"].sum(axis=0)
    assert plane[-1] == 0
    assert plane[-2] == observables.alive.sum()


def test_distributions_refuse_other_shapes(counted):
    _, whole = counted
    with pytest.raises(ValidationError, match="do not fit"):
        distributions(whole, np.ones((12, 2)), np.ones((bundle().n_microstates, 3)))


def test_weights_that_come_with_samples():
    ensemble = samples(0.5, n_trajectories=2, n_frames=30)
    observables = observe(bundle(), ensemble.trajectories)
    folded = observables.q >= bundle().metadata.basins.folded_q
    given_weights = np.where(folded, 3.0, 1.0)
    whole = tally(observables, bundle().definition, given_weights)
    found = distributions(whole, np.ones((2, 1)), np.ones((bundle().n_microstates, 1)))
    assert found.means["folded"][0] == pytest.approx(3 * folded.sum() / given_weights.sum())
    with pytest.raises(ValidationError, match="do not fit"):
        tally(observables, bundle().definition, given_weights[:-1])
