"""Whether a simulation holds together."""

from typing import Final

from cgbench.evaluate.metrics.base import Metric
from cgbench.evaluate.metrics.comparison import Comparison, Float


def replicas_alive(comparison: Comparison) -> Float:
    """Return the share of trajectories without a bad frame."""
    return comparison.surviving


METRICS: Final[tuple[Metric, ...]] = (Metric("replicas_alive", replicas_alive),)
