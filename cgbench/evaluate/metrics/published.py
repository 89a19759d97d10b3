"""Definitions of other benchmarks, so that numbers published with them can be compared.

They are applied to this suite's projections and weights, and are not ranked by.
"""

import functools
import itertools
from typing import Any, Final

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate import geometry
from cgbench.evaluate.free_energy import transfer_matrix
from cgbench.evaluate.metrics.base import Metric
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.marginals import distant_pairs
from cgbench.evaluate.statistic import Definition, Frames, Statistic
from cgbench.units import thermal_energy

#: Cells with a point less often than this are left out.
_SELDOM: Final = 1e-6


def noisy_edges(masses: Float, edges: Float, width: float) -> Float:
    """Return the edges of the BioEmu benchmark's grid along one axis.

    There, many points are drawn from the reference, each is moved by Gaussian noise, and the grid
    spans the outermost ones and a little more. Here the span is between the medians of what the
    outermost of as many points would be.

    Args:
        masses: (n_bins,) the reference along the axis, any normalisation.
        edges: (n_bins + 1,) its edges.
        width: Standard deviation of the noise, in the unit of the edges.

    Returns:
        (bioemu.bins + 1,) ascending.
    """
    bioemu = registry.constants().bioemu
    density = masses / masses.sum() / np.diff(edges)

    def missing(place: float, share: float) -> float:
        scaled = (place - edges) / width
        kernel = np.exp(-0.5 * scaled**2) / np.sqrt(2.0 * np.pi)
        integral = width * (scaled * scipy.special.ndtr(scaled) + kernel)
        return float(density @ (integral[:-1] - integral[1:])) - share

    # The smallest of n points is below x with probability one half where 1 − (1 − F)^n = ½.
    tail = -np.expm1(np.log(0.5) / bioemu.points)
    reach = 10.0 * width
    low, high = (
        float(scipy.optimize.brentq(missing, edges[0] - reach, edges[-1] + reach, args=(share,)))
        for share in (tail, 1.0 - tail)
    )
    margin = bioemu.padding * (high - low) / (bioemu.bins + 1)
    return np.linspace(low - margin, high + margin, bioemu.bins + 1)


def bioemu_surfaces(
    model: Float, reference: Float, edges: Float, sigma: Float
) -> tuple[Float, Float]:
    """Return both distributions on the grid of the BioEmu benchmark.

    Args:
        model: (n_x, n_y, n_columns) histograms whose columns are shares of all frames.
        reference: The same of the reference; the grid is that of its first column.
        edges: (2, n + 1) edges of both axes.
        sigma: (2,) standard deviations of the reference, the unit of the noise.

    Returns:
        Masses (bins², n_columns) of the model and of the reference.
    """
    bioemu = registry.constants().bioemu
    matrices = []
    for axis in range(2):
        width = bioemu.noise * float(sigma[axis])
        along = reference[:, :, 0].sum(axis=1 - axis)
        matrices.append(transfer_matrix(edges[axis], noisy_edges(along, edges[axis], width), width))
    first, second = (
        np.einsum("ai,ijk,bj->abk", matrices[0], side, matrices[1], optimize=True).reshape(
            bioemu.bins**2, -1
        )
        for side in (model, reference)
    )
    return first, second


def bioemu_scores(model: Float, reference: Float, temperature: float) -> tuple[Float, Float]:
    """Return the free-energy error and the coverage of the BioEmu benchmark.

    There, a million points are drawn from each side. Cells count whose reference free energy is
    less than the cutoff above the least; the coverage is the share of them with a point of the
    model, and the error is the mean of |F_model − F_reference| over those, after the shift that
    makes it least. Here both are what those draws give on average: a cell has a point with
    probability 1 − e^(−λ), λ being the points it expects, and its free energies scatter as the
    logarithms of Poisson numbers do, to first order. Definition:
    ``DistributionMetrics2D.score_nonzero`` of the authors' package ``bioemu-benchmarks`` 0.0.2,
    which accompanies doi:10.1126/science.adv9817.

    Args:
        model: (n_cells, n_columns) masses.
        reference: The same of the reference.
        temperature: In K.

    Returns:
        Errors (n_columns,) in kcal/mol, not-a-number where no cell is visited, and coverages.
    """
    bioemu = registry.constants().bioemu
    scale = thermal_energy(temperature)
    counted = reference > reference.max(axis=0) * np.exp(-bioemu.cutoff / scale)
    # Differences of nearly equal integrals leave rounding of either sign where there is no mass.
    expected = np.maximum(model, 0.0) * bioemu.points
    visited = np.where(counted, -np.expm1(-expected), 0.0)
    error = np.full(model.shape[1], np.nan)
    for column in range(model.shape[1]):
        cells = np.flatnonzero(visited[:, column] > _SELDOM)
        if not len(cells):
            continue
        weight, points = visited[cells, column], expected[cells, column]
        found, wanted = points / weight, reference[cells, column] * bioemu.points
        apart = np.log(wanted) - np.log(found)
        # The variance of a Poisson number that is not zero, over the square of its mean.
        spread = np.sqrt(np.maximum(1.0 + points - found, 0.0) / found + 1.0 / wanted)
        apart = apart - _median(apart, weight)
        folded = _folded_normal_mean(apart, spread)
        error[column] = scale * (weight @ folded) / weight.sum()
    return error, visited.sum(axis=0) / counted.sum(axis=0)


def _median(values: Float, weights: Float) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]])


def _folded_normal_mean(mean: Float, deviation: Float) -> Float:
    """Return the mean of |x| for normal x; Leone et al., Technometrics 3, 543 (1961)."""
    scaled = mean / (np.sqrt(2.0) * deviation)
    return np.asarray(
        deviation * np.sqrt(2.0 / np.pi) * np.exp(-(scaled**2)) + mean * scipy.special.erf(scaled)
    )


