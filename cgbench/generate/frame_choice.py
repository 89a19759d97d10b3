"""Which frames of an all-atom simulation are worth a simulation of their own."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError, ValidationError

#: Beads nearer than this along the chain are at about the same distance in every frame.
_SEPARATION: Final = 3
#: Numbers of a block of differences that is in memory at once, about 32 MB.
_BLOCK_NUMBERS: Final = 4_000_000


def choose_frames(
    coordinates: NDArray[np.floating[Any]],
    n: int,
    *,
    strata: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    method: Literal["k-centres", "random"] = "k-centres",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose frames that cover what was simulated.

    Every stratum gives equally many, as far as it has them; within one, frames are those of
    farthest-point k-centres in the distances of beads at least three apart along the chain, or
    drawn at random.

    Args:
        coordinates: (n_frames, n_beads, 3) Å.
        n: How many frames.
        strata: (n_frames,) a number for each frame, as folded or unfolded; None for one stratum.
        method: ``k-centres`` for coverage, ``random`` for a fair sample of each stratum.
        seed: Seed of the first centre, or of the draw.

    Returns:
        (n,) numbers of the frames, ascending.

    Raises:
        UsageError: More frames are wanted than there are, none, or an unknown method.
        ValidationError: Coordinates and strata do not fit.
    """
    labels = np.zeros(len(coordinates), dtype=np.int64) if strata is None else np.asarray(strata)
    if coordinates.ndim != 3 or labels.shape != coordinates.shape[:1]:
        raise ValidationError(
            "choice of frames: wrong shapes",
            expected="coordinates (frames, beads, 3) and strata (frames,)",
            found=f"{coordinates.shape} and {labels.shape}",
        )
    if not 1 <= n <= len(coordinates):
        raise UsageError("choice of frames: number", expected=f"1 to {len(coordinates)}", found=n)
    if method not in ("k-centres", "random"):
        raise UsageError(f"choice of frames: no method {method!r}")
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    streams = np.random.SeedSequence(seed).spawn(len(members))
    chosen = []
    for frames, share, stream in zip(members, _shares(members, n), streams, strict=True):
        generator = np.random.default_rng(stream)
        if method == "random":
            chosen.append(generator.choice(frames, share, replace=False))
        else:
            features = _distances(coordinates[frames])
            chosen.append(frames[_centres(features, share, generator)])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def similarity_strata(
    coordinates: NDArray[np.floating[Any]], native: NDArray[np.floating[Any]], n_strata: int = 2
) -> NDArray[np.int64]:
    """Sort frames into equally large strata by their likeness to a native structure.

    Likeness is the root mean square difference of all distances between beads.

    Args:
        coordinates: (n_frames, n_beads, 3) Å.
        native: (n_beads, 3) Å.
        n_strata: How many.

    Returns:
        (n_frames,) from 0, the most native-like.

    Raises:
        ValidationError: The native structure has another number of beads.
        UsageError: Fewer than one stratum.
    """
    if n_strata < 1:
        raise UsageError("strata", expected="at least 1", found=n_strata)
    if coordinates.shape[1:] != native.shape:
        raise ValidationError(
            "strata: native structure of another shape",
            expected=coordinates.shape[1:],
            found=native.shape,
        )
    difference = _distances(coordinates, 1) - _distances(native[None], 1)
    order = np.argsort((difference**2).mean(axis=1), kind="stable")
    strata = np.empty(len(order), dtype=np.int64)
    strata[order] = np.arange(len(order)) * n_strata // len(order)
    return strata


def _shares(members: list[NDArray[np.int64]], n: int) -> list[int]:
    """Deal n out to strata in turn, passing over those that have no more."""
    shares = [0] * len(members)
    while n > 0:
        for index, frames in enumerate(members):
            if n > 0 and shares[index] < len(frames):
                shares[index] += 1
                n -= 1
    return shares


def _distances(
    coordinates: NDArray[np.floating[Any]], separation: int = _SEPARATION
) -> NDArray[np.float32]:
    n_frames, n_beads = coordinates.shape[:2]
    # Chains too short for such pairs have only near ones.
    first, second = np.triu_indices(n_beads, separation if n_beads > separation else 1)
    distances = np.empty((n_frames, len(first)), dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // max(1, 3 * len(first)))
    for start in range(0, n_frames, step):
        block = np.asarray(coordinates[start : start + step], dtype=np.float64)
        difference = block[:, first] - block[:, second]
        distances[start : start + step] = np.sqrt((difference**2).sum(axis=-1))
    return distances


def _centres(
    features: NDArray[np.float32], n: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return farthest-point centres, the first drawn at random."""
    chosen = np.empty(n, dtype=np.int64)
    nearest = np.full(len(features), np.inf)
    following = int(generator.integers(len(features)))
    for index in range(n):
        chosen[index] = following
        nearest = np.minimum(nearest, ((features - features[following]) ** 2).sum(axis=1))
        # A chosen frame is never taken again, also where others are its exact copies.
        nearest[following] = -1.0
        following = int(nearest.argmax())
    return chosen
