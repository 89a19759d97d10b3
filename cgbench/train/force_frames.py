"""What fits of linear models share: frames with their forces, block by block, and the record."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import config, provenance
from cgbench.data.module import frames_of_stride
from cgbench.models import NetworkPotential, save_model
from cgbench.priors import Prior, PriorParameters
from cgbench.progress import Progress, silent
from cgbench.train.material import SystemMaterial
from cgbench.train.records import RunState, SystemLoss, TrainingOutcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Beads of a block: bounds the memory of its pairs to some hundred MB.
_BLOCK_BEADS = 8192

Double = NDArray[np.float64]


def frames_of(item: SystemMaterial, part: str, at_most: int | None = None) -> NDArray[np.int64]:
    """Return the valid frames of a part, those of the training part by the configured stride.

    Args:
        item: A system's data.
        part: ``train``, ``val`` or ``test``.
        at_most: Take no more than this many, evenly spread.
    """
    frames = item.split.frames(part)
    frames = frames[item.store.valid[frames]]
    if part == "train":
        frames = frames[frames_of_stride(item.store, frames, item.stride)]
    if at_most is not None and len(frames) > at_most:
        frames = frames[np.linspace(0, len(frames) - 1, at_most).round().astype(np.int64)]
    return np.sort(frames)


def force_blocks(
    item: SystemMaterial,
    frames: NDArray[np.int64],
    force_map: str | None,
    prior: PriorParameters | None,
    progress: Progress = silent,
) -> Iterator[tuple[Double, Double]]:
    """Yield coordinates and forces (n, N, 3) in Å and kcal/mol/Å, less those of a prior.

    Args:
        item: A system's data.
        frames: Frame numbers, ascending.
        force_map: Force map; the store's default if None.
        prior: Prior whose forces are subtracted.
        progress: Told of frames done.
    """
    store = item.store
    terms = None if prior is None else Prior(prior, np.asarray(store.bead_types))
    step = max(1, _BLOCK_BEADS // store.n_beads)
    begin = 0
    while begin < len(frames):
        # A block spans few chunks of the store, however sparse its frames are.
        end = min(begin + step, int(np.searchsorted(frames, frames[begin] + 16 * step)))
        chosen = frames[begin:end]
        first, last = int(chosen[0]), int(chosen[-1]) + 1
        pos = store.coordinates(first, last)[chosen - first].astype(np.float64)
        forces = store.forces(first, last, force_map)[chosen - first].astype(np.float64)
        if terms is not None:
            forces -= terms.energy_forces(torch.from_numpy(pos))[1].numpy()
        yield pos, forces
        begin = end
        progress(f"forces of {item.system}", begin, len(frames))


def system_loss(
    n_training: int, n_validation: int, item: SystemMaterial, error: float, square: float
) -> SystemLoss:
    """Return the record of one system from sums over its validation part.

    Args:
        n_training: Frames that were fitted to.
        n_validation: Frames of the validation part.
        item: The system's data.
        error: Sum of the squared errors over all components, (kcal/mol/Å)².
        square: Sum of the squares of the forces that were fitted to.
    """
    count = 3 * item.store.n_beads * n_validation
    known = count > 0 and square > 0.0
    return SystemLoss(
        n_training_frames=n_training,
        n_validation_frames=n_validation,
        frame_stride=item.stride,
        validation_loss=error / count if count else None,
        validation_variance=square / count if count else None,
        explained=1.0 - error / square if known else None,
    )


def finish_fit(
    out: Path,
    potential: NetworkPotential,
    losses: dict[str, SystemLoss],
    *,
    spent: RunState,
    how: str,
    seed: int,
) -> TrainingOutcome:
    """Write model, record and provenance of a fit that has no epochs.

    The loss of several systems is the mean over them.
    """
    known = [one for one in losses.values() if one.validation_loss is not None]
    loss = float(np.mean([one.validation_loss or 0.0 for one in known])) if known else 0.0
    variance = float(np.mean([one.validation_variance or 0.0 for one in known])) if known else 0.0
    outcome = TrainingOutcome(
        fingerprint=spent.fingerprint,
        epochs=1,
        best_epoch=1,
        validation_loss=loss,
        validation_variance=variance,
        explained=1.0 - loss / variance if variance > 0.0 else 0.0,
        seconds=spent.seconds,
        cpu_seconds=spent.cpu_seconds,
        n_parameters=potential.spec.n_parameters or 0,
        engine="closed form",
        engine_reason=how,
        systems=losses,
    )
    save_model(out / "model.pt", potential)
    config.write_model(out / "provenance.json", provenance.collect({"training": seed}))
    config.write_model(out / "training.json", outcome)
    return outcome


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    config.write_atomic(path, buffer.getvalue())
