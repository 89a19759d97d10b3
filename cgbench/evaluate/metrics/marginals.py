"""Distributions of single observables, of every bond, angle, dihedral and pair of beads."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate import geometry
from cgbench.evaluate.metrics.base import Metric
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.divergence import mean_jensen_shannon, wasserstein
from cgbench.evaluate.metrics.thermodynamics import line_distance
from cgbench.evaluate.statistic import Definition, Frames, Statistic


def blocks(bins: NDArray[Any], n_bins: int) -> NDArray[np.int32]:
    """Return the columns of several distributions, one block of bins after the other.

    Args:
        bins: (n, k) bin of each of k observables; bins that do not exist become the outermost.
        n_bins: Bins of each.
    """
    inside = np.clip(bins, 0, n_bins - 1).astype(np.int32)
    return np.asarray(inside + n_bins * np.arange(bins.shape[1], dtype=np.int32))


def even_bins(
    values: NDArray[np.float32], low: float, high: float, n_bins: int
) -> NDArray[np.float32]:
    """Return which of equally wide bins each value is in, below 0 and from n_bins on outside."""
    scale = np.float32(n_bins / (high - low))
    return np.asarray(np.floor((values - np.float32(low)) * scale))


@functools.lru_cache(maxsize=32)
def distant_pairs(n_beads: int, separation: int) -> NDArray[np.int64]:
    """Return which of all pairs are at least so many bonds apart, as indices (n_pairs,)."""
    pairs = geometry.pair_indices(n_beads)
    chosen = np.flatnonzero(pairs[:, 1] - pairs[:, 0] >= separation)
    chosen.flags.writeable = False
    return chosen


def bond_edges() -> Float:
    """Return the bin edges of a bond length between its limits, in Å."""
    constants = registry.constants()
    return np.linspace(constants.bond_minimum, constants.bond_maximum, constants.bond_bins + 1)


def _bond(frames: Frames, _: Definition) -> NDArray[Any]:
    constants = registry.constants()
    low, high, n_bins = constants.bond_minimum, constants.bond_maximum, constants.bond_bins
    return blocks(even_bins(frames.bonds, low, high, n_bins), n_bins)


def _angle(frames: Frames, _: Definition) -> NDArray[Any]:
    n_bins = registry.constants().angle_bins
    return blocks(even_bins(frames.angles, 0.0, np.pi, n_bins), n_bins)


def _dihedral(frames: Frames, _: Definition) -> NDArray[Any]:
    n_bins = registry.constants().dihedral_bins
    # The upper end of the turn is its lower end.
    return blocks(even_bins(frames.dihedrals, -np.pi, np.pi, n_bins) % n_bins, n_bins)


def _contact(frames: Frames, definition: Definition) -> NDArray[Any]:
    constants = registry.constants()
    chosen = distant_pairs(definition.n_beads, constants.contact_separation)
    close = frames.distances[:, chosen] < constants.contact_cutoff
    return np.where(close, np.arange(len(chosen), dtype=np.int32), np.int32(-1))


def pair_edges(n_beads: int) -> Float:
    """Return the bin edges of a pair's distance in Å.

    The first bin holds distances at which beads clash. The others are as wide as their lower edge
    times the same factor, up to the length of the stretched chain: contacts are resolved to a
    fraction of an ångström, distances across the chain to a few per cent.
    """
    constants = registry.constants()
    longest = constants.bond_maximum * (n_beads - 1)
    steps = np.geomspace(constants.clash_distance, longest, constants.pair_distance_bins)
    return np.append(0.0, steps)


def _pair_distance(frames: Frames, definition: Definition) -> NDArray[Any]:
    constants = registry.constants()
    chosen = distant_pairs(definition.n_beads, constants.pair_separation)
    n_bins = constants.pair_distance_bins
    edges = pair_edges(definition.n_beads)
    with np.errstate(divide="ignore"):
        logarithm = np.log(frames.distances[:, chosen])
    low, high = float(np.log(edges[1])), float(np.log(edges[-1]))
    return blocks(1.0 + even_bins(logarithm, low, high, n_bins - 1), n_bins)


BOND: Final = Statistic(
    name="bond",
    version=1,
    frames="subset",
    kind="bins",
    n_columns=lambda definition: (definition.n_beads - 1) * registry.constants().bond_bins,
    measure=_bond,
)
ANGLE: Final = Statistic(
    name="angle",
    version=1,
    frames="subset",
    kind="bins",
    n_columns=lambda definition: max(definition.n_beads - 2, 0) * registry.constants().angle_bins,
    measure=_angle,
)
DIHEDRAL: Final = Statistic(
    name="dihedral",
    version=1,
    frames="subset",
    kind="bins",
    n_columns=lambda definition: (
        max(definition.n_beads - 3, 0) * registry.constants().dihedral_bins
    ),
    measure=_dihedral,
)
#: Whether each pair of beads is in contact.
CONTACT: Final = Statistic(
    name="contact",
    version=1,
    frames="subset",
    kind="bins",
    n_columns=lambda definition: len(
        distant_pairs(definition.n_beads, registry.constants().contact_separation)
    ),
    measure=_contact,
)
PAIR_DISTANCE: Final = Statistic(
    name="pair_distance",
    version=1,
    frames="subset",
    kind="bins",
    n_columns=lambda definition: (
        len(distant_pairs(definition.n_beads, registry.constants().pair_separation))
        * registry.constants().pair_distance_bins
    ),
    measure=_pair_distance,
)


def _mean_divergence(comparison: Comparison, statistic: Statistic, n_bins: int) -> Float:
    return mean_jensen_shannon(*comparison.counted(statistic), comparison.model.dead, n_bins)


def bond_masses(comparison: Comparison) -> tuple[Float, Float]:
    """Return the histograms of every bond of both sides, (n_beads − 1, n_bins, n_columns)."""
    n_bins, n_columns = registry.constants().bond_bins, comparison.model.n_columns
    model, reference = (side.reshape(-1, n_bins, n_columns) for side in comparison.counted(BOND))
    return model, reference


def bond_w1(comparison: Comparison) -> Float:
    """Return the Wasserstein distance of each bond length's distribution, averaged, in Å.

    Dead mass lies at the farther limit of a bond.
    """
    edges, dead = bond_edges(), comparison.model.dead
    model, reference = bond_masses(comparison)
    distances = [wasserstein(edges, *bond, dead) for bond in zip(model, reference, strict=True)]
    return np.asarray(np.mean(distances, axis=0))


def angle_js(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence of each bond angle's distribution, averaged, in bits."""
    return _mean_divergence(comparison, ANGLE, registry.constants().angle_bins)


