"""Geometry of bead chains: distances, angles, superposition, contacts and bad frames.

Every function takes frames of shape (n_frames, n_beads, 3) in Å, works through them in pieces
that fit into the processor's cache, and returns one row for each frame. A coordinate that is not
finite makes the results that depend on it not finite, never an exception, so that the other frames
keep theirs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.superposition import (
    check_frames,
    checked_reference,
    compilable,
    finite_structure,
    pieces,
    rmsd,
    superpose,
)

__all__ = [
    "bad_frames",
    "bond_angles",
    "bond_lengths",
    "clashes",
    "dihedrals",
    "end_to_end",
    "native_contacts",
    "pair_distances",
    "pair_indices",
    "q_native",
    "radius_of_gyration",
    "rmsd",
    "superpose",
]

Array = NDArray[Any]
Float = NDArray[np.float64]


def pair_indices(n_beads: int, minimum_separation: int = 1) -> NDArray[np.int64]:
    """Return the pairs i < j with j − i ≥ ``minimum_separation``, ordered by i and then j.

    Args:
        n_beads: Number of beads of the chain.
        minimum_separation: Least number of bonds between the two beads.

    Returns:
        (n_pairs, 2) int64.
    """
    first, second = np.triu_indices(n_beads, k=minimum_separation)
    return np.stack([first, second], axis=1).astype(np.int64)


def pair_distances(coords: Array, pairs: Array | None = None) -> NDArray[np.float32]:
    """Return the distances of bead pairs.

    Args:
        coords: (n_frames, n_beads, 3) in Å.
        pairs: (n_pairs, 2) bead indices; all pairs in the order of `pair_indices` if not given.

    Returns:
        (n_frames, n_pairs) float32 in Å.
    """
    check_frames(coords)
    chosen = pair_indices(coords.shape[1]) if pairs is None else np.asarray(pairs)
    result = np.empty((len(coords), len(chosen)), dtype=np.float32)
    for piece in pieces(len(coords), len(chosen) * 4):
        result[piece] = _distances(coords[piece], chosen, np.float32).T
    return result


def bond_lengths(coords: Array) -> NDArray[np.float32]:
    """Return the lengths of the bonds between consecutive beads, (n_frames, n_beads − 1), in Å."""
    check_frames(coords, minimum_beads=2)
    return pair_distances(coords, _bonds(coords.shape[1]))


def radius_of_gyration(coords: Array) -> Float:
    """Return the root mean square distance of the beads from their centre, (n_frames,), in Å.

    All beads weigh the same.
    """
    from cgbench.evaluate.geometry_kernels import gyration_radii

    check_frames(coords)
    result = np.empty(len(coords))
    gyration_radii(compilable(coords), result)
    return result


def end_to_end(coords: Array) -> Float:
    """Return the distance between the first and the last bead, (n_frames,), in Å."""
    check_frames(coords)
    with np.errstate(invalid="ignore", over="ignore"):
        between = coords[:, -1].astype(np.float64) - coords[:, 0]
        result: Float = np.sqrt(_dot(between, between))
        return result


def bond_angles(coords: Array) -> Float:
    """Return the angles at beads 1 to n_beads − 2, (n_frames, n_beads − 2), in radians.

    The two-argument arctangent keeps its accuracy near 0 and π, where the arccosine loses half of
    its digits.
    """
    check_frames(coords, minimum_beads=3)
    result = np.empty((len(coords), coords.shape[1] - 2))
    for piece in pieces(len(coords), coords.shape[1] * 24):
        with np.errstate(invalid="ignore", over="ignore"):
            bonds = _bond_vectors(coords[piece])
            back, ahead = -bonds[:, :-1], bonds[:, 1:]
            sine = np.linalg.norm(np.cross(back, ahead), axis=-1)
            result[piece] = np.arctan2(sine, _dot(back, ahead))
    return result


def dihedrals(coords: Array) -> Float:
    """Return the dihedral angles of four consecutive beads in radians, in (−π, π].

    The sign follows the IUPAC rule: positive when, seen along the middle bond, the far bond is
    turned clockwise from the near one; 0 is cis. Where three of the four beads lie on one line the
    angle has no meaning and 0 is returned. Formula: Blondel and Karplus, J. Comput. Chem. 17,
    1132, 1996, equation 2 in its two-argument form.

    Returns:
        (n_frames, n_beads − 3) float64.
    """
    check_frames(coords, minimum_beads=4)
    result = np.empty((len(coords), coords.shape[1] - 3))
    for piece in pieces(len(coords), coords.shape[1] * 24):
        with np.errstate(invalid="ignore", over="ignore"):
            bonds = _bond_vectors(coords[piece])
            normals = np.cross(bonds[:, :-1], bonds[:, 1:])
            near, far, middle = normals[:, :-1], normals[:, 1:], bonds[:, 1:-1]
            sine = np.linalg.norm(middle, axis=-1) * _dot(bonds[:, :-2], far)
            result[piece] = np.arctan2(sine, _dot(near, far))
    return result


def native_contacts(native: Array) -> tuple[NDArray[np.int64], Float]:
    """Return the pairs of beads in contact in the native structure and their distances.

    Args:
        native: (n_beads, 3) in Å.

    Returns:
        Pairs (n_contacts, 2) and native distances (n_contacts,) in Å.

    Raises:
        ValidationError: The structure is not finite or has no contact.
    """
    target = finite_structure(native)
    constants = registry.constants()
    pairs = pair_indices(len(target), constants.contact_separation)
    distances = np.linalg.norm(target[pairs[:, 1]] - target[pairs[:, 0]], axis=-1)
    close = distances < constants.contact_cutoff
    if not close.any():
        raise ValidationError(
            "the native structure has no contact, so a fraction of native contacts has no meaning",
            expected=f"beads {constants.contact_separation} or more bonds apart within "
            f"{constants.contact_cutoff} Å",
            found=f"{len(target)} beads without such a pair",
        )
    return pairs[close], distances[close]


def q_native(coords: Array, native: Array) -> Float:
    """Return the fraction of native contacts, a smooth count over the pairs in native contact.

    Q = ⟨1 / (1 + exp(β(r − λ r₀)))⟩ (Best, Hummer and Eaton, PNAS 110, 17874, 2013, equation 1),
    with the constants of the registry. The native structure itself scores just below one.

    Args:
        coords: (n_frames, n_beads, 3) in Å.
        native: (n_beads, 3) in Å.

    Returns:
        (n_frames,) float64 between 0 and 1; not-a-number for frames that are not finite.

    Raises:
        ValidationError: The shapes disagree, or the native structure has no contact.
    """
    from cgbench.evaluate.geometry_kernels import contact_fractions

    target = checked_reference(coords, native)
    pairs, native_distances = native_contacts(target)
    constants = registry.constants()
    limits = constants.contact_lambda * native_distances
    first, second = np.ascontiguousarray(pairs.T)
    result = np.empty(len(coords))
    contact_fractions(compilable(coords), first, second, limits, constants.contact_beta, result)
    return result


def bad_frames(coords: Array) -> NDArray[np.bool_]:
    """Mark frames that no intact chain can have: not finite, or a bond outside its limits.

    Args:
        coords: (n_frames, n_beads, 3) in Å.

    Returns:
        (n_frames,) bool.
    """
    constants = registry.constants()
    bonds = bond_lengths(coords)
    # Not-a-number compares as false, so such a bond counts as outside.
    within = (bonds >= constants.bond_minimum) & (bonds <= constants.bond_maximum)
    result: NDArray[np.bool_] = ~np.all(within, axis=1)
    return result


def clashes(coords: Array) -> NDArray[np.int64]:
    """Count the pairs of beads, three or more bonds apart, that are closer than beads can be.

    Args:
        coords: (n_frames, n_beads, 3) in Å.

    Returns:
        (n_frames,) int64; frames that are not finite count 0 for the distances that are unknown.
    """
    check_frames(coords)
    constants = registry.constants()
    pairs = pair_indices(coords.shape[1], constants.clash_separation)
    result = np.empty(len(coords), dtype=np.int64)
    for piece in pieces(len(coords), len(pairs) * 4):
        close = _distances(coords[piece], pairs, np.float32) < constants.clash_distance
        result[piece] = close.sum(axis=0)
    return result


def _bonds(n_beads: int) -> NDArray[np.int64]:
    first = np.arange(n_beads - 1, dtype=np.int64)
    return np.stack([first, first + 1], axis=1)


def _dot(first: Float, second: Float) -> Float:
    result: Float = np.einsum("...x,...x->...", first, second)
    return result


def _bond_vectors(coords: Array) -> Float:
    bonds = np.diff(coords.astype(np.float64), axis=1)
    # An arctangent of infinities would be an ordinary angle.
    bonds[~np.isfinite(bonds)] = np.nan
    return bonds


def _distances(coords: Array, pairs: NDArray[np.int64], dtype: type[np.floating[Any]]) -> Array:
    # Pair-major, so that taking a bead is one copy and the arithmetic runs along frames.
    axes = np.ascontiguousarray(coords.transpose(2, 1, 0), dtype=dtype)
    first, second = pairs[:, 0], pairs[:, 1]
    with np.errstate(invalid="ignore", over="ignore"):
        squares = _squared_difference(axes[0], first, second)
        for axis in axes[1:]:
            squares += _squared_difference(axis, first, second)
        return np.sqrt(squares, out=squares)


def _squared_difference(axis: Array, first: Array, second: Array) -> Array:
    difference = axis[second]
    difference -= axis[first]
    difference *= difference
    return difference
