"""The row of a model: its latest submission, scored by the thresholds of today."""

from collections.abc import Mapping, Sequence

from cgbench import registry
from cgbench.leaderboard.known import counting_systems, group_of, unregistered_systems
from cgbench.leaderboard.records import ModelRecord, Submission
from cgbench.leaderboard.rows import (
    BoardRow,
    MetricCell,
    MutantCount,
    PastSubmission,
    RowCost,
    RowFlag,
    Score,
    SystemCell,
)
from cgbench.leaderboard.scoring import (
    NOTHING,
    mean_score,
    metric_score,
    recovery_score,
    scored_metrics,
    system_score,
)
from cgbench.results import Result, SystemResult

#: Reference values of metrics with a target, by system and metric.
Targets = Mapping[str, Mapping[str, float]]


def model_row(
    record: ModelRecord,
    submissions: Sequence[Submission],
    stale: Sequence[str] = (),
    targets: Targets | None = None,
) -> BoardRow:
    """Return the row of a model, without its rank.

    Args:
        record: Its record.
        submissions: Its submissions, the latest first, which is the one shown.
        stale: Why that one could not be submitted now.
        targets: Reference values as this leaderboard knows them, which take the place of those that
            a result states.
    """
    latest = submissions[0]
    result = latest.result
    counting = counting_systems(result, record.track)
    systems = _systems(latest, record, counting, targets or {})
    counted = [systems[key] for key in counting]
    mutants = None if latest.mutants is None else _mutants(latest)
    flags = _flags(record, result, counted)
    unknown = "unregistered" in flags
    score = None if unknown else _score(counted, mutants)
    return BoardRow(
        id=record.model,
        title=record.title,
        track=record.track,
        group=group_of(result, record.track),
        model=record,
        submission=latest,
        history=tuple(
            PastSubmission(
                submitted=one.submitted, level=one.level, score=_past(one, record, targets or {})
            )
            for one in submissions[1:]
        ),
        unranked_reason=_unranked(record, flags, stale),
        score=score,
        systems=systems,
        metrics={} if unknown else _metric_means(counted),
        gates_failed=tuple(
            f"{gate} ({cell.system})" for cell in systems.values() for gate in cell.gates_failed
        ),
        cost=_cost(result),
        mutants=mutants,
        level=latest.level,
        flags=flags,
        notes=tuple(_notes(record, counted, stale)),
        best_of_n=_integer(result, "best_of_n"),
        n_seeds=_seeds(result),
    )


def system_cell(item: SystemResult, counts: bool, targets: Mapping[str, float]) -> SystemCell:
    """Return one system of a row, with the score of every metric that counts."""
    scored = {metric.metric: metric for metric in scored_metrics()}
    cells = {}
    for name, value in item.metrics.items():
        target = targets.get(name, value.target)
        metric = scored.get(name)
        usable = item.status == "ok"
        cells[name] = MetricCell(
            metric=name,
            value=value.value,
            lo=value.lo,
            hi=value.hi,
            target=target,
            status=value.status,
            score=None
            if metric is None
            else metric_score(metric, value if usable else None, target),
            note=value.note,
        )
    for name in scored:
        if name not in cells:
            cells[name] = MetricCell(metric=name, status="absent", score=NOTHING)
    composite = system_score(cells, scored_metrics()) if item.status == "ok" else NOTHING
    return SystemCell(
        system=item.system,
        status=item.status,
        counts=counts,
        reason=item.reason,
        composite=composite,
        metrics=cells,
        gates_failed=tuple(gate for gate, state in item.gates.items() if state == "failed"),
        n_trajectories=item.n_trajectories,
        n_frames=item.n_frames,
        converged=item.converged,
        weights_status=item.weights_status,
        leak="\n".join(item.leak.sentences) or None if item.leak is not None else None,
        notes=item.notes,
    )


def _systems(
    submission: Submission, record: ModelRecord, counting: Sequence[str], targets: Targets
) -> dict[str, SystemCell]:
    result = submission.result
    cells = {
        item.system: system_cell(item, item.system in counting, targets.get(item.system, {}))
        for item in result.systems
    }
    for key in unregistered_systems(result):
        cells[key] = _unscored(cells[key])
    if record.track == "mutants":
        # Variants have no reference simulation: they count by whether they are recovered.
        cells = {key: cell.model_copy(update={"composite": None}) for key, cell in cells.items()}
    found = {}
    for key in counting:
        reason = submission.missing.get(key, "not in the result")
        missing = SystemCell(system=key, status="missing", reason=reason, composite=NOTHING)
        found[key] = cells.pop(key, missing)
    return found | cells


def _unscored(cell: SystemCell) -> SystemCell:
    """Return a system with its values and without scores: nobody knows what they are against."""
    metrics = {
        name: value.model_copy(update={"score": None}) for name, value in cell.metrics.items()
    }
    told = "the reference that it names is not registered yet"
    return cell.model_copy(
        update={"composite": None, "metrics": metrics, "notes": (told, *cell.notes)}
    )


