"""The order of an epoch as a function of its seed alone, so that it can be entered anywhere.

A streamed epoch is cut into super-blocks: a few blocks of consecutive frames, chosen at random,
whose frames are permuted together. Which blocks meet, and how they are permuted, follows from the
seed, the epoch, the rank and the number of the super-block; nothing is carried from one to the
next, so batch n of an epoch is known without the batches before it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

#: Versions of the two orders. An epoch of the same seed is the same only in the same version.
STREAM_ORDER: Final = "stream-2"
MEMORY_ORDER: Final = "memory-1"

Positions = NDArray[np.int64]
Entropy = int | tuple[int, ...]

# What a generator is for, beside the order of blocks, which has no purpose of its own.
_WITHIN: Final = 1
_REPEATS: Final = 2


def generator(entropy: Entropy, *key: int) -> np.random.Generator:
    """Return an independent random generator for each seed and key."""
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def repeats(weights: NDArray[np.float64], random: np.random.Generator) -> Positions:
    """Return how often each item comes in a sample of as many draws as there are items.

    Systematic resampling (Kitagawa, J. Comput. Graph. Stat. 5, 1 (1996), appendix): item i comes
    ⌊e_i⌋ or ⌈e_i⌉ times, where e_i is its expected number, with the right mean; no other scheme
    has less variance.

    Args:
        weights: Relative weights (n,), not negative, not all zero.
        random: Gives the one random number that is needed.
    """
    edges = np.cumsum(weights)
    last = int(np.flatnonzero(weights)[-1])
    edges *= len(weights) / edges[last]
    # Exactly, so that rounding neither loses a draw nor gives one to an item without weight.
    edges[last:] = len(weights)
    counts = np.floor(edges + random.random()).astype(np.int64)
    counts[1:] -= counts[:-1].copy()
    return counts


def check_weights(weights: NDArray[np.float64], n: int, what: str) -> NDArray[np.float64]:
    """Return weights (n,) as float64.

    Raises:
        ValidationError: They are of another shape, negative, not finite or all zero.
    """
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (n,):
        raise ValidationError(f"{what}: shape of the weights", expected=(n,), found=checked.shape)
    if not np.isfinite(checked).all() or (checked < 0).any() or not (checked > 0).any():
        raise ValidationError(
            f"{what}: weights", expected="finite, not negative, and one at least above zero"
        )
    return checked


@dataclass(frozen=True)
class SuperBlock:
    """Frames that are permuted together.

    Attributes:
        blocks: For each block the positions of its frames in the dataset.
        start: Frames of this rank's epoch before these.
        entropy: Seed of the permutation.
        key: Rest of the seed, or None where frames stay in order.
        skip: How many of these, in their new order, are not given out.
    """

    blocks: tuple[Positions, ...]
    start: int
    entropy: Entropy
    key: tuple[int, ...] | None
    skip: int = 0

    def __len__(self) -> int:
        return sum(len(block) for block in self.blocks)

    def permutation(self) -> Positions | None:
        """Return in which order the frames come, or None for the order they have."""
        if self.key is None:
            return None
        return generator(self.entropy, *self.key).permutation(len(self))


class EpochOrder:
    """The order of one rank's frames in each epoch, as a stream and in memory.

    Args:
        frames: Flat frame number in the store of each item of the dataset (n,).
        block_frames: A block is what a window of this many frames of the store holds of them.
        buffer_frames: Frames of a super-block, about; at most one block more.
        entropy: Seed of all orders.
        shuffle: False leaves the items in their order.
        rank: Number of this process among those that share an epoch.
        world_size: Number of those processes.
        weights: Relative number of times (n,) that each item comes in an epoch, on average.
    """

    def __init__(
        self,
        frames: Positions,
        block_frames: int,
        buffer_frames: int,
        *,
        entropy: Entropy = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.frames = frames
        self.block_frames = block_frames
        self.buffer_frames = buffer_frames if shuffle else block_frames
        self.entropy = entropy
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.n_frames = len(frames) // world_size
        self.weights = weights
        self._whole: list[Positions] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Thousands of small arrays that can be made again.
        return self.__dict__ | {"_whole": None}

    def super_blocks(self, epoch: int, first: int = 0) -> list[SuperBlock]:
        """Return the super-blocks of an epoch that hold its frames from ``first`` on."""
        blocks = self._share(self._blocks(epoch))
        starts = np.cumsum([0, *(len(block) for block in blocks)])
        # Of equal size, rather than full ones and a small one: the last frames are mixed as well.
        number = max(1, -(-self.n_frames // self.buffer_frames))
        member = np.minimum(starts[:-1] * number // max(1, self.n_frames), number - 1)
        edges = [0, *(np.flatnonzero(np.diff(member)) + 1).tolist(), len(blocks)]
        found = []
        for index, (begin, end) in enumerate(itertools.pairwise(edges)):
            if starts[end] > first:
                key = (epoch, _WITHIN, self.rank, index) if self.shuffle else None
                start = int(starts[begin])
                members = tuple(blocks[begin:end])
                found.append(
                    SuperBlock(members, start, self.entropy, key, skip=max(0, first - start))
                )
        return found

    def coming(self, epoch: int, first: int, count: int) -> Iterator[SuperBlock]:
        """Yield super-blocks of ``count`` frames from ``first`` on, over several epochs maybe."""
        while count > 0:
            for block in self.super_blocks(epoch, first):
                if count <= 0:
                    return
                yield block
                count -= len(block) - block.skip
            epoch, first = epoch + 1, 0

    def positions(self, epoch: int) -> Positions:
        """Return this rank's frames of an epoch in an order without blocks.

        Ranks take turns: their n-th batches together are the n-th batch of one process whose
        batches are as large as all of theirs.
        """
        items = np.arange(len(self.frames))
        if self.weights is not None:
            items = np.repeat(items, repeats(self.weights, self._random(epoch, _REPEATS)))
        if self.shuffle:
            items = items[self._random(epoch).permutation(len(items))]
        return items[self.rank : self.n_frames * self.world_size : self.world_size]

    def blocks(self, epoch: int) -> list[Positions]:
        """Return this rank's blocks in the order of an epoch."""
        return self._share(self._blocks(epoch))

    def _random(self, *key: int) -> np.random.Generator:
        return generator(self.entropy, *key)

    def _blocks(self, epoch: int) -> list[Positions]:
        if not self.shuffle:
            items = np.arange(len(self.frames))
            return np.split(items, range(self.block_frames, len(items), self.block_frames))
        if self.weights is None:
            if self._whole is None:
                self._whole = self._windows(self._by_frame())
            blocks = self._whole
        else:
            items = self._by_frame()
            random = self._random(epoch, _REPEATS)
            blocks = self._windows(np.repeat(items, repeats(self.weights[items], random)))
        order = self._random(epoch).permutation(len(blocks))
        return [blocks[index] for index in order]

    def _by_frame(self) -> Positions:
        if (self.frames[1:] >= self.frames[:-1]).all():
            return np.arange(len(self.frames))
        return np.argsort(self.frames, kind="stable")

    def _windows(self, items: Positions) -> list[Positions]:
        windows = np.split(
            items, np.flatnonzero(np.diff(self.frames[items] // self.block_frames)) + 1
        )
        # A window of heavy frames would not fit into the buffer at once.
        return [
            window[start : start + self.block_frames]
            for window in windows
            for start in range(0, len(window), self.block_frames)
        ]

    def _share(self, blocks: list[Positions]) -> list[Positions]:
        """Cut this rank's share: by frames, not by blocks, so that no rank waits for another."""
        begin, share, first = self.rank * self.n_frames, [], 0
        for block in blocks:
            piece = block[max(0, begin - first) : max(0, begin + self.n_frames - first)]
            if len(piece):
                share.append(piece)
            first += len(block)
        return share
