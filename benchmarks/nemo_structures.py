"""NEMO on the structures task with the few entries at hand: the mechanism, not the method.

    python benchmarks/nemo_structures.py PUBLISHED_FOLDER --work FOLDER
    python benchmarks/nemo_structures.py --write

The split with made-up codes is that of `benchmarks/structures_task.py`: three domains train, four
are each new at a level. A small NEMO of 50 unrolled steps is trained from the sequence alone on
single structures (`diversity: 0`), draws 100 models of each test domain, and is scored as every
sampler is. `--write` puts the table into docs/nemo.md. The full task is
`baselines/nemo/structures/config.yaml` and was not run.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from structures_task import MADE_UP, filled

from cgbench.config import read_model, write_atomic, write_model
from cgbench.nemo.settings import EnergySettings, SimulatorSettings
from cgbench.pipeline.structures import make_structure_split
from cgbench.pipeline.structures_task import StructuresOutcome, score_structures
from cgbench.train import train_sampler
from cgbench.train.nemo_config import NemoConfig, NemoLoss, NemoNetwork, NemoOptimiser

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "nemo-structures.json"
PAGE = ROOT / "docs" / "nemo.md"
STEPS: Final = 120


def run(
    published: Path, work: Path, *, steps: int = STEPS, n: int | None = None
) -> StructuresOutcome:
    """Make the split, train on it and score."""
    work.mkdir(parents=True, exist_ok=True)
    write_atomic(work / "made-up.txt", MADE_UP)
    folder = work / "structures"
    make_structure_split(work / "made-up.txt", published / "native" / "full", folder)
    settings = NemoConfig(
        name="nemo/made-up",
        structures=folder,
        network=NemoNetwork(
            width=32,
            n_blocks=2,
            energy=EnergySettings(hidden=16, n_features=8, n_radial=8, n_motif_features=4),
            simulator=SimulatorSettings(n_steps=50, step_size=0.1, largest_drift=0.3),
        ),
        loss=NemoLoss(diversity=0.0),
        optimiser=NemoOptimiser(
            steps=steps,
            chains=4,
            frames=2,
            learning_rate=3e-3,
            checkpointing=False,
            validate_every=max(1, steps // 3),
            validation_samples=8,
        ),
        seed=1,
        threads=1,
    )
    train_sampler(settings, work / "run", resume=True)
    return score_structures(work / "run" / "sampler.pt", folder, n=n, out=work / "scores")


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
