"""The compiled loop of backbone reconstruction. Imported inside functions."""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.compiled import compiled

Array = NDArray[Any]
#: Small vectors are tuples, which need no memory.
Vector: TypeAlias = tuple[Any, Any, Any]

#: Weight of an angle N–Cα–C that is off its ideal by one radian: a spread of 3 degrees.
_STIFFNESS: Final = 0.5 / np.radians(3.0) ** 2
#: Steps, in radians, by which rotations are refined in turn, and rounds of each.
_REFINEMENTS: Final = (np.radians(4.0), np.radians(2.0), np.radians(1.0), np.radians(0.5))
_ROUNDS: Final = 2


@compiled
def reconstruct_frames(
    frames: Array,
    kinds: Array,
    distances: Array,
    shapes: Array,
    ramachandran: Array,
    pairs: Array,
    first_angle: float,
    angle_step: float,
    cis_distance: float,
    ideal_angle: float,
    end_bonds: Array,
    result: Array,
) -> None:
    """Write N, Cα, C and O of every residue.

    Args:
        frames: (n_frames, n_beads, 3) float64 in Å; those that are not finite are left out.
        kinds: (n_beads,) index of each residue's Ramachandran map.
        distances: As in :class:`cgbench.evaluate.backmap.tables.Tables`.
        shapes: The same.
        ramachandran: The same.
        pairs: The same.
        first_angle: First Cα angle of ``pairs`` in radians.
        angle_step: Their spacing in radians.
        cis_distance: Cα nearer than this are the ends of a cis unit, Å.
        ideal_angle: N–Cα–C in radians.
        end_bonds: Lengths of N–Cα, Cα–C and C–O in Å and the angle Cα–C–O in radians, for the
            atoms at the ends of the chain.
        result: (n_frames, n_beads, 4, 3) float64 output in Å.
    """
    n_beads = frames.shape[1]
    n_units, n_rotations = n_beads - 1, pairs.shape[5]
    axes, sides, thirds = np.empty((n_units, 3)), np.empty((n_units, 3)), np.empty((n_units, 3))
    flat = np.empty((n_units, 3, 2))
    zeros = np.empty(n_units)
    cis = np.empty(n_units, dtype=np.int64)
    rotations = np.empty(n_units)
    costs = np.empty((2, n_rotations))
    choices = np.empty((n_units, n_rotations), dtype=np.int64)
    nitrogens, carbons = np.empty((n_rotations, 3)), np.empty((n_rotations, 3))
    for frame in range(len(frames)):
        beads = frames[frame]
        if not np.isfinite(beads.sum()):
            continue
        _units(beads, distances, shapes, cis_distance, axes, sides, thirds, flat, zeros, cis)
        _choose(
            beads, kinds, axes, sides, thirds, flat, zeros, cis, pairs, first_angle, angle_step,
            ideal_angle, costs, choices, nitrogens, carbons, rotations,
        )  # fmt: skip
        places = result[frame]
        for bead in range(n_beads):
            places[bead, 1] = beads[bead]
        for unit in range(n_units):
            _place(beads, unit, rotations[unit], axes, sides, thirds, flat, places)
        for size in _REFINEMENTS:
            for _ in range(_ROUNDS):
                for unit in range(n_units):
                    best = _energy(places, unit, kinds, ramachandran, ideal_angle)
                    start = rotations[unit]
                    for sign in (-1.0, 1.0):
                        _place(beads, unit, start + sign * size, axes, sides, thirds, flat, places)
                        found = _energy(places, unit, kinds, ramachandran, ideal_angle)
                        if found < best:
                            best = found
                            rotations[unit] = start + sign * size
                    _place(beads, unit, rotations[unit], axes, sides, thirds, flat, places)
        _ends(places, ideal_angle, end_bonds)


@compiled
def _units(
    beads: Array, distances: Array, shapes: Array, cis_distance: float,
    axes: Array, sides: Array, thirds: Array, flat: Array, zeros: Array, cis: Array,
) -> None:  # fmt: skip
    """Write each unit's axes, its shape, and the rotation that points to the bead after it."""
    n_units, n_bends = len(axes), distances.shape[1]
    for unit in range(n_units):
        length = 0.0
        for k in range(3):
            axes[unit, k] = beads[unit + 1, k] - beads[unit, k]
            length += axes[unit, k] ** 2
        length = np.sqrt(length)
        for k in range(3):
            axes[unit, k] /= max(length, 1e-9)
        cis[unit] = 1 if length < cis_distance else 0
        known = distances[cis[unit]]
        # The bend that fits the distance, between two of the table.
        upper = min(max(np.searchsorted(known, length), 1), n_bends - 1)
        share = (length - known[upper - 1]) / (known[upper] - known[upper - 1])
        share = min(max(share, 0.0), 1.0)
        fitted = known[upper - 1] + share * (known[upper] - known[upper - 1])
        for atom in range(3):
            for k in range(2):
                flat[unit, atom, k] = (1.0 - share) * shapes[cis[unit], upper - 1, atom, k] + (
                    share * shapes[cis[unit], upper, atom, k]
                )
            # A unit that is too short or too long for its Cα sits in their middle.
            flat[unit, atom, 0] += 0.5 * (length - fitted)
    for unit in range(n_units):
        before = _to(beads[unit], beads[unit - 1]) if unit > 0 else _to(beads[1], beads[2])
        _perpendicular(before, axes[unit], sides[unit])
        thirds[unit, 0], thirds[unit, 1], thirds[unit, 2] = _cross(axes[unit], sides[unit])
        zeros[unit] = 0.0
        if 0 < unit < n_units - 1:
            after = _to(beads[unit + 1], beads[unit + 2])
            zeros[unit] = np.arctan2(_dot(after, thirds[unit]), _dot(after, sides[unit]))


