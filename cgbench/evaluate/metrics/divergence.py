"""Distances between histograms, all resamples at once."""

import numpy as np
import scipy.special
from numpy.typing import NDArray

from cgbench.evaluate.free_energy import smoothing_matrix
from cgbench.units import thermal_energy

Float = NDArray[np.float64]


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
