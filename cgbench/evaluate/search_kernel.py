"""The compiled loop of the superposition search. Imported inside functions: imports the compiler.

Coordinates are single precision and centred on the frame, so that the compiler turns the loops
over beads into vector instructions and little is lost; rotations are double precision.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.rotation import best_rotation
from cgbench.kernels.compiled import compiled

Array = NDArray[Any]

#: Sets that a frame remembers, a power of two. Those beyond are superposed again, never lost.
_MEMORY: Final = 4096
#: Superpositions that follow one another from one start, as in the TM-score program.
_ITERATIONS: Final = 20
#: Weighted superpositions that end a search for the TM-score, and the gain that ends them.
_POLISHING_STEPS: Final = 20
_SMALLEST_GAIN: Final = 1e-6


@compiled
def search_frames(
    frames: Array,
    native: Array,
    seeds: Array,
    squared_cutoffs: Array,
    keys: Array,
    inverse_squared_scale: float,
    counts: Array,
    scores: Array,
) -> None:
    """Search each frame for the superpositions with most beads near the native structure.

    Args:
        frames: (n_frames, n_beads, 3) in Å; those that are not finite are left out.
        native: (3, n_beads) float32 in Å, centred.
        seeds: (n_seeds, n_beads) float32 sets of beads to begin with, as weights 0 and 1.
        squared_cutoffs: (n_cutoffs,) float32 Å².
        keys: (n_beads,) uint64 random numbers; the sum of a set's keys stands for the set.
        inverse_squared_scale: 1/d₀² of the TM-score in 1/Å²; 0 where it is not wanted.
        counts: (n_frames, n_cutoffs) int64 output: largest number of beads within each cutoff.
        scores: (n_frames,) float64 output: the sum of the TM-score over beads.
    """
    n_beads, n_cutoffs = native.shape[1], len(squared_cutoffs)
    moved = np.empty((3, n_beads), dtype=np.float32)
    squares = np.empty(n_beads, dtype=np.float32)
    start = np.empty(n_beads, dtype=np.float32)
    best = np.empty(n_beads, dtype=np.float32)
    weights = np.empty(n_beads, dtype=np.float32)
    memory = np.empty(_MEMORY, dtype=np.uint64)
    inverse: Any = np.float32(inverse_squared_scale)
    for frame in range(len(frames)):
        if not _centre(frames[frame], moved):
            continue
        memory[:] = 0
        scores[frame] = -1.0
        for seed in range(len(seeds)):
            _superpose(moved, native, seeds[seed], start)
            _evaluate(start, squared_cutoffs, inverse, counts[frame], scores, frame, best)
            for cutoff in range(n_cutoffs):
                squares[:] = start
                for _ in range(_ITERATIONS):
                    size, identity = _choose(squares, squared_cutoffs[cutoff], keys, weights)
                    # The search of another cutoff may go on from the same set in another way.
                    if size < 3 or _known(memory, identity ^ np.uint64(cutoff + 1)):
                        break
                    _superpose(moved, native, weights, squares)
                    _evaluate(squares, squared_cutoffs, inverse, counts[frame], scores, frame, best)
        if inverse_squared_scale > 0.0:
            _polish(moved, native, inverse, scores, frame, best, weights)


@compiled
def _centre(frame: Array, moved: Array) -> bool:
    """Copy a frame, bead along the last axis and centred; return whether it is finite."""
    n_beads = len(frame)
    for axis in range(3):
        centre = 0.0
        for bead in range(n_beads):
            centre += frame[bead, axis]
        centre /= n_beads
        if not np.isfinite(centre):
            return False
        for bead in range(n_beads):
            moved[axis, bead] = frame[bead, axis] - centre
    return True


@compiled
def _superpose(moved: Array, native: Array, weights: Array, squares: Array) -> None:
    """Superpose by the weighted beads; write the squared distance of every bead in Å²."""
    n_beads = native.shape[1]
    x, y, z = moved[0], moved[1], moved[2]
    u, v, w = native[0], native[1], native[2]
    total = sx = sy = sz = su = sv = sw = np.float32(0.0)
    xu = xv = xw = yu = yv = yw = zu = zv = zw = np.float32(0.0)
    for bead in range(n_beads):
        weight = weights[bead]
        wx, wy, wz = weight * x[bead], weight * y[bead], weight * z[bead]
        total += weight
        sx += wx
        sy += wy
        sz += wz
        su += weight * u[bead]
        sv += weight * v[bead]
        sw += weight * w[bead]
        xu += wx * u[bead]
        xv += wx * v[bead]
        xw += wx * w[bead]
        yu += wy * u[bead]
        yv += wy * v[bead]
        yw += wy * w[bead]
        zu += wz * u[bead]
        zv += wz * v[bead]
        zw += wz * w[bead]
    cx, cy, cz = float(sx) / total, float(sy) / total, float(sz) / total
    cu, cv, cw = float(su) / total, float(sv) / total, float(sw) / total
    a, b, c, d, e, f, g, h, i = best_rotation(
        (
            xu - cx * su, xv - cx * sv, xw - cx * sw,
            yu - cy * su, yv - cy * sv, yw - cy * sw,
            zu - cz * su, zv - cz * sv, zw - cz * sw,
        )
    )  # fmt: skip
    p = np.float32(cu - a * cx - b * cy - c * cz)
    q = np.float32(cv - d * cx - e * cy - f * cz)
    r = np.float32(cw - g * cx - h * cy - i * cz)
    a1, b1, c1 = np.float32(a), np.float32(b), np.float32(c)
    d1, e1, f1 = np.float32(d), np.float32(e), np.float32(f)
    g1, h1, i1 = np.float32(g), np.float32(h), np.float32(i)
    for bead in range(n_beads):
        first = a1 * x[bead] + b1 * y[bead] + c1 * z[bead] + p - u[bead]
        second = d1 * x[bead] + e1 * y[bead] + f1 * z[bead] + q - v[bead]
        third = g1 * x[bead] + h1 * y[bead] + i1 * z[bead] + r - w[bead]
        squares[bead] = first * first + second * second + third * third


@compiled
def _evaluate(
    squares: Array,
    squared_cutoffs: Array,
    inverse: float,
    counts: Array,
    scores: Array,
    frame: int,
    best: Array,
) -> None:
    """Keep the largest counts and the largest score, and what the latter belongs to."""
    for cutoff in range(len(squared_cutoffs)):
        limit = squared_cutoffs[cutoff]
        within = np.int32(0)
        for bead in range(len(squares)):
            within += np.int32(squares[bead] <= limit)
        counts[cutoff] = max(counts[cutoff], within)
    if inverse > 0.0:
        score = _tm_sum(squares, inverse)
        if score > scores[frame]:
            scores[frame] = score
            best[:] = squares


@compiled
def _tm_sum(squares: Array, inverse: float) -> float:
    one, score = np.float32(1.0), np.float32(0.0)
    for bead in range(len(squares)):
        score += one / (one + squares[bead] * inverse)
    return float(score)


@compiled
def _choose(squares: Array, limit: float, keys: Array, weights: Array) -> tuple[Any, Any]:
    """Choose the beads within a distance; return how many, and a number that stands for them."""
    size = np.int32(0)
    identity = np.uint64(0)
    for bead in range(len(squares)):
        within = squares[bead] <= limit
        size += np.int32(within)
        weights[bead] = np.float32(1.0) if within else np.float32(0.0)
        identity += keys[bead] if within else np.uint64(0)
    return size, identity


@compiled
def _known(memory: Array, identity: Any) -> bool:
    """Return whether a set was met before, and remember it; a full neighbourhood forgets it."""
    slot = identity & np.uint64(_MEMORY - 1)
    for _ in range(16):
        if memory[slot] == identity:
            return True
        if memory[slot] == 0:
            memory[slot] = identity
            return False
        slot = (slot + np.uint64(1)) & np.uint64(_MEMORY - 1)
    return False


@compiled
def _polish(
    moved: Array,
    native: Array,
    inverse: float,
    scores: Array,
    frame: int,
    squares: Array,
    weights: Array,
) -> None:
    """Raise the TM-score by superpositions weighted by (1 + d²/d₀²)⁻².

    Each bead's term is convex in d², so that its tangent lies below it: the weighted least squares
    fit, whose weights are the slopes, can only raise the sum (a majorisation, as in Hunter and
    Lange, Am. Stat. 58, 30, 2004).
    """
    one = np.float32(1.0)
    for _ in range(_POLISHING_STEPS):
        for bead in range(len(squares)):
            slope = one / (one + squares[bead] * inverse)
            weights[bead] = slope * slope
        _superpose(moved, native, weights, squares)
        score = _tm_sum(squares, inverse)
        gain = score - scores[frame]
        scores[frame] = max(scores[frame], score)
        if gain <= _SMALLEST_GAIN * score:
            break
