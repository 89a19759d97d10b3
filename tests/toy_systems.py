"""Three small stores of different lengths and numbers of beads, for tests of mixed batches."""

from pathlib import Path

import numpy as np
from toy_store import RULE, ToySource, metadata

from cgbench.splits import make_block_split, write_split
from cgbench.store import FrameBlock, Layout, open_store, write_store

SYSTEMS = {"small": (3, 700), "middle": (5, 2500), "large": (6, 6960)}
LAYOUT = Layout(chunk=100, chunks_per_shard=8)


class PartSource(ToySource):
    """The first beads and frames of the toy store."""

    def __init__(self, n_beads: int, n_frames: int) -> None:
        super().__init__()
        self.coordinates = self.coordinates[:n_frames, :n_beads]
        self.forces = {key: value[:n_frames, :n_beads] for key, value in self.forces.items()}
        self.bead_types = self.bead_types[:n_beads]
        self.n_beads, self.n_frames = n_beads, n_frames
        ends = np.minimum(np.cumsum(ToySource.trajectory_lengths), n_frames)
        lengths = np.diff(ends, prepend=0)
        self.trajectory_lengths = lengths[lengths > 0]

    def read(self, start: int, stop: int) -> FrameBlock:
        block = super().read(start, stop)
        return FrameBlock(
            coordinates=np.ascontiguousarray(block.coordinates),
            forces={key: np.ascontiguousarray(value) for key, value in block.forces.items()},
            valid=block.valid,
        )


def make_systems(folder: Path) -> Path:
    """Write the stores and their splits into a data home."""
    for system, (n_beads, n_frames) in SYSTEMS.items():
        described = metadata(system).model_copy(update={"sequence": "YYDPET"[:n_beads]})
        path = folder / "store" / f"{system}.zarr"
        write_store(path, PartSource(n_beads, n_frames), described, layout=LAYOUT)
        split = make_block_split(open_store(path), RULE)
        write_split(folder / "splits" / system / "block-v1.json", split)
    return folder
