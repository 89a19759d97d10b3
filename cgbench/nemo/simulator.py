"""The simulator: unrolled Langevin dynamics of a chain in its internal coordinates.

A step draws Δz ~ N(½ ε C f_z, ε C) with the force f_z = −(∂x/∂z)ᵀ ∇U on internal coordinates, a
diagonal C and the step size ε (Ingraham et al., ICLR 2019). Its stationary density as ε → 0 is
exp(−U) with respect to dz. Two integrators apply it:

- *direct*: z ← z + Δz, and the chain is built anew from z by natural extension;
- *transform*: the beads are moved as the Jacobian says, with the mean of the Jacobians before and
  after, x̃ = x + (∂x/∂z) Δz and x ← x + ½ (∂x/∂z + ∂x̃/∂z) Δz, a step of Heun's method. Nothing is
  rebuilt: z is not kept at all. One step differs from that of *direct* by O(|Δz|³), in which bonds
  and angles come out a little other than z + Δz.

The whole is differentiable. Back-propagation may be damped: the gradient that passes a step
backwards is multiplied by γ, so that what comes from t steps later counts γᵗ. And it may be
checkpointed: only the states between segments are kept, and segments are run again for gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from cgbench.errors import SimulationError, UsageError
from cgbench.nemo.internal import (
    InternalCoordinates,
    axes,
    jacobian_product,
    jacobian_transpose_product,
    to_cartesian,
)
from cgbench.nemo.settings import Integrator

#: Energies (B,) in kT of chains (B, L, 3) in Å.
EnergyFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Dynamics:
    """What a step does.

    Attributes:
        energy: U.
        variance: C, each part (1, …) or (B, …).
        step_size: ε, a number.
        integrator: ``direct`` or ``transform``.
        largest_drift: Bound of the drift in units of √C; None for none.
        damping: γ.
        inverse_temperature: Factor of U: the temperature of the energy's units over that wanted.
    """

    energy: EnergyFunction
    variance: InternalCoordinates
    step_size: Tensor | float
    integrator: Integrator = "transform"
    largest_drift: float | None = None
    damping: float = 1.0
    inverse_temperature: float = 1.0

    def forces(self, x: Tensor) -> Tensor:
        """Return −∇U (B, L, 3) in kT/Å, differentiable where gradients are recorded."""
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            total = self.energy(at).sum() * self.inverse_temperature
            (gradient,) = torch.autograd.grad(total, at, create_graph=recorded)
        return -gradient

    def step(self, state: Tensor, noise: Tensor) -> Tensor:
        """Return the state after one step.

        Args:
            state: Of *direct* the internal coordinates in a row (B, 3 L − 6); of *transform* the
                beads (B, L, 3).
            noise: Standard normal numbers (B, 3 L − 6).
        """
        if self.damping != 1.0:
            state = damped(state, self.damping)
        direct = self.integrator == "direct"
        x = to_cartesian(InternalCoordinates.from_flat(state)) if direct else state
        before = axes(x)
        force = jacobian_transpose_product(before, self.forces(x)).flat()
        change = self.change(force, noise)
        if direct:
            return state + change
        split = InternalCoordinates.from_flat(change)
        first = jacobian_product(before, split)
        second = jacobian_product(x + first, split)
        return x + 0.5 * (first + second)

    def change(self, force: Tensor, noise: Tensor) -> Tensor:
        """Return Δz, (B, 3 L − 6) in a row, from forces on internal coordinates and noise."""
        scale = self.variance.flat().sqrt()
        step = torch.as_tensor(self.step_size, dtype=force.dtype, device=force.device)
        drift = 0.5 * step * scale * force
        if self.largest_drift is not None:
            drift = self.largest_drift * torch.tanh(drift / self.largest_drift)
        return scale * (drift + step.sqrt() * noise)

    def begin(self, z: InternalCoordinates) -> Tensor:
        """Return the state of chains with these internal coordinates."""
        return z.flat() if self.integrator == "direct" else to_cartesian(z)

    def beads(self, state: Tensor) -> Tensor:
        """Return the beads (B, L, 3) in Å of a state."""
        if self.integrator == "transform":
            return state
        return to_cartesian(InternalCoordinates.from_flat(state))


class _Damped(Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return state.view_as(state)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def damped(state: Tensor, factor: float) -> Tensor:
    """Return a state as it is, whose gradient is multiplied by a factor."""
    result: Tensor = _Damped.apply(state, factor)  # type: ignore[no-untyped-call]
    return result


class Rollout(NamedTuple):
    """What a simulation gives.

    Attributes:
        x: Structures at the end (B, L, 3) in Å.
        states: State before the first step and after each segment; the last one is that of ``x``.
        steps: Number of steps before each state.
        first_bad: Step after which a state was not finite for the first time, or None.
    """

    x: Tensor
    states: tuple[Tensor, ...]
    steps: tuple[int, ...]
    first_bad: int | None


def draw_noise(
    n_chains: int, n_beads: int, n_steps: int, generator: torch.Generator, like: Tensor
) -> Tensor:
    """Return standard normal numbers (n_steps, n_chains, 3 n_beads − 6) for a simulation."""
    shape = (n_steps, n_chains, 3 * n_beads - 6)
    return torch.randn(shape, generator=generator).to(like)


def simulate(
    dynamics: Dynamics,
    z: InternalCoordinates,
    noise: Tensor,
    *,
    segment: int | None = None,
    checkpoint: bool = False,
    parameters: tuple[Tensor, ...] = (),
) -> Rollout:
    """Simulate chains from given internal coordinates.

    Args:
        dynamics: What a step does.
        z: Start, (B, …).
        noise: Standard normal numbers (T, B, 3 L − 6), one row a step.
        segment: Steps between the states that are returned; all T in one if None.
        checkpoint: Keep the states between segments alone and run the segments again for the
            gradient.
        parameters: With ``checkpoint``: every tensor with a gradient that the energy, the variance
            or the step size are made of. What is not among them gets no gradient.

    Raises:
        UsageError: A segment has no steps.
    """
    n_steps = len(noise)
    length = n_steps if segment is None else segment
    if n_steps and length < 1:
        raise UsageError("simulation: a segment has no steps", expected="1 or more", found=segment)
    state = dynamics.begin(z)
    states, steps, bad = [state], [0], _first_bad(state, 0)
    for begin in range(0, n_steps, max(length, 1)):
        part = noise[begin : begin + length]
        if checkpoint and torch.is_grad_enabled():
            state = _checkpointed(dynamics, state, part, parameters)
        else:
            state = run_segment(dynamics, state, part)
        if bad is None and _first_bad(state, 0) is not None:
            bad = _bad_step(dynamics, states[-1].detach(), part, begin)
        states.append(state)
        steps.append(begin + len(part))
    return Rollout(dynamics.beads(state), tuple(states), tuple(steps), bad)


def run_segment(dynamics: Dynamics, state: Tensor, noise: Tensor) -> Tensor:
    """Return the state after some steps."""
    for row in noise:
        state = dynamics.step(state, row)
    return state


def _first_bad(state: Tensor, step: int) -> int | None:
    return None if bool(torch.isfinite(state).all()) else step


@torch.no_grad()
def _bad_step(dynamics: Dynamics, state: Tensor, noise: Tensor, begin: int) -> int:
    """Return the step of a segment after which a chain is not finite, by running it again."""
    for index, row in enumerate(noise):
        state = dynamics.step(state, row)
        if not bool(torch.isfinite(state).all()):
            return begin + index + 1
    raise SimulationError("simulation: a segment gives other numbers when it is run again")


class _Segment(Function):
    """Steps whose graph is not kept: they are run again for the gradient.

    The checkpoints of torch cannot be used: forces are gradients themselves, and taking one inside
    of a checkpoint needs what it has not kept.
    """

    @staticmethod
    def forward(
        ctx: Any, dynamics: Dynamics, noise: Tensor, state: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.dynamics, ctx.noise = dynamics, noise
        ctx.save_for_backward(state, *parameters)
        with torch.no_grad():
            return run_segment(dynamics, state.detach(), noise)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        state, *parameters = ctx.saved_tensors
        at = state.detach().requires_grad_()
        with torch.enable_grad():
            end = run_segment(ctx.dynamics, at, ctx.noise)
        wanted = [at, *(one for one in parameters if one.requires_grad)]
        found = list(torch.autograd.grad(end, wanted, gradients[0], allow_unused=True))
        own = found.pop(0)
        rest = [found.pop(0) if one.requires_grad else None for one in parameters]
        return (None, None, own, *rest)


def _checkpointed(
    dynamics: Dynamics, state: Tensor, noise: Tensor, parameters: tuple[Tensor, ...]
) -> Tensor:
    result: Tensor = _Segment.apply(dynamics, noise, state, *parameters)  # type: ignore[no-untyped-call]
    return result
