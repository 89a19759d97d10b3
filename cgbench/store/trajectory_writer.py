"""Writing ``trajectories.zarr`` while a simulation runs; it survives a kill at any moment."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cgbench.errors import UsageError, ValidationError
from cgbench.store.arrays import flush_to_disk, open_array, write_attributes
from cgbench.store.schema import FloatArray, IntArray
from cgbench.store.trajectories import (
    GroupPlan,
    close_group,
    create_group,
    move_into_place,
    open_root,
)
from cgbench.store.trajectory_schema import (
    ALIVE_UNTIL,
    COORDINATES,
    FORMAT,
    NETWORK_ENERGY,
    PRIOR_ENERGY,
    SCHEMA_VERSION,
    TEMPERATURE,
    TrajectoryAttributes,
    chunk_name,
)
from cgbench.store.untrusted import check_array, read_group_attributes

#: Frames of a trajectory that are written at once.
_CHUNK: Final = 256
#: Energies are a thousandth of the coordinates: fewer, longer chunks, rewritten as they fill.
_SERIES_CHUNK: Final = 8192
_SYNC_THREADS: Final = 8


def segment_chunk(n_frames: int, target: int) -> int:
    """Return a chunk length of about ``target``, a divisor of the trajectory's length if possible.

    Then no chunk holds frames of two trajectories. Where no divisor is near, chunks straddle two
    trajectories and are rewritten: slower, with the same result.
    """
    if n_frames <= target:
        return max(1, n_frames)
    divisors = (size for size in range(target, target // 4, -1) if n_frames % size == 0)
    return next(divisors, target)


class TrajectoryWriter:
    """Appends frames of all replicas at once; replica r is trajectory r of the file.

    Frames are kept in memory until a chunk is full. ``frames_written`` in the file only advances
    when the frames are on disk, so that whatever a kill leaves behind is read as the frames up to
    there. Reopened with ``resume``, the writer goes on there.

    Args:
        path: The ``trajectories.zarr``; made if it is not there.
        system: Registry key; the group's name. Other groups are left alone.
        n_replicas: Number of trajectories.
        n_beads: Number of beads.
        n_output_frames: Frames that each trajectory will have.
        attributes: Where the frames come from.
        resume: Go on with the group that is there; without it the group is replaced.
        temperatures: Whether each frame has a temperature of its own.

    Raises:
        UsageError: The path holds something else, or another simulation than the one to resume.
        ValidationError: Numbers make no sense together.
    """

    def __init__(
        self,
        path: Path,
        system: str,
        *,
        n_replicas: int,
        n_beads: int,
        n_output_frames: int,
        attributes: TrajectoryAttributes,
        resume: bool,
        temperatures: bool = False,
    ) -> None:
        if n_beads != len(attributes.sequence) or min(n_replicas, n_output_frames) < 1:
            raise ValidationError(
                f"{path}: trajectories of {system}",
                expected=f"{len(attributes.sequence)} beads, at least one replica and one frame",
                found=f"{n_beads} beads, {n_replicas} replicas, {n_output_frames} frames",
            )
        self.path = path
        self.system = system
        self.n_replicas = n_replicas
        self.n_beads = n_beads
        self.n_output_frames = n_output_frames
        self._chunk = segment_chunk(n_output_frames, _CHUNK)
        series = (NETWORK_ENERGY, PRIOR_ENERGY, *((TEMPERATURE,) if temperatures else ()))
        self._folder = path / system
        if resume and self._folder.exists():
            open_root(path)
            self._written = self._resume(attributes)
        else:
            plan = GroupPlan(
                system,
                [n_output_frames] * n_replicas,
                attributes,
                series,
                self._chunk,
                segment_chunk(n_output_frames, _SERIES_CHUNK),
            )
            move_into_place(create_group(path, plan), system)
            self._written = 0
        self._arrays = {
            spec.name: open_array(self._folder / spec.name, "r+") for spec in (COORDINATES, *series)
        }
        self._buffer: dict[str, npt.NDArray[Any]] = {
            COORDINATES.name: np.empty((n_replicas, self._chunk, n_beads, 3), dtype=np.float32)
        }
        for spec in series:
            self._buffer[spec.name] = np.empty((n_replicas, self._chunk), dtype=spec.dtype)
        self._buffered = 0

    @property
    def frames_written(self) -> int:
        """Frames of each trajectory that are on disk; those in memory are not counted."""
        return self._written

    @property
    def frames_appended(self) -> int:
        """Frames of each trajectory that were appended, on disk or in memory."""
        return self._written + self._buffered

    def append(
        self,
        coordinates: FloatArray,
        network_energy: npt.NDArray[np.floating[Any]],
        prior_energy: npt.NDArray[np.floating[Any]],
        temperature: npt.NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Append frames of all replicas.

        Args:
            coordinates: (n_new, n_replicas, n_beads, 3) in Å.
            network_energy: (n_new, n_replicas) in kcal/mol.
            prior_energy: (n_new, n_replicas) in kcal/mol.
            temperature: (n_new, n_replicas) in K, where each frame has one of its own; else None.

        Raises:
            ValidationError: Wrong shapes or arrays, or more frames than there is room for.
        """
        n_new = len(coordinates)
        given: dict[str, npt.NDArray[Any]] = {
            COORDINATES.name: coordinates,
            NETWORK_ENERGY.name: network_energy,
            PRIOR_ENERGY.name: prior_energy,
        }
        if temperature is not None:
            given[TEMPERATURE.name] = temperature
        shapes = {name: values.shape for name, values in given.items()}
        row = (n_new, self.n_replicas)
        expected = {name: (*row, *room.shape[2:]) for name, room in self._buffer.items()}
        if shapes != expected:
            raise ValidationError(f"{self._folder}: new frames", expected=expected, found=shapes)
        if self.frames_appended + n_new > self.n_output_frames:
            raise ValidationError(
                f"{self._folder}: too many frames",
                expected=f"at most {self.n_output_frames}",
                found=self.frames_appended + n_new,
            )
        taken = 0
        while taken < n_new:
            # After a flush in between, the buffer ends where the next chunk begins.
            room = self._chunk - self._written % self._chunk - self._buffered
            count = min(room, n_new - taken)
            place = slice(self._buffered, self._buffered + count)
            for name, values in given.items():
                self._buffer[name][:, place] = np.swapaxes(values[taken : taken + count], 0, 1)
            self._buffered += count
            taken += count
            if count == room:
                self.flush()

    def flush(self) -> None:
        """Write the frames in memory; on return they are on disk and counted."""
        if not self._buffered:
            return
        starts = np.arange(self.n_replicas) * self.n_output_frames + self._written
        stops = starts + self._buffered
        frames = (starts[:, None] + np.arange(self._buffered)).ravel()
        touched: list[Path] = []
        for name, array in self._arrays.items():
            values = self._buffer[name][:, : self._buffered]
            # One call for all replicas: zarr's cost is by the call.
            array.oindex[frames] = values.reshape(-1, *values.shape[2:])
            chunk = array.chunks[0]
            numbers = {
                number
                for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
                for number in range(start // chunk, (stop - 1) // chunk + 1)
            }
            touched += [self._folder / name / chunk_name(n, array.ndim) for n in numbers]
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            # Waiting for the disk once, not once a file.
            list(pool.map(flush_to_disk, touched))
        self._set_written(self._written + self._buffered)
        self._buffered = 0

    def truncate(self, n_frames: int) -> None:
        """Forget all frames of each trajectory from ``n_frames`` on, in memory and in the file.

        Raises:
            ValidationError: There are fewer frames.
        """
        if not 0 <= n_frames <= self.frames_appended:
            raise ValidationError(
                f"{self._folder}: cannot cut back",
                expected=f"0 to {self.frames_appended} frames",
                found=n_frames,
            )
        if n_frames < self._written:
            self._buffered = 0
            self._set_written(n_frames)
        else:
            self._buffered = n_frames - self._written

    def finish(self, alive_until: IntArray, status: str) -> None:
        """Write what is in memory and close the group.

        Frames that were never appended, because every replica failed, are lost: they read as NaN.

        Args:
            alive_until: (n_replicas,) first bad frame of each; ``n_output_frames`` for none.
            status: What the simulation ended with.

        Raises:
            ValidationError: Wrong shape or values, or a replica lives longer than its frames.
        """
        self.flush()
        longest = self.n_output_frames
        complete = self._written == longest
        if (
            alive_until.shape != (self.n_replicas,)
            or alive_until.min() < 0
            or alive_until.max() > (longest if complete else self._written)
        ):
            raise ValidationError(
                f"{self._folder}: alive_until",
                expected=f"{self.n_replicas} frames between 0 and {self._written}",
                found=alive_until,
            )
        open_array(self._folder / ALIVE_UNTIL.name, "r+")[:] = alive_until.astype(np.int64)
        write_attributes(self._folder, {"complete": True, "status": status})
        close_group(self.path, self.system)

    def _set_written(self, n_frames: int) -> None:
        write_attributes(
            self._folder,
            {"frames_written": n_frames, "complete": False, "status": "running"},
        )
        self._written = n_frames

    def _resume(self, attributes: TrajectoryAttributes) -> int:
        stored = read_group_attributes(self._folder)
        wanted = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "system": self.system,
            **attributes.on_disk(),
            "n_trajectories": self.n_replicas,
            "n_output_frames": self.n_output_frames,
        }
        different = sorted(name for name, value in wanted.items() if stored.get(name) != value)
        if different:
            raise UsageError(
                f"{self._folder}: holds another simulation",
                expected=", ".join(f"{name}={wanted[name]!r}" for name in different),
                found=", ".join(f"{name}={stored.get(name)!r}" for name in different),
                fix="choose another folder, or start over with --force",
            )
        # The chunks that are there decide, should the standard length change one day.
        self._chunk = check_array(self._folder / COORDINATES.name, ("float32",), 3).chunk[0]
        return int(stored["frames_written"])
