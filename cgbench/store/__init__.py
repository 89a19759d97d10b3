"""Files of coordinates in zarr v3: the store of reference data, and simulated trajectories."""

from pathlib import Path
from typing import TYPE_CHECKING

from cgbench.store.locate import (
    find_model,
    find_native,
    find_reference,
    find_split,
    find_store,
)
from cgbench.store.manifest import Manifest
from cgbench.store.reader import SystemStore, open_store
from cgbench.store.schema import (
    SCHEMA_VERSION,
    BoolArray,
    FloatArray,
    FrameBlock,
    FrameSource,
    IntArray,
    Layout,
    SourceFile,
    StoreMetadata,
    chunk_frames,
)
from cgbench.store.trajectories import stored_systems, write_trajectories
from cgbench.store.trajectory_reader import read_trajectories
from cgbench.store.trajectory_schema import TrajectoryAttributes, TrajectorySet
from cgbench.store.trajectory_writer import TrajectoryWriter
from cgbench.store.verify import VerificationReport, verify_store
from cgbench.store.writer import write_store

if TYPE_CHECKING:
    import xarray

__all__ = [
    "SCHEMA_VERSION",
    "BoolArray",
    "FloatArray",
    "FrameBlock",
    "FrameSource",
    "IntArray",
    "Layout",
    "Manifest",
    "SourceFile",
    "StoreMetadata",
    "SystemStore",
    "TrajectoryAttributes",
    "TrajectorySet",
    "TrajectoryWriter",
    "VerificationReport",
    "chunk_frames",
    "find_model",
    "find_native",
    "find_reference",
    "find_split",
    "find_store",
    "open",
    "open_store",
    "read_trajectories",
    "stored_systems",
    "verify_store",
    "write_store",
    "write_trajectories",
]


def open(name_or_path: str | Path, home: Path | None = None) -> "xarray.Dataset":  # noqa: A001
    """Return the labelled xarray Dataset of a store, by its system's name or its path."""
    return open_store(name_or_path, home).dataset()
