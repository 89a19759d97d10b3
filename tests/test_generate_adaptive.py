"""Adaptive sampling against brute force: k-centres, least counts, and the plan."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from cgbench.errors import ValidationError
from cgbench.generate import adaptive
from cgbench.generate.adaptive import Clusters, k_centres, least_counts, pair_distances


def test_distances_are_those_three_or_more_apart() -> None:
    positions = np.random.default_rng(1).normal(size=(4, 6, 3)).astype(np.float32)
    found = pair_distances(positions)
    pairs = [(i, j) for i, j in itertools.combinations(range(6), 2) if j - i >= 3]
    expected = [[np.linalg.norm(frame[i] - frame[j]) for i, j in pairs] for frame in positions]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_short_chain_is_refused() -> None:
    with pytest.raises(ValidationError, match="too short"):
        pair_distances(np.zeros((2, 3, 3), dtype=np.float32))


@hypothesis.given(
    n_frames=st.integers(1, 40),
    n_clusters=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_centres_against_brute_force(n_frames: int, n_clusters: int, seed: int) -> None:
    features = np.random.default_rng(seed).integers(0, 5, size=(n_frames, 2)).astype(np.float32)
    found = k_centres(features, n_clusters, seed=seed)
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    chosen = [int(found.centres[0])]
    while len(chosen) < n_clusters:
        to_nearest = distances[chosen].min(axis=0)
        if to_nearest.max() == 0:
            break
        chosen.append(int(to_nearest.argmax()))
    assert found.centres.tolist() == chosen
    assert found.assignment.tolist() == distances[chosen].argmin(axis=0).tolist()
    assert found.counts().sum() == n_frames
    again = k_centres(features, n_clusters, seed=seed)
    assert again.centres.tolist() == chosen


def test_thinned_centres_still_assign_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive, "_MAXIMUM_FRAMES", 10)
    features = np.arange(35, dtype=np.float32)[:, None]
    found = k_centres(features, 3, seed=0)
    assert set(found.centres.tolist()) <= set(range(0, 35, 4))
    nearest = np.abs(features - features[found.centres].T).argmin(axis=1)
    assert found.assignment.tolist() == nearest.tolist()


@hypothesis.given(seed=st.integers(0, 1000), n_starts=st.integers(1, 12))
def test_least_counts_against_brute_force(seed: int, n_starts: int) -> None:
    generator = np.random.default_rng(seed)
    assignment = generator.integers(0, 5, size=60)
    usable, counted = generator.random(60) < 0.4, generator.random(60) < 0.8
    hypothesis.assume(usable.any())
    clusters = Clusters(np.arange(5), assignment)
    chosen = least_counts(clusters, usable, n_starts, seed=seed, counted=counted)
    assert len(chosen) == n_starts
    assert usable[chosen].all()
    counts = {c: int((counted & (assignment == c)).sum()) for c in set(assignment[usable].tolist())}
    drawn = [counts[int(c)] for c in assignment[chosen]]
    # The counts in the order of drawing are the sorted counts of the clusters, over and over.
    assert drawn == list(itertools.islice(itertools.cycle(sorted(counts.values())), n_starts))
    first = assignment[chosen][: len(counts)].tolist()
    assert len(set(first)) == len(first)
    same = least_counts(clusters, usable, n_starts, seed=seed, counted=counted)
    assert same.tolist() == chosen.tolist()


def test_no_usable_frame_is_an_error() -> None:
    clusters = Clusters(np.arange(1), np.zeros(3, dtype=np.int64))
    with pytest.raises(ValidationError, match="no frame"):
        least_counts(clusters, np.zeros(3, dtype=np.bool_), 1, seed=0)
