"""From raw files to a finished store, leaving an earlier store alone until the new one is whole."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cgbench.config import file_sha256
from cgbench.errors import ValidationError
from cgbench.ingest.npy import NpySource
from cgbench.progress import Progress, silent
from cgbench.registry import System
from cgbench.store.manifest import Manifest, read_manifest
from cgbench.store.schema import MANIFEST_NAME, SourceFile, StoreMetadata
from cgbench.store.writer import plan_fingerprint, remove_store, unfinished_plan, write_store


def check_against_registry(system: System, source: NpySource) -> None:
    """Check that raw data are of the protein that the registry describes.

    Raises:
        ValidationError: The number of beads or a bead type differs, or a force map has a name
            that the registry does not know.
    """
    coordinates, types = source.files["coordinates"], source.files["bead_types"]
    if source.n_beads != system.n_beads:
        raise ValidationError(
            f"{coordinates}: wrong number of beads for {system.key}",
            expected=f"{system.n_beads} ({system.sequence})",
            found=source.n_beads,
        )
    unknown = [name for name in source.force_maps if name not in system.force_maps]
    if unknown:
        raise ValidationError(
            f"{source.files[f'forces/{unknown[0]}']}: unknown force map for {system.key}",
            expected=" or ".join(system.force_maps),
            found=unknown[0],
        )
    different = np.flatnonzero(source.bead_types != np.asarray(system.bead_types))
    if len(different):
        bead = int(different[0])
        raise ValidationError(
            f"{types}: bead types do not match the sequence of {system.key}",
            expected=f"type {system.bead_types[bead]} ({system.sequence[bead]}) at bead {bead}",
            found=f"type {source.bead_types[bead]}; {len(different)} beads differ",
        )


def hash_sources(files: Mapping[str, Path], progress: Progress = silent) -> tuple[SourceFile, ...]:
    """Return name, size and sha256 of raw files, by their role."""
    found = []
    for done, (role, path) in enumerate(files.items()):
        progress("hash raw files", done, len(files))
        found.append(
            SourceFile(
                role=role, name=path.name, sha256=file_sha256(path), size=path.stat().st_size
            )
        )
    progress("hash raw files", len(files), len(files))
    return tuple(found)


def preprocess_npy(
    system: System,
    source: NpySource,
    out: Path,
    *,
    start_kind: tuple[str, ...] | None = None,
    description: str | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Make the store of a system from an ``.npy`` set.

    The store is built in ``<out>.partial`` and takes the place of ``out`` when it is finished and
    verified, so that an earlier store survives bad input. An interrupted run goes on where it
    stopped; a store that was made from the same files in the same way is returned as it is.

    Args:
        system: The registry's entry: sequence, bead types, temperature, frame interval, force maps
            and whether they are consistent, constraints, licence.
        source: The raw files. Its force maps are among the registry's; the registry's default is
            the store's default too, if it is there, else the source's first.
        out: Folder of the store.
        start_kind: One word per trajectory on how it was started.
        description: What the data are, in words.
        workers: Threads that read and screen.
        progress: Called with frames done.

    Raises:
        ValidationError: The data are not of this system, or no frame passes screening.
        IntegrityError: A shard does not read back as written.
    """
    recover(out)
    check_against_registry(system, source)
    maps = source.force_maps
    default = system.default_force_map if system.default_force_map in maps else None
    metadata = StoreMetadata.model_validate(
        {
            "system": system.key,
            "name": system.name,
            "sequence": system.sequence,
            "temperature": system.temperature,
            "frame_interval": system.frame_interval,
            "force_maps": maps,
            "default_force_map": default or next(iter(maps), None),
            "force_map_consistent": {name: system.force_map_consistent[name] for name in maps},
            "constraints": system.constraints,
            "licence": system.licence,
            "trajectories_known": source.trajectory_lengths is not None,
            "start_kind": start_kind,
            "sources": hash_sources(source.files, progress),
            "description": description,
        }
    )
    plan = plan_fingerprint(source, metadata)
    partial = out.with_name(f"{out.name}.partial")
    previous = _previous(out)
    if (out / MANIFEST_NAME).is_file():
        manifest = read_manifest(out)
        if manifest.plan == plan:
            return manifest
    if partial.exists() and _plan_of(partial) != plan:
        remove_store(partial)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        manifest = write_store(partial, source, metadata, workers=workers, progress=progress)
    except ValidationError:
        # The input is bad and will not get better: nothing to continue from.
        remove_store(partial)
        raise
    if out.exists():
        out.rename(previous)
    partial.rename(out)
    if previous.exists():
        shutil.rmtree(previous)
    return manifest


def recover(out: Path) -> None:
    """Put an earlier store back whose replacement stopped between its two renames."""
    if _previous(out).exists() and not out.exists():
        _previous(out).rename(out)


def _previous(out: Path) -> Path:
    return out.with_name(f"{out.name}.previous")


def _plan_of(path: Path) -> str | None:
    if (path / MANIFEST_NAME).is_file():
        return read_manifest(path).plan
    return unfinished_plan(path)
