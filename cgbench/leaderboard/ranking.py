"""Ranks: one plus the number of models that are significantly better."""

import math
from collections.abc import Sequence

from cgbench.leaderboard.rows import Score


def significantly_better(a: Score, b: Score) -> bool:
    """Return whether a's score is above b's, zero lying outside the interval of the difference.

    The interval is that of independent estimates of which only the own intervals are known, each
    side from the ends that face each other (Zou and Donner, Stat. Med. 27, 1693 (2008)). Two
    models on the same start frames differ by less noise than that; ``cgbench compare`` on their
    run folders says more.
    """
    difference = a.value - b.value
    return difference - math.hypot(a.value - a.lo, b.hi - b.value) > 0.0


def ranks(scores: Sequence[Score]) -> list[int]:
    """Return the rank of each score among all of them; those that are tied share one.

    Ties are not chained: a model is tied with the first when the first is not significantly better,
    whatever lies between them.
    """
    return [1 + sum(significantly_better(other, score) for other in scores) for score in scores]
