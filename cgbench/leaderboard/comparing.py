"""Compares values of a submission with those computed again."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scipy.stats import norm

from cgbench import registry
from cgbench.leaderboard.scoring import ranked_metrics
from cgbench.results import MetricValue, Result, SystemResult

#: Share of an interval's width by which numbers of the same frames may differ.
_ROUNDING_SHARE: Final = 0.1
#: Relative rounding, for values without interval.
_RELATIVE: Final = 1e-5
#: The same for the reference's own values, which rest on an eigenvalue problem.
_TARGET_ROUNDING: Final = 1e-3
#: Factor by which widths of intervals of two simulations may differ.
_WIDTHS: Final = 10.0
#: Metrics that take more than trajectories: forces of the test part, training frames.
MORE_THAN_TRAJECTORIES: Final = ("force_mse", "force_l1", "novelty")
#: What of a system has to be the same to the last digit, when it is of the same frames.
EXACT: Final = (
    "status", "gates", "n_trajectories", "n_frames", "weights_status", "converged",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One value, submitted and computed again.

    Attributes:
        system: Registry key.
        what: Metric id, or the field.
        submitted: What the submission says.
        recomputed: What was found.
        ratio: The difference over its tolerance; above 1 they disagree. Infinite for what has to be
            the same and is not.
    """

    system: str
    what: str
    submitted: float | str | None
    recomputed: float | str | None
    ratio: float


#: Returns the difference of two values over their tolerance.
Compare = Callable[[MetricValue, MetricValue], float]


def compared(
    result: Result, key: str, found: SystemResult, compare: Compare, *, exact: tuple[str, ...]
) -> list[Difference]:
    """Compare one system of a result with what was found.

    Args:
        result: The submitted result.
        key: Registry key of the system.
        found: What was computed again.
        compare: Returns the difference of two values over their tolerance.
        exact: Fields that have to be the same. With all of ``EXACT`` the frames are the same, and
            statuses, ends of intervals and targets are compared as well.
    """
    item = result.system(key)
    if item is None:  # pragma: no cover - keys are those of the result
        return []
    ranked = {spec.id for spec in ranked_metrics()}
    differences = []
    for name in exact:
        one, two = (getattr(side, name) for side in (item, found))
        same = 0.0 if one == two else math.inf
        differences.append(Difference(key, name, str(one)[:200], str(two)[:200], same))
    for metric in sorted(item.metrics.keys() | found.metrics.keys()):
        if metric in MORE_THAN_TRAJECTORIES or ":" in metric:
            continue
        one, two = item.metrics.get(metric), found.metrics.get(metric)
        if one is None or two is None:
            absent = "absent"
            differences.append(
                Difference(
                    key, metric, absent if one is None else one.value,
                    absent if two is None else two.value, math.inf,
                )
            )  # fmt: skip
            continue
        ratio = compare(one, two)
        if exact != EXACT and two.value is None and metric not in ranked:
            # Whether any frame is in a rare state is itself random, and nothing rests on it.
            ratio = 0.0
        if exact == EXACT and one.status != two.status:
            ratio = math.inf
        differences.append(Difference(key, metric, one.value, two.value, ratio))
        if exact == EXACT:
            differences += _ends(key, metric, one, two)
    return differences


def _ends(key: str, metric: str, one: MetricValue, two: MetricValue) -> list[Difference]:
    """Compare what decides ranks beside the value: ends of the interval, and the target."""
    scale = _tolerance(two)
    # The target is the reference's own value, whatever the model's interval is.
    fixed = _TARGET_ROUNDING * max(1e-3, abs(two.target or 0.0))
    compared = (
        ("lower end", one.lo, two.lo, scale),
        ("upper end", one.hi, two.hi, scale),
        ("target", one.target, two.target, fixed),
    )
    return [
        Difference(key, f"{metric}, {name}", a, b, _ratio(a, b, tolerance))
        for name, a, b, tolerance in compared
    ]


def same_frames(one: MetricValue, two: MetricValue) -> float:
    """Return the difference of two values of the same frames over what rounding explains."""
    return _ratio(one.value, two.value, _tolerance(two))


def _tolerance(value: MetricValue) -> float:
    scale = _RELATIVE * max(1e-3, abs(value.value or 0.0))
    if value.lo is not None and value.hi is not None:
        scale = max(scale, _ROUNDING_SHARE * (value.hi - value.lo))
    return scale


def repeated(n_values: int) -> Compare:
    """Return the comparison of two independent simulations, for so many values at once."""
    level = registry.constants().confidence_level
    tail = (1.0 - level) / 2.0
    widened = float(norm.isf(tail / max(1, n_values)) / norm.isf(tail))

    def compare(one: MetricValue, two: MetricValue) -> float:
        if (one.value, one.lo, one.hi) == (two.value, two.lo, two.hi):
            return 0.0
        if one.value is None:
            # Whether any frame is in a state is itself random, and what has no value scores 0.
            return 0.0
        if two.value is None:
            return math.inf
        if two.lo is None or two.hi is None:
            return _ratio(one.value, two.value, _tolerance(two))
        # The width that was found here counts for both: what a submission says of its own
        # interval makes no number pass.
        width = two.hi - two.lo
        half = math.hypot(width, width) / 2.0
        apart = abs(one.value - two.value) / max(
            widened * half, _RELATIVE * abs(two.value), _RELATIVE**2
        )
        if one.lo is None or one.hi is None or min(width, one.hi - one.lo) <= 0.0:
            return apart
        return max(apart, abs(math.log((one.hi - one.lo) / width)) / math.log(_WIDTHS))

    return compare


def _ratio(one: float | None, two: float | None, scale: float) -> float:
    if one is None or two is None:
        return 0.0 if one is two else math.inf
    return abs(one - two) / scale
