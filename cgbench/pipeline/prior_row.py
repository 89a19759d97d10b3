"""The row ``prior_only``: a model's own prior, simulated and scored as the model is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cgbench import config
from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.evaluate import (
    ForceErrors,
    ReferenceBundle,
    Scored,
    failed,
    read_scored,
)
from cgbench.models import NetworkPotential
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.results import failure_text
from cgbench.pipeline.scored_rows import kept_row, row_inputs, row_record, scored_path, write_row
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.pipeline.verdict import PRIOR_ROW, priors_of
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import SplitIdentity
from cgbench.simulation import simulate

__all__ = ["prior_rows", "score_prior"]


def prior_folder(folder: Path, system: str) -> Path:
    """Return where a run keeps the simulation of its model's prior."""
    return folder / "beside" / system / PRIOR_ROW


def score_prior(
    potential: NetworkPotential,
    bundle: ReferenceBundle,
    protocol: Protocol,
    folder: Path,
    *,
    seed: int,
    split: SplitIdentity | None,
    force: bool = False,
    home: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> str | None:
    """Simulate and score the prior of a model beside it, unless that is there already.

    A network over a prior is worth what it adds to it. A prior that cannot be simulated is a
    failed row, and no fault of the model. Nothing is done for a model without network or prior.
    What the folder holds of another prior, protocol or seed, or damaged, is replaced: it can be
    made again from the model.

    Args:
        potential: The model.
        bundle: The reference.
        protocol: How both are simulated.
        folder: Run folder of the model.
        seed: Seed of replicas and resamples.
        split: Where force errors are from; none are taken without it.
        force: Do it again.
        home: Data home.
        workers: Threads that measure frames; all cores if None.
        progress: Told how far it is.

    Returns:
        Hash of the row; None where there is none.
    """
    if potential.network is None or potential.prior is None:
        return None
    system = bundle.system
    alone = NetworkPotential(
        None, potential.prior, potential.spec.model_copy(update={"name": PRIOR_ROW})
    )
    identity = config.fingerprint(potential.prior)
    place = prior_folder(folder, system)
    inputs = row_inputs(
        system,
        model_hash=identity,
        protocol=protocol,
        reference=bundle.fingerprint,
        split=split,
        seeds={"simulation": seed, "resampling": seed},
        options={},
    )
    kept = None if force else kept_row(place, system, inputs)
    if kept is not None:
        return kept[1].row_sha256

    def told(task: str, done: float, total: float) -> None:
        # What follows a bracket does not tell one task from another.
        progress(f"prior alone: {task}", done, total)

    def scored(*, again: bool) -> tuple[Scored, dict[str, float]]:
        outcome = simulate(
            alone,
            system_input(system, home, bundle),
            protocol,
            seed=seed,
            out=place / "trajectories.zarr",
            force=again,
            model_hash=identity,
            progress=told,
        )
        row = score_simulation(
            place / "trajectories.zarr",
            bundle,
            protocol,
            name=PRIOR_ROW,
            errors=_force_errors(alone, system, split, home, told),
            seed=seed,
            workers=workers,
            progress=told,
        )
        return row, {"simulate": outcome.wall_time}

    try:
        try:
            row, spent = scored(again=force)
        except (UsageError, IntegrityError):
            row, spent = scored(again=True)
    except (CgbenchError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
        row = failed(
            PRIOR_ROW,
            system,
            failure_text(error),
            seed=seed,
            converged=bundle.converged,
            synthetic=bundle.metadata.synthetic,
        )
        spent = {}
    return write_row(
        place,
        row,
        inputs,
        reference=bundle.fingerprint,
        reference_version=bundle.version,
        split=split,
        timings=spent,
        cost=None,
    ).row_sha256


def _force_errors(
    alone: NetworkPotential,
    system: str,
    split: SplitIdentity | None,
    home: Path | None,
    progress: Progress,
) -> ForceErrors | None:
    if split is None:
        return None
    try:
        return force_errors(alone, system, split=split.id, home=home, progress=progress)
    except UsageError:
        return None  # A split without its store: scores do not need force errors.


def prior_rows(drawn: Sequence[tuple[Scored, Path]], bundle: ReferenceBundle) -> list[Scored]:
    """Return the rows of the models' priors, each prior once.

    Models over one prior share the row ``prior_only``. Where priors differ, each row also names
    its model, ``prior_only (model)``.

    Args:
        drawn: Rows of models, with their run folders.
        bundle: The reference of all of them.
    """
    found: dict[str, tuple[Scored, Scored]] = {}
    for model, folder in drawn:
        place = prior_folder(folder, bundle.system)
        record = row_record(place, bundle.system)
        if record is None or record.reference != bundle.fingerprint:
            continue
        path = scored_path(place, bundle.system)
        try:
            if config.file_sha256(path) == record.row_sha256:
                found.setdefault(record.fingerprint, (read_scored(path), model))
        except (CgbenchError, OSError):
            continue  # Damaged: the model's own row stands without it.
    if len(found) == 1:
        return [row for row, _ in found.values()]
    return [replace(row, name=priors_of(model.name)[1]) for row, model in found.values()]
