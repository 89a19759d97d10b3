"""The ensembles task: samplers trained on frames of stores, scored by the suite's own metrics.

    python benchmarks/samplers.py --work FOLDER [--samplers nemo] [--quick]
    python benchmarks/samplers.py --work FOLDER --synthetic HOME [--samplers nemo]
    python benchmarks/samplers.py --write

The first command trains the recurrent baseline and NEMO on the embedded sample of chignolin. The
second one takes the synthetic stores of the twelve proteins, as `benchmarks/synthetic.py` leaves
them in `FOLDER/home`, and trains one sampler of each kind on all of them and one without each of
them. Every sampler's structures are scored beside the noise floor, the native structure held still
and an ideal chain.

`--work` keeps every finished stage, so that an interrupted run goes on. Results replace the rows of
the same proteins and samplers in the file and leave the others. With `--samplers` one kind alone is
trained and scored, and what stands beside it stays as it is. `--write` puts the tables of the
results into docs/samplers.md. Rows on synthetic stores are marked synthetic: they test the suite
and say nothing about proteins. With `--quick` short runs, which decide nothing.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from sampler_tables import (
    METRICS,
    PAGE,
    RESULTS,
    ROOT,
    Benchmark,
    Row,
    Run,
    footnote,
    table,
    write_page,
    write_results,
)

from cgbench import provenance, registry
from cgbench.config import Frozen, fingerprint, read_model, write_model
from cgbench.evaluate import (
    Scored,
    ideal_chain,
    md_split_half,
    native_constant,
    read_reference,
    reference_statistics,
    score,
)
from cgbench.nemo.settings import EnergySettings, SimulatorSettings
from cgbench.pipeline.sequence_models import sequence_models
from cgbench.results.sequence_models import SequenceModels
from cgbench.samplers import load_sampler, sampler_hash
from cgbench.samplers.recurrent import RecurrentSettings
from cgbench.store import find_reference
from cgbench.testing.synthetic_natives import PROTEINS
from cgbench.train import read_config, train_sampler
from cgbench.train.nemo_config import NemoConfig, NemoNetwork, NemoOptimiser
from cgbench.train.recurrent import RecurrentConfig, RecurrentOptimiser

__all__ = ["PAGE", "RESULTS", "footnote", "run_sample", "run_synthetic", "table"]

SAMPLE: Final = "chignolin-sample-v2"
#: Kinds of samplers and the baseline of each that is trained on the sample.
BASELINES: Final = {
    "recurrent": "recurrent/chignolin-sample-100",
    "nemo": "nemo/chignolin-sample",
}
SAMPLES: Final = 640
SEED: Final = 1
#: Training steps of NEMO on synthetic stores, some for each protein: about a core-second each.
NEMO_STEPS: Final = 88


class _Kept(Frozen):
    """A row with what it was made from."""

    fingerprint: str
    row: Row


def small_config(
    kind: str, name: str, systems: tuple[str, ...], left_out: str | None, quick: bool
) -> NemoConfig | RecurrentConfig:
    """Return the training on synthetic stores: small, the same for every protein."""
    common: dict[str, Any] = {
        "name": name,
        "description": "Trained on synthetic data; it says nothing about proteins.",
        "systems": systems,
        "left_out": left_out,
        "split": "block-v1" if left_out is None else f"lopo-{left_out}",
        "maximum_frames": 4000,
        "seed": SEED,
        "threads": 1,
    }
    if kind == "recurrent":
        steps = 8 if quick else 400
        return RecurrentConfig(
            **common,
            network=RecurrentSettings(width=100, components=4, modes=2),
            optimiser=RecurrentOptimiser(
                steps=steps, chains=4, batch_size=32, validate_every=max(1, steps // 4)
            ),
        )
    steps = 2 if quick else NEMO_STEPS
    return NemoConfig(
        **common,
        network=NemoNetwork(
            width=32,
            n_blocks=2,
            energy=EnergySettings(hidden=16, n_features=8, n_radial=8, n_motif_features=4),
            # Small steps: the far end of eighty beads is moved by all angles before it.
            simulator=SimulatorSettings(n_steps=50, step_size=0.1, largest_drift=0.3),
        ),
        optimiser=NemoOptimiser(
            steps=steps,
            chains=6,
            frames=32,
            learning_rate=3e-3,
            checkpointing=False,
            validate_every=steps,
            validation_samples=16,
        ),
    )


def rows_of(
    system: str,
    samplers: dict[str, Path],
    home: Path | None,
    work: Path,
    n_resamples: int,
    *,
    beside: bool,
) -> tuple[Row, ...]:
    """Score samplers, and what stands beside them, on one system."""
    bundle = read_reference(find_reference(system, home))
    identity = {"reference": bundle.fingerprint, "resamples": n_resamples, "samples": SAMPLES}

    @cache
    def options() -> dict[str, Any]:
        found = reference_statistics(bundle, seed=SEED, n_resamples=n_resamples)
        return {"seed": SEED, "reference": found}

    def sampled(name: str, path: Path) -> Row:
        sampler = load_sampler(path)
        began = time.perf_counter()
        ensemble = sampler.sample(system, SAMPLES, temperature=bundle.temperature, seed=SEED)
        each = (time.perf_counter() - began) / SAMPLES
        scored = score(ensemble, bundle, workers=1, **options())
        models = sampler.structures(
            bundle.metadata.sequence,
            registry.sampler_constants().models.per_sequence,
            temperature=bundle.temperature,
            seed=SEED,
        )
        clustered = sequence_models(models, bundle.native, seconds_per_sample=each)
        return _row(system, name, scored, clustered, sampler.spec.training_cost_s)

    def stands_beside(name: str) -> Row:
        if name == "noise floor":
            return _row(system, name, md_split_half(bundle, n_frames=SAMPLES, **options()))
        if name == "native_constant":
            return _row(system, name, native_constant(bundle, **options()))
        return _row(system, name, ideal_chain(bundle, **options()))

    def kept(name: str, made_of: str, made: Callable[[], Row]) -> Row:
        path = work / "rows" / system / (re.sub(r"\W+", "-", name) + ".json")
        own = fingerprint({**identity, "row": name, "of": made_of})
        if path.is_file() and (found := read_model(_Kept, path)).fingerprint == own:
            return found.row
        row = made()
        write_model(path, _Kept(fingerprint=own, row=row))
        return row

    rows = [
        kept(name, sampler_hash(path), partial(sampled, name, path))
        for name, path in samplers.items()
    ]
    names = ("noise floor", "native_constant", "ideal_chain") if beside else ()
    rows += [kept(name, "", partial(stands_beside, name)) for name in names]
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


def run_sample(
    work: Path, kinds: tuple[str, ...], quick: bool, told: Console, *, beside: bool = True
) -> tuple[Row, ...]:
    """Train the smallest shipped configurations on the embedded sample, and score them."""
    samplers = {}
    for kind in kinds:
        settings = read_config(ROOT / "baselines" / BASELINES[kind] / "config.yaml")
        if quick:
            optimiser = settings.optimiser.model_copy(update={"steps": 2, "validate_every": 1})
            settings = settings.model_copy(update={"optimiser": optimiser, "maximum_frames": 500})
        out = work / f"sample-{kind}"
        outcome = train_sampler(settings, out, resume=True)
        told.print(f"{settings.name} trained on {SAMPLE}: {outcome.seconds:.0f} s")
        samplers[settings.name] = out / "sampler.pt"
    return rows_of(SAMPLE, samplers, None, work, 5 if quick else 100, beside=beside)


def run_synthetic(
    home: Path,
    work: Path,
    kinds: tuple[str, ...],
    systems: tuple[str, ...],
    tested: tuple[str, ...],
    quick: bool,
    told: Console,
    *,
    beside: bool = True,
) -> Iterator[tuple[Row, ...]]:
    """Train on synthetic stores, with all proteins and without each, and score both on each."""

    def trained(kind: str, left_out: str | None) -> Path:
        name = f"synthetic/{kind}" + ("" if left_out is None else f"-lopo-{left_out}")
        settings = small_config(
            kind, name, tuple(key for key in systems if key != left_out), left_out, quick
        )
        out = work / kind / (left_out or "all")
        outcome = train_sampler(settings, out, home=home, resume=True)
        told.print(f"{name}: trained in {outcome.seconds:.0f} s")
        return out / "sampler.pt"

    everything = {kind: trained(kind, None) for kind in kinds}
    for left_out in tested:
        samplers = {}
        for kind in kinds:
            samplers[f"{kind}, trained on all"] = everything[kind]
            samplers[f"{kind}, leave-one-out"] = trained(kind, left_out)
        yield rows_of(left_out, samplers, home, work, 5 if quick else 50, beside=beside)
        told.print(f"{left_out}: scored")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, help="folder of samplers and scores")
    parser.add_argument(
        "--synthetic", type=Path, metavar="HOME", help="data home of synthetic stores"
    )
    parser.add_argument("--samplers", choices=list(BASELINES), help="this kind alone")
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
    synthetic = options.synthetic is not None
    kinds = tuple(BASELINES) if options.samplers is None else (options.samplers,)
    beside = options.samplers is None
    name = "synthetic" if synthetic else "sample"
    # Quick runs decide nothing and do not replace the results.
    default = options.work if options.quick else RESULTS
    out = options.out or default / f"samplers-{name}.json"
    command = (
        "python benchmarks/samplers.py --work FOLDER"
        + (" --synthetic HOME" if synthetic else "")
        + (f" --samplers {options.samplers}" if options.samplers else "")
        + (f" --tested {' '.join(options.tested)}" if synthetic and options.tested else "")
    )
    began = time.monotonic()
    if synthetic:
        systems = tuple(options.systems)
        tested = tuple(options.tested or systems)
        parts = run_synthetic(
            options.synthetic, options.work, kinds, systems, tested, options.quick, console,
            beside=beside,
        )  # fmt: skip
    else:
        parts = iter([run_sample(options.work, kinds, options.quick, console, beside=beside)])
    for rows in parts:
        # After every protein: an interrupted run has given what it has.
        run = Run(
            command=command,
            seconds=time.monotonic() - began,
            provenance=provenance.collect({"training": SEED}),
        )
        benchmark = Benchmark(
            synthetic=synthetic,
            quick=options.quick,
            n_samples=SAMPLES,
            rows=rows,
            runs=dict.fromkeys(kinds, run),
        )
        write_results(out, benchmark, PROTEINS)
    console.print(f"results: {out}", soft_wrap=True)


if __name__ == "__main__":
    main()
