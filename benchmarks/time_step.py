"""Largest stable time step of the shipped models, and what the step does to their ensembles.

    python benchmarks/time_step.py [--length PS] [--models NAME...] [--out FILE]
    python benchmarks/simulation.py --write

Each model of the embedded sample is simulated under the protocol ``demo`` with other time steps:
1 fs twice, with two seeds, then 2, 4 and further up to the largest at which eight replicas live for
4 ps; and with beads four times as heavy at twice that step, which is labelled. The same seed at
another step is another realisation of the noise, so the second run at 1 fs shows what chance alone
does.

All runs start from the same frames, so their metrics are compared with those of the first run at
1 fs trajectory by trajectory: the interval is that of the difference over resamples of the
trajectories, the same ones in both. Free-energy surfaces are compared directly, too: the root of
the mean squared difference of two surfaces over the cells that both visit, each weighted by how
often. Takes about five minutes a model on one core.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.evaluate import ReferenceBundle, Scored, read_reference
from cgbench.evaluate.differences import row_difference
from cgbench.models import model_hash
from cgbench.pipeline.programs import find_potential, load_potential
from cgbench.pipeline.simulate import score_simulation, system_input, told_of_mass
from cgbench.results import MetricValue
from cgbench.simulation import largest_stable_step, simulate
from cgbench.store import find_reference
from cgbench.units import thermal_energy

RESULTS = Path(__file__).parent / "results" / "time_step.json"
MODELS = ("torchmd-gn/chignolin-sample", "torchmd-gn/chignolin-sample-v2")
PROTOCOL = "demo"
METRICS = ("w1_tic1", "w1_tic2", "fes_rmse", "rg_w1", "dihedral_js", "native_population")
#: Divisors of the output interval, so that frames are equally far apart.
FEMTOSECONDS = (1, 2, 4, 5, 10)
SEED, OTHER_SEED = 1, 2
#: Of a bead, relative to the usual one: times are twice as long, and so are stable steps.
HEAVIER = 4.0


class Difference(Frozen):
    """A metric less that of the first run at 1 fs, with its 95 % interval over trajectories."""

    diff: float
    lo: float | None
    hi: float | None
    significant: bool | None


class Row(Frozen):
    """Metrics against the reference; ``fes_rms`` is the difference of surfaces in kcal/mol."""

    timestep_fs: float
    mass: float
    label: str | None
    seed: int
    steps_per_second: float
    replicas_alive: int
    metrics: dict[str, MetricValue]
    differences: dict[str, Difference]
    fes_rms: float | None


class Case(Frozen):
    """One model and its system."""

    model: str
    model_hash: str
    system: str
    largest_stable_fs: float | None
    rows: tuple[Row, ...]


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    cases: tuple[Case, ...]
    length_ps: float
    n_replicas: int
    provenance: provenance.Provenance


def surface_difference(one: Scored, other: Scored, temperature: float) -> float | None:
    """Return the difference of two free-energy surfaces over the cells that both visit."""
    if one.display is None or other.display is None:
        return None
    first, second = one.display.fes_model, other.display.fes_model
    both = np.isfinite(first) & np.isfinite(second)
    if not both.any():
        return None
    thermal = thermal_energy(temperature)
    weight = np.exp(-first[both] / thermal) + np.exp(-second[both] / thermal)
    difference = first[both] - second[both]
    # A surface is known up to a constant.
    difference = difference - np.average(difference, weights=weight)
    return float(np.sqrt(np.average(difference**2, weights=weight)))


def measure(
    model: str, timestep_fs: float, seed: int, length: float, folder: Path, *,
    bundle: ReferenceBundle, first: Scored | None = None, heavier: float = 1.0,
) -> tuple[Row, Scored]:  # fmt: skip
    """Simulate and score at one time step, and compare with the first run."""
    usual = registry.protocol(PROTOCOL)
    protocol = usual.model_copy(
        update={
            "timestep": timestep_fs / 1e3,
            "length": length,
            "bead_mass": heavier * usual.bead_mass,
        }
    )
    out = folder / f"{timestep_fs}-{seed}-{heavier}" / "trajectories.zarr"
    outcome = simulate(
        load_potential(find_potential(model)),
        system_input(bundle.system, bundle=bundle),
        protocol,
        seed=seed,
        out=out,
    )
    scored = score_simulation(out, bundle, protocol, name=model, errors=None, seed=1, workers=1)
    found = scored.result.metrics
    differences = {}
    for name in METRICS:
        values = [None if row is None else row.result.metrics.get(name) for row in (first, scored)]
        if first is not None and all(value and value.value is not None for value in values):
            one = row_difference(scored, first, name)
            differences[name] = Difference(
                diff=one.diff, lo=one.lo, hi=one.hi, significant=one.significant
            )
    row = Row(
        timestep_fs=timestep_fs,
        mass=protocol.bead_mass,
        label=next(iter(told_of_mass(protocol)), None),
        seed=seed,
        steps_per_second=outcome.steps_per_second,
        replicas_alive=sum(frame >= outcome.n_output_frames for frame in outcome.alive_until),
        metrics={name: found[name] for name in METRICS if name in found},
        differences=differences,
        fes_rms=None if first is None else surface_difference(scored, first, protocol.temperature),
    )
    told = f"{model}, {timestep_fs:g} fs, {protocol.bead_mass:g} amu: {row.replicas_alive} alive"
    Console(stderr=True).print(f"{told}, {row.steps_per_second:.0f} steps/s")
    return row, scored


def study(model: str, length: float, folder: Path) -> Case:
    """Find the largest stable step of a model and simulate at all up to it."""
    system = model.rpartition("/")[2]
    bundle = read_reference(find_reference(system))
    protocol = registry.protocol(PROTOCOL)
    path = find_potential(model)
    largest = largest_stable_step(
        load_potential(path), system_input(system, bundle=bundle), protocol, seed=SEED
    )
    steps = [step for step in FEMTOSECONDS if largest is not None and step <= 1e3 * largest]
    row, first = measure(model, 1, SEED, length, folder, bundle=bundle)
    runs = [(1.0, OTHER_SEED, 1.0), *((float(step), SEED, 1.0) for step in steps[1:])]
    if steps:
        runs.append((2.0 * steps[-1], SEED, HEAVIER))
    rows = [row]
    for step, seed, heavier in runs:
        rows.append(
            measure(model, step, seed, length, folder, bundle=bundle, first=first, heavier=heavier)[
                0
            ]
        )
    return Case(
        model=model,
        model_hash=model_hash(path),
        system=system,
        largest_stable_fs=None if largest is None else 1e3 * largest,
        rows=tuple(rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--length", type=float, default=20.0, help="ps of each replica")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for index, model in enumerate(options.models):
        with TemporaryDirectory() as name:
            cases.append(study(model, options.length, Path(name) / str(index)))
    benchmark = Benchmark(
        cases=tuple(cases),
        length_ps=options.length,
        n_replicas=registry.protocol(PROTOCOL).n_replicas,
        provenance=provenance.collect({"simulation": SEED, "second": OTHER_SEED, "resamples": 1}),
    )
    write_model(options.out, benchmark)
    Console().print_json(benchmark.model_dump_json(exclude={"provenance"}))


if __name__ == "__main__":
    main()
