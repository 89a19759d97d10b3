"""Novelty of samples, where the training part of their system is at hand."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError
from cgbench.evaluate import Ensemble, ReferenceBundle, ReferenceStatistics, Scored
from cgbench.evaluate.novelty import TRAINING_FRAMES, TrainingFrames, chosen_frames, novelty
from cgbench.evaluate.replay import md_replay
from cgbench.progress import Progress, silent
from cgbench.splits import read_split
from cgbench.store import SystemStore, find_split, find_store, open_store

SPLIT: Final = "block-v1"
PART: Final = "train"
#: Frames nearer to each other than this are read together.
_GAP: Final = 4096
#: At most so many frames are read at a time.
_SPAN: Final = 65_536
#: Above this size of the part, frames are taken from seeded windows, so that not all is read.
_WHOLE_BYTES: Final = 2 * 1024**3
_WINDOWS: Final = 500


def training_frames(
    system: str, home: Path | None = None, *, seed: int = 1, progress: Progress = silent
) -> tuple[TrainingFrames, NDArray[np.int64], SystemStore] | None:
    """Return a seeded choice of frames of the training part of the canonical split.

    Returns:
        The frames, their flat indices (n,) in the store, and the store; None where store or split
        is not at hand.

    Raises:
        IntegrityError: Store or split is damaged.
    """
    try:
        find_store(system, home)
        split = read_split(find_split(system, SPLIT, home))
    except UsageError:
        return None
    store = open_store(system, home)
    part = split.frames(PART)
    part = part[store.valid[part]]
    if not len(part):
        return None
    frames = part[_chosen(len(part), store.n_beads, seed)]
    training = TrainingFrames(
        coordinates=_read(store, frames, progress),
        trajectory=np.asarray(store.trajectory)[frames].astype(np.int64),
        split=f"{split.id}, part {PART}",
        n_total=len(part),
    )
    return training, frames, store


def with_novelty(
    row: Scored,
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    home: Path | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> Scored:
    """Return the row of samples with their novelty, where the training part is at hand."""
    if ensemble.time_ordered or row.result.status != "ok":
        return row
    found = training_frames(bundle.system, home, seed=seed, progress=progress)
    if found is None:
        return row
    training, _, store = found
    value = novelty(ensemble, training, seed=seed, progress=progress)
    notes = row.result.notes
    if bundle.store_fingerprint == store.fingerprint:
        notes = (
            *notes,
            f"The reference is built from all trajectories, those of {training.split} included: "
            "a sampler trained on them is compared with what it has seen, and novelty and the row "
            "md_replay say how much of its score that is worth.",
        )
    result = row.result.model_copy(
        update={"metrics": row.result.metrics | {"novelty": value}, "notes": notes}
    )
    return replace(row, result=result)


def replay_row(
    bundle: ReferenceBundle,
    *,
    home: Path | None = None,
    seed: int = 1,
    reference: ReferenceStatistics | None = None,
    progress: Progress = silent,
) -> Scored | None:
    """Return the row ``md_replay`` for a report, or None where training frames are not at hand."""
    found = training_frames(bundle.system, home, seed=seed, progress=progress)
    if found is None or found[2].fingerprint != bundle.store_fingerprint:
        return None
    training, frames, _ = found
    return md_replay(bundle, training, frames, seed=seed, reference=reference, progress=progress)


def _chosen(n_frames: int, n_beads: int, seed: int) -> NDArray[np.int64]:
    if n_frames * n_beads * 12 <= _WHOLE_BYTES:
        return chosen_frames(n_frames, TRAINING_FRAMES, seed, 0)
    windows = chosen_frames(n_frames // _GAP, _WINDOWS, seed, 2) * _GAP
    each = -(-TRAINING_FRAMES // len(windows))
    places = (np.arange(each) * (_GAP // each))[None, :]
    return np.asarray((windows[:, None] + places).reshape(-1)[:TRAINING_FRAMES])


def _read(store: SystemStore, frames: NDArray[np.int64], progress: Progress) -> NDArray[np.float32]:
    result = np.empty((len(frames), store.n_beads, 3), dtype=np.float32)
    apart = (np.diff(frames) > _GAP) | (np.diff(frames // _SPAN) > 0)
    done = 0
    for part in np.split(frames, np.flatnonzero(apart) + 1):
        first = int(part[0])
        values = store.coordinates(first, int(part[-1]) + 1)
        result[done : done + len(part)] = values[part - first]
        done += len(part)
        progress("read training frames", done, len(frames))
    return result
