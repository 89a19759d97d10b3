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

    def pin_memory(self) -> "FrameBatch":
        """Return the batch in page-locked memory, from which copies to a GPU need no waiting."""
        return FrameBatch(
            pos=self.pos.pin_memory(),
            forces=self.forces.pin_memory(),
            bead_types=self.bead_types.pin_memory(),
            frame=self.frame.pin_memory(),
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


@dataclass(frozen=True)
class MixedBatch:
    """A batch of frames of several systems.

    Attributes:
        parts: The frames of each system that has any in this batch.
        systems: For each part the number of its system among the loader's datasets.
    """

    parts: tuple[FrameBatch, ...]
    systems: tuple[int, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def system(self) -> Tensor:
        """Number of the system of each frame (n_frames,) int64, in the order of the parts."""
        device = self.parts[0].frame.device
        lengths = torch.tensor([len(part) for part in self.parts], device=device)
        return torch.tensor(self.systems, device=device).repeat_interleave(lengths)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "MixedBatch":
        """Return the batch on another device; Lightning moves batches by this method."""
        return MixedBatch(tuple(part.to(device, non_blocking) for part in self.parts), self.systems)

    def pin_memory(self) -> "MixedBatch":
        """Return the batch in page-locked memory."""
        return MixedBatch(tuple(part.pin_memory() for part in self.parts), self.systems)

    def to_pyg(self) -> Batch:
        """Return all parts as one batch in the flat form of PyG.

        As ``FrameBatch.to_pyg``, with chains of different lengths one after the other; ``ptr``
        says where each begins, and ``system`` (n_frames,) numbers its system.
        """
        device = self.parts[0].pos.device
        flat = [part.to_pyg() for part in self.parts]
        n_beads = torch.cat(
            [torch.full((len(part),), part.pos.shape[1], device=device) for part in self.parts]
        )
        return Batch(
            pos=torch.cat([batch.pos for batch in flat]),
            forces=torch.cat([batch.forces for batch in flat]),
            bead_type=torch.cat([batch.bead_type for batch in flat]),
            frame=torch.cat([batch.frame for batch in flat]),
            system=self.system,
            batch=torch.arange(len(self), device=device).repeat_interleave(n_beads),
            ptr=torch.nn.functional.pad(n_beads.cumsum(0), (1, 0)),
        )
