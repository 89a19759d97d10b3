"""One training run from a configuration to ``model.pt``, resumable between and within epochs."""

import io
import logging
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from cgbench import config as files
from cgbench import provenance
from cgbench.config import Frozen
from cgbench.data import ForcesDataModule
from cgbench.errors import IntegrityError, UsageError
from cgbench.evaluate import ReferenceBundle, read_reference
from cgbench.models import (
    GraphNetwork,
    NetworkPotential,
    PotentialSpec,
    TrainedOn,
    keep_freed_memory,
    save_model,
)
from cgbench.priors import PriorParameters, plot_priors
from cgbench.progress import Progress, silent
from cgbench.splits import Split, read_split
from cgbench.store import SystemStore, find_reference, find_split, open_store
from cgbench.train.callbacks import ReportProgress, TimeLimit, WithinEpochs, interruptible
from cgbench.train.config import TrainingConfig
from cgbench.train.fitting import fit_system_prior, training_weights
from cgbench.train.logs import MetricsLog
from cgbench.train.module import ForceMatching


class TrainingOutcome(Frozen):
    """What a finished run says of itself (``training.json``).

    Losses are mean squared differences of the delta forces, (kcal/mol/Å)², on the validation
    part; ``explained`` is the share of their variance that the network explains there. ``engine``
    is what computed losses and gradients, with the reason.
    """

    fingerprint: str
    epochs: int
    best_epoch: int
    validation_loss: float
    validation_variance: float
    explained: float
    seconds: float
    n_parameters: int
    engine: str = "torch"
    engine_reason: str = ""


class _RunState(Frozen):
    """What a run folder was started for, and the seconds spent in it before this process."""

    fingerprint: str
    seconds: float = 0.0


def prior_only(
    prior: PriorParameters, system: str, store: SystemStore, split: Split, licence: str
) -> NetworkPotential:
    """Return the potential that is the fitted prior alone."""
    spec = PotentialSpec(
        name=f"prior-only/{system}",
        version="1",
        cutoff=None,
        trained_on=(_trained_on(store, split),),
        force_map=None,
        licence=licence,
        description="Fitted bonds, repulsion and dihedrals, without a network.",
    )
    return NetworkPotential(None, prior, spec)


def _trained_on(store: SystemStore, split: Split) -> TrainedOn:
    return TrainedOn(
        system=store.metadata.system,
        split_id=split.id,
        split_fingerprint=split.fingerprint,
        store_fingerprint=store.fingerprint,
        part="train",
    )


def _prepare(out: Path, fingerprint: str, resume: bool, force: bool) -> _RunState:
    """Decide whether a folder is new, ours to continue, or somebody else's."""
    path = out / "run.json"
    fresh = _RunState(fingerprint=fingerprint)
    if force or not path.is_file():
        for name in ("model.pt", "training.json", "logs/last.ckpt", "logs/best.ckpt"):
            (out / name).unlink(missing_ok=True)
        files.write_model(path, fresh)
        return fresh
    state = files.read_model(_RunState, path)
    if state.fingerprint != fingerprint:
        raise UsageError(
            f"{out}: holds a run of another configuration, data set or split",
            expected=fingerprint,
            found=state.fingerprint,
            fix="choose another --out, or --force to start over",
        )
    if not resume and not (out / "training.json").is_file():
        raise UsageError(
            f"{out}: holds an unfinished run", fix="--resume to continue it, --force to start over"
        )
    return state


