"""Triton kernels for the prior, one program a bead, and for the integrator, one program a replica.

Importing this module needs Triton.
"""

import triton
import triton.language as tl


@triton.jit
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def _bond(here, b, valid):
    """Return the vector from bead b to the next; zero where there is none."""
    bead = here + 3 * b
    x = tl.load(bead + 3, mask=valid, other=0.0) - tl.load(bead, mask=valid, other=0.0)
    y = tl.load(bead + 4, mask=valid, other=0.0) - tl.load(bead + 1, mask=valid, other=0.0)
    z = tl.load(bead + 5, mask=valid, other=0.0) - tl.load(bead + 2, mask=valid, other=0.0)
    return x, y, z


@triton.jit
def _stretch(here, b, n_beads, bond_k, bond_r0, least_length):
    """Return energy of bond b and its gradient by the bond vector; zero where there is none."""
    valid = (b >= 0) & (b < n_beads - 1)
    x, y, z = _bond(here, b, valid)
    k = tl.load(bond_k + b, mask=valid, other=0.0)
    length = tl.maximum(tl.sqrt(x * x + y * y + z * z), least_length)
    stretch = length - tl.load(bond_r0 + b, mask=valid, other=0.0)
    factor = 2.0 * k * stretch / length
    return k * stretch * stretch, factor * x, factor * y, factor * z


@triton.jit
def _dihedral(here, d, n_beads, cosine, sine, least, least_length, ORDERS: tl.constexpr):
    """Return energy of dihedral d and its gradients by its three bonds; zero where there is none.

    The gradients by the bonds of d are ``outer_m m``, ``−(before m + after n)`` and ``outer_n n``.
    """
    valid = (d >= 0) & (d < n_beads - 3)
    ax, ay, az = _bond(here, d, valid)
    bx, by, bz = _bond(here, d + 1, valid)
    cx, cy, cz = _bond(here, d + 2, valid)
    mx, my, mz = _cross(ax, ay, az, bx, by, bz)
    nx, ny, nz = _cross(bx, by, bz, cx, cy, cz)
    length = tl.maximum(tl.sqrt(bx * bx + by * by + bz * bz), least_length)
    m_squared = tl.maximum(mx * mx + my * my + mz * mz, least)
    n_squared = tl.maximum(nx * nx + ny * ny + nz * nz, least)
    inverse = 1.0 / tl.sqrt(m_squared * n_squared)
    cos_phi = (mx * nx + my * ny + mz * nz) * inverse
    sin_phi = (ax * nx + ay * ny + az * nz) * length * inverse
    c, s = cos_phi, sin_phi
    energy = cos_phi * 0.0
    slope = cos_phi * 0.0
    for order in tl.static_range(ORDERS):
        p = tl.load(cosine + d * ORDERS + order, mask=valid, other=0.0)
        q = tl.load(sine + d * ORDERS + order, mask=valid, other=0.0)
        energy += c * p + s * q
        slope += (order + 1) * (c * q - s * p)
        next_c = c * cos_phi - s * sin_phi
        s = s * cos_phi + c * sin_phi
        c = next_c
    outer = slope * length
    inner = slope / length
    before = inner * (ax * bx + ay * by + az * bz) / m_squared
    after = inner * (bx * cx + by * cy + bz * cz) / n_squared
    outer_m = outer / m_squared
    outer_n = outer / n_squared
    return (
        energy,
        outer_m * mx,
        outer_m * my,
        outer_m * mz,
        -(before * mx + after * nx),
        -(before * my + after * ny),
        -(before * mz + after * nz),
        outer_n * nx,
        outer_n * ny,
        outer_n * nz,
    )


