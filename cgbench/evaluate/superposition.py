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

#: Steps of Newton's method. The few frames that need more are solved another way.
_NEWTON_STEPS: Final = 8
#: Convergence is quadratic, so that the error after a last step of this size is negligible.
_NEWTON_TOLERANCE: Final = 1e-9
#: Below this slope of the scaled characteristic polynomial its largest root is nearly double, and
#: the root is only as good as the square root of the rounding error.
_SMALLEST_SLOPE: Final = 1e-2


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
    target = checked_reference(coords, reference)
    n_beads = len(target)
    centred_target = target - target.mean(axis=0)
    target_square = float(np.sum(centred_target**2))
    result = np.empty(len(coords))
    for piece in pieces(len(coords), n_beads * 12):
        covariance, squares = moments(coords[piece], centred_target)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            gain = _largest_eigenvalue(covariance)
            mean_square = (squares + target_square - 2.0 * gain) / n_beads
            result[piece] = np.sqrt(np.maximum(mean_square, 0.0))
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


def moments(coords: Array, weights: Float) -> tuple[Float, Float]:
    """Return Σ_b x_b ⊗ w_b and Σ_b |x_b − x̄|² of each frame in one matrix product.

    Centring every frame first would take longer than the product. It is not needed for the sums
    over ``weights`` that add up to zero, and in float64 the squares lose less by it than the
    rounding of the coordinates themselves.

    Args:
        coords: (n_frames, n_beads, 3).
        weights: (n_beads, k), each column adding up to zero.

    Returns:
        (3·k, n_frames) with the components of x innermost, and (n_frames,).
    """
    n_beads = coords.shape[1]
    columns = np.column_stack([np.full(n_beads, 1.0 / n_beads), weights])
    spread = np.kron(columns, np.eye(3))
    with np.errstate(invalid="ignore", over="ignore"):
        flat = coords.reshape(len(coords), -1).astype(np.float64)
        sums = np.ascontiguousarray((flat @ spread).T)
        centres, products = sums[:3], sums[3:]
        squares = np.einsum("nk,nk->n", flat, flat)
        squares -= n_beads * np.einsum("xn,xn->n", centres, centres)
        return products, np.maximum(squares, 0.0)


def _largest_eigenvalue(covariance: Float) -> Float:
    """Return the sum of the signed singular values of 3×3 matrices given as (9, n_frames)."""
    a, b, c, d, e, f, g, h, i = covariance
    cofactors = (
        e * i - f * h, f * g - d * i, d * h - e * g,
        c * h - b * i, a * i - c * g, b * g - a * h,
        b * f - c * e, c * d - a * f, a * e - b * d,
    )  # fmt: skip
    norm = np.einsum("kn,kn->n", covariance, covariance)
    cofactor_norm = sum(cofactor * cofactor for cofactor in cofactors)
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]

    bound = np.sqrt(norm + 2.0 * np.sqrt(3.0 * cofactor_norm))
    scale = np.where(bound > 0.0, bound, 1.0)
    # In units of the bound the root lies in (0, 1] and every coefficient is of order one.
    quadratic = -2.0 * norm / scale**2
    linear = -8.0 * determinant / scale**3
    constant = (norm**2 - 4.0 * cofactor_norm) / scale**4
    root = np.ones_like(scale)
    for _ in range(_NEWTON_STEPS):
        square = root * root
        value = square + quadratic
        slope = value + square
        value *= root
        value += linear
        value *= root
        value += constant
        slope += slope
        slope *= root
        slope += linear
        step = value / slope
        root -= step
    result: Float = root * bound
    certain = (np.abs(step) < _NEWTON_TOLERANCE) & (slope > _SMALLEST_SLOPE)
    doubtful = ~certain & np.isfinite(bound)
    if doubtful.any():
        values = np.linalg.svd(covariance[:, doubtful].T.reshape(-1, 3, 3), compute_uv=False)
        signs = np.sign(determinant[doubtful])
        result[doubtful] = values[:, 0] + values[:, 1] + signs * values[:, 2]
    return result
