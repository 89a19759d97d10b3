"""Bonds, dihedrals and repulsion of replicas of one chain: energies and forces in plain loops.

The formulas are those of ``cgbench.priors.terms``, bead by bead instead of term by term: nothing is
gathered, and no array larger than a chain is made.
"""

from typing import Any, NamedTuple

import numpy as np

from cgbench.kernels.compiled import compiled


class PriorTables(NamedTuple):
    """Parameters of one chain, arrays of one precision.

    Attributes:
        bond_k: (n_beads − 1,) force constants in kcal/mol/Å².
        bond_r0: (n_beads − 1,) lengths in Å.
        strength: (n_beads, n_beads) factors of r⁻⁶ in kcal·Å⁶/mol, zero where beads do not repel.
        constant: (1,) kcal/mol, added to every energy.
        cosine: (n_beads − 3, largest n) factors of cos nφ in kcal/mol.
        sine: (n_beads − 3, largest n) factors of sin nφ in kcal/mol.
        limits: (3,) squared clash distance in Å², least squared normal in Å⁴, least length in Å.
    """

    bond_k: Any
    bond_r0: Any
    strength: Any
    constant: Any
    cosine: Any
    sine: Any
    limits: Any


@compiled
def _cross(a: Any, b: Any, out: Any) -> None:
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@compiled
def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def _bonds(here: Any, tables: Any, vectors: Any, lengths: Any, pulls: Any) -> float:
    """Fill bond vectors, lengths and dE/d(bond vector); return the energy."""
    energy = 0.0
    two = tables.limits[0] / tables.limits[0] + tables.limits[0] / tables.limits[0]
    for b in range(here.shape[0] - 1):
        vector, pull = vectors[b], pulls[b]
        for c in range(3):
            vector[c] = here[b + 1, c] - here[b, c]
        length = max(np.sqrt(_dot(vector, vector)), tables.limits[2])
        lengths[b] = length
        stretch = length - tables.bond_r0[b]
        energy += tables.bond_k[b] * stretch * stretch
        factor = two * tables.bond_k[b] * stretch / length
        for c in range(3):
            pull[c] = factor * vector[c]
    return energy


@compiled
def _dihedrals(tables: Any, vectors: Any, lengths: Any, pulls: Any, normals: Any) -> float:
    """Add dE/d(bond vector) of the dihedrals to ``pulls``; return their energy."""
    energy = 0.0
    least = tables.limits[1]
    one = least / least
    m, n = normals[0], normals[1]
    largest = tables.cosine.shape[1]
    for d in range(tables.cosine.shape[0]):
        first, middle, last = vectors[d], vectors[d + 1], vectors[d + 2]
        _cross(first, middle, m)
        _cross(middle, last, n)
        length = lengths[d + 1]
        m_squared, n_squared = max(_dot(m, m), least), max(_dot(n, n), least)
        inverse = one / np.sqrt(m_squared * n_squared)
        cosine = _dot(m, n) * inverse
        sine = _dot(first, n) * length * inverse
        c, s = cosine, sine
        order, slope = one, one - one
        for k in range(largest):
            a, b = tables.cosine[d, k], tables.sine[d, k]
            energy += c * a + s * b
            slope += order * (c * b - s * a)
            c, s = c * cosine - s * sine, s * cosine + c * sine
            order += one
        outer = slope * length
        inner = slope / length
        before = inner * _dot(first, middle) / m_squared
        after = inner * _dot(middle, last) / n_squared
        outer_m, outer_n = outer / m_squared, outer / n_squared
        for k in range(3):
            pulls[d, k] += outer_m * m[k]
            pulls[d + 2, k] += outer_n * n[k]
            pulls[d + 1, k] -= before * m[k] + after * n[k]
    return energy


@compiled
def _repulsion(tables: Any, components: Any, weights: Any, sums: Any) -> float:
    """Fill forces by component (3, n_beads); return the energy.

    Each inner loop writes to one array only, which is what lets the compiler use vectors.
    """
    energy = 0.0
    clash = tables.limits[0]
    one = clash / clash
    three, four, six = one + one + one, one + one + one + one, one + one + one + one + one + one
    x, y, z = components[0], components[1], components[2]
    n_beads = x.shape[0]
    sums[:] = 0
    for i in range(n_beads - 1):
        strength = tables.strength[i]
        here_x, here_y, here_z = x[i], y[i], z[i]
        row = one - one
        for j in range(i + 1, n_beads):
            dx, dy, dz = here_x - x[j], here_y - y[j], here_z - z[j]
            squared = dx * dx + dy * dy + dz * dz
            # In this order what is not a number stays so.
            bounded = clash if squared < clash else squared
            inverse = one / bounded
            inverse *= inverse
            weight = strength[j] * inverse * inverse
            row += weight * (four * bounded - three * squared)
            weights[j] = six * weight
        energy += row
        for c in range(3):
            place, force = components[c], sums[c]
            here, mine = place[i], one - one
            for j in range(i + 1, n_beads):
                pull = weights[j] * (here - place[j])
                mine += pull
                force[j] -= pull
            force[i] += mine
    return energy


@compiled
def prior_block(positions: Any, tables: Any, scratch: Any, energies: Any, forces: Any) -> None:
    """Write energies and add forces of the prior.

    Args:
        positions: (n_replicas, n_beads, 3) in Å.
        tables: :class:`PriorTables`.
        scratch: (20, n_beads) of the same precision.
        energies: (n_replicas,) float64 in kcal/mol; filled.
        forces: (n_replicas, n_beads, 3) in kcal/mol/Å; added to.
    """
    n_replicas, n_beads, _ = positions.shape
    components, sums = scratch[0:3], scratch[3:6]
    weights, lengths = scratch[6], scratch[7]
    flat = scratch.reshape(-1)[8 * n_beads :]
    vectors = flat[: 3 * n_beads].reshape(n_beads, 3)
    pulls = flat[3 * n_beads : 6 * n_beads].reshape(n_beads, 3)
    normals = flat[6 * n_beads : 6 * n_beads + 6].reshape(2, 3)
    for r in range(n_replicas):
        here, force = positions[r], forces[r]
        for i in range(n_beads):
            for c in range(3):
                components[c, i] = here[i, c]
        energy = _bonds(here, tables, vectors, lengths, pulls)
        if tables.cosine.shape[1] > 0:
            energy += _dihedrals(tables, vectors, lengths, pulls, normals)
        energies[r] = energy + _repulsion(tables, components, weights, sums) + tables.constant[0]
        for b in range(n_beads - 1):
            for c in range(3):
                force[b, c] += pulls[b, c]
                force[b + 1, c] -= pulls[b, c]
        for i in range(n_beads):
            for c in range(3):
                force[i, c] += sums[c, i]
