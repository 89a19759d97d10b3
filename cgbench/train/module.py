"""Force matching as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Final

import lightning
import torch
from torch import Tensor

from cgbench.data import FrameBatch, MixedBatch
from cgbench.errors import SimulationError, ValidationError
from cgbench.models import ForceLoss, FusedForceLoss, GraphNetwork, TensorForceLoss
from cgbench.train.config import OptimiserSettings
from cgbench.train.engine import Engine, EngineChoice, choose_engine

#: Intervals of the filter tables: 512 give forces and gradients to about 2e-6.
_TABLE_INTERVALS: Final = 512
_FULL_PRECISION: Final = "32-true"


class ForceMatching(lightning.LightningModule):
    """Fits a network to delta forces (force minus prior) by least squares.

    The loss is the mean over components of the squared difference, in (kcal/mol/Å)² (Noid et al.,
    J. Chem. Phys. 128, 244114 (2008), eq. 12; delta learning: Wang et al., ACS Cent. Sci. 5, 755
    (2019)). Its minimum is the variance of the instantaneous forces around the mean force, which
    the data alone cannot tell.

    Of several systems each has its own validation loss, ``val_loss/<system>``; ``val_loss`` is
    their mean, each with its share of the components of a training batch.

    Args:
        network: The network.
        optimiser: Settings of Adam and its schedule.
        engine: What computes the loss and its gradient.
        systems: Names of the systems of training batches, by their numbers there.
        validated: Names of the systems of the validation loaders, in order; none for one loader
            whose batches are of one system.
        shares: Weight of each validated system in the validation loss.
        precision: As of the trainer.
    """

    def __init__(
        self,
        network: GraphNetwork,
        optimiser: OptimiserSettings,
        engine: EngineChoice = "auto",
        *,
        systems: Sequence[str] = (),
        validated: Sequence[str] = (),
        shares: Sequence[float] = (),
        precision: str = _FULL_PRECISION,
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = optimiser
        self.engine_choice = engine
        self.engine = Engine("torch", "no batch yet")
        self.systems = tuple(systems)
        self.validated = tuple(validated)
        self.precision = precision
        self._shares = torch.tensor(shares, dtype=torch.float64)
        self._fused: FusedForceLoss | None = None
        self._tensors: TensorForceLoss | None = None
        self._sums = torch.zeros(0)

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
        if self._tensors is None:
            first = batch.parts[0] if isinstance(batch, MixedBatch) else batch
            self.engine = self._choose(first.pos.device)
            self._tensors = TensorForceLoss(self.network, compiled=self.engine.name == "compiled")
            if self.engine.name == "fused":
                self._fused = FusedForceLoss(self.network)
        if self.precision != _FULL_PRECISION:
            return self._in_lower_precision(batch)
        if self._fused is not None:
            try:
                return _loss_of(self._fused, batch)
            except ValidationError as error:
                if self.engine_choice == "fused":
                    raise
                self.engine = Engine("fused", f"some batches by torch: {error.what}")
        found = _loss_of(self._tensors, batch)
        if self.engine.name == "compiled" and self._tensors.obstacle is not None:
            self.engine = Engine("torch", self._tensors.obstacle)
        return found

    def _in_lower_precision(self, batch: FrameBatch | MixedBatch) -> ForceLoss:
        """Return the loss with the graph of all of it: its scale must reach the backward pass."""
        if isinstance(batch, MixedBatch):
            flat = batch.to_pyg()
            found = self.network.energy_forces(flat.bead_type, flat.pos, flat.batch, len(batch))
            return ForceLoss((found[1] - flat.forces).square().mean(), found[1].detach())
        forces = self.forces(batch)
        return ForceLoss((forces - batch.forces).square().mean(), forces.detach())

    def _choose(self, device: torch.device) -> Engine:
        if self.precision != _FULL_PRECISION and self.engine_choice != "torch":
            return Engine("torch", f"precision {self.precision}")
        return choose_engine(self.network, device, self.engine_choice)

    def _loss(self, batch: FrameBatch | MixedBatch, part: str) -> ForceLoss:
        found = self.match(batch)
        self._log(f"{part}_loss", found.loss, len(batch))
        return found

    def _log(self, name: str, value: Tensor, frames: int) -> None:
        shared = self._n_processes > 1
        self.log(name, value, on_epoch=True, on_step=False, batch_size=frames, sync_dist=shared)

    @property
    def _n_processes(self) -> int:
        return 1 if self._trainer is None else self.trainer.world_size

    def training_step(self, batch: FrameBatch | MixedBatch, batch_index: int) -> Tensor:
        """Return the loss of one batch.

        Raises:
            SimulationError: The loss is not finite, here or on another process; the last
                checkpoint is kept.
        """
        found = self._loss(batch, "train")
        if self._any_process(not bool(torch.isfinite(found.loss))):
            self._diverged(f"batch {batch_index}", self._broken_systems(batch, found.forces))
        return found.loss

    def _any_process(self, here: bool) -> bool:
        """Tell whether something is so on any process; one that stopped alone would stop all."""
        if self._n_processes == 1:
            return here
        found: bool = self.trainer.strategy.reduce_boolean_decision(here, all=False)
        return found

    def _broken_systems(self, batch: FrameBatch | MixedBatch, forces: Tensor) -> list[str]:
        """Return the systems of a batch whose forces are not finite."""
        if isinstance(batch, FrameBatch):
            return list(self.systems)
        broken, start = [], 0
        for part, number in zip(batch.parts, batch.systems, strict=True):
            size = part.pos.shape[0] * part.pos.shape[1]
            own = forces[start : start + size]
            start += size
            good = torch.isfinite(own - part.forces.reshape(-1, 3)).all()
            if not bool(good) and number < len(self.systems):
                broken.append(self.systems[number])
        return broken

    def _diverged(self, where: str, systems: Sequence[str]) -> None:
        of = f", {', '.join(systems)}" if systems else ", seen by another process"
        raise SimulationError(
            f"training diverged at epoch {self.current_epoch + 1}, {where} "
            f"(step {self.global_step}){of}",
            expected="a finite loss",
            found="not a finite number",
            fix="lower optimiser.learning_rate or set optimiser.gradient_clip; the last good state "
            "is kept in logs/last.ckpt, the best model so far in last-good.pt, where an epoch was "
            "finished",
        )

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the epoch before."""
        # Squares, absolute values, their number, and whether something was not finite.
        rows = max(1, len(self.validated))
        self._sums = torch.zeros((rows, 4), dtype=torch.float64, device=self.device)

    def validation_step(
        self, batch: FrameBatch | MixedBatch, batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Add one validation batch to the loss of its system."""
        mixed = isinstance(batch, MixedBatch)
        found = self.match(batch) if mixed else self._loss(batch, "val")
        target = batch.to_pyg().forces if isinstance(batch, MixedBatch) else batch.forces
        difference = found.forces - target
        if not mixed:
            self._log("val_l1", difference.abs().mean(), len(batch))
        bad = torch.isfinite(difference).all().logical_not()
        added = (difference.double().square().sum(), difference.double().abs().sum())
        count = torch.tensor(difference.numel(), dtype=torch.float64, device=self.device)
        self._sums[dataloader_idx] += torch.stack([*added, count, bad.double()])

    def on_validation_epoch_end(self) -> None:
        """Log the losses of several systems.

        Raises:
            SimulationError: One is not finite.
        """
        sums = self._sums
        if self._n_processes > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        if bool((sums[:, 3] > 0).any()):
            names = self.validated or self.systems or ("validation",)
            broken = [name for name, row in zip(names, sums, strict=False) if row[3] > 0]
            self._diverged("validation", broken)
        if not self.validated:
            return
        losses, absolute = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]
        shares = (self._shares / self._shares.sum()).to(losses)
        for name, values in (("val_loss", losses), ("val_l1", absolute)):
            # Equal on all processes: added up there already.
            self.log(name, (values * shares).sum().float(), sync_dist=self._n_processes > 1)
            for system, value in zip(self.validated, values, strict=True):
                self.log(f"{name}/{system}", value.float(), sync_dist=self._n_processes > 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep weights that are not finite out of checkpoints: what is there is the last good one.

        Raises:
            SimulationError: A weight is not finite.
        """
        if not all(bool(torch.isfinite(weight).all()) for weight in self.network.parameters()):
            self._diverged("a step with a finite loss but no finite gradient", self.systems)

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
            # The fused step undoes the scaling of half precision by itself, too late to clip.
            fused=self.precision != "16-mixed",
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


def _loss_of(losses: FusedForceLoss | TensorForceLoss, batch: FrameBatch | MixedBatch) -> ForceLoss:
    if isinstance(batch, MixedBatch):
        flat = batch.to_pyg()
        return losses.systems(flat.bead_type, flat.pos, flat.batch, flat.forces)
    return losses.chains(batch.bead_types, batch.pos, batch.forces)
