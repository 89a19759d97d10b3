"""Batches in random order: exactly shuffled in memory, or streamed by shuffled blocks."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import FrameBatch
from cgbench.data.order import MEMORY_ORDER, STREAM_ORDER, EpochOrder, Positions, check_weights
from cgbench.data.resume import Position
from cgbench.data.stream import FrameSequence, Mode, check_counts, n_batches, worker_share
from cgbench.errors import UsageError, ValidationError

#: Parts up to this size are held in memory by default.
MEMORY_LIMIT_BYTES = 2 * 1024**3
BUFFER_BLOCKS = 4


class BlockShuffleLoader(IterableDataset[FrameBatch]):
    """Yields each frame of a dataset once per epoch, in batches, in an order of its own.

    In mode ``memory`` the dataset is loaded and the order is a random permutation of all
    frames. In mode ``stream`` blocks of consecutive frames come in random order; four of them
    make a super-block, whose frames are permuted together and given out while threads read the
    next one: memory is bounded by two super-blocks, ten blocks at most. ``auto`` takes memory up
    to 2 GiB. The order depends on seed, epoch, rank and mode alone (and on the numpy version).

    With several ranks every rank gets equally many frames, none of them twice; the remainder,
    fewer frames than ranks, is left out of the epoch. In workers of a torch ``DataLoader``
    (``batch_size=None``) each worker gives a contiguous share of the rank's batches.

    ``state_dict`` within an epoch tells the batches given out so far, and after
    ``load_state_dict`` the next iteration begins with the batch that would have come next.

    Args:
        dataset: Where frames come from.
        batch_size: Frames per batch.
        seed: Seed of all orders.
        epoch: Which order; see ``set_epoch``.
        shuffle: False gives frames in their order in the dataset.
        drop_last: Whether an incomplete last batch is left out.
        mode: ``auto``, ``memory`` or ``stream``.
        block_frames: Frames of a block (default: whole chunks of the store, at least 4096
            frames).
        buffer_blocks: Blocks of a super-block.
        rank: Number of this process among those that share an epoch.
        world_size: Number of those processes.
        weights: Relative weights (n_frames of the dataset,): how often a frame comes, on
            average. An epoch has as many draws as the dataset has frames; a frame comes ⌊e⌋ or
            ⌈e⌉ times, where e is its expected number. With shuffling only.
        threads: Blocks that are read at the same time in mode ``stream``.
        pin_memory: Whether batches lie in page-locked memory; without a GPU it means nothing.

    Raises:
        UsageError: An argument is out of range.
        ValidationError: There are too few frames for a single batch on each rank, or weights are
            no weights.
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
        weights: NDArray[np.float64] | None = None,
        threads: int = 1,
        pin_memory: bool = False,
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
        self._check(mode, threads)
        small = dataset.nbytes <= MEMORY_LIMIT_BYTES
        self.mode: Mode = ("memory" if small else "stream") if mode == "auto" else mode
        if weights is not None and not shuffle:
            raise UsageError("loader: weights", expected="shuffle=True with weights")
        self._weights = None if weights is None else check_weights(weights, len(dataset), "loader")
        order = EpochOrder(
            dataset.frames,
            self.block_frames,
            max(buffer_blocks * self.block_frames, batch_size),
            entropy=seed,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
            weights=self._weights,
        )
        self._sequence = FrameSequence(
            dataset, self.mode, order, threads=threads, pin_memory=pin_memory
        )
        self._position = Position(epoch)

    def _check(self, mode: str, threads: int) -> None:
        if mode not in ("auto", "memory", "stream"):
            raise UsageError(f"loader: no mode {mode!r}", expected="auto, memory or stream")
        check_counts(
            self.rank,
            batch_size=self.batch_size,
            block_frames=self.block_frames,
            buffer_blocks=self.buffer_blocks,
            world_size=self.world_size,
            threads=threads,
            seed=self.seed,
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
        return n_batches(self.n_frames, self.batch_size, self.drop_last)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next iteration gives."""
        return self._position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration.

        Raises:
            UsageError: The number is negative.
        """
        self._position.set_epoch(epoch)

    def __iter__(self) -> Iterator[FrameBatch]:
        epoch = self.epoch
        first, last = worker_share(self._position.begin(), len(self))
        return self._batches(epoch, first, last)

    def _batches(self, epoch: int, first: int, last: int) -> Iterator[FrameBatch]:
        begin, end = (min(n * self.batch_size, self.n_frames) for n in (first, last))
        if begin < end:
            frames = self._sequence.begin(epoch * self.n_frames + begin, end - begin)
            try:
                for number in range(first, last):
                    batch = frames.take(min(self.batch_size, end - number * self.batch_size))
                    self._position.batch = number + 1
                    yield batch
            finally:
                frames.close()
        self._position.batch = 0

    def blocks(self) -> list[Positions]:
        """Return the positions of this rank's blocks in the order of this epoch.

        A block is what a window of ``block_frames`` frames of the store holds of the dataset.
        """
        return self._sequence.order.blocks(self.epoch)

    def _identity(self) -> dict[str, Any]:
        stream = self.mode == "stream"
        weights = self._weights
        return {
            "order": STREAM_ORDER if stream else MEMORY_ORDER,
            "seed": self.seed,
            "n_frames": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "block_frames": self.block_frames if stream else 0,
            "buffer_blocks": self.buffer_blocks if stream else 0,
            "world_size": self.world_size,
            "weights": "" if weights is None else hashlib.sha256(weights.tobytes()).hexdigest(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch: the same on every rank, and plain numbers and words.

        Batches that a worker process of a ``DataLoader`` gives out are not counted here.
        """
        return self._position.state(self._identity(), len(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration go on where the state was taken.

        Raises:
            ValidationError: The state was taken within an epoch of another order.
        """
        self._position.load(state_dict, self._identity(), len(self))
