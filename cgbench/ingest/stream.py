"""Arrays that stay on their server as a source of frames: byte ranges instead of raw files."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from cgbench.errors import IntegrityError, ValidationError
from cgbench.fetch import RangeReader, Settings
from cgbench.ingest.hashing import Wait
from cgbench.ingest.npy import HEAD_BYTES, check_frames, parse_header, read_frames
from cgbench.ingest.screening import screened_block
from cgbench.store import FloatArray, FrameBlock, IntArray, Layout
from cgbench.store.arrays import open_array

#: Chunks of the store that are asked for at once: ranges of about 8 MiB.
_CHUNKS_AT_ONCE: Final = 8
#: Windows that are kept at most; those that are read in order are let go as soon as they are.
_WINDOWS: Final = 16
_BLOCK: Final = 8 * 1024 * 1024
_LARGEST_LIST: Final = 64 * 1024 * 1024


class RemoteArray:
    """An ``.npy`` file on a server, checked by its header; picklable.

    Args:
        urls: Its addresses, tried in order.
        name: Its file name.
        role: What it is in the store: ``coordinates``, ``forces/<map>`` or ``bead_types``.
        settings: How to fetch.

    Raises:
        IntegrityError: No address has it, ranges are not served, or it is no ``.npy`` file, of
            another size than its header says, or holds pickled objects.
    """

    def __init__(
        self, urls: Sequence[str], name: str, role: str, settings: Settings | None = None
    ) -> None:
        self.reader = RangeReader(urls, settings or Settings())
        self.name = name
        self.role = role
        self.size = self.reader.size
        head = self.reader.read(0, min(HEAD_BYTES, self.size))
        self.header = parse_header(head, self.size, self.reader.url)

    def stamp(self) -> Mapping[str, Any]:
        """Return what changes when the file does: its entity tag or date, else its size."""
        return {"size": self.size, "identity": self.reader.identity}

    def read(self, start: int, stop: int) -> FloatArray:
        """Return frames of a half-open range as (n, n_beads, 3) float32."""
        return read_frames(self.header, start, stop, self.reader.read)

    def content(self, store: Path, wait: Wait) -> Iterator[bytes]:
        """Yield all bytes of the file.

        Numbers of four bytes in C order are in the store as they are, and are taken from there as
        it grows; others are read again from the server.
        """
        array = self._stored(store)
        if array is None:
            for start in range(0, self.size, _BLOCK):
                yield self.reader.read(start, min(start + _BLOCK, self.size))
            return
        yield self.reader.read(0, self.header.offset)
        n_frames, n_beads = self.header.shape[:2]
        layout = Layout.standard(n_frames, n_beads)
        for shard_start, shard_stop in layout.shard_ranges(n_frames):
            wait(shard_stop / n_frames)
            for start in range(shard_start, shard_stop, layout.chunk):
                values = np.asarray(array[start : min(start + layout.chunk, shard_stop)])
                yield values.astype(self.header.dtype, copy=False).tobytes()

    def _stored(self, store: Path) -> Any:
        """Return the store's array where it holds every bit of this file, else None."""
        if (
            self.header.dtype.itemsize != 4
            or self.header.fortran_order
            or self.role == "bead_types"
        ):
            return None
        array = open_array(store / self.role)
        return array if array.dtype == np.float32 else None


