"""Markov state models: microstates by k-means, reversible maximum likelihood, macrostates.

The reversible maximum-likelihood problem is solved by Newton's method instead of the usual
self-consistent iteration. With the row sums c_i and S_ij = c_ij + c_ji, the optimum of Prinz et
al. (J. Chem. Phys. 134, 174105, 2011) has flows x_ij = S_ij / (v_i + v_j) with v_i = c_i / x_i.
In u = ln v that reads Σ_j S_ij / (1 + exp(u_j − u_i)) = c_i: the gradient of a convex function,
the likelihood of a Bradley-Terry model in which state i wins c_ij + c_ji games c_ij times. Newton
needs about ten steps where the iteration needs thousands when crossings are rare, so the
stationary distribution can be solved again for every bootstrap resample.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.linalg
import scipy.sparse.csgraph
import scipy.special
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.tica import implied_timescales

#: Centres are found from at most this many points: the sampling error of a cluster's centre is
#: then a few hundredths of its width, and a pass over the points takes a fraction of a second.
CLUSTER_POINTS: Final = 200_000
_MAXIMUM_CLUSTER_STEPS: Final = 200
#: Clusters are settled when at most one point in so many changes its own.
_SETTLED: Final = 1000
_MAXIMUM_NEWTON_STEPS: Final = 200
_MAXIMUM_HALVINGS: Final = 40


def assign(
    points: NDArray[Any], centres: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Assign each point to its nearest centre.

    Args:
        points: (n, d).
        centres: (k, d).

    Returns:
        Labels (n,) int32 (the lowest label among equally near centres) and distances (n,) float32.
    """
    from cgbench.evaluate.analysis_kernels import nearest_centres

    exact = np.asarray(centres, dtype=np.float64)
    order = np.argsort(exact[:, 0], kind="stable")
    labels = np.empty(len(points), dtype=np.int32)
    distances = np.empty(len(points), dtype=np.float32)
    nearest_centres(np.ascontiguousarray(points), exact[order], order, labels, distances)
    return labels, distances


