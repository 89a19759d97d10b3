"""The arrows from ``model.pt``, or from trajectories, to ``result.json`` and a report."""

import re
import time
from pathlib import Path

import torch
import yaml

from cgbench import config, registry
from cgbench.errors import UsageError
from cgbench.evaluate import (
    Ensemble,
    ForceErrors,
    ReferenceBundle,
    ReferenceStatistics,
    Scored,
    ideal_chain,
    md_split_half,
    native_constant,
    read_reference,
    reference_statistics,
    score,
    start_frames,
)
from cgbench.models import NetworkPotential, load, model_hash
from cgbench.pipeline.check import check_model, systems_of
from cgbench.pipeline.content import report_content
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.results import ScoredRun, assemble, read_run, write_run
from cgbench.pipeline.simulate import simulate_model
from cgbench.pipeline.stages import run_stage
from cgbench.progress import Progress, silent
from cgbench.report import write_report
from cgbench.results import ModelIdentity, Result, SystemResult
from cgbench.splits import Split, read_split
from cgbench.store import (
    find_model,
    find_reference,
    find_split,
    read_trajectories,
    stored_systems,
)

#: Force errors are reported on the test part of the canonical split.
CANONICAL_SPLIT = "block-v1"
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def _references(
    systems: list[str], home: Path | None
) -> tuple[dict[str, ReferenceBundle], list[SystemResult]]:
    """Read the bundles at hand; a system without one is missing, with the reason."""
    bundles = {}
    missing = []
    for key in systems:
        try:
            bundles[key] = read_reference(find_reference(key, home))
        except UsageError as error:
            missing.append(SystemResult(system=key, status="missing", reason=error.message))
    return bundles, missing


def _force_errors(
    potential: NetworkPotential, key: str, home: Path | None, progress: Progress
) -> tuple[ForceErrors, Split] | None:
    """Return force errors where a store and its split are at hand; scores do not need them."""
    try:
        split = read_split(find_split(key, CANONICAL_SPLIT, home))
        errors = force_errors(potential, key, split=split.id, home=home, progress=progress)
    except UsageError:
        return None
    return errors, split


def model_identity(path: Path, potential: NetworkPotential) -> ModelIdentity:
    """Return what a result says of a model."""
    return ModelIdentity(
        name=potential.spec.name,
        hash=model_hash(path),
        kind="potential",
        spec=potential.spec.model_dump(mode="json"),
    )


