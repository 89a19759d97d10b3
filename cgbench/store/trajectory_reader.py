"""Reading ``trajectories.zarr``, which may come from anyone: everything is checked first."""

from pathlib import Path
from typing import Any

import numpy as np

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store.schema import ArraySpec, IntArray
from cgbench.store.trajectories import stored_systems
from cgbench.store.trajectory_schema import (
    ALIVE_UNTIL,
    COORDINATES,
    FORMAT,
    FRAME_IN_TRAJECTORY,
    NETWORK_ENERGY,
    PRIOR_ENERGY,
    SCHEMA_VERSION,
    TEMPERATURE,
    TRAJECTORY,
    WEIGHT,
    TrajectoryAttributes,
    TrajectorySet,
    chunk_name,
    flat_index,
)
from cgbench.store.untrusted import (
    check_array,
    read_array,
    read_group_attributes,
    refuse_links,
)

Values = np.ndarray[Any, np.dtype[Any]]

_FLOATS = ("float32", "float64")
_INTEGERS = ("int16", "int32", "int64")


def read_trajectories(path: Path, system: str | None = None) -> TrajectorySet:
    """Read the ensemble of a system.

    Frames that a running or interrupted simulation has not written are left out. In a finished
    one that ended early because every replica failed they are there, full of NaN: lost frames
    still count.

    Args:
        path: A ``trajectories.zarr``, not trusted.
        system: Registry key; may be left out where there is only one system.

    Raises:
        UsageError: There is no such file or system.
        IntegrityError: The file is damaged, of another version, or could do harm.
        ValidationError: Shapes, types or numbers disagree.
    """
    folder = path / _choose(path, system)
    refuse_links(folder)
    stored = read_group_attributes(folder)
    found = (stored.get("format"), stored.get("schema_version"), stored.get("system"))
    if found != (FORMAT, SCHEMA_VERSION, folder.name):
        raise IntegrityError(
            f"{folder}: not trajectories of this version",
            expected=(FORMAT, SCHEMA_VERSION, folder.name),
            found=repr(found)[:120],
        )
    attributes = TrajectoryAttributes.from_disk(stored, folder)
    information = check_array(folder / COORDINATES.name, _FLOATS, 3)
    n_frames, n_beads, n_axes = information.shape
    if n_axes != 3 or n_beads != len(attributes.sequence):
        raise ValidationError(
            f"{folder / COORDINATES.name}: wrong shape",
            expected=f"(n_frames, {len(attributes.sequence)}, 3)",
            found=information.shape,
        )
    lengths = _lengths(folder, n_frames)
    written = stored.get("frames_written", int(lengths.max()))
    complete = stored.get("complete", True)
    if type(written) is not int or type(complete) is not bool or written < 0:
        raise ValidationError(
            f"{folder}: frames_written and complete",
            expected="a number and true or false",
            found=f"{written!r:.40} and {complete!r:.40}",
        )
    alive_until = _alive_until(folder, lengths)
    if stored.get("all_chunks_written") is True and (lengths == lengths[0]).all():
        _refuse_missing(folder, information.chunk[0], lengths, min(written, int(lengths[0])))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    kept = lengths if complete else np.minimum(lengths, written)

    def parts(spec: ArraySpec, values: Values) -> list[Values]:
        values = values.astype(spec.dtype, copy=False)
        cut = []
        for start, length, keep in zip(starts, lengths, kept, strict=False):
            part = values[start : start + keep]
            # What lies beyond belongs to a simulation that was cut back.
            if written < length:
                part[written:] = np.nan
            cut.append(part)
        return cut

    def series(spec: ArraySpec) -> list[Values] | None:
        if not (folder / spec.name).exists():
            return None
        if check_array(folder / spec.name, _FLOATS, 1).shape != (n_frames,):
            raise ValidationError(
                f"{folder / spec.name}: as many values as frames", expected=n_frames
            )
        return parts(spec, read_array(folder / spec.name))

    with np.errstate(over="ignore"):
        coordinates = parts(COORDINATES, read_array(folder / COORDINATES.name))
        network_energy, prior_energy = series(NETWORK_ENERGY), series(PRIOR_ENERGY)
    return TrajectorySet(
        system=folder.name,
        coordinates=coordinates,
        network_energy=network_energy,
        prior_energy=prior_energy,
        weights=series(WEIGHT),
        alive_until=np.minimum(alive_until, np.minimum(kept, written)),
        frame_interval=attributes.frame_interval,
        temperature=attributes.temperature,
        attributes=attributes,
        complete=complete,
        status=str(stored.get("status", "ok"))[:100],
        temperatures=series(TEMPERATURE),
    )


def _choose(path: Path, system: str | None) -> str:
    systems = stored_systems(path)
    if system is None and len(systems) == 1:
        return systems[0]
    if system is None or system not in systems:
        raise UsageError(
            f"{path}: {'which system?' if system is None else f'no system {system}'}",
            expected=" or ".join(systems) or "at least one system",
            found=system,
        )
    return system


def _lengths(folder: Path, n_frames: int) -> IntArray:
    """Return the trajectory lengths after checking that the frames lie in order."""
    index = []
    for spec in (TRAJECTORY, FRAME_IN_TRAJECTORY):
        if check_array(folder / spec.name, _INTEGERS, 1).shape != (n_frames,):
            raise ValidationError(
                f"{folder / spec.name}: as many values as frames", expected=n_frames
            )
        index.append(read_array(folder / spec.name))
    if n_frames == 0:
        raise ValidationError(f"{folder}: no frames")
    trajectory, frame = index
    n_trajectories = int(trajectory[-1]) + 1
    if trajectory.min() < 0 or not 1 <= n_trajectories <= n_frames:
        raise ValidationError(f"{folder / TRAJECTORY.name}: not numbered from 0 on")
    # Numbers above the last one would make the counts long; they are caught as out of order.
    lengths = np.bincount(np.minimum(trajectory, n_trajectories), minlength=n_trajectories)
    lengths = lengths[:n_trajectories].astype(np.int64)
    expected = flat_index(lengths.tolist())
    if lengths.min() < 1 or not (
        np.array_equal(trajectory, expected[0]) and np.array_equal(frame, expected[1])
    ):
        raise ValidationError(
            f"{folder}: frames are not in order",
            expected="trajectories one after the other, each with its frames from 0 on",
        )
    return lengths


def _alive_until(folder: Path, lengths: IntArray) -> IntArray:
    path = folder / ALIVE_UNTIL.name
    if check_array(path, _INTEGERS, 1).shape != lengths.shape:
        raise ValidationError(f"{path}: one number per trajectory", expected=len(lengths))
    values = read_array(path).astype(np.int64)
    if (values < 0).any() or (values > lengths).any():
        raise ValidationError(
            f"{path}: not frames of the trajectories", expected=f"0 to {lengths.max()}"
        )
    return values


def _refuse_missing(folder: Path, chunk: int, lengths: IntArray, written: int) -> None:
    if written == 0:
        return
    length = int(lengths[0])
    needed = {
        number
        for start in range(0, length * len(lengths), length)
        for number in range(start // chunk, (start + written - 1) // chunk + 1)
    }
    lost = sorted(
        number
        for number in needed
        if not (folder / COORDINATES.name / chunk_name(number, 3)).is_file()
    )
    if lost:
        raise IntegrityError(
            f"{folder / COORDINATES.name}: {len(lost)} of {len(needed)} chunks are missing",
            found=f"chunk {lost[0]} is missing",
            fix="simulate again, or get the files again",
        )
