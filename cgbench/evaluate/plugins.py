"""Metrics that other packages bring, found by the entry-point group ``cgbench.metrics``.

An entry point ``name = "module:object"`` of a distribution ``package`` names a
:class:`PluginMetric` whose id is ``package:name``. Nothing of a plug-in can end a run: one that
cannot be loaded, or raises, becomes a note on the result.
"""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.metrics import METRICS, STATISTICS, Metric, statistics_of
from cgbench.evaluate.statistic import Statistic

GROUP: Final = "cgbench.metrics"
#: Characters of an exception that are quoted in a note.
_QUOTED: Final = 300


@dataclass(frozen=True)
class PluginMetric:
    """A metric of another package.

    Attributes:
        spec: Its description; the id is ``package:name`` of its entry point.
        metric: Its function and statistics, under the same id.
    """

    spec: registry.MetricSpec
    metric: Metric


@dataclass(frozen=True)
class Plugins:
    """The metrics of other packages that can be used.

    Attributes:
        metrics: By id.
        statistics: What has to be counted for them and is not counted anyway, by name.
        notes: Why others cannot be used.
    """

    metrics: dict[str, Metric]
    statistics: dict[str, Statistic]
    notes: tuple[str, ...]


def load_plugins() -> Plugins:
    """Load the metrics of other packages and make them known to the registry."""
    metrics: dict[str, Metric] = {}
    statistics: dict[str, Statistic] = {}
    notes = []
    for point in sorted(entry_points(group=GROUP), key=_id):
        try:
            plugin = _loaded(point)
            needed = statistics_of([*METRICS.values(), *metrics.values(), plugin.metric])
        # Whatever another package raises while it is loaded is told, not passed on.
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            notes.append(f"Metric {_id(point)} of another package is left out: {told(error)}.")
            continue
        registry.add_metric(plugin.spec)
        metrics[plugin.spec.id] = plugin.metric
        statistics |= {name: one for name, one in needed.items() if name not in STATISTICS}
    return Plugins(metrics, statistics, tuple(notes))


def told(error: Exception) -> str:
    """Return an exception in one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(letter for letter in text if letter.isprintable())[:_QUOTED].rstrip(".")


def _id(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist is not None else 'unknown'}:{point.name}"


def _loaded(point: EntryPoint) -> PluginMetric:
    plugin = point.load()
    if not isinstance(plugin, PluginMetric):
        raise ValidationError(
            "the entry point is no PluginMetric", expected="PluginMetric", found=type(plugin)
        )
    names = (plugin.spec.id, plugin.metric.id)
    if set(names) != {_id(point)}:
        raise ValidationError("the metric has another id", expected=_id(point), found=names)
    return plugin
