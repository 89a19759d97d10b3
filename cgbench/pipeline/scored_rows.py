"""Scored rows of a run folder: on disk as soon as they are there, kept while their inputs stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pydantic

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import CgbenchError
from cgbench.evaluate import METRICS, Scored, read_scored, write_scored
from cgbench.evaluate.plugins import load_plugins
from cgbench.evaluate.stopwatch import Stopwatch
from cgbench.registry import Protocol
from cgbench.results import SplitIdentity, SystemCost

__all__ = [
    "RowRecord",
    "Stopwatch",
    "kept_row",
    "metric_version",
    "record_path",
    "recorded_systems",
    "row_inputs",
    "row_record",
    "scored_path",
    "write_row",
]


class RowRecord(Frozen):
    """What a scored row was made from, beside it as JSON; written after it.

    Attributes:
        format: Always ``cgbench-scored-row``.
        version: Version of this format.
        system: Registry key.
        fingerprint: Over ``inputs``; a row is kept under the same one only.
        inputs: Everything that decides the numbers of the row.
        row_sha256: Of the row's file, so that a damaged one is scored again.
        reference: Fingerprint of the reference bundle.
        reference_version: Its version.
        split: Where the force errors are from; None without them.
        timings: Seconds of each stage.
        cost: What simulating it took.
    """

    format: Literal["cgbench-scored-row"] = "cgbench-scored-row"
    version: Literal[1] = 1
    system: str
    fingerprint: str
    inputs: dict[str, pydantic.JsonValue]
    row_sha256: str
    reference: str
    reference_version: str
    split: SplitIdentity | None
    timings: dict[str, float]
    cost: SystemCost | None


def scored_path(folder: Path, system: str) -> Path:
    """Return where a run keeps the resampled values and drawings of one system."""
    return folder / "scored" / f"{system}.npz"


def record_path(folder: Path, system: str) -> Path:
    """Return where a run keeps what a scored row was made from."""
    return scored_path(folder, system).with_suffix(".json")


def row_inputs(
    system: str,
    *,
    model_hash: str | None,
    protocol: Protocol | None,
    reference: str,
    split: SplitIdentity | None,
    seeds: Mapping[str, int],
    options: Mapping[str, pydantic.JsonValue],
) -> dict[str, pydantic.JsonValue]:
    """Return everything that decides the numbers of a row, as plain data.

    Args:
        system: Registry key.
        model_hash: The model.
        protocol: How it is simulated, every number of it.
        reference: Fingerprint of the reference bundle; it covers the start frames too.
        split: Where force errors are from.
        seeds: By use.
        options: Whatever else was asked for, as the analysis of the reference work.
    """
    return {
        "system": system,
        "model": model_hash,
        "protocol": None if protocol is None else protocol.model_dump(mode="json"),
        "reference": reference,
        "split": None if split is None else split.model_dump(mode="json"),
        "seeds": dict(seeds),
        "metrics": {
            metric: metric_version(metric) for metric in sorted([*METRICS, *load_plugins().metrics])
        },
        "constants": config.fingerprint(registry.constants()),
        "options": dict(options),
    }


def metric_version(metric: str) -> int:
    """Return the version of a metric of the registry."""
    return registry.metric(metric).version


def kept_row(
    folder: Path, system: str, inputs: Mapping[str, pydantic.JsonValue]
) -> tuple[Scored, RowRecord] | None:
    """Return the row of a system, where it is whole and was made from these inputs."""
    record = row_record(folder, system)
    if record is None or record.fingerprint != config.fingerprint(dict(inputs)):
        return None
    path = scored_path(folder, system)
    try:
        if config.file_sha256(path) != record.row_sha256:
            return None
        return read_scored(path), record
    except (CgbenchError, OSError):
        return None


def row_record(folder: Path, system: str) -> RowRecord | None:
    """Return what is recorded of a row; None where there is nothing that can be read."""
    try:
        return config.read_model(RowRecord, record_path(folder, system))
    except CgbenchError:
        return None


def recorded_systems(folder: Path) -> list[str]:
    """Return the systems with a recorded row, in the order of their names."""
    return sorted(path.stem for path in (folder / "scored").glob("*.json"))


def write_row(
    folder: Path,
    row: Scored,
    inputs: Mapping[str, pydantic.JsonValue],
    *,
    reference: str,
    reference_version: str,
    split: SplitIdentity | None,
    timings: Mapping[str, float],
    cost: SystemCost | None,
) -> RowRecord:
    """Write a row and then its record: a kill in between leaves a row that is scored again."""
    system = row.result.system
    record_path(folder, system).unlink(missing_ok=True)
    write_scored(scored_path(folder, system), row)
    record = RowRecord(
        system=system,
        fingerprint=config.fingerprint(dict(inputs)),
        inputs=dict(inputs),
        row_sha256=config.file_sha256(scored_path(folder, system)),
        reference=reference,
        reference_version=reference_version,
        split=split,
        timings=dict(timings),
        cost=cost,
    )
    config.write_model(record_path(folder, system), record)
    return record
