"""Closeness to the native structure: descriptive, beside the reference's own values.

These are averages over living frames only; how many were lost is told elsewhere.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from cgbench import registry
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.divergence import quantile


def rmsd_p1(comparison: Comparison) -> Float:
    """Return the first percentile of the weighted RMSD distribution, in Å.

    Unlike the minimum it estimates the same number whatever the number of frames.
    """
    probability = registry.constants().rmsd_percentile / 100.0
    edges = comparison.bundle.edges["rmsd"]
    return quantile(edges, comparison.model.masses["rmsd"], probability)


def rmsd_native(comparison: Comparison) -> Float:
    """Return the weighted mean RMSD over the macrostate that holds the frame of least RMSD, in Å.

    Macrostates are the reference's. Each resample finds the macrostate anew among its frames.
    """
    model = comparison.model
    inside = comparison.bundle.macrostate[:, None] == model.native_macrostate[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            (model.state_rmsd * inside).sum(axis=0) / (model.state_mass * inside).sum(axis=0)
        )


def q_native(comparison: Comparison) -> Float:
    """Return the weighted mean fraction of native contacts."""
    model = comparison.model
    return np.where(model.dead < 1.0, model.means["q"], np.nan)


def handedness(comparison: Comparison) -> Float:
    """Return the share of dihedrals with the native sign over native-like frames."""
    means = comparison.model.means
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(means["folded_handedness"] / means["folded"])


METRICS: Final[dict[str, Callable[[Comparison], Float]]] = {
    "rmsd_p1": rmsd_p1,
    "rmsd_native": rmsd_native,
    "q_native": q_native,
    "handedness": handedness,
}
