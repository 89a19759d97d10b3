"""Force matching as a LightningModule."""

from typing import Any, Final

import lightning
import torch
from torch import Tensor

from cgbench.data import FrameBatch, MixedBatch
from cgbench.errors import SimulationError, ValidationError
from cgbench.models import ForceLoss, FusedForceLoss, GraphNetwork
from cgbench.train.config import OptimiserSettings
from cgbench.train.engine import Engine, EngineChoice, choose_engine

#: Intervals of the filter tables: 512 give forces and gradients to about 2e-6.
_TABLE_INTERVALS: Final = 512


class ForceMatching(lightning.LightningModule):
    """Fits a network to delta forces (force minus prior) by least squares.

    The loss is the mean over components of the squared difference, in (kcal/mol/Å)² (Noid et al.,
    J. Chem. Phys. 128, 244114 (2008), eq. 12; delta learning: Wang et al., ACS Cent. Sci. 5, 755
    (2019)). Its minimum is the variance of the instantaneous forces around the mean force, which
    the data alone cannot tell.

    Args:
        network: The network.
        optimiser: Settings of Adam and its schedule.
        engine: What computes the loss and its gradient.
    """

    def __init__(
        self, network: GraphNetwork, optimiser: OptimiserSettings, engine: EngineChoice = "auto"
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = optimiser
        self.engine_choice = engine
        self.engine = Engine("torch", "no batch yet")
        self._fused: FusedForceLoss | None = None

    def forces(self, batch: FrameBatch) -> Tensor:
        """Return the network's forces (n_frames, n_beads, 3), kcal/mol/Å, with their graph.

        The network writes its forces out, so that one backward pass over them is enough. Where a
        batch has more pairs than a table of the filters has intervals, the table is made first:
        half the work, with forces and gradients within 2e-6 of the exact ones.
        """
        n_frames, n_beads, _ = batch.pos.shape
        many = n_frames * n_beads * (n_beads - 1) // 2 > _TABLE_INTERVALS
        table = self.network.table(_TABLE_INTERVALS) if many else None
        return self.network.energy_forces_chains(batch.bead_types, batch.pos, table)[1]

    def match(self, batch: FrameBatch | MixedBatch) -> ForceLoss:
        """Return the loss with its graph, and the forces, (n_beads, 3) for a mixed batch.

        Raises:
            UsageError: The engine that was asked for does not fit.
            ValidationError: It is ``fused``, and the filters change too fast for its tables.
        """
        device = (batch.parts[0] if isinstance(batch, MixedBatch) else batch).pos.device
        if self._fused is None:
            self.engine = choose_engine(self.network, device, self.engine_choice)
            if self.engine.name == "fused":
                self._fused = FusedForceLoss(self.network)
        if self._fused is not None:
            try:
                return _fused_loss(self._fused, batch)
            except ValidationError as error:
                if self.engine_choice == "fused":
                    raise
                self.engine = Engine("fused", f"some batches by torch: {error.what}")
        if isinstance(batch, MixedBatch):
            flat = batch.to_pyg()
            found = self.network.energy_forces(flat.bead_type, flat.pos, flat.batch, len(batch))
            return ForceLoss((found[1] - flat.forces).square().mean(), found[1].detach())
        forces = self.forces(batch)
        return ForceLoss((forces - batch.forces).square().mean(), forces.detach())

    def _loss(self, batch: FrameBatch | MixedBatch, part: str) -> Tensor:
        loss, forces = self.match(batch)
        frames = len(batch)
        self.log(f"{part}_loss", loss, on_epoch=True, on_step=False, batch_size=frames)
        if part != "train":
            target = batch.to_pyg().forces if isinstance(batch, MixedBatch) else batch.forces
            difference = (forces - target).abs().mean()
            self.log(f"{part}_l1", difference, on_epoch=True, batch_size=frames)
        return loss

    def training_step(self, batch: FrameBatch | MixedBatch, batch_index: int) -> Tensor:
        """Return the loss of one batch.

        Raises:
            SimulationError: The loss is not finite; the last checkpoint is kept.
        """
        loss = self._loss(batch, "train")
        if not torch.isfinite(loss):
            raise SimulationError(
                f"training diverged at epoch {self.current_epoch}, batch {batch_index}",
                expected="a finite loss",
                found=float(loss.detach()),
                fix="lower optimiser.learning_rate or set optimiser.gradient_clip; "
                "the last good state is in logs/last.ckpt",
            )
        return loss

    def validation_step(self, batch: FrameBatch | MixedBatch, batch_index: int) -> None:
        """Log the loss of one validation batch."""
        self._loss(batch, "val")

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Do nothing: Lightning steps a plateau schedule after the epoch's checkpoint is saved.

        A run resumed from that checkpoint would miss the step.
        """

    def on_train_epoch_end(self) -> None:
        """Step the schedule, before the checkpoint is saved."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            schedule.step(float(self.trainer.callback_metrics["val_loss"]))

    def configure_optimizers(self) -> Any:
        """Return Adam and the plateau schedule on the validation loss."""
        optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            factor=self.settings.factor,
            patience=self.settings.patience,
            min_lr=self.settings.minimum_learning_rate,
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss", "interval": "epoch"},
        }


def _fused_loss(fused: FusedForceLoss, batch: FrameBatch | MixedBatch) -> ForceLoss:
    if isinstance(batch, MixedBatch):
        flat = batch.to_pyg()
        return fused.systems(flat.bead_type, flat.pos, flat.batch, flat.forces)
    return fused.chains(batch.bead_types, batch.pos, batch.forces)
