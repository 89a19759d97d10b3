"""What a step of the structures task costs, and from it the training at full size.

    python benchmarks/structures_cost.py
    python benchmarks/structures_cost.py --write

Each shipped configuration of the recurrent baseline takes a few steps on made-up helices of 150
residues with random sequences, 24 of them a step, on one core. The time of a step times the
configured number of steps is the most that a training at full size can take; fewer steps are taken
where the validation loss stops to fall.

`--write` puts the table of the results into docs/structures-task.md, and what each configuration is
expected to cost beside its card.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console

from cgbench import provenance
from cgbench.config import Frozen, read_model, write_atomic, write_model
from cgbench.nemo.features import AMINO_ACIDS
from cgbench.nemo.internal import InternalCoordinates, to_cartesian
from cgbench.splits.cath import Domain
from cgbench.splits.cath_split import StructureSplit, code_text, divide
from cgbench.splits.cath_structures import (
    SPLIT_FILE,
    STRUCTURES_FILE,
    Structure,
    StructureSet,
    write_structures,
)
from cgbench.train import read_config
from cgbench.train.recurrent import RecurrentConfig, train_recurrent

ROOT = Path(__file__).resolve().parents[1]
BASELINES = ROOT / "baselines"
RESULTS = ROOT / "benchmarks" / "results" / "structures-cost.json"
PAGE = ROOT / "docs" / "structures-task.md"

WIDTHS: Final = (100, 300, 500, 700)
RESIDUES: Final = 150
DOMAINS: Final = 48
#: Chains of a measured step; a step takes each chain by itself, so that its time is proportional.
CHAINS: Final = 24
#: Steps of a short and of a longer run: their difference has no start and no end.
STEPS: Final = (1, 7)
_DAY: Final = 86400.0


class Row(Frozen):
    """One configuration: time of a step, and the steps of a whole training."""

    name: str
    width: int
    chains: int
    seconds_per_step: float
    steps: int

    @property
    def days(self) -> float:
        """The most that a training takes."""
        return self.seconds_per_step * self.steps / _DAY


class Costs(Frozen):
    """What came of it."""

    command: str
    residues: int
    rows: tuple[Row, ...]
    provenance: provenance.Provenance


def make_structures(folder: Path, residues: int) -> None:
    """Write a split of helices with random sequences."""
    rng = np.random.default_rng(1)
    z = InternalCoordinates(
        torch.full((1, residues - 1), 3.8),
        torch.full((1, residues - 2), float(np.deg2rad(91.0))),
        torch.full((1, residues - 3), float(np.deg2rad(50.0))),
    )
    helix = to_cartesian(z)[0].numpy().astype(np.float32)
    domains = [
        Domain(
            f"1a{place // 26}{chr(97 + place % 26)}A00",
            (1 + place // 16, 10 + place // 8, 10 + place // 4, 10 + place // 2),
            (1, 1, 1, 1),
            residues,
        )
        for place in range(DOMAINS)
    ]
    structures = StructureSet(
        [
            Structure(
                name=one.name,
                sequence="".join(rng.choice(list(AMINO_ACIDS), residues)),
                coordinates=helix,
                intact=np.ones(residues - 1, dtype=np.bool_),
            )
            for one in domains
        ]
    )
    split = StructureSplit(
        id="made-up",
        seed=1,
        share=0.05,
        representatives="none",
        list_sha256="sha256:" + "0" * 64,
        structures=structures.fingerprint,
        codes={one.name: code_text(one) for one in domains},
        parts=divide(domains, seed=1, share=0.05),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_structures(folder / STRUCTURES_FILE, structures)
    write_model(folder / SPLIT_FILE, split)


def measure(work: Path, widths: tuple[int, ...], residues: int, told: Console) -> tuple[Row, ...]:
    """Take the steps of each configuration."""
    make_structures(work / "structures", residues)
    rows = []
    for width in widths:
        settings = read_config(BASELINES / "recurrent" / f"structures-{width}" / "config.yaml")
        if not isinstance(settings, RecurrentConfig):
            raise SystemExit(f"structures-{width}: no recurrent configuration")
        seconds = []
        # The first run is not counted: libraries start up in it.
        for number, steps in enumerate((1, *STEPS)):
            optimiser = settings.optimiser.model_copy(
                update={"steps": steps, "validate_every": steps, "chains": CHAINS}
            )
            changes = {
                "structures": work / "structures",
                "structure_profiles": None,
                "network": settings.network.model_copy(update={"features": "sequence"}),
                "optimiser": optimiser,
                "threads": 1,
            }
            short = settings.model_copy(update=changes)
            seconds.append(train_recurrent(short, work / f"{width}-{number}").seconds)
        each = (seconds[2] - seconds[1]) / (STEPS[1] - STEPS[0])
        each *= settings.optimiser.chains / CHAINS
        row = Row(
            name=settings.name,
            width=width,
            chains=settings.optimiser.chains,
            seconds_per_step=each,
            steps=settings.optimiser.steps,
        )
        rows.append(row)
        told.print(f"{row.name}: {each:.2f} s a step")
    return tuple(rows)


def table(costs: Costs) -> str:
    """Return the Markdown table."""
    lines = [
        "| configuration | a step | steps, at most | on one core, at most |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{row.name}` | {row.seconds_per_step:.2f} s | {row.steps:,} | {row.days:.1f} days |"
        for row in costs.rows
    ]
    machine = costs.provenance.hardware
    lines += [
        "",
        f"Steps measured by `{costs.command}` with {CHAINS} chains of {costs.residues} residues on "
        f"one core of {machine.processor}, in proportion to the {costs.rows[0].chains} of the "
        "configurations; the rest is steps times their number.",
    ]
    return "\n".join(lines)


def expected_cost(row: Row, costs: Costs) -> str:
    """Return what a card says of a training that was not run."""
    return (
        f"at most {row.days:.1f} days on one core of {costs.provenance.hardware.processor}: "
        f"{row.seconds_per_step:.2f} s for a step of {row.chains} domains of {costs.residues} "
        f"residues, measured by `{costs.command}`, times {row.steps:,} steps\n"
    )


def filled(page: str, costs: Costs) -> str:
    """Return the page with its table replaced."""
    before, opened, rest = page.partition("<!-- cost -->")
    _, closed, after = rest.partition("<!-- /cost -->")
    if not opened or not closed:
        raise SystemExit(f"{PAGE}: no markers")
    return f"{before}{opened}\n{table(costs)}\n{closed}{after}"


def write_pages(costs: Costs) -> None:
    """Put the results into the page and beside the cards."""
    write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8"), costs))
    for row in costs.rows:
        write_atomic(BASELINES / row.name / "expected-cost.txt", expected_cost(row, costs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="only write the pages")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.write:
        write_pages(read_model(Costs, RESULTS))
        return
    told = Console(file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        rows = measure(Path(work), WIDTHS, RESIDUES, told)
    costs = Costs(
        command="python benchmarks/structures_cost.py",
        residues=RESIDUES,
        rows=rows,
        provenance=provenance.collect({"training": 1}),
    )
    write_model(options.out, costs)
    told.print(f"results: {options.out}", soft_wrap=True)


if __name__ == "__main__":
    main()
