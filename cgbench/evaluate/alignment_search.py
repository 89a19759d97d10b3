"""Structure scores that need a search over superpositions: GDT_TS, GDT_HA and the TM-score.

A superposition of all beads is the best one for the RMSD, not for the number of beads that lie
close: a moved tail turns the rest away. So fragments of several lengths, everywhere along the
chain, are superposed in turn; from each the beads within a distance are superposed again until
their set no longer changes (Zemla, Nucleic Acids Res. 31, 3370, 2003, for the GDT; Zhang and
Skolnick, Proteins 57, 702, 2004, for the TM-score). Every superposition on the way counts for every
score. Beads correspond by their place in the chain.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.superposition import checked_reference
from cgbench.progress import Progress, silent

Array = NDArray[Any]
Float = NDArray[np.float64]

#: Distances in Å of the total score and of the high-accuracy score.
GDT_TS_CUTOFFS: Final = (1.0, 2.0, 4.0, 8.0)
GDT_HA_CUTOFFS: Final = (0.5, 1.0, 2.0, 4.0)
#: Chains shorter than this get no TM-score: its scale d₀ is made for proteins, and at 27 residues a
#: uniform error of 1 Å already costs a fifth of it.
TM_SHORTEST_CHAIN: Final = 28
#: Smallest scale in Å, which the formula would undercut for chains of up to 21 residues.
TM_SMALLEST_SCALE: Final = 0.5

#: Shortest fragment; halving the chain's length ends here.
_SHORTEST_FRAGMENT: Final = 4
#: Length of the fragments that are superposed two at a time.
_PAIRED_FRAGMENT: Final = 3
#: Up to this length, sets of three single beads are starts as well, out of at most so many beads.
_LONGEST_WITH_TRIPLES: Final = 40
_TRIPLE_BEADS: Final = 20
_CUTOFFS: Final = tuple(sorted({*GDT_TS_CUTOFFS, *GDT_HA_CUTOFFS}))
_FRAMES_PER_PIECE: Final = 128


@dataclass(frozen=True)
class SearchScores:
    """Scores of some frames; not-a-number for frames that are not finite.

    Attributes:
        gdt_ts: (n_frames,) mean over 1, 2, 4 and 8 Å of the largest fraction of beads within the
            distance, 0 to 1.
        gdt_ha: (n_frames,) the same for 0.5, 1, 2 and 4 Å.
        tm: (n_frames,) TM-score, 0 to 1; None for chains that are too short for one.
    """

    gdt_ts: Float
    gdt_ha: Float
    tm: Float | None


def search_scores(
    coordinates: Array, native: Array, progress: Progress = silent, *, workers: int = 1
) -> SearchScores:
    """Return GDT_TS, GDT_HA and TM-score of frames, by a search over superpositions.

    The largest fraction is searched for each distance on its own, so that the four of a score may
    belong to four superpositions, as the scores are defined. A search finds lower bounds; how close
    they come is measured in ``benchmarks/structure_scores.py``.

    Args:
        coordinates: (n_frames, n_beads, 3) in Å.
        native: (n_beads, 3) in Å.
        progress: Told how many frames are done.
        workers: Threads; the scores do not depend on their number.

    Raises:
        ValidationError: The shapes disagree, there are fewer than three beads, or the native
            structure is not finite.
    """
    target = checked_reference(coordinates, native)
    n_frames, n_beads = coordinates.shape[:2]
    if n_beads < 3:
        raise ValidationError(
            "a superposition search needs at least three beads", expected="3 beads", found=n_beads
        )
    from cgbench.evaluate.search_kernel import search_frames

    counts = np.zeros((n_frames, len(_CUTOFFS)), dtype=np.int64)
    sums = np.zeros(n_frames)
    with_tm = n_beads >= TM_SHORTEST_CHAIN
    inverse = 1.0 / tm_scale(n_beads) ** 2 if with_tm else 0.0
    fixed = np.ascontiguousarray((target - target.mean(axis=0)).T, dtype=np.float32)
    seeds = search_seeds(n_beads)
    squared = np.array(_CUTOFFS, dtype=np.float32) ** 2
    # The keys' seed is of no consequence, as long as no two sets of one frame share their sum.
    keys = np.random.default_rng(0).integers(1, 2**63, (n_beads,)).astype(np.uint64)

    def search(piece: slice) -> int:
        frames = np.ascontiguousarray(coordinates[piece])
        search_frames(frames, fixed, seeds, squared, keys, inverse, counts[piece], sums[piece])
        return len(frames)

    done = 0
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(search, _pieces(n_frames)):
            done += found
            progress("superposition search", done, n_frames)
    fractions = counts / n_beads
    fractions[~np.isfinite(coordinates).all(axis=(1, 2))] = np.nan
    return SearchScores(
        gdt_ts=_mean_of(fractions, GDT_TS_CUTOFFS),
        gdt_ha=_mean_of(fractions, GDT_HA_CUTOFFS),
        tm=sums / n_beads + 0.0 * fractions[:, 0] if with_tm else None,
    )


def tm_scale(n_beads: int) -> float:
    """Return the scale d₀ of the TM-score in Å (Zhang and Skolnick 2004, equation 5)."""
    return max(TM_SMALLEST_SCALE, 1.24 * float(np.cbrt(n_beads - 15.0)) - 1.8)


def search_seeds(n_beads: int) -> NDArray[np.float32]:
    """Return the sets of beads that a search begins with, (n_seeds, n_beads), as weights 0 and 1.

    The whole chain, and everywhere along it fragments of half its length, of a quarter and so on
    down to four beads; two fragments of three beads together; for chains of up to 40 beads also
    every set of three beads out of 20 or fewer evenly spaced ones.
    """
    sets: list[tuple[int, ...]] = []
    length = n_beads
    while True:
        sets += [tuple(range(k, k + length)) for k in range(n_beads - length + 1)]
        if length <= _SHORTEST_FRAGMENT:
            break
        length = max(_SHORTEST_FRAGMENT, length // 2)
    starts = range(0, n_beads - _PAIRED_FRAGMENT + 1, _PAIRED_FRAGMENT)
    fragments = [tuple(range(k, k + _PAIRED_FRAGMENT)) for k in starts]
    sets += [first + second for first, second in combinations(fragments, 2)]
    if n_beads <= _LONGEST_WITH_TRIPLES:
        sets += combinations(range(0, n_beads, -(-n_beads // _TRIPLE_BEADS)), 3)
    result = np.zeros((len(sets), n_beads), dtype=np.float32)
    for row, beads in enumerate(sets):
        result[row, list(beads)] = 1.0
    return result


def _pieces(n_frames: int) -> Iterator[slice]:
    for start in range(0, n_frames, _FRAMES_PER_PIECE):
        yield slice(start, min(start + _FRAMES_PER_PIECE, n_frames))


def _mean_of(fractions: Float, cutoffs: tuple[float, ...]) -> Float:
    columns = [_CUTOFFS.index(cutoff) for cutoff in cutoffs]
    result: Float = fractions[:, columns].mean(axis=1)
    return result
