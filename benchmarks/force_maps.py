"""Mean square of each force map on fitted and held-out trajectories, and the time to map forces.

    python benchmarks/force_maps.py RAW [--repeats 9]

RAW is a folder with ``all_atom_example.npz`` (``forces_<i>``, each (frames, atoms, 3)) and
``topology_all_atom.pdb``. Each trajectory is held out once while the optimal map is fitted on the
others. Times are those of the fastest repeat, which other work on the machine disturbs least.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cgbench import provenance
from cgbench.config import Frozen, write_model
from cgbench.force_maps import (
    ForceMap,
    ForceStatistics,
    MapReport,
    bead_atoms,
    constraint_groups,
    fit_optimal,
    hydrogens_map,
    map_report,
    slice_map,
)

RESULTS = Path(__file__).parent / "results" / "force_maps.json"
FORCES_PREFIX = "forces_"


class RootMeanSquare(Frozen):
    """Root mean square of a component under one map, kcal/mol/Å, over all folds."""

    name: str
    consistent: bool
    training: float
    held_out: float


class Timing(Frozen):
    """One way of doing one thing to all frames."""

    method: str
    seconds: float
    median_seconds: float
    frames_per_second: float


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    n_trajectories: int
    n_frames: int
    n_atoms: int
    n_beads: int
    folds: tuple[MapReport, ...]
    root_mean_squares: tuple[RootMeanSquare, ...]
    largest_difference: float
    timings: tuple[Timing, ...]
    fit_seconds: float
    repeats: int
    load_average: float
    provenance: provenance.Provenance


def read_forces(path: Path) -> list[NDArray[np.float32]]:
    with np.load(path, allow_pickle=False) as file:
        names = sorted(name for name in file.files if name.startswith(FORCES_PREFIX))
        return [file[name] for name in names]


def einsum(force_map: ForceMap, forces: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one would write without thinking."""
    mapped: NDArray[np.float32] = np.einsum(
        "bi,fix->fbx", force_map.weights.astype(np.float32), forces
    )
    return mapped


def measure(method: str, n_frames: int, repeats: int, action: Callable[[], object]) -> Timing:
    """Time an action; the first call is a warm-up that does not count."""
    seconds = []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        action()
        if repeat:
            seconds.append(time.perf_counter() - started)
    return Timing(
        method=method,
        seconds=min(seconds),
        median_seconds=statistics.median(seconds),
        frames_per_second=n_frames / min(seconds),
    )


def run(raw: Path, repeats: int) -> Benchmark:
    trajectories = read_forces(raw / "all_atom_example.npz")
    topology = mdtraj.load_topology(str(raw / "topology_all_atom.pdb"))
    sites, groups = bead_atoms(topology), constraint_groups(topology)
    total = ForceStatistics.from_forces(trajectories[0], 0)
    for number, forces in enumerate(trajectories[1:], 1):
        total += ForceStatistics.from_forces(forces, number)
    plain, group = slice_map(sites, groups), hydrogens_map(sites, groups)
    folds = []
    for held_out in range(len(trajectories)):
        training = [i for i in range(len(trajectories)) if i != held_out]
        fitted = fit_optimal(total.select(training), sites, groups)
        folds.append(map_report([plain, group, fitted], total, training, [held_out]))
    errors = tuple(
        RootMeanSquare(
            name=first.name,
            consistent=first.consistent,
            training=statistics.fmean(fold.maps[i].training for fold in folds) ** 0.5,
            held_out=statistics.fmean(fold.maps[i].held_out for fold in folds) ** 0.5,
        )
        for i, first in enumerate(folds[0].maps)
    )
    whole = fit_optimal(total, sites, groups)
    forces = np.concatenate(trajectories)
    n = len(forces)
    difference = np.abs(whole.apply(forces) - einsum(whole, forces)).max()
    timings = []
    for force_map in (plain, group, whole):
        name = force_map.name
        timings += [
            measure(f"{name}: apply", n, repeats, lambda m=force_map: m.apply(forces)),
            measure(f"{name}: einsum", n, repeats, lambda m=force_map: einsum(m, forces)),
        ]
    timings.append(
        measure("statistics", n, repeats, lambda: ForceStatistics.from_forces(forces, 0))
    )
    fit = measure("fit", n, repeats, lambda: fit_optimal(total, sites, groups))
    return Benchmark(
        n_trajectories=len(trajectories),
        n_frames=n,
        n_atoms=len(groups),
        n_beads=len(sites),
        folds=tuple(folds),
        root_mean_squares=errors,
        largest_difference=float(difference),
        timings=tuple(timings),
        fit_seconds=fit.seconds,
        repeats=repeats,
        load_average=os.getloadavg()[0],
        provenance=provenance.collect({}),
    )


def show(benchmark: Benchmark) -> None:
    console = Console()
    noise = Table(title="root mean square of a component, kcal/mol/Å")
    for heading in ("map", "consistent", "fitted on", "held out"):
        noise.add_column(heading)
    for item in benchmark.root_mean_squares:
        noise.add_row(
            item.name, str(item.consistent), f"{item.training:.2f}", f"{item.held_out:.2f}"
        )
    console.print(noise)
    times = Table(
        title=f"{benchmark.n_frames} frames of {benchmark.n_atoms} atoms, "
        f"load average {benchmark.load_average:.1f}"
    )
    for heading in ("what", "ms", "frames/s"):
        times.add_column(heading, justify="left" if heading == "what" else "right")
    for timing in benchmark.timings:
        times.add_row(
            timing.method, f"{1000 * timing.seconds:.2f}", f"{timing.frames_per_second:,.0f}"
        )
    console.print(times)
    console.print(f"fit from the statistics: {1000 * benchmark.fit_seconds:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("raw", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    benchmark = run(arguments.raw, arguments.repeats)
    write_model(arguments.out, benchmark)
    show(benchmark)


if __name__ == "__main__":
    main()
