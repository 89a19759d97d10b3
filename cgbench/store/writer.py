"""The one writer of stores: a shard at a time, each read back, hashed and journaled."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cgbench.config import file_sha256, fingerprint, write_atomic
from cgbench.errors import UsageError, ValidationError
from cgbench.progress import Progress, silent
from cgbench.store.arrays import ZARR_METADATA, consolidate, create_array, open_array
from cgbench.store.manifest import (
    ArrayRecord,
    FileRecord,
    Journal,
    JournalHeader,
    Manifest,
    UnitRecord,
    data_sha256,
    read_manifest,
)
from cgbench.store.schema import (
    BEAD_TYPE_SPEC,
    FORCES_GROUP,
    JOURNAL_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    FrameSource,
    IntArray,
    Layout,
    StoreMetadata,
    array_specs,
)
from cgbench.store.shards import read_unit, record_shard, write_shard


def write_store(
    path: Path,
    source: FrameSource,
    metadata: StoreMetadata,
    *,
    workers: int = 1,
    layout: Layout | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write a store, or complete one whose writing was interrupted.

    The unit is one shard of every array: read from the source, written, read back from disk
    through the codec, compared, and recorded in a journal. Finished shards are not written again
    after an interruption. The manifest does not depend on workers or interruptions. Memory is
    bounded by one shard of each array.

    Args:
        path: Folder of the store. It must not exist, or hold the same store unfinished.
        source: Where frames come from.
        metadata: What the store says about its system.
        workers: Threads that read and screen the source. There is always one writer.
        layout: Chunk and shard sizes; the standard ones by default.
        progress: Called after each shard with frames done and frames in all.

    Raises:
        UsageError: The folder holds something else.
        IntegrityError: A shard does not read back as it was written.
        ValidationError: The source disagrees with itself or the metadata, or no frame is valid.
    """
    _check_source(source, metadata)
    layout = layout or Layout.standard(source.n_frames, source.n_beads)
    plan = plan_fingerprint(source, metadata, layout)
    done = _prepare(path, source, metadata, layout, plan)
    if done is None:
        return _finished(path, plan)
    journal = Journal(path)
    trajectory, frame_in_trajectory = _trajectory_index(source)
    arrays = {
        spec.name: open_array(path / spec.name, "r+") for spec in array_specs(source.force_maps)
    }
    for index, (start, stop) in enumerate(layout.shard_ranges(source.n_frames)):
        if index not in done:
            values, counts = read_unit(source, start, stop, layout.chunk, workers)
            values["trajectory"] = trajectory[start:stop]
            values["frame_in_trajectory"] = frame_in_trajectory[start:stop]
            shards = tuple(
                write_shard(path, arrays[name], name, index, start, stop, values[name])
                for name in arrays
            )
            done[index] = UnitRecord(
                index=index,
                start=start,
                stop=stop,
                n_valid=int(values["valid"].sum()),
                screening=counts,
                shards=shards,
            )
            journal.append(done[index])
        progress("store", stop, source.n_frames)
    return _finish(path, source, metadata, layout, plan, [done[index] for index in sorted(done)])


def _check_source(source: FrameSource, metadata: StoreMetadata) -> None:
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


def plan_fingerprint(
    source: FrameSource, metadata: StoreMetadata, layout: Layout | None = None
) -> str:
    """Return the identity of what is to be written: an interrupted write goes on only with it."""
    layout = layout or Layout.standard(source.n_frames, source.n_beads)
    lengths = source.trajectory_lengths
    return fingerprint(
        {
            "schema": SCHEMA_VERSION,
            "metadata": metadata.model_dump(mode="json"),
            "layout": layout.model_dump(mode="json"),
            "n_frames": source.n_frames,
            "bead_types": source.bead_types.tolist(),
            "lengths": None if lengths is None else data_sha256(lengths.astype(np.int64)),
        }
    )


def unfinished_plan(path: Path) -> str | None:
    """Return the identity of the store that a folder holds unfinished, or None."""
    contents = Journal(path).read()
    return None if contents is None else contents[0].plan


def _prepare(
    path: Path, source: FrameSource, metadata: StoreMetadata, layout: Layout, plan: str
) -> dict[int, UnitRecord] | None:
    """Create or reopen the store; return its finished units, or None if all of it is finished."""
    if (path / MANIFEST_NAME).exists():
        return None
    journal = Journal(path)
    contents = journal.read()
    if contents is None:
        if path.exists() and any(_foreign(path)):
            raise UsageError(
                f"{path}: is no store, and is not overwritten",
                found=", ".join(sorted(entry.name for entry in _foreign(path))[:5]),
                fix="give a folder that does not exist",
            )
        path.mkdir(parents=True, exist_ok=True)
        units = layout.shard_ranges(source.n_frames)
        journal.start(
            JournalHeader(
                plan=plan, n_units=len(units), n_frames=source.n_frames, shard=layout.shard
            )
        )
        done: dict[int, UnitRecord] = {}
    else:
        header, done = contents
        if header.plan != plan:
            raise UsageError(
                f"{path}: holds another store, unfinished",
                fix=f"remove {path}, or finish it with the same input and settings",
            )
        journal.restart()
    _create_arrays(path, source, metadata, layout)
    return {index: unit for index, unit in done.items() if _intact(path, unit)}


