"""Raw ``.npy`` sets, memory-mapped and checked before a byte of data is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cgbench.config import read_data
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.ingest.screening import screen
from cgbench.store import FloatArray, FrameBlock, IntArray


@dataclass(frozen=True)
class NpyHeader:
    """What the header of an ``.npy`` file says, and where its data begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int


def read_header(path: Path) -> NpyHeader:
    """Read and check the header of an ``.npy`` file; the data are not touched.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It is no ``.npy`` file, holds pickled objects, or its size is not what the
            header says (a download that was cut off).
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        with path.open("rb") as handle:
            version = np.lib.format.read_magic(handle)
            if version == (1, 0):
                shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(handle)
            elif version == (2, 0):
                shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(handle)
            else:
                raise ValueError(f"format version {version[0]}.{version[1]}")
            offset = handle.tell()
    except (ValueError, EOFError, OverflowError, SyntaxError, TypeError) as error:
        raise IntegrityError(
            f"{path}: not an .npy file, or its header is damaged",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="get the file again",
        ) from error
    if dtype.hasobject:
        raise IntegrityError(
            f"{path}: holds Python objects (pickle), which can run code and are never loaded",
            expected="an array of numbers",
            found=f"dtype {dtype}",
        )
    expected = offset + math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    if size != expected:
        raise IntegrityError(
            f"{path}: {'truncated' if size < expected else 'longer than its header says'}",
            expected=f"{expected} bytes for shape {shape} {dtype}",
            found=f"{size} bytes",
            fix="get the file again",
        )
    return NpyHeader(tuple(int(length) for length in shape), dtype, fortran_order, offset)


def map_array(path: Path, header: NpyHeader) -> np.ndarray[Any, np.dtype[Any]]:
    """Map a checked ``.npy`` file into memory, read-only."""
    if 0 in header.shape:
        return np.empty(header.shape, dtype=header.dtype)
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    mapped: np.ndarray[Any, np.dtype[Any]] = np.memmap(
        path, dtype=header.dtype, mode="r", offset=header.offset, shape=header.shape, order=order
    )
    return mapped


def _frames(path: Path, what: str) -> np.ndarray[Any, np.dtype[Any]]:
    header = read_header(path)
    if header.dtype.kind != "f":
        raise ValidationError(
            f"{path}: {what} are not floating-point numbers", expected="float", found=header.dtype
        )
    if len(header.shape) != 3 or header.shape[2] != 3:
        raise ValidationError(
            f"{path}: {what} have the wrong shape",
            expected="(n_frames, n_beads, 3)",
            found=header.shape,
        )
    if 0 in header.shape:
        raise ValidationError(f"{path}: holds no {what}", found=header.shape)
    return map_array(path, header)


def _integers(path: Path, what: str) -> IntArray:
    header = read_header(path)
    if header.dtype.kind not in "iu" or len(header.shape) != 1:
        raise ValidationError(
            f"{path}: {what}",
            expected="a list of integers",
            found=f"{header.dtype} of shape {header.shape}",
        )
    return np.array(map_array(path, header), dtype=np.int64)


def read_lengths(lengths: Sequence[int] | Path, n_frames: int) -> IntArray:
    """Return the trajectory lengths, from a sequence, an ``.npy`` file or a JSON file.

    A JSON file holds the list itself or an object with a list ``lengths``.

    Raises:
        ValidationError: They are no integers, hold an empty trajectory, or do not sum to
            ``n_frames``.
    """
    if isinstance(lengths, Path):
        origin = str(lengths)
        if lengths.suffix == ".npy":
            values = _integers(lengths, "trajectory lengths").tolist()
        else:
            data = read_data(lengths)
            values = data.get("lengths") if isinstance(data, dict) else data
    else:
        origin = "trajectory lengths"
        values = [int(length) for length in lengths]
    if not isinstance(values, list) or not all(type(length) is int for length in values):
        raise ValidationError(f"{origin}: no list of integers", expected="[500, 500, …]")
    empty = [index for index, length in enumerate(values) if length < 1]
    if empty or not values:
        raise ValidationError(
            f"{origin}: an empty trajectory",
            expected="at least one frame in each",
            found=f"trajectory {empty[0]} has {values[empty[0]]}" if empty else "no trajectory",
        )
    if sum(values) != n_frames:
        raise ValidationError(
            f"{origin}: the lengths do not sum to the number of frames",
            expected=f"{n_frames} frames",
            found=f"{sum(values)} in {len(values)} trajectories",
        )
    return np.array(values, dtype=np.int64)


class NpySource:
    """An ``.npy`` set as a source of frames: memory-mapped, screened as it is read.

    Args:
        coordinates: (n_frames, n_beads, 3), Å.
        forces: Per force map a file of the same shape, kcal/mol/Å.
        bead_types: (n_beads,) integers of the published vocabulary.
        lengths: Frames of each trajectory in order, a sequence or a file; None if not known.

    Raises:
        UsageError: A file does not exist.
        IntegrityError: A file is truncated, no ``.npy`` file, or holds pickled objects.
        ValidationError: Shapes or types are wrong or disagree.
    """

    def __init__(
        self,
        coordinates: Path,
        forces: Mapping[str, Path],
        bead_types: Path,
        lengths: Sequence[int] | Path | None = None,
    ) -> None:
        self.files: dict[str, Path] = {
            "coordinates": coordinates,
            **{f"forces/{name}": path for name, path in forces.items()},
            "bead_types": bead_types,
        }
        if isinstance(lengths, Path):
            self.files["trajectory_lengths"] = lengths
        self._coordinates = _frames(coordinates, "coordinates")
        self._forces = {name: _frames(path, "forces") for name, path in forces.items()}
        for name, path in forces.items():
            if self._forces[name].shape != self._coordinates.shape:
                raise ValidationError(
                    f"{path}: forces and coordinates have different shapes",
                    expected=f"{self._coordinates.shape} as in {coordinates}",
                    found=self._forces[name].shape,
                )
        self._bead_types = _integers(bead_types, "bead types")
        if len(self._bead_types) != self.n_beads:
            raise ValidationError(
                f"{bead_types}: wrong number of beads",
                expected=f"{self.n_beads} as in {coordinates}",
                found=len(self._bead_types),
            )
        self._lengths = None if lengths is None else read_lengths(lengths, self.n_frames)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return int(self._coordinates.shape[0])

    @property
    def n_beads(self) -> int:
        """Number of beads of each frame."""
        return int(self._coordinates.shape[1])

    @property
    def force_maps(self) -> tuple[str, ...]:
        """Names of the force maps."""
        return tuple(self._forces)

    @property
    def bead_types(self) -> IntArray:
        """Bead types (n_beads,) in the published vocabulary."""
        return self._bead_types

    @property
    def trajectory_lengths(self) -> IntArray | None:
        """Frames of each trajectory, or None where they are not known."""
        return self._lengths

    def read(self, start: int, stop: int) -> FrameBlock:
        """Return the frames of a half-open range as float32, screened."""
        coordinates = _as_float32(self._coordinates[start:stop])
        forces = {name: _as_float32(values[start:stop]) for name, values in self._forces.items()}
        screened = screen(coordinates, forces)
        return FrameBlock(
            coordinates=coordinates, forces=forces, valid=screened.valid, counts=screened.counts
        )


def _as_float32(values: np.ndarray[Any, np.dtype[Any]]) -> FloatArray:
    # A float64 too large for float32 becomes infinite here, and screening masks it.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)
