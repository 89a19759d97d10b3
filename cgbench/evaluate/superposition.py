"""Optimal superposition of frames on a reference, and the sums over beads that it needs."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

Array = NDArray[Any]
Float = NDArray[np.float64]

#: Bytes of the largest temporary array of a piece: about the second-level cache of one core.
_PIECE_BYTES: Final = 1024 * 1024


def rmsd(coords: Array, reference: Array) -> Float:
    """Return the root mean square deviation after the best superposition, without reflections.

    The largest eigenvalue of the quaternion matrix gives it without the rotation (Theobald, Acta
    Cryst. A61, 478, 2005). Its characteristic polynomial λ⁴ − 2‖M‖²λ² − 8 det(M) λ + ‖M‖⁴ −
    4‖cof M‖², with M the 3×3 covariance of frame and reference, is solved by Newton's method from
    the bound λ² ≤ ‖M‖² + 2√3‖cof M‖, which holds because λ is the sum of the signed singular
    values of M. Where that converges slowly, because the root is nearly double (beads on a line,
    or about as close to the mirror image), the singular values themselves are used.

    Args:
        coords: (n_frames, n_beads, 3) in Å.
        reference: (n_beads, 3) in Å.

    Returns:
        (n_frames,) float64 in Å; not-a-number for frames that are not finite.

    Raises:
        ValidationError: The shapes disagree or the reference is not finite.
    """
    from cgbench.evaluate.geometry_kernels import rmsd_frames

    target = checked_reference(coords, reference)
    target = np.ascontiguousarray((target - target.mean(axis=0)).T)
    target_square = float(np.sum(target**2))
    frames = compilable(coords)
    result = np.empty(len(frames))
    doubtful = np.empty(len(frames), dtype=np.bool_)
    rmsd_frames(frames, target, target_square, result, doubtful)
    again = np.flatnonzero(doubtful)
    for piece in pieces(len(again), target.size * 8):
        chosen = again[piece]
        result[chosen] = _rmsd_by_singular_values(frames[chosen], target, target_square)
    return result


def superpose(coords: Array, reference: Array) -> Float:
    """Move each frame onto the reference by the best rotation and translation, no reflections.

    The rotation comes from the singular value decomposition of the covariance matrix (Kabsch,
    Acta Cryst. A34, 827, 1978).

    Args:
        coords: (n_frames, n_beads, 3) in Å.
        reference: (n_beads, 3) in Å.

    Returns:
        (n_frames, n_beads, 3) float64 in Å; not-a-number for frames that are not finite.

    Raises:
        ValidationError: The shapes disagree or the reference is not finite.
    """
    target = checked_reference(coords, reference)
    centre = target.mean(axis=0)
    result = np.full(coords.shape, np.nan)
    for piece in pieces(len(coords), len(target) * 24):
        frames = coords[piece].astype(np.float64)
        finite = np.isfinite(frames).all(axis=(1, 2))
        frames = frames[finite]
        frames -= frames.mean(axis=1, keepdims=True)
        left, _, right = np.linalg.svd(frames.transpose(0, 2, 1) @ (target - centre))
        # Turning the direction that matters least makes a reflection a rotation.
        left[:, :, 2] *= (np.linalg.det(left) * np.linalg.det(right))[:, None]
        result[piece][finite] = frames @ (left @ right) + centre
    return result


def check_frames(coords: Array, minimum_beads: int = 1) -> None:
    """Check the shape of frames.

    Raises:
        ValidationError: It is not (n_frames, n_beads, 3) or there are too few beads.
    """
    if coords.ndim != 3 or coords.shape[2] != 3 or coords.shape[1] < minimum_beads:
        raise ValidationError(
            "coordinates have the wrong shape",
            expected=f"(n_frames, n_beads, 3) with at least {minimum_beads} beads",
            found=coords.shape,
        )


def finite_structure(structure: Array) -> Float:
    """Return one structure (n_beads, 3) as float64.

    Raises:
        ValidationError: It has another shape or is not finite.
    """
    result = np.asarray(structure, dtype=np.float64)
    if result.ndim != 2 or result.shape[1] != 3 or not np.isfinite(result).all():
        raise ValidationError(
            "the reference structure is not usable",
            expected="(n_beads, 3) finite coordinates in Å",
            found=f"shape {result.shape}, {int((~np.isfinite(result)).sum())} values not finite",
        )
    return result


def checked_reference(coords: Array, reference: Array) -> Float:
    """Return the reference of some frames as float64.

    Raises:
        ValidationError: The shapes disagree or the reference is not finite.
    """
    check_frames(coords)
    target = finite_structure(reference)
    if len(target) != coords.shape[1]:
        raise ValidationError(
            "frames and reference structure have different numbers of beads",
            expected=f"{len(target)} beads, as in the reference",
            found=f"{coords.shape[1]} beads",
        )
    return target


def pieces(n_frames: int, bytes_per_frame: int) -> Iterator[slice]:
    """Yield ranges of frames that fit into the cache, given the bytes of one frame."""
    length = max(1, _PIECE_BYTES // max(1, bytes_per_frame))
    for start in range(0, n_frames, length):
        yield slice(start, min(start + length, n_frames))


def compilable(coords: Array) -> Array:
    """Return frames as compiled loops take them: contiguous, of single or double precision."""
    dtype = np.float64 if coords.dtype == np.float64 else np.float32
    return np.ascontiguousarray(coords, dtype=dtype)


def _rmsd_by_singular_values(coords: Array, target: Float, target_square: float) -> Float:
    """Return the RMSD of frames to a centred target (3, n_beads), which may be degenerate."""
    result = np.full(len(coords), np.nan)
    finite = np.isfinite(coords).all(axis=(1, 2))
    with np.errstate(invalid="ignore", over="ignore"):
        frames = coords[finite].astype(np.float64)
        frames -= frames.mean(axis=1, keepdims=True)
        covariance = target @ frames
        values = np.linalg.svd(covariance, compute_uv=False)
        gain = values[:, 0] + values[:, 1] + np.sign(np.linalg.det(covariance)) * values[:, 2]
        squares = np.einsum("nbx,nbx->n", frames, frames)
        mean_square = (squares + target_square - 2.0 * gain) / target.shape[1]
        result[finite] = np.sqrt(np.maximum(mean_square, 0.0))
    return result