def _score(counted: Sequence[SystemCell], mutants: MutantCount | None) -> Score | None:
    if mutants is not None:
        return recovery_score(mutants.recovered, mutants.total)
    return mean_score([cell.composite or NOTHING for cell in counted])


def _past(submission: Submission, record: ModelRecord, targets: Targets) -> Score | None:
    counting = counting_systems(submission.result, record.track)
    if unregistered_systems(submission.result):
        return None
    cells = _systems(submission, record, counting, targets)
    mutants = None if submission.mutants is None else _mutants(submission)
    return _score([cells[key] for key in counting], mutants)


def _mutants(submission: Submission) -> MutantCount | None:
    outcome = submission.mutants
    if outcome is None:
        return None
    known = {entry.key for entry in registry.mutants()}
    recovered = {one.key for one in outcome.variants if one.recovered and one.counts} & known
    tested = {one.key for one in outcome.variants if one.status != "missing"} & known
    return MutantCount(recovered=len(recovered), tested=len(tested), total=len(known))


def _metric_means(counted: Sequence[SystemCell]) -> dict[str, Score]:
    found = {}
    for metric in scored_metrics():
        cells = [cell.metrics.get(metric.metric) for cell in counted]
        scores = [NOTHING if cell is None else cell.score or NOTHING for cell in cells]
        mean = mean_score(scores)
        if mean is not None:
            found[metric.metric] = mean
    return found


def _flags(
    record: ModelRecord, result: Result, counted: Sequence[SystemCell]
) -> tuple[RowFlag, ...]:
    least = registry.constants().minimum_trajectories
    scored = [cell for cell in counted if cell.status == "ok"]
    told: dict[RowFlag, bool] = {
        "best_of_n": (_integer(result, "best_of_n") or 1) > 1,
        "leak": any(cell.leak for cell in counted),
        "missing": any(cell.status == "missing" for cell in counted),
        "failed": any(cell.status == "failed" for cell in counted),
        "gate": any(cell.gates_failed for cell in counted),
        "unconverged": any(cell.converged is False for cell in scored),
        "few_trajectories": record.track != "mutants"
        and any((cell.n_trajectories or 0) < least for cell in scored),
        "foreign_code": result.model.adapter is not None and result.model.adapter.foreign_code,
        "native": record.uses_native_structure,
        "pretrained": record.uses_pretrained is not None,
        "unregistered": bool(unregistered_systems(result)),
        "unreliable_weights": any(cell.weights_status == "weights_unreliable" for cell in scored),
    }
    return tuple(flag for flag, holds in told.items() if holds)


def _unranked(record: ModelRecord, flags: Sequence[RowFlag], stale: Sequence[str]) -> str | None:
    """Return why a row has no rank; None where it has one."""
    if record.status == "superseded":
        return f"superseded by {record.superseded_by}: {record.reason}"
    if record.status == "withdrawn":
        return f"withdrawn: {record.reason}"
    if stale:
        return f"could not be submitted now: {stale[0]}"
    if "unregistered" in flags:
        return "scored against a reference that is not registered yet"
    if "few_trajectories" in flags:
        least = registry.constants().minimum_trajectories
        return f"fewer than {least} trajectories"
    if "leak" in flags:
        return "trained on what it was tested on, or that could not be checked"
    return None


def _notes(record: ModelRecord, counted: Sequence[SystemCell], stale: Sequence[str]) -> list[str]:
    notes = [f"Could not be submitted now: {reason}" for reason in stale]
    if any(cell.converged is False for cell in counted):
        notes.append(
            "The reference has too few folding events to be converged: scores are against this "
            "finite ensemble."
        )
    notes += [
        f"{cell.system}: {cell.status}, {cell.reason}" for cell in counted if cell.status != "ok"
    ]
    notes += [f"{cell.system}: {cell.leak}" for cell in counted if cell.leak]
    if record.uses_native_structure:
        notes.append("Native structures of scored proteins went into it.")
    if record.uses_pretrained is not None:
        notes.append(f"Pretrained: {record.uses_pretrained}")
    return notes


def _cost(result: Result) -> RowCost | None:
    cost = result.cost
    if cost is None:
        return None
    return RowCost(
        ns_per_day=cost.ns_per_day,
        steps_per_second=cost.steps_per_second,
        n_replicas=cost.n_replicas,
        seconds_per_sample=cost.seconds_per_sample,
        training_seconds=cost.training_seconds,
        n_parameters=cost.n_parameters,
        hardware=cost.hardware,
    )


def _integer(result: Result, name: str) -> int | None:
    """Return a whole number that a model says of itself; a specification may hold anything."""
    value = (result.model.spec or {}).get(name)
    return value if type(value) is int and 0 < value < 10_000 else None


def _seeds(result: Result) -> int | None:
    seeds = (result.model.spec or {}).get("seeds")
    number = len(seeds) if isinstance(seeds, list) else None
    return max(number or 0, _integer(result, "best_of_n") or 0) or None
