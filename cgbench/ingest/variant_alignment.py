"""A chain aligned with its parent, and residues built on where its structure ends early."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.ingest.native import Residue

#: Length of a bond of a chain in Å.
BOND: Final = 3.8
#: Scores of the alignment: chosen so that a gap costs more than a substitution at an end.
_MATCH, _MISMATCH, _GAP = 2, -1, -4
#: Beads whose placement relative to their neighbours a built residue repeats.
_REPEATED: Final = 4


def align(parent: str, chain: str) -> tuple[int, list[tuple[int | None, int | None]]]:
    """Align a whole parent with a stretch of a chain (Needleman and Wunsch, J. Mol. Biol. 1970).

    What the chain has before and after the stretch costs nothing.

    Args:
        parent: The parent's sequence.
        chain: The chain's.

    Returns:
        The score, and pairs of indices in the order of the parent: (parent, chain), None where one
        of them has no residue.
    """
    rows, columns = len(parent) + 1, len(chain) + 1
    score = np.zeros((rows, columns), dtype=np.int64)
    score[:, 0] = _GAP * np.arange(rows)
    for i in range(1, rows):
        same = np.array([_MATCH if parent[i - 1] == one else _MISMATCH for one in chain])
        for j in range(1, columns):
            score[i, j] = max(
                score[i - 1, j - 1] + same[j - 1], score[i - 1, j] + _GAP, score[i, j - 1] + _GAP
            )
    j = int(score[-1].argmax())
    best, i = int(score[-1, j]), rows - 1
    pairs: list[tuple[int | None, int | None]] = []
    while i:
        fits = j and score[i, j] == score[i - 1, j - 1] + (
            _MATCH if parent[i - 1] == chain[j - 1] else _MISMATCH
        )
        if fits:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif score[i, j] == score[i - 1, j] + _GAP:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return best, pairs[::-1]


def differences(
    parent: str, pairs: Sequence[tuple[int | None, int | None]], residues: Sequence[Residue]
) -> tuple[str, ...]:
    """Return how an aligned chain differs from its parent, in beads of the parent from 1."""
    told = []
    place = next(old for old, _ in pairs if old is not None)
    for old, new in pairs:
        if old is None and new is not None:
            told.append(f"{place}_{place + 1}ins{residues[new].letter}")
            continue
        place = (old or 0) + 1
        if new is None:
            told.append(f"{parent[place - 1]}{place}del")
        elif residues[new].letter != parent[place - 1]:
            told.append(f"{parent[place - 1]}{place}{residues[new].letter}")
    return tuple(told)


def extended(
    residues: Sequence[Residue], first: Sequence[str], last: Sequence[str]
) -> tuple[Residue, ...]:
    """Build residues on at both ends, numbered on from what is there."""
    chain = list(residues)
    places = [residue.position for residue in chain]
    for letter in last:
        places.append(_continued(np.array(places)))
        chain.append(_made(chain[-1].number + 1, letter, places[-1]))
    for letter in reversed(first):
        places.insert(0, _continued(np.array(places[::-1])))
        chain.insert(0, _made(chain[0].number - 1, letter, places[0]))
    return tuple(chain)


def _made(number: int, letter: str, position: NDArray[np.float64]) -> Residue:
    x, y, z = (f"{value:.3f}" for value in position)
    return Residue(number=number, insertion="", letter=letter, place=(x, y, z))


def _continued(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the place (3,) of a bead more, by the motion from each bead to the next at the end.

    The rotation and shift that lay the beads before the last onto those one further (Kabsch, Acta
    Cryst. A 32, 922, 1976) are applied to the last: a helix goes on as a helix, a strand as one.
    """
    old, new = places[-_REPEATED - 1 : -1], places[-_REPEATED:]
    centre, moved = old.mean(axis=0), new.mean(axis=0)
    left, _, right = np.linalg.svd((old - centre).T @ (new - moved))
    hand = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    place = (places[-1] - centre) @ left @ hand @ right + moved
    step = place - places[-1]
    length = float(np.linalg.norm(step))
    if length < 1.0:
        # Beads that turn on the spot have no direction to go on in.
        step, length = places[-1] - places[0], float(np.linalg.norm(places[-1] - places[0]))
    result: NDArray[np.float64] = places[-1] + step * (BOND / length)
    return result
