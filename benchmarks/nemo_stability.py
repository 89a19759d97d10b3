"""What keeps the gradient through NEMO's simulator finite when its steps become large.

    python benchmarks/nemo_stability.py [--updates N] [--out FILE]

The same untrained model is trained twice on the embedded sample, while its step size is multiplied
by a factor after every update, so that it begins far below the step at which the simulator begins
to drive neighbouring chains apart and ends far above: once with the regularisation of the largest
Lyapunov exponent in the loss, once without. Seeds, data, noise and everything else are the same;
back-propagation is not damped, and drifts have no bound. Written down for each update: the step
size, the mean exponent, and the norm of the gradient that passed through all steps of the
simulation, or that it was not finite. An update whose unrolled gradient is not finite is made with
the local parts of the loss alone, in both runs. Takes about three minutes on one core.
"""

import argparse
import math
from pathlib import Path

import torch
from rich.console import Console

from cgbench import provenance
from cgbench.config import Frozen, write_model
from cgbench.errors import SimulationError
from cgbench.nemo.model import Nemo
from cgbench.nemo.simulator import draw_noise, simulate
from cgbench.nemo.stability import stretch
from cgbench.train.material import open_material
from cgbench.train.nemo_config import NemoConfig
from cgbench.train.nemo_data import ChainData, read_chains
from cgbench.train.nemo_losses import LOCAL, loss_parts, streams

RESULTS = Path(__file__).parent / "results" / "nemo_stability.json"
FIGURE = Path(__file__).parent.parent / "docs" / "nemo-stability.png"
FIRST, FACTOR = 1.0, 1.12
#: Exponent above which steps count as past the critical size: a factor of 150 in 50 steps.
CRITICAL = 0.1
N_STEPS = 50


class Row(Frozen):
    """One update.

    Attributes:
        update: Number of the update.
        step_size: ε before the model's own factor.
        learned_step_size: ε with it.
        exponent: Mean logarithm of the stretch of a small displacement per step of the simulation;
            None where it is not finite.
        gradient: Norm of the gradient through the simulation; None where it is not finite.
        failed: Why there was none, where there was none.
    """

    update: int
    step_size: float
    learned_step_size: float
    exponent: float | None
    gradient: float | None
    failed: str = ""


class Stability(Frozen):
    """Both runs.

    Attributes:
        n_steps: Steps of the simulation.
        critical_step_size: Step size at which the exponent of the untrained model passes 0.1.
        regularised: With the regularisation.
        plain: Without.
        provenance: Machine and versions.
    """

    n_steps: int
    critical_step_size: float | None
    regularised: tuple[Row, ...]
    plain: tuple[Row, ...]
    provenance: provenance.Provenance


def settings_for(lyapunov: float) -> NemoConfig:
    return NemoConfig.model_validate(
        {
            "name": "nemo/stability",
            "system": "chignolin-sample",
            "maximum_frames": 2000,
            "network": {
                "width": 32,
                "n_blocks": 2,
                "energy": {"hidden": 16, "n_features": 8},
                "simulator": {"n_steps": N_STEPS, "integrator": "direct", "learned_range": 30.0},
            },
            "loss": {"lyapunov": lyapunov, "lyapunov_places": 3, "lyapunov_allowed": 0.05},
            "optimiser": {"chains": 8, "frames": 32, "damping": 1.0, "learning_rate": 0.003,
                          "checkpointing": False, "segment": 5},
        }
    )  # fmt: skip


def at_step_size(model: Nemo, settings: NemoConfig, size: float) -> None:
    """Give a model another ε; what it has learned stays."""
    simulator = settings.network.simulator.model_copy(update={"step_size": size})
    shape = settings.network.model_copy(update={"simulator": simulator}).at(350.0)
    model.settings = model.sequence.settings = shape


@torch.no_grad()
def exponent(model: Nemo, data: ChainData) -> tuple[float, float]:
    """Return the mean exponent along a simulation, and ε."""
    random = streams(7, 0)
    conditions = model.conditions(data.sequence)
    dynamics = model.dynamics(conditions)
    z = model.initial(conditions, 16, random.chains)
    noise = draw_noise(16, len(data.sequence), N_STEPS, random.chains, z.lengths)
    found = simulate(dynamics, z, noise, segment=5)
    values = []
    for step, state in zip(found.steps[:-1], found.states[:-1], strict=True):
        direction = torch.randn(noise.shape[1:], generator=random.chains)
        values.append(stretch(dynamics, state, noise[step : step + 5], direction).mean())
    return float(torch.stack(values).mean()), float(conditions.step_size)


