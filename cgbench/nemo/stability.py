"""How fast the simulator drives neighbouring chains apart, and what keeps it from doing so.

Where a step stretches a small displacement by more than one on average, T steps stretch it, and the
gradient that passes back through them, exponentially in T. The mean logarithm of the stretch is the
largest Lyapunov exponent of the simulator. The regularisation penalises it where it is above what
is allowed, at states that the simulation passes and with the noise that it had there.
"""

import torch
from torch import Tensor

from cgbench.nemo.internal import InternalCoordinates, axes, jacobian_product
from cgbench.nemo.simulator import Dynamics, run_segment

#: Displacement in Å, root mean square over beads: far above rounding, far below a feature.
DISPLACEMENT = 2e-3


def stretch(dynamics: Dynamics, state: Tensor, noise: Tensor, direction: Tensor) -> Tensor:
    """Return the mean logarithm by which steps stretch a small displacement, per step, (B,).

    The displacement begins along a random change of the internal coordinates, and is measured as
    the root mean square displacement of the beads, before and after. Differentiable in everything
    that a step is made of; the state is taken as given.

    Args:
        dynamics: What a step does.
        state: State of the simulation at which to begin.
        noise: Standard normal numbers of the steps, (n_steps, B, 3 L − 6).
        direction: Standard normal numbers, (B, 3 L − 6): the random change in units of √C.
    """
    state = state.detach()
    with torch.no_grad():
        x = dynamics.beads(state)
        scale = dynamics.variance.flat().sqrt() * direction
        moved = jacobian_product(axes(x), InternalCoordinates.from_flat(scale))
        factor = DISPLACEMENT / _size(moved)
        change = scale * factor.unsqueeze(-1)
        if dynamics.integrator == "direct":
            beside = state + change
        else:
            beside = state + jacobian_product(x, InternalCoordinates.from_flat(change))
        before = _size(dynamics.beads(beside) - x)
    after = dynamics.beads(run_segment(dynamics, beside, noise)) - dynamics.beads(
        run_segment(dynamics, state, noise)
    )
    return (_size(after) / before).log() / max(len(noise), 1)


def lyapunov_penalty(
    dynamics: Dynamics,
    state: Tensor,
    noise: Tensor,
    direction: Tensor,
    *,
    allowed: float = 0.0,
) -> Tensor:
    """Return the mean of max(0, λ − allowed) over chains, λ being ``stretch``; a number.

    Chains whose displacement is not finite do not count: they have no gradient to offer.
    """
    exponent = stretch(dynamics, state, noise, direction)
    above = torch.relu(exponent - allowed)
    finite = torch.isfinite(above)
    if not bool(finite.any()):
        return exponent.new_zeros(())
    return above[finite].mean()


def _size(displacement: Tensor) -> Tensor:
    """Return root mean square displacements of beads (B, L, 3), never zero, (B,)."""
    return ((displacement**2).sum(dim=-1).mean(dim=-1) + 1e-20).sqrt()
