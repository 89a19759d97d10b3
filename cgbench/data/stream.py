"""A dataset's frames one after the other, from memory or from a store, in batches of any size."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import FrameBatch, FrameTensors
from cgbench.data.order import EpochOrder, Positions
from cgbench.data.prefetch import Prefetch, Slot
from cgbench.errors import UsageError

Mode = Literal["auto", "memory", "stream"]


class FrameSequence:
    """The frames of one rank, epoch after epoch.

    Args:
        dataset: Where frames come from.
        mode: ``memory`` or ``stream``.
        order: Their order.
        threads: Blocks that are read at the same time in mode ``stream``.
        pin_memory: Whether batches lie in page-locked memory, where there is a GPU.
    """

    def __init__(
        self,
        dataset: ProteinForcesDataset,
        mode: Mode,
        order: EpochOrder,
        *,
        threads: int = 1,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.mode = mode
        self.order = order
        self.threads = threads
        self.pin_memory = pin_memory and torch.cuda.is_available()

    def begin(self, first: int, count: int) -> "MemoryFrames | StreamedFrames":
        """Return ``count`` frames from number ``first`` on, counted from the first epoch."""
        kind = MemoryFrames if self.mode == "memory" else StreamedFrames
        return kind(self, first, count)


class MemoryFrames:
    """Frames of a dataset that is held in memory."""

    def __init__(self, sequence: FrameSequence, first: int, count: int) -> None:
        self._tensors: FrameTensors = sequence.dataset.load()
        self._order = sequence.order
        self._pin = sequence.pin_memory
        self._epoch, self._next = divmod(first, sequence.order.n_frames)
        self._rows: torch.Tensor | None = None

    def take(self, n: int) -> FrameBatch:
        """Return the next frames."""
        pieces: list[torch.Tensor] = []
        while n > 0:
            if self._rows is None:
                self._rows = torch.from_numpy(self._order.positions(self._epoch))
            piece = self._rows[self._next : self._next + n]
            pieces.append(piece)
            n -= len(piece)
            self._next += len(piece)
            if self._next == len(self._rows):
                self._epoch, self._next, self._rows = self._epoch + 1, 0, None
        rows = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        batch = FrameBatch(
            pos=self._tensors.pos.index_select(0, rows),
            forces=self._tensors.forces.index_select(0, rows),
            bead_types=self._tensors.bead_types,
            frame=self._tensors.frame.index_select(0, rows),
        )
        return batch.pin_memory() if self._pin else batch

    def close(self) -> None:
        """Do nothing: memory stays with the dataset."""


class StreamedFrames:
    """Frames that threads read from a store ahead of their use; to be closed."""

    def __init__(self, sequence: FrameSequence, first: int, count: int) -> None:
        source = sequence.dataset
        self._bead_types = source.bead_types
        self._types = source.stored_types()
        self._pin = sequence.pin_memory
        self._slot: Slot | None = None
        self._next = 0
        coming = sequence.order.coming(*divmod(first, sequence.order.n_frames), count)
        self._prefetch = Prefetch(source, coming, sequence.threads)

    def take(self, n: int) -> FrameBatch:
        """Return the next frames.

        Raises:
            UsageError: There are none left, or this process was forked after the reading began.
            CgbenchError: They cannot be read.
        """
        shape = (n, len(self._bead_types), 3)
        pos = torch.empty(shape, dtype=torch.float32, pin_memory=self._pin)
        forces = torch.empty(shape, dtype=torch.float32, pin_memory=self._pin)
        frame = torch.empty(n, dtype=torch.int64, pin_memory=self._pin)
        done = 0
        while done < n:
            slot = self._current()
            rows = slice(self._next, min(slot.length, self._next + n - done))
            end = done + rows.stop - rows.start
            chosen: Positions | slice = rows if slot.order is None else slot.order[rows]
            _gather(slot.pos, chosen, pos[done:end], self._types[0][1])
            _gather(slot.forces, chosen, forces[done:end], self._types[1][1])
            _gather(slot.frame, chosen, frame[done:end], 1.0)
            self._next, done = rows.stop, end
        return FrameBatch(pos=pos, forces=forces, bead_types=self._bead_types, frame=frame)

    def _current(self) -> Slot:
        while self._slot is None or self._next == self._slot.length:
            if self._slot is not None:
                self._prefetch.give_back(self._slot)
            self._slot = self._prefetch.take()
            if self._slot is None:
                raise UsageError("loader: no frames are left in this iteration")
            self._next = self._slot.skip
        return self._slot

    def close(self) -> None:
        """Stop reading."""
        self._prefetch.close()


def _gather(values: NDArray[Any], rows: Positions | slice, out: torch.Tensor, scale: float) -> None:
    """Copy rows into a tensor, counts of a quantised store times their scale."""
    if isinstance(rows, slice):
        chosen = values[rows]
    else:
        target = out.numpy()
        same = values.dtype == target.dtype
        # Rows are known to be valid; checking them would cost numpy a second copy.
        chosen = np.take(values, rows, axis=0, out=target if same else None, mode="clip")
        if same:
            return
    out.copy_(torch.from_numpy(chosen))
    if values.dtype == np.int16:
        out.mul_(scale)


def worker_share(first: int, last: int) -> tuple[int, int]:
    """Return which batches of a half-open range this process gives out: all, or a worker's part."""
    worker = get_worker_info()
    if worker is None:
        return first, last
    left = last - first
    return (
        first + worker.id * left // worker.num_workers,
        first + (worker.id + 1) * left // worker.num_workers,
    )


def n_batches(n_frames: int, batch_size: int, drop_last: bool) -> int:
    """Return the number of batches that frames make."""
    whole, rest = divmod(n_frames, batch_size)
    return whole + (1 if rest and not drop_last else 0)


def check_counts(rank: int, **counts: int) -> None:
    """Check arguments of a loader.

    Raises:
        UsageError: One is below its least value, which is 0 for the seed and 1 for the others.
    """
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if value < least:
            raise UsageError(f"loader: {name}", expected=f"at least {least}", found=value)
    if not 0 <= rank < counts["world_size"]:
        raise UsageError("loader: rank", expected=f"0 to {counts['world_size'] - 1}", found=rank)
