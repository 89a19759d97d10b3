"""Where the time of a simulation and of a training epoch goes, from the start to what is on disk.

    python benchmarks/profile_runs.py PUBLISHED_FOLDER [--out FILE] [--short]
    python benchmarks/profile_runs.py --write

Simulations are those of ``benchmarks/simulation.py``: 32 replicas, the reference architecture with
the published prior, single precision, one thread, written to a file every 25 steps with its
checkpoints, all by ``cgbench.simulation.simulate``. Training is one epoch of the reference
architecture on the embedded sample by ``cgbench.train.train`` with batches of 256 frames.

Parts are timed inside those runs. Steps of a simulation are one compiled function; prior and
integrator are timed by themselves, and what is left, the network, is divided in the proportion of
its parts, which are timed by themselves, too. Takes about four minutes.
"""

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from simulation_cases import CASES, Case, read_case
from simulation_measures import integrator_seconds, least
from simulation_tables import write_page

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.kernels import activation, network, pair_vectors, pairs, products
from cgbench.kernels.chain import BLOCK_BEADS, ChainKernel
from cgbench.kernels.training import TrainingKernel
from cgbench.models import FusedForceLoss, FusedPotential, NetworkPotential
from cgbench.simulation import simulate
from cgbench.simulation.recorder import Recorder
from cgbench.simulation.run import Run
from cgbench.simulation.streams import ReplicaStreams
from cgbench.train import TrainingConfig, train
from cgbench.train.module import ForceMatching

RESULTS = Path(__file__).parent / "results" / "profile.json"
REPLICAS, SEED = 32, 1
#: Products of 128 × 128 for each bead in a step.
PRODUCTS = 23


class Profile(Frozen):
    """Shares of the wall time of a run, which add up to one."""

    run: str
    seconds: float
    shares: dict[str, float]


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    simulations: tuple[Profile, ...]
    training: Profile
    provenance: provenance.Provenance


