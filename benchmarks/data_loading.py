"""Frames per second of the streaming loader beside other ways to read shuffled batches.

    python benchmarks/data_loading.py [--peer-python PYTHON] [--frames 1000000] [--folder DIR]

One run makes a set of frames of λ-repressor's size (80 beads; the set does not fit into any
loader's buffer), writes it as each method wants it, and reads it cold (after the system was told
to drop the files from its cache) and warm, in shuffled batches of coordinates and forces. Only
reading is measured: nothing is trained meanwhile. A rate is that of the fastest repeat, which
other work on the machine disturbs least. Takes some minutes and 11 GB of disk.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from loading_data import (
    CHUNK_FRAMES,
    MemoryMapSource,
    evict,
    folder_bytes,
    read_once,
    whole_split,
    write_all,
)
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from cgbench import provenance
from cgbench.config import Frozen, write_model
from cgbench.data import BlockShuffleLoader, ProteinForcesDataset
from cgbench.data.loader import BUFFER_BLOCKS
from cgbench.data.order import EpochOrder
from cgbench.data.stream import FrameSequence
from cgbench.store import open_store

RESULTS = Path(__file__).parent / "results" / "data_loading.json"
PEER = Path(__file__).parent / "peers" / "loading_torchmdnet.py"
BLOCK_FRAMES = 4 * CHUNK_FRAMES

EXACT = "cgbench, float32, codec none"
PACKED = "cgbench, float32, codec zstd"
QUANTISED = "cgbench, int16, codec none"
QUANTISED_LZ4 = "cgbench, int16, codec lz4"
MAPPED_BLOCKS = "numpy memory map, shuffled blocks"
MAPPED_AHEAD = "numpy memory map, shuffled blocks, read ahead by cgbench's threads"


class Measurement(Frozen):
    """One way of reading: frames and seconds of the fastest repeat, bytes of a frame on disk."""

    method: str
    cache: str
    frames: int
    seconds: float
    frames_per_second: float
    bytes_per_frame: float


class Ratio(Frozen):
    """A rate divided by another, with the goal where there is one."""

    name: str
    value: float
    goal: float | None


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    n_beads: int
    n_frames: int
    batch_size: int
    block_frames: int
    buffer_blocks: int
    reading_threads: int
    torch_threads: int
    repeats: int
    load_average: float
    measurements: tuple[Measurement, ...]
    ratios: tuple[Ratio, ...]
    peer_versions: dict[str, str]
    provenance: provenance.Provenance


class Runner:
    """Measures one method after the other, cold and warm."""

    def __init__(self, folder: Path, batch: int, repeats: int) -> None:
        self.folder = folder
        self.batch = batch
        self.repeats = repeats
        self.found: list[Measurement] = []

    def add(
        self,
        method: str,
        place: str,
        batches: Callable[[int], Iterable[object]],
        limit: int | None = None,
        caches: tuple[str, ...] = ("cold", "warm"),
        repeated: bool = True,
    ) -> None:
        """Time a method: ``batches`` gives the batches of an epoch, at most ``limit`` of them."""
        path = self.folder / place
        for cache in caches:
            best = (0, float("inf"))
            # The longest ones need no repeats: what disturbs them averages out.
            for repeat in range({"warm": self.repeats, "cold": 2}[cache] if repeated else 1):
                if cache == "cold":
                    evict(path)
                elif repeat == 0:
                    read_once(path)
                started = time.perf_counter()
                frames = 0
                for item in itertools.islice(batches(repeat), limit):
                    frames += len(item[0]) if isinstance(item, tuple) else len(item)
                seconds = time.perf_counter() - started
                if not best[0] or frames / seconds > best[0] / best[1]:
                    best = (frames, seconds)
            self.note(method, cache, *best, folder_bytes(path))

    def note(self, method: str, cache: str, frames: int, seconds: float, size: float) -> None:
        """Keep a result."""
        self.found.append(
            Measurement(
                method=method,
                cache=cache,
                frames=frames,
                seconds=seconds,
                frames_per_second=frames / seconds,
                bytes_per_frame=size,
            )
        )
        print(f"{method:72s} {cache:5s} {frames / seconds:12,.0f} frames/s", file=sys.stderr)

    def rate(self, method: str, cache: str) -> float | None:
        """Return a measured rate."""
        for item in self.found:
            if item.method.startswith(method) and item.cache == cache:
                return item.frames_per_second
        return None


def stored(
    runner: Runner, place: str, threads: int, *, direct: bool = True, pipeline: str = "auto"
) -> Callable[[int], Iterable[object]]:
    """Return the epochs of a store through the streaming loader."""
    store = open_store(runner.folder / place, pipeline=pipeline)
    dataset = ProteinForcesDataset(store, "train", whole_split(store), direct=direct)
    return lambda epoch: BlockShuffleLoader(
        dataset, runner.batch, epoch=epoch, mode="stream", threads=threads
    )


def mapped_random(folder: Path, batch: int, epoch: int) -> Iterator[object]:
    """Yield batches of random frames from two memory-mapped arrays."""
    pos = np.load(folder / "coordinates.npy", mmap_mode="r")
    forces = np.load(folder / "forces.npy", mmap_mode="r")
    order = np.random.default_rng(epoch).permutation(len(pos))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        yield torch.from_numpy(pos[rows]), torch.from_numpy(forces[rows])


def mapped_blocks(folder: Path, batch: int, epoch: int) -> Iterator[object]:
    """Yield batches from shuffled blocks of the maps, by the loader's order, without threads."""
    source = MemoryMapSource(folder)
    order = EpochOrder(source.frames, BLOCK_FRAMES, BUFFER_BLOCKS * BLOCK_FRAMES)
    shape = ((BUFFER_BLOCKS + 1) * BLOCK_FRAMES, *source.pos.shape[1:])
    pos, forces = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for block in order.super_blocks(epoch):
        start = 0
        for rows in block.blocks:
            stop = start + len(rows)
            source.read_into(rows, pos[start:stop], forces[start:stop])
            start = stop
        permutation = block.permutation()
        for first in range(0, len(permutation), batch):
            rows = permutation[first : first + batch]
            yield torch.from_numpy(pos[rows]), torch.from_numpy(forces[rows])


