"""Compiled loops over frames for the geometry of chains. Imported inside functions.

Each kernel is one pass over the coordinates: what numpy would write to memory between two steps
stays in the processor. Sums are double precision whatever the coordinates are.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.compiled import compiled

Array = NDArray[Any]

#: Frames whose eigenvalues are found side by side in vector instructions.
_BLOCK: Final = 64
#: Steps of Newton's method. The few frames that need more are solved another way.
_NEWTON_STEPS: Final = 8
#: Convergence is quadratic, so that the error after a last step of this size is negligible.
_NEWTON_TOLERANCE: Final = 1e-9
#: Below this slope of the scaled characteristic polynomial its largest root is nearly double, and
#: the root is only as good as the square root of the rounding error.
_SMALLEST_SLOPE: Final = 1e-2
#: From this argument down, 1 + eˣ is 1 to the last digit of a double.
_SMALLEST_ARGUMENT: Final = -37.0
#: Here the exponential's exponent bits are those of infinity.
_LARGEST_ARGUMENT: Final = 709.79


@compiled
def rmsd_frames(
    frames: Array, target: Array, target_square: float, result: Array, doubtful: Array
) -> None:
    """Write the RMSD of frames to a centred target, and which of them need another method.

    The formula is that of :func:`cgbench.evaluate.superposition.rmsd`. The target's centre is the
    origin, so that frames need not be centred for the covariance.

    Args:
        frames: (n_frames, n_beads, 3) in Å.
        target: (3, n_beads) float64 in Å, centred.
        target_square: Sum of the squares of the target.
        result: (n_frames,) float64 output in Å.
        doubtful: (n_frames,) bool output: frames that are not finite, or whose largest eigenvalue
            is nearly double.
    """
    n_frames, n_beads = frames.shape[0], frames.shape[1]
    matrices = np.zeros((9, _BLOCK))
    squares = np.empty(_BLOCK)
    roots = np.empty(_BLOCK)
    certain = np.empty(_BLOCK, dtype=np.bool_)
    px, py, pz = np.empty(n_beads), np.empty(n_beads), np.empty(n_beads)
    first, second, third = target[0], target[1], target[2]
    for start in range(0, n_frames, _BLOCK):
        size = min(_BLOCK, n_frames - start)
        for k in range(size):
            a = b = c = d = e = f = g = h = i = 0.0
            sx = sy = sz = square = 0.0
            frame = frames[start + k]
            for bead in range(n_beads):
                px[bead] = frame[bead, 0]
                py[bead] = frame[bead, 1]
                pz[bead] = frame[bead, 2]
            for bead in range(n_beads):
                x, y, z = px[bead], py[bead], pz[bead]
                u, v, w = first[bead], second[bead], third[bead]
                sx += x
                sy += y
                sz += z
                square += x * x + y * y + z * z
                a += x * u
                b += x * v
                c += x * w
                d += y * u
                e += y * v
                f += y * w
                g += z * u
                h += z * v
                i += z * w
            squares[k] = square - (sx * sx + sy * sy + sz * sz) / n_beads
            matrices[0, k], matrices[1, k], matrices[2, k] = a, b, c
            matrices[3, k], matrices[4, k], matrices[5, k] = d, e, f
            matrices[6, k], matrices[7, k], matrices[8, k] = g, h, i
        _eigenvalues(matrices, roots, certain)
        for k in range(size):
            mean = (squares[k] + target_square - 2.0 * roots[k]) / n_beads
            result[start + k] = np.sqrt(max(mean, 0.0))
            doubtful[start + k] = not certain[k]


@compiled
def _eigenvalues(matrices: Array, roots: Array, certain: Array) -> None:
    """Write the largest eigenvalue for each covariance, and whether it is certain.

    The block is always worked through whole, so that every frame takes the same instructions,
    whatever its place and however many frames there are.
    """
    for k in range(_BLOCK):
        a, b, c = matrices[0, k], matrices[1, k], matrices[2, k]
        d, e, f = matrices[3, k], matrices[4, k], matrices[5, k]
        g, h, i = matrices[6, k], matrices[7, k], matrices[8, k]
        ca, cb, cc = e * i - f * h, f * g - d * i, d * h - e * g
        cd, ce, cf = c * h - b * i, a * i - c * g, b * g - a * h
        cg, ch, ci = b * f - c * e, c * d - a * f, a * e - b * d
        norm = a * a + b * b + c * c + d * d + e * e + f * f + g * g + h * h + i * i
        cofactors = (
            ca * ca + cb * cb + cc * cc + cd * cd + ce * ce + cf * cf + cg * cg + ch * ch + ci * ci
        )
        determinant = a * ca + b * cb + c * cc
        bound = np.sqrt(norm + 2.0 * np.sqrt(3.0 * cofactors))
        # In units of the bound the root lies in (0, 1] and every coefficient is of order one.
        scale = bound if bound > 0.0 else 1.0
        inverse = 1.0 / scale
        square = inverse * inverse
        quadratic = -2.0 * norm * square
        linear = -8.0 * determinant * square * inverse
        constant = (norm * norm - 4.0 * cofactors) * square * square
        root = 1.0
        step = slope = 0.0
        for _ in range(_NEWTON_STEPS):
            square = root * root
            value = square + quadratic
            slope = 2.0 * (value + square) * root + linear
            value = (value * root + linear) * root + constant
            step = value / slope
            root -= step
        roots[k] = root * bound
        certain[k] = abs(step) < _NEWTON_TOLERANCE and slope > _SMALLEST_SLOPE


@compiled
def gyration_radii(frames: Array, result: Array) -> None:
    """Write the root mean square distance of the beads from their centre, in Å.

    In double precision the squares lose less by not centring the frame first than the coordinates
    themselves were rounded by.
    """
    n_beads = frames.shape[1]
    for k in range(len(frames)):
        frame = frames[k]
        x = y = z = square = 0.0
        for bead in range(n_beads):
            u, v, w = (
                np.float64(frame[bead, 0]),
                np.float64(frame[bead, 1]),
                np.float64(frame[bead, 2]),
            )
            x += u
            y += v
            z += w
            square += u * u + v * v + w * w
        mean = (square - (x * x + y * y + z * z) / n_beads) / n_beads
        # Not-a-number is not below zero and stays what it is.
        result[k] = 0.0 if mean < 0.0 else np.sqrt(mean)


@compiled
def _exponential(argument: Any) -> Any:
    """Return eˣ in vector instructions: e⁻³⁷ for smaller x, infinity where it overflows.

    x = k ln 2 + r with |r| ≤ ½ ln 2; eʳ by its series, right to the last digit but one, and 2ᵏ by
    the exponent bits of a double.
    """
    x = min(max(argument, _SMALLEST_ARGUMENT), _LARGEST_ARGUMENT)
    k = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    series = 1.0 / 479001600.0
    series = series * r + 1.0 / 39916800.0
    series = series * r + 1.0 / 3628800.0
    series = series * r + 1.0 / 362880.0
    series = series * r + 1.0 / 40320.0
    series = series * r + 1.0 / 5040.0
    series = series * r + 1.0 / 720.0
    series = series * r + 1.0 / 120.0
    series = series * r + 1.0 / 24.0
    series = series * r + 1.0 / 6.0
    series = series * r + 0.5
    series = (series * r + 1.0) * r + 1.0
    bits = (np.int64(k) + 1023) << 52
    return series * np.int64(bits).view(np.float64)


@compiled
def contact_fractions(
    frames: Array, first: Array, second: Array, limits: Array, beta: float, result: Array
) -> None:
    """Write the mean of 1 / (1 + exp(β(r − limit))) over pairs of beads.

    Args:
        frames: (n_frames, n_beads, 3) in Å.
        first: (n_pairs,) bead of each pair.
        second: (n_pairs,) the other bead.
        limits: (n_pairs,) float64 distance in Å at which a pair counts one half.
        beta: Steepness in 1/Å.
        result: (n_frames,) float64 output; not-a-number for frames that are not finite.
    """
    n_frames, n_beads = frames.shape[0], frames.shape[1]
    n_pairs = len(first)
    px, py, pz = np.empty(n_beads), np.empty(n_beads), np.empty(n_beads)
    excess = np.empty(n_pairs)
    for k in range(n_frames):
        frame = frames[k]
        everything = 0.0
        for bead in range(n_beads):
            px[bead] = frame[bead, 0]
            py[bead] = frame[bead, 1]
            pz[bead] = frame[bead, 2]
            everything += px[bead] + py[bead] + pz[bead]
        if not np.isfinite(everything):
            result[k] = np.nan
            continue
        for pair in range(n_pairs):
            i, j = first[pair], second[pair]
            x, y, z = px[i] - px[j], py[i] - py[j], pz[i] - pz[j]
            excess[pair] = beta * (np.sqrt(x * x + y * y + z * z) - limits[pair])
        total = 0.0
        for pair in range(n_pairs):
            total += 1.0 / (1.0 + _exponential(excess[pair]))
        result[k] = total / n_pairs
