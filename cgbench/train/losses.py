"""The losses of a run by system: numbers for the record, and a figure."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgbench import config
from cgbench.data import ForcesDataModule, MultiProteinDataModule
from cgbench.train.material import Material
from cgbench.train.records import SystemLoss

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def validation_shares(data: ForcesDataModule | MultiProteinDataModule) -> dict[str, float]:
    """Return the weight of each validated system in the validation loss, in loaders' order.

    It is the share of its components in training batches. A system that is validated but does not
    train weighs nothing.
    """
    if isinstance(data, ForcesDataModule):
        return {data.store.metadata.system: 1.0}
    from cgbench.data.weights import protein_shares

    training = data.datasets("train")
    shares = protein_shares(training, data.protein_weights)
    weights = {
        dataset.system: float(share) * dataset.n_beads
        for dataset, share in zip(training, shares, strict=True)
    }
    total = sum(weights.values())
    return {system: weights.get(system, 0.0) / total for system in data.systems("val")}


def system_losses(
    material: Material,
    data: ForcesDataModule | MultiProteinDataModule,
    losses: dict[str, float],
    variances: dict[str, float],
) -> dict[str, SystemLoss]:
    """Return the record of each system.

    Args:
        material: The data of the run.
        data: Its loaders.
        losses: Validation loss of each validated system, (kcal/mol/Å)².
        variances: Mean square of its validation forces.
    """
    if isinstance(data, ForcesDataModule):
        lengths = {part: {material.systems[0].system: len(data.dataset(part))} for part in _PARTS}
    else:
        lengths = {
            part: {dataset.system: len(dataset) for dataset in data.datasets(part)}
            for part in _PARTS
        }
    return {
        item.system: SystemLoss(
            n_training_frames=lengths["train"].get(item.system, 0),
            n_validation_frames=lengths["val"].get(item.system, 0),
            frame_stride=item.stride,
            validation_loss=losses.get(item.system),
            validation_variance=variances.get(item.system),
            explained=1.0 - losses[item.system] / variances[item.system]
            if item.system in losses
            else None,
        )
        for item in material.systems
    }


_PARTS = ("train", "val")


def logged_losses(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the columns of losses of a ``metrics.csv``: (epoch from 1, loss) in order."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in csv.DictReader(io.StringIO(config.read_text(path))):
        for name, text in row.items():
            if text and (name in ("train_loss", "val_loss") or name.startswith("val_loss/")):
                found.setdefault(name, []).append((int(row["epoch"]) + 1, float(text)))
    return found


def losses_at(path: Path, epoch: int) -> dict[str, float]:
    """Return the validation loss of each system after an epoch, counted from 1."""
    prefix = "val_loss/"
    return {
        name.removeprefix(prefix): dict(points)[epoch]
        for name, points in logged_losses(path).items()
        if name.startswith(prefix)
    }


def plot_losses(metrics: Path, variances: dict[str, float], best_epoch: int, path: Path) -> None:
    """Draw training and validation loss of each epoch, and of each system its unexplained share."""
    from matplotlib.figure import Figure

    found = logged_losses(metrics)
    systems = {
        name.partition("/")[2]: points for name, points in found.items() if name[:9] == "val_loss/"
    }
    figure = Figure(figsize=(5.0 if not systems else 9.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if systems else 1, squeeze=False)[0]
    labels = {"train_loss": "training", "val_loss": "validation"}
    for name, label in labels.items():
        _line(axes[0], found.get(name, []), label)
    axes[0].set(xlabel="epoch", ylabel="loss, (kcal/mol/Å)²")
    if systems:
        for system, points in systems.items():
            _line(axes[1], [(epoch, loss / variances[system]) for epoch, loss in points], system)
        axes[1].set(xlabel="epoch", ylabel="share of the variance left")
    for axis in axes:
        axis.axvline(best_epoch, color="0.6", linestyle=":", linewidth=1)
        axis.legend(fontsize=7, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    config.write_atomic(path, buffer.getvalue())


def _line(axis: "Axes", points: list[tuple[int, float]], label: str) -> None:
    if points:
        epochs, values = np.array(points).T
        axis.plot(epochs, values, marker="." if len(points) < 40 else None, label=label)
