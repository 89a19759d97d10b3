"""Results as one tidy table: a row for each model, system and metric."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.results.schema import Result

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = (
    "model",
    "kind",
    "system",
    "protocol",
    "metric",
    "value",
    "lo",
    "hi",
    "n_eff",
    "target",
    "unit",
    "direction",
    "status",
    "note",
)


def _described(metric: str) -> tuple[str | None, str | None]:
    """Return unit and direction; a result may hold metrics that this registry does not know."""
    try:
        spec = registry.metric(metric)
    except UsageError:
        return None, None
    return spec.unit, spec.direction


def to_frame(results: Result | Iterable[Result]) -> "pd.DataFrame":
    """Return results as a tidy table.

    A system without metrics gives one row with its status and reason and no metric, so that
    failures are not lost.

    Args:
        results: One result or several.

    Returns:
        Columns as in ``COLUMNS``; missing numbers are NaN.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for result in [results] if isinstance(results, Result) else results:
        common = {
            "model": result.model.name,
            "kind": result.model.kind,
            "protocol": None if result.protocol is None else result.protocol.id,
        }
        for system in result.systems:
            here = {**common, "system": system.system}
            if not system.metrics:
                rows.append({**here, "status": system.status, "note": system.reason})
            for metric, value in system.metrics.items():
                unit, direction = _described(metric)
                row = {"metric": metric, "unit": unit, "direction": direction}
                rows.append({**here, **row, **value.model_dump()})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ["value", "lo", "hi", "n_eff", "target"]
    return frame.astype(dict.fromkeys(numbers, "float64"))
