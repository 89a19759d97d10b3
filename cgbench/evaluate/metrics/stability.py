"""Whether a simulation holds together."""

from collections.abc import Callable
from typing import Final

from cgbench.evaluate.metrics.comparison import Comparison, Float


def replicas_alive(comparison: Comparison) -> Float:
    """Return the share of trajectories without a bad frame."""
    return comparison.surviving


METRICS: Final[dict[str, Callable[[Comparison], Float]]] = {"replicas_alive": replicas_alive}
