"""The structures task on the few entries at hand: a check of the mechanism, not of any sampler.

    python benchmarks/structures_task.py PUBLISHED_FOLDER --work FOLDER
    python benchmarks/structures_task.py --write

PUBLISHED_FOLDER holds `native/full/`, whole entries of the Protein Data Bank. Seven of them have 28
residues or more. Their codes are made up, because no CATH list is at hand: they only have the form
of real ones and put every level to the test. One domain each is new at a level, three train. The
recurrent baseline of width 100 is trained from the sequence alone and draws 100 models of each test
domain.

`--write` puts the table of the results into docs/structures-task.md. The full task is four commands
of that page and was not run.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from cgbench.config import read_model, write_atomic, write_model
from cgbench.pipeline.structures import make_structure_split
from cgbench.pipeline.structures_task import StructuresOutcome, score_structures
from cgbench.samplers.recurrent import RecurrentSettings
from cgbench.splits.cath import DEPTH
from cgbench.train.recurrent import RecurrentConfig, RecurrentOptimiser, train_recurrent

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "structures-task.json"
PAGE = ROOT / "docs" / "structures-task.md"

#: Not of CATH.
MADE_UP: Final = """# codes are made up
1fmeA00 4 10 1 1 1 1 1 1 1 28 999.000
1lmb300 1 10 260 40 1 1 1 1 1 87 1.000
1mi0A00 3 10 20 10 1 1 1 1 1 61 1.000
2a3dA00 1 20 5 1 1 1 1 1 1 73 999.000
2f4kA00 1 10 10 1 1 1 1 1 1 35 1.000
2hbbA00 3 10 30 5 1 1 1 1 1 51 1.000
2wxcA00 1 10 10 2 1 1 1 1 1 47 999.000
"""


def run(published: Path, work: Path) -> StructuresOutcome:
    """Make the split, train on it and score."""
    work.mkdir(parents=True, exist_ok=True)
    write_atomic(work / "made-up.txt", MADE_UP)
    folder = work / "structures"
    make_structure_split(work / "made-up.txt", published / "native" / "full", folder)
    settings = RecurrentConfig(
        name="recurrent/made-up-100",
        structures=folder,
        network=RecurrentSettings(width=100, components=2),
        optimiser=RecurrentOptimiser(steps=300, chains=3, validate_every=100, learning_rate=1e-3),
        threads=1,
    )
    train_recurrent(settings, work / "run", resume=True)
    return score_structures(work / "run" / "sampler.pt", folder, out=work / "scores")


def table(outcome: StructuresOutcome) -> str:
    """Return the Markdown table of an outcome."""

    def cell(value: float | None, digits: int = 3) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    scores = [outcome.total, *(outcome.levels[level] for level in DEPTH)]
    rows = [
        ["TM-score, made-up codes", "total", *DEPTH],
        ["---"] * (2 + len(DEPTH)),
        ["representative", *(cell(one.tm) for one in scores)],
        ["best of 100", *(cell(one.best_tm) for one in scores)],
        ["clusters of 100 models", *(cell(one.n_clusters, 1) for one in scores)],
        ["domains", *(str(one.n_domains) for one in scores)],
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    each = 1000 * (outcome.seconds_per_sample or 0.0)
    machine = outcome.provenance.hardware
    lines += [
        "",
        f"{each:.1f} ms a model and {outcome.training_seconds:.0f} s of training on "
        f"{machine.processor}, {machine.cores} cores shared with other work; rank correlation of "
        f"clusters with accuracy: {cell(outcome.confidence, 2)}.",
    ]
    return "\n".join(lines)


def filled(page: str, outcome: StructuresOutcome) -> str:
    """Return the page with its table replaced."""
    before, opened, rest = page.partition("<!-- made-up -->")
    _, closed, after = rest.partition("<!-- /made-up -->")
    if not opened or not closed:
        raise SystemExit(f"{PAGE}: no markers")
    return f"{before}{opened}\n{table(outcome)}\n{closed}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("published_folder", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, help="folder of split, sampler and scores")
    parser.add_argument("--write", action="store_true", help="only write the table of the page")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.write:
        outcome = read_model(StructuresOutcome, RESULTS)
        write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8"), outcome))
        return
    if options.published_folder is None or options.work is None:
        parser.error("PUBLISHED_FOLDER and --work are needed")
    write_model(options.out, run(options.published_folder, options.work))
    Console(file=sys.stderr).print(f"results: {options.out}", soft_wrap=True)


if __name__ == "__main__":
    main()
