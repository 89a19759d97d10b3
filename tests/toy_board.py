"""Leaderboard folders of made-up results that pass every check, and one made by a real run."""

import datetime
import shutil
from pathlib import Path
from typing import Any

from cgbench import provenance, registry
from cgbench.leaderboard.files import write_model_record, write_submission
from cgbench.leaderboard.known import known_reference
from cgbench.leaderboard.numbers import COMPARED
from cgbench.leaderboard.records import Author, ModelRecord, Submission
from cgbench.leaderboard.scoring import ranked_metrics
from cgbench.results import (
    Cost,
    MetricValue,
    ModelIdentity,
    ProtocolIdentity,
    ReferenceIdentity,
    Result,
    SystemResult,
)
from cgbench.version import __version__

SAMPLE, OTHER_SAMPLE = "chignolin-sample-v2", "chignolin-sample"
DAY = datetime.date(2026, 1, 10)


def toy_hash(number: int) -> str:
    return f"sha256:{number:064x}"


def trained_on(*systems: str) -> list[dict[str, Any]]:
    found = []
    for system in systems:
        known = known_reference(system)
        fingerprint = known.splits["block-v1"] if known else toy_hash(5)
        found.append(
            {
                "system": system,
                "split_id": "block-v1",
                "split_fingerprint": fingerprint,
                "store_fingerprint": toy_hash(6),
            }
        )
    return found


def metrics_at(share: float, width: float = 0.02, jitter: float = 0.0) -> dict[str, MetricValue]:
    """Every ranked metric at a share of the way from good to bad."""
    found = {}
    for index, spec in enumerate(ranked_metrics()):
        assert spec.good is not None
        assert spec.bad is not None
        span = spec.bad - spec.good
        target = 0.4 if spec.direction == "target" else None
        value = (target or 0.0) + spec.good + span * (share + jitter * index)
        half = width * span
        found[spec.id] = MetricValue(
            value=value, lo=max(0.0, value - half), hi=value + half, n_eff=20.0, target=target
        )
    return found


def toy_system(system: str = SAMPLE, share: float = 0.5, **changes: Any) -> SystemResult:
    data: dict[str, Any] = {
        "system": system,
        "status": "ok",
        "metrics": metrics_at(share),
        "gates": {"handedness": "passed"},
        "n_trajectories": 32,
        "n_frames": 32 * 360,
        "converged": True,
        "weights_status": "ok",
    }
    return SystemResult(**(data | changes))


def failed_system(system: str = SAMPLE) -> SystemResult:
    metrics = {
        spec.id: MetricValue(value=spec.penalty, status="failed") for spec in ranked_metrics()
    }
    return SystemResult(
        system=system, status="failed", reason="every replica broke", metrics=metrics,
        gates={"handedness": "n/a"},
    )  # fmt: skip


def void_system(system: str = SAMPLE) -> SystemResult:
    metrics = {
        name: value.model_copy(update={"status": "void"}) if name in COMPARED else value
        for name, value in metrics_at(0.2).items()
    }
    return toy_system(system, metrics=metrics, gates={"handedness": "failed"})


def toy_result(
    *systems: SystemResult,
    name: str = "toy/one",
    number: int = 1,
    trained: tuple[str, ...] = (SAMPLE,),
    protocol: str = "demo",
    **changes: Any,
) -> Result:
    rows = systems or (toy_system(),)
    used = {metric for row in rows for metric in row.metrics}
    fingerprints = {}
    for row in rows:
        known = known_reference(row.system)
        if row.status != "missing" and known is not None:
            fingerprints[row.system] = known.fingerprint
    data: dict[str, Any] = {
        "suite_version": __version__,
        "model": ModelIdentity(
            name=name,
            hash=toy_hash(number),
            kind="potential",
            spec={"name": name, "trained_on": trained_on(*trained)},
        ),
        "protocol": ProtocolIdentity(id=protocol, version=registry.protocol(protocol).version),
        "reference": ReferenceIdentity(version="v2", fingerprints=fingerprints),
        "metrics_versions": {metric: registry.metric(metric).version for metric in used},
        "seeds": {"simulation": 1, "resampling": 1},
        "provenance": provenance.collect({"simulation": 1}).model_copy(
            update={"created": "2026-01-09T00:00:00+00:00"}
        ),
        "cost": Cost(ns_per_day=100.0, training_seconds=60.0),
        "systems": rows,
    }
    return Result(**(data | changes))


def toy_record(model: str = "toy/one", **changes: Any) -> ModelRecord:
    data: dict[str, Any] = {
        "model": model,
        "title": f"Toy {model}",
        "authors": (Author(name="A. Author", affiliation="An institute"),),
        "description": "A model that was never trained.",
        "track": "protein-specific",
        "kind": "potential",
        "training_data": "the embedded sample",
        "uses_native_structure": False,
        "date": DAY,
    }
    return ModelRecord(**(data | changes))


def toy_submission(result: Result | None = None, **changes: Any) -> Submission:
    data: dict[str, Any] = {
        "model": "toy/one",
        "submitted": DAY,
        "result": result or toy_result(),
    }
    return Submission(**(data | changes))


def put(folder: Path, record: ModelRecord, *submissions: Submission) -> Path:
    """Write a model with its submissions and return the leaderboard folder."""
    write_model_record(folder, record)
    for submission in submissions:
        write_submission(folder, submission)
    return folder


def put_model(folder: Path, number: int, share: float, **record: Any) -> None:
    """Write a model that scores about one minus the share."""
    model = f"toy/m{number}"
    systems = (toy_system(metrics=metrics_at(share, jitter=1e-6 * number)),)
    result = toy_result(*systems, name=model, number=number)
    put(folder, toy_record(model, **record), toy_submission(result, model=model))


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))
