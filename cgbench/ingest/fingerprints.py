"""Frames known by a few of their own distances, and searched for among millions."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.progress import Progress
from cgbench.store import FrameSource

#: Å that one count stands for; xtc files keep coordinates to this.
COUNT: Final = 0.01
#: Distances of two beads that are each off by half a count along three axes differ by up to
#: √3 counts; rounding both distances adds one, and single precision next to nothing.
TOLERANCE: Final = 3
#: Distances of a fingerprint. Each of an unrelated frame agrees by chance in one case of a hundred
#: or so, hence all twelve never.
N_DISTANCES: Final = 12
#: Beads that are closer along the chain hardly change their distance.
_SEPARATION: Final = 3
_FRAMES_AT_ONCE: Final = 8192
#: A frame without a fingerprint: not finite, or farther apart than can be counted.
_NONE: Final = 65535

Counts = NDArray[np.uint16]


class Pairs(NamedTuple):
    """First and second beads of the distances of a fingerprint, (n_distances,) each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]


def choose_pairs(n_beads: int) -> Pairs:
    """Return the pairs of beads whose distances are a frame's fingerprint.

    The first is that of the two ends, which differs most between frames; the others are spread
    evenly over all pairs.

    Raises:
        ValidationError: There are fewer than four beads.
    """
    if n_beads < _SEPARATION + 1:
        raise ValidationError(
            "frames cannot be told apart by their distances",
            expected=f"at least {_SEPARATION + 1} beads",
            found=n_beads,
        )
    least = _SEPARATION if n_beads > 2 * _SEPARATION else 1
    first, second = np.triu_indices(n_beads, least)
    ends = int(np.flatnonzero((first == 0) & (second == n_beads - 1))[0])
    others = np.delete(np.arange(len(first)), ends)
    spread = np.linspace(0, len(others) - 1, min(N_DISTANCES - 1, len(others))).astype(np.int64)
    chosen = np.concatenate([[ends], others[np.unique(spread)]])
    return Pairs(first[chosen].astype(np.int64), second[chosen].astype(np.int64))


def fingerprints(source: FrameSource, pairs: Pairs, task: str, progress: Progress) -> Counts:
    """Return the fingerprints (n_frames, n_distances) of all frames, in counts of 0.01 Å.

    Args:
        source: Where frames come from.
        pairs: Pairs of beads.
        task: What progress is called.
        progress: Called with frames done.
    """
    counts = np.empty((source.n_frames, len(pairs.first)), dtype=np.uint16)
    for start in range(0, source.n_frames, _FRAMES_AT_ONCE):
        progress(task, start, source.n_frames)
        stop = min(start + _FRAMES_AT_ONCE, source.n_frames)
        frames = source.read(start, stop).coordinates
        with np.errstate(over="ignore", invalid="ignore"):
            steps = frames[:, pairs.first].astype(np.float64) - frames[:, pairs.second]
            distances = np.rint(np.sqrt((steps**2).sum(axis=-1)) / COUNT)
            sound = (distances < _NONE).all(axis=1)
        counts[start:stop] = np.where(sound[:, None], distances, _NONE)
    progress(task, source.n_frames, source.n_frames)
    return counts


def agree(first: Counts, second: Counts) -> NDArray[np.bool_]:
    """Return which rows agree in every distance, to what rounding allows."""
    apart = np.abs(first.astype(np.int32) - second.astype(np.int32))
    return np.asarray((apart <= TOLERANCE).all(axis=-1) & (first[..., 0] != _NONE))


class FrameSearch:
    """Finds frames by their fingerprints.

    Args:
        counts: Fingerprints (n_frames, n_distances) of the frames to search among.
    """

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self._order = np.argsort(counts[:, 0], kind="stable").astype(np.int32)
        occurrences = np.bincount(counts[:, 0], minlength=_NONE + 1)
        self._starts = np.concatenate([[0], np.cumsum(occurrences)])

    def find(self, wanted: Counts) -> NDArray[np.int64]:
        """Return the frames, in order, that agree with a fingerprint (n_distances,)."""
        if wanted[0] == _NONE:
            return np.zeros(0, dtype=np.int64)
        low = max(0, int(wanted[0]) - TOLERANCE)
        high = min(_NONE - 1, int(wanted[0]) + TOLERANCE)
        found = self._order[self._starts[low] : self._starts[high + 1]]
        for column in range(1, self.counts.shape[1]):
            if not len(found):
                break
            apart = np.abs(self.counts[found, column].astype(np.int32) - int(wanted[column]))
            found = found[apart <= TOLERANCE]
        return np.sort(found).astype(np.int64)
