"""What a step of NEMO's simulator costs, by integrator and length of the chain, and what it keeps.

    python benchmarks/nemo_cost.py [--lengths N...] [--out FILE]

Three ways to take a step: *direct* with the chain placed in log₂ L passes, *direct* with the chain
placed bead after bead, and *transform*. They are timed with the learned energy, and with an energy
of nothing (the geometry alone, which is what they differ in), forwards, and forwards with the
gradient. Best of several repeats, in processor time. And what is kept in memory for the gradient of
a simulation, with and without checkpoints, by counting the distinct storages that are saved.
"""

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from weakref import WeakSet

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from cgbench import provenance
from cgbench.config import Frozen, write_model
from cgbench.nemo import internal, simulator
from cgbench.nemo.features import AMINO_ACIDS
from cgbench.nemo.model import Nemo, NemoSettings
from cgbench.nemo.settings import Integrator
from cgbench.nemo.simulator import Dynamics, draw_noise, simulate

RESULTS = Path(__file__).parent / "results" / "nemo_cost.json"
LENGTHS = (10, 20, 40, 80)
CHAINS, STEPS, REPEATS = 8, 4, 3
WAYS: Final[dict[str, tuple[Integrator, bool]]] = {
    "direct": ("direct", False),
    "direct, bead after bead": ("direct", True),
    "transform": ("transform", False),
}


class Cost(Frozen):
    """Milliseconds of a step of all chains together.

    Attributes:
        way: How a step is taken.
        n_beads: L.
        energy: Whether the learned energy is in it, or nothing.
        forward: Without a gradient.
        gradient: With the gradient of the end in all weights, or in the start.
    """

    way: str
    n_beads: int
    energy: bool
    forward: float
    gradient: float


class Kept(Frozen):
    """Megabytes that a simulation keeps for its gradient."""

    integrator: str
    n_beads: int
    n_steps: int
    segment: int
    everything: float
    checkpoints: float


class Costs(Frozen):
    """All measurements; times are of this many chains on one thread."""

    n_chains: int
    steps: tuple[Cost, ...]
    memory: tuple[Kept, ...]
    provenance: provenance.Provenance


def best(run: Callable[[], object]) -> float:
    """Return the least processor time of a run in ms."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


class Holder:
    """A tensor that a graph keeps; it goes when the graph goes."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def nothing(x: Tensor) -> Tensor:
    return 0.5 * 1e-6 * (x * x).sum(dim=(1, 2))


def prepared(n_beads: int, kind: Integrator) -> tuple[Nemo, Dynamics, internal.InternalCoordinates]:
    torch.manual_seed(1)
    model = Nemo(NemoSettings())
    letters = np.random.default_rng(1).choice(list(AMINO_ACIDS), n_beads)
    conditions = model.conditions("".join(letters))
    z = model.initial(conditions, CHAINS, torch.Generator().manual_seed(2))
    return model, model.dynamics(conditions, integrator=kind), z


def cost(way: str, n_beads: int, with_energy: bool) -> Cost:
    kind, in_turn = WAYS[way]
    model, dynamics, z = prepared(n_beads, kind)
    if not with_energy:
        dynamics = Dynamics(nothing, dynamics.variance, dynamics.step_size, kind)
    noise = draw_noise(CHAINS, n_beads, STEPS, torch.Generator().manual_seed(3), z.lengths)
    usual = simulator.to_cartesian
    simulator.to_cartesian = internal.to_cartesian_in_turn if in_turn else usual
    try:

        def forward() -> None:
            with torch.no_grad():
                simulate(dynamics, z, noise)

        def gradient() -> None:
            end = simulate(dynamics, z, noise).x
            weights = [one for one in model.parameters() if one.requires_grad]
            torch.autograd.grad(end.sum(), weights, allow_unused=True, retain_graph=True)

        forward()
        found = best(forward) / STEPS, best(gradient) / STEPS
    finally:
        simulator.to_cartesian = usual
    return Cost(way=way, n_beads=n_beads, energy=with_energy, forward=found[0], gradient=found[1])


def kept(n_beads: int, kind: Integrator, n_steps: int = 50, segment: int = 7) -> Kept:
    model, dynamics, z = prepared(n_beads, kind)
    noise = draw_noise(CHAINS, n_beads, n_steps, torch.Generator().manual_seed(3), z.lengths)
    conditions = model.conditions("A" * n_beads)
    sizes = []
    for checkpoint in (False, True):
        live: WeakSet[Holder] = WeakSet()

        def keep(tensor: Tensor, live: WeakSet[Holder] = live) -> Holder:
            holder = Holder(tensor)
            live.add(holder)
            return holder

        dynamics = model.dynamics(conditions, integrator=kind)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
            found = simulate(dynamics, z, noise, segment=segment, checkpoint=checkpoint,
                             parameters=model.simulated_by(conditions))  # fmt: skip
        gc.collect()
        # What the forces needed for themselves is gone again; the end holds the rest.
        storages = [holder.tensor.untyped_storage() for holder in live]
        held = {storage.data_ptr(): storage.nbytes() for storage in storages}
        sizes.append(sum(held.values()) / 2**20)
        del found
    return Kept(
        integrator=kind, n_beads=n_beads, n_steps=n_steps, segment=segment,
        everything=sizes[0], checkpoints=sizes[1],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    rows, memory = [], []
    for n_beads in given.lengths:
        for with_energy in (False, True):
            for way in WAYS:
                rows.append(cost(way, n_beads, with_energy))
                console.print(rows[-1])
        for kind in ("direct", "transform"):
            memory.append(kept(n_beads, kind))
            console.print(memory[-1])
    found = Costs(
        n_chains=CHAINS,
        steps=tuple(rows),
        memory=tuple(memory),
        provenance=provenance.collect({"model": 1}),
    )
    write_model(given.out, found)


if __name__ == "__main__":
    main()
