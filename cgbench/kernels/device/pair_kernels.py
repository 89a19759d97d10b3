"""Triton kernels for pairs: one program for each bead of each replica.

A program gathers over the neighbours of its own bead and writes to its own row only. Each pair is
so worked on from both sides, which costs arithmetic and saves what is dearer: atomic additions and
their random order. The second axis of the grid divides the filters: programs that run side by side
share 128-byte lines of the same columns of the table, which stay in the first cache.

Importing this module needs Triton.
"""

import triton
import triton.language as tl


@triton.jit
def place_pairs_kernel(
    positions,
    cutoffs,
    counts,
    neighbour,
    scaled,
    bead_energy,
    energy,
    forces,
    n_beads,
    n_rows,
    N_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """List the neighbours of one bead in ascending order; start its energy and forces."""
    row = tl.program_id(0).to(tl.int64)
    replica = row // n_beads
    i = row - replica * n_beads
    here = positions + 3 * replica * n_beads
    lower, upper, per_spacing = tl.load(cutoffs), tl.load(cutoffs + 1), tl.load(cutoffs + 2)
    j = tl.arange(0, BLOCK)
    beads = j < n_beads
    x = tl.load(here + 3 * j, mask=beads, other=0.0)
    y = tl.load(here + 3 * j + 1, mask=beads, other=0.0)
    z = tl.load(here + 3 * j + 2, mask=beads, other=0.0)
    dx = tl.load(here + 3 * i) - x
    dy = tl.load(here + 3 * i + 1) - y
    dz = tl.load(here + 3 * i + 2) - z
    squared = dx * dx + dy * dy + dz * dz
    inside = beads & (j != i) & (squared > lower * lower) & (squared < upper * upper)
    ones = inside.to(tl.int32)
    place = row * n_beads + tl.cumsum(ones, 0) - 1
    tl.store(neighbour + place, j, mask=inside)
    tl.store(scaled + place, (tl.sqrt(squared) - lower) * per_spacing, mask=inside)
    tl.store(counts + row, tl.sum(ones, 0))
    # Zero, or what is not a number where a position of the replica is not.
    broken = tl.sum(x * 0.0 + y * 0.0 + z * 0.0, 0)
    tl.store(energy + row, broken + tl.load(bead_energy))
    for part in tl.static_range(N_PARTS):
        for c in tl.static_range(3):
            tl.store(forces + (part * n_rows + row) * 3 + c, broken)


@triton.jit
def _value_weights(t):
    """Return six times the weights of four neighbouring rows of a table for values.

    Sums are divided by six, once: numbers in a kernel are rounded to single precision, which a
    sixth would not survive where it matters.
    """
    s = 1.0 - t
    return s * s * s, 3.0 * t * t * (t - 2.0) + 4.0, 3.0 * s * s * (s - 2.0) + 4.0, t * t * t


@triton.jit
def send_messages_kernel(
    counts,
    neighbour,
    scaled,
    table,
    sent,
    received,
    n_beads,
    replica_stride,
    n_intervals,
    N_FILTERS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    BLOCK_FILTERS: tl.constexpr,
):
    """Sum what one bead receives through a block of filters."""
    row = tl.program_id(0).to(tl.int64)
    filters = tl.program_id(1) * BLOCK_FILTERS + tl.arange(0, BLOCK_FILTERS)
    columns = filters < N_FILTERS
    first_sent = row // n_beads * replica_stride
    n = tl.load(counts + row)
    total = tl.zeros([BLOCK_PAIRS, BLOCK_FILTERS], dtype=sent.dtype.element_ty)
    for first in range(0, n, BLOCK_PAIRS):
        k = first + tl.arange(0, BLOCK_PAIRS)
        pairs = k < n
        j = tl.load(neighbour + row * n_beads + k, mask=pairs, other=0)
        place = tl.load(scaled + row * n_beads + k, mask=pairs, other=0.0)
        # Rounding may carry a distance just inside a cutoff onto the other side of its knot.
        interval = tl.minimum(tl.maximum(place.to(tl.int32), 0), n_intervals - 1)
        a, b, c, d = _value_weights(place - interval.to(place.dtype))
        both = pairs[:, None] & columns[None, :]
        rows = table + interval[:, None] * N_FILTERS + filters[None, :]
        value = a[:, None] * tl.load(rows, mask=both, other=0.0)
        value += b[:, None] * tl.load(rows + N_FILTERS, mask=both, other=0.0)
        value += c[:, None] * tl.load(rows + 2 * N_FILTERS, mask=both, other=0.0)
        value += d[:, None] * tl.load(rows + 3 * N_FILTERS, mask=both, other=0.0)
        other = (first_sent + j)[:, None] * N_FILTERS + filters[None, :]
        total += value * tl.load(sent + other, mask=both, other=0.0)
    tl.store(received + row * N_FILTERS + filters, tl.sum(total, 0) / 6.0, mask=columns)


@triton.jit
def pull_back_kernel(
    counts,
    neighbour,
    scaled,
    positions,
    cutoffs,
    table,
    sent,
    pull,
    forces,
    pulled,
    n_beads,
    n_rows,
    replica_stride,
    n_intervals,
    SENDERS_DEPEND: tl.constexpr,
    N_FILTERS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    BLOCK_FILTERS: tl.constexpr,
):
    """Add to one bead's share of the forces, and take the gradient to what it sent."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    filters = part * BLOCK_FILTERS + tl.arange(0, BLOCK_FILTERS)
    columns = filters < N_FILTERS
    replica = row // n_beads
    first_row = replica * n_beads
    first_sent = replica * replica_stride
    x = tl.load(positions + 3 * row)
    y = tl.load(positions + 3 * row + 1)
    z = tl.load(positions + 3 * row + 2)
    per_spacing = tl.load(cutoffs + 2)
    own = (first_sent + row - first_row) * N_FILTERS + filters
    mine = tl.load(sent + own, mask=columns, other=0.0)[None, :]
    pull_mine = tl.load(pull + row * N_FILTERS + filters, mask=columns, other=0.0)[None, :]
    n = tl.load(counts + row)
    total = tl.zeros([BLOCK_PAIRS, BLOCK_FILTERS], dtype=sent.dtype.element_ty)
    fx = tl.zeros([BLOCK_PAIRS], dtype=sent.dtype.element_ty)
    fy = tl.zeros([BLOCK_PAIRS], dtype=sent.dtype.element_ty)
    fz = tl.zeros([BLOCK_PAIRS], dtype=sent.dtype.element_ty)
    for first in range(0, n, BLOCK_PAIRS):
        k = first + tl.arange(0, BLOCK_PAIRS)
        pairs = k < n
        j = tl.load(neighbour + row * n_beads + k, mask=pairs, other=0)
        place = tl.load(scaled + row * n_beads + k, mask=pairs, other=0.0)
        interval = tl.minimum(tl.maximum(place.to(tl.int32), 0), n_intervals - 1)
        t = place - interval.to(place.dtype)
        s = 1.0 - t
        both = pairs[:, None] & columns[None, :]
        rows = table + interval[:, None] * N_FILTERS + filters[None, :]
        ta = tl.load(rows, mask=both, other=0.0)
        tb = tl.load(rows + N_FILTERS, mask=both, other=0.0)
        tc = tl.load(rows + 2 * N_FILTERS, mask=both, other=0.0)
        td = tl.load(rows + 3 * N_FILTERS, mask=both, other=0.0)
        slopes = (-3.0 * s * s)[:, None] * ta + (3.0 * t * (3.0 * t - 4.0))[:, None] * tb
        slopes += (3.0 * s * (4.0 - 3.0 * s))[:, None] * tc + (3.0 * t * t)[:, None] * td
        other = (first_sent + j)[:, None] * N_FILTERS + filters[None, :]
        pull_other = (first_row + j)[:, None] * N_FILTERS + filters[None, :]
        theirs = tl.load(sent + other, mask=both, other=0.0)
        pull_theirs = tl.load(pull + pull_other, mask=both, other=0.0)
        slope = tl.sum(slopes * (pull_mine * theirs + pull_theirs * mine), 1)
        bead = positions + 3 * (first_row + j)
        dx = x - tl.load(bead, mask=pairs, other=0.0)
        dy = y - tl.load(bead + 1, mask=pairs, other=0.0)
        dz = z - tl.load(bead + 2, mask=pairs, other=0.0)
        squared = tl.where(pairs, dx * dx + dy * dy + dz * dz, 1.0)
        factor = slope * (per_spacing / 6.0) / tl.sqrt(squared)
        fx += factor * dx
        fy += factor * dy
        fz += factor * dz
        if SENDERS_DEPEND:
            a, b, c, d = _value_weights(t)
            value = a[:, None] * ta + b[:, None] * tb + c[:, None] * tc + d[:, None] * td
            total += value * pull_theirs
    mine_of_forces = forces + (part * n_rows + row) * 3
    tl.store(mine_of_forces, tl.load(mine_of_forces) - tl.sum(fx, 0))
    tl.store(mine_of_forces + 1, tl.load(mine_of_forces + 1) - tl.sum(fy, 0))
    tl.store(mine_of_forces + 2, tl.load(mine_of_forces + 2) - tl.sum(fz, 0))
    if SENDERS_DEPEND:
        tl.store(pulled + row * N_FILTERS + filters, tl.sum(total, 0) / 6.0, mask=columns)