def _spread_centres(
    points: NDArray[np.float64], n_clusters: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw start centres by k-means++ (Arthur and Vassilvitskii, 2007)."""
    centres = np.empty((n_clusters, points.shape[1]))
    centres[0] = points[generator.integers(len(points))]
    squared = ((points - centres[0]) ** 2).sum(axis=1)
    for index in range(1, n_clusters):
        cumulative = np.cumsum(squared)
        if not cumulative[-1] > 0:
            raise ValidationError(
                "too few distinct points to cluster", expected=f"{n_clusters}", found=f"{index}"
            )
        drawn = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
        centres[index] = points[min(int(drawn), len(points) - 1)]
        np.minimum(squared, ((points - centres[index]) ** 2).sum(axis=1), out=squared)
    return centres


def cluster(points: NDArray[Any], n_clusters: int, seed: int) -> NDArray[np.float64]:
    """Find cluster centres by k-means (Lloyd's iteration from a seeded k-means++ start).

    Of very many points a seeded, uniform subset is clustered (``CLUSTER_POINTS``). The iteration
    ends when no more than one point in a thousand changes its cluster.

    Args:
        points: (n, d) finite points.
        n_clusters: Number of centres.
        seed: Seed of subset and start; the same seed and points give the same centres.

    Returns:
        (n_clusters, d) float64 centres in ascending order of their first coordinate.

    Raises:
        ValidationError: Points that are not finite, or fewer distinct points than clusters.
    """
    generator = np.random.default_rng(seed)
    if len(points) > CLUSTER_POINTS:
        chosen = generator.choice(len(points), CLUSTER_POINTS, replace=False, shuffle=False)
        points = points[np.sort(chosen)]
    points = np.asarray(points, dtype=np.float64)
    if not np.isfinite(points).all():
        raise ValidationError("points to cluster are not finite")
    if len(points) < n_clusters:
        raise ValidationError(
            "too few points to cluster", expected=f"at least {n_clusters}", found=len(points)
        )
    centres = _spread_centres(points, n_clusters, generator)
    labels = np.full(len(points), -1, dtype=np.int32)
    for _ in range(_MAXIMUM_CLUSTER_STEPS):
        previous = labels
        labels, distances = assign(points, centres)
        if (labels != previous).sum() <= len(points) // _SETTLED:
            break
        sizes = np.bincount(labels, minlength=n_clusters)
        for column in range(points.shape[1]):
            totals = np.bincount(labels, weights=points[:, column], minlength=n_clusters)
            centres[:, column] = totals / np.maximum(sizes, 1)
        empty = np.flatnonzero(sizes == 0)
        # An empty cluster restarts at a point that is served worst.
        centres[empty] = points[np.argsort(-distances, kind="stable")[: len(empty)]]
    return centres[np.lexsort(centres.T[::-1])]


def largest_connected_set(counts: NDArray[Any], populations: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the strongly connected set of states that holds most frames.

    Args:
        counts: (n, n) transition counts.
        populations: (n,) frames in each state.

    Returns:
        (n,) mask; at least one state, never empty.
    """
    _, labels = scipy.sparse.csgraph.connected_components(
        np.asarray(counts) > 0, directed=True, connection="strong"
    )
    mask: NDArray[np.bool_] = labels == np.bincount(labels, weights=populations).argmax()
    return mask


def solve_reversible(
    counts: NDArray[Any], start: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the stationary distribution of the reversible maximum-likelihood model.

    Args:
        counts: (n, n) transition counts of one strongly connected set.
        start: (n,) positive guess of the distribution, for instance of a similar count matrix.

    Returns:
        (n,) probabilities.

    Raises:
        ValidationError: The counts do not determine a distribution, because some state cannot be
            entered or left.
    """
    counts = np.asarray(counts, dtype=np.float64)
    n_states = len(counts)
    rows = counts.sum(axis=1)
    if n_states == 1:
        return np.ones(1)
    off = counts - np.diag(np.diag(counts))
    wins = off.sum(axis=1)
    if not ((wins > 0) & (off.sum(axis=0) > 0)).all():
        raise ValidationError(
            "transition counts are not connected",
            expected="every state is entered and left",
            found=f"{int(((wins == 0) | (off.sum(axis=0) == 0)).sum())} states that are not",
        )
    first, second = np.nonzero(np.triu(off + off.T))
    games = (off + off.T)[first, second]
    # Without a guess: the distribution that the row sums suggest.
    levels = np.zeros(n_states) if start is None else np.log(rows) - np.log(start)
    levels = levels - levels[-1]
    levels = _newton(levels, first, second, games, wins)
    weights = np.log(rows) - levels
    stationary = np.exp(weights - weights.max())
    return np.asarray(stationary / stationary.sum())


def _newton(
    levels: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    games: NDArray[np.float64],
    wins: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Minimise Σ games·ln(e^u_first + e^u_second) − Σ wins·u over levels u, the last one fixed."""
    n_states = len(levels)

    def value(candidate: NDArray[np.float64]) -> float:
        return float(games @ np.logaddexp(candidate[first], candidate[second]) - wins @ candidate)

    current = value(levels)
    for _ in range(_MAXIMUM_NEWTON_STEPS):
        share = scipy.special.expit(levels[first] - levels[second])
        won = np.bincount(first, games * share, n_states)
        won += np.bincount(second, games * (1.0 - share), n_states)
        gradient = (won - wins)[:-1]
        stiffness = games * share * (1.0 - share)
        hessian = np.zeros((n_states, n_states))
        hessian[first, second] = hessian[second, first] = -stiffness
        diagonal = -hessian.sum(axis=1)
        # The smallest ridge that keeps the factorisation defined where states hardly exchange.
        np.fill_diagonal(hessian, diagonal + 1e-14 * diagonal.max())
        factor = scipy.linalg.cho_factor(hessian[:-1, :-1], lower=True, check_finite=False)
        step = scipy.linalg.cho_solve(factor, gradient, check_finite=False)
        decrement = float(gradient @ step)
        if decrement < 1e-18 * games.sum():
            return levels
        change = np.append(step, 0.0)
        # Close to the minimum the values differ by less than their rounding: take the full step.
        if decrement < 1e-9 * abs(current):
            levels = levels - change
            current = value(levels)
            continue
        for halvings in range(_MAXIMUM_HALVINGS):
            candidate = levels - change * 0.5**halvings
            lower = value(candidate)
            if lower <= current - 1e-4 * 0.5**halvings * decrement:
                break
        levels, current = candidate, lower
    return levels


@dataclass(frozen=True)
class MarkovModel:
    """A reversible Markov model on the largest connected set.

    Attributes:
        states: (m,) int64 indices of the connected microstates.
        transition_matrix: (m, m) float64, rows sum to one.
        stationary: (m,) float64.
        eigenvalues: (m,) float64, descending, the first is one.
        lag_frames: The lag of the counts.
    """

    states: NDArray[np.int64]
    transition_matrix: NDArray[np.float64]
    stationary: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    lag_frames: int

    def timescales(self, frame_interval: float, n: int) -> NDArray[np.float64]:
        """Return the n slowest implied timescales in ps, (n,), not-a-number where undefined.

        Args:
            frame_interval: Time between frames in ps.
            n: How many.
        """
        found = implied_timescales(self.eigenvalues[1 : n + 1], self.lag_frames * frame_interval)
        return np.concatenate([found, np.full(n - len(found), np.nan)])


def fit_markov_model(
    counts: NDArray[Any],
    populations: NDArray[Any],
    lag_frames: int,
    start: NDArray[np.float64] | None = None,
) -> MarkovModel:
    """Fit a reversible maximum-likelihood model on the largest connected set.

    Args:
        counts: (n, n) transition counts.
        populations: (n,) frames in each state.
        lag_frames: The lag of the counts.
        start: (n,) guess of the stationary distribution, positive on the connected set.
    """
    states = np.flatnonzero(largest_connected_set(counts, populations))
    inside = np.asarray(counts, dtype=np.float64)[np.ix_(states, states)]
    stationary = solve_reversible(inside, None if start is None else start[states])
    if len(states) == 1:
        flow = np.ones((1, 1))
    else:
        multipliers = inside.sum(axis=1) / stationary
        flow = (inside + inside.T) / (multipliers[:, None] + multipliers[None, :])
    transition = flow / flow.sum(axis=1, keepdims=True)
    root = np.sqrt(stationary)
    symmetric = root[:, None] * transition / root[None, :]
    eigenvalues = scipy.linalg.eigvalsh((symmetric + symmetric.T) / 2)[::-1]
    return MarkovModel(
        states=states,
        transition_matrix=transition,
        stationary=stationary,
        eigenvalues=np.ascontiguousarray(eigenvalues),
        lag_frames=lag_frames,
    )


def count_metastable(eigenvalues: NDArray[np.float64], least: int = 2, most: int = 6) -> int:
    """Return how many metastable sets the largest gap between eigenvalues suggests.

    Args:
        eigenvalues: Descending, the first is one.
        least: Smallest number considered.
        most: Largest number considered.
    """
    most = min(most, len(eigenvalues) - 1)
    if most <= least:
        return min(least, len(eigenvalues))
    gaps = eigenvalues[least - 1 : most] - eigenvalues[least : most + 1]
    return least + int(gaps.argmax())


def metastable_sets(model: MarkovModel, n_sets: int) -> NDArray[np.int64]:
    """Assign each connected microstate to a metastable set by PCCA++.

    Röblitz and Weber, Adv. Data Anal. Classif. 7, 147 (2013), as implemented in deeptime.

    Args:
        model: The Markov model.
        n_sets: Number of sets.

    Returns:
        (m,) int64, sets in descending order of their stationary probability.

    Raises:
        ValidationError: More sets than microstates.
    """
    if n_sets > len(model.states):
        raise ValidationError(
            "more macrostates than connected microstates",
            expected=f"at most {len(model.states)}",
            found=n_sets,
        )
    from deeptime.markov import pcca

    memberships = np.asarray(pcca(model.transition_matrix, n_sets).memberships)
    crisp = memberships.argmax(axis=1)
    weight = np.bincount(crisp, weights=model.stationary, minlength=n_sets)
    rank = np.empty(n_sets, dtype=np.int64)
    rank[np.argsort(-weight, kind="stable")] = np.arange(n_sets)
    return np.asarray(rank[crisp])
