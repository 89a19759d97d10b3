"""Frames per second of the loaders, beside random reads of a numpy memory map in the same run.

    python benchmarks/data_loading.py [--system chignolin-sample] [--batch 256]

Every method delivers the training part in batches of coordinates and forces. The memory map is
warm: its pages were written a moment before. Rates are those of the fastest repeat, which other
work on the machine disturbs least; medians and the load average are written beside them.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch_geometric.loader import DataLoader

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.data import BlockShuffleLoader, ProteinForcesDataset
from cgbench.splits import make_block_split
from cgbench.store import open_store

RESULTS = Path(__file__).parent / "results" / "data_loading.json"


class Measurement(Frozen):
    """One way of reading ``frames`` frames: least and median seconds, rate of the fastest."""

    method: str
    frames: int
    seconds: float
    median_seconds: float
    frames_per_second: float


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    system: str
    n_beads: int
    batch_size: int
    repeats: int
    threads: int
    load_average: float
    measurements: tuple[Measurement, ...]
    provenance: provenance.Provenance


def drain(batches: Iterator[object] | BlockShuffleLoader | DataLoader) -> None:
    """Iterate to the end; the last batch is all that stays in memory."""
    for _ in batches:
        pass


def memory_map_batches(dataset: ProteinForcesDataset, folder: Path, batch: int) -> Iterator[object]:
    """Yield batches of random frames from two memory-mapped arrays."""
    pos = np.load(folder / "pos.npy", mmap_mode="r")
    forces = np.load(folder / "forces.npy", mmap_mode="r")
    order = np.random.default_rng(0).permutation(dataset.frames)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        yield torch.from_numpy(pos[rows]), torch.from_numpy(forces[rows])


def measure(method: str, frames: int, repeats: int, action: Callable[[], None]) -> Measurement:
    """Time an action; the first call is a warm-up that does not count."""
    seconds = []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        action()
        if repeat:
            seconds.append(time.perf_counter() - started)
    return Measurement(
        method=method,
        frames=frames,
        seconds=min(seconds),
        median_seconds=statistics.median(seconds),
        frames_per_second=frames / min(seconds),
    )


def run(system: str, batch: int, repeats: int, home: Path | None) -> Benchmark:
    """Measure all methods on one system."""
    store = open_store(system, home)
    split = make_block_split(store, registry.system(system).split)

    def new() -> ProteinForcesDataset:
        return ProteinForcesDataset(store, "train", split)

    held = new()
    held.load()
    n = len(held)
    memory = BlockShuffleLoader(held, batch, mode="memory")
    stream = BlockShuffleLoader(new(), batch, mode="stream")
    small = BlockShuffleLoader(new(), batch, mode="stream", block_frames=1024)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "pos.npy", store.coordinates())
        np.save(folder / "forces.npy", store.forces())
        measurements = (
            measure("load into memory", n, repeats, lambda: drain(iter([new().load()]))),
            measure("loader, memory, shuffled", n, repeats, lambda: drain(memory)),
            measure(
                f"loader, stream, blocks of {stream.block_frames}",
                n,
                repeats,
                lambda: drain(stream),
            ),
            measure("loader, stream, blocks of 1024", n, repeats, lambda: drain(small)),
            measure(
                "PyG DataLoader on memory",
                n,
                repeats,
                lambda: drain(DataLoader(held, batch_size=batch, shuffle=True)),
            ),
            measure(
                "numpy memory map, random frames",
                n,
                repeats,
                lambda: drain(memory_map_batches(held, folder, batch)),
            ),
        )
    return Benchmark(
        system=system,
        n_beads=store.n_beads,
        batch_size=batch,
        repeats=repeats,
        threads=torch.get_num_threads(),
        load_average=os.getloadavg()[0],
        measurements=measurements,
        provenance=provenance.collect({"loader": 0}),
    )


def show(benchmark: Benchmark) -> None:
    """Print a table; the ratio is to the memory map."""
    base = benchmark.measurements[-1].frames_per_second
    table = Table(
        title=f"{benchmark.system}: {benchmark.n_beads} beads, batches of {benchmark.batch_size}, "
        f"{benchmark.threads} threads, load average {benchmark.load_average:.1f}"
    )
    for heading in ("method", "frames/s", "s per epoch", "ratio"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for item in benchmark.measurements:
        rate = item.frames_per_second
        table.add_row(item.method, f"{rate:,.0f}", f"{item.seconds:.4f}", f"{rate / base:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--system", default="chignolin-sample")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    benchmark = run(arguments.system, arguments.batch, arguments.repeats, arguments.home)
    write_model(arguments.out, benchmark)
    show(benchmark)


if __name__ == "__main__":
    main()
