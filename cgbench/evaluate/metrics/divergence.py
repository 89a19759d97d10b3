"""Distances between histograms, all resamples at once."""

from typing import Final

import numpy as np
import scipy.special
from numpy.typing import NDArray

from cgbench.evaluate.free_energy import smoothing_matrix
from cgbench.units import thermal_energy

Float = NDArray[np.float64]

#: Numbers that are worked on at once where there are many distributions.
_BLOCK_ENTRIES: Final = 1024 * 1024


def integrated_difference(edges: Float, difference: Float) -> Float:
    """Return ∫|D(x)|dx of a function that is linear between the edges.

    Args:
        edges: (n_bins + 1,) ascending.
        difference: (n_bins + 1, n_columns) values at the edges.
    """
    left, right = difference[:-1], difference[1:]
    size = np.abs(left) + np.abs(right)
    crossing = left * right < 0
    # Where the sign changes, two triangles; their heights divide the bin in proportion.
    mean = np.where(
        crossing, (left**2 + right**2) / np.where(crossing, 2.0 * size, 1.0), 0.5 * size
    )
    return np.asarray(np.diff(edges) @ mean)


def wasserstein(edges: Float, model: Float, reference: Float, dead: Float) -> Float:
    """Return the first Wasserstein distance of histograms, the integral of |F_model − F_reference|.

    Mass is spread evenly over its bin, so that the error is below the width of a bin and zero for
    equal histograms. Dead mass lies at the edge that is further from the reference's mean.

    Args:
        edges: (n_bins + 1,) ascending.
        model: (n_bins, n_columns) masses, each column summing to 1 − ``dead``.
        reference: (n_bins, n_columns) masses, each column summing to one.
        dead: (n_columns,) lost mass of the model.

    Returns:
        (n_columns,) in the unit of the edges.
    """
    zero = np.zeros((1, model.shape[1]))
    difference = np.concatenate([zero, np.cumsum(model - reference, axis=0)])
    centres = 0.5 * (edges[1:] + edges[:-1])
    mean = centres @ reference
    at_low = mean - edges[0] > edges[-1] - mean
    return integrated_difference(edges, difference + np.where(at_low, dead, 0.0))


def jensen_shannon(first: Float, second: Float) -> Float:
    """Return the Jensen-Shannon divergence in bits, between 0 and 1, without pseudo-counts.

    Lin, IEEE Trans. Inf. Theory 37, 145 (1991), equation 5.1 with equal weights.

    Args:
        first: (n_bins, …) probabilities, summing to one along the first axis.
        second: The same shape.
    """
    middle = 0.5 * (first + second)
    entropy = scipy.special.rel_entr(first, middle) + scipy.special.rel_entr(second, middle)
    return np.asarray(np.clip(0.5 * entropy.sum(axis=0) / np.log(2.0), 0.0, 1.0))


def kullback_leibler(first: Float, second: Float, pseudo_count: float) -> Float:
    """Return the Kullback-Leibler divergence Σ p·ln(p/q) of the first from the second, in nats.

    Kullback and Leibler, Ann. Math. Stat. 22, 79 (1951), equation 2.6. It is infinite where the
    second has no mass and the first has, so both are normalised anew after the pseudo-count.

    Args:
        first: (n_bins, …) probabilities, summing to one along the first axis.
        second: The same shape.
        pseudo_count: Probability that is added to each bin of both.
    """
    p, q = ((side + pseudo_count) / (1.0 + pseudo_count * len(side)) for side in (first, second))
    return np.asarray(np.maximum(scipy.special.rel_entr(p, q).sum(axis=0), 0.0))


