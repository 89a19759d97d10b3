"""A raw folder in the layout of the published training data, made into a store.

Files are ``<prefix>_ca_coords.npy``, ``<prefix>_ca_embeddings.npy``, ``<prefix>_ca_forces.npy``
(the slice map) or ``<prefix>_ca_forces_<map>.npy``, and, where the trajectories are known,
``trajectories.json`` with ``lengths`` and optionally ``started_from``, one word per trajectory.
Published arrays come without it; it is then made from the reference trajectories where these are at
hand.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Unpack

from cgbench.errors import UsageError
from cgbench.ingest.npy import NpySource
from cgbench.ingest.preprocess import WriteOptions, preprocess_npy, recover
from cgbench.ingest.trajectory_index import (
    INDEX_NAME,
    check_start_kinds,
    find_index,
    read_index,
)
from cgbench.progress import silent
from cgbench.registry import System
from cgbench.store import Manifest

_COORDINATES: Final = "_ca_coords.npy"
_SLICE: Final = "slice"


def preprocess_folder(
    system: System,
    raw: Path,
    out: Path,
    *,
    force_maps: Sequence[str] | None = None,
    boundaries: Sequence[Path] | None = None,
    **options: Unpack[WriteOptions],
) -> Manifest:
    """Make the store of a system from its raw folder.

    Args:
        system: The registry's entry.
        raw: Folder of the raw files.
        out: Folder of the store; an earlier store there is replaced when the new one is whole.
        force_maps: Which maps to store, in this order; all that are found by default.
        boundaries: Reference trajectories (folders, archives or files) in which to look up where
            trajectories begin and how far frames are apart. By default an existing
            ``trajectories.json`` says it, else ``<raw>/reference`` where that is at hand.
        options: As for :func:`cgbench.ingest.preprocess_source`.

    Raises:
        UsageError: The folder or a file is not there.
        IntegrityError: A file is truncated or unsafe.
        ValidationError: The data are not of this system or disagree among themselves.
    """
    recover(out)
    if not raw.is_dir():
        raise UsageError(
            f"{raw}: no such folder",
            fix=f"put {system.key}{_COORDINATES}, its forces and its embeddings there",
        )
    coordinates = _coordinates_file(raw, system)
    stem = coordinates.name.removesuffix(_COORDINATES)
    found = _force_files(raw, stem, system)
    chosen = tuple(found) if force_maps is None else tuple(dict.fromkeys(force_maps))
    missing = [name for name in chosen if name not in found]
    if missing:
        raise UsageError(
            f"{raw}: no forces of map {missing[0]}",
            expected=f"{_force_name(stem, missing[0])}",
            found=", ".join(found) or "no forces",
        )

    def source(lengths: Path | None) -> NpySource:
        types = raw / f"{stem}_ca_embeddings.npy"
        return NpySource(coordinates, {name: found[name] for name in chosen}, types, lengths)

    if (raw / INDEX_NAME).is_file() and not boundaries:
        index = read_index(raw / INDEX_NAME, system)
    else:
        progress = options.get("progress", silent)
        index = find_index(system, source(None), raw, boundaries, progress)
    arrays = source(index.path)
    return preprocess_npy(
        system,
        arrays,
        out,
        changes=check_start_kinds(index, arrays.trajectory_lengths),
        **options,
    )


def _coordinates_file(raw: Path, system: System) -> Path:
    own = raw / f"{system.key}{_COORDINATES}"
    if own.is_file():
        return own
    found = sorted(raw.glob(f"*{_COORDINATES}"))
    if len(found) != 1:
        raise UsageError(
            f"{raw}: which coordinates?" if found else f"{raw}: no coordinates",
            expected=own.name,
            found=", ".join(path.name for path in found[:5]) or "none",
        )
    return found[0]


def _force_name(stem: str, force_map: str) -> str:
    return f"{stem}_ca_forces.npy" if force_map == _SLICE else f"{stem}_ca_forces_{force_map}.npy"


def _force_files(raw: Path, stem: str, system: System) -> dict[str, Path]:
    files = {name: raw / _force_name(stem, name) for name in system.force_maps}
    return {name: path for name, path in files.items() if path.is_file()}
