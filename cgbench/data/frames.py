"""Frames as tensors: a whole part in memory, and one batch of it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch


@dataclass(frozen=True)
class FrameTensors:
    """Frames of one system in memory.

    Attributes:
        pos: Positions (n_frames, n_beads, 3) float32, Å.
        forces: Forces (n_frames, n_beads, 3) float32, kcal/mol/Å.
        bead_types: Bead types (n_beads,) int64.
        frame: Flat frame number in the store (n_frames,) int64.
        trajectory: Number of the trajectory (n_frames,) int64.
    """

    pos: Tensor
    forces: Tensor
    bead_types: Tensor
    frame: Tensor
    trajectory: Tensor

    def __len__(self) -> int:
        return len(self.pos)

    def select(self, rows: Tensor) -> "FrameTensors":
        """Return the given rows (int64) as a copy."""
        return FrameTensors(
            pos=self.pos.index_select(0, rows),
            forces=self.forces.index_select(0, rows),
            bead_types=self.bead_types,
            frame=self.frame.index_select(0, rows),
            trajectory=self.trajectory.index_select(0, rows),
        )


@dataclass(frozen=True)
class FrameBatch:
    """A batch of frames of one system.

    Attributes:
        pos: Positions (n_frames, n_beads, 3) float32, Å.
        forces: Forces, or delta forces, (n_frames, n_beads, 3) float32, kcal/mol/Å.
        bead_types: Bead types (n_beads,) int64, the same for every frame.
        frame: Flat frame number in the store (n_frames,) int64.
    """

    pos: Tensor
    forces: Tensor
    bead_types: Tensor
    frame: Tensor

    def __len__(self) -> int:
        return len(self.pos)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "FrameBatch":
        """Return the batch on another device; Lightning moves batches by this method."""
        return FrameBatch(
            pos=self.pos.to(device, non_blocking=non_blocking),
            forces=self.forces.to(device, non_blocking=non_blocking),
            bead_types=self.bead_types.to(device, non_blocking=non_blocking),
            frame=self.frame.to(device, non_blocking=non_blocking),
        )

    def to_pyg(self) -> Batch:
        """Return the batch in the flat form of PyG, as its DataLoader would give it.

        ``pos`` and ``forces`` are (n_frames·n_beads, 3), ``bead_type`` and ``batch``
        (n_frames·n_beads,), ``ptr`` (n_frames + 1,), ``frame`` (n_frames,).
        """
        n_frames, n_beads = self.pos.shape[:2]
        device = self.pos.device
        return Batch(
            pos=self.pos.reshape(-1, 3),
            forces=self.forces.reshape(-1, 3),
            bead_type=self.bead_types.repeat(n_frames),
            frame=self.frame,
            batch=torch.arange(n_frames, device=device).repeat_interleave(n_beads),
            ptr=torch.arange(n_frames + 1, device=device) * n_beads,
        )
