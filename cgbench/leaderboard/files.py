"""Reads and writes the files of a leaderboard folder; what is read may come from anyone."""

import datetime
import json
import re
from pathlib import Path
from typing import Any, Final, TypeVar

import pydantic
import yaml

from cgbench import config
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.leaderboard.records import (
    MAX_RECORD_BYTES,
    MAX_SUBMISSION_BYTES,
    ModelRecord,
    ReferenceRows,
    Submission,
    record_file,
    submission_file,
)
from cgbench.leaderboard.text import model_id
from cgbench.results import MAX_RESULT_BYTES, Result, migrate

Record = TypeVar("Record", bound=pydantic.BaseModel)

#: More of either is no leaderboard but an attempt to fill a disk.
MAX_FILES: Final = 20_000
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def strict_json(text: str, origin: object) -> Any:
    """Parse JSON in which every key occurs once and every number is one.

    Two readers could take different ones of two equal keys, one for the check and one for the page.

    Raises:
        IntegrityError: It is not such JSON.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key occurs twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{origin}: cannot be parsed", found=str(error)[:300]) from error


class _PlainSafeLoader(yaml.SafeLoader):
    """A safe loader without anchors, aliases, tags and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError("anchors and aliases are not accepted")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError("tags are not accepted")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if any(not isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
            raise yaml.YAMLError("keys are names, each of which occurs once")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def plain_yaml(text: str, origin: object) -> Any:
    """Parse YAML of plain data, without anchors, aliases, tags and repeated keys.

    Raises:
        IntegrityError: It is not such YAML.
    """
    try:
        # The loader is a safe one: plain data only.
        return yaml.load(text, Loader=_PlainSafeLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise IntegrityError(f"{origin}: cannot be parsed", found=str(error)[:300]) from error


def read_text(path: Path, limit: int) -> str:
    """Read a text file of bounded size that is no link.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is a link, too large, or not UTF-8.
    """
    if path.is_symlink():
        raise IntegrityError(f"{path}: a symbolic link", expected="a plain file")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > limit:
        raise IntegrityError(f"{path}: too large", expected=f"at most {limit} bytes", found=size)
    return config.read_text(path)


def read_strict_result(path: Path) -> Result:
    """Read a result that may come from anyone.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is damaged, too large, or of another format or version.
        ValidationError: A field is missing, unknown or of the wrong type or range.
    """
    data = strict_json(read_text(path, MAX_RESULT_BYTES), path)
    return config.validate(Result, migrate(data, path), path)


def read_submission(path: Path) -> Submission:
    """Read a submission; its meaning is checked by :mod:`cgbench.leaderboard.checking`.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is damaged, too large, or of another format.
        ValidationError: A field is missing, unknown or of the wrong type or range.
    """
    data = strict_json(read_text(path, MAX_SUBMISSION_BYTES), path)
    _require_format(data, "cgbench-submission", path)
    data["result"] = migrate(data.get("result"), f"{path}: result")
    return config.validate(Submission, data, path)


def read_model_record(path: Path) -> ModelRecord:
    """Read the record of a model.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is damaged, too large, or of another format.
        ValidationError: A field is missing, unknown or of the wrong type or range.
    """
    data = plain_yaml(read_text(path, MAX_RECORD_BYTES), path)
    _require_format(data, "cgbench-leaderboard-model", path)
    return config.validate(ModelRecord, data, path)


def read_reference_rows(path: Path) -> ReferenceRows:
    """Read the reference rows of a system.

    Raises:
        IntegrityError: The file is damaged or of another format.
        ValidationError: A field is wrong.
    """
    data = strict_json(read_text(path, MAX_SUBMISSION_BYTES), path)
    _require_format(data, "cgbench-reference-rows", path)
    return config.validate(ReferenceRows, data, path)


def write_model_record(folder: Path, record: ModelRecord) -> Path:
    """Write the record of a model as YAML and return its path."""
    path = record_file(folder, record.model)
    data = record.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=96)
    config.write_atomic(path, text)
    return path


def write_submission(folder: Path, submission: Submission) -> Path:
    """Write a submission and return its path."""
    path = submission_file(folder, submission.model, submission.submitted)
    config.write_model(path, submission)
    return path


def find_submissions(folder: Path) -> list[Path]:
    """Return the files of all submissions, in the order of models and days.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: There is something else in it, or a link.
    """
    return _files(folder, "submissions", 3, ".json")


def find_model_records(folder: Path) -> list[Path]:
    """Return the records of all models.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: There is something else in it, or a link.
    """
    return _files(folder, "models", 2, ".yml")


def model_of(path: Path, folder: Path) -> str:
    """Return the model that a file of a leaderboard folder belongs to, by its place."""
    parts = path.relative_to(folder).with_suffix("").parts[1:3]
    return "/".join(parts)


def require_place(record: ModelRecord | Submission, path: Path) -> None:
    """Refuse a record that lies where another one belongs.

    Raises:
        ValidationError: It does.
    """
    if isinstance(record, ModelRecord):
        expected = record_file(Path(), record.model)
    else:
        expected = submission_file(Path(), record.model, record.submitted)
    if path.parts[-len(expected.parts) :] != expected.parts:
        raise ValidationError(
            f"{path}: not the place of what is in it", expected=expected.as_posix(), found=path
        )


def _require_format(data: Any, name: str, path: Path) -> None:
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if found != name:
        raise IntegrityError(f"{path}: of another format", expected=name, found=repr(found)[:100])


def _files(folder: Path, kind: str, depth: int, suffix: str) -> list[Path]:
    """Return files exactly so many folders deep; anything else there is refused."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such leaderboard folder")
    top = folder / kind
    found: list[Path] = []
    seen = 0
    pending = [(top, 0)] if top.is_dir() or top.is_symlink() else []
    while pending:
        place, level = pending.pop()
        if place.is_symlink():
            raise IntegrityError(f"{place}: a symbolic link", expected="plain files and folders")
        if place.is_dir():
            if level >= depth:
                raise IntegrityError(f"{place}: a folder too deep", expected=_pattern(kind, suffix))
            children = list(place.iterdir())
            seen += len(children)
            if seen > MAX_FILES:
                raise IntegrityError(f"{top}: too many files", expected=f"at most {MAX_FILES}")
            pending += [(child, level + 1) for child in children]
        elif place.name == ".gitkeep":
            continue
        elif level != depth or place.suffix != suffix or not _named(place, top, kind):
            raise IntegrityError(f"{place}: does not belong here", expected=_pattern(kind, suffix))
        else:
            found.append(place)
    return sorted(found)


def _named(place: Path, top: Path, kind: str) -> bool:
    parts = place.relative_to(top).parts
    if kind == "submissions":
        try:
            datetime.date.fromisoformat(place.stem)
        except ValueError:
            return False
        if not _DAY.fullmatch(place.stem):
            return False
        parts = parts[:2]
    else:
        parts = (parts[0], place.name.removesuffix(".yml"))
    try:
        model_id("/".join(parts))
    except ValueError:
        return False
    return True


def _pattern(kind: str, suffix: str) -> str:
    middle = "<family>/<name>/<date>" if kind == "submissions" else "<family>/<name>"
    return f"{kind}/{middle}{suffix}"
