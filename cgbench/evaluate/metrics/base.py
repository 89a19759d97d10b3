"""What a metric is: a function of a comparison, and the statistics that it is computed from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cgbench.errors import ValidationError
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.statistic import Statistic

__all__ = ["Comparison", "Float", "Metric", "Statistic", "by_id", "statistics_of"]


@dataclass(frozen=True)
class Metric:
    """A metric of an ensemble; the registry holds its version, unit, penalty and description.

    Attributes:
        id: Name in the registry and in results.
        function: Returns one value a column of a comparison, not-a-number where it has none.
        statistics: What has to be counted of the frames for it, beside what is counted always.
        compared: Whether the model's distributions are compared with the reference's. Such a
            metric is void when a gate is not passed.
        note: Says how to read the value where that is not plain, for instance that it was clipped;
            None where there is nothing to say.
        unseen: Says which state the estimate rests on that no frame is in; None where there is no
            such state. Resamples of the same frames do not see it either, so that they say nothing
            of the error.
    """

    id: str
    function: Callable[[Comparison], Float]
    statistics: tuple[Statistic, ...] = ()
    compared: bool = False
    note: Callable[[Comparison], str | None] | None = None
    unseen: Callable[[Comparison], str | None] | None = None

    def __call__(self, comparison: Comparison) -> Float:
        """Return the metric, one value a column."""
        return self.function(comparison)


def by_id(*families: Iterable[Metric]) -> dict[str, Metric]:
    """Return the metrics of several families by their ids.

    Raises:
        ValidationError: Two metrics have the same id.
    """
    found: dict[str, Metric] = {}
    for metric in (metric for family in families for metric in family):
        if metric.id in found:
            raise ValidationError("two metrics have the same id", found=metric.id)
        found[metric.id] = metric
    return found


def statistics_of(metrics: Iterable[Metric]) -> dict[str, Statistic]:
    """Return the statistics that metrics need by name, each once.

    Raises:
        ValidationError: Two different statistics have the same name.
    """
    found: dict[str, Statistic] = {}
    for statistic in (statistic for metric in metrics for statistic in metric.statistics):
        if found.setdefault(statistic.name, statistic) != statistic:
            raise ValidationError("two statistics have the same name", found=statistic.name)
    return found
