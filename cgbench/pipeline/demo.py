"""The demo: every arrow of the suite on the embedded sample, resumable, in minutes."""

import time
from importlib.resources import files
from pathlib import Path

import torch

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import IntegrityError
from cgbench.evaluate import (
    FORCE_METRICS,
    ReferenceBundle,
    ReferenceStatistics,
    Scored,
    read_reference,
    reference_statistics,
)
from cgbench.models import NetworkPotential, load_model, save_model
from cgbench.pipeline.beside import reference_rows
from cgbench.pipeline.check import check_model
from cgbench.pipeline.content import (
    paired_rows,
    reference_warnings,
    report_content,
    row_warnings,
)
from cgbench.pipeline.evaluate import model_identity
from cgbench.pipeline.evaluate_system import CANONICAL_SPLIT
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.results import ScoredRun, assemble, write_run
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.pipeline.stages import run_stage
from cgbench.pipeline.verdict import PRIOR_ROW
from cgbench.priors import PriorParameters
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.report import read_viewer, write_report
from cgbench.results import MetricValue, ModelIdentity, PairedDifference, Result
from cgbench.simulation import simulate
from cgbench.splits import read_split
from cgbench.store import find_model, find_reference, find_split, open_store, verify_store
from cgbench.train import TrainingConfig, prior_only, train

SYSTEM = "chignolin-sample"
SHIPPED = "torchmd-gn/chignolin-sample"
SEED = 1
#: The demo shows the embedded sample, whatever the user's data home holds.
HOME = config.assets_home()

#: Replicas, steps and epochs of ``--quick``: it runs every line of the demo, and no more.
_QUICK_LENGTH = 2.0
_QUICK_EPOCHS = 1
_QUICK_RESAMPLES = 20


class DemoRow(Frozen):
    """One row of the demo's table."""

    name: str
    metrics: dict[str, MetricValue]


class DemoOutcome(Frozen):
    """What the demo writes to ``demo.json``."""

    rows: tuple[DemoRow, ...]
    paired: tuple[PairedDifference, ...]
    report: str
    notes: tuple[str, ...]
    quick: bool
    seconds: float


def _training(quick: bool) -> TrainingConfig:
    text = files("cgbench.assets").joinpath("configs/demo-network.yaml").read_text(encoding="utf-8")
    settings = config.validate(
        TrainingConfig, config.parse_yaml(text, "demo-network.yaml"), "demo-network.yaml"
    )
    if not quick:
        return settings
    few = settings.optimiser.model_copy(update={"maximum_epochs": _QUICK_EPOCHS})
    return settings.model_copy(update={"optimiser": few})


def _protocol(quick: bool) -> Protocol:
    protocol = registry.protocol("demo")
    return protocol.model_copy(update={"length": _QUICK_LENGTH}) if quick else protocol


def _verify_sample() -> None:
    path = open_store(SYSTEM, HOME).path
    problems = verify_store(path).problems
    if problems:
        raise IntegrityError(
            f"{path}: the embedded sample is damaged",
            found="; ".join(problems),
            fix="install cgbench again",
        )


def _models(out: Path, quick: bool, force: bool, progress: Progress) -> dict[str, Path]:
    """Train the demo's network, save the prior alone, and find the shipped baseline."""
    folder = out / "demo-network"
    outcome = train(
        _training(quick), folder, home=HOME, resume=True, force=force, progress=progress
    )
    alone = out / "prior_only" / "model.pt"

    def save_prior() -> None:
        prior = config.read_model(PriorParameters, folder / "prior.json")
        split = read_split(find_split(SYSTEM, CANONICAL_SPLIT, HOME))
        alone.parent.mkdir(parents=True, exist_ok=True)
        save_model(alone, prior_only(prior, SYSTEM, open_store(SYSTEM, HOME), split, "MIT"))

    run_stage(out, "prior-only", outcome.fingerprint, save_prior, force=force)
    return {
        "demo-network": folder / "model.pt",
        SHIPPED: find_model(SHIPPED, HOME),
        "prior_only": alone,
    }


