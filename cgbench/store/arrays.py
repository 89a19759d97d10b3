"""The few zarr calls that every file of this project shares: creation, codecs, consolidation."""

import importlib.util
import json
import os
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec

from cgbench.config import write_atomic
from cgbench.errors import UsageError
from cgbench.store.schema import ArraySpec, CodecName

ZARR_METADATA = "zarr.json"

#: Which code decodes chunks: ``zarrs`` (compiled, extra ``fast``), ``python`` (zarr-python), or
#: ``auto``: zarrs where it is installed and ``CGBENCH_ZARRS`` is not ``0``.
Pipeline = Literal["auto", "zarrs", "python"]
ZARRS_VARIABLE: Final = "CGBENCH_ZARRS"

_PIPELINES: Final = {
    "zarrs": "zarrs.ZarrsCodecPipeline",
    "python": "zarr.core.codec_pipeline.BatchedCodecPipeline",
}


def compressors(codec: CodecName = "zstd") -> tuple[BytesBytesCodec, ...]:
    """Return the codecs of an array's bytes: a lossless compressor and a checksum of each chunk.

    ``zstd`` shuffles bytes and is the smallest, ``lz4`` shuffles bits and decodes fastest where
    numbers are integers, ``none`` leaves the bytes alone. The checksum makes a reader fail on a
    damaged chunk instead of returning numbers.
    """
    if codec == "none":
        return (Crc32cCodec(),)
    shuffle: Literal["shuffle", "bitshuffle"] = "shuffle" if codec == "zstd" else "bitshuffle"
    return BloscCodec(cname=codec, clevel=5, shuffle=shuffle), Crc32cCodec()


def create_array(
    group: zarr.Group,
    spec: ArraySpec,
    shape: Sequence[int],
    chunk: Sequence[int],
    shard: Sequence[int] | None = None,
    separator: Literal["/", "."] = "/",
    codec: CodecName = "zstd",
) -> None:
    """Create an array with dimension names and the codecs of this project."""
    group.create_array(
        spec.name,
        shape=tuple(shape),
        dtype=spec.dtype,
        chunks=tuple(max(1, length) for length in chunk),
        shards=None if shard is None else tuple(max(1, length) for length in shard),
        compressors=compressors(codec),
        fill_value=np.dtype(spec.dtype).type(spec.fill),
        dimension_names=spec.dims,
        chunk_key_encoding={"name": "default", "separator": separator},
        attributes=dict(spec.attributes),
    )


class _Opening:
    """What opening arrays has to agree on within a process."""

    def __init__(self) -> None:
        # zarr takes the pipeline from its one configuration when an array is opened.
        self.lock = threading.Lock()
        self.zarrs_process: int | None = None

    def after_fork(self) -> None:
        # The lock may have been held by a thread that the child does not have.
        self.lock = threading.Lock()


_opening: Final = _Opening()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_opening.after_fork)


def choose_pipeline(pipeline: Pipeline = "auto") -> Literal["zarrs", "python"]:
    """Return the pipeline that reads local arrays.

    A process that was forked after zarrs had been used gets zarr-python: the threads of zarrs are
    not forked along, and it would wait for them for ever.

    Raises:
        UsageError: zarrs is asked for and not installed.
    """
    if pipeline == "python":
        return "python"
    installed = importlib.util.find_spec("zarrs") is not None
    if pipeline == "zarrs":
        if not installed:
            raise UsageError(
                "zarrs is not installed", fix="pip install 'cgbench[fast]', or pipeline='python'"
            )
    elif not installed or os.environ.get(ZARRS_VARIABLE) == "0":
        return "python"
    return "zarrs" if _opening.zarrs_process in (None, os.getpid()) else "python"


def open_array(
    place: Path | Store,
    mode: Literal["r", "r+"] = "r",
    *,
    name: str = "",
    pipeline: Pipeline = "python",
) -> Any:
    """Open one array afresh, to read or to write.

    Chunks full of the fill value are written too: one that zarr leaves out cannot be told from a
    lost one.

    Args:
        place: The array's folder, or a zarr store.
        mode: ``r`` to read, ``r+`` to write.
        name: Path of the array within a zarr store.
        pipeline: What decodes chunks. zarr-python writes, and reads back what was written.
    """
    local = isinstance(place, Path) and mode == "r"
    chosen = choose_pipeline(pipeline) if local else "python"
    if chosen == "zarrs":
        _opening.zarrs_process = os.getpid()
    with _opening.lock, zarr.config.set({"codec_pipeline.path": _PIPELINES[chosen]}):
        array = zarr.open_array(place, path=name, mode=mode, zarr_format=3)
    return array.with_config({"write_empty_chunks": True}) if mode == "r+" else array


def joined(
    start: int, stop: int, parts: Iterable[tuple[int, np.ndarray[Any, Any]]]
) -> np.ndarray[Any, Any]:
    """Return consecutive parts of a frame range as one array; only one of them is held besides."""
    whole: np.ndarray[Any, Any] | None = None
    for begin, values in parts:
        if len(values) == stop - start:
            return values
        if whole is None:
            whole = np.empty((stop - start, *values.shape[1:]), values.dtype)
        whole[begin - start : begin - start + len(values)] = values
    if whole is None:
        raise ValueError(f"no frames from {start} to {stop}")
    return whole


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
