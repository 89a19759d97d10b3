"""Free energy surfaces from histograms, smoothed analytically."""

import numpy as np
import scipy.special
from numpy.typing import NDArray

from cgbench.units import thermal_energy


def transfer_matrix(
    edges: NDArray[np.float64], target_edges: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Return what a Gaussian kernel carries from one histogram to another, (n_targets, n_bins).

    Entry (i, j) is the mass that target bin i receives from unit mass spread evenly over bin j. It
    is exact: with G the integral of the normal distribution function, it is a second difference of
    G over the edges. It is linear in the histogram, so it commutes with sums over trajectories.

    Args:
        edges: (n_bins + 1,) ascending edges of the histogram.
        target_edges: (n_targets + 1,) ascending edges of the result; mass beyond them is lost.
        width: Positive standard deviation of the kernel, in the unit of the edges.
    """
    scaled = (target_edges[:, None] - edges[None, :]) / width
    density = np.exp(-0.5 * scaled**2) / np.sqrt(2.0 * np.pi)
    integral = width * (scaled * scipy.special.ndtr(scaled) + density)
    reached = integral[:, :-1] - integral[:, 1:]
    return np.asarray((reached[1:] - reached[:-1]) / np.diff(edges)[None, :])


def smoothing_matrix(edges: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return what a Gaussian kernel does to a histogram, (n_bins, n_bins).

    Mass that leaves the grid is lost; see `transfer_matrix`.

    Args:
        edges: (n_bins + 1,) ascending bin edges.
        width: Standard deviation of the kernel, in the unit of the edges; 0 smooths nothing.
    """
    return np.eye(len(edges) - 1) if width <= 0 else transfer_matrix(edges, edges, width)


def free_energy_surface(
    probability: NDArray[np.float64],
    edges: NDArray[np.float64],
    widths: NDArray[np.float64],
    temperature: float,
) -> NDArray[np.float64]:
    """Return −k_B·T·ln of a smoothed two-dimensional histogram, least value zero.

    Args:
        probability: (n_bins, n_bins) mass in each bin, any normalisation.
        edges: (2, n_bins + 1) edges of both axes.
        widths: (2,) standard deviations of the smoothing kernel.
        temperature: In K.

    Returns:
        (n_bins, n_bins) kcal/mol, infinite where there is no mass.
    """
    rows = smoothing_matrix(edges[0], float(widths[0]))
    columns = smoothing_matrix(edges[1], float(widths[1]))
    # Differences of nearly equal integrals leave rounding of either sign where there is no mass.
    smoothed = np.where(probability.any(), rows @ probability @ columns.T, 0.0)
    smoothed = np.where(smoothed > 1e-14 * probability.sum(), smoothed, 0.0)
    with np.errstate(divide="ignore"):
        energy = -thermal_energy(temperature) * np.log(smoothed)
    finite = np.isfinite(energy)
    return np.asarray(energy - energy[finite].min() if finite.any() else energy)
