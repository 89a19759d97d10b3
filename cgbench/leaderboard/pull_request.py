"""What a pull request may do to a leaderboard folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cgbench.errors import ValidationError
from cgbench.leaderboard.board import read_records, read_submissions, stale_reasons
from cgbench.leaderboard.records import ModelRecord, Submission
from cgbench.leaderboard.reference_rows import FOLDER, read_all_reference_rows


@dataclass(frozen=True)
class FolderCheck:
    """What checking a leaderboard folder found.

    Attributes:
        models: Records there.
        submissions: Submissions there.
        added: Submissions that the base does not have, as ``<model>/<date>``; none without base.
    """

    models: int
    submissions: int
    added: tuple[str, ...]


def check_folder(
    folder: Path, base: Path | None = None, *, maintainer: bool = False
) -> FolderCheck:
    """Check every file of a leaderboard folder, and what it changes of another.

    Submissions are added and never changed or removed; records of models are changed only in what
    their authors may say; records of verification and reference rows are written by maintainers.

    Args:
        folder: The folder.
        base: What it is compared with: the folder before the change.
        maintainer: Whether records of verification and reference rows may change.

    Raises:
        UsageError: A folder is not there.
        IntegrityError: A file is damaged or unsafe, or does not belong there.
        ValidationError: A file is wrong, or the change is not allowed; the message lists why.
    """
    records = read_records(folder)
    submissions = read_submissions(folder, records)
    rows = read_all_reference_rows(folder)
    flat = _flat(submissions)
    problems = []
    before: dict[str, Submission] = {}
    if base is not None:
        old = read_records(base)
        before = _flat(read_submissions(base, old))
        problems += _changes(before, flat, maintainer)
        problems += _record_changes(old, records, maintainer)
        if not maintainer and read_all_reference_rows(base) != rows:
            problems.append(f"{FOLDER}: reference rows are computed by maintainers")
    added = [] if base is None else [key for key in flat if key not in before]
    for key in added:
        model = flat[key].model
        if flat[key].verification is not None and not maintainer:
            problems.append(f"{key}: a record of verification is written by maintainers")
        if submissions[model][0] == flat[key]:
            problems += [f"{key}: {one}" for one in stale_reasons(submissions, records, model)]
        else:
            problems.append(f"{key}: there is a later submission of the model")
    if problems:
        raise ValidationError(
            f"{folder}: the leaderboard cannot take this", found="\n".join(problems[:20])
        )
    return FolderCheck(len(records), len(flat), tuple(added))


def _flat(submissions: Mapping[str, tuple[Submission, ...]]) -> dict[str, Submission]:
    return {
        f"{model}/{one.submitted.isoformat()}": one
        for model, items in submissions.items()
        for one in items
    }


def _changes(
    before: Mapping[str, Submission], after: Mapping[str, Submission], maintainer: bool
) -> list[str]:
    problems = []
    for key, old in before.items():
        new = after.get(key)
        if new is None:
            problems.append(f"{key}: submissions are kept; withdraw the model instead")
        elif new == old:
            continue
        elif not maintainer:
            problems.append(f"{key}: submissions are not changed; add one of another day")
        elif old.model_copy(update={"verification": new.verification}) != new:
            problems.append(f"{key}: only its record of verification may change")
    return problems


def _record_changes(
    before: Mapping[str, ModelRecord], after: Mapping[str, ModelRecord], maintainer: bool
) -> list[str]:
    problems = []
    for model, old in before.items():
        new = after.get(model)
        if new is None:
            problems.append(f"{model}: records are kept; withdraw the model instead")
        elif not maintainer and (new.track, new.kind) != (old.track, old.kind):
            problems.append(f"{model}: track and kind stay; submit it under another name")
        elif not maintainer and old.status != "active" and new.status == "active":
            problems.append(f"{model}: was {old.status}, and only maintainers bring it back")
    return problems
