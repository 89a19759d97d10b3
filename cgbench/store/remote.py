"""A store on a server, seen as a folder: its manifest first, then parts of files by byte ranges.

Nothing that a server says is trusted beyond its manifest, and the manifest only as far as its
numbers are sane: file names stay below the store, metadata are checked before zarr sees them, and
a file that is missing is an error, where zarr would read fill values.
"""

import contextlib
import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from cgbench.config import MAX_TEXT_BYTES, validate
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store.arrays import ZARR_METADATA, Pipeline, open_array
from cgbench.store.cache import Cache, CachedFiles
from cgbench.store.manifest import Manifest, ShardRecord, parse_manifest
from cgbench.store.remote_zarr import RemoteZarr
from cgbench.store.schema import BEAD_TYPE_SPEC, MANIFEST_NAME
from cgbench.store.transport import S3Transport, Transport, check_url
from cgbench.store.untrusted import MAX_CHUNK_BYTES, check_array_metadata

#: Metadata of an array are a kilobyte, those of the group some more with all of them.
MAX_METADATA_BYTES: Final = 8 * 1024**2
#: The whole of an array; only some chunks of it are read at a time.
MAX_REMOTE_BYTES: Final = 2**44
#: Ends of shards up to this size are kept: they hold the index, needed for every chunk.
MAX_INDEX_BYTES: Final = 64 * 1024
KEPT_INDICES: Final = 4096

_NAME: Final = re.compile(r"(?!\.\.?(/|$))[A-Za-z0-9_.-]+(/(?!\.\.?(/|$))[A-Za-z0-9_.-]+)*")


def is_url(name: object) -> bool:
    """Return whether a name is an address."""
    return isinstance(name, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name) is not None


