"""Batches of several proteins at once, of different lengths, each as often as it should come."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import MixedBatch
from cgbench.data.loader import BUFFER_BLOCKS, MEMORY_LIMIT_BYTES
from cgbench.data.order import MEMORY_ORDER, STREAM_ORDER, EpochOrder, generator
from cgbench.data.resume import Position
from cgbench.data.stream import FrameSequence, Mode, check_counts, n_batches, worker_share
from cgbench.data.weights import FrameWeights, ProteinWeights, protein_shares, weights_of_frames
from cgbench.errors import UsageError, ValidationError

#: What the generator of an epoch's composition is for, beside those of each protein's order.
_COMPOSITION = 0


class MixedLoader(IterableDataset[MixedBatch]):
    """Yields batches of frames of several datasets, in fixed shares.

    An epoch has ``epoch_frames`` frames, of which each protein has its share by
    ``protein_weights``; every batch holds the proteins in these shares as exactly as whole frames
    allow, which varies less than drawing them would. Each protein's frames come in the order of
    ``BlockShuffleLoader``, one pass through its dataset after the other: a protein with a large
    share starts again within the epoch, and one with a small share goes on in the next epoch
    where this one left off. So no frame of a protein comes twice before all have come once, unless
    ``frame_weights`` say so. With the defaults an epoch is each frame of each dataset once.

    Orders depend on seed, epoch, rank and mode alone. Ranks, workers of a ``DataLoader``, and
    resumption are as in ``BlockShuffleLoader``.

    Args:
        datasets: One for each protein.
        batch_size: Frames per batch, of all proteins together.
        protein_weights: ``frames``, ``uniform``, ``sqrt``, or relative weights, in the order of the
            datasets or by system.
        frame_weights: By system, how often each of its frames comes, see ``weights_of_frames``.
        epoch_frames: Frames of an epoch on all ranks together (default: those of all datasets).
        seed: Seed of all orders.
        epoch: Which order; see ``set_epoch``.
        shuffle: False gives the frames of each protein in order.
        drop_last: Whether an incomplete last batch is left out.
        mode: ``auto``, ``memory`` or ``stream``; ``auto`` takes the smallest proteins into memory,
            2 GiB in all.
        block_frames: Frames of a block (default: whole chunks of each store).
        buffer_blocks: Blocks of a super-block; each streamed protein has two of these in memory.
        rank: Number of this process among those that share an epoch.
        world_size: Number of those processes.
        threads: Blocks that are read at the same time for each streamed protein.
        pin_memory: Whether batches lie in page-locked memory; without a GPU it means nothing.

    Raises:
        UsageError: An argument is out of range, or names no system.
        ValidationError: Weights are no weights, or a protein has no frame in an epoch.
    """

    def __init__(
        self,
        datasets: Sequence[ProteinForcesDataset],
        batch_size: int = 256,
        *,
        protein_weights: ProteinWeights = "frames",
        frame_weights: Mapping[str, FrameWeights] | None = None,
        epoch_frames: int | None = None,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        mode: Mode = "auto",
        block_frames: int | None = None,
        buffer_blocks: int = BUFFER_BLOCKS,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 1,
        pin_memory: bool = False,
    ) -> None:
        if not datasets:
            raise UsageError("loader: no dataset", expected="at least one")
        if mode not in ("auto", "memory", "stream"):
            raise UsageError(f"loader: no mode {mode!r}", expected="auto, memory or stream")
        self.datasets = tuple(datasets)
        self.batch_size = batch_size
        self.drop_last = drop_last
        total = sum(map(len, datasets)) if epoch_frames is None else epoch_frames
        check_counts(
            rank,
            batch_size=batch_size,
            epoch_frames=total,
            block_frames=1 if block_frames is None else block_frames,
            buffer_blocks=buffer_blocks,
            world_size=world_size,
            threads=threads,
            seed=seed,
        )
        self.weights = protein_shares(self.datasets, protein_weights)
        self.frames_per_epoch = self._allot(total, world_size, epoch_frames is None)
        chosen = self._frame_weights(frame_weights or {}, shuffle)
        modes = _modes(self.datasets, mode)
        self._sequences = [
            FrameSequence(
                dataset,
                modes[number],
                EpochOrder(
                    dataset.frames,
                    block_frames or dataset.block_frames,
                    max(buffer_blocks * (block_frames or dataset.block_frames), batch_size),
                    entropy=(seed, 1 + number),
                    shuffle=shuffle,
                    rank=rank,
                    world_size=world_size,
                    weights=chosen[number],
                ),
                threads=threads,
                pin_memory=pin_memory,
            )
            for number, dataset in enumerate(self.datasets)
        ]
        self._seed = seed
        self._identity = {
            "order": f"{MEMORY_ORDER} {STREAM_ORDER} mixed-1",
            "seed": seed,
            "systems": " ".join(f"{item.system}:{len(item)}" for item in self.datasets),
            "modes": " ".join(modes),
            "frames_per_epoch": " ".join(map(str, self.frames_per_epoch)),
            "batch_size": batch_size,
            "shuffle": shuffle,
            "block_frames": block_frames or 0,
            "buffer_blocks": buffer_blocks,
            "world_size": world_size,
            "weights": _digest(chosen),
        }
        self._position = Position(epoch)

    def _allot(self, total: int, world_size: int, whole: bool) -> list[int]:
        """Return the frames of each protein in an epoch of one rank."""
        lengths = [len(dataset) // world_size for dataset in self.datasets]
        if min(lengths) == 0:
            raise ValidationError(
                "loader: a dataset has fewer frames than there are ranks",
                expected=f"at least {world_size} frames",
                found=", ".join(f"{item.system}: {len(item)}" for item in self.datasets),
            )
        each = sum(lengths) if whole else total // world_size
        shares = self.weights * each
        if whole and np.allclose(shares, lengths, rtol=0, atol=1.0):
            # Each frame once: an epoch ends where every protein's pass does.
            return lengths
        frames = np.floor(shares).astype(int)
        # The largest remainders get what rounding has left.
        frames[np.argsort(frames - shares, kind="stable")[: each - int(frames.sum())]] += 1
        if frames.min() == 0 or n_batches(int(frames.sum()), self.batch_size, self.drop_last) == 0:
            raise ValidationError(
                "loader: an epoch is too short",
                expected="a batch, and at least one frame of each protein, on each rank",
                found=", ".join(
                    f"{item.system}: {n}" for item, n in zip(self.datasets, frames, strict=True)
                ),
                fix="raise epoch_frames, or the weight of the rarest protein",
            )
        return [int(n) for n in frames]

    def _frame_weights(
        self, weights: Mapping[str, FrameWeights], shuffle: bool
    ) -> list[NDArray[np.float64] | None]:
        unknown = set(weights) - {dataset.system for dataset in self.datasets}
        if unknown or (weights and not shuffle):
            raise UsageError(
                "loader: weights of frames",
                expected="shuffle=True, and systems among "
                + ", ".join(dataset.system for dataset in self.datasets),
                found=", ".join(sorted(weights)),
            )
        return [
            weights_of_frames(dataset, weights[dataset.system])
            if dataset.system in weights
            else None
            for dataset in self.datasets
        ]

    def __len__(self) -> int:
        return n_batches(sum(self.frames_per_epoch), self.batch_size, self.drop_last)

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

    def composition(self) -> NDArray[np.int64]:
        """Return how many frames of each protein each batch holds, (n_batches, n_datasets).

        A protein with n of the epoch's frames has them at even distances, the first at a random
        place; the places of all proteins together, in order, are cut into batches.
        """
        random = generator((self._seed, 0), self.epoch, _COMPOSITION)
        offsets = random.random(len(self.datasets))
        places = np.concatenate(
            [
                (np.arange(n) + offset) / n
                for n, offset in zip(self.frames_per_epoch, offsets, strict=True)
            ]
        )
        systems = np.repeat(np.arange(len(self.datasets)), self.frames_per_epoch)
        systems = systems[np.argsort(places, kind="stable")]
        systems = systems[: len(self) * self.batch_size]
        cell = np.arange(len(systems)) // self.batch_size * len(self.datasets) + systems
        counts = np.bincount(cell, minlength=len(self) * len(self.datasets))
        return counts.reshape(len(self), len(self.datasets))

    def __iter__(self) -> Iterator[MixedBatch]:
        epoch = self.epoch
        first, last = worker_share(self._position.begin(), len(self))
        return self._batches(epoch, self.composition(), first, last)

    def _batches(
        self, epoch: int, counts: NDArray[np.int64], first: int, last: int
    ) -> Iterator[MixedBatch]:
        if first < last:
            before, needed = counts[:first].sum(axis=0), counts[first:last].sum(axis=0)
            opened = []
            try:
                for sequence, n, done, count in zip(
                    self._sequences, self.frames_per_epoch, before, needed, strict=True
                ):
                    opened.append(sequence.begin(epoch * n + int(done), int(count)))
                for number in range(first, last):
                    present = np.flatnonzero(counts[number]).tolist()
                    batch = MixedBatch(
                        tuple(opened[index].take(int(counts[number, index])) for index in present),
                        tuple(present),
                    )
                    self._position.batch = number + 1
                    yield batch
            finally:
                for frames in opened:
                    frames.close()
        self._position.batch = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch: the same on every rank, and plain numbers and words."""
        return self._position.state(self._identity, len(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration go on where the state was taken.

        Raises:
            ValidationError: The state was taken within an epoch of another order.
        """
        self._position.load(state_dict, self._identity, len(self))


def _modes(datasets: Sequence[ProteinForcesDataset], mode: Mode) -> list[Mode]:
    """Return the mode of each dataset: by default the smallest are held, as long as they fit."""
    if mode != "auto":
        return [mode] * len(datasets)
    modes: list[Mode] = ["stream"] * len(datasets)
    held = 0
    for number in sorted(range(len(datasets)), key=lambda index: datasets[index].nbytes):
        held += datasets[number].nbytes
        if held <= MEMORY_LIMIT_BYTES:
            modes[number] = "memory"
    return modes


def _digest(weights: Sequence[NDArray[np.float64] | None]) -> str:
    digest = hashlib.sha256()
    for item in weights:
        digest.update(b"none" if item is None else item.tobytes())
    return digest.hexdigest()
