"""Forces beside a trajectory: ``<trajectory>.forces.npz`` with one array for each force map."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import IntegrityError, ValidationError

SIDECAR: Final = ".forces.npz"
_BLOCK: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class ForceFile:
    """A sidecar of forces, checked by its headers; numbers are read a range at a time.

    ``shapes`` holds (n_frames, n_beads or n_atoms, 3) of each map.
    """

    path: Path
    shapes: dict[str, tuple[int, int, int]]


def sidecar_of(trajectory: Path) -> Path:
    """Return where the forces of a trajectory file would be."""
    return trajectory.with_name(f"{trajectory.stem}{SIDECAR}")


def inspect_forces(path: Path) -> ForceFile:
    """Read the headers of a sidecar's arrays.

    Raises:
        IntegrityError: It is no ``.npz`` file, is damaged, or holds pickled objects.
        ValidationError: An array is no (n_frames, n_beads, 3) of floating-point numbers.
    """
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as handle:
                    shape, _, dtype = _header(handle, path)
                name = member.removesuffix(".npy")
                if dtype.kind != "f" or len(shape) != 3 or shape[2] != 3:
                    raise ValidationError(
                        f"{path}: array {name}",
                        expected="floating-point numbers (n_frames, n_beads, 3)",
                        found=f"{dtype} {shape}",
                    )
                shapes[name] = (int(shape[0]), int(shape[1]), int(shape[2]))
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError) as error:
        raise IntegrityError(f"{path}: no .npz file, or damaged", found=error) from error
    if not shapes:
        raise ValidationError(f"{path}: holds no forces")
    return ForceFile(path, dict(sorted(shapes.items())))


def read_forces(file: ForceFile, name: str, frames: range) -> NDArray[np.float64]:
    """Read forces of frames at equal distances, (n, n_beads, 3), in the file's unit.

    Raises:
        IntegrityError: The file is damaged, or was exchanged since it was inspected.
    """
    count, width = frames[-1] - frames[0] + 1, 3 * file.shapes[name][1]
    try:
        with zipfile.ZipFile(file.path) as archive, archive.open(f"{name}.npy") as handle:
            shape, fortran, dtype = _header(handle, file.path)
            if shape != file.shapes[name] or fortran:
                raise IntegrityError(
                    f"{file.path}: array {name}",
                    expected=f"{file.shapes[name]} in C order",
                    found=f"{shape}{' in Fortran order' if fortran else ''}",
                )
            _skip(handle, frames[0] * width * dtype.itemsize)
            data = _exactly(handle, count * width * dtype.itemsize)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError, RuntimeError) as error:
        raise IntegrityError(f"{file.path}: damaged", found=error) from error
    values = np.frombuffer(data, dtype=dtype).reshape(count, -1, 3)
    return values[:: frames.step].astype(np.float64)


def _header(handle: Any, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(handle)
    try:
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(handle)
        else:
            raise ValueError(f"format version {version[0]}.{version[1]}")
    # Headers are parsed as Python literals, which damaged ones can make too deep to hold.
    except (TokenError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError("the header is damaged") from error
    if dtype.hasobject:
        raise IntegrityError(
            f"{path}: holds Python objects (pickle), which can run code and are never loaded"
        )
    return shape, fortran, dtype


def _skip(handle: Any, length: int) -> None:
    while length > 0:
        block = handle.read(min(length, _BLOCK))
        if not block:
            raise EOFError("the array is cut off")
        length -= len(block)


def _exactly(handle: Any, length: int) -> bytes:
    data: bytes = handle.read(length)
    if len(data) != length:
        raise EOFError("the array is cut off")
    return data
