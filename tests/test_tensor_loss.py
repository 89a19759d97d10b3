"""Losses by tensors, block by block and compiled, against one backward pass over all of a batch."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused_training import Gradient, chains, flat, gradient, sequence, targets, twin
from toy_networks import small_network

from cgbench.data import FrameBatch
from cgbench.kernels.compiled import aligned, aligned_copy
from cgbench.models import GraphNetwork, TensorForceLoss, compiler_obstacle, tensor_loss
from cgbench.models.filters import FilterTable, PolynomialFilters
from cgbench.train import OptimiserSettings
from cgbench.train.engine import choose_engine
from cgbench.train.module import ForceMatching

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
PRECISIONS = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
CPU = torch.device("cpu")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and tables so small that batches of a test have several of them."""
    monkeypatch.setattr(tensor_loss, "_PAIRS_PER_BLOCK", 60)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that would be compiled, as it is."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


def assert_gradient(found: Gradient, truth: Gradient, tolerance: float) -> None:
    assert found.keys() == truth.keys()
    whole = float(torch.stack([part.norm() for part in truth.values()]).norm())
    for name, part in truth.items():
        allowed = tolerance * (float(part.norm()) + 0.05 * whole) + 1e-12
        assert float((found[name] - part).norm()) <= allowed, name


def assert_same(
    losses: TensorForceLoss, types: torch.Tensor, pos: torch.Tensor, batch: torch.Tensor
) -> None:
    """Compare a flat batch with one backward pass in double precision."""
    target = targets(pos)
    found = losses.systems(types, pos, batch, target)
    slopes = gradient(losses.network, found.loss)
    loss, forces, truth = twin(losses.network, types, pos, batch, target, torch.float64)
    tolerance = 2 * TOLERANCE[pos.dtype]
    assert losses.obstacle is None
    assert found.loss.dtype == found.forces.dtype == pos.dtype
    assert float(found.loss.detach()) == pytest.approx(float(loss), rel=tolerance)
    assert (found.forces.double() - forces).norm() <= tolerance * forces.norm() + 1e-12
    assert_gradient(slopes, truth, tolerance)


@pytest.mark.usefixtures("small_blocks")
@PRECISIONS
@pytest.mark.parametrize("tabulated", [False, True])
@pytest.mark.parametrize("sizes", [[1], [2], [10] * 30, [12, 9, 3, 1, 20, 17] * 8], ids=str)
def test_blocks_add_up(sizes: list[int], tabulated: bool, dtype: torch.dtype) -> None:
    losses = TensorForceLoss(small_network(3, dtype=dtype), tabulated=tabulated)
    assert_same(losses, *flat(sizes, 3, dtype))


@pytest.mark.usefixtures("small_blocks", "uncompiled")
@PRECISIONS
@pytest.mark.parametrize("tabulated", [False, True])
def test_the_function_that_is_compiled(tabulated: bool, dtype: torch.dtype) -> None:
    losses = TensorForceLoss(small_network(4, dtype=dtype), compiled=True, tabulated=tabulated)
    assert_same(losses, *flat([12, 9, 3, 1, 20, 17] * 8, 4, dtype))


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 24), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_batch(sizes: list[int], seed: int) -> None:
    types, pos, batch = flat(sizes, seed, torch.float64)
    # Beads of systems in any order.
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(types)))
    losses = TensorForceLoss(small_network(seed, dtype=torch.float64))
    assert_same(losses, types[order], pos[order], batch[order])


@pytest.mark.usefixtures("small_blocks")
def test_chains_are_systems_of_one_kind() -> None:
    losses = TensorForceLoss(small_network(5, dtype=torch.float64))
    types, pos = sequence(14), chains(9, 14, 5)
    target = targets(pos)
    found = losses.chains(types, pos, target)
    batch = torch.arange(9).repeat_interleave(14)
    other = losses.systems(types.repeat(9), pos.reshape(-1, 3), batch, target.reshape(-1, 3))
    torch.testing.assert_close(found.forces.reshape(-1, 3), other.forces)
    torch.testing.assert_close(found.loss, other.loss)
    assert not losses.chains(types, pos, target).forces.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(losses.chains(types, pos, target).loss, found.loss.detach())


