"""Reads a leaderboard folder and ranks what is in it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.errors import CgbenchError, ValidationError
from cgbench.leaderboard.checking import check_submission, text_problems
from cgbench.leaderboard.files import (
    find_model_records,
    find_submissions,
    read_model_record,
    read_submission,
    require_place,
)
from cgbench.leaderboard.model_rows import model_row
from cgbench.leaderboard.ranking import ranks
from cgbench.leaderboard.records import TRACKS, ModelRecord, Submission
from cgbench.leaderboard.reference_rows import board_references, targets_of
from cgbench.leaderboard.rows import Board, BoardRow
from cgbench.leaderboard.scoring import scored_metrics, uncounted_metrics
from cgbench.version import __version__

#: Below this score of the noise floor the board says that thresholds are strict.
_LOW_FLOOR: Final = 0.5


def read_board(folder: Path) -> Board:
    """Read a leaderboard folder and rank its models.

    Every file is checked again as if it had been submitted now: what cannot be accepted any more,
    as a result of an older reference, is kept without a rank and says why; what could do harm, or
    lies in the wrong place, ends the reading.

    Args:
        folder: A folder with ``models/``, ``submissions/`` and ``reference_rows/``.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: A file is damaged or unsafe, or something else is there.
        ValidationError: A record is wrong, or lies in the wrong place.
    """
    records = read_records(folder)
    submissions = read_submissions(folder, records)
    targets = targets_of(folder)
    rows = [
        model_row(record, submissions[model], stale_reasons(submissions, records, model), targets)
        for model, record in records.items()
        if model in submissions
    ]
    references = board_references(folder)
    tracks: dict[str, tuple[BoardRow, ...]] = {
        track: (*ranked([row for row in rows if row.track == track]), *references)
        for track in TRACKS
    }
    used = {key for row in (*rows, *references) for key in row.systems}
    keys = [entry.key for entry in registry.systems()]
    keys += [entry.key for entry in registry.mutants()]
    return Board(
        suite_version=__version__,
        tracks=tracks,
        scored_metrics=scored_metrics(),
        uncounted=uncounted_metrics(),
        systems=tuple(key for key in keys if key in used),
        notes=(*_notes(records, submissions), *_threshold_notes(references)),
    )


def read_records(folder: Path) -> dict[str, ModelRecord]:
    """Return the records of a leaderboard folder, by model.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: A file is damaged or unsafe, or does not belong there.
        ValidationError: A record is wrong, lies in the wrong place, or names no other model.
    """
    found: dict[str, ModelRecord] = {}
    for path in find_model_records(folder):
        record = read_model_record(path)
        require_place(record, path)
        found[record.model] = record
    for record in found.values():
        if record.superseded_by is not None and record.superseded_by not in found:
            raise ValidationError(
                f"{record.model}: superseded by a model that is not there",
                found=record.superseded_by,
            )
    return found


def read_submissions(
    folder: Path, records: Mapping[str, ModelRecord]
) -> dict[str, tuple[Submission, ...]]:
    """Return the submissions of a leaderboard folder by model, the latest first.

    Raises:
        IntegrityError: A file is damaged or unsafe, or does not belong there.
        ValidationError: A submission is wrong, lies in the wrong place, or has no model.
    """
    found: dict[str, list[Submission]] = defaultdict(list)
    for path in find_submissions(folder):
        submission = read_submission(path)
        require_place(submission, path)
        if problems := text_problems(submission.model_dump(mode="json")):
            raise ValidationError(f"{path}: not plain text", found="\n".join(problems[:5]))
        if submission.model not in records:
            raise ValidationError(
                f"{path}: there is no record of the model",
                expected=f"models/{submission.model}.yml",
            )
        found[submission.model].append(submission)
    return {
        model: tuple(sorted(items, key=lambda item: item.submitted, reverse=True))
        for model, items in sorted(found.items())
    }


def stale_reasons(
    submissions: Mapping[str, Sequence[Submission]], records: Mapping[str, ModelRecord], model: str
) -> list[str]:
    """Return why the latest submission of a model could not be submitted now; empty if it could."""
    others = [
        (other, records[key])
        for key, items in submissions.items()
        for other in items
        if key != model
    ]
    try:
        check_submission(submissions[model][0], records[model], others)
    except CgbenchError as error:
        return str(error.found or error.what).splitlines()
    return []


def ranked(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Return rows of one track with ranks within each group, in the order of a table."""
    groups: dict[str, list[BoardRow]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    found = []
    for _, members in sorted(groups.items()):
        eligible = [row for row in members if row.unranked_reason is None and row.score is not None]
        places = ranks([row.score for row in eligible if row.score is not None])
        placed = [
            row.model_copy(update={"rank": place})
            for row, place in zip(eligible, places, strict=True)
        ]
        rest = [row for row in members if row not in eligible]
        found += sorted(placed, key=_order) + sorted(rest, key=_order)
    return found


def _order(row: BoardRow) -> tuple[int, float, str]:
    score = 0.0 if row.score is None else row.score.value
    return (0 if row.rank is None else row.rank, -score, row.id)


def _threshold_notes(references: Sequence[BoardRow]) -> list[str]:
    """Say where thresholds are too strict to tell models apart: where the noise floor is low."""
    low = [
        f"{row.score.value:.2f} on {row.group}"
        for row in references
        if row.id == "md_split_half" and row.score is not None and row.score.value < _LOW_FLOOR
    ]
    if not low:
        return []
    return [
        "Thresholds come from graded corruptions of one small protein, chignolin-sample-v2 "
        "(benchmarks/metric_study.py): 1 is the whole reference against itself, which no finite "
        f"number of frames reaches. The noise floor itself scores {', '.join(low)}, and models "
        "that are far off all score nearly 0. Read a score beside the noise floor, and the values "
        "of the metrics beside the score. Thresholds from larger proteins will be new versions of "
        "the metrics, once their references are there."
    ]


def _notes(
    records: Mapping[str, ModelRecord], submissions: Mapping[str, Sequence[Submission]]
) -> list[str]:
    notes = [
        f"{model}: a record without submission" for model in records if model not in submissions
    ]
    if uncounted := uncounted_metrics():
        notes.append(f"Ranked metrics without thresholds do not count: {', '.join(uncounted)}.")
    return notes
