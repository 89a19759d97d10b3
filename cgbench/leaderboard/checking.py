"""What a submission is refused for, all of it at once, from the files alone.

Nothing is recomputed here (see :mod:`cgbench.leaderboard.verification`), nothing is fetched, and
nothing of a submission is run.
"""

import datetime
from collections.abc import Sequence
from typing import Any, Final

from cgbench import registry
from cgbench.errors import CgbenchError, ValidationError
from cgbench.leaderboard.duplicates import duplicate_problems
from cgbench.leaderboard.known import (
    counting_systems,
    known_reference,
    published_systems,
    trained_systems,
    unregistered_systems,
)
from cgbench.leaderboard.mutant_checks import mutants_problems
from cgbench.leaderboard.numbers import system_problems
from cgbench.leaderboard.records import ModelRecord, Submission
from cgbench.leaderboard.text import no_active_content, no_markup, strings
from cgbench.results import Result, SystemResult

#: Kinds of scored things that a record may call its own.
_KINDS: Final = {
    "potential": ("potential",),
    "sampler": ("sampler", "ensemble"),
    "trajectories": ("ensemble",),
}
#: Last part of the path of a string that is a sentence, not a name.
_SENTENCES: Final = ("reason", "note", "notes", "overlaps", "description", "options", "checked")
_MOST_PROBLEMS: Final = 12
_LONGEST: Final = 20_000


