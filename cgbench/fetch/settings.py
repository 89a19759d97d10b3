"""What is to be fetched, how, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from cgbench.config import Frozen

MEBIBYTE: Final = 1024**2

#: ``registry``: the registry states the hash; ``lock``: it is that of the first download;
#: ``first download``: nothing was known to compare with.
Pinned = Literal["registry", "lock", "first download"]


class Settings(Frozen):
    """How files are fetched; the defaults suit one busy server.

    Attributes:
        jobs: Files fetched at once.
        connections: Connections of one file at once.
        attempts: Attempts in a row that bring nothing before an address is given up.
        connect_timeout: Seconds until a connection counts as refused.
        stall_seconds: Length of the window in which ``stall_bytes`` have to arrive.
        stall_bytes: Fewer bytes in a window count as a stalled connection, and fewer bytes of an
            attempt as an attempt that brought nothing.
        backoff: Seconds before the second attempt, doubled with each further one.
        backoff_limit: Seconds between attempts at most, unless the server names a longer time.
        retry_after_limit: Seconds that a server may ask to wait; if it asks for more, it is given
            up.
        chunk_bytes: Bytes of a connection that are at most not recorded as being on disk.
        commit_seconds: Seconds after which they are recorded, however few they are.
        reserve_bytes: Disk space that is left free.
        verify: Whether files that are there are hashed again rather than trusted by size and
            modification time.
        force: Whether files are fetched although they are there, and count as first downloads;
            the old file stays until the new one is whole.
        seed: Seed of the jitter of waiting times; None takes one from the system.
    """

    jobs: int = Field(default=3, ge=1, le=64)
    connections: int = Field(default=4, ge=1, le=64)
    attempts: int = Field(default=6, ge=1)
    connect_timeout: float = Field(default=20.0, gt=0)
    stall_seconds: float = Field(default=30.0, gt=0)
    stall_bytes: int = Field(default=8192, ge=1)
    backoff: float = Field(default=1.0, ge=0)
    backoff_limit: float = Field(default=60.0, ge=0)
    retry_after_limit: float = Field(default=600.0, ge=0)
    chunk_bytes: int = Field(default=16 * MEBIBYTE, ge=1)
    commit_seconds: float = Field(default=2.0, gt=0)
    reserve_bytes: int = Field(default=64 * MEBIBYTE, ge=0)
    verify: bool = False
    force: bool = False
    seed: int | None = Field(default=None, ge=0)


@dataclass(frozen=True)
class Request:
    """One file to fetch.

    Attributes:
        key: Its path below the data home, with ``/``; its name in progress and the lock file.
        urls: Addresses in the order in which they are tried: ``http``, ``https`` or ``file``.
        target: Where it goes.
        size: Bytes, if known.
        sha256: Hexadecimal hash, if the registry states one.
        check_head: Called with the first bytes (at most 64 KiB) and the announced size before
            the rest is fetched; it raises to refuse the file.
    """

    key: str
    urls: tuple[str, ...]
    target: Path
    size: int | None = None
    sha256: str | None = None
    check_head: Callable[[bytes, int | None], None] | None = None


@dataclass(frozen=True)
class Fetched:
    """A file that is there, whole and verified.

    Attributes:
        key: As in the request.
        path: Where it is.
        size: Bytes.
        sha256: Hexadecimal hash of the whole file.
        pinned: What the hash was compared with.
        url: Where it came from.
        seconds: Time that this call took.
        transferred: Bytes of it that came over the wire in this call.
    """

    key: str
    path: Path
    size: int
    sha256: str
    pinned: Pinned
    url: str
    seconds: float
    transferred: int
