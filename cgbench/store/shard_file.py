"""One shard file: chunks encoded and appended one after the other, then the index of the format.

zarr encodes and decodes; only the file is put together here, because a whole shard in memory, more
than once, costs more time than all its bytes on their way to the disk. What was written is read
back by zarr itself.
"""

import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

from cgbench.store.arrays import ZARR_METADATA, open_array

Values = np.ndarray[Any, np.dtype[Any]]

#: Chunks that are encoded or decoded at a time: several megabytes.
CHUNKS_AT_ONCE: Final = 8
#: Offset and size in the index for a chunk that is beyond the end of the array.
_NO_CHUNK: Final = 2**64 - 1


class ShardFile:
    """The file of one shard while it is written, in a folder that zarr takes for the array.

    An array without shards has one file too, its only chunk.

    Args:
        array: Folder of the array in the store.
        index: Number of the shard along the frames.
        folder: The temporary folder; the array's metadata are put there.
    """

    def __init__(self, array: Path, index: int, folder: Path) -> None:
        metadata = (array / ZARR_METADATA).read_bytes()
        self._metadata: dict[str, Any] = json.loads(metadata)
        self._length: int = self._metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        first = self._metadata["codecs"][0]
        self._sharding: dict[str, Any] | None = (
            first["configuration"] if first["name"] == "sharding_indexed" else None
        )
        self._chunk: int = (
            self._length if self._sharding is None else self._sharding["chunk_shape"][0]
        )
        self.folder = folder
        self.key = "/".join(["c", str(index), *["0"] * (len(self._metadata["shape"]) - 1)])
        self.path = folder / self.key
        self.path.parent.mkdir(parents=True)
        (folder / ZARR_METADATA).write_bytes(metadata)

    def write(self, values: Values) -> None:
        """Write the values of the shard's frames and wait until they are on disk."""
        places = np.full((self._length // self._chunk, 2), _NO_CHUNK, dtype=np.uint64)
        offset = 0
        with self.path.open("wb", buffering=0) as handle:
            for number, encoded in enumerate(self._encoded(values)):
                _write_all(handle.fileno(), encoded)
                places[number] = offset, len(encoded)
                offset += len(encoded)
            if self._sharding is not None:
                _write_all(handle.fileno(), self._index(places, self._sharding["index_codecs"]))
            os.fsync(handle.fileno())

    def install(self, array: Path) -> Path:
        """Give the finished file its name in the store, in the place of any other.

        The array's folder must be there: a writer that outlives its run makes no store anew.
        """
        target = array / self.key
        for folder in reversed(target.relative_to(array).parents[:-1]):
            (array / folder).mkdir(exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            forget(descriptor)
        finally:
            os.close(descriptor)
        self.path.replace(target)
        return target

    def holds(self, values: Values, start: int) -> bool:
        """Return whether the file, read by zarr, holds exactly the values from a frame on."""
        array = open_array(self.folder)
        step = CHUNKS_AT_ONCE * self._chunk
        for first in range(0, len(values), step):
            written = values[first : first + step]
            found = np.asarray(array[start + first : start + first + len(written)])
            if found.dtype != written.dtype or not np.array_equal(_bits(found), _bits(written)):
                return False
        return True

    def _encoded(self, values: Values) -> Iterator[Values]:
        """Yield the bytes of each chunk."""
        codecs = self._metadata["codecs"] if self._sharding is None else self._sharding["codecs"]
        tail = list(values.shape[1:])
        step = CHUNKS_AT_ONCE * self._chunk
        for first in range(0, len(values), step):
            some = values[first : first + step]
            files = _array_files(self._metadata, [len(some), *tail], [self._chunk, *tail], codecs)
            open_array(MemoryStore(files), "r+")[:] = some
            for number in range(-(-len(some) // self._chunk)):
                yield _bytes(files["/".join(["c", str(number), *["0"] * len(tail)])])

    def _index(self, places: Values, codecs: list[Any]) -> Values:
        """Return the bytes of the index: offset and size of each chunk, encoded."""
        plain = self._metadata | {
            "data_type": "uint64",
            "fill_value": 0,
            "dimension_names": [None, None],
        }
        shape = list(places.shape)
        files = _array_files(plain, shape, shape, codecs)
        open_array(MemoryStore(files), "r+")[:] = places
        return _bytes(files["c/0/0"])


@contextmanager
def temporary_folder(store: Path) -> Iterator[Path]:
    """Give a folder that no other writer has; it is removed with its content.

    It lies beside the store, not in it, where it could be taken for an array.
    """
    folder = store.with_name(f".{store.name}.{uuid.uuid4().hex}.partial")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(store: Path) -> None:
    """Remove what writes that were cut off left behind, beside a store and in it."""
    for folder in store.parent.glob(f".{glob.escape(store.name)}.*.partial"):
        shutil.rmtree(folder, ignore_errors=True)
    # zarr's and our own metadata files.
    for file in list(store.rglob("*.partial")):
        file.unlink(missing_ok=True)


def forget(descriptor: int, start: int = 0, length: int = 0) -> None:
    """Let go of a file's pages in memory, of all from ``start`` on where no length is given.

    What has been read or synchronised is not needed again for long. Tens of gigabytes of it would
    push out everything else, and memory that is used again at once is much cheaper than fresh.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _array_files(
    metadata: dict[str, Any], shape: list[int], chunk: list[int], codecs: list[Any]
) -> dict[str, Buffer]:
    """Return the files, in memory, of an empty array without shards."""
    plain = metadata | {
        "shape": shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": codecs,
    }
    return {ZARR_METADATA: cpu.Buffer.from_bytes(json.dumps(plain).encode())}


def _bytes(content: Buffer) -> Values:
    return np.asarray(content.as_numpy_array()).view(np.uint8)


def _write_all(descriptor: int, content: Values) -> None:
    """Write bytes; the system may take less than it is given at a time."""
    done = 0
    while done < len(content):
        done += os.write(descriptor, content[done:].data)


def _bits(values: Values) -> Values:
    """Return values as unsigned integers: NaN then equals itself, and 0 differs from −0."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