class RangeSource:
    """An ``.npy`` set on a server as a source of frames, screened as it is read.

    Frames are fetched in windows of about 8 MiB an array, all arrays of a window at once and the
    next window ahead of time, but never beyond the shard of the store that is being written, so
    that nothing is fetched for shards that are finished. Picklable, and safe in threads.

    Args:
        coordinates: File of coordinates (n_frames, n_beads, 3), Å.
        forces: Per force map a file of the same shape, kcal/mol/Å.
        bead_types: File of bead types (n_beads,) of the published vocabulary.
        connections: Ranges fetched at once.

    Raises:
        ValidationError: Shapes or types are wrong or disagree.
    """

    def __init__(
        self,
        coordinates: RemoteArray,
        forces: Mapping[str, RemoteArray],
        bead_types: RemoteArray,
        connections: int = 4,
    ) -> None:
        check_frames(coordinates.header, "coordinates", coordinates.reader.url)
        shape = coordinates.header.shape
        for file in forces.values():
            check_frames(file.header, "forces", file.reader.url)
            if file.header.shape != shape:
                raise ValidationError(
                    f"{file.reader.url}: forces and coordinates have different shapes",
                    expected=f"{shape} as in {coordinates.name}",
                    found=file.header.shape,
                )
        self._coordinates = coordinates
        self._forces = dict(forces)
        self._bead_types = _read_types(bead_types, int(shape[1]))
        self._connections = connections
        layout = Layout.standard(self.n_frames, self.n_beads)
        self._shard = layout.shard
        self._window = min(_CHUNKS_AT_ONCE * layout.chunk, layout.shard)
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._windows: OrderedDict[int, dict[str, Future[FloatArray]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_lock", "_pool", "_windows"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self._coordinates.header.shape[0]

    @property
    def n_beads(self) -> int:
        """Number of beads of each frame."""
        return self._coordinates.header.shape[1]

    @property
    def force_maps(self) -> tuple[str, ...]:
        """Names of the force maps."""
        return tuple(self._forces)

    @property
    def bead_types(self) -> IntArray:
        """Bead types (n_beads,) in the published vocabulary."""
        return self._bead_types

    @property
    def trajectory_lengths(self) -> None:
        """Trajectories are not known: the published arrays come without an index."""
        return

    def read(self, start: int, stop: int) -> FrameBlock:
        """Return the frames of a half-open range as float32, screened.

        Raises:
            IntegrityError: A file has changed on the server, or cannot be read.
        """
        pieces: dict[str, list[FloatArray]] = {}
        for window in range(start // self._window, -(-stop // self._window)):
            first = window * self._window
            last = min(first + self._window, self.n_frames)
            values = self._fetched(window)
            inside = slice(max(start, first) - first, min(stop, last) - first)
            for role, array in values.items():
                pieces.setdefault(role, []).append(array[inside])
            if stop >= last:
                with self._lock:
                    self._windows.pop(window, None)
        arrays = {
            role: parts[0] if len(parts) == 1 else np.concatenate(parts)
            for role, parts in pieces.items()
        }
        coordinates = arrays.pop("coordinates")
        return screened_block(coordinates, arrays)

    def close(self) -> None:
        """End the threads; the next reading starts new ones."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            self._windows.clear()

    def _fetched(self, window: int) -> dict[str, FloatArray]:
        following = (window + 1) * self._window
        with self._lock:
            futures = self._asked(window)
            if following < self.n_frames and following % self._shard:
                self._asked(window + 1)
            self._windows.move_to_end(window)
            while len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
        return {name: future.result() for name, future in futures.items()}

    def _asked(self, window: int) -> dict[str, Future[FloatArray]]:
        """Return what will be the arrays of a window, asking for it if need be."""
        if window not in self._windows:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self._connections * (1 + len(self._forces)), "cgbench-stream"
                )
            start = window * self._window
            stop = min(start + self._window, self.n_frames)
            files = {"coordinates": self._coordinates, **self._forces}
            self._windows[window] = {
                name: self._pool.submit(file.read, start, stop) for name, file in files.items()
            }
        return self._windows[window]


def _read_types(file: RemoteArray, n_beads: int) -> IntArray:
    header = file.header
    if header.dtype.kind not in "iu" or header.shape != (n_beads,) or file.size > _LARGEST_LIST:
        raise ValidationError(
            f"{file.reader.url}: bead types",
            expected=f"{n_beads} integers",
            found=f"{header.dtype} of shape {header.shape}",
        )
    data = file.reader.read(header.offset, file.size)
    return np.frombuffer(data, dtype=header.dtype).astype(np.int64)


def check_unchanged(known: Mapping[str, Any], files: Sequence[RemoteArray], out: Path) -> None:
    """Check that files are those from which a store was begun.

    Args:
        known: Size and identity of each file, by role, as they were then.
        files: The files as they are now.
        out: The store.

    Raises:
        IntegrityError: One has changed.
    """
    for file in files:
        before, now = known.get(file.role), dict(file.stamp())
        if before is not None and before != now:
            raise IntegrityError(
                f"{file.reader.url}: changed on the server since {out.name} was begun",
                expected=", ".join(f"{name} {value}" for name, value in before.items()),
                found=", ".join(f"{name} {value}" for name, value in now.items()),
                fix=f"remove {out}, {out.name}.partial and {out.name}.stream.json beside it, and "
                "begin again",
            )
