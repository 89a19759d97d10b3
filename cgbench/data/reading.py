"""Coordinates and forces of a store as they lie there, read by whoever may read them."""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from cgbench.data.chunks import ChunkReader
from cgbench.errors import UsageError
from cgbench.store import SystemStore
from cgbench.store.schema import FORCES_GROUP

COORDINATES: Final = "coordinates"

#: The process that read through zarr first. One forked from it lacks the threads that decode.
_reader: int | None = None


def guard_fork(what: str) -> None:
    """Note that this process reads through zarr; refuse if one that it was forked from did.

    Raises:
        UsageError: Threads of zarr and zarrs do not survive a fork; a read would wait for them for
            ever.
    """
    global _reader
    if _reader is None:
        _reader = os.getpid()
    elif _reader != os.getpid():
        raise UsageError(
            f"{what}: this process was forked from one that had read a store",
            fix='pass multiprocessing_context="forkserver" (or "spawn") to the DataLoader, '
            "or load() the dataset into memory before it forks",
        )


class FrameReader:
    """Reads ranges of frames of one store and force map, as float32 or as stored.

    Args:
        store: The store.
        force_map: Name of the force map.
        direct: Whether chunks of a local store are decoded without zarr where that is possible.
    """

    def __init__(self, store: SystemStore, force_map: str, direct: bool = True) -> None:
        self.store = store
        self.direct = direct
        self.names = (COORDINATES, f"{FORCES_GROUP}/{force_map}")
        self._force_map = force_map
        self._chunks: dict[str, ChunkReader | None] = {}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers on disk: float32, or int16 in a quantised store."""
        return np.dtype(np.float32 if self.store.metadata.quantisation is None else np.int16)

    def scale(self, name: str) -> float:
        """Return what one count of a quantised array stands for, Å or kcal/mol/Å."""
        quantisation = self.store.metadata.quantisation
        return 1.0 if quantisation is None else quantisation.scales[name]

    def read(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return a half-open range of frames (n, n_beads, 3) as stored.

        Raises:
            IntegrityError: The store is damaged.
        """
        if self._reader(name) is not None:
            values = np.empty((stop - start, self.store.n_beads, 3), dtype=self.dtype)
            self.read_into(name, start, stop, values)
            return values
        guard_fork(str(self.store.path))
        if self.dtype == np.int16:
            return self.store.encoded(name, start, stop)[0]
        if name == COORDINATES:
            return self.store.coordinates(start, stop)
        return self.store.forces(start, stop, self._force_map)

    def read_into(self, name: str, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
        """Fill ``out`` (n, n_beads, 3), of the stored type or float32, with a range of frames.

        Raises:
            IntegrityError: The store is damaged.
        """
        reader = self._reader(name)
        if reader is None or out.dtype != self.dtype:
            self.decode_into(name, self.read(name, start, stop), out)
        else:
            reader.read_into(start, stop, out)

    def decode_into(
        self, name: str, values: np.ndarray[Any, Any], out: np.ndarray[Any, Any]
    ) -> None:
        """Copy stored numbers into ``out``, as they are or, into float32, times their scale."""
        if values.dtype == out.dtype:
            np.copyto(out, values)
        else:
            np.multiply(values, np.float32(self.scale(name)), out=out, dtype=np.float32)

    def _reader(self, name: str) -> ChunkReader | None:
        if name not in self._chunks:
            path = self.store.path
            local = path if self.direct and isinstance(path, Path) else None
            reader = None if local is None else ChunkReader.open(local / name)
            expected = (self.store.n_frames, self.store.n_beads, 3)
            if reader and (reader.shape, reader.layout.dtype) != (expected, self.dtype):
                reader = None
            self._chunks[name] = reader
        return self._chunks[name]
