"""Coordinates and forces of one part of a system's split, as a PyG dataset."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, Dataset

from cgbench import registry
from cgbench.data.frames import FrameTensors
from cgbench.data.reading import COORDINATES, FrameReader, guard_fork
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import Prior, PriorParameters
from cgbench.progress import Progress, silent
from cgbench.splits import Split, check_store, read_split
from cgbench.store import SystemStore, find_split, open_store

#: Frames read at once when streaming: so many, or what fills up the store's last chunk of them.
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
    ``BlockShuffleLoader`` to stream data sets larger than memory. Files are opened by the process
    that reads them, so a dataset can be sent to workers (``forkserver`` or ``spawn``). In a worker
    that was forked, chunks of a local store are read as well, and so is memory; what needs zarr's
    threads there, which a fork does not copy, is refused instead of waiting for ever.

    Args:
        store: Name of a system with a local store, a store's folder, or an open store.
        part: Part of the split.
        split: Split id, split file, or a split.
        force_map: Name of the force map (default: the store's default).
        prior: Prior whose forces are subtracted.
        home: Data home to look names up in.
        direct: Whether chunks of a local store are decoded straight to where they are needed,
            which is faster; otherwise zarr reads them. The numbers are the same.

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
        direct: bool = True,
    ) -> None:
        super().__init__()
        guard_fork(f"dataset {store}")
        self.store = opened = store if isinstance(store, SystemStore) else open_store(store, home)
        self.system = opened.metadata.system
        self.part = part
        self.split = resolve_split(split, self.system, home)
        check_store(self.split, opened)
        self.force_map = opened.force_map(force_map)
        self.prior = prior
        self.bead_types = torch.as_tensor(np.asarray(opened.bead_types, dtype=np.int64))
        self._reader = FrameReader(opened, self.force_map, direct)
        chunk = opened.manifest.layout.chunk
        self.block_frames = chunk * -(-BLOCK_FRAMES // chunk)
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
        pos = np.empty((len(frames), self.n_beads, 3), dtype=np.float32)
        forces = np.empty_like(pos)
        self.read_into(positions, pos, forces, progress)
        return FrameTensors(
            pos=torch.from_numpy(pos),
            forces=torch.from_numpy(forces),
            bead_types=self.bead_types,
            frame=torch.from_numpy(frames),
            trajectory=torch.from_numpy(np.searchsorted(self._stops, frames, side="right")),
        )

    def stored_types(self) -> tuple[tuple[np.dtype[Any], float], tuple[np.dtype[Any], float]]:
        """Return type and scale of coordinates and forces as ``read_into`` gives them fastest.

        Quantised numbers stay integers, but for forces from which a prior is subtracted.
        """
        types = [(self._reader.dtype, self._reader.scale(name)) for name in self._reader.names]
        if self.prior is not None:
            types[1] = (np.dtype(np.float32), 1.0)
        return types[0], types[1]

    def read_into(
        self,
        positions: NDArray[np.int64],
        pos: NDArray[Any],
        forces: NDArray[Any],
        progress: Progress = silent,
    ) -> None:
        """Read frames in any order into arrays that are there.

        Args:
            positions: Which of the dataset's frames (n,), from 0 to its length.
            pos: Positions (n, n_beads, 3) to be written, float32 in Å or as ``stored_types`` says.
            forces: Forces (n, n_beads, 3) to be written, float32 in kcal/mol/Å or the same.
            progress: Told after every block.

        Raises:
            IntegrityError: The store is damaged.
        """
        frames = self.frames[positions]
        order: NDArray[np.int64] | None = None
        if (np.diff(frames) < 0).any():
            order = np.argsort(frames, kind="stable")
            frames = frames[order]
        if not len(frames):
            return
        edges = [0, *(np.flatnonzero(np.diff(frames // self.block_frames)) + 1), len(frames)]
        for first, last in itertools.pairwise(edges):
            targets = slice(first, last) if order is None else order[first:last]
            for name, out in zip(self._reader.names, (pos, forces), strict=True):
                self._read_frames(name, frames[first:last], out, targets)
            progress(f"read {self.part} frames of {self.system}", last, len(frames))
        if self.prior is not None:
            exact = pos
            if pos.dtype != np.float32:
                exact = np.empty(pos.shape, dtype=np.float32)
                self._reader.decode_into(COORDINATES, pos, exact)
            _subtract_prior(
                self.prior, self.bead_types, torch.from_numpy(exact), torch.from_numpy(forces)
            )

    def _read_frames(
        self,
        name: str,
        frames: NDArray[np.int64],
        out: NDArray[Any],
        targets: slice | NDArray[np.int64],
    ) -> None:
        """Read frames (n,), ascending and close together, to some rows of an array."""
        start, stop = int(frames[0]), int(frames[-1]) + 1
        if isinstance(targets, slice) and (np.diff(frames) == 1).all():
            self._reader.read_into(name, start, stop, out[targets])
            return
        values = self._reader.read(name, start, stop)[frames - start]
        if isinstance(targets, slice):
            self._reader.decode_into(name, values, out[targets])
        else:
            decoded = np.empty(values.shape, dtype=out.dtype)
            self._reader.decode_into(name, values, decoded)
            out[targets] = decoded


def _subtract_prior(
    parameters: PriorParameters, bead_types: Tensor, pos: Tensor, forces: Tensor
) -> None:
    """Replace forces by delta forces, in place.

    In float64, so that a delta force does not depend on the frames that are read with it.
    """
    prior = Prior(parameters, bead_types).to(torch.float64)
    n_beads = pos.shape[1]
    step = max(1, PAIRS_AT_ONCE // (n_beads * n_beads))
    with torch.no_grad():
        for start in range(0, len(pos), step):
            _, contribution = prior.energy_forces(pos[start : start + step].to(torch.float64))
            delta = forces[start : start + step].to(torch.float64) - contribution
            forces[start : start + step] = delta.to(torch.float32)


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
