"""The trajectories of a store, read in large blocks however they are sliced."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.tica import FrameSequence
from cgbench.store import SystemStore

#: Bytes of coordinates that are read from a store at once.
_READ_BYTES: Final = 64 * 1024 * 1024


class _StoredFrames:
    """Frames of a store behind a cache of one block, since a slice may cut a chunk in two."""

    def __init__(self, store: SystemStore) -> None:
        self._store = store
        self._start = 0
        self._block = store.coordinates(0, 0)
        self._block_frames = max(1, _READ_BYTES // (12 * store.n_beads))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        if start < self._start or stop > self._start + len(self._block):
            end = min(self._store.n_frames, max(stop, start + self._block_frames))
            self._block = self._store.coordinates(start, end)
            self._start = start
        return np.asarray(self._block[start - self._start : stop - self._start])


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
    """Return the trajectories of a store, read in blocks when they are sliced."""
    frames = _StoredFrames(store)
    return [
        _StoredTrajectory(frames, int(start), int(stop)) for start, stop in store.trajectory_bounds
    ]
