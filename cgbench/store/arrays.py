"""The few zarr calls that every file of this project shares: creation, codecs, consolidation."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from cgbench.config import write_atomic
from cgbench.store.schema import ArraySpec

ZARR_METADATA = "zarr.json"


def compressors() -> tuple[BloscCodec, Crc32cCodec]:
    """Return the codecs of every array: byte shuffle, zstd, and a checksum of each chunk.

    Lossless. The checksum makes a reader fail on a damaged chunk instead of returning numbers.
    """
    return BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()


def create_array(
    group: zarr.Group,
    spec: ArraySpec,
    shape: Sequence[int],
    chunk: Sequence[int],
    shard: Sequence[int] | None = None,
    separator: Literal["/", "."] = "/",
) -> None:
    """Create an array with dimension names and the codecs of this project."""
    group.create_array(
        spec.name,
        shape=tuple(shape),
        dtype=spec.dtype,
        chunks=tuple(max(1, length) for length in chunk),
        shards=None if shard is None else tuple(max(1, length) for length in shard),
        compressors=compressors(),
        fill_value=np.dtype(spec.dtype).type(spec.fill),
        dimension_names=spec.dims,
        chunk_key_encoding={"name": "default", "separator": separator},
        attributes=dict(spec.attributes),
    )


def open_array(path: Path, mode: Literal["r", "r+"] = "r") -> Any:
    """Open one array afresh, to read or to write.

    Chunks full of the fill value are written too: one that zarr leaves out cannot be told from a
    lost one.
    """
    array = zarr.open_array(path, mode=mode, zarr_format=3)
    return array.with_config({"write_empty_chunks": True}) if mode == "r+" else array


def consolidate(path: Path, group: str | None = None) -> None:
    """Write all metadata below a group into its ``zarr.json``, so that opening costs one read."""
    with warnings.catch_warnings():
        # The version 3 specification does not list them yet; zarr and xarray use them.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        # Manifests and journals lie beside the arrays.
        warnings.filterwarnings("ignore", message="Object at .* is not recognized")
        zarr.consolidate_metadata(path, path=group, zarr_format=3)


def write_attributes(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Merge attributes into a group's ``zarr.json`` atomically, dropping consolidated metadata."""
    path = folder / ZARR_METADATA
    data = json.loads(path.read_text(encoding="utf-8"))
    data.setdefault("attributes", {}).update(attributes)
    data.pop("consolidated_metadata", None)
    write_atomic(path, json.dumps(data, indent=2))


def flush_to_disk(path: Path) -> None:
    """Wait until a file that was written through another handle is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
