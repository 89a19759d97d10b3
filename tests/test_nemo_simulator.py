"""The simulator of NEMO: integrators, stationary distribution, gradients, stability."""

import gc
import math
from collections.abc import Callable
from weakref import WeakSet

import pytest
import torch
from torch import Tensor

from cgbench.errors import UsageError
from cgbench.nemo.internal import InternalCoordinates, to_cartesian, to_internal
from cgbench.nemo.model import Nemo, NemoSettings
from cgbench.nemo.settings import Integrator
from cgbench.nemo.simulator import Dynamics, Rollout, draw_noise, simulate
from cgbench.nemo.stability import lyapunov_penalty, stretch

BOTH: tuple[Integrator, ...] = ("direct", "transform")
SEQUENCE = "YYDPETGTWY"
#: Of a chain of four beads: stiffness of lengths, angles and the dihedral, and their minimum.
STIFFNESS = InternalCoordinates(
    *(
        torch.tensor([row], dtype=torch.float64)
        for row in ([400.0, 300.0, 350.0], [60.0, 40.0], [8.0])
    )
)
MINIMUM = InternalCoordinates(
    *(torch.tensor([row], dtype=torch.float64) for row in ([3.8, 3.8, 3.9], [1.6, 2.0], [0.9]))
)


def springs(x: Tensor) -> Tensor:
    """Return the energy of a chain whose internal coordinates are independent springs."""
    away = to_internal(x).flat() - MINIMUM.flat()
    away = torch.cat([away[:, :-1], torch.sin(away[:, -1:])], dim=1)
    return 0.5 * (STIFFNESS.flat() * away**2).sum(dim=1)


def repeated(z: InternalCoordinates, n: int) -> InternalCoordinates:
    return InternalCoordinates(*(part.expand(n, -1).clone() for part in z))


def variance_for(share: float) -> InternalCoordinates:
    """Return the C with which ½ ε C k is a given number for every spring at ε = 1."""
    return InternalCoordinates(*(2.0 * share / part for part in STIFFNESS))