@compiled
def _choose(
    beads: Array, kinds: Array, axes: Array, sides: Array, thirds: Array, flat: Array,
    zeros: Array, cis: Array, pairs: Array, first_angle: float, angle_step: float,
    ideal_angle: float, costs: Array, choices: Array, nitrogens: Array, carbons: Array,
    rotations: Array,
) -> None:  # fmt: skip
    """Choose the rotations of least energy on a grid by dynamic programming along the chain."""
    n_units = len(axes)
    n_angles, n_fine, n_rotations = pairs.shape[3], pairs.shape[4], pairs.shape[5]
    coarse, fine = 2 * np.pi / n_rotations, 2 * np.pi / n_fine
    ideal = np.cos(ideal_angle)
    stiffness = _STIFFNESS / np.sin(ideal_angle) ** 2
    costs[:] = 0.0
    for unit in range(1, n_units):
        last, now = costs[(unit + 1) % 2], costs[unit % 2]
        # Directions from the residue between the two units to its N and to its C.
        for state in range(n_rotations):
            cosine, sine = np.cos(state * coarse), np.sin(state * coarse)
            _direction(
                flat[unit - 1, 2], axes[unit - 1], sides[unit - 1], thirds[unit - 1],
                cosine, sine, _to(beads[unit], beads[unit - 1]), nitrogens[state],
            )  # fmt: skip
            _direction(
                flat[unit, 0], axes[unit], sides[unit], thirds[unit], cosine, sine,
                (0.0, 0.0, 0.0), carbons[state],
            )  # fmt: skip
        angle = np.arccos(min(max(-_dot(axes[unit - 1], axes[unit]), -1.0), 1.0))
        row = int(np.rint((angle - first_angle) / angle_step))
        row = min(max(row, 0), n_angles - 1)
        table = pairs[kinds[unit], cis[unit - 1], cis[unit], row]
        for state in range(n_rotations):
            now[state] = np.inf
        for before in range(n_rotations):
            turned = (before * coarse - zeros[unit - 1]) / fine
            column = int(np.rint(turned)) % n_fine
            x, y, z = nitrogens[before, 0], nitrogens[before, 1], nitrogens[before, 2]
            for state in range(n_rotations):
                off = x * carbons[state, 0] + y * carbons[state, 1] + z * carbons[state, 2] - ideal
                cost = last[before] + table[column, state] + stiffness * off * off
                if cost < now[state]:
                    now[state] = cost
                    choices[unit, state] = before
    final = costs[(n_units - 1) % 2]
    state = 0
    for other in range(n_rotations):
        if final[other] < final[state]:
            state = other
    for unit in range(n_units - 1, -1, -1):
        rotations[unit] = state * coarse
        if unit > 0:
            state = choices[unit, state]


@compiled
def _place(
    beads: Array, unit: int, rotation: float, axes: Array, sides: Array, thirds: Array,
    flat: Array, places: Array,
) -> None:  # fmt: skip
    """Write C and O of the unit's first residue and N of its second."""
    cosine, sine = np.cos(rotation), np.sin(rotation)
    for k in range(3):
        across = cosine * sides[unit, k] + sine * thirds[unit, k]
        start, axis = beads[unit, k], axes[unit, k]
        places[unit, 2, k] = start + flat[unit, 0, 0] * axis + flat[unit, 0, 1] * across
        places[unit, 3, k] = start + flat[unit, 1, 0] * axis + flat[unit, 1, 1] * across
        places[unit + 1, 0, k] = start + flat[unit, 2, 0] * axis + flat[unit, 2, 1] * across


@compiled
def _energy(
    places: Array, unit: int, kinds: Array, ramachandran: Array, ideal_angle: float
) -> float:
    """Return the energy of the two residues that a unit belongs to."""
    total = 0.0
    for bead in range(max(unit, 1), min(unit + 2, len(places) - 1)):
        from_nitrogen = _to(places[bead, 0], places[bead, 1])
        to_carbon = _to(places[bead, 1], places[bead, 2])
        cosine = -_dot(from_nitrogen, to_carbon) / np.sqrt(
            _dot(from_nitrogen, from_nitrogen) * _dot(to_carbon, to_carbon)
        )
        off = np.arccos(min(max(cosine, -1.0), 1.0)) - ideal_angle
        map_energy = _between(ramachandran[kinds[bead]], _phi(places, bead), _psi(places, bead))
        total += _STIFFNESS * off * off + map_energy
    return total


