"""The page of a model: its card, every metric, where numbers are from, how to make them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from cgbench import registry
from cgbench.leaderboard.records import ModelRecord, Submission
from cgbench.leaderboard.rows import Board, BoardRow, MetricCell, ScoredMetric, SystemCell
from cgbench.leaderboard.site import plots, words
from cgbench.leaderboard.site.tables import marks_of, model_address, role, systems_of
from cgbench.pipeline.run_facts import commands, origin
from cgbench.registry import MetricSpec
from cgbench.results.sequence_models import SequenceModels

_YES: Final = {True: "yes", False: "no"}
#: What a model file says of itself, and what a card calls it.
_SPEC: Final = {
    "description": "model file says",
    "cutoff": "cutoff (Å)",
    "force_map": "force map",
    "bead_vocabulary": "bead vocabulary",
}


@dataclass(frozen=True)
class Part:
    """The scores of a model in one group.

    Attributes:
        title: The group.
        axis: What stands behind the intervals.
        systems: Its systems, each with its interval.
        metrics: Every metric of each system, with the interval of its score.
        heat: Metrics that count, each with class and score on every system that counts.
    """

    title: str
    axis: Markup
    systems: Sequence[tuple[SystemCell, Markup]]
    metrics: Mapping[str, Sequence[tuple["Described", MetricCell, Markup]]]
    heat: Sequence[tuple[ScoredMetric, Sequence[tuple[str, float | None]]]]


@dataclass(frozen=True)
class Described:
    """What a page says of a metric, known or not."""

    name: str
    unit: str
    direction: str
    group: str
    anchor: str


def rows_of_models(board: Board) -> dict[str, list[BoardRow]]:
    """Return the rows of each model, those with a rank first."""
    found: dict[str, list[BoardRow]] = {}
    for rows in board.tracks.values():
        for row in rows:
            if not row.reference:
                found.setdefault(row.id, []).append(row)
    return {
        model: sorted(rows, key=lambda row: (row.rank is None, row.group))
        for model, rows in found.items()
    }


def model_page(
    rows: Sequence[BoardRow], board: Board, listed: Mapping[str, Any], proteins: set[str]
) -> dict[str, Any] | None:
    """Return what the page of a model shows; None for a row without its record.

    Args:
        rows: Its rows.
        board: The whole board, for the reference rows beside them.
        listed: Models that have a page.
        proteins: Systems that have a page.
    """
    row = rows[0]
    record, submission = row.model, row.submission
    if record is None or submission is None:
        return None
    specs = {spec.id: spec for spec in registry.metrics()}
    return {
        "row": row,
        "record": record,
        "n_ranked": sum(
            other.rank is not None and other.group == row.group
            for other in board.tracks.get(row.track or "", ())
        ),
        "plot": plots.interval(row.score),
        "successor": model_address(record.superseded_by)
        if record.superseded_by is not None and record.superseded_by in listed
        else None,
        "parts": [_part(index, one, board, specs) for index, one in enumerate(rows)],
        "leading": [
            spec
            for spec in specs.values()
            if spec.primary and any(spec.id in cell.metrics for cell in row.systems.values())
        ],
        "protein_keys": proteins,
        "card": _card(record, submission),
        "history": row.history,
        "provenance": _provenance(row, submission),
        "reproduce": _reproduce(submission),
        "download": f"{record.model.partition('/')[2]}.json",
    }


def _part(index: int, row: BoardRow, board: Board, specs: Mapping[str, MetricSpec]) -> Part:
    beside = {
        role(other): other.score
        for other in board.tracks.get(row.track or "", ())
        if other.reference and other.score and other.group in (row.group, systems_of(row.group))
    }
    lines, _ = marks_of(beside)
    axis = f"axis-{index}"
    return Part(
        title=row.group,
        axis=plots.axis(axis, lines),
        systems=[(cell, plots.interval(cell.composite, axis)) for cell in row.systems.values()],
        metrics={
            system: [
                (_described(metric, specs), value, _small(value))
                for metric, value in _ordered(cell.metrics, specs)
            ]
            for system, cell in row.systems.items()
        },
        heat=[
            (metric, [_heat(cell.metrics.get(metric.metric)) for cell in _counting(row)])
            for metric in board.scored_metrics
        ],
    )


def _counting(row: BoardRow) -> list[SystemCell]:
    return [cell for cell in row.systems.values() if cell.counts and cell.composite is not None]


def _heat(value: MetricCell | None) -> tuple[str, float | None]:
    """Return the class of a score's shade, one of six, and the score."""
    if value is None or value.score is None:
        return "", None
    return f"h{min(5, int(6 * value.score.value))}", value.score.value


