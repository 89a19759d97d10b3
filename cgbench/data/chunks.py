"""Chunks of a local store, decoded straight into the memory of whoever asks for them.

zarr gives every piece in an array of its own, and spends a good part of a millisecond on finding
it; a loader needs neither. What is read here is the one layout that stores of this project have:
little-endian numbers in shards with the index at the end, each chunk as it is or packed by blosc,
and followed by its checksum. Anything else is left to zarr.
"""

import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import blosc

from cgbench.errors import IntegrityError
from cgbench.store.untrusted import MAX_CHUNK_BYTES

_CHECKSUM_BYTES: Final = 4
_ENTRY_BYTES: Final = 16
#: Offset and length in the index of a chunk that was never written.
_ABSENT: Final = 2**64 - 1
_BLOSC_HEADER_BYTES: Final = 16
_DTYPES: Final = {"float32": "<f4", "int16": "<i2"}


@dataclass(frozen=True)
class _Layout:
    """Frames in all, of a shard and of a chunk; items of a frame; how chunks are packed."""

    n_frames: int
    shard: int
    chunk: int
    frame_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    packed: bool
    separator: str

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return int(self.chunk * np.prod(self.frame_shape) * self.dtype.itemsize)

    def file(self, shard: int) -> str:
        """Name of a shard's file below the array's folder."""
        return self.separator.join(["c", str(shard), *("0" for _ in self.frame_shape)])