def _foreign(path: Path) -> list[Path]:
    """Return what a crash of ours at the very beginning cannot have left behind."""
    return [entry for entry in path.iterdir() if not entry.name.startswith(f".{JOURNAL_NAME}.")]


def _create_arrays(
    path: Path, source: FrameSource, metadata: StoreMetadata, layout: Layout
) -> None:
    # Metadata files appear whole (zarr renames them into place), so each is there or to be made.
    if (path / ZARR_METADATA).exists():
        root = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
    else:
        root = zarr.create_group(path, zarr_format=3, attributes=metadata.attributes())
    if source.force_maps and not (path / FORCES_GROUP / ZARR_METADATA).exists():
        root.create_group(FORCES_GROUP)
    tails = {"frame": 0, "bead": source.n_beads, "xyz": 3}
    for spec in array_specs(source.force_maps):
        if not (path / spec.name / ZARR_METADATA).exists():
            tail = [tails[name] for name in spec.dims[1:]]
            create_array(
                root,
                spec,
                [source.n_frames, *tail],
                [layout.chunk, *tail],
                [layout.shard, *tail],
            )
    if not (path / BEAD_TYPE_SPEC.name / ZARR_METADATA).exists():
        create_array(root, BEAD_TYPE_SPEC, [source.n_beads], [source.n_beads])


def _intact(path: Path, unit: UnitRecord) -> bool:
    return all(
        (path / shard.file).is_file() and file_sha256(path / shard.file) == shard.file_sha256
        for shard in unit.shards
    )


def _trajectory_index(source: FrameSource) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    lengths = source.trajectory_lengths
    if lengths is None:
        lengths = np.array([source.n_frames], dtype=np.int64)
    starts: IntArray = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    within = np.arange(source.n_frames, dtype=np.int64) - np.repeat(starts, lengths)
    return numbers, within.astype(np.int32)


def _raw_files(metadata: StoreMetadata) -> str:
    """Return the names of the raw files that a store is made from, for messages."""
    return ", ".join(file.name for file in metadata.sources)


def _finish(
    path: Path,
    source: FrameSource,
    metadata: StoreMetadata,
    layout: Layout,
    plan: str,
    units: list[UnitRecord],
) -> Manifest:
    n_valid = sum(unit.n_valid for unit in units)
    screening: dict[str, int] = {}
    for unit in units:
        for reason, number in unit.screening.items():
            screening[reason] = screening.get(reason, 0) + number
    if n_valid == 0:
        raise ValidationError(
            f"{_raw_files(metadata) or path}: no frame passed screening",
            expected=f"some of {source.n_frames} frames to be sound",
            found=", ".join(f"{number} {reason}" for reason, number in screening.items()),
            fix="check units (Å, kcal/mol/Å), bead order and the raw files",
        )
    bead_types = source.bead_types.astype(np.int64)
    array = open_array(path / BEAD_TYPE_SPEC.name, "r+")
    array[:] = bead_types
    bead_record = record_shard(
        path, BEAD_TYPE_SPEC.name, f"{BEAD_TYPE_SPEC.name}/c/0", 0, 0, source.n_beads, bead_types
    )
    consolidate(path)
    _sweep(path)
    specs = (BEAD_TYPE_SPEC, *array_specs(source.force_maps))
    tails = {"bead": source.n_beads, "xyz": 3, "frame": source.n_frames}
    lengths = source.trajectory_lengths
    manifest = Manifest(
        fingerprint="",
        plan=plan,
        metadata=metadata,
        n_frames=source.n_frames,
        n_beads=source.n_beads,
        n_trajectories=1 if lengths is None else len(lengths),
        n_valid=n_valid,
        screening=dict(sorted(screening.items())),
        layout=layout,
        arrays=tuple(
            ArrayRecord(
                name=spec.name, dtype=spec.dtype, shape=tuple(tails[dim] for dim in spec.dims)
            )
            for spec in specs
        ),
        shards=(bead_record, *(shard for unit in units for shard in unit.shards)),
        files={
            file.relative_to(path).as_posix(): FileRecord(
                size=file.stat().st_size, sha256=file_sha256(file)
            )
            for file in sorted(path.rglob(ZARR_METADATA))
        },
    )
    manifest = manifest.model_copy(update={"fingerprint": manifest.content_fingerprint()})
    write_atomic(path / MANIFEST_NAME, manifest.text())
    Journal(path).path.unlink()
    return manifest


def _sweep(path: Path) -> None:
    """Remove what writes that were cut off left behind (zarr and we name these alike)."""
    for file in path.rglob("*.partial"):
        if file.is_file():
            file.unlink()


def _finished(path: Path, plan: str) -> Manifest:
    """Return the manifest of a store that is finished, if it is the one that was asked for."""
    manifest = read_manifest(path)
    if manifest.plan != plan:
        raise UsageError(
            f"{path}: a finished store with other content is there already",
            found=manifest.fingerprint,
            fix=f"remove {path} to write it anew",
        )
    # There still is a journal if the writer was stopped between the two.
    Journal(path).path.unlink(missing_ok=True)
    return manifest


def remove_store(path: Path) -> None:
    """Remove a store, finished or not; anything else is refused.

    Raises:
        UsageError: The folder holds neither a manifest nor a journal of this format.
    """
    if not path.exists():
        return
    if not (path / MANIFEST_NAME).is_file() and not (path / JOURNAL_NAME).is_file():
        raise UsageError(f"{path}: is no store, and is not removed")
    shutil.rmtree(path)
