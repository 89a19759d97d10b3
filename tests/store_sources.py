"""Small sources of frames for tests of the store, and a program that writes one and is killed."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from cgbench.store import (
    FrameBlock,
    Layout,
    StoreMetadata,
    manifest,
    shard_file,
    shards,
    write_store,
    writer,
)

SEQUENCE = "YYDPETGTWY"
LAYOUT = Layout(chunk=8, chunks_per_shard=2)
LENGTHS = (11, 7, 22)


class ArraySource:
    """Frames from memory."""

    def __init__(
        self, coordinates, forces=None, lengths=None, *, valid=None, counts=None, bead_types=None
    ):
        self.coordinates = coordinates
        self.forces = forces or {}
        self.valid = np.ones(len(coordinates), bool) if valid is None else valid
        self.counts = counts or {}
        self.trajectory_lengths = None if lengths is None else np.array(lengths, dtype=np.int64)
        self.bead_types = (
            np.arange(1, coordinates.shape[1] + 1) if bead_types is None else bead_types
        )

    @property
    def n_frames(self):
        return len(self.coordinates)

    @property
    def n_beads(self):
        return self.coordinates.shape[1]

    @property
    def force_maps(self):
        return tuple(self.forces)

    def read(self, start, stop):
        return FrameBlock(
            coordinates=self.coordinates[start:stop],
            forces={name: values[start:stop] for name, values in self.forces.items()},
            valid=self.valid[start:stop],
            counts={name: int(mask[start:stop].sum()) for name, mask in self.counts.items()},
        )


def random_source(lengths=LENGTHS):
    random = np.random.default_rng(1)
    n_frames = sum(lengths)
    shape = (n_frames, len(SEQUENCE), 3)
    bad = random.random(n_frames) < 0.2
    return ArraySource(
        random.normal(size=shape).astype(np.float32),
        {name: random.normal(size=shape).astype(np.float32) for name in ("slice", "optimal")},
        lengths,
        valid=~bad,
        counts={"nonfinite_forces": bad},
    )


def metadata_of(source, **changes):
    maps = source.force_maps
    lengths = source.trajectory_lengths
    values = {
        "system": "toy",
        "name": "Toy",
        "sequence": SEQUENCE[: source.n_beads],
        "temperature": 350.0,
        "frame_interval": 1.0,
        "force_maps": maps,
        "default_force_map": maps[-1] if maps else None,
        "force_map_consistent": dict.fromkeys(maps, "unknown"),
        "constraints": None,
        "licence": "MIT",
        "trajectories_known": lengths is not None,
        "start_kind": None,
        "sources": (),
    }
    return StoreMetadata.model_validate(values | changes)


class CountingSource(ArraySource):
    """Frames from memory that note every read in a file, and do what a test asks for."""

    def __init__(self, source, log, *, kill_at=None, slow=0.0):
        super().__init__(
            source.coordinates,
            source.forces,
            source.trajectory_lengths,
            valid=source.valid,
            counts=source.counts,
            bead_types=source.bead_types,
        )
        self.log = log
        self.kill_at = kill_at
        self.slow = slow

    def read(self, start, stop):
        with self.log.open("a") as handle:
            handle.write(f"{start}\n")
        time.sleep(self.slow)
        marker = self.log.with_suffix(".killed")
        if start == self.kill_at and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(start, stop)

    @property
    def reads(self):
        """First frames of what was read, in order."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []


def write(path, source=None, *, workers=1, layout=LAYOUT, **changes):
    source = source or random_source()
    return write_store(path, source, metadata_of(source, **changes), workers=workers, layout=layout)


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _die_after(function, calls):
    """Return a function that kills the process after its n-th call."""
    count = 0

    def wrapped(*arguments, **named):
        nonlocal count
        result = function(*arguments, **named)
        count += 1
        if count == calls:
            _die()
        return result

    return wrapped


def main(path, moment):
    """Write a store and be killed at a named moment."""
    source = random_source()
    if moment == "reading the second shard":
        source.read = _die_after(source.read, 3)
    elif moment == "between two arrays of the second shard":
        # A shard has six arrays; the frames before are those of the first shard.
        shards.write_shard = _die_after(shards.write_shard, 8)
    elif moment == "within the write of an array":
        # The journal's first line, six arrays, its second line, and then three arrays.
        shard_file.os.fsync = _die_after(os.fsync, 11)
    elif moment == "between file and name":
        shard_file.ShardFile.holds = _die_after(shard_file.ShardFile.holds, 9)
    elif moment == "before the journal":
        shards.write_shard = _die_after(shards.write_shard, 12)
    elif moment == "after the journal's line":
        manifest.Journal.append = _die_after(manifest.Journal.append, 2)
    elif moment == "creating the arrays":
        writer.create_array = _die_after(writer.create_array, 2)
    elif moment == "before the manifest":
        writer.consolidate = _die_after(writer.consolidate, 1)
    elif moment == "after the manifest":
        written = writer.write_atomic
        writer.write_atomic = _die_after(written, 1)
    elif moment.startswith("write "):
        shard_file.os.write = _die_after(os.write, int(moment.split()[1]))
    write(path, source)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
