"""The lock file of hashes, and the locks that keep processes out of each other's way."""

import asyncio
import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from cgbench.config import Frozen, canonical_json, read_model, write_atomic
from cgbench.errors import IntegrityError, ValidationError

LOCK_NAME: Final = "downloads.lock.json"
_POLL_SECONDS: Final = 0.2


class LockEntry(Frozen):
    """What is known of a file since it was first fetched.

    Attributes:
        url: Where it came from.
        size: Bytes.
        sha256: Hexadecimal hash of the whole file.
        etag: The server's name of that content, if it gave one.
        last_modified: The server's date of that content, if it gave one.
        first_seen: When it was first fetched, in UTC.
        mtime_ns: Modification time of the local file when it was last hashed.
    """

    url: str
    size: int
    sha256: str
    etag: str | None = None
    last_modified: str | None = None
    first_seen: str
    mtime_ns: int


class _LockFile(Frozen):
    format: Literal["cgbench-downloads-lock"] = "cgbench-downloads-lock"
    version: Literal[1] = 1
    files: dict[str, LockEntry]


class DownloadLock:
    """Hashes of everything fetched into a data home, in ``<home>/downloads.lock.json``.

    Args:
        home: The data home.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / LOCK_NAME

    def entries(self) -> dict[str, LockEntry]:
        """Return all entries by key.

        Raises:
            IntegrityError: The file cannot be read as one of these.
        """
        if not self.path.exists():
            return {}
        try:
            return read_model(_LockFile, self.path).files
        except (ValidationError, IntegrityError) as error:
            raise IntegrityError(
                f"{self.path}: damaged",
                found=error.found,
                fix="mend or remove it; files are then hashed anew, as on a first download",
            ) from error

    def get(self, key: str) -> LockEntry | None:
        """Return the entry of a file, if there is one."""
        return self.entries().get(key)

    def record(self, key: str, entry: LockEntry) -> None:
        """Set the entry of a file, atomically, also against other processes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            files = {**self.entries(), key: entry}
            content = json.loads(canonical_json(_LockFile(files=files)))
            write_atomic(self.path, json.dumps(content, sort_keys=True, indent=1) + "\n")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # The file itself is replaced, so a lock on it would guard a file that is gone.
        guard = self.path.with_name(f".{LOCK_NAME}.guard")
        descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _Owner(Frozen):
    """Who holds a lock, as its file says."""

    process: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


def lock_path(target: Path) -> Path:
    """Return the file that is locked while a target is made."""
    return target.with_name(f"{target.name}.lock")


@contextlib.asynccontextmanager
async def hold(target: Path, waiting: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold the lock of a target, ``<target>.lock``; wait for as long as another holds it.

    The operating system releases it when the process ends, however it ends.

    Args:
        target: The file to be made.
        waiting: Called again and again while another holds the lock, with who that is.
    """
    path = lock_path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    while (descriptor := _try_lock(path)) is None:
        waiting(_owner(path))
        await asyncio.sleep(_POLL_SECONDS)
    try:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        owner = _Owner(process=os.getpid(), host=socket.gethostname(), since=now)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, owner.model_dump_json().encode(), 0)
        yield
    finally:
        # Removed while it is held: whoever opened it meanwhile notices that it is gone.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.ENOENT):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _owner(path: Path) -> str:
    try:
        return str(_Owner.model_validate_json(path.read_bytes()))
    except (OSError, ValueError):
        return "another process"
