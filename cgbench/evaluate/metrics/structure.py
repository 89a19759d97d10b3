"""Closeness to the native structure: descriptive, beside the reference's own values.

Averages are over living frames only; how many were lost is told elsewhere. Shares of frames count
lost ones, which are in none.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.alignment_search import TM_SHORTEST_CHAIN
from cgbench.evaluate.metrics.base import Metric
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.divergence import mass_above, mass_below, quantile
from cgbench.evaluate.metrics.marginals import BOND, bond_edges, bond_masses, distant_pairs
from cgbench.evaluate.statistic import Definition, Frames, Statistic


def rmsd_p1(comparison: Comparison) -> Float:
    """Return the first percentile of the weighted RMSD distribution, in Å.

    Unlike the minimum it estimates the same number whatever the number of frames.
    """
    probability = registry.constants().rmsd_percentile / 100.0
    edges = comparison.bundle.edges["rmsd"]
    return quantile(edges, comparison.model.masses["rmsd"], probability)


def _native_states(comparison: Comparison) -> NDArray[np.bool_]:
    """Mark the microstates of the macrostate with the frame of least RMSD, (n_states, n_columns).

    Macrostates are the reference's. Each resample finds the macrostate anew among its frames.
    """
    native = comparison.model.native_macrostate
    return np.asarray(comparison.definition.macrostate[:, None] == native[None, :])


def rmsd_native(comparison: Comparison) -> Float:
    """Return the weighted mean RMSD over the macrostate that holds the frame of least RMSD, in Å.

    Macrostates are the reference's. Each resample finds the macrostate anew among its frames.
    """
    model, inside = comparison.model, _native_states(comparison)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            (model.state_rmsd * inside).sum(axis=0) / (model.state_mass * inside).sum(axis=0)
        )


def rmsd_below(comparison: Comparison) -> Float:
    """Return the weighted share of frames within the registry's close RMSD; lost ones are not."""
    bound = registry.constants().close_rmsd
    return mass_below(comparison.bundle.edges["rmsd"], comparison.model.masses["rmsd"], bound)


def _score_percentile(comparison: Comparison, name: str) -> Float:
    """Return a high percentile of a structure score over the searched frames.

    As far from the best as `rmsd_p1` is: the value that one frame in a hundred reaches.
    """
    masses = comparison.model.masses.get(name)
    if masses is None:
        return np.full(comparison.model.n_columns, np.nan)
    edges = np.linspace(0.0, 1.0, len(masses) + 1)
    return quantile(edges, masses, 1.0 - registry.constants().rmsd_percentile / 100.0)


def _search_note(_: Comparison) -> str:
    constants = registry.constants()
    return (
        f"searched on at most {constants.search_frames} seeded frames and the "
        f"{constants.search_closest} of least RMSD"
    )


def _tm_note(comparison: Comparison) -> str:
    n_beads = comparison.definition.n_beads
    if n_beads < TM_SHORTEST_CHAIN:
        return f"not used below {TM_SHORTEST_CHAIN} beads: this chain has {n_beads}"
    return _search_note(comparison)


def gdt_ts_native(comparison: Comparison) -> Float:
    """Return the weighted mean GDT-TS over the native macrostate; see `rmsd_native`."""
    model, inside = comparison.model, _native_states(comparison)
    if model.state_gdt_ts is None or model.state_searched is None:
        return np.full(model.n_columns, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            (model.state_gdt_ts * inside).sum(axis=0) / (model.state_searched * inside).sum(axis=0)
        )


def q_native(comparison: Comparison) -> Float:
    """Return the weighted mean fraction of native contacts."""
    model = comparison.model
    return np.where(model.dead < 1.0, model.means["q"], np.nan)


def handedness(comparison: Comparison) -> Float:
    """Return the share of dihedrals with the native sign over native-like frames."""
    means = comparison.model.means
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(means["native_like_handedness"] / means["native_like"])


def _clashes(frames: Frames, definition: Definition) -> NDArray[Any]:
    constants = registry.constants()
    chosen = distant_pairs(definition.n_beads, constants.clash_separation)
    close = frames.distances[:, chosen] < constants.clash_distance
    return np.asarray(close.sum(axis=1, keepdims=True), dtype=np.float64)


#: Pairs of beads closer than beads can be.
CLASH: Final = Statistic(
    name="clash",
    version=1,
    frames="subset",
    kind="sums",
    n_columns=lambda _: 1,
    measure=_clashes,
)


def clash_rate(comparison: Comparison) -> Float:
    """Return the weighted mean number of clashing pairs a frame."""
    found = comparison.model.means.get(CLASH.name)
    if found is None:
        return np.full(comparison.model.n_columns, np.nan)
    return np.where(comparison.model.dead < 1.0, found, np.nan)


def bond_violation_rate(comparison: Comparison) -> Float:
    """Return the weighted share of bonds far from the reference's mean length.

    Far is more than the registry's number of the reference's standard deviations of that bond, both
    from its histogram. Long runs have such bonds by chance: a rate to compare with the
    reference's.
    """
    edges = bond_edges()
    model, reference = bond_masses(comparison)
    centres = 0.5 * (edges[1:] + edges[:-1])
    frozen = reference[:, :, 0]
    mean = frozen @ centres
    spread = np.sqrt(np.maximum(frozen @ centres**2 - mean**2, 0.0))
    reach = registry.constants().bond_violation_deviations * spread
    outside = [
        mass_below(edges, masses, low) + mass_above(edges, masses, high)
        for masses, low, high in zip(model, mean - reach, mean + reach, strict=True)
    ]
    living = 1.0 - comparison.model.dead
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.minimum(np.mean(outside, axis=0) / living, 1.0))


METRICS: Final[tuple[Metric, ...]] = (
    Metric("rmsd_p1", rmsd_p1),
    Metric("rmsd_native", rmsd_native),
    Metric("rmsd_below_2p5", rmsd_below),
    Metric("gdt_ts", lambda comparison: _score_percentile(comparison, "gdt_ts"), note=_search_note),
    Metric("gdt_ha", lambda comparison: _score_percentile(comparison, "gdt_ha"), note=_search_note),
    Metric("tm", lambda comparison: _score_percentile(comparison, "tm"), note=_tm_note),
    Metric("gdt_ts_native", gdt_ts_native, note=_search_note),
    Metric("q_native", q_native),
    Metric("clash_rate", clash_rate, statistics=(CLASH,)),
    Metric("bond_violation_rate", bond_violation_rate, statistics=(BOND,)),
    Metric("handedness", handedness),
)
