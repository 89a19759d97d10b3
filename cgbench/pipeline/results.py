"""Assembles scored rows into the one result file of a run, and reads runs back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from typing import Protocol as Interface

from cgbench import config, provenance, registry
from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate import (
    ReferenceBundle,
    Scored,
    read_reference,
    read_scored,
    write_scored,
)
from cgbench.pipeline.scored_rows import metric_version, scored_path
from cgbench.registry import Protocol
from cgbench.results import (
    Cost,
    ModelIdentity,
    ProtocolIdentity,
    ReferenceIdentity,
    Result,
    SplitIdentity,
    SystemResult,
    read_result,
    write_result,
)
from cgbench.store import find_reference, find_store
from cgbench.version import __version__


@dataclass(frozen=True)
class ScoredRun:
    """A result with what its reports are drawn from, by system."""

    result: Result
    scored: Mapping[str, Scored]

    def renamed(self, name: str) -> "ScoredRun":
        """Return the run under another name, to tell two runs of one model apart."""
        model = self.result.model.model_copy(update={"name": name})
        return ScoredRun(
            self.result.model_copy(update={"model": model}),
            {key: replace(row, name=name) for key, row in self.scored.items()},
        )


class SplitFacts(Interface):
    """What a result names a split by."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def fingerprint(self) -> str:
        """``sha256:…`` over its content."""


class ReferenceFacts(Interface):
    """What a result names a reference bundle by."""

    @property
    def fingerprint(self) -> str:
        """``sha256:…`` over its content."""

    @property
    def version(self) -> str:
        """Version of its format."""


def references_at_hand(
    systems: list[str], home: Path | None
) -> tuple[dict[str, ReferenceBundle], list[SystemResult]]:
    """Read the bundles at hand; a system without one is missing, with the reason."""
    bundles = {}
    missing = []
    for key in systems:
        try:
            bundles[key] = read_reference(find_reference(key, home))
        except UsageError as error:
            reason = commands_for(key, error, home)
            missing.append(SystemResult(system=key, status="missing", reason=reason))
    return bundles, missing


def assemble(
    model: ModelIdentity,
    scored: Mapping[str, Scored],
    missing: Sequence[SystemResult],
    *,
    bundles: Mapping[str, ReferenceFacts],
    protocol: Protocol | None,
    splits: Mapping[str, SplitFacts],
    seeds: dict[str, int],
    wall_time: float | None,
    timings: Mapping[str, float] | None = None,
    cost: Cost | None = None,
    track: Literal["systems", "mutants"] = "systems",
) -> Result:
    """Return the result of a model: scored systems first, then those that are missing."""
    systems = (*(row.result for row in scored.values()), *missing)
    used = sorted({metric for item in systems for metric in item.metrics})
    versions = {bundle.version for bundle in bundles.values()}
    return Result(
        suite_version=__version__,
        model=model,
        protocol=None
        if protocol is None
        else ProtocolIdentity(id=protocol.id, version=protocol.version),
        reference=ReferenceIdentity(
            version=versions.pop() if len(versions) == 1 else "none",
            fingerprints={key: bundle.fingerprint for key, bundle in bundles.items()},
        ),
        split=None
        if not splits
        else SplitIdentity(
            id=next(iter(splits.values())).id,
            fingerprints={key: split.fingerprint for key, split in splits.items()},
        ),
        metrics_versions={metric: metric_version(metric) for metric in used},
        seeds=seeds,
        provenance=provenance.collect(seeds),
        wall_time_s=wall_time,
        timings=dict(timings or {}),
        cost=cost,
        track=track,
        systems=systems,
    )


def commands_for(key: str, error: CgbenchError, home: Path | None) -> str:
    """Return why a system is not scored, with the commands that get what is not there.

    Args:
        key: Registry key.
        error: What was raised when its reference was looked for or read.
        home: Data home.
    """
    commands = [f"cgbench reference build {key}"]
    try:
        find_store(key, home)
    except UsageError:
        commands = [f"cgbench download {key}", f"cgbench preprocess {key}", *commands]
    published = registry.system(key).published_key is not None
    text = error.message
    if published and error.fix is not None and error.fix == commands[-1]:
        text = text.replace(f"to do:    {error.fix}", f"to do:    {' && '.join(commands)}")
    return printed(text)


def noted(row: Scored, notes: Sequence[str]) -> Scored:
    """Return a row that tells its reader more, before what it says already."""
    if not notes:
        return row
    told = (*(printed(note) for note in notes), *row.result.notes)
    return replace(row, result=row.result.model_copy(update={"notes": told}))


def printed(text: str) -> str:
    """Return text as results hold it: printable and of a few lines."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)[:2000]


def failure_text(error: Exception) -> str:
    """Return an error as the reason of a failed row; one that is not of the suite with its kind."""
    known = isinstance(error, CgbenchError)
    return printed(str(error) if known else f"{type(error).__name__}: {error}")


def write_result_of(folder: Path, result: Result) -> None:
    """Write ``result.json`` and ``provenance.json`` of a run."""
    config.write_model(folder / "provenance.json", result.provenance)
    write_result(folder / "result.json", result)


def write_run(folder: Path, run: ScoredRun) -> None:
    """Write ``result.json``, ``provenance.json`` and the scored rows of a run."""
    for system, row in run.scored.items():
        write_scored(scored_path(folder, system), row)
    write_result_of(folder, run.result)


def read_run(path: Path) -> ScoredRun:
    """Read a run folder or its ``result.json``.

    Raises:
        UsageError: There is no result, or its scored rows are gone.
    """
    folder = path.parent if path.name == "result.json" else path
    if not (folder / "result.json").is_file():
        raise UsageError(
            f"{path}: no run folder",
            expected="a folder with result.json",
            fix="make one with 'cgbench evaluate'",
        )
    result = read_result(folder / "result.json")
    rows = {
        item.system: _as_in_result(read_scored(scored_path(folder, item.system)), item)
        for item in result.systems
        if item.status != "missing"
    }
    return ScoredRun(result, rows)


def _as_in_result(row: Scored, item: SystemResult) -> Scored:
    """Return a row with what the result says of the training data, which rows do not know."""
    update = {"track": item.track, "leak": item.leak}
    return replace(row, result=row.result.model_copy(update=update))