@triton.jit
def prior_kernel(
    positions,
    bond_k,
    bond_r0,
    strength,
    cosine,
    sine,
    constants,
    parts,
    energy,
    forces,
    n_beads,
    n_rows,
    N_PARTS: tl.constexpr,
    ORDERS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write one bead's share of the energy, and all forces on it.

    A dihedral acts on four beads; each of them works it out for itself.
    """
    row = tl.program_id(0).to(tl.int64)
    replica = row // n_beads
    i = row - replica * n_beads
    here = positions + 3 * replica * n_beads
    clash, least = tl.load(constants), tl.load(constants + 1)
    least_length, constant = tl.load(constants + 2), tl.load(constants + 3)
    j = tl.arange(0, BLOCK)
    beads = j < n_beads
    x = tl.load(here + 3 * j, mask=beads, other=0.0)
    y = tl.load(here + 3 * j + 1, mask=beads, other=0.0)
    z = tl.load(here + 3 * j + 2, mask=beads, other=0.0)
    dx = tl.load(here + 3 * i) - x
    dy = tl.load(here + 3 * i + 1) - y
    dz = tl.load(here + 3 * i + 2) - z
    squared = dx * dx + dy * dy + dz * dz
    bounded = tl.where(squared < clash, clash, squared)
    inverse = 1.0 / bounded
    inverse = inverse * inverse
    weight = tl.load(strength + i * n_beads + j, mask=beads, other=0.0) * inverse * inverse
    total = 0.5 * tl.sum(weight * (4.0 * bounded - 3.0 * squared), 0)
    fx, fy, fz = (
        6.0 * tl.sum(weight * dx, 0),
        6.0 * tl.sum(weight * dy, 0),
        6.0 * tl.sum(weight * dz, 0),
    )
    bond, px, py, pz = _stretch(here, i, n_beads, bond_k, bond_r0, least_length)
    _, qx, qy, qz = _stretch(here, i - 1, n_beads, bond_k, bond_r0, least_length)
    total += bond
    fx += px - qx
    fy += py - qy
    fz += pz - qz
    if ORDERS > 0:
        # The bead is the first, second, third and last of four dihedrals, and stands at the start
        # of one bond and at the end of another.
        angle, ax, ay, az, _, _, _, _, _, _ = _dihedral(
            here, i, n_beads, cosine, sine, least, least_length, ORDERS
        )
        total += angle
        fx += ax
        fy += ay
        fz += az
        _, ax, ay, az, bx, by, bz, _, _, _ = _dihedral(
            here, i - 1, n_beads, cosine, sine, least, least_length, ORDERS
        )
        fx += bx - ax
        fy += by - ay
        fz += bz - az
        _, _, _, _, bx, by, bz, cx, cy, cz = _dihedral(
            here, i - 2, n_beads, cosine, sine, least, least_length, ORDERS
        )
        fx += cx - bx
        fy += cy - by
        fz += cz - bz
        _, _, _, _, _, _, _, cx, cy, cz = _dihedral(
            here, i - 3, n_beads, cosine, sine, least, least_length, ORDERS
        )
        fx -= cx
        fy -= cy
        fz -= cz
    broken = tl.sum(x * 0.0 + y * 0.0 + z * 0.0, 0)
    total += broken + tl.where(i == 0, constant, 0.0)
    for part in tl.static_range(N_PARTS):
        share = parts + (part * n_rows + row) * 3
        fx += tl.load(share)
        fy += tl.load(share + 1)
        fz += tl.load(share + 2)
    tl.store(energy + row, total)
    tl.store(forces + 3 * row, fx + broken)
    tl.store(forces + 3 * row + 1, fy + broken)
    tl.store(forces + 3 * row + 2, fz + broken)


@triton.jit
def before_forces_kernel(
    positions,
    velocities,
    forces,
    alive,
    noise,
    within,
    spread,
    constants,
    n_replicas,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Do B, A, O and A for one replica, or hold it where it is."""
    replica = tl.program_id(0).to(tl.int64)
    kick, drift, decay = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
    k = tl.arange(0, BLOCK)
    numbers = k < SIZE
    at = replica * SIZE + k
    old = tl.load(positions + at, mask=numbers, other=0.0)
    v = tl.load(velocities + at, mask=numbers, other=0.0)
    v = v + tl.load(forces + at, mask=numbers, other=0.0) * kick
    x = old + v * drift
    normals = tl.load(noise + tl.load(within) * n_replicas * SIZE + at, mask=numbers, other=0.0)
    v = v * decay + normals * tl.load(spread + replica)
    x = x + v * drift
    # What is not a number is not smaller than anything.
    broken = tl.sum(tl.where(tl.abs(x) < float("inf"), 0, 1), 0)
    lives = tl.load(alive + replica).to(tl.int1) & (broken == 0)
    tl.store(positions + at, tl.where(lives, x, old), mask=numbers)
    tl.store(velocities + at, tl.where(lives, v, 0.0), mask=numbers)
    tl.store(alive + replica, lives)


@triton.jit
def after_forces_kernel(
    velocities,
    forces,
    alive,
    within,
    constants,
    n_steps,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Do the last B for one replica, or take its velocity and force away."""
    replica = tl.program_id(0).to(tl.int64)
    kick = tl.load(constants)
    k = tl.arange(0, BLOCK)
    numbers = k < SIZE
    at = replica * SIZE + k
    f = tl.load(forces + at, mask=numbers, other=0.0)
    v = tl.load(velocities + at, mask=numbers, other=0.0)
    broken = tl.sum(tl.where(tl.abs(f) < float("inf"), 0, 1), 0)
    lives = tl.load(alive + replica).to(tl.int1) & (broken == 0)
    tl.store(forces + at, tl.where(lives, f, 0.0), mask=numbers)
    tl.store(velocities + at, tl.where(lives, v + f * kick, 0.0), mask=numbers)
    tl.store(alive + replica, lives)
    # Nothing else in this launch reads it.
    if replica == 0:
        tl.store(within, (tl.load(within) + 1) % n_steps)
