"""One unit of writing: the frames of a shard are read, written, read back, compared and hashed.

A unit is the same shard of every array along ``frame``. It is the work of one thread or process,
from the source to the finished files, and says what it did in a record; nothing else is shared.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgbench.config import file_sha256
from cgbench.errors import IntegrityError, ValidationError
from cgbench.store.manifest import ShardRecord, UnitRecord, data_sha256
from cgbench.store.quantise import encode
from cgbench.store.schema import (
    FORCES_GROUP,
    FrameBlock,
    FrameSource,
    IntArray,
    Layout,
    Quantisation,
)
from cgbench.store.shard_file import ShardFile, Values, temporary_folder

Arrays = dict[str, Values]


#: Arrays of the unit that a thread has written last. Fresh memory for every unit would cost as much
#: time as reading it from disk.
_memory = threading.local()


@dataclass(frozen=True)
class UnitWriter:
    """Writes units of one store, in this process or, pickled, in another.

    Two writers of one unit do no harm: each writes under a name of its own, and the rename puts
    the same bytes in place.

    Attributes:
        path: The store's folder, absolute: other processes have other working directories.
        source: Where frames come from.
        layout: Chunks and shards.
        quantisation: How numbers become integers, or None.
    """

    path: Path
    source: FrameSource
    layout: Layout
    quantisation: Quantisation | None = None

    def __call__(self, index: int) -> UnitRecord:
        """Write one unit and return its record; its files are then on disk.

        Raises:
            ValidationError: The source returned other shapes than it announced.
            IntegrityError: A shard does not read back as it was written.
        """
        start = index * self.layout.shard
        stop = min(start + self.layout.shard, self.source.n_frames)
        values, counts = read_unit(self.source, start, stop, self.layout.chunk)
        valid = values["valid"]
        shards = []
        for name, array in values.items():
            if self.quantisation is not None:
                stored = encode(name, array, self.quantisation, valid)
            else:
                stored = array
            shards.append(write_shard(self.path, name, index, start, stop, stored))
        return UnitRecord(
            index=index,
            start=start,
            stop=stop,
            n_valid=int(valid.sum()),
            screening=counts,
            shards=tuple(shards),
        )


def read_unit(
    source: FrameSource, start: int, stop: int, piece: int
) -> tuple[Arrays, dict[str, int]]:
    """Read and screen the frames of a shard, a piece at a time.

    Returns:
        The arrays by name in the order of the store, and the frames masked by reason.

    Raises:
        ValidationError: The source returned other shapes than it announced.
    """
    n_frames = stop - start
    shape = (n_frames, source.n_beads, 3)
    values: Arrays = {"coordinates": _room("coordinates", shape)}
    for name in source.force_maps:
        values[f"{FORCES_GROUP}/{name}"] = _room(f"{FORCES_GROUP}/{name}", shape)
    values["trajectory"], values["frame_in_trajectory"] = trajectory_index(
        source.trajectory_lengths, start, stop
    )
    values["valid"] = np.empty(n_frames, dtype=np.bool_)
    counts: dict[str, int] = {}
    for first in range(start, stop, piece):
        last = min(first + piece, stop)
        block = source.read(first, last)
        _check_block(block, last - first, source, first)
        inside = slice(first - start, last - start)
        values["coordinates"][inside] = block.coordinates
        values["valid"][inside] = block.valid
        for name in source.force_maps:
            values[f"{FORCES_GROUP}/{name}"][inside] = block.forces[name]
        for reason, number in block.counts.items():
            counts[reason] = counts.get(reason, 0) + int(number)
    return values, counts


def _room(name: str, shape: tuple[int, int, int]) -> Values:
    """Return an array (n_frames, n_beads, 3) float32 in the memory of this thread's last unit."""
    held: Arrays = _memory.__dict__
    if name not in held or held[name].shape[0] < shape[0] or held[name].shape[1:] != shape[1:]:
        held[name] = np.empty(shape, dtype=np.float32)
    return held[name][: shape[0]]


def trajectory_index(lengths: IntArray | None, start: int, stop: int) -> tuple[Values, Values]:
    """Return trajectory and frame within it, (n,) int32 each, of the frames of a flat range."""
    frames = np.arange(start, stop, dtype=np.int64)
    if lengths is None:
        return np.zeros(len(frames), dtype=np.int32), frames.astype(np.int32)
    ends = np.cumsum(lengths)
    numbers = np.searchsorted(ends, frames, side="right")
    return numbers.astype(np.int32), (frames - (ends - lengths)[numbers]).astype(np.int32)


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
    path: Path, name: str, index: int, start: int, stop: int, values: Values
) -> ShardRecord:
    """Write one shard of one array, read it back from its file and only then give it its name.

    Raises:
        IntegrityError: It does not read back as it was written.
    """
    with temporary_folder(path) as folder:
        shard = ShardFile(path / name, index, folder)
        shard.write(values)
        if not shard.holds(values, start):
            raise IntegrityError(
                f"{path / name / shard.key}: the shard does not read back as it was written",
                fix="check the disk and write again; finished shards are kept",
            )
        record = ShardRecord(
            array=name,
            index=index,
            start=start,
            stop=stop,
            file=f"{name}/{shard.key}",
            size=shard.path.stat().st_size,
            file_sha256=file_sha256(shard.path),
            data_sha256=data_sha256(values),
        )
        shard.install(path / name)
    return record
