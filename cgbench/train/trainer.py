"""The Lightning trainer of a run, with everything that happens beside the optimisation."""

import logging
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from cgbench.errors import UsageError
from cgbench.progress import Progress
from cgbench.train.averaging import MovingAverage
from cgbench.train.callbacks import ReportProgress, TimeLimit, WithinEpochs
from cgbench.train.config import TrainingConfig
from cgbench.train.logs import MetricsLog
from cgbench.train.processes import Environment, Place


def quiet() -> None:
    """Keep Lightning's announcements off the terminal; warnings and errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A resumed run writes where it wrote before.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists", module="lightning")
    # Lightning's own use of a deprecated torch function is no news to users of cgbench.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="lightning")
    # Another --checkpoint-minutes than before makes another callback of the same file.
    warnings.filterwarnings("ignore", message=".*ckpt_path.*WithinEpochs", module="lightning")


def make_trainer(
    settings: TrainingConfig,
    out: Path,
    checkpoint_minutes: float | None,
    progress: Progress,
    place: Place | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    """Return the trainer and the callback that keeps the best epoch.

    Args:
        settings: The run.
        out: Its folder.
        checkpoint_minutes: Time between checkpoints within an epoch, if any.
        progress: Told of batches.
        place: Where this process stands among several.
        callbacks: Further callbacks.

    Raises:
        UsageError: There is no such accelerator or strategy, or it does not go with the precision.
    """
    quiet()
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
    every: list[lightning.Callback] = [
        *callbacks,
        EarlyStopping("val_loss", patience=optimiser.early_stopping_patience, check_finite=True),
        LearningRateMonitor("epoch"),
        ReportProgress(progress, optimiser.maximum_minutes),
        best,
        last,
    ]
    if settings.averaging is not None:
        every.append(MovingAverage(settings.averaging))
    if optimiser.maximum_minutes is not None:
        every.append(TimeLimit(optimiser.maximum_minutes))
    if checkpoint_minutes is not None:
        every.append(
            WithinEpochs(
                dirpath=logs,
                filename="last",
                enable_version_counter=False,
                train_time_interval=timedelta(minutes=checkpoint_minutes),
                save_on_train_epoch_end=False,
            )
        )
    shared: dict[str, Any] = {"devices": 1}
    if place is not None:
        shared = {
            "devices": settings.devices,
            "num_nodes": settings.num_nodes,
            "strategy": _strategy(settings),
            "plugins": [Environment(place)],
            # Loaders give each process its share by themselves.
            "use_distributed_sampler": False,
        }
    elif settings.strategy != "auto":
        shared["strategy"] = settings.strategy
    # Only where it is asked for: Lightning checks the pair of precision and accelerator.
    if settings.precision != "32-true":
        shared["precision"] = settings.precision
    try:
        trainer = lightning.Trainer(
            accelerator=settings.accelerator,
            max_epochs=optimiser.maximum_epochs,
            gradient_clip_val=optimiser.gradient_clip,
            callbacks=every,
            logger=MetricsLog(logs / "metrics.csv", keep=(logs / "last.ckpt").is_file()),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            deterministic=True,
            reload_dataloaders_every_n_epochs=1,
            log_every_n_steps=1,
            **shared,
        )
    # Lightning has its own exceptions for settings that do not go together.
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(
            f"{settings.name}: accelerator {settings.accelerator}, {settings.devices} devices, "
            f"strategy {settings.strategy}, precision {settings.precision}",
            found=str(error).splitlines()[0],
            fix="choose others that this machine has",
        ) from error
    return trainer, best


def _strategy(settings: TrainingConfig) -> Any:
    if settings.strategy not in ("auto", "ddp"):
        return settings.strategy
    # Forces do not depend on the bias of the last layer, which so never has a gradient.
    return DDPStrategy(find_unused_parameters=True)
