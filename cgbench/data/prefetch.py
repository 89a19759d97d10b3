"""Threads that read ahead: one super-block is filled while batches are drawn from another."""

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
import torch

from cgbench.data.order import Positions, SuperBlock
from cgbench.errors import UsageError

SLOTS: Final = 2


class BlockSource(Protocol):
    """What a stream reads from; ``ProteinForcesDataset`` is one."""

    frames: Positions
    bead_types: torch.Tensor

    def stored_types(self) -> tuple[tuple[np.dtype[Any], float], tuple[np.dtype[Any], float]]:
        """Return type and scale of coordinates and forces in ``read_into``."""

    def read_into(
        self, positions: Positions, pos: np.ndarray[Any, Any], forces: np.ndarray[Any, Any]
    ) -> None:
        """Fill arrays (n, n_beads, 3) with the frames at positions (n,)."""


class Slot:
    """Memory of one super-block, used again for later ones."""

    def __init__(self, source: BlockSource) -> None:
        self._types = [dtype for dtype, _ in source.stored_types()]
        self._n_beads = len(source.bead_types)
        self.order: Positions | None = None
        self.length = self.skip = self.pending = 0
        self._resize(0)

    def _resize(self, n: int) -> None:
        shape = (n, self._n_beads, 3)
        # numpy asks the system for huge pages; torch does not, and random rows then cost more.
        self.pos = np.empty(shape, dtype=self._types[0])
        self.forces = np.empty(shape, dtype=self._types[1])
        self.frame = np.empty(n, dtype=np.int64)

    def prepare(self, block: SuperBlock) -> None:
        """Make room for a super-block and permute its rows."""
        self.length, self.skip = len(block), block.skip
        if self.length > len(self.pos):
            self._resize(self.length)
        self.order = block.permutation()
        self.pending = len(block.blocks)


class Prefetch:
    """Fills super-blocks in order, in threads of its own.

    Close it when done. It is closed as well when the interpreter ends.

    Args:
        source: Where frames come from.
        super_blocks: What to read, in order.
        threads: Blocks that are read at the same time.
        slots: Super-blocks in memory.
    """

    def __init__(
        self,
        source: BlockSource,
        super_blocks: Iterator[SuperBlock],
        threads: int = 1,
        slots: int = SLOTS,
    ) -> None:
        self._source = source
        self._coming = super_blocks
        self._free = deque(Slot(source) for _ in range(slots))
        self._filling: deque[Slot] = deque()
        self._tasks: deque[tuple[Slot, Positions, int]] = deque()
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._process = os.getpid()
        self._threads = [
            threading.Thread(target=self._work, name=f"cgbench-read-{number}", daemon=True)
            for number in range(threads)
        ]
        _open.add(self)
        for thread in self._threads:
            thread.start()

    def take(self) -> Slot | None:
        """Return the next filled super-block, or None after the last; give it back when done.

        Raises:
            UsageError: This process was forked after the reading began.
            CgbenchError: A thread could not read.
        """
        if os.getpid() != self._process:
            raise UsageError(
                "loader: an iteration cannot go on in a process forked from the one it began in",
                fix="begin a new iteration there, or use forkserver or spawn",
            )
        with self._changed:
            self._changed.wait_for(self._answer)
            if self._error is not None:
                raise self._error
            # What is still being filled when reading was stopped is never given out.
            return None if self._stopped or not self._filling else self._filling.popleft()

    def _answer(self) -> bool:
        if self._error is not None or self._stopped:
            return True
        if self._filling:
            return self._filling[0].pending == 0
        return self._ended

    def give_back(self, slot: Slot) -> None:
        """Let a super-block's memory be filled again."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the threads and wait for them; what they have read is lost."""
        if os.getpid() != self._process:
            # The threads are the parent's, and so may be the lock.
            return
        with self._changed:
            self._stopped = True
            self._tasks.clear()
            self._changed.notify_all()
        for thread in self._threads:
            # The garbage collector may run in one of them.
            if thread is not threading.current_thread():
                thread.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            slot, positions, start = task
            stop = start + len(positions)
            try:
                slot.frame[start:stop] = self._source.frames[positions]
                self._source.read_into(positions, slot.pos[start:stop], slot.forces[start:stop])
            except BaseException as error:  # noqa: BLE001 - raised again where batches are taken
                self._fail(error)
                return
            with self._changed:
                slot.pending -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[Slot, Positions, int] | None:
        with self._changed:
            try:
                while not self._stopped:
                    if self._tasks:
                        return self._tasks.popleft()
                    if self._ended:
                        return None
                    if self._free:
                        self._begin()
                    else:
                        self._changed.wait()
            except BaseException as error:  # noqa: BLE001 - raised again where batches are taken
                self._fail(error)
            return None

    def _begin(self) -> None:
        block = next(self._coming, None)
        if block is None:
            self._ended = True
        else:
            slot = self._free.popleft()
            slot.prepare(block)
            self._filling.append(slot)
            start = 0
            for positions in block.blocks:
                self._tasks.append((slot, positions, start))
                start += len(positions)
        self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._stopped = True
            self._changed.notify_all()


_open: "weakref.WeakSet[Prefetch]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # Threads that still wait or read while the interpreter is torn down could hang or crash it.
    for prefetch in list(_open):
        prefetch.close()