def mean_jensen_shannon(model: Float, reference: Float, dead: Float, n_bins: int) -> Float:
    """Return the Jensen-Shannon divergence of several distributions in bits, averaged over them.

    Dead mass is a state of its own in each of them: it adds half of itself.

    Args:
        model: (n_distributions · n_bins, n_columns) masses, one block of bins after the other, each
            block of a column summing to 1 − ``dead``.
        reference: The same of the reference, each block summing to one.
        dead: (n_columns,) lost mass of the model.
        n_bins: Bins of each distribution.

    Returns:
        (n_columns,), not-a-number where there is no distribution.
    """
    n_columns = model.shape[1]
    n_distributions = len(model) // n_bins
    total = np.zeros(n_columns)
    step = max(1, _BLOCK_ENTRIES // max(1, n_bins * n_columns))
    for start in range(0, n_distributions, step):
        rows = slice(start * n_bins, min(start + step, n_distributions) * n_bins)
        # Large histograms come in single precision.
        p, q = (side[rows].astype(np.float64, copy=False) for side in (model, reference))
        middle = 0.5 * (p + q)
        parts = scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)
        total += 0.5 * parts.sum(axis=0) / np.log(2.0)
    if not n_distributions:
        return np.full(n_columns, np.nan)
    return np.asarray(np.clip(total / n_distributions + 0.5 * dead, 0.0, 1.0))


def smoothed_free_energy(plane: Float, edges: Float, widths: Float, temperature: float) -> Float:
    """Return −k_B·T·ln of smoothed histograms on a grid, each with least value zero.

    Args:
        plane: (n_x·n_y + 1, n_columns) masses; the last row lies outside the grid.
        edges: (2, n + 1) edges of both axes.
        widths: (2,) standard deviations of the smoothing kernel.
        temperature: In K.

    Returns:
        (n_x, n_y, n_columns) kcal/mol, infinite where there is no mass.
    """
    rows, columns = (smoothing_matrix(edges[axis], float(widths[axis])) for axis in range(2))
    grid = plane[:-1].reshape(len(rows), len(columns), -1)
    smoothed = np.einsum("ai,ijk,bj->abk", rows, grid, columns, optimize=True)
    total = smoothed.sum(axis=(0, 1))
    # Differences of nearly equal integrals leave rounding of either sign where there is no mass.
    smoothed = np.where(smoothed > 1e-14 * total, smoothed, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = -thermal_energy(temperature) * np.log(smoothed)
        least = energy.min(axis=(0, 1))
        return np.asarray(np.where(np.isfinite(energy), energy - least, np.inf))


def quantile(edges: Float, masses: Float, probability: float) -> Float:
    """Return a quantile of histograms whose mass is spread evenly over each bin.

    Args:
        edges: (n_bins + 1,) ascending.
        masses: (n_bins, n_columns), any positive sum.
        probability: Between 0 and 1.

    Returns:
        (n_columns,), not-a-number where there is no mass.
    """
    cumulative = np.concatenate([np.zeros((1, masses.shape[1])), np.cumsum(masses, axis=0)])
    wanted = probability * cumulative[-1]
    result = np.full(masses.shape[1], np.nan)
    for column, (values, target) in enumerate(zip(cumulative.T, wanted, strict=True)):
        if values[-1] > 0:
            # The first bin whose upper edge reaches the target; empty bins are passed over.
            index = min(max(int(np.searchsorted(values, target, side="left")), 1), len(masses))
            while masses[index - 1, column] <= 0 and index < len(masses):
                index += 1
            part = (target - values[index - 1]) / masses[index - 1, column]
            result[column] = edges[index - 1] + part * (edges[index] - edges[index - 1])
    return result


def mass_below(edges: Float, masses: Float, bound: float) -> Float:
    """Return the mass below a value of histograms whose mass is spread evenly over each bin.

    Args:
        edges: (n_bins + 1,) ascending, at equal distances or not.
        masses: (n_bins, n_columns).
        bound: The value; nothing lies below the first edge.

    Returns:
        (n_columns,) in the unit of the masses.
    """
    share = np.clip((bound - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    return np.asarray(share @ masses)


def mass_above(edges: Float, masses: Float, bound: float) -> Float:
    """Return the mass above a value; see `mass_below`."""
    share = np.clip((edges[1:] - bound) / np.diff(edges), 0.0, 1.0)
    return np.asarray(share @ masses)
