"""What the page that compares two models needs: every ranked metric of every model, compactly."""

from typing import Any, Final

from cgbench import registry
from cgbench.leaderboard.rows import Board, BoardRow, MetricCell, Score
from cgbench.leaderboard.site import words
from cgbench.leaderboard.site.model_pages import rows_of_models
from cgbench.leaderboard.site.tables import address, role

_DIGITS: Final = 3


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _score(value: Score | None) -> list[float] | None:
    return None if value is None else [round(one, 4) for one in (value.value, value.lo, value.hi)]


def _cell(cell: MetricCell | None) -> list[float | None] | None:
    """Return value, lower and upper end; None where there is no value that counts."""
    if cell is None or cell.value is None or cell.status not in ("ok", "failed"):
        return None
    return [_short(cell.value), _short(cell.lo), _short(cell.hi)]


def comparison_data(board: Board) -> dict[str, Any]:
    """Return the data of the page: models, metrics, and values with three digits.

    Values of a system are in the order of the metrics.
    """
    counting = {metric.metric for metric in board.scored_metrics}
    specs = [spec for spec in registry.metrics() if spec.ranked and not spec.optional]
    order = [spec.id for spec in specs]
    models = []
    for rows in rows_of_models(board).values():
        for index, row in enumerate(rows):
            cost = row.cost
            models.append(
                {
                    # A model with rows in several groups is told apart by the group.
                    "id": row.id if index == 0 else f"{row.id}@{row.group}",
                    "title": row.title if len(rows) == 1 else f"{row.title} ({row.group})",
                    "href": address(row),
                    "track": row.track,
                    "group": row.group,
                    "rank": row.rank,
                    "score": _score(row.score),
                    "level": words.LEVEL_TEXTS[row.level][0] if row.level else "–",
                    "data": "" if row.model is None else row.model.training_data[:300],
                    "cost": None
                    if cost is None
                    else [
                        _short(cost.ns_per_day),
                        words.duration(cost.training_seconds),
                        words.amount(cost.n_parameters),
                        cost.hardware or "–",
                    ],
                    "systems": {
                        key: [
                            _score(cell.composite),
                            [_cell(cell.metrics.get(one)) for one in order],
                        ]
                        for key, cell in row.systems.items()
                        if cell.status in ("ok", "failed")
                    },
                }
            )
    return {
        "metrics": [
            [
                spec.id,
                spec.name,
                "" if spec.unit == "1" else spec.unit,
                spec.direction,
                spec.id in counting,
            ]
            for spec in specs
        ],
        "systems": [[key, _name(key)] for key in board.systems],
        "floor": _floors(board, order),
        "targets": _targets(board, order),
        "models": models,
    }  # fmt: skip


def _name(system: str) -> str:
    return {one.key: one.name for one in registry.systems()}.get(system, system)


def _rows(board: Board) -> list[BoardRow]:
    return [row for rows in board.tracks.values() for row in rows]


def _floors(board: Board, order: list[str]) -> dict[str, Any]:
    """Return the noise floor of every system: what the reference's halves score."""
    found: dict[str, Any] = {}
    for row in _rows(board):
        if row.reference and role(row) == "md_split_half":
            for key, cell in row.systems.items():
                if cell.status == "ok":
                    found.setdefault(key, [_cell(cell.metrics.get(one)) for one in order])
    return found


def _targets(board: Board, order: list[str]) -> dict[str, Any]:
    """Return the reference's own values of every system, for metrics with a target."""
    found: dict[str, list[float | None]] = {}
    for row in _rows(board):
        for key, cell in row.systems.items():
            known = found.setdefault(key, [None] * len(order))
            for place, metric in enumerate(order):
                value = cell.metrics.get(metric)
                if known[place] is None and value is not None:
                    known[place] = _short(value.target)
    return found
