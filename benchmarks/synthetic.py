"""Pipelines with known answers: twelve proteins under Gō potentials, trained, left out, mutated.

    python benchmarks/synthetic.py PUBLISHED_FOLDER --work FOLDER [--workers N] [--quick]
    python benchmarks/synthetic.py PUBLISHED_FOLDER --work FOLDER --calibrate SYSTEM ...
    python benchmarks/synthetic.py --write

PUBLISHED_FOLDER holds `native/` and `mutants/`. Synthetic stores of all proteins and of the
variants at hand are made, one small network is trained on all proteins and one without each of
them, a pairwise potential is fitted, and the networks are simulated and scored as the reference was
made. What is known beforehand (synthetic_answers.py) is checked, with intervals.

`--work` keeps every finished stage, so that an interrupted run goes on. `--write` puts the tables
of the results into docs/synthetic.md. With `--quick` three proteins and short runs, for looking at
the pipeline; its answers decide nothing. `--calibrate` prints the energies of systems, as they are
kept in cgbench.testing.synthetic_natives. Results are marked synthetic and are in no leaderboard.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from synthetic_answers import KnownAnswer, known_answers
from synthetic_cases import CASES, Case, Size
from synthetic_stages import (
    Row,
    VariantRow,
    one_thread,
    pair_spline_stage,
    score_stage,
    train_stage,
    variant_stage,
)
from synthetic_tables import write_page

from cgbench import provenance
from cgbench.config import Frozen, write_model
from cgbench.testing.synthetic import SyntheticRecord, build_stores
from cgbench.testing.synthetic_natives import calibrated_scale, prepare_native

RESULTS = Path(__file__).parent / "results" / "synthetic.json"


class Benchmark(Frozen):
    """What was made, what came of it, and which answers came out.

    Attributes:
        synthetic: Always true: not to be compared with results on reference data.
        size: How large it was.
        systems: The synthetic systems.
        rows: Models on proteins.
        variants: Models on variants.
        answers: The known answers.
        seconds: Wall time of each stage of this run; what was kept from earlier ones takes none.
        core_seconds: Processor time of each stage, over all processes.
        workers: Processes at a time.
    """

    synthetic: Literal[True] = True
    size: Size
    systems: tuple[SyntheticRecord, ...]
    rows: tuple[Row, ...]
    variants: tuple[VariantRow, ...]
    answers: tuple[KnownAnswer, ...]
    seconds: dict[str, float]
    core_seconds: dict[str, float]
    workers: int
    provenance: provenance.Provenance


def run(
    case: Case,
    size: Size,
    work: Path,
    published: Path | None,
    workers: int = 1,
    console: Console | None = None,
) -> Benchmark:
    """Run every stage that is not finished, and return what came of all."""
    told = console or Console(quiet=True)
    home, seconds, core_seconds = work / "home", {}, {}
    began, used = time.monotonic(), _core_seconds()

    def finished(stage: str) -> None:
        nonlocal began, used
        seconds[stage] = round(time.monotonic() - began, 1)
        core_seconds[stage] = round(_core_seconds() - used, 1)
        told.print(
            f"{stage}: {seconds[stage]:.0f} s, {core_seconds[stage]:.0f} s of processor time"
        )
        began, used = time.monotonic(), _core_seconds()

    records = build_stores(
        home,
        (*case.systems, *case.variants),
        case.data,
        published=published,
        workers=workers,
        progress=lambda task, done, total: told.print(f"{task}: {done:g} of {total:g}"),
    )
    finished("stores")
    _spread(
        [
            (pair_spline_stage, case, work, home),
            (train_stage, case, work, home, None),
            *((train_stage, case, work, home, system) for system in case.systems),
        ],
        workers,
        told,
    )
    finished("training")
    scored = _spread(
        [(score_stage, case, work, home, system) for system in reversed(case.systems)],
        workers,
        told,
    )
    finished("scores")
    variants = tuple(variant_stage(case, work, home))
    finished("variants")
    order = {system: place for place, system in enumerate(case.systems)}
    rows = sorted((row for found in scored for row in found), key=lambda row: order[row.system])
    return Benchmark(
        size=size,
        systems=tuple(records),
        rows=tuple(rows),
        variants=variants,
        answers=tuple(known_answers(rows, variants)),
        seconds=seconds,
        core_seconds=core_seconds,
        workers=workers,
        provenance=provenance.collect({"data": case.data.seed}),
    )


def _core_seconds() -> float:
    """Return the processor time of this process and of those it has started and ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _spread(tasks: Sequence[tuple[Any, ...]], workers: int, told: Console) -> list[Any]:
    """Call each function with its arguments, several at a time; results in the order given."""
    results: dict[int, Any] = {}
    if workers == 1:
        for place, (function, *arguments) in enumerate(tasks):
            results[place] = function(*arguments)
            told.print(f"{function.__name__}: {place + 1} of {len(tasks)}")
        return [results[place] for place in range(len(tasks))]
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        waiting = {
            pool.submit(function, *arguments): place
            for place, (function, *arguments) in enumerate(tasks)
        }
        for done in as_completed(waiting):
            results[waiting[done]] = done.result()
            told.print(f"{len(results)} of {len(tasks)}")
    return [results[place] for place in range(len(tasks))]


def calibrate(systems: Sequence[str], work: Path, published: Path | None) -> None:
    """Print the energy at which half of the frames of each system are folded."""
    for system in systems:
        prepare_native(work / "home", system, published)
        scale = calibrated_scale(work / "home", system, work / "calibration" / system)
        Console().print(f'    "{system}": {scale:.3f},')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("published_folder", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, help="folder of stores, models and trajectories")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three proteins, short runs")
    parser.add_argument("--write", action="store_true", help="only write the tables of the page")
    parser.add_argument("--calibrate", nargs="+", metavar="SYSTEM", help="only find energies")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.write:
        write_page(RESULTS)
        return
    if options.work is None:
        parser.error("--work is needed")
    if options.calibrate:
        calibrate(options.calibrate, options.work, options.published_folder)
        return
    size: Size = "quick" if options.quick else "full"
    console = Console(file=sys.stderr)
    benchmark = run(
        CASES[size], size, options.work, options.published_folder, options.workers, console
    )
    # Quick runs decide nothing and do not replace the results.
    out = options.out or (options.work / "synthetic.json" if options.quick else RESULTS)
    write_model(out, benchmark)
    for answer in benchmark.answers:
        console.print(
            f"{answer.holds} of {answer.cases} ({len(answer.open)} open): {answer.statement}"
        )
    console.print(f"results: {out}", soft_wrap=True)


if __name__ == "__main__":
    main()
