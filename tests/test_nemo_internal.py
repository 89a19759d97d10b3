"""Internal coordinates of chains, and products with their Jacobian."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.nemo import (
    InternalCoordinates,
    jacobian_product,
    jacobian_transpose_product,
    to_cartesian,
    to_internal,
)
from cgbench.nemo.internal import to_cartesian_in_turn


def random_chain(n_beads: int, n_chains: int = 3, seed: int = 0) -> InternalCoordinates:
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int, low: float, high: float) -> Tensor:
        numbers = torch.rand((n_chains, n), generator=generator, dtype=torch.float64)
        return low + (high - low) * numbers

    return InternalCoordinates(
        draw(n_beads - 1, 2.5, 4.5), draw(n_beads - 2, 0.4, 2.9), draw(n_beads - 3, -3.1, 3.1)
    )


def placed_by_hand(z: InternalCoordinates) -> NDArray[np.float64]:
    """Place bead after bead, by vectors: an implementation of its own."""
    lengths, angles, dihedrals = (part[0].numpy() for part in z)
    beads = [np.zeros(3), np.array([lengths[0], 0.0, 0.0])]
    turn = math.pi - angles[0]
    beads.append(beads[1] + lengths[1] * np.array([math.cos(turn), math.sin(turn), 0.0]))
    for length, angle, dihedral in zip(lengths[2:], angles[1:], dihedrals, strict=True):
        a, b, c = beads[-3:]
        along = (c - b) / np.linalg.norm(c - b)
        normal = np.cross(b - a, along)
        normal /= np.linalg.norm(normal)
        aside = np.cross(normal, along)
        sine = math.sin(angle)
        step = -math.cos(angle) * along
        # A dihedral of zero is cis: the new bead lies on the side of the first one.
        step = step + sine * (math.cos(dihedral) * aside + math.sin(dihedral) * normal)
        beads.append(c + length * step)
    return np.array(beads)


@given(n_beads=st.integers(3, 40), seed=st.integers(0, 2**31))
@settings(max_examples=12, deadline=None)
def test_there_and_back(n_beads: int, seed: int) -> None:
    z = random_chain(n_beads, seed=seed)
    x = to_cartesian(z)
    back = to_internal(x)
    for own, found in zip(z, back, strict=True):
        torch.testing.assert_close(own, found, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(x, to_cartesian_in_turn(z), rtol=0.0, atol=1e-10)
    np.testing.assert_allclose(x[0].numpy(), placed_by_hand(z), atol=1e-9)


def test_conventions_are_those_of_the_evaluation() -> None:
    x = to_cartesian(random_chain(12))
    z = to_internal(x)
    frames = x.numpy()
    np.testing.assert_allclose(z.lengths, geometry.bond_lengths(frames), atol=1e-6)
    np.testing.assert_allclose(z.angles, geometry.bond_angles(frames), atol=1e-12)
    np.testing.assert_allclose(z.dihedrals, geometry.dihedrals(frames), atol=1e-12)


@pytest.mark.parametrize("n_beads", [3, 4, 5, 21])
def test_products_with_the_jacobian_are_those_of_automatic_differentiation(n_beads: int) -> None:
    z = random_chain(n_beads)
    x = to_cartesian(z)
    generator = torch.Generator().manual_seed(1)
    change = torch.randn(z.flat().shape, generator=generator, dtype=torch.float64)
    vectors = torch.randn(x.shape, generator=generator, dtype=torch.float64)

    def place(flat: Tensor) -> Tensor:
        return to_cartesian(InternalCoordinates.from_flat(flat))

    _, expected = torch.func.jvp(place, (z.flat(),), (change,))
    found = jacobian_product(x, InternalCoordinates.from_flat(change))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-11)
    _, transposed = torch.func.vjp(place, z.flat())
    torch.testing.assert_close(
        jacobian_transpose_product(x, vectors).flat(), transposed(vectors)[0], rtol=0, atol=1e-11
    )
    # The two are transposed to each other wherever the chain lies.
    turned = x @ torch.linalg.qr(vectors[0, :3])[0] + 5.0
    own = (jacobian_product(turned, InternalCoordinates.from_flat(change)) * vectors).sum()
    other = (jacobian_transpose_product(turned, vectors).flat() * change).sum()
    torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-9)


class _Work(TorchDispatchMode):
    """Counts the numbers that operations write."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.written += found.numel()
        return found


def test_the_cost_of_the_products_is_linear_in_the_length() -> None:
    written = []
    for n_beads in (100, 200, 400):
        z = random_chain(n_beads, n_chains=1)
        x = to_cartesian(z)
        with _Work() as work:
            jacobian_product(x, z)
            jacobian_transpose_product(x, x)
        written.append(work.written)
    assert written[2] - written[1] == 2 * (written[1] - written[0])


def test_everything_is_differentiable_twice() -> None:
    z = random_chain(5, n_chains=1)
    flat = z.flat().requires_grad_()

    def both(numbers: Tensor) -> Tensor:
        x = to_cartesian(InternalCoordinates.from_flat(numbers))
        force = jacobian_transpose_product(x, x**2)
        return jacobian_product(x, force).sum() + to_internal(x).flat().sin().sum()

    assert torch.autograd.gradcheck(both, flat)
    assert torch.autograd.gradgradcheck(both, flat)


def test_straight_and_folded_chains_have_finite_gradients() -> None:
    straight = torch.zeros(1, 6, 3, dtype=torch.float64)
    straight[0, :, 0] = 3.8 * torch.arange(6)
    same_place = torch.zeros(1, 6, 3, dtype=torch.float64)
    for x in (straight, same_place):
        at = x.clone().requires_grad_()
        z = to_internal(at)
        moved = jacobian_product(at, z)
        (gradient,) = torch.autograd.grad(z.flat().sum() + moved.sum(), at)
        assert bool(torch.isfinite(gradient).all())


def test_wrong_shapes_are_told() -> None:
    with pytest.raises(ValidationError, match="three beads"):
        to_internal(torch.zeros(2, 2, 3))
    with pytest.raises(ValidationError, match="3 L − 6"):
        InternalCoordinates.from_flat(torch.zeros(1, 4))
    z = random_chain(4)
    assert z.n_beads == 4
    torch.testing.assert_close(z.plus(z, -1.0).flat(), torch.zeros(3, 6, dtype=torch.float64))
