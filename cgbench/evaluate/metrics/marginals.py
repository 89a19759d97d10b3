"""Distributions of single observables."""

from collections.abc import Callable
from typing import Final

import numpy as np

from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.divergence import jensen_shannon
from cgbench.evaluate.metrics.thermodynamics import line_distance


def dihedral_js(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence of each dihedral's distribution, averaged, in bits.

    Dead mass is a state of its own in each of them.
    """
    n_bins = len(comparison.bundle.edges["dihedral"]) - 1
    sides = []
    for side in (comparison.model, comparison.reference):
        angles = side.masses["dihedral"].reshape(-1, n_bins, side.n_columns)
        lost = np.broadcast_to(side.dead, (len(angles), 1, side.n_columns))
        sides.append(np.concatenate([angles, lost], axis=1).swapaxes(0, 1))
    return np.asarray(jensen_shannon(sides[0], sides[1]).mean(axis=0))


METRICS: Final[dict[str, Callable[[Comparison], Float]]] = {
    "rg_w1": lambda comparison: line_distance(comparison, "rg"),
    "dihedral_js": dihedral_js,
    "q_w1": lambda comparison: line_distance(comparison, "q"),
    "rmsd_w1": lambda comparison: line_distance(comparison, "rmsd"),
}
