"""Assembles scored rows into the one result file of a run, and reads runs back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cgbench import config, provenance, registry
from cgbench.errors import UsageError
from cgbench.evaluate import ReferenceBundle, Scored, read_scored, write_scored
from cgbench.registry import Protocol
from cgbench.results import (
    ModelIdentity,
    ProtocolIdentity,
    ReferenceIdentity,
    Result,
    SplitIdentity,
    SystemResult,
    read_result,
    write_result,
)
from cgbench.splits import Split
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


def assemble(
    model: ModelIdentity,
    scored: Mapping[str, Scored],
    missing: Sequence[SystemResult],
    *,
    bundles: Mapping[str, ReferenceBundle],
    protocol: Protocol | None,
    splits: Mapping[str, Split],
    seeds: dict[str, int],
    wall_time: float | None,
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
        metrics_versions={metric: registry.metric(metric).version for metric in used},
        seeds=seeds,
        provenance=provenance.collect(seeds),
        wall_time_s=wall_time,
        systems=systems,
    )


def scored_path(folder: Path, system: str) -> Path:
    """Return where a run keeps the resampled values and drawings of one system."""
    return folder / "scored" / f"{system}.npz"


def write_run(folder: Path, run: ScoredRun) -> None:
    """Write ``result.json``, ``provenance.json`` and the scored rows of a run."""
    for system, row in run.scored.items():
        write_scored(scored_path(folder, system), row)
    config.write_model(folder / "provenance.json", run.result.provenance)
    write_result(folder / "result.json", run.result)


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
        item.system: read_scored(scored_path(folder, item.system))
        for item in result.systems
        if item.status != "missing"
    }
    return ScoredRun(result, rows)
