"""Elements of secondary structure: found in a native structure, and followed through frames."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.superposition import checked_reference, finite_structure, rmsd
from cgbench.registry import Element

Array = NDArray[Any]
Float = NDArray[np.float64]
Range = tuple[int, int]


class Ladder(NamedTuple):
    """Two runs of beads that lie side by side as paired strands do.

    Attributes:
        direction: How they run.
        first: Half-open range of the run that is earlier in the chain.
        second: Half-open range of the other.
        mean_distance: Of the paired beads, Å.
    """

    direction: Literal["parallel", "antiparallel"]
    first: Range
    second: Range
    mean_distance: float


def element_rmsd(coordinates: Array, native: Array, elements: Sequence[Element]) -> Float:
    """Return how far each element is from its native shape: the RMSD of its own beads alone.

    The two strands of a pair are superposed together, so that two native strands that are not
    side by side count as far.

    Args:
        coordinates: (n_frames, n_beads, 3) in Å.
        native: (n_beads, 3) in Å.
        elements: Of the same chain.

    Returns:
        (n_frames, n_elements) in Å; not-a-number for elements that are not finite in a frame.

    Raises:
        ValidationError: The shapes disagree, or an element reaches over the end of the chain.
    """
    target = checked_reference(coordinates, native)
    result = np.empty((len(coordinates), len(elements)))
    for column, element in enumerate(elements):
        beads = list(element.indices)
        if beads[-1] >= len(target):
            raise ValidationError(
                f"{element.name}: reaches over the end of the chain",
                expected=f"beads 0 to {len(target) - 1}",
                found=beads[-1],
            )
        result[:, column] = rmsd(coordinates[:, beads], target[beads])
    return result


def propensity(deviations: Float, distance: float, weights: Array | None = None) -> Float:
    """Return the weighted fraction of frames in which each element is there.

    Args:
        deviations: (n_frames, n_elements) as from :func:`element_rmsd`; one that is not finite is
            an element that is not there.
        distance: Largest RMSD of an element that is there, Å.
        weights: (n_frames,) not negative; equal if None.

    Returns:
        (n_elements,) between 0 and 1; not-a-number where no frame has weight.

    Raises:
        ValidationError: There is not one weight for each frame.
    """
    share = np.ones(len(deviations)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (len(deviations),):
        raise ValidationError(
            "weights do not fit the frames", expected=(len(deviations),), found=share.shape
        )
    total = share.sum()
    if not total > 0.0:
        return np.full(deviations.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        formed = deviations <= distance
    result: Float = share @ formed / total
    return result


def find_elements(native: Array, annotation: str) -> tuple[Element, ...]:
    """Return the helices and the pairs of strands of a structure.

    Helices are those of P-SEA (Labesse, Colloc'h, Pothier and Mornon, CABIOS 13, 291, 1997).
    Strands are paired where :func:`ladders` finds a run of pairs between them. Where P-SEA, which
    looks at one strand at a time, has no strand for one side of such a run, as in hairpins of a
    few residues, the run itself is the strand.

    Args:
        native: (n_beads, 3) in Å.
        annotation: P-SEA's letter for each bead: ``a`` helix, ``b`` strand.

    Raises:
        ValidationError: The structure is not finite, or there is not one letter for each bead.
    """
    target = finite_structure(native)
    if len(annotation) != len(target):
        raise ValidationError(
            "the annotation has not one letter for each bead",
            expected=len(target),
            found=len(annotation),
        )
    helices = [
        Element(kind="helix", direction=None, beads=(beads,), source="P-SEA")
        for beads in _runs(annotation, "a")
    ]
    strands = list(_runs(annotation, "b"))
    pairs: dict[tuple[Range, Range], Element] = {}
    for ladder in ladders(target):
        sides = [_strand_of(side, strands) for side in (ladder.first, ladder.second)]
        known = sum(side is not None for side in sides)
        first = sides[0] or ladder.first
        second = sides[1] or ladder.second
        if any(_overlap(side, helix.beads[0]) for side in (first, second) for helix in helices):
            continue
        if first[1] > second[0]:
            continue
        pairs.setdefault(
            (first, second),
            Element(
                kind="strand pair",
                direction=ladder.direction,
                beads=(first, second),
                source=("Cα pairs", "P-SEA and Cα pairs", "P-SEA")[known],
            ),
        )
    return (*helices, *(pairs[key] for key in sorted(pairs)))


def ladders(native: Array) -> tuple[Ladder, ...]:
    """Return the runs of beads that lie side by side like the strands of a sheet.

    Paired Cα are 4.4 and 5.5 Å apart in turn in antiparallel strands and 4.8 Å in parallel ones.
    A run is a maximal sequence of pairs (i, j), (i + 1, j ∓ 1), … none further apart than
    the registry's limit, and on average no further than another; a neighbouring register, in
    which every pair is further apart, is left out, as it shares its beads with the nearer one.

    Args:
        native: (n_beads, 3) in Å.

    Raises:
        ValidationError: The structure is not finite.
    """
    target = finite_structure(native)
    constants = registry.pairing_constants()
    distances = np.linalg.norm(target[:, None] - target[None], axis=-1)
    found: list[tuple[int, float, Ladder]] = []
    for direction, pairs in _registers(len(target)):
        for close, group in groupby(pairs, lambda p: distances[p] <= constants.pair_distance):
            run = list(group)
            mean = float(np.mean([distances[pair] for pair in run]))
            if not close or len(run) < constants.shortest_run or mean > constants.mean_distance:
                continue
            first = (run[0][0], run[-1][0] + 1)
            ends = sorted((run[0][1], run[-1][1]))
            ladder = Ladder(direction, first, (ends[0], ends[1] + 1), mean)
            found.append((-len(run), mean, ladder))
    chosen: list[Ladder] = []
    for _, _, ladder in sorted(found):
        # Of two registers that share most of their beads, the longer one, then the nearer one.
        if not any(
            _overlap(ladder.first, other.first) > 1 and _overlap(ladder.second, other.second) > 1
            for other in chosen
        ):
            chosen.append(ladder)
    return tuple(sorted(chosen, key=lambda ladder: (ladder.first, ladder.second)))


def _registers(
    n_beads: int,
) -> Iterator[tuple[Literal["parallel", "antiparallel"], list[tuple[int, int]]]]:
    """Yield every way of putting the chain beside itself, as the pairs that then meet."""
    constants = registry.pairing_constants()
    for total in range(2 * n_beads):
        first = range(max(0, total - n_beads + 1), n_beads)
        pairs = [(i, total - i) for i in first if total - 2 * i >= constants.turn_separation]
        yield "antiparallel", pairs
    for offset in range(constants.crossover_separation, n_beads):
        yield "parallel", [(i, i + offset) for i in range(n_beads - offset)]


def _runs(annotation: str, letter: str) -> Iterator[Range]:
    start = 0
    for found, group in groupby(annotation):
        stop = start + len(list(group))
        if found == letter:
            yield start, stop
        start = stop


def _strand_of(side: Range, strands: Sequence[Range]) -> Range | None:
    """Return the strand that shares most beads with one side of a ladder, and at least two."""
    best = max(strands, key=lambda strand: _overlap(side, strand), default=None)
    return best if best is not None and _overlap(side, best) > 1 else None


def _overlap(one: Range, other: Range) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))
