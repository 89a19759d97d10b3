"""What is to be written, and how it is known again: while unfinished, and when it is finished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgbench.config import fingerprint
from cgbench.errors import ValidationError
from cgbench.progress import Progress, silent
from cgbench.store.arrays import ZARR_METADATA
from cgbench.store.local import are_intact
from cgbench.store.manifest import Journal, Manifest, data_sha256
from cgbench.store.schema import (
    SCHEMA_VERSION,
    CodecName,
    FrameSource,
    Layout,
    StoreMetadata,
)
from cgbench.store.sources import RawFiles


@dataclass(frozen=True)
class WritePlan:
    """Everything that determines a store.

    Attributes:
        source: Where frames come from.
        metadata: What the store says about its system; its ``sources`` are filled in at the end
            where raw files are given.
        layout: Chunks and shards.
        codec: How bytes are compressed.
        raw: The raw files behind the source, or None.
        reading: How the raw files are read, where neither they nor the metadata tell it (units).
    """

    source: FrameSource
    metadata: StoreMetadata
    layout: Layout
    codec: CodecName = "zstd"
    raw: RawFiles | None = None
    reading: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        source: FrameSource,
        metadata: StoreMetadata,
        *,
        layout: Layout | None = None,
        codec: CodecName = "zstd",
        raw: RawFiles | None = None,
        reading: Mapping[str, Any] | None = None,
    ) -> "WritePlan":
        """Return the plan of a write, in the standard layout where none is given.

        Raises:
            ValidationError: Source and metadata disagree, or there is no frame.
        """
        _check(source, metadata)
        layout = layout or Layout.standard(source.n_frames, source.n_beads)
        return cls(source, metadata, layout, codec, raw, reading)

    def content(self, metadata: StoreMetadata | None = None) -> str:
        """Return the identity that the manifest keeps: the same with every codec and scheduler."""
        return fingerprint(self._content(metadata or self.metadata))

    def unfinished(self) -> str:
        """Return the identity that the journal keeps: a write goes on only with the same.

        Raw files count with what is known of them before they are read.
        """
        files = None if self.raw is None else [dict(file) for file in self.raw.identity()]
        return fingerprint({**self._content(self.metadata), "codec": self.codec, "raw": files})

    def _content(self, metadata: StoreMetadata) -> dict[str, Any]:
        lengths = self.source.trajectory_lengths
        content = {
            "schema": SCHEMA_VERSION,
            "metadata": metadata.model_dump(mode="json"),
            "layout": self.layout.model_dump(mode="json"),
            "n_frames": self.source.n_frames,
            "bead_types": self.source.bead_types.tolist(),
            "lengths": None if lengths is None else data_sha256(lengths.astype(np.int64)),
        }
        return content if self.reading is None else content | {"reading": dict(self.reading)}

    def is_finished(self, path: Path, manifest: Manifest, progress: Progress = silent) -> bool:
        """Return whether a finished store is what this plan would give, and undamaged.

        Files are hashed only where all else is equal, and raw files last.

        Raises:
            IntegrityError: A raw file changes meanwhile.
        """
        described = {name: record.sha256 for name, record in manifest.files.items()}
        if not are_intact(path, described) or stored_codec(path) != self.codec:
            return False
        shards = {shard.file: shard.file_sha256 for shard in manifest.shards}
        if self.raw is None:
            return self.content() == manifest.plan and are_intact(path, shards)
        told = manifest.metadata.sources
        known = [(file["role"], file["name"], file["size"]) for file in self.raw.identity()]
        if [(file.role, file.name, file.size) for file in told] != known:
            return False
        if self.content(self.metadata.model_copy(update={"sources": told})) != manifest.plan:
            return False
        if not are_intact(path, shards):
            return False
        self.raw.written(path, 1.0)
        return self.raw.hashed(path, progress) == told


def _check(source: FrameSource, metadata: StoreMetadata) -> None:
    what = f"frames of {metadata.system}"
    if source.n_frames < 1:
        raise ValidationError(what, expected="at least one frame", found=source.n_frames)
    if source.n_beads != len(metadata.sequence):
        raise ValidationError(
            f"{what}: wrong number of beads",
            expected=f"{len(metadata.sequence)} for the sequence {metadata.sequence}",
            found=source.n_beads,
        )
    if tuple(source.force_maps) != metadata.force_maps:
        raise ValidationError(
            f"{what}: force maps", expected=metadata.force_maps, found=tuple(source.force_maps)
        )
    if source.bead_types.shape != (source.n_beads,):
        raise ValidationError(
            f"{what}: bead types", expected=(source.n_beads,), found=source.bead_types.shape
        )
    lengths = source.trajectory_lengths
    if (lengths is not None) != metadata.trajectories_known:
        raise ValidationError(
            f"{what}: trajectory lengths",
            expected="given" if metadata.trajectories_known else "not given",
            found="not given" if lengths is None else "given",
        )
    if lengths is not None and (lengths.min() < 1 or lengths.sum() != source.n_frames):
        raise ValidationError(
            f"{what}: trajectory lengths",
            expected=f"positive numbers that sum to {source.n_frames}",
            found=f"smallest {lengths.min()}, sum {lengths.sum()}",
        )
    n_trajectories = 1 if lengths is None else len(lengths)
    if metadata.start_kind is not None and len(metadata.start_kind) != n_trajectories:
        raise ValidationError(
            f"{what}: start kinds", expected=n_trajectories, found=len(metadata.start_kind)
        )


def unfinished_plan(path: Path) -> str | None:
    """Return the identity of the write that a folder holds unfinished, or None."""
    contents = Journal(path).read()
    return None if contents is None else contents[0].plan


def stored_codec(path: Path) -> CodecName | None:
    """Return the codec of a store's coordinates, or None where it is none of ours."""
    data = json.loads((path / "coordinates" / ZARR_METADATA).read_bytes())
    for codec in data["codecs"][0]["configuration"]["codecs"]:
        if codec["name"] == "blosc":
            name = codec["configuration"]["cname"]
            return name if name in ("zstd", "lz4") else None
    return "none"
