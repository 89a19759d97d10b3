"""Scores between 0 and 1 from frozen thresholds: of a metric, of a system, of a model.

A metric scores 1 at the registry's *good*, 0 at *bad*, linear between them and cut off outside; a
metric with a target is taken by its distance from the target. The composite score of a system is
the mean over the ranked metrics that have thresholds, that of a model the mean over the systems
that count. Nothing of it depends on which models are listed, and nothing is stored in results.

What is not there scores 0: a system that failed or is missing, a metric that is absent, ``n/a``,
failed, or void because a gate was not passed. So no score is gained by leaving something out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cgbench import registry
from cgbench.leaderboard.rows import MetricCell, Score, ScoredMetric
from cgbench.registry import MetricSpec
from cgbench.results import MetricValue

NOTHING: Final = Score(value=0.0, lo=0.0, hi=0.0)


def scored_metrics() -> tuple[ScoredMetric, ...]:
    """Return the metrics that count: the suite's own, ranked, with thresholds."""
    return tuple(
        ScoredMetric(
            metric=spec.id,
            version=spec.version,
            name=spec.name,
            unit=spec.unit,
            direction=spec.direction,
            good=spec.good,
            bad=spec.bad,
        )
        for spec in ranked_metrics()
        if spec.good is not None and spec.bad is not None
    )


def ranked_metrics() -> list[MetricSpec]:
    """Return the suite's own ranked metrics; those of other packages are never ranked here."""
    return [
        spec
        for spec in registry.metrics()
        if spec.ranked and not spec.optional and ":" not in spec.id
    ]


def uncounted_metrics() -> tuple[str, ...]:
    """Return the ranked metrics that have no thresholds yet."""
    return tuple(spec.id for spec in ranked_metrics() if spec.good is None or spec.bad is None)


def metric_score(metric: ScoredMetric, value: MetricValue | None, target: float | None) -> Score:
    """Return the score of a value.

    The ends of the interval are scored like the value. A value without interval is a bound, as the
    free energy of a state that no frame was in: its score may be anything down to 0.

    Args:
        metric: The metric and its thresholds.
        value: The value; None where the result does not have it.
        target: What a metric with a target is compared with.
    """
    if value is None or value.status != "ok" or value.value is None:
        return NOTHING
    ends = (value.lo, value.hi)
    if metric.direction == "target":
        if target is None:
            return NOTHING
        point = _linear(metric, abs(value.value - target))
        if ends[0] is None or ends[1] is None:
            return Score(value=point, lo=0.0, hi=point)
        distances = [abs(end - target) for end in ends if end is not None]
        nearest = 0.0 if ends[0] <= target <= ends[1] else min(distances)
        scores = (point, _linear(metric, nearest), _linear(metric, max(distances)))
    else:
        point = _linear(metric, value.value)
        if ends[0] is None or ends[1] is None:
            return Score(value=point, lo=0.0, hi=point)
        scores = (point, _linear(metric, ends[0]), _linear(metric, ends[1]))
    return Score(value=point, lo=min(scores), hi=max(scores))


def _linear(metric: ScoredMetric, value: float) -> float:
    """Return 1 at good, 0 at bad, cut off outside; works for either order of the two."""
    return min(1.0, max(0.0, (metric.bad - value) / (metric.bad - metric.good)))


def system_score(cells: Mapping[str, MetricCell], metrics: Sequence[ScoredMetric]) -> Score | None:
    """Return the composite score of a system; None where no metric counts.

    The metrics of a system are measured on the same frames, so that their errors go together: the
    ends of the interval are the means of the ends, as wide as they can be.
    """
    scores = [cells[metric.metric].score or NOTHING for metric in metrics if metric.metric in cells]
    scores += [NOTHING] * (len(metrics) - len(scores))
    if not scores:
        return None
    return Score(
        value=_mean(one.value for one in scores),
        lo=_mean(one.lo for one in scores),
        hi=_mean(one.hi for one in scores),
    )


def mean_score(scores: Sequence[Score]) -> Score | None:
    """Return the mean over systems, which are simulated and resampled independently.

    Each side of the interval is the root of the summed squares over the number of systems.
    """
    if not scores:
        return None
    value = _mean(one.value for one in scores)
    below = math.hypot(*(one.value - one.lo for one in scores)) / len(scores)
    above = math.hypot(*(one.hi - one.value for one in scores)) / len(scores)
    return Score(value=value, lo=max(0.0, value - below), hi=min(1.0, value + above))


def recovery_score(recovered: int, total: int) -> Score:
    """Return the share of variants that are recovered, with Wilson's 95 % interval.

    Wilson, J. Am. Stat. Assoc. 22, 209 (1927); a share of few has no normal error.
    """
    z, share = 1.959963984540054, recovered / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    half /= 1 + z * z / total
    return Score(
        value=share, lo=min(share, max(0.0, middle - half)), hi=max(share, min(1.0, middle + half))
    )


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