def _small(value: MetricCell) -> Markup:
    return Markup("") if value.score is None else plots.interval(value.score)


def _ordered(
    metrics: Mapping[str, MetricCell], specs: Mapping[str, MetricSpec]
) -> list[tuple[str, MetricCell]]:
    places = {metric: place for place, metric in enumerate(specs)}
    return sorted(metrics.items(), key=lambda item: places.get(item[0], len(places)))


def _described(metric: str, specs: Mapping[str, MetricSpec]) -> Described:
    spec = specs.get(metric)
    if spec is None:
        return Described(metric, "", "target", "unknown here", "all")
    group = "as others" if spec.optional else spec.group
    return Described(spec.name, spec.unit, spec.direction, group, spec.id)


def _card(record: ModelRecord, submission: Submission) -> list[tuple[str, str]]:
    found = [
        (
            "authors",
            "; ".join(
                one.name + (f" ({one.affiliation})" if one.affiliation else "")
                for one in record.authors
            ),
        ),
        ("contact", record.contact),
        ("licence", record.licence),
        ("training data", record.training_data),
        ("native structures went into it", _YES[record.uses_native_structure]),
        ("pretrained parts", record.uses_pretrained or "none"),
    ]
    spec = submission.result.model.spec or {}
    for key, name in _SPEC.items():
        if spec.get(key) is not None:
            found.append((name, str(spec[key])))
    found += [
        (f"models of {item.system}", _models(item.models))
        for item in submission.result.systems
        if item.models is not None
    ]
    found += [
        ("record of", record.date.isoformat()),
        ("submitted", submission.submitted.isoformat()),
    ]
    return [(key, value) for key, value in found if value]


def _models(models: SequenceModels) -> str:
    """Return what a sampler's models of a sequence say of its confidence, and how good they are."""
    score = models.representative_tm
    accuracy = "" if score is None else f", TM-score {score:.2f}"
    return (
        f"{models.n_clusters} cluster(s) of {models.n_finite} models; the one that stands for the "
        f"largest is {models.representative_rmsd:.2f} Å from the native structure{accuracy}"
    )


def _provenance(row: BoardRow, submission: Submission) -> list[tuple[str, str]]:
    result = submission.result
    found = [("model file", result.model.hash or "none")]
    if result.model.adapter is not None:
        found.append(("opened by", str(result.model.adapter.model_dump(mode="json"))))
    found += list(origin([result]).items())
    if result.split is not None:
        found += [
            (f"split {result.split.id} of {key}", value)
            for key, value in result.split.fingerprints.items()
        ]
    found.append(("result", submission.result_fingerprint))
    if submission.trajectories is not None:
        if submission.trajectories.url:
            found.append(("trajectories", submission.trajectories.url))
        found += [
            (f"trajectories of {key}", value)
            for key, value in submission.trajectories.digests.items()
        ]
    checked = submission.verification
    if checked is not None and row.level != "self_reported":
        found.append(
            (
                words.LEVEL_TEXTS[checked.level][0],
                f"by {checked.by} on {checked.date}, cgbench {checked.suite_version}: "
                f"{checked.n_metrics} values on {', '.join(checked.systems)}; largest difference "
                f"{checked.largest_difference:.2g} of the tolerance"
                + (
                    f"; not recomputed: {', '.join(checked.not_recomputed)}"
                    if checked.not_recomputed
                    else ""
                ),
            )
        )
    return found


def _reproduce(submission: Submission) -> list[str]:
    result = submission.result
    lines = [f"# cgbench {result.suite_version}"]
    lines += commands([result])[:-1]
    lines.append("cgbench report RUN --out report.html")
    return lines
