"""Microstates: nearest centres against all distances, clusters against another library."""

import numpy as np
import pytest
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st

from cgbench.errors import ValidationError
from cgbench.evaluate import msm


@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_points_go_to_their_nearest_centre(n, k, d, seed):
    generator = np.random.default_rng(seed)
    points = (generator.normal(size=(n, d)) + 50.0).astype(np.float32)
    centres = generator.normal(size=(k, d)) + 50.0
    labels, distances = msm.assign(points, centres)
    table = scipy.spatial.distance.cdist(points.astype(np.float64), centres)
    np.testing.assert_allclose(distances, table.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(table[np.arange(n), labels], table.min(axis=1), atol=1e-9)


def test_clusters_are_found_are_repeatable_and_as_tight_as_those_of_scipy():
    from scipy.cluster.vq import kmeans2

    generator = np.random.default_rng(6)
    middles = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = np.concatenate([middle + generator.normal(size=(200, 2)) for middle in middles])
    centres = msm.cluster(points, 4, seed=0)
    order = np.lexsort(middles.T[::-1])
    assert np.abs(np.sort(centres, axis=0) - np.sort(middles[order], axis=0)).max() < 0.3
    np.testing.assert_array_equal(centres, msm.cluster(points, 4, seed=0))
    assert (np.diff(centres[:, 0]) > 0).all()
    many = msm.cluster(points, 30, seed=1)
    spread = (msm.assign(points, many)[1] ** 2).sum()
    theirs = kmeans2(points, 30, iter=100, minit="++", rng=np.random.default_rng(1))[0]
    assert spread < 1.15 * (msm.assign(points, theirs)[1] ** 2).sum()


def test_points_that_cannot_be_clustered_are_refused():
    with pytest.raises(ValidationError, match="too few points"):
        msm.cluster(np.zeros((3, 2)), 4, 0)
    with pytest.raises(ValidationError, match="distinct"):
        msm.cluster(np.zeros((9, 2)), 2, 0)
    with pytest.raises(ValidationError, match="not finite"):
        msm.cluster(np.array([[0.0], [np.nan]]), 1, 0)


@given(
    st.integers(1, 12), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**16), st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_the_nearest_centre_is_that_of_all_distances(n_centres, n, d, seed, ties):
    generator = np.random.default_rng(seed)
    draw = (lambda shape: generator.integers(3, size=shape)) if ties else generator.standard_normal
    points, centres = draw((n, d)).astype(np.float32), draw((n_centres, d)).astype(np.float64)
    gaps = ((points[:, None].astype(np.float64) - centres) ** 2).sum(axis=2)
    labels, distances = msm.assign(points, centres)
    # The lowest label among equals, also where a first coordinate is shared.
    np.testing.assert_array_equal(labels, gaps.argmin(axis=1))
    np.testing.assert_allclose(distances, np.sqrt(gaps.min(axis=1)), rtol=1e-6)


def test_a_seeded_part_of_many_points_is_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    middles = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = middles[generator.integers(3, size=6000)] + generator.normal(0, 0.2, (6000, 2))
    monkeypatch.setattr(msm, "CLUSTER_POINTS", 900)
    seen = []
    whole = msm.assign
    monkeypatch.setattr(msm, "assign", lambda part, c: seen.append(len(part)) or whole(part, c))
    found = msm.cluster(points, 3, 1)
    assert set(seen) == {900}
    np.testing.assert_allclose(found[np.argsort(found[:, 1])][:2, 1], 0.0, atol=0.05)
    np.testing.assert_allclose(found[found[:, 1] > 2.0], [[0.0, 5.0]], atol=0.05)
    np.testing.assert_array_equal(found, msm.cluster(points, 3, 1))
    assert not np.array_equal(found, msm.cluster(points, 3, 2))
