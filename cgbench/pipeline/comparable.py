"""Which runs may be compared with each other, and in what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Scored
from cgbench.evaluate.scored import read_scored
from cgbench.pipeline.scored_rows import scored_path
from cgbench.registry import MetricSpec
from cgbench.results import Result, SystemResult, read_result


@dataclass(frozen=True)
class Run:
    """A run as it is compared.

    Attributes:
        name: Unlike every other's.
        result: What it found.
        rows: Its scored rows, by system, as far as they are at hand.
    """

    name: str
    result: Result
    rows: Mapping[str, Scored]


def read_run_file(path: Path) -> tuple[Result, dict[str, Scored]]:
    """Read a run folder or a result file, with the scored rows that lie beside it.

    Raises:
        UsageError: There is no such file.
        IntegrityError: The result or a row is damaged, or they do not belong together.
    """
    file = path / "result.json" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{path}: no run folder and no result file",
            expected="a folder with result.json, or such a file",
            fix="make one with 'cgbench evaluate'",
        )
    result = read_result(file)
    if file.name != "result.json":
        return result, {}
    rows = {}
    for item in result.systems:
        place = scored_path(file.parent, item.system)
        if item.status != "missing" and place.is_file():
            row = read_scored(place)
            if row.result.metrics != item.metrics:
                raise IntegrityError(
                    f"{place}: not the row that {file} is made of",
                    fix="run the evaluation of this folder again",
                )
            rows[item.system] = row
    return result, rows


def named_runs(read: Sequence[tuple[Path, Result, dict[str, Scored]]]) -> list[Run]:
    """Name runs by their models, with the folder where two have the same."""
    models = [result.model.name for _, result, _ in read]
    runs: list[Run] = []
    for index, (path, result, rows) in enumerate(read, start=1):
        name = result.model.name
        if models.count(name) > 1:
            folder = path if path.is_dir() or path.name != "result.json" else path.parent
            name = f"{name} ({folder.resolve().name})"[:190]
        if any(run.name == name for run in runs):
            name = f"{name} #{index}"
        runs.append(Run(name, result, rows))
    return runs


def scored_systems(run: Run) -> dict[str, SystemResult]:
    """Return what a run says of the systems that are not missing."""
    return {item.system: item for item in run.result.systems if item.status != "missing"}


def shared_systems(runs: Sequence[Run], wanted: Sequence[str] | None) -> list[str]:
    """Return the systems that two of the runs have scored, or those named.

    Raises:
        UsageError: There is none, or one that is named is not among them.
    """
    scored = [key for run in runs for key in scored_systems(run)]
    shared = [key for key in dict.fromkeys(scored) if scored.count(key) > 1]
    if wanted is None:
        if not shared:
            raise UsageError(
                "no system was scored in two of the runs",
                found="; ".join(f"{run.name}: {', '.join(scored_systems(run))}" for run in runs),
            )
        return shared
    for key in wanted:
        if key not in shared:
            raise UsageError(
                f"{key}: not scored in two of the runs",
                expected=", ".join(shared) or "no system is",
                found=key,
            )
    return list(dict.fromkeys(wanted))


def shared_metrics(
    runs: Sequence[Run], systems: Sequence[str], wanted: Sequence[str] | None
) -> list[str]:
    """Return metrics in the order of the registry, those it does not know last.

    Raises:
        UsageError: A metric is unknown, or none of the runs has it.
    """
    used = {
        metric
        for run in runs
        for key, item in scored_systems(run).items()
        if key in systems
        for metric in item.metrics
    }
    known = [spec.id for spec in registry.metrics()]
    if wanted is None:
        return [metric for metric in known if metric in used] + sorted(used - set(known))
    for metric in wanted:
        if metric not in used:
            # An unknown name is told apart from one that no run has.
            if ":" not in metric:
                registry.metric(metric)
            raise UsageError(f"{metric}: none of the runs has it", expected=", ".join(sorted(used)))
    return list(dict.fromkeys(wanted))


def require_comparable(
    runs: Sequence[Run], systems: Sequence[str], metrics: Sequence[str] | None
) -> list[str]:
    """Refuse what must not be compared; return what a reader has to know.

    Raises:
        ValidationError: References, protocols or versions of metrics differ.
    """
    notes = []
    for a, b in combinations(runs, 2):
        both = f"{a.name} and {b.name}"
        shared = [key for key in systems if key in scored_systems(a) and key in scored_systems(b)]
        for key in shared:
            references = [run.result.reference.fingerprints.get(key) for run in (a, b)]
            if references[0] != references[1]:
                raise ValidationError(
                    f"{both}: scored against different references of {key}",
                    expected=references[0],
                    found=references[1],
                    fix="score both against the same reference, or leave the system out with "
                    "--system",
                )
        versions = [run.result.metrics_versions for run in (a, b)]
        differing = sorted(
            metric
            for metric in (versions[0].keys() & versions[1].keys())
            if versions[0][metric] != versions[1][metric] and (metrics is None or metric in metrics)
        )
        if differing:
            raise ValidationError(
                f"{both}: scored by different versions of {', '.join(differing)}",
                expected=", ".join(f"{one}@{versions[0][one]}" for one in differing),
                found=", ".join(f"{one}@{versions[1][one]}" for one in differing),
                fix="score both again with one version of cgbench",
            )
        protocols = [run.result.protocol for run in (a, b)]
        if None not in protocols and protocols[0] != protocols[1]:
            told = [f"{one.id} version {one.version}" for one in protocols if one is not None]
            raise ValidationError(
                f"{both}: simulated under different protocols",
                expected=told[0],
                found=told[1],
                fix="simulate both under the same protocol",
            )
        if protocols[0] != protocols[1]:
            notes.append(f"{both}: one of them followed no protocol of cgbench")
    return notes


def known_metric(metric: str) -> MetricSpec | None:
    """Return a metric of the registry; None for one that this version does not know."""
    try:
        return registry.metric(metric)
    except UsageError:
        return None
