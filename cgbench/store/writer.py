"""The one writer of stores: units in parallel, each verified; one journal, one manifest."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import zarr

from cgbench.config import file_sha256, write_atomic
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.progress import Progress, silent
from cgbench.store.arrays import ZARR_METADATA, consolidate, create_array, flush_to_disk
from cgbench.store.manifest import (
    ArrayRecord,
    FileRecord,
    Journal,
    JournalHeader,
    Manifest,
    UnitRecord,
    read_manifest,
)
from cgbench.store.plan import WritePlan, unfinished_plan
from cgbench.store.scheduling import Scheduler, run_units
from cgbench.store.schema import (
    BEAD_TYPE_SPEC,
    BYTES_PER_BEAD,
    FORCES_GROUP,
    JOURNAL_NAME,
    MANIFEST_NAME,
    CodecName,
    FrameSource,
    Layout,
    StoreMetadata,
    array_specs,
)
from cgbench.store.shard_file import sweep
from cgbench.store.shards import UnitWriter, write_shard
from cgbench.store.sources import RawFiles

#: What units that threads and processes have under way hold together at most: for each its arrays
#: and as much as one of them while it is read, encoded and read back in pieces.
MEMORY_BYTES: Final = 1_400_000_000
#: What each process holds besides, mostly code.
PROCESS_BYTES: Final = 200_000_000


def write_store(
    path: Path,
    source: FrameSource,
    metadata: StoreMetadata,
    *,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    codec: CodecName = "zstd",
    layout: Layout | None = None,
    raw: RawFiles | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write a store, or complete one whose writing was interrupted.

    The unit is one shard of every array: read from the source, written under a temporary name,
    synchronised, read back through the codec, compared, renamed, and recorded in a journal.
    Finished shards are not written again after an interruption. The manifest does not depend on
    scheduler, workers, order or interruptions. Memory is bounded by the units under way.

    Args:
        path: Folder of the store. It must not exist, or hold the same store unfinished. Workers of
            a cluster must see it under the same name.
        source: Where frames come from; picklable unless the scheduler is ``threads``.
        metadata: What the store says about its system.
        scheduler: ``threads``, ``processes``, ``tcp://host:port`` of a dask scheduler, or a
            ``distributed.Client``. Journal and manifest are always written by this process.
        workers: Units under way at a time, fewer where they would not fit in memory.
        codec: How bytes are compressed; what is read back is the same with each.
        layout: Chunk and shard sizes; the standard ones by default.
        raw: The raw files, where ``metadata.sources`` is to be filled in with their hashes.
        progress: Called after each shard with frames done and frames in all.

    Raises:
        UsageError: The folder holds something else, or the scheduler is unknown or not there.
        IntegrityError: A shard does not read back as it was written, or a raw file changed.
        ValidationError: The source disagrees with itself or the metadata, or no frame is valid.
        OSError: The disk is full; what is finished is kept.
    """
    plan = WritePlan.of(source, metadata, layout=layout, codec=codec, raw=raw)
    try:
        return carry_out(plan, path.absolute(), scheduler, workers, progress)
    finally:
        if raw is not None:
            raw.close()


def carry_out(
    plan: WritePlan, path: Path, scheduler: Scheduler, workers: int, progress: Progress
) -> Manifest:
    """Write what a plan says; see :func:`write_store`."""
    done = _prepare(path, plan)
    if done is None:
        return _finished(path, plan, progress)
    source = plan.source
    journal = Journal(path)
    units = plan.layout.shard_ranges(source.n_frames)
    missing = [index for index in range(len(units)) if index not in done]
    write = UnitWriter(path, source, plan.layout, plan.metadata.quantisation)
    frames = sum(unit.stop - unit.start for unit in done.values())
    progress("store", frames, source.n_frames)
    in_order = _tell(plan, path, done, 0)
    for unit in run_units(write, missing, scheduler, _under_way(plan, scheduler, workers)):
        _check_files(path, unit)
        journal.append(unit)
        done[unit.index] = unit
        in_order = _tell(plan, path, done, in_order)
        frames += unit.stop - unit.start
        progress("store", frames, source.n_frames)
    metadata = plan.metadata
    if plan.raw is not None:
        metadata = metadata.model_copy(update={"sources": plan.raw.hashed(path, progress)})
    return _finish(path, plan, metadata, [done[index] for index in sorted(done)])


