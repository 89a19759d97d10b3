"""The parts of NEMO's loss, in training and in validation."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgbench.errors import SimulationError
from cgbench.nemo.model import Nemo
from cgbench.nemo.risk import TERMS, risk
from cgbench.nemo.sequence import Conditions
from cgbench.nemo.simulator import Dynamics, Rollout, draw_noise, simulate
from cgbench.nemo.stability import lyapunov_penalty
from cgbench.train.nemo_config import NemoConfig, NemoLoss
from cgbench.train.nemo_data import ChainData

#: Of the streams of random numbers of a validation; training steps have theirs by number.
_VALIDATION = 2**31
#: Energy per residue above that of data, in kT, beyond which a sample counts little.
_FAR = 5.0
#: Parts of the loss whose gradient does not pass through the simulation.
LOCAL = frozenset({"likelihood", "energy_scale", "lyapunov"})


class Parts(NamedTuple):
    """What a training step computes.

    Attributes:
        terms: Weighted parts of the loss, by name; the loss is their sum.
        raw: The same before weighting.
        moved: Mean distance of beads from where the simulation began, Å.
    """

    terms: dict[str, Tensor]
    raw: dict[str, float]
    moved: float


class Streams(NamedTuple):
    """Random numbers of one training step, by its number alone."""

    chains: torch.Generator
    data: np.random.Generator


def streams(seed: int, step: int) -> Streams:
    """Return the random streams of a step, which depend on nothing that went before."""
    sequence = np.random.SeedSequence([seed, step])
    first, second = sequence.spawn(2)
    number = int(first.generate_state(1, np.uint64)[0] >> 1)
    return Streams(torch.Generator().manual_seed(number), np.random.default_rng(second))


def rollout(
    model: Nemo, data: ChainData, settings: NemoConfig, random: Streams
) -> tuple[Conditions, Dynamics, Rollout, Tensor]:
    """Simulate a batch of chains, with the graph that the gradient needs."""
    optimiser = settings.optimiser
    conditions = model.conditions(data.sequence, data.profile)
    dynamics = model.dynamics(conditions, damping=optimiser.damping)
    z = model.initial(conditions, optimiser.chains, random.chains)
    n_steps = model.settings.simulator.n_steps
    noise = draw_noise(optimiser.chains, len(data.sequence), n_steps, random.chains, z.lengths)
    found = simulate(
        dynamics,
        z,
        noise,
        segment=optimiser.segment,
        checkpoint=optimiser.checkpointing,
        parameters=model.simulated_by(conditions),
    )
    return conditions, dynamics, found, noise


def loss_parts(model: Nemo, data: ChainData, settings: NemoConfig, step: int) -> Parts:
    """Return the parts of the loss of a training step.

    Args:
        model: What is trained.
        data: The system of this step.
        settings: The run.
        step: Number of the step, which decides all random numbers.

    Raises:
        SimulationError: A chain diverged in the simulation; names its step.
    """
    random = streams(settings.seed, step)
    conditions, dynamics, found, noise = rollout(model, data, settings, random)
    if found.first_bad is not None:
        raise SimulationError(
            f"{settings.name}: training step {step}: a chain of {data.system} diverged in step "
            f"{found.first_bad} of {len(noise)} of the simulation"
        )
    weights = settings.loss
    frames = data.batch(settings.optimiser.frames, random.data)
    target = data.target(frames, weights.diversity, weights.tm_least_scale)
    raw = {term: risk(found.x, target, term) for term in TERMS if getattr(weights, term)}
    inner = [dynamics.beads(state) for state in found.states[1:-1]]
    if weights.initial:
        first = dynamics.beads(found.states[0])
        raw["initial"] = risk(first, target, "distances") + risk(first, target, "angles")
    if weights.trajectory and inner:
        on_the_way = [risk(x, target, "distances") for x in inner]
        raw["trajectory"] = torch.stack(on_the_way).mean()
    raw |= energy_terms(model, conditions, frames, found.x)
    if weights.lyapunov:
        raw["lyapunov"] = _stability(dynamics, found, noise, weights, random)
    terms = {name: getattr(weights, name) * value for name, value in raw.items()}
    for name, value in raw.items():
        if not bool(torch.isfinite(value)):
            raise SimulationError(
                f"{settings.name}: training step {step}: the term {name} of {data.system} is not "
                "finite"
            )
    moved = (found.x - dynamics.beads(found.states[0])).detach().norm(dim=-1).mean()
    return Parts(
        terms,
        {name: float(value.detach()) for name, value in raw.items()},
        float(moved),
    )


def energy_terms(
    model: Nemo, conditions: Conditions, frames: Tensor, samples: Tensor
) -> dict[str, Tensor]:
    """Return the likelihood's term, and the size of the energies, per residue.

    The gradient of the first in the weights is that of −log p of the data, with the expectation
    under the model taken over its own samples; they are taken as given. A sample far outside of
    what data have counts less and less: it says that the simulation failed, not the energy.
    """
    n = frames.shape[1]
    own = model.energy(samples.detach(), conditions.weights) / n
    data = model.energy(frames.to(samples), conditions.weights) / n
    middle = data.detach().mean()
    bounded = middle + _FAR * torch.tanh((own - middle) / _FAR)
    return {
        "likelihood": data.mean() - bounded.mean(),
        "energy_scale": (bounded**2).mean() + (data**2).mean(),
    }


def _stability(
    dynamics: Dynamics, found: Rollout, noise: Tensor, weights: NemoLoss, random: Streams
) -> Tensor:
    """Return the penalty at some places on the way, with the noise that was there."""
    ahead = max(len(noise) - weights.lyapunov_steps, 1)
    usable = [place for place, step in enumerate(found.steps[:-1]) if step < ahead]
    chosen = random.data.choice(
        usable, size=min(weights.lyapunov_places, len(usable)), replace=False
    )
    penalties = []
    for place in sorted(int(one) for one in chosen):
        begin = found.steps[place]
        rows = noise[begin : begin + weights.lyapunov_steps]
        direction = torch.randn(rows.shape[1:], generator=random.chains).to(rows)
        penalties.append(
            lyapunov_penalty(
                dynamics,
                found.states[place],
                rows,
                direction,
                allowed=weights.lyapunov_allowed,
            )
        )
    return torch.stack(penalties).mean()


@torch.no_grad()
def validation_parts(
    model: Nemo, data: ChainData, settings: NemoConfig
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Return the weighted risk of samples on validation structures, its terms, and their floor.

    The floor is what training structures have in place of samples. Samples that are not finite are
    left out.

    Raises:
        SimulationError: Fewer than two samples are finite; names the system.
    """
    n = settings.optimiser.validation_samples
    random = streams(settings.seed, _VALIDATION)
    drawn = model.draw(data.sequence, n, profile=data.profile, generator=random.chains)
    finite = drawn[torch.isfinite(drawn).all(dim=(1, 2))]
    if len(finite) < 2:
        raise SimulationError(
            f"{settings.name}: validation: {len(finite)} of {n} samples of {data.system} are finite"
        )
    weights = settings.loss
    target = data.target(data.validated(n), weights.diversity, weights.tm_least_scale)
    names = [term for term in TERMS if getattr(weights, term)]
    own = data.batch(n, random.data)
    floor = {term: float(risk(own, target, term)) for term in names}
    terms = {term: float(risk(finite, target, term)) for term in names}
    return sum(getattr(weights, term) * value for term, value in terms.items()), terms, floor