def mapped_ahead(folder: Path, batch: int, threads: int, epoch: int) -> Iterator[object]:
    """Yield the same batches through the loader's own buffer and threads."""
    source = MemoryMapSource(folder)
    n = len(source.frames)
    order = EpochOrder(source.frames, BLOCK_FRAMES, BUFFER_BLOCKS * BLOCK_FRAMES)
    frames = FrameSequence(source, "stream", order, threads=threads).begin(epoch * n, n)
    try:
        for start in range(0, n, batch):
            yield frames.take(min(batch, n - start))
    finally:
        frames.close()


def plain_read(folder: Path, epoch: int) -> Iterator[object]:
    """Read the two files from beginning to end and yield nothing but their frames' number."""
    n_frames = len(np.load(folder / "coordinates.npy", mmap_mode="r"))
    for name in ("coordinates", "forces"):
        with (folder / f"{name}.npy").open("rb", buffering=0) as file:
            buffer = bytearray(1 << 22)
            while file.readinto(buffer):
                pass
    yield range(n_frames)


def hdf5_random(folder: Path, batch: int, epoch: int) -> Iterator[object]:
    """Yield batches of random frames from a chunked HDF5 file."""
    with h5py.File(folder / "chunked.h5", "r") as file:
        group = file["lambda"]
        order = np.random.default_rng(epoch).permutation(len(group["pos"]))
        for start in range(0, len(order), batch):
            rows = np.sort(order[start : start + batch])
            yield torch.from_numpy(group["pos"][rows]), torch.from_numpy(group["forces"][rows])


def workers(runner: Runner, place: str) -> Callable[[int], Iterable[object]]:
    """Return epochs through two worker processes instead of threads."""
    loaders = stored(runner, place, 1)
    return lambda epoch: DataLoader(
        loaders(epoch), batch_size=None, num_workers=2, multiprocessing_context="forkserver"
    )


def measure_cgbench(runner: Runner, threads: int) -> None:
    """Measure the loader on every kind of store, and through zarr instead of its own reading."""
    for method, place in (
        (EXACT, "none.zarr"),
        (PACKED, "zstd.zarr"),
        (QUANTISED, "int16-none.zarr"),
        (QUANTISED_LZ4, "int16-lz4.zarr"),
    ):
        runner.add(method, place, stored(runner, place, threads))
        for pipeline in ("zarrs", "python"):
            batches = stored(runner, place, threads, direct=False, pipeline=pipeline)
            name = "zarr-python" if pipeline == "python" else "zarrs"
            runner.add(f"{method}, through {name}", place, batches, caches=("warm",))
    runner.add(
        f"{EXACT}, 2 worker processes and their start",
        "none.zarr",
        workers(runner, "none.zarr"),
        caches=("warm",),
        repeated=False,
    )


def measure_others(runner: Runner, threads: int) -> None:
    """Measure numpy's memory map and h5py in this process."""
    folder = runner.folder / "raw"
    batch = runner.batch
    runner.add("plain read of the files, no batches", "raw", partial(plain_read, folder))
    runner.add(
        "numpy memory map, random frames", "raw", partial(mapped_random, folder, batch), limit=400
    )
    runner.add(MAPPED_BLOCKS, "raw", partial(mapped_blocks, folder, batch))
    runner.add(MAPPED_AHEAD, "raw", partial(mapped_ahead, folder, batch, threads))
    runner.add(
        "h5py, chunks of 64 frames, random frames",
        "raw",
        partial(hdf5_random, folder, batch),
        limit=40,
    )