def _score_model(
    name: str,
    path: Path,
    out: Path,
    bundle: ReferenceBundle,
    protocol: Protocol,
    statistics: ReferenceStatistics,
    force: bool,
    progress: Progress,
) -> ScoredRun:
    """Check, simulate and score one model into its own run folder."""
    started = time.monotonic()
    potential: NetworkPotential = load_model(path)
    identity = model_identity(path, potential)
    folder = out / name.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)

    def check() -> None:
        report = check_model(path, [SYSTEM], home=HOME, progress=progress)
        config.write_model(folder / "check.json", report)
        report.require(name)

    run_stage(folder, "check", identity.hash, check, force=force)

    simulate(
        potential,
        system_input(SYSTEM, HOME),
        protocol,
        seed=SEED,
        out=folder / "trajectories.zarr",
        force=force,
        model_hash=identity.hash,
        progress=lambda task, done, total: progress(
            f"simulate {name}{_bracket(task)}", done, total
        ),
    )
    row = score_simulation(
        folder / "trajectories.zarr",
        bundle,
        protocol,
        name=name,
        errors=force_errors(potential, SYSTEM, home=HOME, progress=progress),
        seed=SEED,
        reference=statistics,
        progress=progress,
    )
    result = _result(identity, row, bundle, protocol, time.monotonic() - started)
    run = ScoredRun(result, {SYSTEM: row})
    write_run(folder, run)
    return run


def _bracket(task: str) -> str:
    _, bracket, detail = task.partition(" (")
    return bracket + detail


def _result(
    identity: ModelIdentity,
    row: Scored,
    bundle: ReferenceBundle,
    protocol: Protocol | None,
    seconds: float,
) -> Result:
    forces = any(metric in row.result.metrics for metric in FORCE_METRICS)
    return assemble(
        identity,
        {SYSTEM: row},
        [],
        bundles={SYSTEM: bundle},
        protocol=protocol,
        splits={SYSTEM: read_split(find_split(SYSTEM, CANONICAL_SPLIT, HOME))} if forces else {},
        seeds={"simulation": SEED, "resampling": SEED},
        wall_time=seconds,
    )


def run_demo(
    out: Path, *, quick: bool = False, force: bool = False, progress: Progress = silent
) -> DemoOutcome:
    """Run the demo into a folder and return what ``demo.json`` holds.

    Interrupted at any point, it continues from there when it is called again.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    progress("verify the sample", 0, 1)
    _verify_sample()
    progress("verify the sample", 1, 1)
    bundle = read_reference(find_reference(SYSTEM, HOME))
    protocol = _protocol(quick)
    n_resamples = _QUICK_RESAMPLES if quick else None
    torch.set_num_threads(min(2, torch.get_num_threads()))

    models = _models(out, quick, force, progress)
    statistics = reference_statistics(bundle, seed=SEED, n_resamples=n_resamples, progress=progress)
    runs = [
        _score_model(name, path, out, bundle, protocol, statistics, force, progress)
        for name, path in models.items()
    ]
    n_frames = protocol.n_replicas * protocol.n_frames(SYSTEM)
    rows = [run.scored[SYSTEM] for run in runs]
    rows += reference_rows(statistics, n_frames, progress)
    report = write_report(
        report_content(
            title="cgbench demo: chignolin",
            rows={SYSTEM: rows},
            bundles={SYSTEM: bundle},
            results=[run.result for run in runs],
        ),
        out / "report.html",
        read_viewer(),
    )
    outcome = DemoOutcome(
        rows=tuple(DemoRow(name=row.name, metrics=row.result.metrics) for row in rows),
        paired=tuple(item for item in paired_rows(rows) if item.b == PRIOR_ROW),
        report=str(report),
        notes=(*reference_warnings(bundle), *row_warnings(rows)),
        quick=quick,
        seconds=round(time.monotonic() - started, 1),
    )
    config.write_model(out / "demo.json", outcome)
    return outcome