def score_simulation(
    trajectories: Path,
    bundle: ReferenceBundle,
    protocol: registry.Protocol,
    *,
    name: str,
    errors: ForceErrors | None,
    seed: int,
    reference: ReferenceStatistics | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score one system of a ``trajectories.zarr`` that a simulation wrote."""
    ensemble = Ensemble.from_trajectory_set(
        read_trajectories(trajectories, bundle.system), name=name
    )
    return score(
        ensemble,
        bundle,
        protocol=protocol,
        force_errors=errors,
        seed=seed,
        reference=reference,
        progress=progress,
    )


def evaluate_model(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    protocol: str = "standard",
    out: Path,
    seed: int = 1,
    threads: int | None = None,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Check, simulate and score a model; each step is skipped when it is there already.

    Raises:
        UsageError: Model, system or protocol is unknown.
        ValidationError: The model does not pass the conformance suite.
    """
    started = time.monotonic()
    path = find_model(str(model), home)
    potential = load(path, home)
    chosen = registry.protocol(protocol)
    identity = model_identity(path, potential)
    keys = systems_of(potential, systems, model)
    bundles, missing = _references(keys, home)
    out.mkdir(parents=True, exist_ok=True)
    present = list(bundles)
    if present:

        def check() -> None:
            report = check_model(path, present, home=home, progress=progress)
            config.write_model(out / "check.json", report)
            report.require(model)

        run_stage(out, "check", [identity.hash, present], check, force=force)
        simulate_model(
            path,
            present,
            protocol=protocol,
            out=out,
            seed=seed,
            threads=threads,
            force=force,
            home=home,
            progress=progress,
        )
    elif threads is not None:
        torch.set_num_threads(threads)
    # Only now: a folder that holds another simulation was refused before anything is replaced.
    config.write_atomic(out / "model.pt", path.read_bytes())
    settings = {
        "model": potential.spec.name,
        "model_hash": identity.hash,
        "systems": keys,
        "protocol": chosen.model_dump(mode="json"),
        "seed": seed,
        "threads": threads,
    }
    config.write_atomic(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    rows: dict[str, Scored] = {}
    splits: dict[str, Split] = {}
    for key, bundle in bundles.items():
        found = _force_errors(potential, key, home, progress)
        if found is not None:
            splits[key] = found[1]
        rows[key] = score_simulation(
            out / "trajectories.zarr",
            bundle,
            chosen,
            name=potential.spec.name,
            errors=None if found is None else found[0],
            seed=seed,
            progress=progress,
        )
    result = assemble(
        identity,
        rows,
        missing,
        bundles=bundles,
        protocol=chosen,
        splits=splits,
        seeds={"simulation": seed, "resampling": seed},
        wall_time=time.monotonic() - started,
    )
    return _finish(out, ScoredRun(result, rows), home, progress)


def evaluate_ensemble(
    trajectories: Path,
    systems: list[str] | None = None,
    *,
    protocol: str | None = None,
    out: Path,
    seed: int = 1,
    home: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Score the systems of a ``trajectories.zarr``, whatever made it.

    Args:
        trajectories: The folder, or a run folder that holds one.
        systems: Registry keys; all that are in it if None.
        protocol: Protocol id; if None the one that the file names, and none for samples.
        out: Run folder to write.
        seed: Seed of the resamples.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: No such file or system.
        IntegrityError: The file is damaged or not of this format.
    """
    started = time.monotonic()
    if (trajectories / "trajectories.zarr").is_dir():
        trajectories = trajectories / "trajectories.zarr"
    keys = systems or list(stored_systems(trajectories))
    bundles, missing = _references(keys, home)
    name = trajectories.resolve().parent.name or trajectories.stem
    rows = {}
    hashes = set()
    seeds = {"resampling": seed}
    chosen = None
    for key, bundle in bundles.items():
        stored = read_trajectories(trajectories, key)
        facts = stored.attributes
        # The file may come from anywhere: what it says is kept only in the form we write.
        known = facts.model_hash is not None and _HASH.fullmatch(facts.model_hash)
        hashes.add(facts.model_hash if known else None)
        if "simulation" in facts.seeds:
            seeds["simulation"] = facts.seeds["simulation"]
        chosen = _protocol_of(protocol, facts.protocol, stored.frame_interval)
        ensemble = Ensemble.from_trajectory_set(stored, name=name)
        rows[key] = score(ensemble, bundle, protocol=chosen, seed=seed, progress=progress)
    result = assemble(
        ModelIdentity(name=name, hash=hashes.pop() if len(hashes) == 1 else None, kind="ensemble"),
        rows,
        missing,
        bundles=bundles,
        protocol=chosen,
        splits={},
        seeds=seeds,
        wall_time=time.monotonic() - started,
    )
    return _finish(out, ScoredRun(result, rows), home, progress)


def _protocol_of(
    asked: str | None, stored: str | None, frame_interval: float | None
) -> registry.Protocol | None:
    """Return the protocol that trajectories are scored under: asked for, named by them, or none."""
    if asked is not None:
        return registry.protocol(asked)
    known = {protocol.id for protocol in registry.protocols()}
    if frame_interval is None or stored not in known:
        return None
    return registry.protocol(stored)


def _finish(out: Path, run: ScoredRun, home: Path | None, progress: Progress) -> Result:
    write_run(out, run)
    report_runs([out], out / "report.html", home=home, progress=progress)
    return run.result


def reference_rows(
    statistics: ReferenceStatistics, n_frames: int | None, progress: Progress = silent
) -> list[Scored]:
    """Return the rows that need no simulation: noise floor, start frames, native, ideal chain."""
    bundle, seed = statistics.bundle, statistics.seed
    return [
        md_split_half(
            bundle, seed=seed, reference=statistics, n_frames=n_frames, progress=progress
        ),
        start_frames(bundle, seed=seed, reference=statistics, progress=progress),
        native_constant(bundle, seed=seed, reference=statistics, progress=progress),
        ideal_chain(bundle, seed=seed, reference=statistics, progress=progress),
    ]


def _beside(rows: list[Scored], bundle: ReferenceBundle, progress: Progress) -> list[Scored]:
    """Return rows with the reference rows beside them, resampled as the first of them was."""
    statistics = reference_statistics(bundle, seed=rows[0].seed, progress=progress)
    frames = [row.result.n_frames for row in rows if row.result.n_frames]
    return [*rows, *reference_rows(statistics, min(frames, default=None), progress)]


def report_runs(
    runs: list[Path], out: Path, *, home: Path | None = None, progress: Progress = silent
) -> Path:
    """Draw one page from run folders, with the reference rows beside the models.

    Raises:
        UsageError: A folder holds no result, or a system's reference is not at hand.
    """
    read = [read_run(path) for path in runs]
    if len({run.result.model.name for run in read}) < len(read):
        # The same model twice: the folders tell which is which.
        read = [
            run.renamed(f"{run.result.model.name} ({path.resolve().name} {index + 1})")
            for index, (path, run) in enumerate(zip(runs, read, strict=True))
        ]
    keys = dict.fromkeys(key for run in read for key in run.scored)
    bundles = {key: read_reference(find_reference(key, home)) for key in keys}
    names = ", ".join(dict.fromkeys(run.result.model.name for run in read))
    rows = {
        key: _beside([run.scored[key] for run in read if key in run.scored], bundles[key], progress)
        for key in keys
    }
    missing = [item for run in read for item in run.result.systems if item.status == "missing"]
    content = report_content(
        title=f"cgbench: {names}",
        rows=rows,
        bundles=bundles,
        results=[run.result for run in read],
        missing=missing,
    )
    return write_report(content, out)
