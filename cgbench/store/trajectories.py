"""Groups of ``trajectories.zarr``: creating, writing and listing them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store.arrays import (
    ZARR_METADATA,
    consolidate,
    create_array,
    open_array,
    write_attributes,
)
from cgbench.store.schema import ArraySpec, chunk_frames
from cgbench.store.trajectory_schema import (
    ALIVE_UNTIL,
    CHUNK_SEPARATOR,
    COORDINATES,
    FORMAT,
    FRAME_IN_TRAJECTORY,
    NETWORK_ENERGY,
    PRIOR_ENERGY,
    SCHEMA_VERSION,
    SYSTEM_NAME,
    TEMPERATURE,
    TRAJECTORY,
    WEIGHT,
    TrajectoryAttributes,
    TrajectorySet,
    check_system_name,
    flat_index,
)
from cgbench.store.untrusted import read_group_attributes


@dataclass(frozen=True)
class GroupPlan:
    """What a group of a system is created with.

    ``arrays`` along frames besides the coordinates and the index; ``chunk`` frames per chunk of
    the coordinates, ``series_chunk`` of the other arrays.
    """

    system: str
    lengths: Sequence[int]
    attributes: TrajectoryAttributes
    arrays: tuple[ArraySpec, ...]
    chunk: int
    series_chunk: int


def create_group(path: Path, plan: GroupPlan) -> Path:
    """Create the folder of a system without frames, beside its final place; return that folder.

    The caller renames it into place, so that a group that is there is whole.

    Raises:
        UsageError: ``path`` holds something else.
    """
    check_system_name(plan.system)
    open_root(path)
    folder = path / f".{plan.system}.partial"
    if folder.exists():
        shutil.rmtree(folder)
    longest = max(plan.lengths, default=0)
    group = zarr.create_group(
        folder,
        zarr_format=3,
        attributes={
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "system": plan.system,
            **plan.attributes.on_disk(),
            "units": {"coordinates": "angstrom", "energy": "kcal/mol", "time": "picosecond"},
            "n_trajectories": len(plan.lengths),
            "n_output_frames": longest,
            "frames_written": 0,
            "complete": False,
            "status": "running",
            # A chunk that is not there is lost, not empty.
            "all_chunks_written": True,
            "coordinates": "trajectory frame_in_trajectory",
        },
    )
    n_frames, n_beads = int(sum(plan.lengths)), len(plan.attributes.sequence)
    create_array(
        group,
        COORDINATES,
        [n_frames, n_beads, 3],
        [plan.chunk, n_beads, 3],
        separator=CHUNK_SEPARATOR,
    )
    for spec in (TRAJECTORY, FRAME_IN_TRAJECTORY, *plan.arrays):
        create_array(group, spec, [n_frames], [plan.series_chunk], separator=CHUNK_SEPARATOR)
    create_array(group, ALIVE_UNTIL, [len(plan.lengths)], [len(plan.lengths)])
    numbers, within = flat_index(plan.lengths)
    open_array(folder / TRAJECTORY.name, "r+")[:] = numbers
    open_array(folder / FRAME_IN_TRAJECTORY.name, "r+")[:] = within
    open_array(folder / ALIVE_UNTIL.name, "r+")[:] = np.asarray(plan.lengths, dtype=np.int64)
    return folder


def move_into_place(folder: Path, system: str) -> Path:
    """Rename a folder of :func:`create_group` to its system, replacing an earlier one."""
    target = folder.with_name(system)
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)
    return target


def open_root(path: Path) -> None:
    """Make sure that a path is a ``trajectories.zarr``, and drop its consolidated metadata.

    Raises:
        UsageError: It holds something else.
    """
    if (path / ZARR_METADATA).is_file():
        if read_group_attributes(path).get("format") != FORMAT:
            raise UsageError(f"{path}: holds something else than trajectories")
        # Stale as soon as a group changes.
        write_attributes(path, {})
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path}: holds something else than trajectories")
    zarr.create_group(
        path, zarr_format=3, attributes={"format": FORMAT, "schema_version": SCHEMA_VERSION}
    )


def close_group(path: Path, system: str) -> None:
    """Consolidate the metadata of a group and of the whole, for fast labelled views."""
    consolidate(path, system)
    consolidate(path)


def write_trajectories(path: Path, trajectories: TrajectorySet) -> None:
    """Write an ensemble as the group of its system, replacing an earlier one when it is whole.

    Args:
        path: A ``trajectories.zarr``, made if it is not there; other systems in it are kept.
        trajectories: What to write.

    Raises:
        UsageError: ``path`` holds something else.
        ValidationError: Shapes disagree.
    """
    n_beads = len(trajectories.sequence)
    lengths = [len(frames) for frames in trajectories.coordinates]
    what = f"trajectories of {trajectories.system}"
    if not lengths or min(lengths) < 1:
        raise ValidationError(f"{what}: an empty trajectory", found=lengths[:5])
    if trajectories.alive_until.shape != (len(lengths),):
        raise ValidationError(
            f"{what}: alive_until", expected=(len(lengths),), found=trajectories.alive_until.shape
        )
    for index, frames in enumerate(trajectories.coordinates):
        if frames.shape[1:] != (n_beads, 3):
            raise ValidationError(
                f"{what}: shape of trajectory {index}",
                expected=f"(n, {n_beads}, 3)",
                found=frames.shape,
            )
    series: list[tuple[ArraySpec, Sequence[npt.NDArray[Any]]]] = []
    optional: tuple[tuple[ArraySpec, Sequence[npt.NDArray[Any]] | None], ...] = (
        (NETWORK_ENERGY, trajectories.network_energy),
        (PRIOR_ENERGY, trajectories.prior_energy),
        (WEIGHT, trajectories.weights),
        (TEMPERATURE, trajectories.temperatures),
    )
    for spec, values in optional:
        if values is not None:
            if [part.shape for part in values] != [(length,) for length in lengths]:
                raise ValidationError(f"{what}: {spec.name} has other lengths than coordinates")
            series.append((spec, values))
    attributes = trajectories.attributes.model_copy(
        update={
            "temperature": trajectories.temperature,
            "frame_interval": trajectories.frame_interval,
        }
    )
    chunk = chunk_frames(n_beads)
    folder = create_group(
        path,
        GroupPlan(
            trajectories.system,
            lengths,
            attributes,
            tuple(spec for spec, _ in series),
            chunk,
            chunk,
        ),
    )
    target = open_array(folder / COORDINATES.name, "r+")
    target[:] = np.concatenate(trajectories.coordinates).astype(np.float32, copy=False)
    for spec, parts in series:
        open_array(folder / spec.name, "r+")[:] = np.concatenate(list(parts))
    open_array(folder / ALIVE_UNTIL.name, "r+")[:] = trajectories.alive_until
    write_attributes(
        folder,
        {
            "frames_written": max(lengths),
            "complete": trajectories.complete,
            "status": trajectories.status,
        },
    )
    move_into_place(folder, trajectories.system)
    close_group(path, trajectories.system)


def stored_systems(path: Path) -> tuple[str, ...]:
    """Return the systems that a ``trajectories.zarr`` holds, in alphabetical order.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: It is no ``trajectories.zarr`` of this version.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such trajectories")
    attributes = read_group_attributes(path)
    found = (attributes.get("format"), attributes.get("schema_version"))
    if found != (FORMAT, SCHEMA_VERSION):
        raise IntegrityError(
            f"{path}: not trajectories of this version",
            expected=(FORMAT, SCHEMA_VERSION),
            found=repr(found)[:80],
        )
    return tuple(
        sorted(
            entry.name
            for entry in path.iterdir()
            if (entry / ZARR_METADATA).is_file() and SYSTEM_NAME.fullmatch(entry.name)
        )
    )
