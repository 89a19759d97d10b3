"""Metric functions, one file for each family; the registry describes them.

Every function takes a :class:`Comparison`, the weighted distributions of a model and of the
reference with one column for each resample, and returns one value a column.
"""

from collections.abc import Callable
from typing import Final

from cgbench.evaluate.metrics import marginals, stability, structure, thermodynamics
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.forces import FORCE_METRICS, ForceErrors

MetricFunction = Callable[[Comparison], Float]

#: Compared with the reference's distributions; ranked, and void when the gate is not passed.
COMPARED: Final[dict[str, MetricFunction]] = {**thermodynamics.METRICS, **marginals.METRICS}
#: All metrics of an ensemble.
METRICS: Final[dict[str, MetricFunction]] = {
    **COMPARED,
    **structure.METRICS,
    **stability.METRICS,
}

__all__ = [
    "COMPARED",
    "FORCE_METRICS",
    "METRICS",
    "Comparison",
    "ForceErrors",
    "MetricFunction",
]
