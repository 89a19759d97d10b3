"""The operations as Triton kernels; see :class:`cgbench.kernels.device.arrays.Operations`.

Importing this module needs Triton. Where ``TRITON_INTERPRET=1`` is set before that, kernels are
interpreted on the CPU.
"""

from typing import Final

import triton
from torch import Tensor

from cgbench.kernels.device.arrays import PairLists, PriorArrays, StepArrays
from cgbench.kernels.device.pair_kernels import (
    place_pairs_kernel,
    pull_back_kernel,
    send_messages_kernel,
)
from cgbench.kernels.device.step_kernels import (
    after_forces_kernel,
    before_forces_kernel,
    prior_kernel,
)

#: Pairs and filters that a program works on at once. 32 numbers in single precision are one line
#: of the cache.
BLOCK_PAIRS: Final = 16
BLOCK_FILTERS: Final = 32
_WARPS: Final = 2


def n_parts(n_filters: int) -> int:
    """Return the number of blocks of filters."""
    return -(-n_filters // BLOCK_FILTERS)


def place_pairs(
    positions: Tensor,
    cutoffs: Tensor,
    lists: PairLists,
    bead_energy: Tensor,
    energy: Tensor,
    forces: Tensor,
) -> None:
    """List pairs and start sums."""
    n_rows, n_beads = lists.neighbour.shape
    place_pairs_kernel[(n_rows,)](
        positions,
        cutoffs,
        *lists,
        bead_energy,
        energy,
        forces,
        n_beads,
        n_rows,
        N_PARTS=len(forces),
        BLOCK=triton.next_power_of_2(n_beads),
        num_warps=_warps(n_beads),
        enable_fp_fusion=True,
    )


def send_messages(lists: PairLists, table: Tensor, sent: Tensor, received: Tensor) -> None:
    """Sum filtered messages."""
    n_rows, n_beads = lists.neighbour.shape
    n_filters = table.shape[1]
    send_messages_kernel[(n_rows, n_parts(n_filters))](
        *lists,
        table,
        sent,
        received,
        n_beads,
        _replica_stride(sent, n_rows, n_beads),
        len(table) - 3,
        N_FILTERS=n_filters,
        BLOCK_PAIRS=BLOCK_PAIRS,
        BLOCK_FILTERS=BLOCK_FILTERS,
        num_warps=_WARPS,
        enable_fp_fusion=True,
    )


def pull_back(
    lists: PairLists,
    positions: Tensor,
    cutoffs: Tensor,
    table: Tensor,
    sent: Tensor,
    pull: Tensor,
    forces: Tensor,
    pulled: Tensor | None,
) -> None:
    """Add the forces of a layer's filters, and take the gradient to what was sent."""
    n_rows, n_beads = lists.neighbour.shape
    n_filters = table.shape[1]
    pull_back_kernel[(n_rows, n_parts(n_filters))](
        *lists,
        positions,
        cutoffs,
        table,
        sent,
        pull,
        forces,
        # Never written where senders depend on nothing.
        pull if pulled is None else pulled,
        n_beads,
        n_rows,
        _replica_stride(sent, n_rows, n_beads),
        len(table) - 3,
        SENDERS_DEPEND=pulled is not None,
        N_FILTERS=n_filters,
        BLOCK_PAIRS=BLOCK_PAIRS,
        BLOCK_FILTERS=BLOCK_FILTERS,
        num_warps=_WARPS,
        enable_fp_fusion=True,
    )


def prior_forces(
    positions: Tensor, prior: PriorArrays, parts: Tensor, energy: Tensor, forces: Tensor
) -> None:
    """Evaluate bonds, dihedrals and repulsion, and add the parts of other forces."""
    n_replicas, n_beads, _ = positions.shape
    n_rows = n_replicas * n_beads
    prior_kernel[(n_rows,)](
        positions,
        *prior,
        parts,
        energy,
        forces,
        n_beads,
        n_rows,
        N_PARTS=len(parts),
        ORDERS=prior.cosine.shape[1],
        BLOCK=triton.next_power_of_2(n_beads),
        num_warps=_warps(n_beads),
        enable_fp_fusion=True,
    )


def before_forces(step: StepArrays) -> None:
    """Do B, A, O and A of a step."""
    n_replicas, n_beads, _ = step.positions.shape
    before_forces_kernel[(n_replicas,)](
        step.positions,
        step.velocities,
        step.forces,
        step.alive,
        step.noise,
        step.within,
        step.spread,
        step.constants,
        n_replicas,
        SIZE=3 * n_beads,
        BLOCK=triton.next_power_of_2(3 * n_beads),
        num_warps=_warps(3 * n_beads),
        # Products and sums are rounded one by one, as on a processor.
        enable_fp_fusion=False,
    )


def after_forces(step: StepArrays) -> None:
    """Do the last B of a step, and count it."""
    n_replicas, n_beads, _ = step.positions.shape
    after_forces_kernel[(n_replicas,)](
        step.velocities,
        step.forces,
        step.alive,
        step.within,
        step.constants,
        len(step.noise),
        SIZE=3 * n_beads,
        BLOCK=triton.next_power_of_2(3 * n_beads),
        num_warps=_warps(3 * n_beads),
        enable_fp_fusion=False,
    )


def _replica_stride(sent: Tensor, n_rows: int, n_beads: int) -> int:
    """Return the rows between what one replica sends and the next; none where all send alike."""
    return n_beads if len(sent) == n_rows else 0


def _warps(n_numbers: int) -> int:
    """Return the warps of a program with a number for each thread."""
    return 1 if n_numbers <= 32 else 2 if n_numbers <= 64 else 4
