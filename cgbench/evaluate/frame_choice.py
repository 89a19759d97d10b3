"""Which frames stand for an ensemble, chosen by seed alone, and their coordinates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.tica import FrameSequence


def seeded_subset(frames: NDArray[np.int64], number: int, seed: int) -> NDArray[np.int64]:
    """Return a seeded subset of frames, uniform over them, in ascending order.

    Args:
        frames: (n,) ascending flat indices.
        number: How many to take at most; all are taken where there are no more.
        seed: Seed of the choice.
    """
    if len(frames) <= number:
        return frames
    generator = np.random.default_rng(np.random.SeedSequence([seed, number]))
    return np.sort(generator.choice(frames, number, replace=False, shuffle=False))


def searched_subset(
    rmsd: NDArray[Any], present: NDArray[np.bool_], drawn: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the frames whose superposition is searched.

    Args:
        rmsd: (n,) RMSD of every frame to the native conformer.
        present: (n,) frames that are alive and have weight.
        drawn: (m,) ascending flat indices of a seeded subset of them.
        seed: Seed of the choice.

    Returns:
        Flat indices of the frames of least RMSD, ascending, and of a seeded part of the subset
        without these.
    """
    constants = registry.constants()
    candidates = np.flatnonzero(present)
    number = min(constants.search_closest, len(candidates))
    # A stable order, so that equal values are not chosen by the sorting algorithm.
    nearest = candidates[np.argsort(rmsd[candidates], kind="stable")[:number]]
    closest = np.sort(nearest)
    others = drawn[~np.isin(drawn, closest)]
    return closest, seeded_subset(others, constants.search_frames, seed)


def gather_frames(
    trajectories: Sequence[FrameSequence], frames: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return frames by their flat index, (n, n_beads, 3) float32.

    Args:
        trajectories: Coordinates (n_frames_i, n_beads, 3), one each.
        frames: (n,) flat indices.
    """
    if not len(frames):
        return np.asarray(trajectories[0][:0], dtype=np.float32)
    starts = np.cumsum([0, *(len(trajectory) for trajectory in trajectories)])
    owners = np.searchsorted(starts, frames, side="right") - 1
    # Copies: a view would keep all of the block alive that its frame was read with.
    chosen = [
        np.array(trajectories[owner][slice(int(frame), int(frame) + 1)][0], dtype=np.float32)
        for owner, frame in zip(owners, frames - starts[owners], strict=True)
    ]
    return np.asarray(chosen, dtype=np.float32)
