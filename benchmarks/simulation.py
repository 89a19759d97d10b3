"""Speed of simulation: steps a second beside TorchMD with TorchMD-Net, and beside the floor.

    python benchmarks/simulation.py PUBLISHED_FOLDER --peer-python PYTHON [--out FILE] [--short]
    python benchmarks/simulation.py --write

PUBLISHED_FOLDER holds `native/`, `topology/` and `prior_force_field.yaml`. 32 replicas of the
reference network (its architecture; random weights, the last layer scaled down so that dynamics are
those of the prior) with the published prior start from the native structure, in single precision at
1 fs, 350 K and a friction of 1/ps. Both programs have the same weights and starts, live at once and
take turns; what counts is the best of several turns, of the whole step with its noise. The peer
gets the allocator settings without which the C library returns large arrays at every step.

The floor is the 23 products with matrices of 128 × 128 for each bead at the better of the rates
that our products and those of the library reach in the same run. Growth with beads and replicas and
the parts of a step are processor time of one thread.

With `--clock processor` the first table too counts processor seconds where one thread is used: for
machines that do other work. `--write` puts the tables of the results into docs/performance.md.
Takes about ten minutes, with `--short` two.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from simulation_cases import CASES, Case, extended, read_case
from simulation_floor import Clock, floor_seconds, matrix_kernels, matrix_rates
from simulation_measures import (
    FramesRow,
    GrowthRow,
    PartsRow,
    Peer,
    SpeedRow,
    dynamics_of,
    measure_frames,
    measure_growth,
    measure_parts,
    take_turns,
)
from simulation_tables import write_page

from cgbench import provenance
from cgbench.config import Frozen, write_model

RESULTS = Path(__file__).parent / "results" / "simulation.json"
REPLICAS = 32
BEAD_COUNTS = (10, 20, 35, 56, 80, 96)
REPLICA_COUNTS = (1, 8, 32, 128, 512)
#: Frames of the runs that show what writing takes: several chunks, some 40 s.
N_FRAMES = {"chignolin": 1200, "proteing": 300, "lambda": 200}


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    speeds: tuple[SpeedRow, ...]
    beads: tuple[GrowthRow, ...]
    replicas: tuple[GrowthRow, ...]
    parts: tuple[PartsRow, ...]
    frames: tuple[FramesRow, ...]
    clock: Clock
    peer_allocator: dict[str, str]
    provenance: provenance.Provenance


def measure_speed(
    case: Case, threads: int, options: argparse.Namespace, folder: Path, console: Console
) -> SpeedRow:
    """Let both programs take turns on one case."""
    clock: Clock = options.clock if threads == 1 else "wall"
    seconds = 1.0 if options.short else 4.0
    dynamics, engine = dynamics_of(case, REPLICAS, threads)
    rates = matrix_rates(threads, clock)
    peer = None
    if options.peer_python is not None:
        peer = Peer(options.peer_python, case, REPLICAS, threads, folder)
        console.print(f"{case.name}: forces differ by {peer.force_difference(dynamics):.1e}")
    ours, theirs = take_turns(dynamics, peer, clock, seconds, 3 if options.short else 6)
    versions = {} if peer is None else peer.close()
    row = SpeedRow(
        case=case.name,
        n_beads=case.n_beads,
        n_replicas=REPLICAS,
        threads=threads,
        engine=engine,
        ours=1.0 / ours,
        peer=None if theirs is None else 1.0 / theirs,
        ratio=None if theirs is None else theirs / ours,
        matrix_gigaflops=rates.best,
        library_gigaflops=rates.library,
        floor_ratio=ours / floor_seconds(case.n_beads * REPLICAS, rates.best),
        pairs_within_cutoff=case.pairs_within_cutoff(dynamics.state.positions),
        hardware=provenance.hardware(),
        versions={
            **provenance.collect().packages,
            "matrix kernels": matrix_kernels(),
            **{f"peer {k}": v for k, v in versions.items()},
        },
    )
    console.print(
        f"{row.case} ({threads}): {row.ours:.1f} steps/s, "
        f"peer {'–' if row.peer is None else format(row.peer, '.2f')}, "
        f"ratio {'–' if row.ratio is None else format(row.ratio, '.1f')}, "
        f"{row.floor_ratio:.2f} of the floor at {rates.own:.0f} GFLOP/s "
        f"(the library's: {rates.library:.0f}), "
        f"{100 * row.pairs_within_cutoff:.0f} % of pairs"
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("published_folder", type=Path, nargs="?")
    parser.add_argument("--peer-python", help="interpreter with TorchMD and TorchMD-Net")
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--threads", nargs="*", type=int, default=(1, 2))
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", action="store_true", help="only write the tables of the page")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.write:
        write_page()
        return
    if options.published_folder is None:
        parser.error("PUBLISHED_FOLDER is needed")
    console = Console(file=sys.stderr)
    cases = [read_case(options.published_folder, name) for name in options.cases]
    largest = read_case(options.published_folder, CASES[-1])
    seconds = 0.5 if options.short else 2.0
    with TemporaryDirectory() as name:
        folder = Path(name)
        speeds = tuple(
            measure_speed(case, threads, options, folder, console)
            for threads in options.threads
            for case in cases
        )
        beads = tuple(
            measure_growth(extended(largest, count), REPLICAS, seconds) for count in BEAD_COUNTS
        )
        replicas = tuple(measure_growth(cases[0], count, seconds) for count in REPLICA_COUNTS)
        parts = tuple(measure_parts(case, REPLICAS, seconds) for case in cases)
        frames = tuple(
            row
            for case in cases
            for row in measure_frames(
                case, REPLICAS, N_FRAMES[case.name] // (10 if options.short else 1), folder
            )
        )
    benchmark = Benchmark(
        speeds=speeds,
        beads=beads,
        replicas=replicas,
        parts=parts,
        frames=frames,
        clock=options.clock,
        peer_allocator=Peer.ALLOCATOR,
        provenance=provenance.collect({"noise": 1}),
    )
    write_model(options.out, benchmark)
    Console().print_json(benchmark.model_dump_json(exclude={"provenance", "speeds"}))


if __name__ == "__main__":
    main()
