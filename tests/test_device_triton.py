"""Triton kernels on the CPU: interpreted and compared with their twins, and compiled.

Whether kernels are interpreted is settled when Triton is imported, so the comparisons run in a
process of their own. They take part where Triton is installed (``pip install cgbench[gpu]``). For
the slow ones: ``TRITON_INTERPRET=1 pytest -m slow tests/test_device_triton.py``.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_device_dynamics import compared
from test_fused import SPEC, chains, full_prior, pathological, potential, sequence
from toy_networks import SMALL, small_network

from cgbench.kernels.device import twin
from cgbench.kernels.device.arrays import Operations
from cgbench.models import DevicePotential, NetworkPotential

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="TRITON_INTERPRET=1 is not set")
installed = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: cgbench[gpu]"
)
#: Largest relative difference between kernels and twins, by precision.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def operations() -> Operations:
    from cgbench.kernels.device import fused

    return fused  # type: ignore[return-value]


def assert_same(chosen: NetworkPotential, types: torch.Tensor, pos: torch.Tensor) -> None:
    """Compare kernels with twins; where large forces cancel, with what the twins lose to it."""
    results = []
    for dtype, kind in ((pos.dtype, operations()), (pos.dtype, twin), (torch.float64, twin)):
        device = DevicePotential(chosen, types, len(pos), dtype=dtype, operations=kind)  # type: ignore[arg-type]
        results.append(device.chains(types, pos.to(dtype)))
    for name, one, other, best in zip(results[0]._fields, *results, strict=True):
        allowed = TOLERANCE[pos.dtype] * best.norm().clamp_min(1e-3)
        assert (one.double() - best).norm() <= allowed + 2 * (other - best).norm(), name


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n_beads", [1, 2, 3, 4, 5, 9])
def test_kernels_are_their_twins(n_beads: int, dtype: torch.dtype) -> None:
    pos = torch.tensor(chains(2, n_beads, seed=n_beads), dtype=dtype)
    assert_same(potential(n_beads, dtype), sequence(n_beads), pos)


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("n_beads", [6, 7, 8, 12, 16, 17, 31, 33, 64, 65, 96])
def test_numbers_of_beads_around_blocks(n_beads: int) -> None:
    """The interpreter is too slow for all: those at the edges of blocks, and the largest."""
    pos = torch.tensor(chains(1, n_beads, seed=n_beads), dtype=torch.float32)
    assert_same(potential(n_beads, torch.float32), sequence(n_beads), pos)


@interpreted
@pytest.mark.slow
@given(
    seed=st.integers(0, 2**16),
    n_beads=st.integers(2, 8),
    n_filters=st.integers(1, 70),
    scale=st.floats(0.6, 1.6),
)
@settings(max_examples=8, deadline=None)
def test_any_network_and_chain(seed: int, n_beads: int, n_filters: int, scale: float) -> None:
    shape = SMALL.model_copy(update={"num_filters": n_filters})
    chosen = NetworkPotential(small_network(seed, shape), full_prior(), SPEC)
    pos = torch.tensor(scale * chains(2, n_beads, seed=seed), dtype=torch.float64)
    assert_same(chosen, sequence(n_beads, seed), pos)


@interpreted
@pytest.mark.parametrize(("network", "prior"), [(True, False), (False, True)])
def test_several_blocks_of_filters_and_pairs(network: bool, prior: bool) -> None:
    """More filters and neighbours than a program works on at once, and a remainder of both."""
    shape = SMALL.model_copy(update={"num_filters": 41})
    chosen = NetworkPotential(
        small_network(2, shape) if network else None, full_prior() if prior else None, SPEC
    )
    pos = torch.tensor(0.7 * chains(1, 19, seed=3), dtype=torch.float64)
    assert_same(chosen, sequence(19), pos)


@interpreted
@pytest.mark.parametrize("case", list(pathological()))
def test_pathological_geometries(case: str) -> None:
    assert_same(potential(5, torch.float32), sequence(8), pathological()[case].float())


@interpreted
def test_a_broken_replica_is_broken_alone() -> None:
    types = sequence(6)
    device = DevicePotential(potential(6, torch.float32), types, 3, operations=operations())
    pos = torch.tensor(chains(3, 6, seed=4), dtype=torch.float32)
    whole = device.chains(types, pos)
    pos[1, 4, 1] = torch.inf
    broken = device.chains(types, pos)
    for before, after in zip(whole, broken, strict=True):
        assert after[1].isnan().all()
        assert torch.equal(before[::2], after[::2])


@interpreted
def test_a_step_is_that_of_the_twins() -> None:
    """Positions, velocities, failures and the count of steps, to the last bit."""
    found, expected = compared(operations()), compared(twin)  # type: ignore[arg-type]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert found.alive.tolist() == [True, False, False, False]


@interpreted
def test_the_trial_before_kernels_are_used() -> None:
    from cgbench.kernels.device.choice import agree

    assert agree(operations(), torch.device("cpu"))


@installed
@pytest.mark.skipif(INTERPRETED, reason="runs in the process that starts the others")
def test_kernels_in_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


@installed
@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")
@pytest.mark.parametrize("architecture", [80, 90])
def test_kernels_compile_without_a_device(architecture: int) -> None:
    """Down to machine code, at the reference size of network; nothing is spilled to memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from cgbench.kernels.device import pair_kernels, step_kernels

    numbers = dict.fromkeys(("n_beads", "n_rows", "replica_stride", "n_intervals"), "i32")
    numbers |= dict.fromkeys(("n_replicas", "n_steps"), "i32")
    numbers |= {"counts": "*i32", "neighbour": "*i32", "alive": "*i1", "within": "*i64"}
    tile = {"N_FILTERS": 128, "BLOCK_PAIRS": 16, "BLOCK_FILTERS": 32}
    state = {"SIZE": 240, "BLOCK": 256}
    for kernel, constants in (
        (pair_kernels.place_pairs_kernel, {"N_PARTS": 4, "BLOCK": 128}),
        (pair_kernels.send_messages_kernel, tile),
        (pair_kernels.pull_back_kernel, {**tile, "SENDERS_DEPEND": True}),
        (pair_kernels.pull_back_kernel, {**tile, "SENDERS_DEPEND": False}),
        (step_kernels.prior_kernel, {"N_PARTS": 4, "ORDERS": 2, "BLOCK": 128}),
        (step_kernels.before_forces_kernel, state),
        (step_kernels.after_forces_kernel, state),
    ):
        names = kernel.arg_names
        source = ASTSource(
            kernel,
            {n: "constexpr" if n in constants else numbers.get(n, "*fp32") for n in names},
            {(names.index(name),): value for name, value in constants.items()},
        )
        moves = constants is state
        options = {"num_warps": 4, "enable_fp_fusion": not moves}
        built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
        assert built.asm["cubin"]
        assert "local_depot" not in built.asm["ptx"]
        # Those of the integrator round products and sums one by one.
        assert not (moves and "fma" in built.asm["ptx"])