def _under_way(plan: WritePlan, scheduler: Scheduler, workers: int) -> int:
    """Return how many units may be under way: as many as workers, if they fit in memory here."""
    if scheduler not in ("threads", "processes"):
        return workers
    source = plan.source
    array = min(plan.layout.shard, source.n_frames) * source.n_beads * BYTES_PER_BEAD
    each = array * (2 + len(source.force_maps)) + PROCESS_BYTES * (scheduler == "processes")
    return max(1, min(workers, MEMORY_BYTES // each))


def _tell(plan: WritePlan, path: Path, done: dict[int, UnitRecord], in_order: int) -> int:
    """Tell who hashes the raw files how far frames are written without a hole; return the unit."""
    while in_order in done:
        in_order += 1
    if plan.raw is not None and in_order:
        plan.raw.written(path, done[in_order - 1].stop / plan.source.n_frames)
    return in_order


def _check_files(path: Path, unit: UnitRecord) -> None:
    """Check that a worker's files are where this process sees them."""
    for shard in unit.shards:
        if not (path / shard.file).is_file():
            raise IntegrityError(
                f"{path / shard.file}: was written by a worker, and is not here",
                fix="put the store on a file system that every worker sees under the same path",
            )


def _prepare(path: Path, plan: WritePlan) -> dict[int, UnitRecord] | None:
    """Create or reopen the store; return its finished units, or None if all of it is finished."""
    if (path / MANIFEST_NAME).exists():
        return None
    identity = plan.unfinished()
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
        journal.start(
            JournalHeader(
                plan=identity,
                n_units=len(plan.layout.shard_ranges(plan.source.n_frames)),
                n_frames=plan.source.n_frames,
                shard=plan.layout.shard,
            )
        )
        done: dict[int, UnitRecord] = {}
    else:
        header, done = contents
        if header.plan != identity:
            raise UsageError(
                f"{path}: holds another store, unfinished",
                fix=f"remove {path}, or finish it with the same input and settings",
            )
        journal.restart()
        # What a run that was killed left behind would take room again and again.
        sweep(path)
    _create_arrays(path, plan)
    return _intact_units(path, done)


def _foreign(path: Path) -> list[Path]:
    """Return what a crash of ours at the very beginning cannot have left behind."""
    return [entry for entry in path.iterdir() if not entry.name.startswith(f".{JOURNAL_NAME}.")]


def _create_arrays(path: Path, plan: WritePlan) -> None:
    source, layout = plan.source, plan.layout
    # Metadata files appear whole (zarr renames them into place), so each is there or to be made.
    if (path / ZARR_METADATA).exists():
        root = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
    else:
        root = zarr.create_group(path, zarr_format=3)
    if source.force_maps and not (path / FORCES_GROUP / ZARR_METADATA).exists():
        root.create_group(FORCES_GROUP)
    tails = {"frame": 0, "bead": source.n_beads, "xyz": 3}
    for spec in array_specs(source.force_maps, plan.metadata.quantisation):
        if not (path / spec.name / ZARR_METADATA).exists():
            tail = [tails[name] for name in spec.dims[1:]]
            create_array(
                root,
                spec,
                [source.n_frames, *tail],
                [layout.chunk, *tail],
                [layout.shard, *tail],
                codec=plan.codec,
            )
    if not (path / BEAD_TYPE_SPEC.name / ZARR_METADATA).exists():
        create_array(root, BEAD_TYPE_SPEC, [source.n_beads], [source.n_beads], codec=plan.codec)


def _intact_units(path: Path, units: dict[int, UnitRecord]) -> dict[int, UnitRecord]:
    """Return the finished units whose files still are what the journal says."""

    def intact(unit: UnitRecord) -> bool:
        return all(
            (path / shard.file).is_file() and file_sha256(path / shard.file) == shard.file_sha256
            for shard in unit.shards
        )

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        sound = list(pool.map(intact, units.values()))
    return {index: unit for (index, unit), good in zip(units.items(), sound, strict=True) if good}


def _raw_files(metadata: StoreMetadata) -> str:
    """Return the names of the raw files that a store is made from, for messages."""
    return ", ".join(file.name for file in metadata.sources)


def _finish(
    path: Path, plan: WritePlan, metadata: StoreMetadata, units: list[UnitRecord]
) -> Manifest:
    source = plan.source
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
    bead_record = write_shard(path, BEAD_TYPE_SPEC.name, 0, 0, source.n_beads, bead_types)
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs.put(metadata.attributes())
    consolidate(path)
    sweep(path)
    specs = (BEAD_TYPE_SPEC, *array_specs(source.force_maps, metadata.quantisation))
    tails = {"bead": source.n_beads, "xyz": 3, "frame": source.n_frames}
    lengths = source.trajectory_lengths
    manifest = Manifest(
        fingerprint="",
        plan=plan.content(metadata),
        metadata=metadata,
        n_frames=source.n_frames,
        n_beads=source.n_beads,
        n_trajectories=1 if lengths is None else len(lengths),
        n_valid=n_valid,
        screening=dict(sorted(screening.items())),
        layout=plan.layout,
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
    _flush_folders(path)
    write_atomic(path / MANIFEST_NAME, manifest.text())
    Journal(path).path.unlink()
    return manifest


def _flush_folders(path: Path) -> None:
    """Wait until the names of all files are on disk, as their contents are already."""
    for folder in (path, *(entry for entry in path.rglob("*") if entry.is_dir())):
        flush_to_disk(folder)


def _finished(path: Path, plan: WritePlan, progress: Progress) -> Manifest:
    """Return the manifest of a store that is finished, if it is the one that was asked for."""
    manifest = read_manifest(path)
    journal = Journal(path)
    # There still is a journal if the writer was stopped between the two.
    same = unfinished_plan(path) == plan.unfinished()
    if not same and not plan.is_finished(path, manifest, progress):
        raise UsageError(
            f"{path}: a finished store with other content is there already",
            found=manifest.fingerprint,
            fix=f"remove {path} to write it anew",
        )
    journal.path.unlink(missing_ok=True)
    return manifest


def remove_store(path: Path) -> None:
    """Remove a store, finished or not; anything else is refused.

    Raises:
        UsageError: The folder holds neither a manifest nor a journal of this format.
    """
    if not path.exists():
        return
    check_replaceable(path)
    for entry in path.iterdir():
        # Whoever is killed meanwhile leaves what is still known for a store.
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
    shutil.rmtree(path)


def check_replaceable(path: Path) -> None:
    """Check that a path is free, or holds a store, finished or not.

    Raises:
        UsageError: Something else is there.
    """
    if not path.exists() or (path / MANIFEST_NAME).is_file() or (path / JOURNAL_NAME).is_file():
        return
    # The beginning of a store that was cut off has no content yet.
    if not path.is_dir() or _foreign(path):
        raise UsageError(
            f"{path}: is no store, and is neither replaced nor removed",
            expected="a store, or a folder that does not exist",
            fix="give another path, or move it away",
        )
