"""Raw ``.npy`` sets, checked before a byte of data is read, and read by ranges of frames."""

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final

import numpy as np

from cgbench.config import read_data
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.ingest.screening import screened_block
from cgbench.store import FloatArray, FrameBlock, IntArray

#: No header of an array of numbers is longer.
HEAD_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class NpyHeader:
    """What the header of an ``.npy`` file says, and where its data begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int

    @property
    def size(self) -> int:
        """Size of the whole file in bytes."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> NpyHeader:
    """Read and check the header of an ``.npy`` file; the data are not touched.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It is no ``.npy`` file, holds pickled objects, or its size is not what the
            header says (a download that was cut off).
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    return parse_header(head, path.stat().st_size, path)


def parse_header(head: bytes, size: int | None, origin: object) -> NpyHeader:
    """Parse and check the header of an ``.npy`` file from its first bytes.

    Args:
        head: The first ``HEAD_BYTES`` of the file, or all of it.
        size: Size of the whole file in bytes, or None where it is not known and not checked.
        origin: What errors name, a path or an address.

    Raises:
        IntegrityError: It is no ``.npy`` file, holds pickled objects, or has another size.
    """
    handle = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(handle)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(handle)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(handle)
        else:
            raise ValueError(f"format version {version[0]}.{version[1]}")
    except (
        ValueError,
        EOFError,
        OverflowError,
        SyntaxError,
        TypeError,
        # Headers are parsed as Python literals, which damaged ones can make too deep to hold.
        TokenError,
        RecursionError,
        MemoryError,
    ) as error:
        raise IntegrityError(
            f"{origin}: not an .npy file, or its header is damaged",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="get the file again",
        ) from error
    if dtype.hasobject:
        raise IntegrityError(
            f"{origin}: holds Python objects (pickle), which can run code and are never loaded",
            expected="an array of numbers",
            found=f"dtype {dtype}",
        )
    header = NpyHeader(
        tuple(int(length) for length in shape), dtype, bool(fortran_order), handle.tell()
    )
    if min(header.shape, default=0) < 0 or (size is not None and size != header.size):
        problem = "truncated" if (size or 0) < header.size else "longer than its header says"
        raise IntegrityError(
            f"{origin}: {problem}",
            expected=f"{header.size} bytes for shape {shape} {dtype}",
            found=f"{size} bytes",
            fix="get the file again",
        )
    return header


def check_frames(header: NpyHeader, what: str, origin: object) -> None:
    """Check that an ``.npy`` file holds (n_frames, n_beads, 3) floating-point numbers.

    Raises:
        ValidationError: It does not, or holds no frame.
    """
    if header.dtype.kind != "f":
        raise ValidationError(
            f"{origin}: {what} are not floating-point numbers", expected="float", found=header.dtype
        )
    if len(header.shape) != 3 or header.shape[2] != 3:
        raise ValidationError(
            f"{origin}: {what} have the wrong shape",
            expected="(n_frames, n_beads, 3)",
            found=header.shape,
        )
    if 0 in header.shape:
        raise ValidationError(f"{origin}: holds no {what}", found=header.shape)


def read_frames(
    header: NpyHeader, start: int, stop: int, read: Callable[[int, int], bytes]
) -> FloatArray:
    """Return frames (stop − start, n_beads, 3) of an ``.npy`` file as float32.

    Args:
        header: Header of the file, as ``check_frames`` accepts it.
        start: First frame.
        stop: One past the last frame.
        read: Returns the bytes of a half-open range of the file, all of them.
    """
    n_frames, *tail = header.shape
    width = header.dtype.itemsize
    if header.fortran_order:
        # Frames vary fastest: each component of each bead is a run of its own.
        columns = [
            np.frombuffer(
                read(
                    header.offset + (column * n_frames + start) * width,
                    header.offset + (column * n_frames + stop) * width,
                ),
                dtype=header.dtype,
            )
            for column in range(math.prod(tail))
        ]
        values = np.stack(columns, axis=1).reshape(stop - start, *reversed(tail))
        values = values.transpose(0, 2, 1)
    else:
        frame = math.prod(tail) * width
        content = read(header.offset + start * frame, header.offset + stop * frame)
        values = np.frombuffer(content, dtype=header.dtype).reshape(stop - start, *tail)
    # A float64 too large for float32 becomes infinite here, and screening masks it.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


@dataclass(frozen=True)
class FrameFile:
    """An ``.npy`` file of frames, read by ranges.

    Not memory-mapped: pages of a map count as resident memory of the process, up to the whole file.
    The file is opened for each read, so that the object goes to threads and other processes.
    """

    path: Path
    header: NpyHeader

    @classmethod
    def open(cls, path: Path, what: str) -> "FrameFile":
        """Check the file's header.

        Raises:
            UsageError: The file does not exist.
            IntegrityError: It is truncated, no ``.npy`` file, or holds pickled objects.
            ValidationError: It holds something other than frames.
        """
        header = read_header(path)
        check_frames(header, what, path)
        # Other processes have other working directories.
        return cls(path.absolute(), header)

    def read(self, start: int, stop: int) -> FloatArray:
        """Return frames of a half-open range as (n, n_beads, 3) float32.

        Raises:
            IntegrityError: The file has become shorter.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return read_frames(
                self.header, start, stop, lambda first, last: self._bytes(descriptor, first, last)
            )
        finally:
            os.close(descriptor)

    def _bytes(self, descriptor: int, first: int, last: int) -> bytes:
        content = os.pread(descriptor, last - first, first)
        # The system may return less than was asked for.
        while len(content) < last - first:
            more = os.pread(descriptor, last - first - len(content), first + len(content))
            if not more:
                raise IntegrityError(
                    f"{self.path}: became shorter while it was read", fix="get the file again"
                )
            content += more
        return content


def read_integers(path: Path, what: str) -> IntArray:
    """Return a list of integers from an ``.npy`` file.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It is truncated, no ``.npy`` file, or holds pickled objects.
        ValidationError: It holds something else.
    """
    header = read_header(path)
    if header.dtype.kind not in "iu" or len(header.shape) != 1:
        raise ValidationError(
            f"{path}: {what}",
            expected="a list of integers",
            found=f"{header.dtype} of shape {header.shape}",
        )
    return np.fromfile(path, dtype=header.dtype, offset=header.offset).astype(np.int64)


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
            values = read_integers(lengths, "trajectory lengths").tolist()
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
    """An ``.npy`` set as a source of frames, screened as it is read; picklable.

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
        self._coordinates = FrameFile.open(coordinates, "coordinates")
        self._forces = {name: FrameFile.open(path, "forces") for name, path in forces.items()}
        shape = self._coordinates.header.shape
        for name, path in forces.items():
            if self._forces[name].header.shape != shape:
                raise ValidationError(
                    f"{path}: forces and coordinates have different shapes",
                    expected=f"{shape} as in {coordinates}",
                    found=self._forces[name].header.shape,
                )
        self._bead_types = read_integers(bead_types, "bead types")
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
        return self._coordinates.header.shape[0]

    @property
    def n_beads(self) -> int:
        """Number of beads of each frame."""
        return self._coordinates.header.shape[1]

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
        coordinates = self._coordinates.read(start, stop)
        forces = {name: file.read(start, stop) for name, file in self._forces.items()}
        return screened_block(coordinates, forces)
