"""Backbone atoms of proteins from their Cα.

Two neighbouring Cα hold a flat, rigid peptide unit, which can only turn about the line between
them (Purisima and Scheraga, Biopolymers 23, 1207, 1984). The rotations of all units are chosen
together, by dynamic programming along the chain: at each Cα, the unit before and the unit after
give the angle N–Cα–C, which must be near its ideal, and φ and ψ, which must be likely for the kind
of residue. That alone tells strands, helices and their handedness apart. The rotations found on a
grid are then refined in turn. Cα are never moved.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.backmap import peptide
from cgbench.evaluate.backmap.tables import ANGLE_STEP, FIRST_ANGLE, tables
from cgbench.evaluate.superposition import check_frames
from cgbench.progress import Progress, silent

Array = NDArray[Any]

#: Order of the atoms.
ATOMS: Final = ("N", "CA", "C", "O")
_FEWEST_BEADS: Final = 4
_FRAMES_PER_PIECE: Final = 64


def backbone(
    coordinates: Array, sequence: str, progress: Progress = silent, *, workers: int = 1
) -> NDArray[np.float32]:
    """Return the backbone of every residue of frames of Cα.

    Args:
        coordinates: (n_frames, n_beads, 3) in Å.
        sequence: One letter for each bead; only glycine and proline are told from the others.
        progress: Told how many frames are done.
        workers: Threads; the result does not depend on their number.

    Returns:
        (n_frames, n_beads, 4, 3) float32 in Å, the atoms in the order of ``ATOMS``; not-a-number
        for frames that are not finite.

    Raises:
        ValidationError: The shape is wrong, there are fewer than four beads, or the sequence has
            another length.
    """
    check_frames(coordinates, minimum_beads=_FEWEST_BEADS)
    n_frames, n_beads = coordinates.shape[:2]
    if len(sequence) != n_beads:
        raise ValidationError(
            "the sequence does not fit the frames", expected=f"{n_beads} letters", found=sequence
        )
    from cgbench.evaluate.backmap.kernel import reconstruct_frames

    known = tables()
    kinds = np.array([{"G": 1, "P": 2}.get(letter, 0) for letter in sequence])
    end_bonds = np.array(
        [peptide.N_CA, peptide.CA_C, peptide.C_O, np.radians(peptide.CA_C_O)], dtype=np.float64
    )
    result = np.full((n_frames, n_beads, len(ATOMS), 3), np.nan, dtype=np.float32)

    def reconstruct(start: int) -> int:
        frames = np.asarray(coordinates[start : start + _FRAMES_PER_PIECE], dtype=np.float64)
        places = np.full((*frames.shape[:2], len(ATOMS), 3), np.nan)
        reconstruct_frames(
            np.ascontiguousarray(frames), kinds, *known, np.radians(FIRST_ANGLE),
            np.radians(ANGLE_STEP), peptide.CIS_DISTANCE, np.radians(peptide.N_CA_C), end_bonds,
            places,
        )  # fmt: skip
        result[start : start + len(frames)] = places
        return len(frames)

    done = 0
    with ThreadPoolExecutor(workers) as pool:
        for finished in pool.map(reconstruct, range(0, n_frames, _FRAMES_PER_PIECE)):
            done += finished
            progress("backbone reconstruction", done, n_frames)
    return result


def beta_carbons(atoms: Array) -> NDArray[np.float32]:
    """Return where the Cβ of L-residues are, (n_frames, n_beads, 3) float32 in Å.

    It lies behind the angle N–Cα–C and to its left, seen with N on the right and C on the left of
    the viewer who looks from the hydrogen: the handedness of natural residues. Glycine, which has
    none, gets one all the same.

    Args:
        atoms: (n_frames, n_beads, 4, 3) in Å, as from :func:`backbone`.
    """
    places = np.asarray(atoms, dtype=np.float64)
    to_nitrogen = _unit(places[..., 0, :] - places[..., 1, :])
    to_carbon = _unit(places[..., 2, :] - places[..., 1, :])
    behind = -_unit(to_nitrogen + to_carbon)
    aside = _unit(np.cross(to_nitrogen, to_carbon))
    tilt = np.radians(peptide.CB_TILT)
    direction = np.cos(tilt) * behind + np.sin(tilt) * aside
    result: NDArray[np.float32] = (places[..., 1, :] + peptide.CA_CB * direction).astype(np.float32)
    return result


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        return result