def one_run(data: ChainData, lyapunov: float, updates: int, console: Console) -> tuple[Row, ...]:
    settings = settings_for(lyapunov)
    torch.manual_seed(1)
    model = Nemo(settings.network.at(350.0))
    adam = torch.optim.Adam(model.parameters(), lr=settings.optimiser.learning_rate)
    weights = list(model.parameters())
    rows = []
    for update in range(updates):
        size = FIRST * FACTOR**update
        at_step_size(model, settings, size)
        stretched, learned = exponent(model, data)
        norm, failed = math.inf, ""
        try:
            terms = loss_parts(model, data, settings, update + 1).terms
            adam.zero_grad()
            for local in (False, True):
                chosen = [term for name, term in terms.items() if (name in LOCAL) == local]
                found = torch.autograd.grad(
                    torch.stack(chosen).sum(), weights, retain_graph=True, allow_unused=True
                )
                size_of = math.sqrt(
                    sum(float((g.double() ** 2).sum()) for g in found if g is not None)
                )
                if not local:
                    norm = size_of
                    failed = "" if math.isfinite(norm) else "the gradient is not finite"
                if math.isfinite(size_of):
                    factor = min(1.0, 1.0 / max(size_of, 1e-30))
                    for weight, own in zip(weights, found, strict=True):
                        if own is not None:
                            weight.grad = factor * own + (
                                0.0 if weight.grad is None else weight.grad
                            )
            adam.step()
        except SimulationError as error:
            failed = error.what.partition(": ")[2]
        rows.append(
            Row(
                update=update + 1,
                step_size=size,
                learned_step_size=learned,
                exponent=stretched if math.isfinite(stretched) else None,
                gradient=norm if math.isfinite(norm) else None,
                failed=failed,
            )
        )
        console.print(f"λ weight {lyapunov:g}: {rows[-1]}")
    return tuple(rows)


def critical(data: ChainData) -> float | None:
    """Return the step size at which the exponent of the untrained model passes 0.1."""
    settings = settings_for(0.0)
    torch.manual_seed(1)
    model = Nemo(settings.network.at(350.0))
    size = FIRST
    for _ in range(60):
        at_step_size(model, settings, size)
        if not exponent(model, data)[0] < CRITICAL:
            return size
        size *= 1.1
    return None


def draw(found: Stability, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(6.4, 6.0), sharex=True)
    for rows, label, colour in (
        (found.plain, "without", "tab:red"),
        (found.regularised, "with the regularisation", "tab:blue"),
    ):
        known = [row for row in rows if row.gradient is not None]
        above.plot(
            [r.step_size for r in known],
            [r.gradient for r in known],
            "o-",
            ms=3,
            label=label,
            c=colour,
        )
        lost = [row.step_size for row in rows if row.gradient is None]
        above.plot(lost, [1e38] * len(lost), "x", c=colour)
        known = [row for row in rows if row.exponent is not None]
        below.plot([r.step_size for r in known], [r.exponent for r in known], "o-", ms=3, c=colour)
    if found.critical_step_size is not None:
        for axes in (above, below):
            axes.axvline(found.critical_step_size, c="grey", ls="--")
    above.set(yscale="log", xscale="log", ylabel="norm of the gradient (×: not finite)")
    above.legend(fontsize=8)
    below.axhline(0.0, c="black", lw=0.5)
    below.set(xlabel="step size ε, raised with every update", ylabel="exponent per step")
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=36)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    settings = settings_for(0.0)
    (data,) = read_chains(settings, open_material(settings.as_training()))
    found = Stability(
        n_steps=N_STEPS,
        critical_step_size=critical(data),
        plain=one_run(data, 0.0, given.updates, console),
        regularised=one_run(data, 1.0, given.updates, console),
        provenance=provenance.collect({"training": 1}),
    )
    write_model(given.out, found)
    draw(found, given.figure)


if __name__ == "__main__":
    main()
