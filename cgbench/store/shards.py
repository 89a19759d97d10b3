"""One unit of writing: read the frames of a shard, write them, read them back and hash them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cgbench.config import file_sha256
from cgbench.errors import IntegrityError, ValidationError
from cgbench.store.arrays import flush_to_disk, open_array
from cgbench.store.manifest import ShardRecord, data_sha256
from cgbench.store.schema import FORCES_GROUP, FrameBlock, FrameSource

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def read_unit(
    source: FrameSource, start: int, stop: int, piece: int, workers: int
) -> tuple[Arrays, dict[str, int]]:
    """Read and screen the frames of a shard, piece by piece, in threads.

    Returns:
        The arrays by name, without the trajectory index, and the frames masked by reason.

    Raises:
        ValidationError: The source returned other shapes than it announced.
    """
    n_frames = stop - start
    shape = (n_frames, source.n_beads, 3)
    values: Arrays = {"coordinates": np.empty(shape, dtype=np.float32)}
    for name in source.force_maps:
        values[f"{FORCES_GROUP}/{name}"] = np.empty(shape, dtype=np.float32)
    values["valid"] = np.empty(n_frames, dtype=np.bool_)

    def read(first: int) -> Mapping[str, int]:
        last = min(first + piece, stop)
        block = source.read(first, last)
        _check_block(block, last - first, source, first)
        inside = slice(first - start, last - start)
        values["coordinates"][inside] = block.coordinates
        values["valid"][inside] = block.valid
        for name in source.force_maps:
            values[f"{FORCES_GROUP}/{name}"][inside] = block.forces[name]
        return block.counts

    pieces = range(start, stop, piece)
    if workers > 1:
        from dask.base import compute
        from dask.delayed import delayed

        # Threads that fill parts of one block; what is written is the whole shard, by this thread.
        tasks = [delayed(read, pure=False)(first) for first in pieces]
        counts = compute(  # type: ignore[no-untyped-call]
            *tasks, scheduler="threads", num_workers=workers
        )
    else:
        counts = tuple(read(first) for first in pieces)
    total: dict[str, int] = {}
    for count in counts:
        for reason, number in count.items():
            total[reason] = total.get(reason, 0) + int(number)
    return values, total


def _check_block(block: FrameBlock, n_frames: int, source: FrameSource, first: int) -> None:
    expected = (n_frames, source.n_beads, 3)
    for name, array in (("coordinates", block.coordinates), *block.forces.items()):
        if array.shape != expected or array.dtype != np.float32:
            raise ValidationError(
                f"{name} from frame {first} on",
                expected=f"{expected} float32",
                found=f"{array.shape} {array.dtype}",
            )
    if block.valid.shape != (n_frames,) or set(block.forces) != set(source.force_maps):
        raise ValidationError(
            f"block from frame {first} on",
            expected=f"a mask of {n_frames} frames and the maps {source.force_maps}",
            found=f"a mask of {block.valid.shape} and the maps {tuple(block.forces)}",
        )


def write_shard(
    path: Path,
    array: Any,
    name: str,
    index: int,
    start: int,
    stop: int,
    values: np.ndarray[Any, np.dtype[Any]],
) -> ShardRecord:
    """Write one shard of one array, wait until it is on disk, and read it back.

    Raises:
        IntegrityError: It does not read back as it was written.
    """
    file = "/".join([name, "c", str(index), *["0"] * (values.ndim - 1)])
    # A shard of an interrupted write would be merged with, not replaced.
    (path / file).unlink(missing_ok=True)
    array[start:stop] = values
    flush_to_disk(path / file)
    return record_shard(path, name, file, index, start, stop, values)


def record_shard(
    path: Path,
    name: str,
    file: str,
    index: int,
    start: int,
    stop: int,
    values: np.ndarray[Any, np.dtype[Any]],
) -> ShardRecord:
    """Read a shard back from disk through the codec, compare and hash it.

    Raises:
        IntegrityError: It does not read back as ``values``.
    """
    written = data_sha256(values)
    found = data_sha256(np.asarray(open_array(path / name)[start:stop]))
    if found != written:
        raise IntegrityError(
            f"{path / file}: the shard does not read back as it was written",
            expected=f"sha256 {written}",
            found=f"sha256 {found}",
            fix="check the disk and write again; finished shards are kept",
        )
    return ShardRecord(
        array=name,
        index=index,
        start=start,
        stop=stop,
        file=file,
        size=(path / file).stat().st_size,
        file_sha256=file_sha256(path / file),
        data_sha256=found,
    )
