"""What a step of NEMO's simulator costs, by integrator and length of the chain, and what it keeps.

    python benchmarks/nemo_cost.py [--lengths N...] [--out FILE]
    python benchmarks/nemo_cost.py --write

Three ways to take a step: *direct* with the chain placed in log₂ L passes, *direct* with the chain
placed bead after bead, and *transform*. They are timed with the learned energy, and with an energy
of nothing (the geometry alone, which is what they differ in), forwards, and forwards with the
gradient. Best of several repeats, in turn, in processor time. And what is kept in memory for the
gradient of a simulation, with and without checkpoints, by counting the distinct storages saved.
`--write` puts the table of the results into docs/nemo.md.
"""

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final
from weakref import WeakSet

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from cgbench import provenance
from cgbench.config import Frozen, read_model, write_atomic, write_model
from cgbench.nemo import internal, simulator
from cgbench.nemo.features import AMINO_ACIDS
from cgbench.nemo.model import Nemo, NemoSettings
from cgbench.nemo.settings import Integrator, SimulatorSettings
from cgbench.nemo.simulator import Dynamics, draw_noise, simulate

RESULTS = Path(__file__).parent / "results" / "nemo_cost.json"
PAGE = Path(__file__).parent.parent / "docs" / "nemo.md"
LENGTHS = (10, 20, 40, 80)
CHAINS, STEPS, REPEATS = 8, 4, 12
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


class Holder:
    """A tensor that a graph keeps; it goes when the graph goes."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def nothing(x: Tensor) -> Tensor:
    return 0.5 * 1e-6 * (x * x).sum(dim=(1, 2))


def prepared(n_beads: int, kind: Integrator) -> tuple[Nemo, Dynamics, internal.InternalCoordinates]:
    torch.manual_seed(1)
    # Drifts are bounded as in every shipped configuration: beads of a long random chain lie on each
    # other, and their repulsion would drive the beads of *transform* out of all numbers.
    model = Nemo(NemoSettings(simulator=SimulatorSettings(largest_drift=1.0)))
    letters = np.random.default_rng(1).choice(list(AMINO_ACIDS), n_beads)
    conditions = model.conditions("".join(letters))
    z = model.initial(conditions, CHAINS, torch.Generator().manual_seed(2))
    return model, model.dynamics(conditions, integrator=kind), z


def passes(way: str, n_beads: int, with_energy: bool) -> tuple[Callable[[], None], ...]:
    """Return what takes some steps one way: without a gradient, and with it."""
    kind, in_turn = WAYS[way]
    model, dynamics, z = prepared(n_beads, kind)
    if not with_energy:
        dynamics = replace(dynamics, energy=nothing)
    noise = draw_noise(CHAINS, n_beads, STEPS, torch.Generator().manual_seed(3), z.lengths)
    usual = simulator.to_cartesian
    placing = internal.to_cartesian_in_turn if in_turn else usual
    weights = list(model.parameters())

    def simulated() -> Tensor:
        simulator.to_cartesian = placing
        try:
            found = simulate(dynamics, z, noise)
        finally:
            simulator.to_cartesian = usual
        if found.first_bad is not None:
            # A segment that diverges is run twice, to find the step: that is no cost of a step.
            raise SystemExit(f"{way}, {n_beads} beads: diverged in step {found.first_bad}")
        return found.x

    def forward() -> None:
        with torch.no_grad():
            simulated()

    def gradient() -> None:
        torch.autograd.grad(simulated().sum(), weights, allow_unused=True, retain_graph=True)

    return forward, gradient


def costs(n_beads: int, with_energy: bool) -> list[Cost]:
    """Measure all ways in turn, so that a slow moment of the machine is one of all."""
    runs = {way: passes(way, n_beads, with_energy) for way in WAYS}
    least: dict[str, list[float]] = {way: [float("inf"), float("inf")] for way in WAYS}
    for number in range(REPEATS + 1):
        for way, both in runs.items():
            for which, run in enumerate(both):
                began = time.process_time()
                run()
                spent = 1e3 * (time.process_time() - began) / STEPS
                if number:  # The first round only warms up.
                    least[way][which] = min(least[way][which], spent)
    return [
        Cost(way=way, n_beads=n_beads, energy=with_energy, forward=found[0], gradient=found[1])
        for way, found in least.items()
    ]


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


def table(found: Costs) -> str:
    """Return the Markdown table of results."""
    lengths = sorted({row.n_beads for row in found.steps})
    lines = [
        ["ms forward / with gradient", "", *(f"{n} beads" for n in lengths)],
        ["---"] * (2 + len(lengths)),
    ]
    for with_energy, told in ((False, "geometry alone"), (True, "with the energy")):
        for way in WAYS:
            own = {
                row.n_beads: f"{row.forward:.1f} / {row.gradient:.1f}"
                for row in found.steps
                if row.way == way and row.energy == with_energy
            }
            lines.append([way, told, *(own[n] for n in lengths)])
    for kind in ("direct", "transform"):
        memory = {row.n_beads: row for row in found.memory if row.integrator == kind}
        cells = (f"{memory[n].everything:.0f} / {memory[n].checkpoints:.2f}" for n in lengths)
        lines.append([kind, "MB of 50 steps: all / checkpoints", *cells])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def filled(page: str, found: Costs) -> str:
    """Return the page with its table replaced."""
    before, opened, rest = page.partition("<!-- cost -->")
    _, closed, after = rest.partition("<!-- /cost -->")
    if not opened or not closed:
        raise SystemExit(f"{PAGE}: no markers")
    return f"{before}{opened}\n{table(found)}\n{closed}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="only write the table of the page")
    given = parser.parse_args()
    if given.write:
        write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8"), read_model(Costs, RESULTS)))
        return
    torch.set_num_threads(1)
    console = Console()
    rows: list[Cost] = []
    memory: list[Kept] = []
    for n_beads in given.lengths:
        for with_energy in (False, True):
            rows += costs(n_beads, with_energy)
            console.print(rows[-len(WAYS) :])
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
