"""Losses and gradients of compiled loops against automatic differentiation of the twin."""

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_networks import SMALL, small_network

from cgbench.data import FrameBatch, MixedBatch
from cgbench.errors import UsageError, ValidationError
from cgbench.kernels.spline import spline_coefficients
from cgbench.kernels.training_spline import coefficients_from, gradient_to_values
from cgbench.models import FusedForceLoss, GraphNetwork, GraphNetworkSettings
from cgbench.testing.strategies import random_chains
from cgbench.train import OptimiserSettings
from cgbench.train.engine import choose_engine
from cgbench.train.module import ForceMatching

#: Largest relative difference of forces and of the gradient by each parameter, by precision.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
PRECISIONS = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
WIDE = SMALL.model_copy(update={"cutoff_lower": 0.0, "num_filters": 7, "num_layers": 3})
ONE_LAYER = SMALL.model_copy(update={"num_layers": 1})

Gradient = dict[str, torch.Tensor]


def sequence(n_beads: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 21, n_beads))


def chains(n_frames: int, n_beads: int, seed: int) -> torch.Tensor:
    """Random chains of any length, (n_frames, n_beads, 3) in Å, float64."""
    return torch.tensor(random_chains(n_frames, max(n_beads, 4), seed)[:, :n_beads])


def targets(pos: torch.Tensor, seed: int = 1) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(scale=3.0, size=tuple(pos.shape))
    return torch.tensor(noise, dtype=pos.dtype)


def gradient(network: GraphNetwork, loss: torch.Tensor) -> Gradient:
    network.zero_grad()
    loss.backward()
    return {
        name: weight.grad.double()
        for name, weight in network.named_parameters()
        if weight.grad is not None
    }


def twin(
    network: GraphNetwork, types: torch.Tensor, pos: torch.Tensor, batch: torch.Tensor,
    target: torch.Tensor, dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, Gradient]:  # fmt: skip
    """Loss, forces and gradient of a flat batch from tensors with exact filters, in a precision."""
    copy = deepcopy(network).to(dtype)
    n_systems = int(batch.max()) + 1
    forces = copy.energy_forces(types, pos.to(dtype), batch, n_systems)[1]
    loss = (forces - target.to(dtype)).square().mean()
    return loss.detach().double(), forces.detach().double(), gradient(copy, loss)


def assert_same(
    network: GraphNetwork, types: torch.Tensor, pos: torch.Tensor, batch: torch.Tensor,
    n_threads: int = 1,
) -> None:  # fmt: skip
    """Compare a flat batch with the twin in double precision.

    What the twin itself loses in the precision of the positions is allowed on top: twice that, and
    for a single parameter what is lost of the whole gradient, where it has next to no part in it.
    """
    target = targets(pos)
    found = FusedForceLoss(network, n_threads).systems(types, pos, batch, target)
    slopes = gradient(network, found.loss)
    loss, forces, truth = twin(network, types, pos, batch, target, torch.float64)
    _, rounded_forces, rounded = twin(network, types, pos, batch, target, pos.dtype)
    tolerance = TOLERANCE[pos.dtype]
    assert found.loss.dtype == found.forces.dtype == pos.dtype
    assert float(found.loss.detach()) == pytest.approx(float(loss), rel=10 * tolerance)
    allowed = tolerance * forces.norm() + 2 * (rounded_forces - forces).norm()
    assert (found.forces.double() - forces).norm() <= allowed + 1e-12
    assert slopes.keys() == truth.keys()
    whole = torch.stack([part.norm() for part in truth.values()]).norm()
    for name, part in truth.items():
        allowed = tolerance * (part.norm() + 0.05 * whole) + 2 * (rounded[name] - part).norm()
        assert (slopes[name] - part).norm() <= allowed + 1e-12, name


