"""``trajectories.json`` beside raw arrays: where their trajectories begin, told or found out."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cgbench.config import read_data, read_text, write_atomic
from cgbench.errors import UsageError, ValidationError
from cgbench.ingest.boundaries import match_trajectories
from cgbench.ingest.npy import NpySource
from cgbench.ingest.preprocess import unverified
from cgbench.ingest.trajectories import ARCHIVES, find_trajectories, unpack_archives
from cgbench.ingest.trajectory_source import TrajectorySource
from cgbench.progress import Progress, silent
from cgbench.registry import System
from cgbench.store import IntArray

INDEX_NAME: Final = "trajectories.json"
#: What :func:`cgbench.ingest.match_trajectories` says that it found.
_MATCHED: Final = "archive"


@dataclass(frozen=True)
class TrajectoryIndex:
    """What is known of the trajectories of raw arrays.

    Attributes:
        path: The index file, or None where nothing is known.
        metadata: Fields of a store's metadata that follow from it.
    """

    path: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_index(path: Path, system: System) -> TrajectoryIndex:
    """Read an index file: ``lengths``, and optionally ``started_from`` and ``frame_interval_ps``.

    Raises:
        IntegrityError: It cannot be parsed.
        ValidationError: It is of another frame interval, or its words are not one a trajectory.
    """
    data = read_data(path)
    told: Mapping[str, Any] = data if isinstance(data, dict) else {}
    if told.get("boundaries_source") == _MATCHED:
        interval = told.get("frame_interval_ps")
        if interval is not None and not (
            type(interval) in (int, float) and 0 < interval < math.inf
        ):
            raise ValidationError(
                f"{path}: frame_interval_ps",
                expected="a positive number",
                found=repr(interval)[:80],
            )
        return TrajectoryIndex(
            path,
            {
                "frame_interval": interval,
                "frame_interval_source": None if interval is None else "verified",
                "boundaries_source": _MATCHED,
            },
        )
    stated = told.get("frame_interval_ps")
    if stated is not None and system.frame_interval is not None and stated != system.frame_interval:
        raise ValidationError(
            f"{path}: not the frame interval of {system.key}",
            expected=f"{system.frame_interval:g} ps",
            found=f"{stated} ps",
            fix="name the system that these data are of",
        )
    return TrajectoryIndex(path, {"start_kind": told.get("started_from")})


def check_start_kinds(index: TrajectoryIndex, lengths: IntArray | None) -> dict[str, Any]:
    """Return the index's fields of the metadata, with one word on its start per trajectory.

    Raises:
        ValidationError: There are words, and not one per trajectory.
    """
    kinds = index.metadata.get("start_kind")
    if kinds is None:
        return dict(index.metadata)
    n_trajectories = 0 if lengths is None else len(lengths)
    if (
        not isinstance(kinds, list)
        or not all(isinstance(kind, str) for kind in kinds)
        or len(kinds) != n_trajectories
    ):
        raise ValidationError(
            f"{index.path}: started_from",
            expected=f"{n_trajectories} words",
            found=f"{len(kinds)} entries" if isinstance(kinds, list) else type(kinds).__name__,
        )
    return {**index.metadata, "start_kind": tuple(kinds)}


def find_index(
    system: System,
    source: NpySource,
    raw: Path,
    boundaries: Sequence[Path] | None,
    progress: Progress = silent,
) -> TrajectoryIndex:
    """Look raw arrays' trajectories up in the reference trajectories, and write the index file.

    Args:
        system: The registry's entry.
        source: The arrays.
        raw: Their folder, in which the index is written.
        boundaries: Folders, archives or files of trajectories; by default ``<raw>/reference``
            where it holds any. What is looked up by default may be incomplete: where it does not
            match, nothing is known, and the description says why.
        progress: Called with frames done.

    Raises:
        UsageError: A folder or file that was named does not exist, or holds no trajectories; or an
            index that was not looked up is there.
        IntegrityError: An archive or trajectory is damaged.
        ValidationError: The trajectories that were named are not those of the arrays.
    """
    if boundaries and (raw / INDEX_NAME).is_file():
        earlier = read_index(raw / INDEX_NAME, system)
        if earlier.metadata.get("boundaries_source") != _MATCHED:
            raise UsageError(
                f"{raw / INDEX_NAME}: says already where trajectories begin",
                fix="leave the boundaries out, or remove this file to have them looked up",
            )
    inputs = list(boundaries or _at_hand(raw / "reference"))
    if not inputs:
        return TrajectoryIndex()
    found = unpack_archives(inputs, progress=progress)
    try:
        trajectories = TrajectorySource(
            find_trajectories(found),
            system.sequence,
            search=[path for path in found if path.is_dir()],
            interval=system.frame_interval,
            force_maps=(),
            progress=progress,
        )
        matched = match_trajectories(source, trajectories, progress)
    except (UsageError, ValidationError) as error:
        if boundaries:
            raise
        note = f"The reference trajectories at hand do not tell it: {error.what}."
        return TrajectoryIndex(None, {"description": f"{unverified(system)} {note}"})
    path = raw / INDEX_NAME
    text = json.dumps(matched.index(), indent=1) + "\n"
    # A file that changes would look like other input to a write that was interrupted.
    if not path.is_file() or read_text(path) != text:
        write_atomic(path, text)
    return read_index(path, system)


def _at_hand(folder: Path) -> list[Path]:
    """Return the archives in a folder of downloads, else the folder itself if it has anything."""
    if not folder.is_dir():
        return []
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    archives = [entry for entry in entries if entry.name.lower().endswith(ARCHIVES)]
    return archives or ([folder] if entries else [])
