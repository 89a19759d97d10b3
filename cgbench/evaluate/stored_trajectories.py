"""The trajectories of a store, read in large blocks however they are sliced."""

import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.tica import FrameSequence
from cgbench.store import SystemStore

#: Bytes of coordinates that are read from a store at once.
_READ_BYTES: Final = 32 * 1024 * 1024


class _StoredFrames:
    """Frames of a store behind a cache of one block, since a slice may cut a chunk in two.

    Each thread has a block of its own, and a copy in another process starts without.
    """

    def __init__(self, store: SystemStore) -> None:
        self._store = store
        self._block_frames = max(1, _READ_BYTES // (12 * store.n_beads))
        self._cache = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store, "_block_frames": self._block_frames}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _cache=threading.local())

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        first: int = getattr(self._cache, "first", 0)
        block: NDArray[np.float32] | None = getattr(self._cache, "block", None)
        if block is None or start < first or stop > first + len(block):
            # The old block goes before the new one comes.
            self._cache.block = block = None
            end = min(self._store.n_frames, max(stop, start + self._block_frames))
            block = self._store.coordinates(start, end)
            first = start
            self._cache.first, self._cache.block = first, block
        return np.asarray(block[start - first : stop - first])


class _StoredTrajectory:
    """One trajectory of a store, read when it is sliced."""

    def __init__(self, frames: _StoredFrames, start: int, stop: int) -> None:
        self._frames = frames
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, frames: slice, /) -> NDArray[Any]:
        first, last, _ = frames.indices(len(self))
        return self._frames.read(self._start + first, self._start + max(first, last))


def store_trajectories(store: SystemStore) -> list[FrameSequence]:
    """Return the trajectories of a store, read in blocks when they are sliced.

    They may be read by several threads at once, and sent to other processes.
    """
    frames = _StoredFrames(store)
    return [
        _StoredTrajectory(frames, int(start), int(stop)) for start, stop in store.trajectory_bounds
    ]