def measure_peer(runner: Runner, python: Path, frames: int, threads: int) -> dict[str, str]:
    """Measure TorchMD-Net in its own environment and return the versions there."""
    # Large temporaries stay in the process instead of going back to the system every batch.
    environment = os.environ | {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "68719476736",
        "MALLOC_TOP_PAD_": "268435456",
    }
    options = {
        "--folder": runner.folder / "raw",
        "--batch": runner.batch,
        "--frames": frames,
        "--threads": threads,
    }
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run(
        [python, PEER, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    size = folder_bytes(runner.folder / "raw")
    versions: dict[str, str] = {}
    for line in done.stdout.splitlines():
        item = json.loads(line)
        if "versions" in item:
            versions = item["versions"]
        else:
            runner.note(item["method"], item["cache"], item["frames"], item["seconds"], size)
    return versions


def ratios(runner: Runner) -> tuple[Ratio, ...]:
    """Compare what the goals compare."""
    found = []
    for name, above, below, cache, goal in (
        ("float32 / TorchMD-Net", EXACT, "TorchMD-Net", "warm", 20.0),
        ("float32 / TorchMD-Net", EXACT, "TorchMD-Net", "cold", 6.0),
        ("default zstd / TorchMD-Net", PACKED, "TorchMD-Net", "warm", 20.0),
        ("default zstd / TorchMD-Net", PACKED, "TorchMD-Net", "cold", 6.0),
        ("float32 / memory map, shuffled blocks", EXACT, MAPPED_BLOCKS, "warm", 1.0),
        ("float32 / memory map, read ahead", EXACT, MAPPED_AHEAD, "warm", None),
        (
            "float32 through zarrs / memory map, shuffled blocks",
            f"{EXACT}, through zarrs",
            MAPPED_BLOCKS,
            "warm",
            None,
        ),
        ("int16 / float32", QUANTISED, EXACT, "warm", 0.8),
        ("int16 / float32", QUANTISED, EXACT, "cold", None),
        ("int16 lz4 / float32", QUANTISED_LZ4, EXACT, "warm", None),
        ("int16 lz4 / float32", QUANTISED_LZ4, EXACT, "cold", None),
    ):
        first, second = runner.rate(above, cache), runner.rate(below, cache)
        if first is not None and second is not None:
            found.append(Ratio(name=f"{name}, {cache}", value=first / second, goal=goal))
    return tuple(found)


def show(benchmark: Benchmark) -> None:
    """Print the tables."""
    table = Table(
        title=f"{benchmark.n_frames:,} frames of {benchmark.n_beads} beads, batches of "
        f"{benchmark.batch_size}, {benchmark.reading_threads} reading threads, "
        f"load average {benchmark.load_average:.1f}"
    )
    for heading in ("method", "cache", "frames/s", "bytes/frame"):
        table.add_column(heading, justify="left" if heading in ("method", "cache") else "right")
    for item in benchmark.measurements:
        rate, size = f"{item.frames_per_second:,.0f}", f"{item.bytes_per_frame:,.0f}"
        table.add_row(item.method, item.cache, rate, size)
    Console().print(table)
    for ratio in benchmark.ratios:
        goal = "" if ratio.goal is None else f"  (goal {ratio.goal:g})"
        print(f"{ratio.name:60s} {ratio.value:8.2f}{goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--beads", type=int, default=80)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads that read ahead")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has torchmd-net")
    parser.add_argument("--folder", type=Path, help="where files are made, and kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="data-loading-"))
    torch.set_num_threads(1)
    runner = Runner(folder, arguments.batch, arguments.repeats)
    try:
        write_all(folder, arguments.frames, arguments.beads)
        load = os.getloadavg()[0]
        measure_cgbench(runner, arguments.threads)
        measure_others(runner, arguments.threads)
        versions: dict[str, str] = {}
        if arguments.peer_python is not None:
            versions = measure_peer(runner, arguments.peer_python, 100_000, 1)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)
    benchmark = Benchmark(
        n_beads=arguments.beads,
        n_frames=arguments.frames,
        batch_size=arguments.batch,
        block_frames=BLOCK_FRAMES,
        buffer_blocks=BUFFER_BLOCKS,
        reading_threads=arguments.threads,
        torch_threads=torch.get_num_threads(),
        repeats=arguments.repeats,
        load_average=load,
        measurements=tuple(runner.found),
        ratios=ratios(runner),
        peer_versions=versions,
        provenance=provenance.collect({"loader": 0}),
    )
    write_model(arguments.out, benchmark)
    show(benchmark)


if __name__ == "__main__":
    main()
