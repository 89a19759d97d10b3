"""Largest stable time step of the shipped model, and what the step does to its ensemble.

    python benchmarks/time_step.py [--length PS] [--out FILE]

The model of the embedded sample is simulated under the protocol ``demo`` with other time steps:
1 fs twice, with two seeds, then 2, 4 and further up to the largest at which eight replicas live for
4 ps.
The same seed at another step is another realisation of the noise, so two runs at 1 fs show what
chance alone does. A step changes nothing that is seen if its metrics differ from those at 1 fs by
less than the 95 % intervals of both allow. Takes about five minutes on one core.
"""

import argparse
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.evaluate import ReferenceBundle, read_reference
from cgbench.models import model_hash
from cgbench.pipeline.programs import find_potential, load_potential
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.results import MetricValue
from cgbench.simulation import largest_stable_step, simulate
from cgbench.store import find_reference

RESULTS = Path(__file__).parent / "results" / "time_step.json"
MODEL, SYSTEM, PROTOCOL = "torchmd-gn/chignolin-sample", "chignolin-sample", "demo"
METRICS = ("w1_tic1", "w1_tic2", "fes_rmse", "rg_w1", "dihedral_js", "native_population")
#: Divisors of the output interval, so that frames are equally far apart.
FEMTOSECONDS = (1, 2, 4, 5, 10)
SEED, OTHER_SEED = 1, 2


class Row(Frozen):
    """Metrics against the reference; ``beyond_noise`` are those that differ from those at 1 fs."""

    timestep_fs: float
    seed: int
    steps_per_second: float
    replicas_alive: int
    metrics: dict[str, MetricValue]
    beyond_noise: tuple[str, ...]


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    model: str
    model_hash: str
    system: str
    length_ps: float
    n_replicas: int
    largest_stable_fs: float | None
    rows: tuple[Row, ...]
    provenance: provenance.Provenance


def differs(one: MetricValue, other: MetricValue) -> bool:
    """Say whether two values differ by more than their intervals allow together."""
    if one.value is None or other.value is None:
        return one.status != other.status
    # The difference of two values, each with its own error, has errors that add in squares.
    low, high = sorted((one, other), key=lambda value: value.value or 0.0)
    above = 0.0 if low.hi is None or low.value is None else low.hi - low.value
    below = 0.0 if high.lo is None or high.value is None else high.value - high.lo
    return abs(one.value - other.value) > math.hypot(above, below)


def measure(
    timestep_fs: float, seed: int, length: float, bundle: ReferenceBundle, folder: Path
) -> Row:
    """Simulate and score at one time step."""
    path = find_potential(MODEL)
    protocol = registry.protocol(PROTOCOL).model_copy(
        update={"timestep": timestep_fs / 1e3, "length": length}
    )
    out = folder / f"{timestep_fs}-{seed}" / "trajectories.zarr"
    outcome = simulate(
        load_potential(path), system_input(SYSTEM, bundle=bundle), protocol, seed=seed, out=out
    )
    scored = score_simulation(out, bundle, protocol, name=MODEL, errors=None, seed=1, workers=1)
    found = scored.result.metrics
    return Row(
        timestep_fs=timestep_fs,
        seed=seed,
        steps_per_second=outcome.steps_per_second,
        replicas_alive=sum(frame >= outcome.n_output_frames for frame in outcome.alive_until),
        metrics={name: found[name] for name in METRICS if name in found},
        beyond_noise=(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--length", type=float, default=20.0, help="ps of each replica")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = find_potential(MODEL)
    bundle = read_reference(find_reference(SYSTEM))
    protocol = registry.protocol(PROTOCOL)
    largest = largest_stable_step(
        load_potential(path), system_input(SYSTEM, bundle=bundle), protocol, seed=SEED
    )
    steps = [step for step in FEMTOSECONDS if largest is not None and step <= 1e3 * largest]
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = [measure(1, SEED, options.length, bundle, folder)]
        rows.append(measure(1, OTHER_SEED, options.length, bundle, folder))
        rows += [measure(step, SEED, options.length, bundle, folder) for step in steps[1:]]
    first = rows[0].metrics
    rows = [
        row.model_copy(
            update={
                "beyond_noise": tuple(
                    name for name, value in row.metrics.items() if differs(value, first[name])
                )
            }
        )
        for row in rows
    ]
    benchmark = Benchmark(
        model=MODEL,
        model_hash=model_hash(path),
        system=SYSTEM,
        length_ps=options.length,
        n_replicas=protocol.n_replicas,
        largest_stable_fs=None if largest is None else 1e3 * largest,
        rows=tuple(rows),
        provenance=provenance.collect({"simulation": SEED, "second": OTHER_SEED, "resamples": 1}),
    )
    write_model(options.out, benchmark)
    Console().print_json(benchmark.model_dump_json(exclude={"provenance"}))


if __name__ == "__main__":
    main()