@compiled
def _phi(places: Array, bead: int) -> float:
    return _dihedral(
        _to(places[bead - 1, 2], places[bead, 0]),
        _to(places[bead, 0], places[bead, 1]),
        _to(places[bead, 1], places[bead, 2]),
    )


@compiled
def _psi(places: Array, bead: int) -> float:
    return _dihedral(
        _to(places[bead, 0], places[bead, 1]),
        _to(places[bead, 1], places[bead, 2]),
        _to(places[bead, 2], places[bead + 1, 0]),
    )


@compiled
def _between(table: Array, phi: float, psi: float) -> float:
    """Return the value of a periodic table between its four nearest entries."""
    n_bins = len(table)
    x = (phi + np.pi) * n_bins / (2 * np.pi)
    y = (psi + np.pi) * n_bins / (2 * np.pi)
    row, column = int(np.floor(x)), int(np.floor(y))
    u, v = x - row, y - column
    row, column = row % n_bins, column % n_bins
    below, right = (row + 1) % n_bins, (column + 1) % n_bins
    return float(
        (1 - u) * ((1 - v) * table[row, column] + v * table[row, right])
        + u * ((1 - v) * table[below, column] + v * table[below, right])
    )


@compiled
def _ends(places: Array, ideal_angle: float, bonds: Array) -> None:
    """Write the first N, and the last C and O: the ends go on as their neighbours do."""
    last = len(places) - 1
    psi = _psi(places, 1)
    _attach(places[1, 0], places[0, 2], places[0, 1], bonds[0], ideal_angle, psi, places[0, 0])
    phi = _phi(places, last - 1)
    _attach(
        places[last - 1, 2], places[last, 0], places[last, 1], bonds[1], ideal_angle, phi,
        places[last, 2],
    )  # fmt: skip
    _attach(
        places[last, 0], places[last, 1], places[last, 2], bonds[2], bonds[3],
        _psi(places, last - 1) + np.pi, places[last, 3],
    )  # fmt: skip


@compiled
def _attach(
    first: Array, second: Array, third: Array, bond: float, angle: float, dihedral: float,
    place: Array,
) -> None:  # fmt: skip
    """Write the place of an atom by its distance, angle and dihedral to three others."""
    axis, side = np.empty(3), np.empty(3)
    along = _to(second, third)
    length = np.sqrt(_dot(along, along))
    axis[0], axis[1], axis[2] = along[0] / length, along[1] / length, along[2] / length
    _perpendicular(_to(second, first), axis, side)
    normal = _cross(axis, side)
    for k in range(3):
        across = np.cos(dihedral) * side[k] + np.sin(dihedral) * normal[k]
        place[k] = third[k] + bond * (-np.cos(angle) * axis[k] + np.sin(angle) * across)


@compiled
def _direction(
    flat: Array, axis: Array, side: Array, third: Array, cosine: float, sine: float,
    start: Vector, result: Array,
) -> None:  # fmt: skip
    """Write the unit vector to an atom of a rotated unit that begins at ``start``."""
    length = 0.0
    for k in range(3):
        across = cosine * side[k] + sine * third[k]
        result[k] = start[k] + flat[0] * axis[k] + flat[1] * across
        length += result[k] ** 2
    length = np.sqrt(length)
    for k in range(3):
        result[k] /= length


@compiled
def _perpendicular(vector: Vector, axis: Array, result: Array) -> None:
    """Write the unit vector across an axis on the side of a vector; if parallel, any."""
    along = _dot(vector, axis)
    for k in range(3):
        result[k] = vector[k] - along * axis[k]
    length = np.sqrt(_dot(result, result))
    if length < 1e-6:
        smallest = np.argmin(np.abs(axis))
        for k in range(3):
            result[k] = (1.0 if k == smallest else 0.0) - axis[smallest] * axis[k]
        length = np.sqrt(_dot(result, result))
    for k in range(3):
        result[k] /= length


@compiled
def _dihedral(first: Vector, second: Vector, third: Vector) -> float:
    """Return the dihedral angle of three bond vectors in radians, IUPAC sign."""
    near, far = _cross(first, second), _cross(second, third)
    return float(np.arctan2(np.sqrt(_dot(second, second)) * _dot(first, far), _dot(near, far)))


@compiled
def _to(start: Array, stop: Array) -> Vector:
    return stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]


@compiled
def _dot(first: Array | Vector, second: Array | Vector) -> Any:
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


@compiled
def _cross(first: Array | Vector, second: Array | Vector) -> Vector:
    return (
        first[1] * second[2] - first[2] * second[1],
        first[2] * second[0] - first[0] * second[2],
        first[0] * second[1] - first[1] * second[0],
    )