class Stopwatch:
    """Seconds spent in functions, while it is used as a context."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack = ExitStack()

    def watch(self, name: str, owner: Any, attribute: str) -> None:
        """Count the time of a method under a name."""
        original = getattr(owner, attribute)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                taken = time.perf_counter() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + taken

        self.seconds.setdefault(name, 0.0)
        self._stack.enter_context(mock.patch.object(owner, attribute, timed))

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def network_parts(case: Case, repeats: int) -> dict[str, float]:
    """Return the seconds of the parts of one evaluation of a block of replicas."""
    fused = FusedPotential(case.potential(), case.system().bead_types)
    arrays, constants = fused.kernel._network, fused.kernel._rational
    assert arrays is not None
    n = max(1, min(REPLICAS, BLOCK_BEADS // case.n_beads))
    n_rows = n * case.n_beads
    generator = np.random.default_rng(SEED)
    work = network.workspace(arrays, n)
    for rows in (work.sent, work.active, work.features, work.received, work.change, work.pulled):
        rows[...] = generator.normal(scale=0.1, size=rows.shape)
    positions = np.repeat(case.native[None], n, axis=0)
    lower, upper, per_spacing = arrays.cutoffs
    start, second = lists = (work.start[: n_rows + 1], work.second)
    place, weights, slopes, partial = work.place, work.weights, work.slopes, work.partial
    sent, received = work.sent[1, :n_rows], work.received[:n_rows]
    change, pulled, active = work.change[:n_rows], work.pulled[:n_rows], work.active[1, :n_rows]
    table, forces = arrays.tables[1], np.zeros((n_rows, 3), np.float32)
    n_intervals = arrays.tables.shape[1] - 3
    n_layers = len(arrays.tables)

    def find() -> None:
        n_pairs = pairs.find_pairs(positions, lower, upper, lists, work.differences, work.distances)
        distances = work.distances[:n_pairs]
        pairs.place_pairs(distances, lower, per_spacing, n_intervals, place, weights)
        partial[:n_pairs] = 0
        pair_vectors.summed_slopes(partial, n_pairs, slopes)
        pairs.pair_forces(lists, work.differences, work.distances, slopes, forces)

    def forward() -> None:
        pair_vectors.send_vectors(
            start, second, place, weights, table, sent, received, partial.shape[1]
        )

    def back() -> None:
        pair_vectors.pull_vectors(
            start, second, place, weights, table, sent, received, partial, pulled, partial.shape[1]
        )

    def product() -> None:
        products.multiply(received, arrays.receive_forward[1], change)

    def tanh() -> None:
        activation.add_bias_tanh(active, arrays.receive_bias[1], constants)
        activation.times_tanh_slope(change, active)
        network.add_bias(work.features[:n_rows], arrays.update_bias[1])

    find()
    taken = {
        "pairs": least(find, repeats) + n_layers * (least(forward, repeats) + least(back, repeats)),
        "dense layers": PRODUCTS * least(product, repeats),
        "tanh and sums": n_layers * least(tanh, repeats),
    }
    whole = sum(taken.values())
    return {name: seconds / whole for name, seconds in taken.items()}


def profile_simulation(case: Case, n_frames: int, folder: Path) -> Profile:
    """Return where the time of a simulation to disk goes."""
    usual = registry.protocol("standard")
    protocol = usual.model_copy(
        update={
            "n_replicas": REPLICAS,
            "timestep": 0.001,
            "output_interval": 0.025,
            "length": 0.025 * n_frames,
        }
    )
    potential = case.potential()
    alone = NetworkPotential(None, potential.prior, potential.spec)
    prior = FusedPotential(alone, case.system().bead_types)
    with Stopwatch() as watch:
        watch.watch("kernel", ChainKernel, "advance")
        watch.watch("noise", ReplicaStreams, "draw")
        watch.watch("writing", Run, "_output")
        for name in ("finish", "save", "close"):
            watch.watch("writing", Recorder, name)
        watch.watch("run", Run, "finish")
        simulate(
            potential, case.system(), protocol, seed=SEED, out=folder / f"{case.name}.zarr",
            model_hash="benchmark",
        )  # fmt: skip
        taken = dict(watch.seconds)
    positions = np.repeat(case.native[None], REPLICAS, axis=0)
    n_steps = 25 * n_frames
    of_prior = n_steps * least(lambda: prior.kernel(positions), 50)
    integrator = n_steps * integrator_seconds(positions)
    of_network = taken["kernel"] - taken["noise"] - of_prior - integrator
    parts = {name: share * of_network for name, share in network_parts(case, 50).items()}
    parts.update(prior=of_prior, noise=taken["noise"], integrator=integrator)
    parts["writing"] = taken["writing"]
    whole = taken["run"]
    parts["Python"] = whole - sum(parts.values())
    return Profile(
        run=case.name,
        seconds=whole,
        shares={name: seconds / whole for name, seconds in parts.items()},
    )


def profile_training(folder: Path) -> Profile:
    """Return where the time of an epoch goes."""
    import lightning

    settings = TrainingConfig(
        name="profile",
        systems=("chignolin-sample",),
        threads=1,
        optimiser={"batch_size": 256, "maximum_epochs": 1},
    )
    with Stopwatch() as watch:
        watch.watch("kernel", TrainingKernel, "__call__")
        watch.watch("loss", FusedForceLoss, "chains")
        watch.watch("step", ForceMatching, "training_step")
        watch.watch("back", torch.Tensor, "backward")
        watch.watch("optimiser", torch.optim.AdamW, "step")
        watch.watch("fit", lightning.Trainer, "fit")
        train(settings, folder / "training")
        taken = dict(watch.seconds)
    whole = taken["fit"]
    parts = {
        "forces and gradients": taken["kernel"],
        "filter tables": taken["loss"] - taken["kernel"] + taken["back"],
        "optimiser": taken["optimiser"] - taken["step"] - taken["back"],
    }
    parts["data, Lightning and Python"] = whole - sum(parts.values())
    return Profile(
        run="chignolin-sample",
        seconds=whole,
        shares={name: seconds / whole for name, seconds in parts.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("published_folder", type=Path, nargs="?")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", action="store_true", help="only write the tables of the page")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.write:
        write_page()
        return
    if options.published_folder is None:
        parser.error("PUBLISHED_FOLDER is needed")
    torch.set_num_threads(1)
    n_frames = {"chignolin": 1200, "proteing": 200, "lambda": 150}
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Once before, so that nothing is compiled or imported within what is timed.
        warm = read_case(options.published_folder, CASES[0])
        profile_simulation(warm, 1, folder / "warm")
        simulations = tuple(
            profile_simulation(
                read_case(options.published_folder, one),
                n_frames[one] // (20 if options.short else 1),
                folder,
            )
            for one in CASES
        )
        profile_training(folder / "warm")
        training = profile_training(folder)
    benchmark = Benchmark(
        simulations=simulations, training=training, provenance=provenance.collect({"runs": SEED})
    )
    write_model(options.out, benchmark)
    Console(file=sys.stderr).print_json(benchmark.model_dump_json(exclude={"provenance"}))


if __name__ == "__main__":
    main()
