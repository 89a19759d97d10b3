"""The leaderboard's own formats, for ``cgbench validate``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cgbench.errors import ValidationError
from cgbench.leaderboard.checking import text_problems
from cgbench.leaderboard.files import read_model_record, read_reference_rows, read_submission
from cgbench.leaderboard.pull_request import check_folder
from cgbench.pipeline.validate import Reader, Validated, validate_file
from cgbench.progress import Progress, silent


def validate(path: Path, progress: Progress = silent) -> Validated:
    """Check a file of any format of the suite, those of the leaderboard among them.

    Raises:
        UsageError: There is no such file, or it is of no known format.
        IntegrityError: It is damaged, or could do harm.
        ValidationError: Its content is wrong.
    """
    return validate_file(path, _FORMATS, progress)


def _submission(path: Path) -> Mapping[str, Any]:
    found = read_submission(path)
    if problems := text_problems(found.model_dump(mode="json")):
        raise ValidationError(f"{path}: not plain text", found="\n".join(problems[:10]))
    return {
        "model": found.model,
        "submitted": found.submitted.isoformat(),
        "level": found.level,
        "systems": {item.system: item.status for item in found.result.systems},
    }


def _record(path: Path) -> Mapping[str, Any]:
    found = read_model_record(path)
    return {"model": found.model, "track": found.track, "status": found.status}


def _rows(path: Path) -> Mapping[str, Any]:
    found = read_reference_rows(path)
    return {"system": found.system, "rows": {row.name: row.status for row in found.rows}}


def _board(path: Path) -> Mapping[str, Any]:
    found = check_folder(path)
    return {"models": found.models, "submissions": found.submissions}


#: By the name of the format; folders by one that they hold.
_FORMATS: Final[Mapping[str, tuple[str, Reader]]] = {
    "cgbench-submission": ("submission", _submission),
    "cgbench-leaderboard-model": ("model record", _record),
    "cgbench-reference-rows": ("reference rows", _rows),
    "models/": ("leaderboard folder", _board),
}
