"""Coordinates and forces of one part of a system's split, as a PyG dataset."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data, Dataset

from cgbench import registry
from cgbench.data.frames import FrameTensors
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import Prior, PriorParameters
from cgbench.progress import Progress, silent
from cgbench.splits import Split, check_store, read_split
from cgbench.store import SystemStore, chunk_frames, find_split, open_store

#: Frames read at once when streaming, or one chunk of the store if that is more.
BLOCK_FRAMES = 4096
#: Pairs of beads whose prior forces are computed at once: about 100 MB of temporaries.
PAIRS_AT_ONCE = 1 << 19


class ProteinForcesDataset(Dataset):  # type: ignore[misc]
    """Frames with forces of one system; each item is a PyG ``Data`` of one frame.

    Items hold ``pos`` (n_beads, 3) Å, ``forces`` (n_beads, 3) kcal/mol/Å, ``bead_type``
    (n_beads,), and the numbers ``frame`` and ``trajectory``. Frames that failed screening are
    left out. With a prior, forces are delta forces: force minus prior force, computed in float64
    when frames are read and stored nowhere.

    Items come from the store, about a millisecond each, until ``load()`` has been called; use
    ``BlockShuffleLoader`` to stream data sets larger than memory. Arrays are opened by the process
    that reads them, so a dataset can be sent to workers (``forkserver`` or ``spawn``; workers
    forked after the store was read can hang in zarr's threads).

    Args:
        store: Name of a system with a local store, a store's folder, or an open store.
        part: Part of the split.
        split: Split id, split file, or a split.
        force_map: Name of the force map (default: the store's default).
        prior: Prior whose forces are subtracted.
        home: Data home to look names up in.

    Raises:
        UsageError: No such store, split, part or force map.
        ValidationError: The split was made for another store, or the part holds no valid frame.
    """

    def __init__(
        self,
        store: SystemStore | Path | str,
        part: str = "train",
        split: Split | Path | str = "block-v1",
        force_map: str | None = None,
        prior: PriorParameters | None = None,
        home: Path | None = None,
    ) -> None:
        super().__init__()
        self.store = opened = store if isinstance(store, SystemStore) else open_store(store, home)
        self.system = opened.metadata.system
        self.part = part
        self.split = resolve_split(split, self.system, home)
        check_store(self.split, opened)
        self.force_map = opened.force_map(force_map)
        self.prior = prior
        self.bead_types = torch.as_tensor(np.asarray(opened.bead_types, dtype=np.int64))
        self.block_frames = max(BLOCK_FRAMES, chunk_frames(opened.n_beads))
        self.frames = self.split.frames(part, np.asarray(opened.valid, dtype=bool))
        if not len(self.frames):
            raise ValidationError(
                f"{opened.path}: part {part!r} of split {self.split.id} holds no valid frame"
            )
        self._stops = np.asarray(opened.trajectory_bounds, dtype=np.int64)[:, 1]
        self._memory: FrameTensors | None = None

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.bead_types)

    @property
    def nbytes(self) -> int:
        """Memory that coordinates and forces of all frames take, in bytes."""
        return len(self.frames) * self.n_beads * 2 * 3 * 4

    def len(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def get(self, idx: int) -> Data:
        """Return one frame."""
        return self.__getitems__([idx])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[Data]:
        """Return several frames, read together; torch's DataLoader asks for whole batches."""
        positions = np.asarray(list(indices), dtype=np.int64)
        if self._memory is None:
            tensors = self.read(positions)
        else:
            tensors = self._memory.select(torch.as_tensor(positions))
        numbers = zip(tensors.frame.tolist(), tensors.trajectory.tolist(), strict=True)
        return [
            Data(
                pos=tensors.pos[row],
                forces=tensors.forces[row],
                bead_type=self.bead_types,
                frame=frame,
                trajectory=trajectory,
            )
            for row, (frame, trajectory) in enumerate(numbers)
        ]

    def index_select(self, idx: Any) -> "ProteinForcesDataset":
        """Return a dataset of some of the frames; slices and ``shuffle()`` come here."""
        subset: ProteinForcesDataset = super().index_select(idx)
        if subset._indices is None:
            # PyG makes lists of tensors and arrays, and comes here again with them.
            return subset
        positions = np.asarray(subset._indices, dtype=np.int64)
        # A subset is a dataset of its own frames, so that loaders need not know of it.
        subset._indices = None
        subset.frames = self.frames[positions]
        if self._memory is not None:
            subset._memory = self._memory.select(torch.as_tensor(positions))
        return subset

    def load(self, progress: Progress = silent) -> FrameTensors:
        """Read all frames into memory; items come from there afterwards."""
        if self._memory is None:
            self._memory = self.read(np.arange(len(self.frames)), progress)
        return self._memory

    def read(self, positions: NDArray[np.int64], progress: Progress = silent) -> FrameTensors:
        """Read frames from the store, in any order, block by block.

        Args:
            positions: Which of the dataset's frames (n,), from 0 to its length.
            progress: Told after every block.

        Raises:
            IntegrityError: The store is damaged.
        """
        frames = self.frames[positions]
        order = np.argsort(frames, kind="stable")
        ordered = frames[order]
        pos = np.empty((len(frames), self.n_beads, 3), dtype=np.float32)
        forces = np.empty_like(pos)
        edges = [0, *(np.flatnonzero(np.diff(ordered // self.block_frames)) + 1), len(ordered)]
        for first, last in itertools.pairwise(edges):
            start, stop = int(ordered[first]), int(ordered[last - 1]) + 1
            rows, targets = ordered[first:last] - start, order[first:last]
            pos[targets] = self.store.coordinates(start, stop)[rows]
            forces[targets] = self.store.forces(start, stop, self.force_map)[rows]
            progress(f"read {self.part} frames of {self.system}", last, len(ordered))
        tensors = FrameTensors(
            pos=torch.from_numpy(pos),
            forces=torch.from_numpy(forces),
            bead_types=self.bead_types,
            frame=torch.from_numpy(frames),
            trajectory=torch.from_numpy(np.searchsorted(self._stops, frames, side="right")),
        )
        if self.prior is not None:
            _subtract_prior(self.prior, tensors)
        return tensors


def _subtract_prior(parameters: PriorParameters, tensors: FrameTensors) -> None:
    """Replace forces by delta forces, in place.

    In float64, so that a delta force does not depend on the frames that are read with it.
    """
    prior = Prior(parameters, tensors.bead_types).to(torch.float64)
    n_beads = tensors.pos.shape[1]
    step = max(1, PAIRS_AT_ONCE // (n_beads * n_beads))
    with torch.no_grad():
        for start in range(0, len(tensors), step):
            pos = tensors.pos[start : start + step].to(torch.float64)
            _, forces = prior.energy_forces(pos)
            delta = tensors.forces[start : start + step].to(torch.float64) - forces
            tensors.forces[start : start + step] = delta.to(torch.float32)


def resolve_split(split: Split | Path | str, system: str, home: Path | None) -> Split:
    """Return a split given as such, as a file or by its id.

    Raises:
        UsageError: There is no such split.
    """
    if isinstance(split, Split):
        return split
    if isinstance(split, Path):
        return read_split(split)
    try:
        return read_split(find_split(system, split, home))
    except UsageError:
        if not split.endswith(".json"):
            # Names the splits there are, if this is none of them.
            registry.split(split)
        raise
