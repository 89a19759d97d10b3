"""One training run from a configuration to ``model.pt``, resumable between and within epochs."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from cgbench import config as files
from cgbench import provenance
from cgbench.data import ForcesDataModule, MultiProteinDataModule
from cgbench.errors import CgbenchError, SimulationError, UsageError
from cgbench.models import (
    GraphNetwork,
    NetworkPotential,
    PotentialSpec,
    keep_freed_memory,
    save_model,
)
from cgbench.priors import PriorParameters
from cgbench.progress import Progress, silent
from cgbench.splits import Split
from cgbench.store import SystemStore
from cgbench.train.callbacks import interruptible
from cgbench.train.checkpoints import check_architecture, read_checkpoint, weights_of
from cgbench.train.clock import Clock, KeepTime
from cgbench.train.config import TrainingConfig
from cgbench.train.fitting import fit_material_prior
from cgbench.train.losses import losses_at, plot_losses, system_losses, validation_shares
from cgbench.train.material import Material, open_material, trained_on
from cgbench.train.module import ForceMatching
from cgbench.train.processes import Place, find_place, helpers, joined, tell, total
from cgbench.train.records import RunState, TrainingOutcome, alone, take_folder
from cgbench.train.trainer import make_trainer

DataModule = ForcesDataModule | MultiProteinDataModule


@dataclass(frozen=True, eq=False)
class _Run:
    """A run whose folder is ready.

    Attributes:
        settings: The configuration.
        out: Its folder.
        material: The data.
        state: What the folder was started for.
        checkpoint_minutes: Time between checkpoints within an epoch.
        progress: Told how far it is.
    """

    settings: TrainingConfig
    out: Path
    material: Material
    state: RunState
    checkpoint_minutes: float | None
    progress: Progress


def prior_only(
    prior: PriorParameters, system: str, store: SystemStore, split: Split, licence: str
) -> NetworkPotential:
    """Return the potential that is the fitted prior alone."""
    spec = PotentialSpec(
        name=f"prior-only/{system}",
        version="1",
        cutoff=None,
        trained_on=(trained_on(store, split),),
        force_map=None,
        licence=licence,
        description="Fitted bonds, repulsion and dihedrals, without a network.",
    )
    return NetworkPotential(None, prior, spec)


def train(
    settings: TrainingConfig,
    out: Path,
    *,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> TrainingOutcome:
    """Train a network on top of a fitted prior and write ``model.pt``.

    The run folder holds ``config.yaml`` (resolved), ``prior.json`` and its plot, ``logs/``,
    ``losses.png``, ``model.pt``, ``training.json`` and ``provenance.json``. A finished run with the
    same configuration, store and split is returned as it is. A run of several processes has one
    folder, which all of them must see; the first of them writes.

    Args:
        settings: What to train on what, and how.
        out: The run folder.
        home: Data home to look names up in.
        resume: Continue an unfinished run from its last checkpoint. The weights become those of an
            uninterrupted run; the logged training loss of the epoch counts the rest of it alone.
        force: Start over.
        checkpoint_minutes: Time between checkpoints within an epoch; None for those at the ends of
            epochs alone.
        progress: Told of the fit of the prior and of the training.

    Raises:
        UsageError: The system, split or force map is unknown, the folder holds another run, or
            another process trains in it, the machine has no such devices, or the time between
            checkpoints is not above zero.
        ValidationError: The data do not fit together or the network, or the checkpoint is of
            another architecture.
        SimulationError: The training diverged. The last good checkpoint is kept, and the best
            model so far is ``last-good.pt``.
    """
    if checkpoint_minutes is not None and not checkpoint_minutes > 0:
        raise UsageError("checkpoint_minutes", expected="above 0", found=checkpoint_minutes)
    place = find_place(settings.n_processes, settings.num_nodes)
    if place is not None and place.rank > 0:
        return _follow(settings, out, home, checkpoint_minutes, place)
    with contextlib.ExitStack() as held:
        if place is not None:
            held.enter_context(joined(place))
        return _lead(settings, out, home, resume, force, checkpoint_minutes, progress, place, held)


def _lead(
    settings: TrainingConfig,
    out: Path,
    home: Path | None,
    resume: bool,
    force: bool,
    checkpoint_minutes: float | None,
    progress: Progress,
    place: Place | None,
    held: contextlib.ExitStack,
) -> TrainingOutcome:
    """Train as the first or only process; what is taken for that is put into ``held``."""
    try:
        material = open_material(settings, home)
        held.enter_context(alone(out))
        state = take_folder(out, material.fingerprint, resume, force)
        finished = out / "training.json"
        if finished.is_file() and (out / "model.pt").is_file():
            outcome = files.read_model(TrainingOutcome, finished)
            if place is not None:
                tell(outcome)
            return outcome
        files.write_atomic(out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
        _fit_prior(material, out, progress)
    except CgbenchError as error:
        if place is not None:
            tell(error.message)
        raise
    run = _Run(settings, out, material, state, checkpoint_minutes, progress)
    if place is not None:
        return _lead_processes(run, place)
    if settings.n_processes == 1:
        return _optimise(run, None)
    options = [] if home is None else ["--home", str(home)]
    if checkpoint_minutes is not None:
        options += ["--checkpoint-minutes", str(checkpoint_minutes)]
    with helpers(out, settings.n_processes, options) as first:
        return _lead_processes(run, first)


def _lead_processes(run: _Run, place: Place) -> TrainingOutcome:
    tell(None)
    return _optimise(run, place)


def _follow(
    settings: TrainingConfig,
    out: Path,
    home: Path | None,
    checkpoint_minutes: float | None,
    place: Place,
) -> TrainingOutcome:
    """Train as one of several processes, after the first one has made the folder ready."""
    with joined(place):
        told = tell(None)
        if isinstance(told, TrainingOutcome):
            return told
        if told is not None:
            raise UsageError(f"the first process did not begin: {told}")
        material = open_material(settings, home)
        state = files.read_model(RunState, out / "run.json")
        return _optimise(_Run(settings, out, material, state, checkpoint_minutes, silent), place)


def _fit_prior(material: Material, out: Path, progress: Progress) -> None:
    """Write ``prior.json`` and its plot."""
    progress("fit the prior", 0, 1)
    prior, figure = fit_material_prior(material, progress)
    files.write_model(out / "prior.json", prior)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    files.write_atomic(out / "prior.png", buffer.getvalue())
    progress("fit the prior", 1, 1)


def _optimise(run: _Run, place: Place | None) -> TrainingOutcome:
    settings, out = run.settings, run.out
    prior = files.read_model(PriorParameters, out / "prior.json")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    network = GraphNetwork(settings.network)
    data = run.material.data_module(prior)
    shares = validation_shares(data)
    mixed = isinstance(data, MultiProteinDataModule)
    trained = data.systems("train") if isinstance(data, MultiProteinDataModule) else tuple(shares)
    module = ForceMatching(
        network,
        settings.optimiser,
        settings.engine,
        systems=trained,
        validated=list(shares) if mixed else (),
        shares=list(shares.values()) if mixed else (),
        precision=settings.precision,
    )
    checkpoint = out / "logs" / "last.ckpt"
    continues = checkpoint.is_file()
    if continues:
        check_architecture(checkpoint, network)
    clock = Clock(run.state)
    trainer, best = make_trainer(
        settings,
        out,
        run.checkpoint_minutes,
        run.progress,
        place,
        callbacks=[KeepTime(clock, out / "run.json")],
    )
    try:
        # Our own checkpoint still is a file that somebody may have exchanged: tensors only.
        with interruptible():
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=checkpoint if continues else None,
                weights_only=True,
            )
    except SimulationError:
        if place is None or place.rank == 0:
            _keep_last_good(run, network, prior)
        raise
    finally:
        if place is None:
            files.write_model(out / "run.json", clock.now())
    # Of all processes, which are all here; where one has failed, the last checkpoint's stands.
    spent = clock.now(total(clock.processor()))
    if place is None:
        return _finish(run, module, best, data, prior, spent, trainer)
    outcome = None
    if place.rank == 0:
        files.write_model(out / "run.json", spent)
        outcome = _finish(run, module, best, data, prior, spent, trainer)
    told: TrainingOutcome = tell(outcome)
    return told


def _keep_last_good(run: _Run, network: GraphNetwork, prior: PriorParameters) -> None:
    """Write the best model of a run that diverged as ``last-good.pt``, if an epoch was finished."""
    best = run.out / "logs" / "best.ckpt"
    if not best.is_file():
        return
    chosen = read_checkpoint(best)
    network.load_state_dict(weights_of(chosen))
    note = f"Training diverged later: the weights of epoch {int(chosen['epoch']) + 1}."
    spec = _spec(run, network, None).model_copy(
        update={"description": f"{run.settings.description} {note}".strip()}
    )
    network.eval().requires_grad_(False)
    save_model(run.out / "last-good.pt", NetworkPotential(network, prior, spec))


def _spec(run: _Run, network: GraphNetwork, seconds: float | None) -> PotentialSpec:
    settings = run.settings
    return PotentialSpec(
        name=settings.name,
        version="1",
        cutoff=settings.network.cutoff_upper,
        trained_on=run.material.trained_on(),
        force_map=run.material.force_map,
        licence=settings.licence,
        description=settings.description,
        seeds=(settings.seed,),
        training_cost_s=None if seconds is None else round(seconds, 1),
        n_parameters=network.n_parameters,
    )


def _finish(
    run: _Run,
    module: ForceMatching,
    best: ModelCheckpoint,
    data: DataModule,
    prior: PriorParameters,
    spent: RunState,
    trainer: lightning.Trainer,
) -> TrainingOutcome:
    out = run.out
    chosen: dict[str, Any] = read_checkpoint(Path(best.best_model_path))
    network = module.network
    network.load_state_dict(weights_of(chosen))
    network.eval().requires_grad_(False)
    epoch = int(chosen["epoch"]) + 1
    loss = float(best.best_model_score or float("nan"))
    metrics = out / "logs" / "metrics.csv"
    if isinstance(data, MultiProteinDataModule):
        variances = data.validation_variance()
        shares = validation_shares(data)
        variance = sum(shares[system] * variances[system] for system in shares)
        losses = losses_at(metrics, epoch)
    else:
        variance = float(data.validation_variance())
        system = run.material.systems[0].system
        variances, losses = {system: variance}, {system: loss}
    on_gpus = module.device.type == "cuda"
    outcome = TrainingOutcome(
        fingerprint=spent.fingerprint,
        epochs=trainer.current_epoch,
        best_epoch=epoch,
        validation_loss=loss,
        validation_variance=variance,
        explained=1.0 - loss / variance,
        seconds=spent.seconds,
        cpu_seconds=spent.cpu_seconds,
        gpu_hours=spent.seconds / 3600 * run.settings.n_processes if on_gpus else None,
        n_parameters=network.n_parameters,
        engine=module.engine.name,
        engine_reason=module.engine.reason,
        systems=system_losses(run.material, data, losses, variances),
        n_processes=run.settings.n_processes,
    )
    plot_losses(metrics, variances, epoch, out / "losses.png")
    save_model(
        out / "model.pt", NetworkPotential(network, prior, _spec(run, network, spent.seconds))
    )
    seeds = {"training": run.settings.seed}
    files.write_model(out / "provenance.json", provenance.collect(seeds))
    files.write_model(out / "training.json", outcome)
    return outcome
