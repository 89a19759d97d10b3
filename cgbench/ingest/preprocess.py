"""From raw files to a finished store, leaving an earlier store alone until the new one is whole."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.ingest.hashing import HashedWhileWriting
from cgbench.ingest.npy import NpySource
from cgbench.progress import Progress, silent
from cgbench.registry import System
from cgbench.store.manifest import Manifest, read_manifest
from cgbench.store.plan import WritePlan, unfinished_plan
from cgbench.store.quantise import choose_quantisation
from cgbench.store.scheduling import Scheduler
from cgbench.store.schema import MANIFEST_NAME, CodecName, FrameSource, StoreMetadata
from cgbench.store.sources import RawFiles
from cgbench.store.writer import carry_out, check_replaceable, remove_store

Precision = Literal["float32", "int16"]


class WriteOptions(TypedDict, total=False):
    """How a store is written; nothing of it changes what is read back but the precision.

    ``scheduler`` (threads, processes, the address of a dask scheduler or a client), ``workers``,
    ``codec``, ``precision`` and ``progress``.
    """

    scheduler: Scheduler
    workers: int
    codec: CodecName
    precision: Precision
    progress: Progress


def check_against_registry(
    system: System, source: FrameSource, origins: Mapping[str, object] | None = None
) -> None:
    """Check that raw data are of the protein that the registry describes.

    Args:
        system: The registry's entry.
        source: Where frames come from.
        origins: By role (``coordinates``, ``bead_types``, ``forces/<map>``) what errors name.

    Raises:
        ValidationError: The number of beads or a bead type differs, or a force map has a name
            that the registry does not know.
    """
    named: Mapping[str, object] = origins or {}
    if source.n_beads != system.n_beads:
        raise ValidationError(
            f"{named.get('coordinates', 'coordinates')}: wrong number of beads for {system.key}",
            expected=f"{system.n_beads} ({system.sequence})",
            found=source.n_beads,
        )
    unknown = [name for name in source.force_maps if name not in system.force_maps]
    if unknown:
        role = f"forces/{unknown[0]}"
        raise ValidationError(
            f"{named.get(role, role)}: unknown force map for {system.key}",
            expected=" or ".join(system.force_maps),
            found=unknown[0],
        )
    different = np.flatnonzero(source.bead_types != np.asarray(system.bead_types))
    if len(different):
        bead = int(different[0])
        raise ValidationError(
            f"{named.get('bead_types', 'bead types')}: bead types do not match the sequence of "
            f"{system.key}",
            expected=f"type {system.bead_types[bead]} ({system.sequence[bead]}) at bead {bead}",
            found=f"type {source.bead_types[bead]}; {len(different)} beads differ",
        )


def system_metadata(system: System, source: FrameSource, **changes: Any) -> StoreMetadata:
    """Return what the registry says about a system, for a store of its frames.

    The registry's default force map is the store's default too, if it is there, else the source's
    first. The registry's frame interval is taken over only where the trajectories are known.

    Args:
        system: The registry's entry.
        source: Where frames come from.
        changes: Fields of the metadata that the raw data say better.
    """
    maps = source.force_maps
    default = system.default_force_map if system.default_force_map in maps else None
    known = source.trajectory_lengths is not None
    fields = {
        "system": system.key,
        "name": system.name,
        "sequence": system.sequence,
        "temperature": system.temperature,
        # Without trajectories nothing can have verified it: the publishers also used every tenth
        # frame, so the interval that they state is a claim.
        "frame_interval": system.frame_interval if known else None,
        "force_maps": maps,
        "default_force_map": default or next(iter(maps), None),
        "force_map_consistent": {
            name: system.force_map_consistent.get(name, "unknown") for name in maps
        },
        "constraints": system.constraints,
        "licence": system.licence,
        "trajectories_known": known,
        "start_kind": None,
        "sources": (),
        "description": system.description if known else unverified(system),
    }
    return StoreMetadata.model_validate(fields | changes)


def unverified(system: System) -> str:
    """Return a description for frames of which nobody knows where trajectories begin."""
    told = [] if system.description is None else [system.description]
    told.append("Where trajectories begin is not known: frames have no time order.")
    if system.frame_interval is not None:
        told.append(
            f"That frames are {system.frame_interval:g} ps apart is the publisher's statement, and "
            "is not verified."
        )
    told.append(
        f"Reference trajectories tell both: cgbench download {system.key} --kind reference, then "
        f"cgbench preprocess {system.key} --boundaries FOLDER."
    )
    return " ".join(told)


def preprocess_source(
    source: FrameSource,
    metadata: StoreMetadata,
    out: Path,
    *,
    raw: RawFiles | None = None,
    reading: Mapping[str, Any] | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    codec: CodecName = "zstd",
    precision: Precision = "float32",
    progress: Progress = silent,
) -> Manifest:
    """Make a store from any source of frames.

    The store is built in ``<out>.partial`` and takes the place of ``out`` when it is finished and
    verified, so that an earlier store survives bad input. An interrupted run goes on where it
    stopped; a store that was made from the same files in the same way is returned as it is.

    Args:
        source: Where frames come from; picklable, and safe in threads.
        metadata: What the store says about its system.
        out: Folder of the store.
        raw: The raw files, whose hashes become ``metadata.sources``.
        reading: How they are read, where neither they nor the metadata tell it (units): a store
            that was read otherwise is another one.
        scheduler: As for :func:`cgbench.store.write_store`.
        workers: Shards under way at a time.
        codec: How bytes are compressed.
        precision: ``float32`` keeps every bit; ``int16`` chooses scales in a first pass over the
            frames.
        progress: Called with frames done.

    Raises:
        ValidationError: Source and metadata disagree, no frame passes screening, or 16 bits are
            too few.
        IntegrityError: A shard does not read back as written, or a raw file changes meanwhile.
        UsageError: The scheduler is unknown or not there, another process makes the same store, or
            something else is in its place.
        OSError: The disk is full; what is finished is kept, and the next run goes on.
    """
    try:
        with _alone(out):
            _recover(out)
            if precision == "int16":
                quantisation = choose_quantisation(source, progress=progress)
                metadata = metadata.model_copy(update={"quantisation": quantisation})
            plan = WritePlan.of(source, metadata, codec=codec, raw=raw, reading=reading)
            return _replace(plan, out, scheduler, workers, progress)
    finally:
        if raw is not None:
            raw.close()


def _replace(
    plan: WritePlan, out: Path, scheduler: Scheduler, workers: int, progress: Progress
) -> Manifest:
    """Write a store beside the earlier one, which it then replaces."""
    partial = out.with_name(f"{out.name}.partial")
    previous = _previous(out)
    if unfinished_plan(partial) != plan.unfinished():
        if (manifest := _finished(plan, out, progress)) is not None:
            return manifest
        if _finished(plan, partial, progress) is None:
            remove_store(partial)
    try:
        manifest = carry_out(plan, partial.absolute(), scheduler, workers, progress)
    except ValidationError:
        # The input is bad and will not get better: nothing to continue from.
        remove_store(partial)
        raise
    if out.exists():
        out.rename(previous)
    partial.rename(out)
    remove_store(previous)
    return manifest


def preprocess_npy(
    system: System,
    source: NpySource,
    out: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    **options: Unpack[WriteOptions],
) -> Manifest:
    """Make the store of a system from an ``.npy`` set.

    Args:
        system: The registry's entry.
        source: The raw files. Its force maps are among the registry's.
        out: Folder of the store.
        changes: Fields of the metadata that the raw data say better than the registry.
        options: As for :func:`preprocess_source`.

    Raises:
        CgbenchError: As :func:`preprocess_source`, and where the data are not of this system.
    """
    recover(out)
    check_against_registry(system, source, source.files)
    return preprocess_source(
        source,
        system_metadata(system, source, **(changes or {})),
        out,
        raw=HashedWhileWriting.of_paths(source.files),
        **options,
    )


def recover(out: Path) -> None:
    """Put an earlier store back whose replacement stopped between its two renames.

    One that was being removed after them is removed.

    Raises:
        UsageError: Something that is no store is where the store is to be, or another process
            makes it.
    """
    if out.exists() or _previous(out).exists():
        with _alone(out):
            _recover(out)


def _recover(out: Path) -> None:
    check_replaceable(out)
    if not out.exists() and _previous(out).exists():
        _previous(out).rename(out)
    remove_store(_previous(out))


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of a store: two runs would take each other's temporary files away.

    The operating system releases it when the process ends, however it ends.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not os.path.samestat(os.fstat(descriptor), path.stat())
        except OSError as error:
            # File systems without locks are used without.
            taken = error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.ENOENT)
        if taken:
            raise UsageError(
                f"{out}: another process is making this store",
                fix="wait for it, or give another path with --out",
            )
        try:
            yield
        finally:
            # Removed while it is held: whoever opened it meanwhile notices that it is gone.
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _previous(out: Path) -> Path:
    return out.with_name(f"{out.name}.previous")


def _finished(plan: WritePlan, path: Path, progress: Progress) -> Manifest | None:
    """Return the manifest of a finished, undamaged store if it is what the plan would give."""
    if not (path / MANIFEST_NAME).is_file():
        return None
    try:
        manifest = read_manifest(path)
    except IntegrityError:
        # Damaged, or of another version: it is made again.
        return None
    return manifest if plan.is_finished(path, manifest, progress) else None
