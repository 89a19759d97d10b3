"""The zarr v3 store of reference data: format, writer, reader, verification."""

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

__all__ = [
    "SCHEMA_VERSION",
    "BoolArray",
    "FloatArray",
    "FrameBlock",
    "FrameSource",
    "IntArray",
    "Layout",
    "SourceFile",
    "StoreMetadata",
    "chunk_frames",
]
