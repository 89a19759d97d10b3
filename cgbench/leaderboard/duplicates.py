"""Whether a submission is one that is there already, under another name."""

from collections.abc import Sequence

from cgbench.leaderboard.records import ModelRecord, Submission
from cgbench.results import Result


def duplicate_problems(
    submission: Submission, record: ModelRecord, others: Sequence[tuple[Submission, ModelRecord]]
) -> list[str]:
    """Return where a model, its trajectories or its title are already there under another name.

    Args:
        submission: What is submitted.
        record: The record of its model.
        others: What is on the leaderboard already.
    """
    problems = []
    own_hash = submission.result.model.hash
    own = set(_digests(submission).values())
    for other, other_record in others:
        if other.model == submission.model:
            if other.submitted == submission.submitted and other != submission:
                problems.append(f"submitted: {other.submitted} has a submission of this model")
            continue
        if own_hash is not None and other.result.model.hash == own_hash:
            problems.append(f"model.hash: the same model as {other.model}")
        if own & set(_digests(other).values()):
            problems.append(f"trajectories: the same as those of {other.model}")
        if other_record.title.casefold() == record.title.casefold():
            problems.append(f"title: {other.model} has the same")
        if _same_numbers(submission.result, other.result):
            problems.append(f"systems: the same numbers as those of {other.model}")
    return list(dict.fromkeys(problems))


def _digests(submission: Submission) -> dict[str, str]:
    found: dict[str, str] = {}
    if submission.trajectories is not None:
        found |= submission.trajectories.digests
    if submission.verification is not None:
        found |= submission.verification.digests
    return found


def _same_numbers(a: Result, b: Result) -> bool:
    """Return whether any system that both have scored has the same values to the last digit."""
    for item in a.systems:
        other = b.system(item.system)
        if item.status != "ok" or other is None or other.status != "ok":
            continue
        pairs = [
            (value.value, other.metrics[metric].value)
            for metric, value in item.metrics.items()
            if metric in other.metrics and value.value not in (None, 0.0, 1.0)
        ]
        if len(pairs) >= 5 and all(one == two for one, two in pairs):
            return True
    return False
