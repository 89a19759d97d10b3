"""Hypothesis strategies for chains of beads, rotations and broken frames."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cgbench.registry import bead_vocabulary

Float = NDArray[np.float64]

#: Mean and standard deviation of Cα–Cα distances across a trans peptide bond, Å.
BOND_LENGTH = 3.83
BOND_SPREAD = 0.06

_SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


def chain_from_internal(bonds: Float, angles: Float, dihedrals: Float) -> Float:
    """Build frames from internal coordinates, bead after bead.

    Args:
        bonds: (n_frames, n_beads − 1) bond lengths in Å.
        angles: (n_frames, n_beads − 2) bond angles in radians.
        dihedrals: (n_frames, n_beads − 3) dihedral angles in radians, IUPAC sign.

    Returns:
        (n_frames, n_beads, 3) in Å; the first three beads lie in the xy plane.
    """
    n_frames, n_bonds = bonds.shape
    coords = np.zeros((n_frames, n_bonds + 1, 3))
    coords[:, 1, 0] = bonds[:, 0]
    if n_bonds > 1:
        coords[:, 2, 0] = bonds[:, 0] - bonds[:, 1] * np.cos(angles[:, 0])
        coords[:, 2, 1] = bonds[:, 1] * np.sin(angles[:, 0])
    for bead in range(3, n_bonds + 1):
        ahead = coords[:, bead - 1] - coords[:, bead - 2]
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        normal = np.cross(coords[:, bead - 2] - coords[:, bead - 3], ahead)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        inward = np.cross(normal, ahead)
        angle, dihedral = angles[:, bead - 2, None], dihedrals[:, bead - 3, None]
        coords[:, bead] = coords[:, bead - 1] + bonds[:, bead - 1, None] * (
            -np.cos(angle) * ahead
            + np.sin(angle) * (np.cos(dihedral) * inward + np.sin(dihedral) * normal)
        )
    return coords


def random_chains(n_frames: int, n_beads: int, seed: int) -> Float:
    """Return random chains with the bonds and angles of proteins, (n_frames, n_beads, 3) in Å."""
    generator = np.random.default_rng(seed)
    return chain_from_internal(
        generator.normal(BOND_LENGTH, BOND_SPREAD, (n_frames, n_beads - 1)),
        np.radians(generator.uniform(80.0, 150.0, (n_frames, max(0, n_beads - 2)))),
        generator.uniform(-np.pi, np.pi, (n_frames, max(0, n_beads - 3))),
    )


def rotation_from_quaternion(quaternion: Float) -> Float:
    """Return the rotation matrix of a quaternion (w, x, y, z) of any length but zero."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def chains(
    draw: st.DrawFn,
    *,
    min_beads: int = 4,
    max_beads: int = 20,
    min_frames: int = 1,
    max_frames: int = 4,
    dtype: type[np.floating[Any]] = np.float32,
) -> NDArray[Any]:
    """Draw frames of one random chain, (n_frames, n_beads, 3) in Å."""
    n_beads = draw(st.integers(min_beads, max_beads))
    n_frames = draw(st.integers(min_frames, max_frames))
    return random_chains(n_frames, n_beads, draw(_SEEDS)).astype(dtype)


@st.composite
def rotations(draw: st.DrawFn) -> Float:
    """Draw a proper rotation matrix (3, 3), uniformly over all orientations."""
    return rotation_from_quaternion(np.random.default_rng(draw(_SEEDS)).normal(size=4))


@st.composite
def translations(draw: st.DrawFn, largest: float = 100.0) -> Float:
    """Draw a displacement (3,) in Å."""
    component = st.floats(-largest, largest, allow_nan=False)
    return np.array([draw(component) for _ in range(3)])


def sequences(min_beads: int = 4, max_beads: int = 20) -> st.SearchStrategy[str]:
    """Draw a sequence of one-letter codes that the bead vocabulary knows."""
    letters = "".join(sorted(bead_vocabulary().letters))
    return st.text(letters, min_size=min_beads, max_size=max_beads)


def broken_values() -> st.SearchStrategy[float]:
    """Draw a coordinate that no frame can have."""
    return st.sampled_from([np.nan, np.inf, -np.inf])
