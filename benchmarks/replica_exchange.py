"""How much sooner a free energy surface converges with replica exchange, per force evaluation.

    OMP_NUM_THREADS=1 python benchmarks/replica_exchange.py

Simulates the shipped model of chignolin at one temperature and with the ladder of the protocol
`replica-exchange`, same replicas, start frames and steps, and compares the surface after so many
force evaluations with that of a longer run of its own at one temperature. Frames of the run at one
temperature count alike (`plain`) or are weighted by its Markov state model, as in a leaderboard
(`plain_msm`); those of all temperatures are weighted by MBAR (`exchange`). Replicas start from the
frames of the protocol, which are spread over the surface, and for a second comparison all from the
native structure. Lower is better; `floor` is what two halves of the replicas of the long run differ
by. Writes `results/replica_exchange.json`.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cgbench import provenance, registry
from cgbench.evaluate import Ensemble, ReferenceBundle, read_reference
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.metrics import METRICS, Comparison
from cgbench.evaluate.observables import measure
from cgbench.evaluate.tally import tally
from cgbench.evaluate.weighting import weigh
from cgbench.models import model_hash
from cgbench.pipeline.programs import find_potential, load_potential
from cgbench.pipeline.simulate import system_input
from cgbench.simulation import SimulationOutcome, simulate
from cgbench.store import TrajectorySet, find_reference, read_trajectories

SYSTEM = "chignolin-sample-v2"
MODEL = "torchmd-gn/chignolin-sample-v2"
SHOWN = ("fes_rmse", "js_2d", "w1_tic1", "w1_tic2")
OUT = Path(__file__).parent / "results" / "replica_exchange.json"
LADDER = registry.protocol("replica-exchange")
PLAIN = LADDER.model_copy(update={"ladder": None, "model_msm_lag": 2.0})
#: Shares of a run after which its surface is looked at.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LONG_RUN_SEED = 1000


def run(
    protocol: registry.Protocol, start: str, length: float, seed: int, folder: Path
) -> tuple[TrajectorySet, SimulationOutcome]:
    """Simulate replicas of some ps, or take what an earlier call has left in the folder."""
    path = find_potential(MODEL, None)
    kind = "plain" if protocol.ladder is None else "exchange"
    name = f"{kind}-{seed}" if start == "k-centres" else f"{start}-{kind}-{seed}"
    out = folder / name / "trajectories.zarr"
    system = system_input(SYSTEM)
    if start == "native":
        native = read_reference(find_reference(SYSTEM)).native
        system = replace(system, starts=torch.from_numpy(native[None].astype(np.float32)))
    outcome = simulate(
        load_potential(path, None),
        system,
        protocol.model_copy(update={"length": length}),
        seed=seed,
        out=out,
        model_hash=model_hash(path),
        progress=lambda task, done, total: print(f"\r{name}: {task} {done}", end=""),
    )
    print()
    return read_trajectories(out, SYSTEM), outcome


def first(frames: TrajectorySet, n_frames: int) -> TrajectorySet:
    """Return the first frames of each replica."""

    def cut(values: list[np.ndarray] | None) -> list[np.ndarray] | None:
        return None if values is None else [one[:n_frames] for one in values]

    return replace(
        frames,
        coordinates=[one[:n_frames] for one in frames.coordinates],
        network_energy=cut(frames.network_energy),
        prior_energy=cut(frames.prior_energy),
        temperatures=cut(frames.temperatures),
        alive_until=np.minimum(frames.alive_until, n_frames),
    )


def distributed(
    frames: TrajectorySet,
    bundle: ReferenceBundle,
    *,
    dropped: float = LADDER.drop_fraction,
    weighted: bool = False,
    replicas: slice = slice(None),
) -> Distributions:
    """Return how frames are distributed, the start of each replica dropped."""
    ensemble = Ensemble.from_trajectory_set(frames).kept(dropped)
    observables = measure(bundle.definition, ensemble.trajectories, ensemble.alive_until)
    weights = None if ensemble.weights is None else np.concatenate(ensemble.weights)
    counted = tally(observables, bundle.definition, weights)
    taken = np.zeros((ensemble.n_trajectories, 1))
    taken[replicas] = 1.0
    of_state = np.ones((bundle.n_microstates, 1))
    if weighted:
        of_state = weigh(ensemble, observables, bundle, PLAIN, taken).weight_of_state
    return distributions(counted, taken, of_state)


def errors(found: Distributions, truth: Distributions, bundle: ReferenceBundle) -> dict[str, float]:
    """Return the metrics of one run against another."""
    compared = Comparison(model=found, reference=truth, bundle=bundle, surviving=np.ones(1))
    return {name: round(float(METRICS[name](compared)[0]), 4) for name in SHOWN}


def evaluations_until(curve: list[dict[str, float]], metric: str, level: float) -> int | None:
    """Return the force evaluations after which an error stays at or below a level."""
    below = [row[metric] <= level for row in curve]
    if not below[-1]:
        return None
    start = len(below) - next((i for i, ok in enumerate(reversed(below)) if not ok), len(below))
    return int(curve[start]["force_evaluations"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=float, default=48.0, help="ps of the compared runs")
    parser.add_argument("--long", type=float, default=160.0, help="ps of the long run")
    parser.add_argument("--native", type=float, default=24.0, help="ps of runs from the native")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind")
    parser.add_argument("--folder", type=Path, help="where the runs are kept, to go on with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measured = compare(options, options.folder or Path(scratch))
    measured["provenance"] = provenance.collect().model_dump(mode="json")
    OUT.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


def compare(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Run everything and return what is written."""
    bundle = read_reference(find_reference(SYSTEM))
    long_run, _ = run(PLAIN, "k-centres", options.long, LONG_RUN_SEED, folder)
    # More is dropped of it, so that the start frames, which all runs share, are forgotten.
    truth = distributed(long_run, bundle, dropped=0.25)
    half = [
        distributed(long_run, bundle, dropped=0.25, replicas=slice(i, None, 2)) for i in range(2)
    ]
    floor = errors(half[0], half[1], bundle)
    starts = {"k-centres": options.length, "native": options.native}
    return {
        "system": SYSTEM,
        "model": MODEL,
        "replicas": LADDER.n_replicas,
        "length_ps": starts,
        "long_run_ps": options.long,
        "seeds": options.seeds,
        "floor": floor,
        "starts": {
            start: compare_from(start, length, options.seeds, truth, bundle, folder)
            for start, length in starts.items()
        },
    }


