"""Files of coordinates in zarr v3: the store of reference data, and simulated trajectories."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgbench.store.arrays import Pipeline
from cgbench.store.cache import Cache
from cgbench.store.locate import (
    REFERENCE_VERSION,
    find_model,
    find_native,
    find_reference,
    find_split,
    find_store,
)
from cgbench.store.manifest import Manifest
from cgbench.store.quantise import choose_quantisation
from cgbench.store.reader import SystemStore, open_store
from cgbench.store.remote import RemoteFolder
from cgbench.store.schema import (
    FORCES_GROUP,
    INVALID_COUNT,
    SCHEMA_VERSION,
    BoolArray,
    CodecName,
    FloatArray,
    FrameBlock,
    FrameSource,
    IntArray,
    Layout,
    Quantisation,
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
    "FORCES_GROUP",
    "INVALID_COUNT",
    "REFERENCE_VERSION",
    "SCHEMA_VERSION",
    "BoolArray",
    "Cache",
    "CodecName",
    "FloatArray",
    "FrameBlock",
    "FrameSource",
    "IntArray",
    "Layout",
    "Manifest",
    "Pipeline",
    "Quantisation",
    "RemoteFolder",
    "SourceFile",
    "StoreMetadata",
    "SystemStore",
    "TrajectoryAttributes",
    "TrajectorySet",
    "TrajectoryWriter",
    "VerificationReport",
    "choose_quantisation",
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


def open(  # noqa: A001
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    cache: Cache | Path | bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> "xarray.Dataset":
    """Return the labelled xarray Dataset of a store: by its system's name, path or address.

    Arguments and errors are those of ``open_store``.
    """
    return open_store(name_or_path, home, cache=cache, storage_options=storage_options).dataset()