def _bioemu(comparison: Comparison) -> tuple[Float, Float]:
    """Lost frames are no samples there: shares are of the living ones."""
    bundle = comparison.bundle
    shape = tuple(len(axis) - 1 for axis in bundle.fes_edges)
    sides = []
    for side in (comparison.model, comparison.reference):
        with np.errstate(invalid="ignore", divide="ignore"):
            living = np.nan_to_num(side.masses["plane"][:-1] / (1.0 - side.dead))
        sides.append(living.reshape(*shape, -1))
    surfaces = bioemu_surfaces(sides[0], sides[1], bundle.fes_edges, bundle.tic_sigma[:2])
    return bioemu_scores(*surfaces, bundle.temperature)


def natural_jensen_shannon(model: Float, reference: Float) -> Float:
    """Return the Jensen-Shannon divergence of two-for-one, in nats and at most ln 2.

    Both are normalised and the registry's pseudo-count is added to every bin. Arts et al.
    (2023), doi:10.1021/acs.jctc.3c00702, by the function ``js_divergence`` of the authors'
    repository ``two-for-one-diffusion``.

    Args:
        model: (n_bins, …) masses of any sum along the first axis.
        reference: The same shape.

    Returns:
        Not-a-number where one of them has no mass.
    """
    pseudo_count = registry.constants().two_for_one.pseudo_count
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = (side / side.sum(axis=0) + pseudo_count for side in (model, reference))
    middle = 0.5 * (p + q)
    divergence = scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)
    return np.asarray(0.5 * divergence.sum(axis=0))


def _plane_bins(frames: Frames, definition: Definition) -> NDArray[Any]:
    constants = registry.constants()
    n_bins, margin = constants.two_for_one.tic_bins, constants.fes_grid_margin
    flat = np.zeros(len(frames), dtype=np.int64)
    inside = np.ones(len(frames), dtype=bool)
    for axis, edges in enumerate(definition.fes_edges):
        # The grid of free energies is the reference's range and a margin.
        low, high = edges[0] + margin, edges[-1] - margin
        place = np.floor((frames.tics[:, axis].astype(np.float64) - low) / (high - low) * n_bins)
        inside &= (place >= 0) & (place <= n_bins)
        flat = flat * n_bins + np.clip(place, 0, n_bins - 1).astype(np.int64)
    return np.where(inside, flat, -1)[:, None]


#: Both slow coordinates over the reference's range; frames outside are in no bin.
TWO_FOR_ONE_PLANE: Final = Statistic(
    name="two_for_one_plane",
    version=1,
    frames="all",
    kind="bins",
    n_columns=lambda _: registry.constants().two_for_one.tic_bins ** 2,
    measure=_plane_bins,
)


@functools.lru_cache(maxsize=32)
def _chosen_pairs(n_beads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs (n_pairs,) and the first column of each and of one more (n_pairs + 1,)."""
    constants = registry.constants()
    settings = constants.two_for_one
    pairs = distant_pairs(n_beads, settings.pair_separation)
    number = min(len(pairs), settings.pairs)
    chosen = pairs[np.linspace(0, len(pairs), number, endpoint=False).astype(np.int64)]
    first, second = geometry.pair_indices(n_beads)[chosen].T
    longest = np.minimum((second - first) * constants.bond_maximum, settings.longest)
    sizes = np.ceil(longest / settings.pair_resolution).astype(np.int64)
    return chosen, np.append(0, np.cumsum(sizes))


def _fine_distances(frames: Frames, definition: Definition) -> NDArray[Any]:
    chosen, starts = _chosen_pairs(definition.n_beads)
    resolution = registry.constants().two_for_one.pair_resolution
    bins = np.floor(frames.distances[:, chosen] / np.float32(resolution)).astype(np.int64)
    return np.asarray(starts[:-1] + np.minimum(bins, np.diff(starts) - 1))


#: The distances of pairs in narrow bins, the last of each open.
TWO_FOR_ONE_PAIRS: Final = Statistic(
    name="two_for_one_pairs",
    version=1,
    frames="subset",
    kind="bins",
    n_columns=lambda definition: int(_chosen_pairs(definition.n_beads)[1][-1]),
    measure=_fine_distances,
)


def two_for_one_tic_js(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence of two-for-one over both slow coordinates, in nats."""
    return natural_jensen_shannon(*comparison.counted(TWO_FOR_ONE_PLANE))


def two_for_one_pair_distance_js(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence of two-for-one of pair distances, averaged, in nats."""
    model, reference = comparison.counted(TWO_FOR_ONE_PAIRS)
    _, starts = _chosen_pairs(comparison.definition.n_beads)
    found = [
        natural_jensen_shannon(model[start:stop], reference[start:stop])
        for start, stop in itertools.pairwise(starts)
    ]
    return np.asarray(np.mean(found, axis=0)) if found else np.full(model.shape[1], np.nan)


METRICS: Final[tuple[Metric, ...]] = (
    Metric("bioemu_fes_mae", lambda comparison: _bioemu(comparison)[0], compared=True),
    Metric("bioemu_coverage", lambda comparison: _bioemu(comparison)[1], compared=True),
    Metric(
        "two_for_one_tic_js", two_for_one_tic_js, statistics=(TWO_FOR_ONE_PLANE,), compared=True
    ),
    Metric(
        "two_for_one_pair_distance_js",
        two_for_one_pair_distance_js,
        statistics=(TWO_FOR_ONE_PAIRS,),
        compared=True,
    ),
)
