"""Which implementation of the operations a device gets, and why."""

import importlib.util
from typing import Any, Final, cast

import torch

from cgbench.kernels.device import twin
from cgbench.kernels.device.arrays import Operations, PairLists, PriorArrays, StepArrays

#: Bead count, filters and replicas of the chain that kernels are tried on.
_TRIAL: Final = (5, 6, 2)

#: Relative difference of each result of the trial that rounding in single precision may make.
_TOLERANCE: Final = 2e-5


def choose_operations(device: torch.device) -> tuple[Operations, str]:
    """Return the operations for a device and what they are.

    Triton compiles kernels when they are first called, with tools that a machine may lack; so they
    are tried on a small chain, and compared with their twins, before they are relied on.
    """
    plain = cast(Operations, twin)
    if device.type != "cuda":
        return plain, "plain torch"
    if importlib.util.find_spec("triton") is None:
        return plain, "plain torch, because Triton is not installed"
    try:
        from cgbench.kernels.device import fused
    except ImportError as error:
        return plain, f"plain torch, because Triton cannot be imported ({error})"
    kernels = cast(Operations, fused)
    try:
        # Triton launches on the current device, whatever the tensors say.
        with torch.cuda.device(device):
            same = agree(kernels, device)
    # Whatever a compiler, a driver or a missing tool raises, there is a path that works.
    except Exception as error:  # noqa: BLE001
        reason = (str(error).strip().splitlines() or [""])[-1][:200]
        return plain, f"plain torch, because Triton failed: {type(error).__name__}: {reason}"
    if not same:
        return plain, "plain torch, because Triton kernels differed from it on this device"
    return kernels, "Triton kernels"


def agree(operations: Operations, device: torch.device) -> bool:
    """Say whether all operations give what their twins give, to the rounding of single precision.

    Args:
        operations: What to try.
        device: Where.
    """
    found = _trial(operations, device)
    expected = _trial(cast(Operations, twin), device)
    return all(
        # In this order what is not a number does not agree.
        bool((one - other).norm() <= _TOLERANCE * other.norm())
        for one, other in zip(found, expected, strict=True)
    )


def _trial(operations: Operations, device: torch.device) -> list[torch.Tensor]:
    """Return everything that one call of each operation writes, by its definition."""
    n_beads, n_filters, n_replicas = _TRIAL
    n_rows = n_replicas * n_beads
    generator = torch.Generator().manual_seed(1)
    options: dict[str, Any] = {"dtype": torch.float32, "device": device}

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(**options)

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, **options)

    along = 3.8 * torch.arange(n_beads, **options)[None, :, None] * torch.eye(3, **options)[0]
    positions = along + numbers(n_replicas, n_beads, 3)
    cutoffs = torch.tensor([3.0, 12.0, 20.0 / 9.0], **options)
    lists = PairLists(
        torch.zeros(n_rows, dtype=torch.int32, device=device),
        torch.zeros(n_rows, n_beads, dtype=torch.int32, device=device),
        zeros(n_rows, n_beads),
    )
    energy, parts = zeros(n_rows), zeros(operations.n_parts(n_filters), n_rows, 3)
    operations.place_pairs(positions, cutoffs, lists, zeros(1), energy, parts)
    table, sent, pull = numbers(23, n_filters), numbers(n_rows, n_filters), numbers(n_rows, 6)
    received, pulled = zeros(n_rows, n_filters), zeros(n_rows, n_filters)
    operations.send_messages(lists, table, sent, received)
    operations.pull_back(lists, positions, cutoffs, table, sent, pull, parts, pulled)
    prior = PriorArrays(
        bond_k=torch.tensor([2.0, 2.0, 2.0, 2.0, 0.0], **options),
        bond_r0=torch.full((n_beads,), 3.8, **options),
        strength=40.0 * torch.ones(n_beads, n_beads, **options).triu(2),
        cosine=torch.tensor([[0.3, 0.1]] * 2 + [[0.0, 0.0]] * 3, **options),
        sine=torch.tensor([[0.2, -0.1]] * 2 + [[0.0, 0.0]] * 3, **options),
        constants=torch.tensor([0.01, 1e-6, 1e-6, 0.5], **options),
    )
    shares, forces = zeros(n_rows), zeros(n_replicas, n_beads, 3)
    operations.prior_forces(positions, prior, parts, shares, forces)
    step = StepArrays(
        positions,
        numbers(n_replicas, n_beads, 3),
        forces,
        torch.tensor([True, False], device=device),
        numbers(4, n_replicas, n_beads, 3),
        torch.tensor([3], device=device),
        torch.ones(n_replicas, **options),
        torch.tensor([0.01, 0.002, 0.9], **options),
    )
    operations.before_forces(step)
    operations.after_forces(step)
    written = [received, pulled, shares, *step[:4], step.within]
    return [one.double() for one in written]