def noise_for(n: int, n_beads: int, n_steps: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    like = torch.zeros(1, dtype=torch.float64)
    return draw_noise(n, n_beads, n_steps, generator, like)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_stationary_moments_of_the_direct_integrator_are_those_of_its_recursion(
    share: float,
) -> None:
    # Of z ← z − a (z − z₀) + √(2 a / k) ξ with a = ½ ε C k the variance is 1/k / (1 − a / 2).
    n, steps = 6_000, math.ceil(4.0 / share)
    dynamics = Dynamics(springs, variance_for(share), 1.0, "direct")
    with torch.no_grad():
        found = simulate(dynamics, repeated(MINIMUM, n), noise_for(n, 4, steps))
    z = InternalCoordinates.from_flat(found.states[-1])
    for own, middle, stiffness in zip(z[:2], MINIMUM[:2], STIFFNESS[:2], strict=True):
        expected = 1.0 / (stiffness[0] * (1.0 - share / 2.0))
        torch.testing.assert_close(own.var(dim=0), expected, rtol=0.08, atol=0.0)
        assert bool(((own.mean(dim=0) - middle[0]).abs() < 4.0 * (expected / n).sqrt()).all())


@pytest.mark.parametrize("integrator", BOTH)
def test_stationary_moments_are_those_of_the_energy_at_its_temperature(
    integrator: Integrator,
) -> None:
    n, share = 4_000, 0.05
    for inverse in (1.0, 2.0):
        dynamics = Dynamics(
            springs, variance_for(share), 1.0, integrator, inverse_temperature=inverse
        )
        with torch.no_grad():
            found = simulate(dynamics, repeated(MINIMUM, n), noise_for(n, 4, 64))
        z = to_internal(found.x)
        for own, stiffness in zip(z[:2], STIFFNESS[:2], strict=True):
            expected = 1.0 / (inverse * stiffness[0])
            torch.testing.assert_close(own.var(dim=0), expected, rtol=0.11, atol=0.0)
        # Of a dihedral the density is exp(−½ k sin²): its moment by summation.
        turn = torch.linspace(-math.pi / 2, math.pi / 2, 4001, dtype=torch.float64)
        density = torch.exp(-0.5 * inverse * 8.0 * torch.sin(turn) ** 2)
        expected = (torch.cos(turn) * density).sum() / density.sum()
        own = torch.cos(z.dihedrals[:, 0] - 0.9).mean()
        torch.testing.assert_close(own, expected, rtol=0.015, atol=0.0)


def model_and_start(
    n_chains: int = 3, **simulator: object
) -> tuple[Nemo, Callable[[Integrator], Dynamics], InternalCoordinates]:
    torch.manual_seed(2)
    settings = {"width": 16, "n_blocks": 1, "simulator": simulator}
    model = Nemo(NemoSettings.model_validate(settings)).double()
    conditions = model.conditions(SEQUENCE)
    spread = conditions._replace(
        mean=InternalCoordinates(
            conditions.mean.lengths,
            conditions.mean.angles,
            torch.full_like(conditions.mean.dihedrals, 2.5),
        )
    )
    z = model.initial(spread, n_chains, torch.Generator().manual_seed(4))
    z = InternalCoordinates(*(part.detach() for part in z))
    return model, lambda kind: model.dynamics(conditions, integrator=kind), z


def test_one_step_of_both_integrators_differs_in_third_order() -> None:
    _, _, z = model_and_start()
    noise = noise_for(3, 10, 1)[0]
    differences = []
    for scale in (1.0, 0.5, 0.25):
        # Drift and noise are scaled alike: the step Δz is.
        change = InternalCoordinates.from_flat(0.1 * scale * noise)
        x = to_cartesian(z)

        class Fixed(Dynamics):
            def change(self, force: Tensor, noise: Tensor) -> Tensor:
                return change.flat()  # noqa: B023

        direct = Fixed(springs_of_none, z, 1.0, "direct")
        transform = Fixed(springs_of_none, z, 1.0, "transform")
        exact = direct.beads(direct.step(z.flat(), noise))
        differences.append(float((transform.step(x, noise) - exact).norm()))
    assert differences[0] / differences[1] == pytest.approx(8.0, rel=0.25)
    assert differences[1] / differences[2] == pytest.approx(8.0, rel=0.15)


def springs_of_none(x: Tensor) -> Tensor:
    return 0.0 * x.sum(dim=(1, 2))


def test_both_integrators_agree_as_steps_become_small() -> None:
    _, dynamics, z = model_and_start()
    # One Brownian path, in 16, 32 and 64 pieces of the same whole time.
    fine = noise_for(3, 10, 64)
    apart = []
    for pieces in (16, 32, 64):
        group = 64 // pieces
        noise = fine.reshape(pieces, group, 3, -1).sum(dim=1) / math.sqrt(group)
        ends = []
        for kind in BOTH:
            own = dynamics(kind)
            scaled = Dynamics(own.energy, own.variance, 4.0 / pieces, kind)
            with torch.no_grad():
                ends.append(simulate(scaled, z, noise).x)
        apart.append(float((ends[0] - ends[1]).norm(dim=-1).max()))
    # First order or better along one path.
    assert apart[0] / apart[1] > 1.7
    assert apart[1] / apart[2] > 1.7
    assert apart[2] < 0.2


class Holder:
    """A tensor that a graph keeps; it goes when the graph goes."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def loss_of(rollout: Rollout) -> Tensor:
    x = rollout.x
    return (x[:, 0] - x[:, -1]).norm(dim=-1).mean() + to_internal(x).dihedrals.cos().mean()


@pytest.mark.parametrize("integrator", BOTH)
def test_gradients_through_fifty_steps_are_finite_differences(integrator: Integrator) -> None:
    model, _, z = model_and_start(2, largest_drift=2.0)
    noise = noise_for(2, 10, 50)

    def simulated() -> Tensor:
        conditions = model.conditions(SEQUENCE)
        return loss_of(simulate(model.dynamics(conditions, integrator=integrator), z, noise))

    names = ["energy.pair.2.weight", "sequence.dihedral.bias", "sequence.step.bias"]
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(simulated(), [weights[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        generator = torch.Generator().manual_seed(7)
        way = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        values, step = [], 1e-5
        with torch.no_grad():
            for sign in (1.0, -2.0, 1.0):
                weights[name] += sign * step * way
                values.append(float(simulated()))
        slope = (values[0] - values[1]) / (2.0 * step)
        assert slope == pytest.approx(float((gradient * way).sum()), rel=2e-4, abs=1e-7), name


@pytest.mark.parametrize("integrator", BOTH)
def test_damping_scales_what_comes_from_later_steps(integrator: Integrator) -> None:
    model, _, z = model_and_start(2)
    noise, found = noise_for(2, 10, 6).requires_grad_(), []
    start = InternalCoordinates.from_flat(z.flat().requires_grad_())
    for damping in (1.0, 0.9):
        conditions = model.conditions(SEQUENCE)
        dynamics = model.dynamics(conditions, integrator=integrator, damping=damping)
        loss = loss_of(simulate(dynamics, start, noise))
        found.append(torch.autograd.grad(loss, [noise, *start]))
    for row in range(6):
        # What was drawn in a step has passed the later ones alone.
        torch.testing.assert_close(found[1][0][row], 0.9 ** (5 - row) * found[0][0][row])
    for plain, damped in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(damped, 0.9**6 * plain)


@pytest.mark.parametrize("integrator", BOTH)
def test_checkpoints_keep_less_and_give_the_same_gradient(integrator: Integrator) -> None:
    model, _, z = model_and_start(2)
    noise, kept, found = noise_for(2, 10, 20), [], []
    for checkpoint in (False, True):
        live: WeakSet[Holder] = WeakSet()

        def keep(tensor: Tensor, live: WeakSet[Holder] = live) -> Holder:
            holder = Holder(tensor)
            live.add(holder)
            return holder

        conditions = model.conditions(SEQUENCE)
        dynamics = model.dynamics(conditions, integrator=integrator, damping=0.95)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
            rollout = simulate(
                dynamics,
                z,
                noise,
                segment=5,
                checkpoint=checkpoint,
                parameters=model.simulated_by(conditions),
            )
        gc.collect()
        # Weights are kept by many, in one place; what forces needed for themselves is gone.
        storages = [holder.tensor.untyped_storage() for holder in live]
        kept.append(sum({one.data_ptr(): one.nbytes() for one in storages}.values()))
        loss = loss_of(rollout) + dynamics.beads(rollout.states[2]).norm()
        parameters = list(model.parameters())
        found.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        assert rollout.steps == (0, 5, 10, 15, 20)
    assert kept[1] < 0.05 * kept[0], kept
    for plain, again in zip(*found, strict=True):
        if plain is not None:
            torch.testing.assert_close(plain, again, rtol=1e-7, atol=1e-9)


def test_the_step_that_went_wrong_is_found_and_other_chains_go_on() -> None:
    _, dynamics, z = model_and_start()
    noise = noise_for(3, 10, 12)
    noise[6, 1, 3] = math.nan
    for kind in BOTH:
        with torch.no_grad():
            found = simulate(dynamics(kind), z, noise, segment=5)
            untouched = simulate(dynamics(kind), z, noise_for(3, 10, 12))
        assert found.first_bad == 7
        assert bool(torch.isnan(found.x[1]).any())
        torch.testing.assert_close(found.x[[0, 2]], untouched.x[[0, 2]])
    with pytest.raises(UsageError, match="segment"):
        simulate(dynamics("direct"), z, noise, segment=0)


def test_a_drift_has_a_bound() -> None:
    dynamics = Dynamics(springs, variance_for(5.0), 1.0, "direct", largest_drift=0.5)
    force = torch.full((1, 6), 1e6, dtype=torch.float64)
    change = dynamics.change(force, torch.zeros(1, 6, dtype=torch.float64))
    torch.testing.assert_close(change, 0.5 * dynamics.variance.flat().sqrt())


@pytest.mark.parametrize("integrator", BOTH)
@pytest.mark.parametrize("share", [0.3, 1.9, 2.5])
def test_the_stretch_is_that_of_the_springs(integrator: Integrator, share: float) -> None:
    # A displacement of every spring is multiplied by 1 − a; beyond a = 2 it grows.
    dynamics = Dynamics(springs, variance_for(share), 1.0, integrator)
    state = dynamics.begin(repeated(MINIMUM, 16))
    still = torch.zeros(1, 16, 6, dtype=torch.float64)
    direction = noise_for(16, 4, 1)[0]
    found = stretch(dynamics, state, still, direction)
    expected = math.log(abs(1.0 - share))
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=0.02, atol=0.02)
    size = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    learned = Dynamics(springs, variance_for(share), size, integrator)
    penalty = lyapunov_penalty(learned, state, still, direction)
    (gradient,) = torch.autograd.grad(penalty, size)
    if share > 2.0:
        # Smaller steps are what it asks for.
        assert float(penalty.detach()) == pytest.approx(expected, rel=0.05)
        assert float(gradient) > 0.1
    else:
        assert float(penalty.detach()) == 0.0
        assert float(gradient) == 0.0
