"""The read-only zarr store over a remote folder, for zarr and xarray."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import NoReturn, Protocol

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from cgbench.errors import UsageError
from cgbench.store.arrays import ZARR_METADATA
from cgbench.store.manifest import Manifest


class RemoteFiles(Protocol):
    """What the zarr store needs of a remote folder."""

    @property
    def url(self) -> str:
        """Address of the folder."""

    @property
    def manifest(self) -> Manifest:
        """The manifest."""

    def metadata(self, name: str) -> bytes | None:
        """Return a ``zarr.json``, or None where the store has none of this name."""

    def read(self, file: str, start: int, stop: int) -> bytes:
        """Return bytes of a shard."""


class RemoteZarr(Store):
    """Keys are the files that the manifest names; one that cannot be read is an error.

    zarr reads fill values where a store returns nothing, so that is kept for files that no store
    has.

    Args:
        files: The remote folder.
    """

    def __init__(self, files: RemoteFiles) -> None:
        super().__init__(read_only=True)
        self._is_open = True
        self.files = files
        self._sizes = {shard.file: shard.size for shard in files.manifest.shards}

    def __eq__(self, value: object) -> bool:
        return isinstance(value, RemoteZarr) and value.files is self.files

    def __hash__(self) -> int:
        return id(self.files)

    def __repr__(self) -> str:
        return f"RemoteZarr({self.files.url})"

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a file or a part of it."""
        content: bytes | None
        if key.rpartition("/")[2] == ZARR_METADATA:
            content = await asyncio.to_thread(self.files.metadata, key)
            if content is not None:
                start, stop = _range(byte_range, len(content))
                content = content[start:stop]
        elif key in self._sizes:
            start, stop = _range(byte_range, self._sizes[key])
            content = await asyncio.to_thread(self.files.read, key, start, stop)
        else:
            content = None
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of files."""
        return await asyncio.gather(
            *(self.get(key, prototype, byte_range) for key, byte_range in key_ranges)
        )

    async def exists(self, key: str) -> bool:
        """Return whether the manifest names a file."""
        return key in self._sizes or key in self.files.manifest.files

    @property
    def supports_writes(self) -> bool:
        """Never."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Never."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Always: the manifest names everything."""
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse."""
        self._refuse(key)

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse(key)

    def _refuse(self, key: str) -> NoReturn:
        raise UsageError(f"{self.files.url}/{key}: remote stores are read only")

    async def list(self) -> AsyncIterator[str]:
        """Yield all files."""
        for key in (*self.files.manifest.files, *self._sizes):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the files whose names begin so."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield what is directly in a folder."""
        start = prefix.rstrip("/") + "/" if prefix else ""
        found = set()
        async for key in self.list():
            if key.startswith(start):
                found.add(key[len(start) :].partition("/")[0])
        for name in sorted(found):
            yield name


def _range(request: ByteRequest | None, size: int) -> tuple[int, int]:
    if isinstance(request, RangeByteRequest):
        return request.start, request.end
    if isinstance(request, OffsetByteRequest):
        return request.offset, size
    if isinstance(request, SuffixByteRequest):
        return max(0, size - request.suffix), size
    return 0, size
