"""Two or more runs compared: differences with intervals, which are significant, and for whom."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.differences import (
    MetricDifference,
    interval_difference,
    mean_difference,
    row_difference,
)
from cgbench.evaluate.plugins import load_plugins
from cgbench.pipeline.comparable import (
    Run,
    known_metric,
    named_runs,
    read_run_file,
    require_comparable,
    scored_systems,
    shared_metrics,
    shared_systems,
)
from cgbench.registry import MetricSpec
from cgbench.results import MetricValue
from cgbench.results.comparison import (
    ComparedDifference,
    ComparedRun,
    ComparisonTally,
    RunComparison,
)


def compare_runs(
    paths: Sequence[Path],
    *,
    metrics: Sequence[str] | None = None,
    systems: Sequence[str] | None = None,
) -> RunComparison:
    """Compare runs pair by pair on the systems that both have scored.

    Args:
        paths: Run folders, or result files. Beside a file named ``result.json`` the scored rows
            are looked for; of any other file only the values and their intervals are known.
        metrics: Metric ids; all that both of a pair have if None.
        systems: Registry keys; all that two of the runs have scored if None.

    Raises:
        UsageError: Fewer than two runs, a name is unknown, or there is nothing to compare.
        IntegrityError: A result or a scored row is damaged.
        ValidationError: The runs were scored against different references, under different
            protocols or by different versions of a metric.
    """
    if len(paths) < 2:
        raise UsageError("give two runs or more to compare", found=f"{len(paths)}")
    # So that the metrics of other packages are described as well.
    load_plugins()
    runs = named_runs([(path, *read_run_file(path)) for path in paths])
    chosen = shared_systems(runs, systems)
    notes = require_comparable(runs, chosen, metrics)
    wanted = shared_metrics(runs, chosen, metrics)
    notes += [
        f"{metric}: this version does not know it{_not_installed(metric)}; which value is better "
        "is not said"
        for metric in wanted
        if known_metric(metric) is None
    ]
    differences: list[ComparedDifference] = []
    summary: list[ComparedDifference] = []
    for a, b in combinations(runs, 2):
        for metric in wanted:
            measured = []
            for system in chosen:
                found = _difference(a, b, system, metric)
                if isinstance(found, str):
                    notes.append(found)
                elif found is not None:
                    differences.append(found[0])
                    measured.append(found[1])
            over = mean_difference([item for item in measured if item is not None])
            if over is not None and len(measured) > 1 and None not in measured:
                summary.append(_summarised(a, b, metric, over, len(measured)))
    if not differences:
        raise UsageError(
            "there is nothing to compare",
            expected="a metric with a value in two runs",
            found="; ".join(notes[:3]) or f"no value of {', '.join(metrics or ['any metric'])}",
        )
    return RunComparison(
        runs=tuple(
            ComparedRun(
                name=run.name,
                model=run.result.model.name,
                model_hash=run.result.model.hash,
                protocol=None if run.result.protocol is None else run.result.protocol.id,
                seeds=run.result.seeds,
                resamples=bool(run.rows),
            )
            for run in runs
        ),
        systems=tuple(chosen),
        differences=tuple(differences),
        summary=tuple(summary),
        tallies=_tallies(runs, differences),
        ranks=_ranks(runs, differences),
        notes=tuple(dict.fromkeys(note[:2000] for note in notes)),
    )


def _not_installed(metric: str) -> str:
    package, colon, _ = metric.partition(":")
    return f", the package {package} that brings it is not installed" if colon else ""


def _same_starts(a: Run, b: Run) -> bool:
    """Return whether replica i of both began at the same frame: a protocol starts them so."""
    return a.result.protocol is not None and a.result.protocol == b.result.protocol


def _difference(
    a: Run, b: Run, system: str, metric: str
) -> tuple[ComparedDifference, MetricDifference | None] | str | None:
    """Return a difference, why there is none, or None where one of them has no such value."""
    values = [
        item.metrics.get(metric)
        for item in (scored_systems(run).get(system) for run in (a, b))
        if item is not None
    ]
    first, second = values if len(values) == 2 else (None, None)
    if first is None or second is None or first.value is None or second.value is None:
        return None
    spec = known_metric(metric)
    target = None
    if spec is not None and spec.direction == "target":
        target = first.target if first.target is not None else second.target
        if target is None:
            return f"{system} {metric}: the reference has no value to compare with"
    void = [run.name for run, value in ((a, first), (b, second)) if value.status == "void"]
    broken = [run.name for run, value in ((a, first), (b, second)) if value.status == "failed"]
    if broken:
        found = _penalised(first, second, target)
        note: str | None = f"{' and '.join(broken)} failed: the value is the penalty"
        made = _compared(a, b, system, metric, spec, (first, second), target, found, note)
        if len(broken) == 1 and spec is not None and spec.ranked:
            made = made.model_copy(update={"better": b.name if broken == [a.name] else a.name})
        return made, None
    try:
        found = (
            row_difference(
                a.rows[system], b.rows[system], metric,
                target=target, same_starts=_same_starts(a, b),
            )
            if system in a.rows and system in b.rows
            else interval_difference(first, second, target=target)
        )  # fmt: skip
    except ValidationError as error:
        return f"{system}: {error.what}"
    unbounded = [run.name for run, value in ((a, first), (b, second)) if value.lo is None]
    if unbounded and found.lo is not None:
        # A value that is a bound, as a free energy of a state that was never seen: its resamples
        # all sit at the bound, and what they would say is no interval.
        reason = f"no interval: the value of {' and '.join(unbounded)} is a bound or has none"
        found = replace(found, lo=None, hi=None, resamples=None, reason=reason)
    note = found.reason
    if void:
        note = f"void for {' and '.join(void)}: a gate was not passed" + (f"; {note}" * bool(note))
    made = _compared(a, b, system, metric, spec, (first, second), target, found, note)
    if void:
        made = made.model_copy(update={"better": None})
        return made, None
    return made, found


def _penalised(first: MetricValue, second: MetricValue, target: float | None) -> MetricDifference:
    return MetricDifference(
        interval_difference(first, second, target=target).diff, None, None, "intervals", None, None
    )


def _compared(
    a: Run,
    b: Run,
    system: str | None,
    metric: str,
    spec: MetricSpec | None,
    values: tuple[MetricValue | None, MetricValue | None],
    target: float | None,
    found: MetricDifference,
    note: str | None,
    n_systems: int = 1,
) -> ComparedDifference:
    first, second = (None if value is None else value.value for value in values)
    return ComparedDifference(
        system=system,
        n_systems=n_systems,
        metric=metric,
        unit=None if spec is None else spec.unit,
        direction=None if spec is None else spec.direction,
        a=a.name,
        b=b.name,
        value_a=first,
        value_b=second,
        target=target,
        diff=found.diff,
        lo=found.lo,
        hi=found.hi,
        kind=found.kind,
        significant=found.significant,
        better=_better(a, b, spec, found),
        note=note,
    )


def _better(a: Run, b: Run, spec: MetricSpec | None, found: MetricDifference) -> str | None:
    if spec is None or not found.significant:
        return None
    # Distances to a target are the smaller the better.
    first_wins = found.diff > 0 if spec.direction == "max" else found.diff < 0
    return a.name if first_wins else b.name


def _summarised(
    a: Run, b: Run, metric: str, over: MetricDifference, n_systems: int
) -> ComparedDifference:
    spec = known_metric(metric)
    note = f"mean over {n_systems} systems"
    if over.reason is not None:
        note += f"; {over.reason}"
    return _compared(a, b, None, metric, spec, (None, None), None, over, note, n_systems)


def _ranked(item: ComparedDifference) -> bool:
    spec = known_metric(item.metric)
    return spec is not None and spec.ranked


def _tallies(
    runs: Sequence[Run], differences: Sequence[ComparedDifference]
) -> tuple[ComparisonTally, ...]:
    made = []
    for a, b in combinations(runs, 2):
        own = [one for one in differences if (one.a, one.b) == (a.name, b.name) and _ranked(one)]
        wins = [sum(one.better == run.name for one in own) for run in (a, b)]
        made.append(
            ComparisonTally(
                a=a.name,
                b=b.name,
                a_better=wins[0],
                b_better=wins[1],
                undecided=len(own) - sum(wins),
            )
        )
    return tuple(made)


def _ranks(
    runs: Sequence[Run], differences: Sequence[ComparedDifference]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return one plus the number of runs that are significantly better."""
    least = registry.constants().minimum_trajectories
    enough = {
        (run.name, key)
        for run in runs
        for key, item in scored_systems(run).items()
        if (item.n_trajectories or 0) >= least
    }
    ranks: dict[str, dict[str, dict[str, int]]] = {}
    for item in differences:
        pair = (item.a, item.b)
        if item.system is None or not _ranked(item) or item.significant is None:
            continue
        if not all((name, item.system) in enough for name in pair):
            continue
        here = ranks.setdefault(item.system, {}).setdefault(item.metric, {})
        for name in pair:
            here.setdefault(name, 1)
        if item.better is not None:
            here[pair[0] if item.better == pair[1] else pair[1]] += 1
    return ranks