def test_a_table_that_is_not_accurate_is_not_used() -> None:
    network = small_network(6, dtype=torch.float32)
    types, pos, batch = flat([10] * 120, 6, torch.float32)
    target = targets(pos)
    smooth = network.table(512).slope_error(network.radial, network.filter_networks)
    with torch.no_grad():
        network.radial.widths.mul_(3000.0)
    steep = network.table(4096).slope_error(network.radial, network.filter_networks)
    assert smooth < 5e-6 < steep
    found, exact = (
        TensorForceLoss(network, tabulated=tabulated).systems(types, pos, batch, target)
        for tabulated in (True, False)
    )
    assert torch.equal(found.forces, exact.forces)


def test_polynomials_written_out_are_the_table() -> None:
    network = small_network(7, dtype=torch.float64)
    table = FilterTable(network.radial, network.filter_networks, 64)
    distance = torch.linspace(3.0, 12.0, 301, dtype=torch.float64)
    found = PolynomialFilters(table.tables, table.lower, table.spacing).filters(distance)
    for kind in ("values", "slopes"):
        for one, other in zip(
            getattr(found, kind), getattr(table.filters(distance), kind), strict=True
        ):
            torch.testing.assert_close(one, other)


def broken_compiler(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
    def call(*arguments: object) -> None:
        raise RuntimeError("C++ compile error\nmany lines of it")

    return call


def batch_of(dtype: torch.dtype) -> FrameBatch:
    types, pos = sequence(10), chains(8, 10, 1).to(dtype)
    return FrameBatch(pos, targets(pos), types, torch.arange(8))


def test_training_goes_on_where_compilation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_loss.shutil, "which", lambda name: name)
    monkeypatch.setattr(torch, "compile", broken_compiler)
    network = small_network(8, dtype=torch.float32)
    module = ForceMatching(network, OptimiserSettings(), "compiled")
    found = gradient(network, module.match(batch_of(torch.float32)).loss)
    assert module.engine.name == "torch"
    assert module.engine.reason == "compilation failed: C++ compile error"
    plain = ForceMatching(network, OptimiserSettings(), "torch")
    assert_gradient(gradient(network, plain.match(batch_of(torch.float32)).loss), found, 1e-9)


def test_without_a_compiler_tensors_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in (compiler_obstacle(CPU) or "")
    engine = choose_engine(GraphNetwork(), CPU, "compiled")
    assert engine.name == "torch"
    assert "no C++ compiler" in engine.reason


def test_the_compiler_is_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_loss.shutil, "which", lambda name: name)
    assert choose_engine(GraphNetwork(), CPU, "compiled").name == "compiled"
    assert choose_engine(GraphNetwork(), CPU, "auto").name == "fused"
    assert choose_engine(GraphNetwork().double(), CPU, "auto").name == "torch"
    monkeypatch.setattr(tensor_loss, "find_spec", lambda name: None)
    assert "triton" in choose_engine(GraphNetwork(), torch.device("cuda"), "compiled").reason


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
@PRECISIONS
def test_compiled(dtype: torch.dtype) -> None:
    losses = TensorForceLoss(small_network(9, dtype=dtype), compiled=True)
    assert_same(losses, *flat([10] * 90, 9, dtype))
    # Another size is no other function.
    assert_same(losses, *flat([12, 9, 20, 17] * 20, 9, dtype))


@pytest.mark.parametrize("shape", [(7,), (3, 16), (0, 4)])
def test_aligned_arrays_start_with_a_line(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    copy = aligned_copy(values)
    np.testing.assert_array_equal(copy, values)
    assert copy.flags.c_contiguous
    assert copy.flags.writeable
    for dtype in (np.float32, np.float64, np.int32):
        array = aligned(shape, dtype)
        assert array.shape == shape
        assert array.dtype == dtype
        assert array.size == 0 or array.ctypes.data % 64 == 0
