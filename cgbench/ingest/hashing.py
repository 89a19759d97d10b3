"""Hashing raw files while a store is made from them, close behind the writer.

The bytes that the writer has just read are still in memory, so that nothing is read from disk
twice, and hashing runs beside the writing (:class:`cgbench.store.sources.RawFiles`).
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from cgbench.errors import IntegrityError
from cgbench.progress import Progress
from cgbench.store.schema import SourceFile
from cgbench.store.shard_file import forget

#: Files that are hashed at a time.
_FILES_AT_ONCE: Final = 8
_BLOCK: Final = 1024 * 1024

#: Waits until a fraction of the frames is written; given to what yields the bytes.
Wait = Callable[[float], None]


class RawFile(Protocol):
    """One raw file: what is known of it before it is read, and its bytes."""

    @property
    def name(self) -> str:
        """Name without folders."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def stamp(self) -> Mapping[str, Any]:
        """Return what changes when the file does (time of change, ETag), as plain data."""

    def content(self, store: Path, wait: Wait) -> Iterator[bytes]:
        """Yield all bytes, waiting until the frames that they hold are in the unfinished store."""


class LocalFile:
    """A file on this machine.

    Args:
        path: The file.
        frames: First and last fraction of the frames that it holds.
    """

    def __init__(self, path: Path, frames: tuple[float, float] = (0.0, 1.0)) -> None:
        self.path = path
        self.name = path.name
        self.size = path.stat().st_size
        self._frames = frames

    def stamp(self) -> Mapping[str, Any]:
        """Return size and time of the last change, as they are now."""
        status = self.path.stat()
        return {"size": status.st_size, "changed": status.st_mtime_ns}

    def content(self, store: Path, wait: Wait) -> Iterator[bytes]:
        """Yield all bytes, as far as frames are written."""
        first, last = self._frames
        done = 0
        with self.path.open("rb", buffering=0) as handle:
            while True:
                wait(first + (last - first) * min(1.0, (done + _BLOCK) / max(self.size, 1)))
                block = handle.read(_BLOCK)
                if not block:
                    return
                done += len(block)
                yield block
                # The writer has read this far already.
                forget(handle.fileno(), 0, done)


class _StoppedError(Exception):
    """The writer failed, and nobody waits for the hashes."""


class HashedWhileWriting:
    """Raw files that are hashed in threads as far as the store has been written.

    Args:
        files: Files by their role (``coordinates``, ``forces/<map>``, …), in the order in which
            the store names them. Several files of one role are told apart by their names.
    """

    def __init__(self, files: Sequence[tuple[str, RawFile]] | Mapping[str, RawFile]) -> None:
        self._files = list(files.items() if isinstance(files, Mapping) else files)
        self._stamps = [dict(file.stamp()) for _, file in self._files]
        self._condition = threading.Condition()
        self._fraction = 0.0
        self._stopped = False
        self._pool: ThreadPoolExecutor | None = None
        self._digests: list[Future[str]] = []

    @classmethod
    def of_paths(
        cls, files: Mapping[str, Path], frames: Mapping[str, tuple[float, float]] | None = None
    ) -> "HashedWhileWriting":
        """Return files of this machine by their role.

        Args:
            files: Paths by role.
            frames: First and last fraction of the frames that a file holds, where it is not all:
                hundreds of trajectories are then hashed one after the other, as they are read.
        """
        spans = frames or {}
        return cls(
            {role: LocalFile(path, spans.get(role, (0.0, 1.0))) for role, path in files.items()}
        )

    def identity(self) -> list[Mapping[str, Any]]:
        """Return role, name, size and stamp of each file, as they were at the beginning."""
        return [
            {"role": role, "name": file.name, "size": file.size, "stamp": stamp}
            for (role, file), stamp in zip(self._files, self._stamps, strict=True)
        ]

    def written(self, store: Path, fraction: float) -> None:
        """Let hashing go on to a fraction of the frames; the first call starts it."""
        with self._condition:
            self._fraction = max(self._fraction, fraction)
            self._condition.notify_all()
        if self._pool is None and self._files:
            self._pool = ThreadPoolExecutor(min(_FILES_AT_ONCE, len(self._files)))
            self._digests = [self._pool.submit(self._hash, file, store) for _, file in self._files]

    def hashed(self, store: Path, progress: Progress) -> tuple[SourceFile, ...]:
        """Return every file with its hash, when all frames are written.

        Raises:
            IntegrityError: A file has changed since the beginning.
        """
        self.written(store, 1.0)
        found = []
        for done, ((role, file), digest) in enumerate(zip(self._files, self._digests, strict=True)):
            progress("hash raw files", done, len(self._files))
            sha256 = digest.result()
            if dict(file.stamp()) != self._stamps[done]:
                raise IntegrityError(
                    f"{file.name}: changed while the store was made from it",
                    expected=self._stamps[done],
                    found=dict(file.stamp()),
                    fix="make the store again when the file no longer changes",
                )
            found.append(SourceFile(role=role, name=file.name, sha256=sha256, size=file.size))
        progress("hash raw files", len(self._files), len(self._files))
        return tuple(found)

    def close(self) -> None:
        """Stop hashing and end the threads."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _hash(self, file: RawFile, store: Path) -> str:
        digest = hashlib.sha256()
        for block in file.content(store, self._wait):
            digest.update(block)
        return digest.hexdigest()

    def _wait(self, fraction: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopped or self._fraction >= fraction)
            if self._stopped:
                raise _StoppedError
