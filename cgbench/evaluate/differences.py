"""Differences of two scored rows in one metric: paired where they can be, else independent.

Two rows that were started from the same frames and resampled together differ by less noise than
either has: their resampled differences are taken as they are. Rows of other seeds, starts or
numbers of trajectories are independent, and so are their resamples. A metric with a target is
compared by the distance to it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.bootstrap import interval, multiplicities
from cgbench.evaluate.metrics import FORCE_METRICS
from cgbench.evaluate.scored import Scored
from cgbench.results import MetricValue

Float = NDArray[np.float64]
#: ``intervals``: only the two intervals are known, and added as independent normal errors.
DifferenceKind = Literal["paired", "unpaired", "intervals"]


@dataclass(frozen=True)
class MetricDifference:
    """The difference a − b of a metric, or of the distances to its target.

    Attributes:
        diff: The difference.
        lo: Lower end of its 95 % interval; None where there is none.
        hi: Upper end.
        kind: How the interval was made.
        resamples: (n_resamples,) resampled differences; None where only intervals are known.
        reason: Why it is not paired.
    """

    diff: float
    lo: float | None
    hi: float | None
    kind: DifferenceKind
    resamples: Float | None
    reason: str | None

    @property
    def significant(self) -> bool | None:
        """Whether zero lies outside the interval; None without one."""
        if self.lo is None or self.hi is None:
            return None
        return self.lo > 0.0 or self.hi < 0.0


def apart(value: float, target: float | None) -> float:
    """Return a value, or its distance to a target."""
    return value if target is None else abs(value - target)


def row_difference(
    a: Scored,
    b: Scored,
    metric: str,
    *,
    target: float | None = None,
    same_starts: bool = True,
) -> MetricDifference:
    """Return the difference a − b of a metric of two rows of one system.

    Args:
        a: A row.
        b: Another.
        metric: A metric that both have a value of.
        target: Compare the distances to this instead of the values.
        same_starts: Whether trajectory i of both began at the same frame.

    Raises:
        ValidationError: The rows are of different systems, or one has no value of the metric.
    """
    if a.result.system != b.result.system:
        raise ValidationError(
            f"{metric}: {a.name} and {b.name} cannot be compared",
            found=f"systems {a.result.system} and {b.result.system}",
        )
    values = [_value(row, metric) for row in (a, b)]
    if metric in FORCE_METRICS:
        return _force_difference(a, b, metric, values)
    diff = apart(values[0], target) - apart(values[1], target)
    samples = [row.resamples.get(metric) for row in (a, b)]
    reason = _unpaired(a, b, same_starts)
    first, second = samples
    if first is None or second is None or not len(first) or not len(second):
        return MetricDifference(diff, None, None, "unpaired", None, "one of them has no resamples")
    if target is not None:
        first, second = np.abs(first - target), np.abs(second - target)
    if reason is None and len(first) == len(second):
        differences, kind = first - second, "paired"
        found = interval(diff, differences)
    else:
        differences, kind = _independent(first, second), "unpaired"
        found = _independent_interval(diff, first, second)
    if found is None or min(a.n_trajectories, b.n_trajectories) < 2:
        why = reason or "too few trajectories or resamples with a value"
        return MetricDifference(diff, None, None, "unpaired", None, why)
    if kind == "paired":
        return MetricDifference(diff, *found, "paired", differences, None)
    return MetricDifference(
        diff, *found, "unpaired", differences, reason or "another number of resamples"
    )


def interval_difference(
    a: MetricValue, b: MetricValue, *, target: float | None = None
) -> MetricDifference:
    """Return the difference of two values of which only the intervals are known.

    The intervals count as those of independent normal errors, which for rows that could be paired
    is wider than it need be.

    Args:
        a: A value.
        b: Another.
        target: Compare the distances to this instead of the values.

    Raises:
        ValidationError: One is without value.
    """
    if a.value is None or b.value is None:
        raise ValidationError("a difference takes two values", found=f"{a.status} and {b.status}")
    diff = apart(a.value, target) - apart(b.value, target)
    reason = "the resamples of one of them are not at hand"
    if a.lo is None or a.hi is None or b.lo is None or b.hi is None:
        return MetricDifference(diff, None, None, "intervals", None, "one of them has no interval")
    half = float(np.hypot(a.hi - a.lo, b.hi - b.lo) / 2.0)
    return MetricDifference(diff, diff - half, diff + half, "intervals", None, reason)


def mean_difference(differences: list[MetricDifference]) -> MetricDifference | None:
    """Return the mean of the differences of several systems, which are independent.

    Args:
        differences: One for each system, in a fixed order.

    Returns:
        The mean with its interval; None where one of them has none.
    """
    if not differences or any(item.lo is None for item in differences):
        return None
    diff = float(np.mean([item.diff for item in differences]))
    kinds = {item.kind for item in differences}
    kind: DifferenceKind = kinds.pop() if len(kinds) == 1 else "unpaired"
    reason = next((item.reason for item in differences if item.reason is not None), None)
    lengths = {0 if item.resamples is None else len(item.resamples) for item in differences}
    if len(lengths) > 1 or 0 in lengths:
        halves = [(item.hi or 0.0) - (item.lo or 0.0) for item in differences]
        half = float(np.linalg.norm(halves)) / (2.0 * len(halves))
        return MetricDifference(diff, diff - half, diff + half, "intervals", None, reason)
    # Systems that were resampled with the same numbers are shifted against each other.
    shifted = [
        np.roll(item.resamples, index)
        for index, item in enumerate(differences)
        if item.resamples is not None
    ]
    resamples: Float = np.mean(shifted, axis=0)
    found = interval(diff, resamples)
    if found is None:
        return None
    return MetricDifference(diff, *found, kind, resamples, reason)


def _value(row: Scored, metric: str) -> float:
    found = row.result.metrics.get(metric)
    if found is None or found.value is None:
        raise ValidationError(f"{metric}: {row.name} has no value", found="nothing to compare")
    return found.value


def _unpaired(a: Scored, b: Scored, same_starts: bool) -> str | None:
    """Return why two rows are independent, or None."""
    if not same_starts:
        return "they were not started from the same frames"
    if a.n_trajectories != b.n_trajectories:
        return f"{a.n_trajectories} and {b.n_trajectories} trajectories"
    if a.seed != b.seed:
        return f"seeds {a.seed} and {b.seed}"
    return None


def _independent(first: Float, second: Float) -> Float:
    """Return differences of resamples that have nothing to do with each other.

    Rows of the same seed took the same trajectories in the same resample, so one is moved by one.
    """
    number = min(len(first), len(second))
    difference: Float = first[:number] - np.roll(second[:number], 1)
    return difference


def _independent_interval(diff: float, first: Float, second: Float) -> tuple[float, float] | None:
    """Return the interval from every pair of resamples: none of them belongs to another."""
    return interval(diff, (first[:, None] - second[None, :]).ravel())


def _force_difference(a: Scored, b: Scored, metric: str, values: list[float]) -> MetricDifference:
    """Return the difference of force errors, paired by test trajectory."""
    diff = values[0] - values[1]
    first, second = a.force_errors, b.force_errors
    if first is None or second is None:
        return MetricDifference(diff, None, None, "unpaired", None, "force errors are not at hand")
    if first.force_map != second.force_map:
        raise ValidationError(
            f"{metric}: force errors of different force maps are never compared",
            found=f"{first.force_map} and {second.force_map}",
        )
    number = registry.constants().n_resamples
    same = np.array_equal(first.trajectory, second.trajectory) and np.array_equal(
        first.count, second.count
    )
    function = FORCE_METRICS[metric]
    columns = [
        function(errors, multiplicities(a.seed, errors.n_trajectories, number, "forces"))[1:]
        for errors in (first, second)
    ]
    if same:
        differences = columns[0] - columns[1]
        found = interval(diff, differences)
    else:
        differences = _independent(columns[0], columns[1])
        found = _independent_interval(diff, columns[0], columns[1])
    if found is None or min(first.n_trajectories, second.n_trajectories) < 2:
        return MetricDifference(diff, None, None, "unpaired", None, "too few test trajectories")
    if same:
        return MetricDifference(diff, *found, "paired", differences, None)
    return MetricDifference(diff, *found, "unpaired", differences, "different test frames")
