"""Force errors of a potential on the test part of a store, trajectory by trajectory."""

from pathlib import Path

import numpy as np
import torch

from cgbench.errors import UsageError
from cgbench.evaluate import ForceErrors
from cgbench.pipeline.programs import AnyPotential
from cgbench.progress import Progress, silent
from cgbench.splits import read_split
from cgbench.store import find_split, open_store

#: Frames a call: bounds the memory of the pair tensors of an 80-bead chain to a few hundred MB.
_BATCH_BEADS = 16_384


def force_errors(
    potential: AnyPotential,
    system: str,
    *,
    split: str = "block-v1",
    part: str = "test",
    force_map: str | None = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> ForceErrors:
    """Return the sums of squared and absolute force errors of each trajectory of a part.

    Args:
        potential: The model.
        system: Registry key of a system with a local store.
        split: Split id.
        part: ``train``, ``val`` or ``test``.
        force_map: The force map compared with; the store's default if None.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: No such store, split, part or force map.
    """
    store = open_store(system, home)
    frames = read_split(find_split(system, split, home)).frames(part)
    frames = frames[store.valid[frames]]
    name = force_map or store.metadata.default_force_map
    if name is None:
        raise UsageError(f"{store.path}: holds no forces", fix="preprocess it with a force map")
    bead_types = torch.as_tensor(np.asarray(store.bead_types))
    n_trajectories = len(store.trajectory_bounds)
    squared = np.zeros(n_trajectories)
    absolute = np.zeros(n_trajectories)
    count = np.zeros(n_trajectories, dtype=np.int64)
    trajectory = store.trajectory
    step = max(1, _BATCH_BEADS // store.n_beads)
    for begin in range(0, len(frames), step):
        chunk = frames[begin : begin + step]
        first, last = int(chunk.min()), int(chunk.max()) + 1
        pos = store.coordinates(first, last)[chunk - first]
        true = store.forces(first, last, force_map=name)[chunk - first]
        predicted = potential.chains(bead_types, torch.from_numpy(pos)).forces.numpy()
        difference = (predicted - true).astype(np.float64).reshape(len(chunk), -1)
        index = trajectory[chunk]
        np.add.at(squared, index, np.square(difference).sum(axis=1))
        np.add.at(absolute, index, np.abs(difference).sum(axis=1))
        np.add.at(count, index, difference.shape[1])
        progress(f"force errors of {potential.spec.name}", begin + len(chunk), len(frames))
    present = np.flatnonzero(count)
    return ForceErrors(
        force_map=name,
        trajectory=present,
        squared=squared[present],
        absolute=absolute[present],
        count=count[present],
    )
