"""How well an order of frames is shuffled, as numbers with known values for a perfect shuffle."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats


@dataclass(frozen=True)
class Quality:
    """Statistics of epochs of n frames, each a permutation of their places in the store.

    Attributes:
        displacement: Largest difference between the distribution of |place in the store − place in
            the epoch| / n and that of a perfect shuffle, 1 − (1−d)² (Kolmogorov's distance).
        correlation: Pearson correlation of the places in the store of successive frames.
        neighbours: Share of successive frames that are neighbours in the store, times n/2.
        batch_variance: Variance of a batch's mean place in the store, relative to the variance of
            one place: 1/batch_size in a perfect shuffle.
        blocks_pvalue: Chi-square test that the frames of the blocks which meet in a super-block are
            spread evenly over its batches; least of all p-values times their number (Bonferroni).
        placement_pvalue: Chi-square test that each block comes as often in each tenth of an epoch.
    """

    displacement: float
    correlation: float
    neighbours: float
    batch_variance: float
    blocks_pvalue: float
    placement_pvalue: float


def measure(
    epochs: Sequence[np.ndarray], batch_size: int, block: int, group: int | None = None
) -> Quality:
    """Measure epochs (n,) of places in the store.

    Args:
        epochs: At least a few dozen, for the placement.
        batch_size: Frames of a batch.
        block: Frames of a block.
        group: Frames that are permuted together: all by default.
    """
    n = len(epochs[0])
    places = np.stack(epochs)
    displacement = np.sort(np.abs(places - np.arange(n)).ravel() / n)[::7]
    ideal = 1 - (1 - displacement) ** 2
    share = (np.arange(displacement.size) + 0.5) / displacement.size
    first, second = places[:, :-1].ravel(), places[:, 1:].ravel()
    whole = n // batch_size * batch_size
    means = places[:, :whole].reshape(len(places), -1, batch_size).mean(axis=2)
    return Quality(
        displacement=float(np.abs(ideal - share).max()),
        correlation=float(np.corrcoef(first, second)[0, 1]),
        neighbours=float((np.abs(first - second) == 1).mean() * n / 2),
        batch_variance=float(((means - (n - 1) / 2) ** 2).mean() / ((n**2 - 1) / 12)),
        blocks_pvalue=_blocks_pvalue(places, batch_size, block, group or n),
        placement_pvalue=_placement_pvalue(places, block),
    )


def _blocks_pvalue(places: np.ndarray, batch_size: int, block: int, group: int) -> float:
    least, tests = 1.0, 0
    for epoch in places[:10]:
        for start in range(0, len(epoch) - group + 1, group):
            member = epoch[start : start + group] // block
            names, member = np.unique(member, return_inverse=True)
            cell = np.arange(group) // batch_size * len(names) + member
            table = np.bincount(cell, minlength=-(-group // batch_size) * len(names))
            table = table.reshape(-1, len(names))
            tests += 1
            if len(names) > 1:
                least = min(least, float(scipy.stats.chi2_contingency(table).pvalue))
            else:
                # One block alone is mixed with nothing.
                least = 0.0
    return min(1.0, least * tests)


def _placement_pvalue(places: np.ndarray, block: int) -> float:
    # One draw for each block and epoch: the tenth of the epoch where its first frame comes.
    n = places.shape[1]
    firsts = np.arange(0, n, block)
    table = np.zeros((len(firsts), 10))
    for epoch in places:
        when = np.empty(n, dtype=np.int64)
        when[epoch] = np.arange(n)
        np.add.at(table, (np.arange(len(firsts)), when[firsts] * 10 // n), 1)
    expected = len(places) / 10
    statistic = ((table - expected) ** 2 / expected).sum()
    return float(scipy.stats.chi2.sf(statistic, len(firsts) * 9))


def shortcomings(quality: Quality, batch_size: int, blocks: int, n_blocks: int) -> list[str]:
    """Return what is worse than a buffer of so many whole blocks should be.

    Frames of one block are alike, so that with b of N blocks in the buffer the correlation of
    successive frames cannot be below about 1/b − 1/N, and a batch's mean varies by that and
    1/batch_size. Half as much again is allowed.
    """
    alike = max(0.0, 1 / blocks - 1 / n_blocks)
    limits = {
        "displacement": (quality.displacement, 0.05),
        "correlation": (abs(quality.correlation), 1.5 * alike + 0.02),
        "neighbours": (quality.neighbours, 1.5 * n_blocks / blocks + 1),
        "batch_variance": (quality.batch_variance, 1.5 * (alike + 1 / batch_size)),
        "blocks": (1e-4, quality.blocks_pvalue),
        "placement": (1e-4, quality.placement_pvalue),
    }
    return [name for name, (value, limit) in limits.items() if value > limit]
