"""Copies of a remote store's files on this machine: whole, verified, shared by processes."""

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pydantic

from cgbench.config import Frozen, file_sha256
from cgbench.errors import IntegrityError, UsageError
from cgbench.store.arrays import ZARR_METADATA

#: Shards of all stores in a cache. Whatever else is in its folder is nobody's to remove.
_SHARDS: Final = f"{'[0-9a-f]' * 64}/{'[0-9a-f]' * 16}/**/c/**/*"
#: Files are fetched under one of so many locks, chosen by name.
LOCKS: Final = 64
#: A temporary file as old as this, in seconds, was left behind by a process that was killed.
ABANDONED: Final = 24 * 3600.0


class Cache(Frozen):
    """Where copies of remote files are kept, and how many.

    Attributes:
        folder: Folder of the cache; several stores and processes may share it.
        max_bytes: The least recently used shards are removed above this size; None keeps all.
    """

    folder: Path
    max_bytes: int | None = pydantic.Field(default=None, gt=0)


class CachedFiles:
    """The copies of one store's files, in ``<cache>/<fingerprint>/<manifest>/``.

    The last folder is named after the manifest's hash: copies of a store that were compressed
    differently share a fingerprint, and not their files.

    Args:
        cache: The cache.
        fingerprint: The store's fingerprint.
        manifest: Text of its manifest.
    """

    def __init__(self, cache: Cache, fingerprint: str, manifest: str) -> None:
        self._cache = cache
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        self.folder = cache.folder / fingerprint.removeprefix("sha256:") / digest[:16]
        # Files whose hash this process has checked, with the identity they had then.
        self._sound: dict[str, tuple[int, int]] = {}

    def get(self, file: str, size: int, sha256: str, fetch: Callable[[BinaryIO], None]) -> Path:
        """Return the copy of a file, fetched if it is not there or not what it should be.

        Args:
            file: Name of the file within the store.
            size: Its size in bytes.
            sha256: Its hexadecimal sha256.
            fetch: Writes the file from the server.

        Raises:
            IntegrityError: The server's file is not what the manifest says.
            UsageError: The cache cannot be written, or is too small for the file.
        """
        path = self.folder / file
        while True:
            try:
                if not self._is_sound(path, file):
                    with _locked(self._lock(str(_stripe(path)))):
                        if not _is_intact(path, size, sha256):
                            if path.name != ZARR_METADATA:
                                self._make_room(size, path)
                            _download(path, size, sha256, fetch)
                        self._sound[file] = _identity(path)
                os.utime(path)
            except FileNotFoundError:
                # Removed by another process to make room, between two of these lines.
                continue
            except OSError as error:
                raise UsageError(
                    f"{path}: the cache cannot be used",
                    found=error,
                    fix="free space, or give another cache",
                ) from error
            return path

    def doubt(self, file: str) -> None:
        """Check a file's hash again before it is used the next time."""
        self._sound.pop(file, None)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep files from being removed to make room, as long as the context lasts."""
        if self._cache.max_bytes is None:
            yield
        else:
            with _locked(self._lock("reading"), shared=True):
                yield

    def _lock(self, name: str) -> Path:
        return self._cache.folder / ".locks" / name

    def _is_sound(self, path: Path, file: str) -> bool:
        return file in self._sound and path.is_file() and self._sound[file] == _identity(path)

    def _make_room(self, size: int, wanted: Path) -> None:
        """Remove the least recently used shards until another fits.

        Metadata are not counted: they are read while shards are held.
        """
        limit = self._cache.max_bytes
        if limit is None:
            return
        if size > limit:
            raise UsageError(
                f"{self._cache.folder}: the cache is too small",
                expected=f"at least {size} bytes for {wanted.name} of {self.folder}",
                found=f"at most {limit}",
            )
        with _locked(self._lock("reading")):
            files = []
            for path in self._cache.folder.glob(_SHARDS):
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    if not path.is_dir() or path.is_symlink():
                        files.append((status.st_mtime_ns, status.st_size, path))
            left = sum(length for _, length, _ in files)
            for modified, length, path in sorted(files):
                fresh = time.time() - modified / 1e9 < ABANDONED
                if path.suffix == ".partial" and fresh:
                    continue
                if left + size <= limit and path.suffix != ".partial":
                    break
                path.unlink(missing_ok=True)
                left -= length


def _is_intact(path: Path, size: int, sha256: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == size and file_sha256(path) == sha256


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_size


def _stripe(path: Path) -> int:
    return int.from_bytes(hashlib.sha256(str(path).encode()).digest()[:4], "big") % LOCKS


def _download(path: Path, size: int, sha256: str, fetch: Callable[[BinaryIO], None]) -> None:
    """Fetch a file beside its place, check it, and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for entry in path.parent.glob(".*.partial"):
        if time.time() - entry.stat().st_mtime > ABANDONED:
            entry.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as handle:
            fetch(handle)
            handle.flush()
            os.fsync(handle.fileno())
        found = file_sha256(temporary)
        if found != sha256:
            raise IntegrityError(
                f"{path.name} of {path.parent}: the server's file is not what the manifest says",
                expected=f"{size} bytes, sha256 {sha256}",
                found=f"{temporary.stat().st_size} bytes, sha256 {found}",
                fix="the copy on the server is damaged, or was changed: tell its owner",
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock among processes and threads; none on Windows, where it only saves traffic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
