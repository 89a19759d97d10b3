"""Batches in random order: exactly shuffled in memory, or streamed by shuffled blocks."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import FrameBatch, FrameTensors
from cgbench.errors import UsageError, ValidationError

#: Parts up to this size are held in memory by default.
MEMORY_LIMIT_BYTES = 2 * 1024**3
BUFFER_BLOCKS = 4

Mode = Literal["auto", "memory", "stream"]


class BlockShuffleLoader:
    """Yields each frame of a dataset once per epoch, in batches, in an order of its own.

    In mode ``memory`` the dataset is loaded and the order is a random permutation of all
    frames. In mode ``stream`` blocks of consecutive frames come in random order and pass through
    a buffer of four blocks; each batch is drawn from the buffer at random, and a block is read
    whenever there is room for it, so memory is bounded by five blocks. ``auto`` takes memory up
    to 2 GiB. The order depends on seed, epoch and mode alone (and on the numpy version).

    With several ranks every rank gets equally many frames, none of them twice; the remainder,
    fewer frames than ranks, is left out of the epoch.

    Args:
        dataset: Where frames come from.
        batch_size: Frames per batch.
        seed: Seed of all orders.
        epoch: Which order; see ``set_epoch``.
        shuffle: False gives frames in their order in the dataset.
        drop_last: Whether an incomplete last batch is left out.
        mode: ``auto``, ``memory`` or ``stream``.
        block_frames: Frames of a block (default: 4096, or the store's chunk if longer).
        buffer_blocks: Blocks in the buffer.
        rank: Number of this process among those that share an epoch.
        world_size: Number of those processes.

    Raises:
        UsageError: An argument is out of range.
        ValidationError: There are too few frames for a single batch on each rank.
    """

    def __init__(
        self,
        dataset: ProteinForcesDataset,
        batch_size: int = 256,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        mode: Mode = "auto",
        block_frames: int | None = None,
        buffer_blocks: int = BUFFER_BLOCKS,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.block_frames = dataset.block_frames if block_frames is None else block_frames
        self.buffer_blocks = buffer_blocks
        self.rank = rank
        self.world_size = world_size
        self._check(mode)
        small = dataset.nbytes <= MEMORY_LIMIT_BYTES
        self.mode: Mode = ("memory" if small else "stream") if mode == "auto" else mode
        self.set_epoch(epoch)

    def _check(self, mode: str) -> None:
        if mode not in ("auto", "memory", "stream"):
            raise UsageError(f"loader: no mode {mode!r}", expected="auto, memory or stream")
        least = {
            "batch_size": (self.batch_size, 1),
            "block_frames": (self.block_frames, 1),
            "buffer_blocks": (self.buffer_blocks, 1),
            "seed": (self.seed, 0),
            "world_size": (self.world_size, 1),
        }
        for name, (value, bound) in least.items():
            if value < bound:
                raise UsageError(f"loader: {name}", expected=f"at least {bound}", found=value)
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                "loader: rank", expected=f"0 to {self.world_size - 1}", found=self.rank
            )
        if len(self) == 0:
            raise ValidationError(
                f"{self.dataset.store.path}: part {self.dataset.part!r} is too small for a batch",
                expected=f"at least {self.batch_size if self.drop_last else 1} frames on each of "
                f"{self.world_size} ranks",
                found=f"{len(self.dataset)} frames in all",
                fix="use a smaller batch, fewer ranks, or keep the incomplete last batch",
            )

    @property
    def n_frames(self) -> int:
        """Frames of an epoch on this rank, before an incomplete batch is dropped."""
        return len(self.dataset) // self.world_size

    def __len__(self) -> int:
        whole, rest = divmod(self.n_frames, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration.

        Raises:
            UsageError: The number is negative.
        """
        if epoch < 0:
            raise UsageError("loader: epoch", expected="at least 0", found=epoch)
        self.epoch = epoch

    def __iter__(self) -> Iterator[FrameBatch]:
        if self.mode == "memory":
            return self._from_memory()
        return self._shuffled_stream() if self.shuffle else self._ordered_stream()

    def _generator(self, *purpose: int) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(self.epoch, *purpose))
        return np.random.default_rng(sequence)

    def _share(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cut this rank's share from an order that all ranks agree on."""
        return positions[self.rank * self.n_frames : (self.rank + 1) * self.n_frames]

    def _from_memory(self) -> Iterator[FrameBatch]:
        tensors = self.dataset.load()
        order = np.arange(len(tensors))
        if self.shuffle:
            order = self._generator().permutation(len(tensors))
        rows = torch.from_numpy(self._share(order))
        for number in range(len(self)):
            yield _batch(tensors, rows[number * self.batch_size : (number + 1) * self.batch_size])

    def _ordered_stream(self) -> Iterator[FrameBatch]:
        positions = self._share(np.arange(len(self.dataset)))
        batches_read = max(1, self.block_frames // self.batch_size)
        for first in range(0, len(self), batches_read):
            start = first * self.batch_size
            tensors = self.dataset.read(positions[start : start + batches_read * self.batch_size])
            rows = torch.arange(len(tensors))
            for number in range(min(batches_read, len(self) - first)):
                yield _batch(
                    tensors, rows[number * self.batch_size : (number + 1) * self.batch_size]
                )

    def blocks(self) -> list[NDArray[np.int64]]:
        """Return the positions of this rank's blocks in the order of this epoch.

        A block is what a window of ``block_frames`` frames of the store holds of the dataset.
        """
        order = np.argsort(self.dataset.frames, kind="stable")
        window = self.dataset.frames[order] // self.block_frames
        blocks = np.split(order, np.flatnonzero(np.diff(window)) + 1)
        shuffled = [blocks[i] for i in self._generator().permutation(len(blocks))]
        # Shares are cut by frames, not by blocks, so that no rank waits for another.
        share = self._share(np.concatenate(shuffled))
        begins = self.rank * self.n_frames
        edges = np.cumsum([len(block) for block in shuffled]) - begins
        inside = edges[(edges > 0) & (edges < len(share))]
        return np.split(share, inside)

    def _shuffled_stream(self) -> Iterator[FrameBatch]:
        draw = self._generator(self.rank)
        blocks = self.blocks()
        longest = max(len(block) for block in blocks)
        buffer = _Buffer(
            max(self.buffer_blocks * self.block_frames, self.batch_size + longest),
            self.dataset.n_beads,
        )
        following = 0
        for _ in range(len(self)):
            while following < len(blocks) and buffer.has_room(len(blocks[following])):
                buffer.add(self.dataset.read(blocks[following]))
                following += 1
            yield buffer.draw(min(self.batch_size, len(buffer)), draw, self.dataset.bead_types)


class _Buffer:
    """Frames that wait to be drawn; a drawn frame's place is taken by one from the end."""

    def __init__(self, capacity: int, n_beads: int) -> None:
        self._pos = torch.empty((capacity, n_beads, 3))
        self._forces = torch.empty((capacity, n_beads, 3))
        self._frame = torch.empty(capacity, dtype=torch.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has_room(self, n: int) -> bool:
        return self._count + n <= len(self._pos)

    def add(self, tensors: FrameTensors) -> None:
        end = self._count + len(tensors)
        self._pos[self._count : end] = tensors.pos
        self._forces[self._count : end] = tensors.forces
        self._frame[self._count : end] = tensors.frame
        self._count = end

    def draw(self, n: int, generator: np.random.Generator, bead_types: torch.Tensor) -> FrameBatch:
        chosen = generator.choice(self._count, n, replace=False)
        rows = torch.from_numpy(chosen)
        batch = FrameBatch(
            pos=self._pos[rows],
            forces=self._forces[rows],
            bead_types=bead_types,
            frame=self._frame[rows],
        )
        left = self._count - n
        stays = np.ones(n, dtype=bool)
        stays[chosen[chosen >= left] - left] = False
        holes = torch.from_numpy(chosen[chosen < left])
        movers = torch.from_numpy(np.flatnonzero(stays) + left)
        for values in (self._pos, self._forces, self._frame):
            values[holes] = values[movers]
        self._count = left
        return batch


def _batch(tensors: FrameTensors, rows: torch.Tensor) -> FrameBatch:
    return FrameBatch(
        pos=tensors.pos.index_select(0, rows),
        forces=tensors.forces.index_select(0, rows),
        bead_types=tensors.bead_types,
        frame=tensors.frame.index_select(0, rows),
    )