def check_submission(
    submission: Submission,
    record: ModelRecord,
    others: Sequence[tuple[Submission, ModelRecord]] = (),
    *,
    today: datetime.date | None = None,
) -> tuple[str, ...]:
    """Check a submission and the record of its model; return what a reader has to know.

    Args:
        submission: What is submitted.
        record: The record of its model.
        others: What is on the leaderboard already.
        today: The day; no submission is of a later one.

    Raises:
        ValidationError: Something is wrong; the message lists it.
    """
    day = today or datetime.datetime.now(tz=datetime.UTC).date()
    problems = text_problems(submission.model_dump(mode="json"))
    problems += _identity_problems(submission, record, day)
    problems += result_problems(submission.result)
    problems += mutants_problems(submission)
    problems += _track_problems(submission, record)
    problems += duplicate_problems(submission, record, others)
    if problems:
        shown = problems[:_MOST_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise ValidationError(
            f"submission of {submission.model}: cannot be accepted", found="\n".join(shown)
        )
    return _remarks(submission)


def text_problems(data: Any) -> list[str]:
    """Return which strings of plain data are control characters, markup, or too long.

    Sentences may hold a bare ``<``, as "Q < 0.3"; names may not begin anything like a tag.
    """
    try:
        found = strings(data)
    except ValueError as error:
        return [str(error)]
    problems = []
    for path, text in found:
        if any(not (letter.isprintable() or letter == "\n") for letter in text):
            problems.append(f"{path.lstrip('.')}: control characters are not allowed")
            continue
        parts = [part for part in path.split(".") if not part.isdigit()]
        sentence = any(part in _SENTENCES or part.endswith("_reason") for part in parts)
        try:
            no_active_content(text) if sentence else no_markup(text)
        except ValueError as error:
            problems.append(f"{path.lstrip('.')}: {error}")
        if len(text) > _LONGEST:
            problems.append(f"{path.lstrip('.')}: too long, {len(text)} characters")
    return problems


def result_problems(result: Result) -> list[str]:
    """Return what of a result is not as this suite writes it."""
    problems = []
    if result.model.kind == "reference row":
        problems.append("model.kind: reference rows are computed by 'cgbench leaderboard'")
    if result.model.kind == "potential":
        if result.model.hash is None:
            problems.append("model.hash: a potential has one")
        if result.protocol is None:
            problems.append("protocol: a potential is simulated under one")
        if "simulation" not in result.seeds:
            problems.append("seeds.simulation: missing")
    if result.model.kind == "sampler":
        problems += _sampler_problems(result)
    if "resampling" not in result.seeds:
        problems.append("seeds.resampling: missing")
    if not _whole_seeds(result.seeds):
        problems.append("seeds: out of range")
    if result.suite_version != result.provenance.suite_version:
        problems.append("suite_version: not that of the provenance")
    problems += _protocol_problems(result)
    problems += _version_problems(result)
    for item in result.systems:
        problems += _reference_problems(result, item)
        problems += system_problems(result, item)
    if result.synthetic:
        problems.append("systems: of a model with known answers, which test the harness alone")
    if not any(item.status != "missing" for item in result.systems):
        problems.append("systems: none was scored")
    return problems + _split_problems(result)


def _sampler_problems(result: Result) -> list[str]:
    from cgbench.samplers import SamplerSpec

    problems = []
    if result.model.hash is None:
        problems.append("model.hash: a sampler has one")
    if result.protocol is not None:
        problems.append("protocol: a sampler is not simulated")
    if "sampling" not in result.seeds:
        problems.append("seeds.sampling: missing")
    try:
        SamplerSpec.model_validate(result.model.spec)
    except ValueError:
        problems.append("model.spec: not what a sampler says of itself")
    return problems


def _whole_seeds(seeds: dict[str, int]) -> bool:
    return all(-(2**63) <= seed < 2**63 for seed in seeds.values())


def _protocol_problems(result: Result) -> list[str]:
    if result.protocol is None:
        return []
    known = {protocol.id: protocol for protocol in registry.protocols()}
    chosen = known.get(result.protocol.id)
    if chosen is None or chosen.start != "k-centres":
        return [f"protocol: {result.protocol.id} is none that models are ranked by"]
    if chosen.version != result.protocol.version:
        return [
            f"protocol: version {result.protocol.version} of {chosen.id}, expected {chosen.version}"
        ]
    return []


def _version_problems(result: Result) -> list[str]:
    known = {spec.id: spec for spec in registry.metrics()}
    problems = []
    for metric, version in result.metrics_versions.items():
        # Metrics of other packages are shown as they are and never ranked.
        if ":" in metric:
            continue
        if metric not in known:
            problems.append(f"metrics_versions: this suite has no metric {metric}")
        elif known[metric].version != version:
            problems.append(
                f"metrics_versions: {metric} is of version {version}, "
                f"expected {known[metric].version}: score again with this version of cgbench"
            )
    return problems


def _reference_problems(result: Result, item: SystemResult) -> list[str]:
    systems = {entry.key for entry in registry.systems()}
    variants = {entry.key: entry.parent for entry in registry.mutants()}
    key = item.system
    if key not in (variants if result.track == "mutants" else systems):
        return [f"{key}: no protein or variant of this suite"]
    # A variant's fingerprint also covers its native structure; its parent's bundle is not named.
    if item.status == "missing" or result.track == "mutants":
        return []
    known = known_reference(key)
    found = result.reference.fingerprints.get(key)
    if known is None:
        # Kept without score and rank until a bundle is registered; see _remarks.
        return []
    if result.reference.version != known.version:
        return [f"{key}: reference version {result.reference.version}, expected {known.version}"]
    if found in known.superseded:
        return [f"{key}: scored against a superseded reference, {found}: score it again"]
    # A system that failed may have been scored against nothing.
    if found is not None and found != known.fingerprint:
        return [f"{key}: scored against another reference, {found}; expected {known.fingerprint}"]
    return []


def _split_problems(result: Result) -> list[str]:
    split = result.split
    problems = []
    for key, found in () if split is None else split.fingerprints.items():
        name = "" if split is None else split.id
        known = known_reference(key)
        if known is None:
            continue
        expected = known.splits.get(name)
        if expected is None:
            problems.append(f"split: {name} of {key} is not known to the leaderboard")
        elif expected != found:
            problems.append(f"split: {name} of {key} is {found}, expected {expected}")
    return problems


def _identity_problems(
    submission: Submission, record: ModelRecord, today: datetime.date
) -> list[str]:
    result = submission.result
    problems = []
    if record.model != submission.model:
        problems.append(f"model: the record is of {record.model}")
    if record.kind == "reference":
        problems.append("kind: reference rows are computed by 'cgbench leaderboard references'")
    elif result.model.kind not in _KINDS[record.kind]:
        problems.append(f"kind: the record says {record.kind}, the result {result.model.kind}")
    if submission.submitted > today:
        problems.append(f"submitted: {submission.submitted} is yet to come")
    try:
        created = datetime.datetime.fromisoformat(result.provenance.created).date()
    except ValueError:
        problems.append("provenance.created: no time")
    else:
        # A day's difference is a time zone.
        if created > submission.submitted + datetime.timedelta(days=1):
            problems.append(f"provenance.created: {created} is after the submission")
    stated = set(() if submission.trajectories is None else submission.trajectories.digests)
    allowed = {item.system for item in result.systems}
    if submission.mutants is not None:
        # The batches of stage one have names of their own.
        parents = tuple(f"{one.parent}-" for one in submission.mutants.parents)
        allowed |= {one for one in stated if one.startswith(parents) and one.endswith("-beads")}
    if extra := sorted(stated - allowed):
        problems.append(f"trajectories: of systems that are not in the result, {extra[0]}")
    check = submission.verification
    if check is not None and check.result != submission.result_fingerprint:
        problems.append("verification: of another result than the one in the file")
    return problems


def _track_problems(submission: Submission, record: ModelRecord) -> list[str]:
    from cgbench.models import PotentialSpec
    from cgbench.pipeline.leaks import check_leaks

    result, track = submission.result, record.track
    problems = []
    if (track == "mutants") != (result.track == "mutants"):
        problems.append(f"track: the record says {track}, the result {result.track}")
    if (track == "sampler") != (record.kind == "sampler"):
        problems.append("track: samplers, and only they, are on the track of samplers")
    present = {item.system for item in result.systems}
    due = set(counting_systems(result, track)) - present - set(submission.missing)
    if due:
        problems.append(
            f"systems: {', '.join(sorted(due))} count on the track {track} and are neither in the "
            "result nor marked as missing (--missing REASON)"
        )
    if wrong := sorted(set(submission.missing) & present):
        problems.append(f"missing: {wrong[0]} is in the result")
    if unknown := sorted(set(submission.missing) - set(counting_systems(result, track))):
        problems.append(f"missing: {unknown[0]} does not count on the track {track}")
    if result.model.kind != "potential" or result.model.spec is None:
        return problems
    try:
        spec = PotentialSpec.model_validate(result.model.spec)
    except ValueError:
        return [*problems, "model.spec: not what a potential says of itself"]
    trained = trained_systems(result)
    if track == "protein-specific" and len(trained) > 1:
        problems.append(f"track: trained on {len(trained)} proteins, not on one")
    if track == "multi-protein" and len(trained) < 2:
        problems.append("track: trained on fewer than two proteins")
    if track in ("leave-one-out", "mutants"):
        for key in counting_systems(result, track):
            if key not in present:
                continue
            try:
                leak = check_leaks(spec, key, asked=track)
            except CgbenchError as error:
                problems.append(f"{key}: {error.what}")
                continue
            if leak.status in ("refused", "unchecked"):
                why = leak.overlaps or (leak.reason or "",)
                problems += [f"{key}: data leak: {text}" for text in why]
    return problems


def _remarks(submission: Submission) -> tuple[str, ...]:
    """Return what is not wrong but has to be told."""
    result = submission.result
    told = [
        f"{item.system}: {sentence}"
        for item in result.systems
        if item.leak is not None
        for sentence in item.leak.sentences
    ]
    told += [
        f"{key}: its reference bundle is not registered yet, so that the result is kept without "
        f"score and rank; a maintainer registers one with 'cgbench leaderboard register {key}'"
        for key in unregistered_systems(result)
    ]
    least = registry.constants().minimum_trajectories
    told += [
        f"{item.system}: {item.n_trajectories} trajectories, below the {least} that a rank takes"
        for item in result.systems
        if item.status == "ok" and (item.n_trajectories or 0) < least
    ]
    lost = [item.system for item in result.systems if item.status == "missing"]
    lost += sorted(submission.missing)
    if lost and set(lost) & (set(published_systems()) | {one.key for one in registry.mutants()}):
        told.append(f"not scored, and counted as 0: {', '.join(lost)}")
    return tuple(told)
