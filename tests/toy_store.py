"""A small store with known frames, for tests of datasets and loaders."""

from pathlib import Path

import numpy as np

from cgbench import registry
from cgbench.splits import make_block_split, write_split
from cgbench.store import FrameBlock, StoreMetadata, open_store, write_store

BEAD_TYPES = np.array([4, 4, 5, 8, 6, 13], dtype=np.int64)
LENGTHS = np.array([700] * 9 + [123, 456, 81], dtype=np.int64)
INVALID = (0, 5, 700, 3333)


class ToySource:
    """Random chains whose frame can be told from their numbers."""

    force_maps = ("slice", "optimal")
    bead_types = BEAD_TYPES
    trajectory_lengths = LENGTHS
    n_beads = len(BEAD_TYPES)
    n_frames = int(LENGTHS.sum())

    def __init__(self) -> None:
        random = np.random.default_rng(11)
        shape = (self.n_frames, self.n_beads, 3)
        # A zigzag with bonds of 3.8 Å, shaken a little.
        line = np.stack([3.0 * np.arange(self.n_beads), 2.3 * (np.arange(self.n_beads) % 2)], 1)
        chain = np.pad(line, ((0, 0), (0, 1)))
        self.coordinates = (chain + random.normal(0, 0.2, shape)).astype(np.float32)
        self.forces = {
            name: random.normal(0, 20, shape).astype(np.float32) for name in self.force_maps
        }

    def read(self, start: int, stop: int) -> FrameBlock:
        valid = np.ones(stop - start, dtype=bool)
        valid[[frame - start for frame in INVALID if start <= frame < stop]] = False
        return FrameBlock(
            coordinates=self.coordinates[start:stop],
            forces={name: values[start:stop] for name, values in self.forces.items()},
            valid=valid,
        )


def metadata(system: str = "toy") -> StoreMetadata:
    return StoreMetadata(
        system=system,
        name="Toy",
        sequence="YYDPET",
        temperature=350.0,
        frame_interval=1.0,
        force_maps=ToySource.force_maps,
        default_force_map="optimal",
        force_map_consistent={"slice": "no", "optimal": "yes"},
        constraints=None,
        licence="MIT",
        trajectories_known=True,
        start_kind=None,
        sources=(),
    )


RULE = registry.SplitSettings.model_validate(
    {"unit": "block", "train": 0.6, "val": 0.1, "test": 0.3, "gap_frames": 4, "seed": 3}
)


def make_home(folder: Path, source: ToySource) -> Path:
    """Write the store ``toy`` and its block split into a data home."""
    write_store(folder / "store" / "toy.zarr", source, metadata())
    store = open_store("toy", folder)
    write_split(folder / "splits" / "toy" / "block-v1.json", make_block_split(store, RULE))
    return folder