def _quiet() -> None:
    """Keep Lightning's announcements off the terminal; warnings and errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A resumed run writes where it wrote before.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists", module="lightning")
    # Lightning's own use of a deprecated torch function is no news to users of cgbench.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="lightning")


def _trainer(
    settings: TrainingConfig, out: Path, checkpoint_minutes: float | None, progress: Progress
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    _quiet()
    logs = out / "logs"
    logs.mkdir(exist_ok=True)
    optimiser = settings.optimiser
    best = ModelCheckpoint(
        dirpath=logs,
        filename="best",
        monitor="val_loss",
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    # At the very end of an epoch, after the module has stepped its schedule: a resumed run then
    # goes on as the interrupted one would have.
    last = ModelCheckpoint(
        dirpath=logs,
        filename="last",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks: list[lightning.Callback] = [
        EarlyStopping("val_loss", patience=optimiser.early_stopping_patience, check_finite=True),
        LearningRateMonitor("epoch"),
        ReportProgress(progress, optimiser.maximum_minutes),
        best,
        last,
    ]
    if optimiser.maximum_minutes is not None:
        callbacks.append(TimeLimit(optimiser.maximum_minutes))
    if checkpoint_minutes is not None:
        callbacks.append(
            WithinEpochs(
                dirpath=logs,
                filename="last",
                enable_version_counter=False,
                train_time_interval=timedelta(minutes=checkpoint_minutes),
                save_on_train_epoch_end=False,
            )
        )
    trainer = lightning.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        max_epochs=optimiser.maximum_epochs,
        gradient_clip_val=optimiser.gradient_clip,
        callbacks=callbacks,
        logger=MetricsLog(logs / "metrics.csv", keep=(logs / "last.ckpt").is_file()),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic=True,
        reload_dataloaders_every_n_epochs=1,
        log_every_n_steps=1,
    )
    return trainer, best


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
    ``model.pt``, ``training.json`` and ``provenance.json``. A finished run with the same
    configuration, store and split is returned as it is.

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
        UsageError: The system, split or force map is unknown, the folder holds another run, or the
            time between checkpoints is not above zero.
        SimulationError: The loss diverged.
    """
    if checkpoint_minutes is not None and not checkpoint_minutes > 0:
        raise UsageError("checkpoint_minutes", expected="above 0", found=checkpoint_minutes)
    store = open_store(settings.system, home)
    store.force_map(settings.force_map)
    split = read_split(find_split(settings.system, settings.split, home))
    bundle = read_reference(find_reference(settings.system, home))
    fingerprint = files.fingerprint(
        {
            "config": settings.model_dump(mode="json"),
            "store": store.fingerprint,
            "split": split.fingerprint,
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    state = _prepare(out, fingerprint, resume, force)
    finished = out / "training.json"
    if finished.is_file() and (out / "model.pt").is_file():
        return files.read_model(TrainingOutcome, finished)

    files.write_atomic(out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
    progress("fit the prior", 0, 1)
    prior = fit_system_prior(store, split, bundle, settings.prior)
    files.write_model(out / "prior.json", prior)
    _plot(prior, store, split, bundle, settings, out / "prior.png")
    progress("fit the prior", 1, 1)

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    network = GraphNetwork(settings.network)
    data = ForcesDataModule(
        store,
        split=split,
        force_map=settings.force_map,
        prior=prior,
        batch_size=settings.optimiser.batch_size,
        seed=settings.seed,
    )
    module = ForceMatching(network, settings.optimiser, settings.engine)
    trainer, best = _trainer(settings, out, checkpoint_minutes, progress)
    checkpoint = out / "logs" / "last.ckpt"
    started = time.monotonic()
    try:
        # Our own checkpoint still is a file that somebody may have exchanged: tensors only.
        with interruptible():
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=checkpoint if checkpoint.is_file() else None,
                weights_only=True,
            )
    finally:
        seconds = state.seconds + time.monotonic() - started
        files.write_model(out / "run.json", state.model_copy(update={"seconds": seconds}))
    return _finish(settings, out, module, best, data, prior, store, split, seconds, trainer)


def _plot(
    prior: PriorParameters,
    store: SystemStore,
    split: Split,
    bundle: ReferenceBundle,
    settings: TrainingConfig,
    path: Path,
) -> None:
    frames, weights = training_weights(store, split, bundle)
    figure = plot_priors(
        prior,
        store.coordinates()[frames],
        weights,
        np.asarray(store.bead_types),
        settings.prior,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    files.write_atomic(path, buffer.getvalue())


def _finish(
    settings: TrainingConfig,
    out: Path,
    module: ForceMatching,
    best: ModelCheckpoint,
    data: ForcesDataModule,
    prior: PriorParameters,
    store: SystemStore,
    split: Split,
    seconds: float,
    trainer: lightning.Trainer,
) -> TrainingOutcome:
    chosen = _read_checkpoint(Path(best.best_model_path))
    module.load_state_dict(chosen["state_dict"])
    network = module.network.eval().requires_grad_(False)
    variance = float(data.validation_variance())
    loss = float(best.best_model_score or float("nan"))
    outcome = TrainingOutcome(
        fingerprint=files.read_model(_RunState, out / "run.json").fingerprint,
        epochs=trainer.current_epoch,
        best_epoch=int(chosen["epoch"]) + 1,
        validation_loss=loss,
        validation_variance=variance,
        explained=1.0 - loss / variance,
        seconds=seconds,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        engine=module.engine.name,
        engine_reason=module.engine.reason,
    )
    spec = PotentialSpec(
        name=settings.name,
        version="1",
        cutoff=settings.network.cutoff_upper,
        trained_on=(_trained_on(store, split),),
        force_map=settings.force_map or store.metadata.default_force_map,
        licence=settings.licence,
        description=settings.description,
        seeds=(settings.seed,),
        training_cost_s=round(seconds, 1),
        n_parameters=outcome.n_parameters,
    )
    save_model(out / "model.pt", NetworkPotential(network, prior, spec))
    files.write_model(out / "provenance.json", provenance.collect({"training": settings.seed}))
    files.write_model(out / "training.json", outcome)
    return outcome


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise IntegrityError(
            f"{path}: the checkpoint cannot be read", found=error, fix="start over with --force"
        ) from error
    return checkpoint