class RemoteFolder:
    """The folder of a store on a server. It can be sent to workers, and shared by threads.

    Args:
        url: ``https://``, ``http://`` or ``s3://`` address of the store's folder.
        storage_options: For http the fields of ``HttpOptions``, for S3 the arguments of
            ``s3fs.S3FileSystem``. They are kept for workers, and never shown.
        cache: Where to keep whole files; None reads byte ranges and keeps nothing.

    Raises:
        UsageError: Not an address, no access, no answer, or s3fs is not installed.
        IntegrityError: There is no store there, or its manifest is damaged.
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.url = check_url(url)
        self._options = dict(storage_options or {})
        self._connection = self._connect()
        self._state = self._transport.state(MANIFEST_NAME)
        self.manifest_text = self._read_manifest()
        self.manifest = parse_manifest(self.manifest_text, self / MANIFEST_NAME)
        _check_names(self.manifest, self / MANIFEST_NAME)
        self._shards = {shard.file: shard for shard in self.manifest.shards}
        self._arrays: dict[str, list[ShardRecord]] = {}
        for shard in self.manifest.shards:
            self._arrays.setdefault(shard.array, []).append(shard)
        self._cached = None
        if cache is not None:
            self._cached = CachedFiles(cache, self.manifest.fingerprint, self.manifest_text)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemoteFolder({self.url})"

    def __truediv__(self, name: str) -> str:
        return f"{self.url}/{name}"

    def __getstate__(self) -> dict[str, Any]:
        # Connections belong to this process.
        return self.__dict__ | {"_connection": None}

    @property
    def _transport(self) -> Transport:
        return self._here().transport

    def _connect(self) -> "_Connection":
        if self.url.startswith("s3://"):
            return _Connection(S3Transport(self.url, self._options))
        # Local stores do without a web client.
        from cgbench.store.http_transport import HttpOptions, HttpTransport

        try:
            options = validate(HttpOptions, self._options, f"storage options of {self.url}")
        except ValidationError as error:
            raise UsageError(error.what, found=error.found) from None
        return _Connection(HttpTransport(self.url, options))

    def _here(self) -> "_Connection":
        """Return what this process uses, also after a fork or in a worker."""
        if self._connection is None or self._connection.process != os.getpid():
            self._connection = self._connect()
        return self._connection

    def _read_manifest(self) -> str:
        size = self._state.size
        if not 0 < size <= MAX_TEXT_BYTES:
            raise IntegrityError(
                f"{self / MANIFEST_NAME}: no manifest of a store",
                expected=f"at most {MAX_TEXT_BYTES} bytes",
                found=size,
            )
        content = self._transport.read(MANIFEST_NAME, 0, size, size)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{self / MANIFEST_NAME}: damaged", found=error) from error

    def open_array(self, name: str, pipeline: Pipeline) -> Any:
        """Return an array, of the cache's copies where there is a cache.

        Reading from it is safe within ``ready`` of the frames in question.
        """
        if self._cached is None:
            return open_array(self.zarr_store(), name=name)
        self.metadata(f"{name}/{ZARR_METADATA}")
        return open_array(self._cached.folder / name, pipeline=pipeline)

    def zarr_store(self) -> RemoteZarr:
        """Return a read-only zarr store of the same files, for ``xarray.open_zarr``."""
        return RemoteZarr(self)

    def shards(self, name: str, start: int, stop: int) -> list[ShardRecord]:
        """Return the shards of an array that hold a range of it, in order."""
        return [
            shard
            for shard in self._arrays.get(name, ())
            if shard.start < stop and shard.stop > start
        ]

    @contextlib.contextmanager
    def ready(self, shard: ShardRecord) -> Iterator[None]:
        """Hold the file of a shard in the cache as long as the context lasts."""
        if self._cached is None:
            yield
            return
        # Nothing is fetched while the file is held: who makes room waits for those who hold.
        self.metadata(f"{shard.array}/{ZARR_METADATA}")
        while True:
            path = self._copy(shard.file)
            with self._cached.reading():
                if path.is_file():
                    yield
                    return

    @property
    def is_cached(self) -> bool:
        """Whether whole files are kept on this machine."""
        return self._cached is not None

    def doubt(self, shard: ShardRecord) -> None:
        """Have the cache check a file again before it is used the next time."""
        if self._cached is not None:
            self._cached.doubt(shard.file)

    def metadata(self, name: str) -> bytes | None:
        """Return a ``zarr.json`` that was checked, or None where the store has none of this name.

        Consolidated metadata are left out: each array's own are checked.

        Raises:
            IntegrityError: It is not what the manifest says, or could do harm.
            ValidationError: It describes another array than the manifest.
        """
        record = self.manifest.files.get(name)
        if record is None:
            return None
        kept = self._here().metadata
        if name not in kept:
            if self._cached is None:
                content = self._transport.read(name, 0, record.size, record.size)
            else:
                content = self._copy(name).read_bytes()
            found = hashlib.sha256(content).hexdigest()
            if found != record.sha256:
                raise IntegrityError(
                    f"{self / name}: not what the manifest says",
                    expected=f"sha256 {record.sha256}",
                    found=f"sha256 {found}",
                )
            kept[name] = self._checked(name, content)
        return kept[name]

    def read(self, file: str, start: int, stop: int) -> bytes:
        """Return bytes of a shard.

        Raises:
            IntegrityError: The file is missing, has another size, or the store on the server is
                not the one that was opened.
            UsageError: The server refuses access or does not answer.
        """
        size = self._shards[file].size
        if not 0 <= start <= stop <= size:
            raise IntegrityError(f"{self / file}: shorter than its index says", found=size)
        if self._cached is not None:
            return self._read_copy(file, start, stop)
        here = self._here()
        if stop == size and (index := here.index(file, stop - start)) is not None:
            return index
        if file not in here.touched:
            # Another store in the same place has another manifest; its shards may have the same
            # sizes.
            self.check_unchanged()
            here.touched.add(file)
        content = self._transport.read(file, start, stop, size) if stop > start else b""
        if stop == size and len(content) <= MAX_INDEX_BYTES:
            here.keep(file, content)
        return content

    def fetch(self, file: str, target: BinaryIO) -> None:
        """Write a whole file from the server, unchecked, to an empty local one."""
        record = self._shards.get(file) or self.manifest.files[file]
        self._transport.fetch(file, record.size, target)

    def check_unchanged(self) -> None:
        """Check that the server still has the manifest that was opened.

        Raises:
            IntegrityError: It has another one.
        """
        found = self._transport.state(MANIFEST_NAME)
        if found != self._state:
            raise IntegrityError(
                f"{self.url}: the store on the server has changed since it was opened",
                expected=f"{self._state.size} bytes, {self._state.identity}",
                found=f"{found.size} bytes, {found.identity}",
                fix="open it again",
            )

    def _copy(self, file: str) -> Path:
        assert self._cached is not None  # noqa: S101
        shard = self._shards.get(file)
        if shard is not None:
            size, sha256 = shard.size, shard.file_sha256
        else:
            size, sha256 = self.manifest.files[file].size, self.manifest.files[file].sha256
        return self._cached.get(file, size, sha256, lambda target: self.fetch(file, target))

    def _read_copy(self, file: str, start: int, stop: int) -> bytes:
        while True:
            with contextlib.suppress(FileNotFoundError), self._copy(file).open("rb") as handle:
                handle.seek(start)
                return handle.read(stop - start)

    def _checked(self, name: str, content: bytes) -> bytes:
        place = self / name
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"{place}: damaged", found=error) from error
        kind = data.get("node_type") if isinstance(data, dict) else None
        if kind not in ("group", "array") or data.get("zarr_format") != 3:
            raise IntegrityError(f"{place}: not metadata of zarr v3")
        data.pop("consolidated_metadata", None)
        if kind == "array":
            array = PurePosixPath(name).parent.as_posix()
            record = next((item for item in self.manifest.arrays if item.name == array), None)
            if record is None:
                raise IntegrityError(f"{place}: an array that the manifest does not name")
            found = check_array_metadata(
                data, place, (record.dtype,), len(record.shape), MAX_REMOTE_BYTES
            )
            if found.shape != record.shape:
                raise ValidationError(
                    f"{place}: wrong shape", expected=record.shape, found=found.shape
                )
            # In another grid zarr would look for shards that the manifest does not name.
            rows = record.shape[0] if array == BEAD_TYPE_SPEC.name else self.manifest.layout.shard
            if found.chunk != (rows, *record.shape[1:]):
                raise IntegrityError(
                    f"{place}: other shards than the manifest says",
                    expected=(rows, *record.shape[1:]),
                    found=found.chunk,
                )
        return json.dumps(data).encode()


class _Connection:
    """What one process uses and remembers of a server."""

    def __init__(self, transport: Transport) -> None:
        self.process = os.getpid()
        self.transport = transport
        self.metadata: dict[str, bytes] = {}
        self.touched: set[str] = set()
        self._indices: OrderedDict[str, bytes] = OrderedDict()

    def index(self, file: str, length: int) -> bytes | None:
        kept = self._indices.get(file)
        return kept if kept is not None and len(kept) == length else None

    def keep(self, file: str, content: bytes) -> None:
        self._indices[file] = content
        if len(self._indices) > KEPT_INDICES:
            with contextlib.suppress(KeyError):
                self._indices.popitem(last=False)


def _check_names(manifest: Manifest, place: str) -> None:
    """Refuse files outside the store, and files that are too large."""
    sizes = {name: (record.size, MAX_METADATA_BYTES) for name, record in manifest.files.items()}
    sizes |= {shard.file: (shard.size, 2 * MAX_CHUNK_BYTES) for shard in manifest.shards}
    for name, (size, limit) in sizes.items():
        if not _NAME.fullmatch(name) or not 0 <= size <= limit:
            raise IntegrityError(
                f"{place}: a file that a store cannot have",
                expected=f"a plain name, and at most {limit} bytes",
                found=f"{name!r:.80}, {size} bytes",
            )
