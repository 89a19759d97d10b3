"""Makes a submission out of a result: checks it, and writes it into a leaderboard folder."""

import contextlib
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cgbench import config
from cgbench.errors import CgbenchError, UsageError
from cgbench.leaderboard.board import read_records, read_submissions
from cgbench.leaderboard.checking import check_submission, text_problems
from cgbench.leaderboard.files import (
    read_model_record,
    read_strict_result,
    strict_json,
    write_model_record,
    write_submission,
)
from cgbench.leaderboard.files import read_text as read_bounded
from cgbench.leaderboard.known import counting_systems, trained_systems
from cgbench.leaderboard.records import (
    ModelRecord,
    Submission,
    TrajectoriesSource,
    record_file,
    submission_file,
)
from cgbench.leaderboard.text import https_url, model_id
from cgbench.leaderboard.trajectories import (
    digest,
    read_submitted,
    scored_keys,
    trajectories_file,
)
from cgbench.progress import Progress, silent
from cgbench.results import Result, Track
from cgbench.results.mutants import MutantsOutcome

#: Fields of a record that a person has to state, with the question.
QUESTIONS: Final[Mapping[str, str]] = {
    "model": "Identifier, <family>/<name> in lower-case letters, digits, '.', '_' and '-'",
    "title": "Name for people",
    "authors": "Authors, separated by semicolons, an affiliation in brackets behind each",
    "description": "What the model is, in a few sentences",
    "training_data": "What it was trained on, in words",
    "uses_native_structure": "Did native structures of scored proteins go into it? (yes or no)",
    "licence": "Licence of weights or structures (empty for none stated)",
    "url": "Where to read more, https://… (empty for none)",
    "citation": "How to cite it (empty for none)",
    "contact": "How to reach you (empty for none)",
}
#: Questions that may be left unanswered.
OPTIONAL: Final = ("licence", "url", "citation", "contact")


@dataclass(frozen=True)
class Submitted:
    """What a submission came to.

    Attributes:
        submission: The submission.
        record: The record of its model.
        submission_path: Where it was written.
        record_path: Where the record was written.
        remarks: What is not wrong but has to be told.
        new_model: Whether the leaderboard did not have the model.
    """

    submission: Submission
    record: ModelRecord
    submission_path: Path
    record_path: Path
    remarks: tuple[str, ...]
    new_model: bool


@dataclass(frozen=True)
class SubmissionOptions:
    """What is said of a result beside its file.

    Attributes:
        answers: Fields of the model's record as given, by name; fields not given are taken from the
            record that is there, or from the result.
        trajectories: A ``trajectories.zarr`` or run folder.
        trajectories_url: Where anyone can get them.
        mutants: Outcome of the test of variants; ``mutants.json`` beside the result if None.
        missing: Why systems that count are not in the result.
        date: Day of the submission; today if None.
    """

    answers: Mapping[str, Any] = field(default_factory=dict)
    trajectories: Path | None = None
    trajectories_url: str | None = None
    mutants: Path | None = None
    missing: str | None = None
    date: datetime.date | None = None


