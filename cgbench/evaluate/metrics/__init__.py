"""Metrics of an ensemble, one file for each family; the registry describes them.

A metric is a function of a :class:`Comparison`, the weighted distributions of a model and of the
reference with one column for each resample, and returns one value a column. It names the
statistics that have to be counted for it. To add one, write the function, list it in ``METRICS``
of its family and describe it in the registry.
"""

from typing import Final

from cgbench.evaluate.metrics import (
    macrostates,
    marginals,
    published,
    stability,
    structure,
    thermodynamics,
)
from cgbench.evaluate.metrics.base import Metric, by_id, statistics_of
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.forces import FORCE_METRICS, ForceErrors
from cgbench.evaluate.statistic import Statistic

#: All metrics of an ensemble by id.
METRICS: Final[dict[str, Metric]] = by_id(
    thermodynamics.METRICS,
    macrostates.METRICS,
    marginals.METRICS,
    published.METRICS,
    structure.METRICS,
    stability.METRICS,
)
#: Those that compare distributions with the reference's: void when the gate is not passed.
COMPARED: Final[dict[str, Metric]] = {
    name: metric for name, metric in METRICS.items() if metric.compared
}
#: What has to be counted for them, by name.
STATISTICS: Final[dict[str, Statistic]] = statistics_of(METRICS.values())

__all__ = [
    "COMPARED",
    "FORCE_METRICS",
    "METRICS",
    "STATISTICS",
    "Comparison",
    "Float",
    "ForceErrors",
    "Metric",
    "by_id",
    "statistics_of",
]
