"""The ensembles task: samplers trained on frames of stores, scored by the suite's own metrics.

    python benchmarks/samplers.py --work FOLDER [--quick]
    python benchmarks/samplers.py --work FOLDER --synthetic HOME
    python benchmarks/samplers.py --write

The first command trains the recurrent baseline on the embedded sample of chignolin. The second one
takes the synthetic stores of the twelve proteins, as `benchmarks/synthetic.py` leaves them in
`FOLDER/home`, and trains one sampler on all of them and one without each of them. Every sampler's
structures are scored beside the noise floor, the native structure held still and an ideal chain.

`--work` keeps every finished stage, so that an interrupted run goes on. `--write` puts the tables
of the results into docs/samplers.md. Rows on synthetic stores are marked synthetic: they test the
suite and say nothing about proteins. With `--quick` short runs, which decide nothing.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from cgbench import provenance, registry
from cgbench.config import Frozen, fingerprint, read_model, write_atomic, write_model
from cgbench.evaluate import (
    Scored,
    ideal_chain,
    md_split_half,
    native_constant,
    read_reference,
    reference_statistics,
    score,
)
from cgbench.pipeline.sequence_models import sequence_models
from cgbench.results.sequence_models import SequenceModels
from cgbench.samplers import load_sampler
from cgbench.samplers.recurrent import RecurrentSettings
from cgbench.store import find_reference
from cgbench.testing.synthetic_natives import PROTEINS
from cgbench.train import read_config
from cgbench.train.recurrent import RecurrentConfig, RecurrentOptimiser, train_recurrent

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "samplers.md"
SAMPLE: Final = "chignolin-sample-v2"
SAMPLES: Final = 640
SEED: Final = 1
METRICS: Final = ("w1_tic1", "fes_rmse", "js_2d", "native_population", "rg_w1", "clash_rate")


class Row(Frozen):
    """One model on one protein.

    Attributes:
        system: Key of the protein.
        row: What was scored.
        status: Whether it could be.
        metrics: Value, lower and upper end by metric; the ends are null without an interval.
        target: The reference's own value of metrics that have one.
        models: Clusters of the sampler's models; null for other rows.
        training_seconds: Wall time of the training; null for other rows.
    """

    system: str
    row: str
    status: str
    metrics: dict[str, tuple[float | None, float | None, float | None]]
    target: dict[str, float]
    models: SequenceModels | None = None
    training_seconds: float | None = None


class Benchmark(Frozen):
    """What came of it."""

    synthetic: bool
    quick: bool
    command: str
    n_samples: int
    rows: tuple[Row, ...]
    seconds: float
    provenance: provenance.Provenance


class _Kept(Frozen):
    """Rows of a system with what they were made from."""

    fingerprint: str
    rows: tuple[Row, ...]


def small_config(
    name: str, systems: tuple[str, ...], left_out: str | None, steps: int
) -> RecurrentConfig:
    """Return the training on synthetic stores: small, the same for every protein."""
    return RecurrentConfig(
        name=name,
        description="Trained on synthetic data; it says nothing about proteins.",
        systems=systems,
        left_out=left_out,
        split="block-v1" if left_out is None else f"lopo-{left_out}",
        maximum_frames=4000,
        network=RecurrentSettings(width=100, components=4, modes=2),
        optimiser=RecurrentOptimiser(
            steps=steps, chains=4, batch_size=32, validate_every=max(1, steps // 4)
        ),
        seed=SEED,
        threads=1,
    )


def rows_of(
    system: str, samplers: dict[str, Path], home: Path | None, work: Path, n_resamples: int
) -> tuple[Row, ...]:
    """Score samplers and what stands beside them on one system."""
    bundle = read_reference(find_reference(system, home))
    opened = {name: load_sampler(path) for name, path in samplers.items()}
    identity = fingerprint(
        {
            "samplers": {name: one.spec.model_dump(mode="json") for name, one in opened.items()},
            "reference": bundle.fingerprint,
            "resamples": n_resamples,
        }
    )
    kept = work / "rows" / f"{system}.json"
    if kept.is_file() and (found := read_model(_Kept, kept)).fingerprint == identity:
        return found.rows
    statistics = reference_statistics(bundle, seed=SEED, n_resamples=n_resamples)
    rows = []
    for name, sampler in opened.items():
        began = time.perf_counter()
        ensemble = sampler.sample(system, SAMPLES, temperature=bundle.temperature, seed=SEED)
        each = (time.perf_counter() - began) / SAMPLES
        scored = score(ensemble, bundle, seed=SEED, reference=statistics, workers=1)
        models = sampler.structures(
            bundle.metadata.sequence,
            registry.sampler_constants().models.per_sequence,
            temperature=bundle.temperature,
            seed=SEED,
        )
        clustered = sequence_models(models, bundle.native, seconds_per_sample=each)
        rows.append(_row(system, name, scored, clustered, sampler.spec.training_cost_s))
    options = {"seed": SEED, "reference": statistics}
    beside = {
        "noise floor": md_split_half(bundle, n_frames=SAMPLES, **options),
        "native_constant": native_constant(bundle, **options),
        "ideal_chain": ideal_chain(bundle, **options),
    }
    rows += [_row(system, name, scored) for name, scored in beside.items()]
    write_model(kept, _Kept(fingerprint=identity, rows=tuple(rows)))
    return tuple(rows)


def _row(
    system: str,
    name: str,
    scored: Scored,
    models: SequenceModels | None = None,
    seconds: float | None = None,
) -> Row:
    found = {key: scored.result.metrics[key] for key in METRICS if key in scored.result.metrics}
    return Row(
        system=system,
        row=name,
        status=scored.result.status,
        metrics={key: (one.value, one.lo, one.hi) for key, one in found.items()},
        target={key: one.target for key, one in found.items() if one.target is not None},
        models=models,
        training_seconds=seconds,
    )


def run_sample(work: Path, quick: bool, told: Console) -> tuple[Row, ...]:
    """Train the smallest shipped configuration on the embedded sample, and score it."""
    settings = read_config(
        ROOT / "baselines" / "recurrent" / "chignolin-sample-100" / "config.yaml"
    )
    if quick:
        optimiser = settings.optimiser.model_copy(update={"steps": 20, "validate_every": 10})
        settings = settings.model_copy(update={"optimiser": optimiser, "maximum_frames": 500})
    outcome = train_recurrent(settings, work / "sample", resume=True)
    told.print(f"trained on {SAMPLE}: {outcome.seconds:.0f} s")
    samplers = {settings.name: work / "sample" / "sampler.pt"}
    return rows_of(SAMPLE, samplers, None, work, 5 if quick else 100)


def run_synthetic(
    home: Path,
    work: Path,
    systems: tuple[str, ...],
    tested: tuple[str, ...],
    quick: bool,
    told: Console,
) -> tuple[Row, ...]:
    """Train on synthetic stores, with all proteins and without each, and score both on each."""
    steps = 8 if quick else 400
    everything = small_config("synthetic/recurrent", systems, None, steps)
    train_recurrent(everything, work / "all", home=home, resume=True)
    rows: list[Row] = []
    for left_out in tested:
        others = tuple(key for key in systems if key != left_out)
        settings = small_config(f"synthetic/recurrent-lopo-{left_out}", others, left_out, steps)
        outcome = train_recurrent(settings, work / left_out, home=home, resume=True)
        samplers = {
            "trained on all": work / "all" / "sampler.pt",
            "leave-one-out": work / left_out / "sampler.pt",
        }
        rows += rows_of(left_out, samplers, home, work, 5 if quick else 50)
        told.print(f"{left_out}: trained without it in {outcome.seconds:.0f} s, scored")
    return tuple(rows)


def table(rows: tuple[Row, ...]) -> str:
    """Return a Markdown table of rows."""
    head = ["protein", "row", *(f"`{key}`" for key in METRICS), "clusters", "ms a sample"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"`{row.system}`", row.row]
        for key in METRICS:
            value, lo, hi = row.metrics.get(key, (None, None, None))
            text = "–" if value is None else f"{value:.2f}"
            if lo is not None and hi is not None:
                text += f" [{lo:.2f}, {hi:.2f}]"
            if key in row.target:
                text += f" (reference {row.target[key]:.2f})"
            cells.append(text)
        models = row.models
        seconds = None if models is None else models.seconds_per_sample
        cells.append("–" if models is None else str(models.n_clusters))
        cells.append("–" if seconds is None else f"{1000 * seconds:.1f}")
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_page() -> None:
    """Replace the tables of the page by those of the results."""
    page = PAGE.read_text(encoding="utf-8")
    for name in ("sample", "synthetic"):
        path = RESULTS / f"samplers-{name}.json"
        if not path.is_file():
            continue
        found = read_model(Benchmark, path)
        before, opened, rest = page.partition(f"<!-- {name} -->")
        _, closed, after = rest.partition(f"<!-- /{name} -->")
        if not opened or not closed:
            raise SystemExit(f"{PAGE}: no markers for {name}")
        machine = found.provenance.hardware
        spent = [one.training_seconds for one in found.rows if one.training_seconds is not None]
        told = (
            f"`{found.command}` on {machine.processor}, {machine.cores} cores shared with other "
            f"work; {found.n_samples} structures a row, at most {max(spent):.0f} s of wall time "
            "for a training."
        )
        page = f"{before}{opened}\n{table(found.rows)}\n\n{told}\n{closed}{after}"
    write_atomic(PAGE, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, help="folder of samplers and scores")
    parser.add_argument(
        "--synthetic", type=Path, metavar="HOME", help="data home of synthetic stores"
    )
    parser.add_argument(
        "--systems", nargs="+", default=list(PROTEINS), help="of the synthetic ones"
    )
    parser.add_argument("--tested", nargs="+", help="leave out and test these alone")
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--write", action="store_true", help="only write the tables of the page")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.write:
        write_page()
        return
    if options.work is None:
        parser.error("--work is needed")
    console = Console(file=sys.stderr)
    began = time.monotonic()
    synthetic = options.synthetic is not None
    if synthetic:
        systems = tuple(options.systems)
        tested = tuple(options.tested or systems)
        rows = run_synthetic(
            options.synthetic, options.work, systems, tested, options.quick, console
        )
    else:
        rows = run_sample(options.work, options.quick, console)
    name = "synthetic" if synthetic else "sample"
    # Quick runs decide nothing and do not replace the results.
    default = options.work if options.quick else RESULTS
    out = options.out or default / f"samplers-{name}.json"
    benchmark = Benchmark(
        synthetic=synthetic,
        quick=options.quick,
        command="python benchmarks/samplers.py --work FOLDER"
        + (" --synthetic HOME" if synthetic else "")
        + (f" --tested {' '.join(options.tested)}" if synthetic and options.tested else ""),
        n_samples=SAMPLES,
        rows=rows,
        seconds=time.monotonic() - began,
        provenance=provenance.collect({"training": SEED}),
    )
    write_model(out, benchmark)
    console.print(f"results: {out}", soft_wrap=True)


if __name__ == "__main__":
    main()
