"""Coordinates and forces as 16-bit integers: half the bytes, with a known largest error.

value = scale × integer, with one scale per array of a store, and coordinates relative to the mean
of each frame. Scales are powers of two: an integer times its scale is then exact in float32, so
that every reader (this one, xarray, a training loop that decodes on a GPU) gets the same bits, and
the error of a component is at most half a scale without any rounding on top.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cgbench.errors import ValidationError
from cgbench.progress import Progress, silent
from cgbench.registry import constants
from cgbench.store.schema import (
    FORCES_GROUP,
    INVALID_COUNT,
    UNITS,
    BoolArray,
    FloatArray,
    FrameSource,
    Quantisation,
    chunk_frames,
)

CountArray = npt.NDArray[np.int16]

COORDINATES: Final = "coordinates"
#: The largest count; its negative is the smallest, and one below that stands for invalid frames.
LARGEST_COUNT: Final = 32767
#: Scale of an array of zeros, which any scale would do for.
FINEST_SCALE: Final = 2.0**-24
#: Frames encoded at once: tens of megabytes of float64 at 80 beads.
FRAMES_AT_ONCE: Final = 8192


def is_quantised(name: str) -> bool:
    """Return whether an array of a store is kept as integers in a quantised store."""
    return name == COORDINATES or name.startswith(f"{FORCES_GROUP}/")


def choose_quantisation(
    source: FrameSource,
    force_maps: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Quantisation:
    """Choose the scale of each array from its extremes over valid frames, in one pass.

    Args:
        source: The frames that will be written.
        force_maps: Names of the force maps; all of the source's by default.
        progress: Called after each piece with frames done and frames in all.

    Raises:
        ValidationError: No frame is valid, or numbers are so large that 16 bits would be coarser
            than the registry accepts (``quantisation_coordinates_bound`` in Å,
            ``quantisation_forces_bound`` in kcal/mol/Å).
    """
    maps = tuple(source.force_maps) if force_maps is None else tuple(force_maps)
    largest = dict.fromkeys((COORDINATES, *(f"{FORCES_GROUP}/{name}" for name in maps)), 0.0)
    n_valid = 0
    piece = chunk_frames(source.n_beads)
    for start in range(0, source.n_frames, piece):
        stop = min(start + piece, source.n_frames)
        block = source.read(start, stop)
        n_valid += int(block.valid.sum())
        values: Mapping[str, FloatArray] = {COORDINATES: block.coordinates} | {
            f"{FORCES_GROUP}/{name}": block.forces[name] for name in maps
        }
        for name in largest:
            sound = _relative(name, values[name][block.valid])
            largest[name] = max(largest[name], float(np.abs(sound).max(initial=0.0)))
        progress("choose scales", stop, source.n_frames)
    if n_valid == 0:
        raise ValidationError("scales of 16-bit numbers", expected="valid frames", found="none")
    scales = {name: _scale(name, extreme) for name, extreme in largest.items()}
    return Quantisation(
        scales=scales, bounds={name: scale / 2 for name, scale in scales.items()}, centred=True
    )


def coarsest_bound(name: str) -> float:
    """Return the largest error of a component that the registry accepts, Å or kcal/mol/Å."""
    if name == COORDINATES:
        return constants().quantisation_coordinates_bound
    return constants().quantisation_forces_bound


def _scale(name: str, largest: float) -> float:
    """Return the smallest power of two that keeps numbers up to ``largest`` within 16 bits."""
    if not math.isfinite(largest):
        raise ValidationError(f"{name}: numbers of valid frames are not finite", found=largest)
    scale = 2.0 ** math.ceil(math.log2(max(largest / LARGEST_COUNT, FINEST_SCALE)))
    unit = UNITS[COORDINATES if name == COORDINATES else FORCES_GROUP]
    if scale / 2 > coarsest_bound(name):
        raise ValidationError(
            f"{name}: 16 bits are too coarse for numbers up to {largest:.6g} {unit}",
            expected=f"an error of at most {coarsest_bound(name):g} {unit}",
            found=f"{scale / 2:g} {unit}, half a scale of {scale:g}",
            fix="keep float32, or find out whether the largest numbers are damage",
        )
    return scale


def _relative(name: str, values: FloatArray) -> npt.NDArray[np.float64]:
    """Return what is rounded: forces as they are, coordinates relative to each frame's mean."""
    numbers = values.astype(np.float64)
    if name == COORDINATES and len(numbers):
        numbers -= numbers.mean(axis=1, keepdims=True)
    return numbers


def encode(
    name: str,
    values: np.ndarray[Any, np.dtype[Any]],
    quantisation: Quantisation,
    valid: BoolArray | None = None,
) -> np.ndarray[Any, np.dtype[Any]]:
    """Return what a quantised store keeps of an array: integers, or the values of other arrays.

    Args:
        name: The array, ``coordinates``, ``forces/<map>`` or another, which is returned as it is.
        values: (n_frames, n_beads, 3) float32, Å or kcal/mol/Å.
        quantisation: Scales of the store.
        valid: (n_frames,) which frames passed screening. All numbers of the others, and of frames
            that are not finite, are stored as ``INVALID_COUNT``.

    Raises:
        ValidationError: A number of a valid frame is beyond 16 bits, or no scale is known.
    """
    if not is_quantised(name):
        return values
    scale = _scale_of(name, quantisation)
    counts = np.full(values.shape, INVALID_COUNT, dtype=np.int16)
    for start in range(0, len(values), FRAMES_AT_ONCE):
        piece = slice(start, start + FRAMES_AT_ONCE)
        sound = np.isfinite(values[piece]).all(axis=(1, 2))
        if valid is not None:
            sound &= valid[piece]
        exact = _relative(name, values[piece][sound])
        exact /= scale
        np.rint(exact, out=exact)
        largest = float(np.abs(exact).max(initial=0.0))
        if largest > LARGEST_COUNT:
            raise ValidationError(
                f"{name}: a number does not fit in 16 bits",
                expected=f"at most {LARGEST_COUNT * scale:g}, {LARGEST_COUNT} times the scale",
                found=f"{largest * scale:g}",
                fix="choose the scales from all frames that are written",
            )
        counts[piece][sound] = exact.astype(np.int16)
    return counts


def decode(
    name: str, counts: np.ndarray[Any, np.dtype[Any]], quantisation: Quantisation
) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the numbers of an array: float32, Å or kcal/mol/Å; NaN where a frame is invalid.

    Args:
        name: The array; those that are not quantised are returned as they are.
        counts: (n_frames, n_beads, 3) int16.
        quantisation: Scales of the store.

    Raises:
        ValidationError: No scale is known.
    """
    if not is_quantised(name):
        return counts
    values: FloatArray = np.multiply(
        counts, np.float32(_scale_of(name, quantisation)), dtype=np.float32
    )
    # A frame is invalid as a whole, so that its first number tells.
    if len(values):
        values[counts[:, 0, 0] == INVALID_COUNT] = np.nan
    return values


def _scale_of(name: str, quantisation: Quantisation) -> float:
    try:
        return quantisation.scales[name]
    except KeyError:
        raise ValidationError(
            f"{name}: no scale", expected=", ".join(sorted(quantisation.scales)) or "scales"
        ) from None
