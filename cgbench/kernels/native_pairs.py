"""Pairs of a structure-based model, replica by replica in plain loops over beads.

The formulas are those of ``cgbench.models.go_terms``. Positions lie component by component, so that
the inner loop runs over neighbouring numbers and uses vector instructions.
"""

from typing import Any

from cgbench.kernels.compiled import compiled


@compiled
def native_pairs(
    pos: Any, squared: Any, twelve: Any, ten: Any, limits: Any, energies: Any, forces: Any
) -> None:
    """Fill energies (R,) and forces (R, 3, N) of native and other pairs.

    Args:
        pos: (R, 3, N) in Å.
        squared: (N, N) squared native or repulsion distance in Å²; zero where beads are no pair.
        twelve: (N, N) factor of (r°/r)¹² in kcal/mol.
        ten: (N, N) factor of (r°/r)¹⁰ in kcal/mol.
        limits: (3,) squared clash distance in Å², 5 and 6, in the precision of all the others.
        energies: Filled.
        forces: Filled.
    """
    clash, five, six = limits[0], limits[1], limits[2]
    zero, one = clash - clash, six - five
    n_beads = pos.shape[2]
    for replica in range(pos.shape[0]):
        x, y, z = pos[replica, 0], pos[replica, 1], pos[replica, 2]
        total = 0.0
        for i in range(n_beads):
            energy, fx, fy, fz = zero, zero, zero, zero
            # Every pair is met twice: with nothing written in this loop it uses vectors.
            for j in range(n_beads):
                dx, dy, dz = x[i] - x[j], y[i] - y[j], z[i] - z[j]
                s = dx * dx + dy * dy + dz * dz
                # A comparison with NaN is false, so NaN stays.
                bounded = clash if s < clash else s
                inverse = one / bounded
                ratio = squared[i, j] * inverse
                square = ratio * ratio
                fifth = square * square * ratio
                a, b = fifth * ratio * twelve[i, j], fifth * ten[i, j]
                push = (six * a - five * b) * inverse
                energy += a - b + push * (bounded - s)
                fx += push * dx
                fy += push * dy
                fz += push * dz
            forces[replica, 0, i] = fx + fx
            forces[replica, 1, i] = fy + fy
            forces[replica, 2, i] = fz + fz
            total += energy
        energies[replica] = 0.5 * total