def submit(
    result_file: Path,
    folder: Path,
    options: SubmissionOptions | None = None,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Submitted:
    """Check a result and write it, with its model's record, into a leaderboard folder.

    Nothing leaves the machine, and nothing is written unless all of it is accepted.

    Args:
        result_file: The ``result.json``, or a run folder.
        folder: The leaderboard folder, as ``leaderboard/`` of a clone of this repository.
        options: What is said beside it.
        force: Replace a submission of the same day.
        progress: Told how far reading trajectories is.

    Raises:
        UsageError: A file or an answer is missing, or the day has a submission already.
        IntegrityError: A file is damaged, too large or unsafe.
        ValidationError: The submission cannot be accepted; the message lists why.
    """
    said = options or SubmissionOptions()
    file = result_file / "result.json" if result_file.is_dir() else result_file
    result = read_strict_result(file)
    records = read_records(folder)
    record = make_record(result, said.answers, records, folder)
    day = said.date or datetime.datetime.now(tz=datetime.UTC).date()
    mutants = _mutants(result, file, said.mutants)
    parts = {
        "model": record.model,
        "submitted": day,
        "result": result,
        "trajectories": _trajectories(result, said, mutants, progress),
        "missing": _missing(result, record.track, said.missing),
        "mutants": mutants,
    }
    submission = config.validate(Submission, parts, file)
    earlier = read_submissions(folder, records)
    target = submission_file(folder, record.model, day)
    if target.exists() and not force:
        raise UsageError(
            f"{target}: there is a submission of that day already",
            fix="give --force to replace it, or another --date",
        )
    others = [
        (one, records[model])
        for model, items in earlier.items()
        for one in items
        if not (model == record.model and one.submitted == day)
    ]
    remarks = check_submission(submission, record, others)
    new = record.model not in records
    return Submitted(
        submission=submission,
        record=record,
        record_path=write_model_record(folder, record),
        submission_path=write_submission(folder, submission),
        remarks=remarks,
        new_model=new,
    )


def suggested(result: Result) -> dict[str, Any]:
    """Return what a result already says of its model, as first answers."""
    spec = result.model.spec or {}
    answers: dict[str, Any] = {"title": result.model.name}
    with contextlib.suppress(ValueError):
        answers["model"] = model_id(result.model.name)
    for name in ("licence", "description"):
        if isinstance(spec.get(name), str) and spec[name]:
            answers[name] = spec[name]
    if trained := trained_systems(result):
        answers["training_data"] = ", ".join(trained)
    answers["kind"] = {"potential": "potential", "sampler": "sampler"}.get(
        result.model.kind, "trajectories"
    )
    answers["track"] = suggested_track(result)
    return answers


def suggested_track(result: Result) -> Track:
    """Return the track that a result is of, as far as it says: a person may say otherwise."""
    if result.track == "mutants":
        return "mutants"
    if result.model.kind == "sampler":
        return "sampler"
    stated = {item.track for item in result.systems if item.track is not None}
    if len(stated) == 1:
        return next(iter(stated))
    return "multi-protein" if len(trained_systems(result)) > 1 else "protein-specific"


def make_record(
    result: Result,
    answers: Mapping[str, Any],
    records: Mapping[str, ModelRecord],
    folder: Path,
) -> ModelRecord:
    """Return the record of a result's model from answers, the record there is, and the result.

    Raises:
        UsageError: A field that only a person can state is missing.
        ValidationError: A field is wrong.
    """
    suggestions = suggested(result)
    given = {name: value for name, value in answers.items() if value is not None}
    model = given.get("model", suggestions.get("model"))
    if model is None:
        raise UsageError(
            f"{result.model.name}: no identifier for the leaderboard",
            expected=QUESTIONS["model"],
            fix="give --model FAMILY/NAME",
        )
    data: dict[str, Any] = {}
    if model in records:
        # Read again, so that what is written is what is there and not what a caller changed.
        data = read_model_record(record_file(folder, str(model))).model_dump(mode="json")
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    data = {"date": today, **suggestions, **data, **given, "model": model}
    if isinstance(data.get("authors"), str):
        data["authors"] = parse_authors(data["authors"])
    lacking = [
        name for name in QUESTIONS if name not in OPTIONAL and data.get(name) in (None, "", [])
    ]
    if lacking:
        options = {"uses_native_structure": "uses-native", "training_data": "training-data"}
        named = ", ".join("--" + options.get(one, one) for one in lacking)
        raise UsageError(
            f"{model}: {', '.join(lacking)} of the model's record not given",
            expected="; ".join(QUESTIONS[one] for one in lacking),
            fix=f"give {named}, or answer the questions in a terminal",
        )
    cleaned = {name: value for name, value in data.items() if value not in (None, "")}
    record = config.validate(ModelRecord, cleaned, f"record of {str(model)[:130]}")
    if problems := text_problems(record.model_dump(mode="json")):
        raise UsageError(f"record of {record.model}: not plain text", found="; ".join(problems))
    return record


def parse_authors(text: str) -> list[dict[str, str]]:
    """Return authors of a line as ``A. Name (Institute); B. Name``.

    Raises:
        UsageError: One has no name.
    """
    found = []
    for part in text.split(";"):
        name, bracket, rest = part.strip().partition("(")
        if not name.strip():
            raise UsageError(f"authors: one has no name in {text[:100]!r}")
        author = {"name": name.strip()}
        if bracket and (affiliation := rest.rstrip(") ").strip()):
            author["affiliation"] = affiliation
        found.append(author)
    return found


def next_steps(done: Submitted, folder: Path) -> list[str]:
    """Return the commands that bring a submission into a pull request."""
    branch = branch_of(done)
    title = title_of(done)
    files = " ".join(str(path) for path in (done.record_path, done.submission_path))
    return [
        f"git switch --create {branch}",
        f"git add {files}",
        f'git commit --message "{title}"',
        "git push --set-upstream origin HEAD",
        f'gh pr create --title "{title}" --body "cgbench leaderboard check {folder} passes"',
    ]


def branch_of(done: Submitted) -> str:
    """Return a name for the branch of a submission; identifiers are safe in it."""
    day = done.submission.submitted.isoformat()
    return f"submission/{done.submission.model.replace('/', '-')}-{day}"


def title_of(done: Submitted) -> str:
    """Return the title of a submission's pull request, made of its identifier alone."""
    return f"Submit {done.submission.model}"


def _trajectories(
    result: Result,
    said: SubmissionOptions,
    mutants: MutantsOutcome | None,
    progress: Progress,
) -> TrajectoriesSource | None:
    if said.trajectories is None and said.trajectories_url is None:
        return None
    url = None
    if said.trajectories_url is not None:
        try:
            url = https_url(said.trajectories_url)
        except ValueError as error:
            raise UsageError(
                "the address of the trajectories cannot be used",
                expected=str(error),
                found=repr(said.trajectories_url)[:200],
            ) from error
    digests = {}
    if said.trajectories is not None and mutants is not None:
        from cgbench.leaderboard.mutant_verification import trajectory_digests

        digests = trajectory_digests(result, mutants, said.trajectories)
    elif said.trajectories is not None:
        file = trajectories_file(said.trajectories)
        keys = scored_keys(result)
        for index, key in enumerate(keys):
            progress("read the trajectories", index, len(keys))
            digests[key] = digest(read_submitted(file, key, result))
        progress("read the trajectories", len(keys), len(keys))
    return TrajectoriesSource(url=url, digests=digests)


def _missing(result: Result, track: Track, reason: str | None) -> dict[str, str]:
    if reason is None:
        return {}
    present = {item.system for item in result.systems}
    return {key: reason for key in counting_systems(result, track) if key not in present}


def _mutants(result: Result, file: Path, given: Path | None) -> MutantsOutcome | None:
    if result.track != "mutants":
        return None
    path = given or file.parent / "mutants.json"
    try:
        text = read_bounded(path, 1024 * 1024)
    except CgbenchError as error:
        raise UsageError(
            f"{path}: the outcome of the test of variants cannot be read",
            found=error.what,
            fix="give --mutants with the mutants.json of the run folder",
        ) from error
    return config.validate(MutantsOutcome, strict_json(text, path), path)