def dihedral_js(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence of each dihedral's distribution, averaged, in bits.

    Dead mass is a state of its own in each of them.
    """
    return _mean_divergence(comparison, DIHEDRAL, registry.constants().dihedral_bins)


def contact_rmse(comparison: Comparison) -> Float:
    """Return the root mean square error of the contact probabilities over all pairs.

    Lost frames have no contacts.
    """
    model, reference = comparison.counted(CONTACT)
    difference = model - reference
    if not len(difference):
        return np.full(comparison.model.n_columns, np.nan)
    return np.asarray(np.sqrt((difference**2).mean(axis=0)))


def pair_distance_js(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence of each pair's distance, averaged, in bits."""
    return _mean_divergence(comparison, PAIR_DISTANCE, registry.constants().pair_distance_bins)


METRICS: Final[tuple[Metric, ...]] = (
    Metric("rg_w1", lambda comparison: line_distance(comparison, "rg"), compared=True),
    Metric(
        "end_to_end_w1", lambda comparison: line_distance(comparison, "end_to_end"), compared=True
    ),
    Metric("bond_w1", bond_w1, statistics=(BOND,), compared=True),
    Metric("angle_js", angle_js, statistics=(ANGLE,), compared=True),
    Metric("dihedral_js", dihedral_js, statistics=(DIHEDRAL,), compared=True),
    Metric("contact_rmse", contact_rmse, statistics=(CONTACT,), compared=True),
    Metric("pair_distance_js", pair_distance_js, statistics=(PAIR_DISTANCE,), compared=True),
    Metric("q_w1", lambda comparison: line_distance(comparison, "q"), compared=True),
    Metric("rmsd_w1", lambda comparison: line_distance(comparison, "rmsd"), compared=True),
)