def compare_from(
    start: str,
    length: float,
    n_seeds: int,
    truth: Distributions,
    bundle: ReferenceBundle,
    folder: Path,
) -> dict[str, object]:
    """Return errors of both kinds of runs from one kind of start frames."""
    per_frame = PLAIN.steps_per_output * PLAIN.n_replicas
    curves: dict[str, list[list[dict[str, float]]]] = {}
    mixing = []
    for seed in range(1, n_seeds + 1):
        for protocol in (PLAIN, LADDER):
            frames, outcome = run(protocol, start, length, seed, folder)
            if outcome.exchange is not None:
                mixing.append(outcome.exchange.model_dump(mode="json"))
            kinds = {"exchange": False} if outcome.exchange else {"plain": False, "plain_msm": True}
            for kind, weighted in kinds.items():
                rows = []
                for share in SHARES:
                    n_frames = round(share * outcome.n_output_frames)
                    found = distributed(first(frames, n_frames), bundle, weighted=weighted)
                    row: dict[str, float] = {"force_evaluations": n_frames * per_frame}
                    rows.append(row | errors(found, truth, bundle))
                curves.setdefault(kind, []).append(rows)
    mean = {
        kind: [
            {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            for rows in zip(*runs, strict=True)
        ]
        for kind, runs in curves.items()
    }
    reached = {
        metric: {
            "error_at_the_end": {kind: round(rows[-1][metric], 4) for kind, rows in mean.items()},
            "force_evaluations_to_the_last_error_of_plain": {
                kind: evaluations_until(rows, metric, mean["plain"][-1][metric])
                for kind, rows in mean.items()
            },
        }
        for metric in SHOWN
    }
    for metric, row in reached.items():
        print(start, metric, json.dumps(row))
    return {"reached": reached, "mean": mean, "runs": curves, "exchange": mixing}


if __name__ == "__main__":
    main()