def flat(sizes: list[int], seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Bead types, positions and system of each bead of chains of several sizes."""
    pos = torch.cat([chains(1, size, seed + size)[0] for size in sizes]).to(dtype)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return sequence(len(pos), seed), pos, batch


@PRECISIONS
@pytest.mark.parametrize("n_beads", [2, 3, 5, 10, 17, 33])
def test_gradient_is_that_of_the_twin(n_beads: int, dtype: torch.dtype) -> None:
    assert_same(small_network(n_beads, dtype=dtype), *flat([n_beads] * 4, n_beads, dtype))


@pytest.mark.slow
@PRECISIONS
@pytest.mark.parametrize("n_beads", range(2, 97))
def test_every_number_of_beads(n_beads: int, dtype: torch.dtype) -> None:
    assert_same(small_network(n_beads, dtype=dtype), *flat([n_beads] * 3, n_beads, dtype))


@PRECISIONS
@pytest.mark.parametrize("shape", [WIDE, ONE_LAYER], ids=["no lower cutoff", "one layer"])
def test_other_shapes_of_networks(shape: GraphNetworkSettings, dtype: torch.dtype) -> None:
    assert_same(small_network(4, shape, dtype), *flat([12, 9], 4, dtype))


def test_the_reference_architecture_at_full_size() -> None:
    network = small_network(3, GraphNetworkSettings(), torch.float32)
    assert_same(network, *flat([10, 56, 80, 10], 3, torch.float32))


@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(1, 24), min_size=1, max_size=6),
    scale=st.floats(0.6, 1.6),
    n_threads=st.integers(1, 3),
)
@settings(max_examples=12, deadline=None)
def test_any_network_and_batch(seed: int, sizes: list[int], scale: float, n_threads: int) -> None:
    """Squeezed and stretched chains of different sizes: no pair inside the cutoffs, or most."""
    types, pos, batch = flat(sizes, seed, torch.float64)
    assert_same(small_network(seed), types, scale * pos, batch, n_threads)


@PRECISIONS
@pytest.mark.parametrize("case", ["straight", "at the cutoffs", "at one place", "far away"])
def test_pathological_geometries(case: str, dtype: torch.dtype) -> None:
    line = torch.zeros(8, 3, dtype=dtype)
    if case != "at one place":
        line[:, 0] = 3.8 * torch.arange(8)
    if case == "at the cutoffs":
        line[:, 0] = torch.tensor([0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 24.0, 27.0])
    if case == "far away":
        line += 1e4
    assert_same(small_network(5, dtype=dtype), sequence(8), line, torch.zeros(8, dtype=torch.int64))


def test_beads_of_systems_in_any_order() -> None:
    types, pos, batch = flat([7, 12, 4], 6, torch.float64)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(pos)))
    assert_same(small_network(6), types[order], pos[order], batch[order])


def test_chains_are_systems_of_one_size() -> None:
    network, types = small_network(7), sequence(10)
    pos = chains(5, 10, 7)
    target = targets(pos)
    found = FusedForceLoss(network).chains(types, pos, target)
    both = gradient(network, found.loss)
    batch = torch.arange(5).repeat_interleave(10)
    other = FusedForceLoss(network).systems(
        types.repeat(5), pos.reshape(-1, 3), batch, target.reshape(-1, 3)
    )
    assert torch.equal(found.forces.reshape(-1, 3), other.forces)
    assert all(torch.equal(part, both[n]) for n, part in gradient(network, other.loss).items())
    with torch.no_grad():
        alone = FusedForceLoss(network).chains(types, pos, target)
    assert torch.equal(alone.loss, found.loss.detach())
    assert not alone.loss.requires_grad


def test_threads_change_rounding_alone_and_repeat_themselves() -> None:
    network, types = small_network(8, dtype=torch.float32), sequence(40)
    pos = chains(40, 40, 8).float()
    whole = gradient(network, FusedForceLoss(network, 1).chains(types, pos, targets(pos)).loss)
    for n_threads in (2, 3):
        fused = FusedForceLoss(network, n_threads)
        first = gradient(network, fused.chains(types, pos, targets(pos)).loss)
        again = gradient(network, fused.chains(types, pos, targets(pos)).loss)
        for name, part in first.items():
            assert torch.equal(part, again[name])
            torch.testing.assert_close(part, whole[name], rtol=1e-4, atol=1e-4)


def test_fixed_parameters_have_no_gradient() -> None:
    network = small_network(9, SMALL.model_copy(update={"trainable_rbf": False}))
    network.embedding.weight.requires_grad_(False)
    types, pos, batch = flat([9, 11], 9, torch.float64)
    found = gradient(network, FusedForceLoss(network).systems(types, pos, batch, targets(pos)).loss)
    assert not {"embedding.weight", "radial.centres", "radial.widths"} & set(found)
    assert_same(network, types, pos, batch)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_frame_breaks_the_loss(bad: float) -> None:
    network, types, pos = small_network(1), sequence(10), chains(3, 10, 1)
    pos[1, 4, 2] = bad
    found = FusedForceLoss(network).chains(types, pos, torch.zeros_like(pos))
    assert found.loss.isnan()
    assert found.forces[1].isnan().all()
    assert found.forces[[0, 2]].isfinite().all()
    assert all(part.isnan().any() for part in gradient(network, found.loss).values())


def test_filters_too_fast_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the loops; a module that chose them itself computes such a batch by tensors."""
    monkeypatch.setattr("cgbench.models.force_loss._INTERVALS", (4, 8))
    network, types, pos = small_network(1, dtype=torch.float32), sequence(10), chains(3, 10, 1)
    batch = FrameBatch(pos.float(), targets(pos).float(), types, torch.arange(3))
    with pytest.raises(ValidationError, match="too fast"):
        ForceMatching(network, OptimiserSettings(), "fused").match(batch)
    module = ForceMatching(network, OptimiserSettings())
    expected = ForceMatching(network, OptimiserSettings(), "torch").match(batch)
    assert torch.equal(module.match(batch).loss, expected.loss)
    assert "too fast" in module.engine.reason


def losses(engine: str, batches: list[FrameBatch | MixedBatch]) -> list[float]:
    network = small_network(2, dtype=torch.float32)
    module = ForceMatching(network, OptimiserSettings(), engine)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    found = []
    for _ in range(8):
        for batch in batches:
            optimiser.zero_grad()
            loss = module.match(batch).loss
            loss.backward()
            optimiser.step()
            found.append(float(loss.detach()))
    assert module.engine.name == engine
    return found


def test_training_follows_the_twin() -> None:
    target = small_network(1)
    parts = []
    for n_beads in (10, 24):
        pos, types = chains(48, n_beads, n_beads), sequence(n_beads)
        with torch.no_grad():
            forces = target.energy_forces_chains(types, pos)[1]
        parts.append(FrameBatch(pos.float(), forces.float(), types, torch.arange(48)))
    batches: list[FrameBatch | MixedBatch] = [*parts, MixedBatch(tuple(parts), (0, 1))]
    fused, tensors = losses("fused", batches), losses("torch", batches)
    np.testing.assert_allclose(fused, tensors, rtol=2e-4)
    assert fused[-1] < 0.7 * fused[2]


def test_the_engine_is_chosen_and_says_why() -> None:
    single, cpu = small_network(1, dtype=torch.float32), torch.device("cpu")
    assert choose_engine(single, cpu).name == "fused"
    assert choose_engine(single, cpu, "torch").reason == "asked for"
    double = small_network(1)
    assert choose_engine(double, cpu).reason == "double precision"
    assert choose_engine(double, cpu, "fused").name == "fused"
    assert "cuda" in choose_engine(single, torch.device("cuda")).reason
    assert "Linear" in choose_engine(torch.nn.Linear(1, 1), cpu).reason
    with pytest.raises(UsageError, match="does not fit"):
        choose_engine(single, torch.device("cuda"), "fused")


@pytest.mark.parametrize("n_intervals", [4, 17])
def test_splines_and_the_gradient_to_their_values(n_intervals: int) -> None:
    generator = np.random.default_rng(n_intervals)
    values, slope = generator.normal(size=(n_intervals + 1, 3)), generator.normal(size=3)
    found = coefficients_from(values, slope)
    np.testing.assert_allclose(found, spline_coefficients(values, slope, np.zeros(3)), atol=1e-12)
    # Linear: the transpose is what keeps scalar products.
    weights = generator.normal(size=found.shape)
    to_values, to_slope = gradient_to_values(weights)
    expected = float((weights * found).sum())
    assert (to_values * values).sum() + (to_slope * slope).sum() == pytest.approx(expected)


FRESH = """
import hashlib, torch
from cgbench.models import FusedForceLoss, GraphNetwork, GraphNetworkSettings
torch.manual_seed(1)
network = GraphNetwork(GraphNetworkSettings())
pos = 3.8 * torch.arange(10.0)[:, None] * torch.tensor([0.8, 0.6, 0.0]) + torch.randn(64, 10, 3)
FusedForceLoss(network, 1).chains(torch.arange(1, 11), pos, torch.randn(64, 10, 3)).loss.backward()
gradient = [weight.grad for weight in network.parameters() if weight.grad is not None]
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in gradient)).hexdigest())
"""


@pytest.mark.slow
def test_code_just_compiled_and_code_from_the_disk_give_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FRESH]
    found = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
        found.append(done.stdout)
        assert list(tmp_path.rglob("training_block.training_block*.nbc"))
    assert found[0] == found[1]
