"""A raw folder in the layout of the published training data, made into a store.

Files are ``<prefix>_ca_coords.npy``, ``<prefix>_ca_embeddings.npy``, ``<prefix>_ca_forces.npy``
(the slice map) or ``<prefix>_ca_forces_<map>.npy``, and, where the trajectories are known,
``trajectories.json`` with ``lengths`` and optionally ``started_from``, one word per trajectory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cgbench.config import read_data
from cgbench.errors import UsageError, ValidationError
from cgbench.ingest.npy import NpySource
from cgbench.ingest.preprocess import preprocess_npy, recover
from cgbench.progress import Progress, silent
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
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Make the store of a system from its raw folder.

    Args:
        system: The registry's entry.
        raw: Folder of the raw files.
        out: Folder of the store; an earlier store there is replaced when the new one is whole.
        force_maps: Which maps to store, in this order; all that are found by default.
        workers: Threads that read and screen.
        progress: Called with frames done.

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
    index = raw / "trajectories.json"
    known = index.is_file()
    told = read_data(index) if known else None
    _check_interval(index, told, system)
    source = NpySource(
        coordinates,
        {name: found[name] for name in chosen},
        raw / f"{stem}_ca_embeddings.npy",
        index if known else None,
    )
    return preprocess_npy(
        system,
        source,
        out,
        start_kind=_start_kinds(index, told, source),
        description=system.description,
        workers=workers,
        progress=progress,
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


def _check_interval(index: Path, data: Any, system: System) -> None:
    stated = data.get("frame_interval_ps") if isinstance(data, dict) else None
    if stated is not None and system.frame_interval is not None and stated != system.frame_interval:
        raise ValidationError(
            f"{index}: not the frame interval of {system.key}",
            expected=f"{system.frame_interval:g} ps",
            found=f"{stated} ps",
            fix="name the system that these data are of",
        )


def _force_name(stem: str, force_map: str) -> str:
    return f"{stem}_ca_forces.npy" if force_map == _SLICE else f"{stem}_ca_forces_{force_map}.npy"


def _force_files(raw: Path, stem: str, system: System) -> dict[str, Path]:
    files = {name: raw / _force_name(stem, name) for name in system.force_maps}
    return {name: path for name, path in files.items() if path.is_file()}


def _start_kinds(index: Path, data: Any, source: NpySource) -> tuple[str, ...] | None:
    kinds = data.get("started_from") if isinstance(data, dict) else None
    if kinds is None:
        return None
    lengths = source.trajectory_lengths
    n_trajectories = 0 if lengths is None else len(lengths)
    if (
        not isinstance(kinds, list)
        or not all(isinstance(kind, str) for kind in kinds)
        or len(kinds) != n_trajectories
    ):
        raise ValidationError(
            f"{index}: started_from",
            expected=f"{n_trajectories} words",
            found=f"{len(kinds)} entries" if isinstance(kinds, list) else type(kinds).__name__,
        )
    return tuple(kinds)