class ChunkReader:
    """Reads frame ranges of one array; safe to use from several threads.

    Args:
        path: The array's folder.
        layout: What its metadata say.
    """

    def __init__(self, path: Path, layout: _Layout) -> None:
        self.path = path
        self.layout = layout
        self._indices: dict[int, np.ndarray[Any, Any]] = {}
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkReader, (self.path, self.layout)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return (self.layout.n_frames, *self.layout.frame_shape)

    @classmethod
    def open(cls, path: Path) -> "ChunkReader | None":
        """Return a reader, or None where the array is not of the layout that it knows."""
        layout = _layout(path)
        return None if layout is None else cls(path, layout)

    def read_into(self, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
        """Fill ``out`` (stop − start, n_beads, 3), contiguous, with a half-open frame range.

        Raises:
            IntegrityError: A shard is missing or truncated, or a checksum does not fit.
        """
        layout = self.layout
        for shard in range(start // layout.shard, -(-stop // layout.shard)):
            first = max(start, shard * layout.shard)
            last = min(stop, (shard + 1) * layout.shard)
            try:
                descriptor = os.open(self.path / layout.file(shard), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self._read_shard(descriptor, shard, first, last, out[first - start :])
                finally:
                    os.close(descriptor)
            except (OSError, ValueError, RuntimeError, OverflowError) as error:
                raise IntegrityError(
                    f"{self.path}: frames {first} to {last} cannot be read",
                    found=error,
                    fix=f"cgbench info {self.path.parent} --verify names what is damaged",
                ) from error

    def _read_shard(
        self, descriptor: int, shard: int, start: int, stop: int, out: np.ndarray[Any, Any]
    ) -> None:
        layout = self.layout
        index = self._index(descriptor, shard)
        origin = shard * layout.shard
        for number in range((start - origin) // layout.chunk, -(-(stop - origin) // layout.chunk)):
            begin = origin + number * layout.chunk
            low, high = max(start, begin), min(stop, begin + layout.chunk)
            offset, length = (int(value) for value in index[number])
            if offset == _ABSENT:
                raise ValueError(f"chunk {number} of shard {shard} was never written")
            if high - low == layout.chunk:
                self._read_chunk(descriptor, offset, length, out[low - start : high - start])
            else:
                whole = self._scratch("part", layout.chunk_bytes).view(layout.dtype)
                whole = whole.reshape(layout.chunk, *layout.frame_shape)
                self._read_chunk(descriptor, offset, length, whole)
                out[low - start : high - start] = whole[low - begin : high - begin]

    def _read_chunk(
        self, descriptor: int, offset: int, length: int, out: np.ndarray[Any, Any]
    ) -> None:
        target = out.reshape(-1).view(np.uint8)
        if not self.layout.packed:
            checksum = bytearray(_CHECKSUM_BYTES)
            if length != target.nbytes + _CHECKSUM_BYTES:
                raise ValueError(f"a chunk of {length} bytes instead of {target.nbytes}")
            if os.preadv(descriptor, [target.data, checksum], offset) != length:
                raise ValueError("the shard is truncated")
            _check(target, checksum)
            return
        if not _BLOSC_HEADER_BYTES + _CHECKSUM_BYTES <= length <= 2 * self.layout.chunk_bytes + 64:
            raise ValueError(f"a packed chunk of {length} bytes")
        packed = self._scratch("packed", length)
        if os.preadv(descriptor, [packed.data], offset) != length:
            raise ValueError("the shard is truncated")
        content = packed[:-_CHECKSUM_BYTES]
        _check(content, packed[-_CHECKSUM_BYTES:].tobytes())
        # What blosc is about to write, and how much of its input it takes for granted.
        n_bytes = int.from_bytes(content[4:8].tobytes(), "little")
        n_packed = int.from_bytes(content[12:16].tobytes(), "little")
        if (n_bytes, n_packed) != (target.nbytes, len(content)):
            raise ValueError(f"a chunk of {n_bytes} bytes instead of {target.nbytes}")
        blosc.decompress(content, target)

    def _index(self, descriptor: int, shard: int) -> np.ndarray[Any, Any]:
        if shard not in self._indices:
            n_bytes = self.layout.shard // self.layout.chunk * _ENTRY_BYTES
            size = os.fstat(descriptor).st_size
            content = os.pread(
                descriptor, n_bytes + _CHECKSUM_BYTES, size - n_bytes - _CHECKSUM_BYTES
            )
            if len(content) != n_bytes + _CHECKSUM_BYTES:
                raise ValueError("the shard's index is truncated")
            _check(content[:n_bytes], content[n_bytes:])
            self._indices[shard] = np.frombuffer(content[:n_bytes], dtype="<u8").reshape(-1, 2)
        return self._indices[shard]

    def _scratch(self, name: str, n_bytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return this thread's memory for a purpose; fresh pages would cost more than decoding."""
        held: np.ndarray[Any, np.dtype[np.uint8]] | None = getattr(self._local, name, None)
        if held is None or len(held) < n_bytes:
            held = np.empty(max(n_bytes, self.layout.chunk_bytes), dtype=np.uint8)
            setattr(self._local, name, held)
        return held[:n_bytes]


def _check(content: Any, checksum: bytes | bytearray) -> None:
    # Its compiled form takes bytes and arrays, but no memory views.
    found = google_crc32c.value(content)
    if found != int.from_bytes(checksum, "little"):
        raise ValueError("a checksum does not fit the bytes: they are damaged")


def _layout(path: Path) -> _Layout | None:
    """Return the layout of an array, or None where it is another than stores have."""
    if sys.byteorder != "little" or not hasattr(os, "preadv"):
        return None
    try:
        array = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        (sharding,) = array["codecs"]
        settings = sharding["configuration"]
        n_frames, *frame_shape = array["shape"]
        shard, *shard_rest = array["chunk_grid"]["configuration"]["chunk_shape"]
        chunk, *chunk_rest = settings["chunk_shape"]
        codecs = [codec["name"] for codec in settings["codecs"]]
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        known = (
            array["data_type"] in _DTYPES
            and sharding["name"] == "sharding_indexed"
            and array["chunk_grid"]["name"] == "regular"
            and array["chunk_key_encoding"]["name"] == "default"
            and shard_rest == chunk_rest == frame_shape
            and shard % chunk == 0
            and codecs in (["bytes", "crc32c"], ["bytes", "blosc", "crc32c"])
            and settings["codecs"][0] == little
            and [codec["name"] for codec in settings["index_codecs"]] == ["bytes", "crc32c"]
            and settings["index_codecs"][0] == little
            and settings["index_location"] == "end"
        )
        separator = array["chunk_key_encoding"]["configuration"]["separator"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if not known:
        return None
    layout = _Layout(
        n_frames=n_frames,
        shard=shard,
        chunk=chunk,
        frame_shape=tuple(frame_shape),
        dtype=np.dtype(_DTYPES[array["data_type"]]),
        packed="blosc" in codecs,
        separator=separator,
    )
    # Chunks of stores are a megabyte; what claims much more is left to zarr's own checks.
    return layout if 0 < layout.chunk_bytes <= MAX_CHUNK_BYTES else None
