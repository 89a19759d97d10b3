"""One trajectory file: how many frames, when they were taken, and random access to some of them.

mdtraj decodes; this module adds what it leaves open: files that were cut off are found before they
are used, frames are reached without reading the ones before, and lengths become ångströms here and
nowhere else.
"""

import contextlib
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.ingest.dcd import DcdFrames
from cgbench.ingest.xdr import XTC_PLAIN_ATOMS, XdrIndex, index_xdr
from cgbench.ingest.xtc_packing import check_packing
from cgbench.units import ANGSTROM_PER_NANOMETRE

#: Suffixes of trajectory files, and whether a file of that kind states the times of its frames.
STATES_TIMES: Final = {
    ".xtc": True,
    ".trr": True,
    ".nc": True,
    ".ncdf": True,
    ".netcdf": True,
    ".h5": True,
    ".hdf5": True,
    # The header of a dcd counts steps in units that differ from program to program.
    ".dcd": False,
    ".pdb": False,
}
_XDR: Final = frozenset({".xtc", ".trr"})
_HDF5: Final = frozenset({".h5", ".hdf5"})
_HDF5_LOCK: Final = threading.Lock()
#: A pdb file is text that is parsed whole.
_LARGEST_PDB: Final = 512 * 1024 * 1024
#: Frame times are single-precision numbers: how far one may be off, beside its own rounding.
_TIME_TOLERANCE: Final = 0.01
_DAMAGE: Final = (
    OSError,
    SystemError,
    RuntimeError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True)
class TrajectoryFile:
    """What a trajectory file holds.

    ``interval`` is the time between frames in the file's own unit (ps, if it keeps to its
    format), or None where the file has one frame or states no times. ``has_forces`` is true for a
    trr file with forces in every frame.
    """

    path: Path
    n_frames: int
    n_atoms: int
    interval: float | None
    has_forces: bool
    size: int


def inspect_trajectory(path: Path, *, in_order: bool = True) -> TrajectoryFile:
    """Index a trajectory file and check its times; no frame is decoded in xtc and trr files.

    Args:
        path: The file.
        in_order: Whether frames follow one another in time. Where not, as in files of picked
            frames, times that do not grow by equal steps count as none.

    Raises:
        UsageError: The file does not exist, is of no known format, or its reader is missing.
        IntegrityError: It is empty, cut off or damaged.
        ValidationError: The times of its frames do not grow by equal steps.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in STATES_TIMES:
        raise UsageError(
            f"{path}: no trajectory format that is known",
            expected=", ".join(STATES_TIMES),
            found=suffix or "no suffix",
        )
    size = path.stat().st_size
    if suffix in _XDR:
        index = xdr_index(path)
        interval = _interval(index.times, path, in_order)
        n_frames = len(index.offsets)
        forces = index.force_offsets is not None
        return TrajectoryFile(path, n_frames, index.n_atoms, interval, forces, size)
    with _opened(path) as handle:
        n_frames = len(handle)
        if n_frames < 1:
            raise IntegrityError(f"{path}: holds no frame")
        positions, times = _read(handle, suffix, 1)[:2]
        n_atoms = positions.shape[1]
        if times is not None:
            handle.seek(0)
            times = np.asarray(_times(handle, suffix), dtype=np.float64)
    interval = None if times is None else _interval(times, path, in_order)
    return TrajectoryFile(path, n_frames, n_atoms, interval, False, size)


def _interval(times: NDArray[np.float64], path: Path, in_order: bool) -> float | None:
    try:
        return constant_interval(times, path)
    except ValidationError:
        if in_order:
            raise
        return None


def constant_interval(times: NDArray[np.float64], path: Path) -> float | None:
    """Return the time between frames after checking that it is the same everywhere.

    Returns:
        The interval in the unit of ``times``; None for a single frame, or where all times are
        the same, which is how files without times look.

    Raises:
        ValidationError: The steps differ by more than the rounding of the times.
    """
    if not np.isfinite(times).all():
        raise ValidationError(f"{path}: times of frames are not finite numbers")
    if len(times) < 2 or bool((times == times[0]).all()):
        return None
    interval = float((times[-1] - times[0]) / (len(times) - 1))
    expected = times[0] + interval * np.arange(len(times))
    rounding = 2.0 * float(np.spacing(np.float32(np.abs(times).max())))
    wrong = np.flatnonzero(np.abs(times - expected) > _TIME_TOLERANCE * abs(interval) + rounding)
    if interval <= 0.0 or len(wrong):
        steps = np.diff(times)
        common = float(np.median(steps))
        off = np.abs(steps - common) > _TIME_TOLERANCE * abs(common) + rounding
        frame = int(np.flatnonzero(off)[0]) + 1 if off.any() else 1
        raise ValidationError(
            f"{path}: the time between frames is not constant",
            expected=f"{common:g} ps, as between most frames",
            found=f"{steps[frame - 1]:g} ps between frames {frame - 1} and {frame}",
            fix="split the file where it was restarted, or remove repeated frames",
        )
    # Six digits are what single precision leaves of a difference.
    return float(f"{interval:.6g}")


def read_positions(
    file: TrajectoryFile, frames: range, atoms: NDArray[np.int64] | None
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Read frames at equal distances in order, and no others.

    Args:
        file: The file, as :func:`inspect_trajectory` described it.
        frames: Frames within the file, with a positive step.
        atoms: Which atoms, in order; all by default.

    Returns:
        Positions (n, n_atoms, 3) float32 in Å and, where the file has them, box vectors
        (n, 3, 3) float64 in Å, row by row.

    Raises:
        IntegrityError: The file is damaged there, or was exchanged since it was inspected.
    """
    suffix = file.path.suffix.lower()
    index = xdr_index(file.path) if suffix in _XDR else None
    if suffix == ".xtc" and index is not None and index.n_atoms > XTC_PLAIN_ATOMS:
        check_packing(file.path, index.offsets, frames, index.n_atoms)
    with _opened(file.path) as handle:
        if index is not None:
            # Without its offsets mdtraj would search the whole file.
            handle.offsets = index.offsets
        if frames.step == 1:
            handle.seek(frames.start)
            positions, _, boxes = _read(handle, suffix, len(frames), atoms)
        else:
            # The strides of mdtraj's readers end in different places, one of them past the file.
            pieces = []
            for frame in frames:
                handle.seek(frame)
                pieces.append(_read(handle, suffix, 1, atoms))
            positions = np.concatenate([piece[0] for piece in pieces])
            known = [piece[2] for piece in pieces if piece[2] is not None]
            boxes = np.concatenate(known) if len(known) == len(pieces) else None
    if len(positions) != len(frames):
        raise IntegrityError(
            f"{file.path}: cut off", expected=f"{len(frames)} frames", found=len(positions)
        )
    return positions, boxes


def xdr_index(path: Path) -> XdrIndex:
    """Return the index of an xtc or trr file, kept in memory until the file changes."""
    status = path.stat()
    return _cached_index(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_index(path: Path, size: int, modified: int) -> XdrIndex:
    return index_xdr(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file through mdtraj; whatever goes wrong inside it names the file."""
    from mdtraj import formats

    suffix = path.suffix.lower()
    try:
        if suffix == ".pdb":
            yield _PdbFrames(path)
            return
        if suffix == ".dcd":
            with DcdFrames(path) as frames:
                yield frames
            return
        if suffix in _HDF5:
            # The library below is not made for threads.
            with _HDF5_LOCK, formats.HDF5TrajectoryFile(str(path)) as handle:
                yield handle
            return
        reader = {
            ".xtc": "XTCTrajectoryFile",
            ".trr": "TRRTrajectoryFile",
        }.get(suffix, "NetCDFTrajectoryFile")
        with getattr(formats, reader)(str(path)) as handle:
            yield handle
    except CgbenchError:
        raise
    except ImportError as error:
        raise UsageError(
            f"{path}: mdtraj needs another package to read {suffix} files",
            found=f"no module {error.name or 'tables'}",
            fix="pip install tables, or convert the file to xtc",
        ) from error
    except _DAMAGE as error:
        raise IntegrityError(
            f"{path}: damaged, or no {suffix} file",
            found=" ".join(str(error).split())[:200] or type(error).__name__,
            fix="get the file again",
        ) from error


def _read(
    handle: Any,
    suffix: str,
    n_frames: int,
    atoms: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], Any, NDArray[np.float64] | None]:
    """Return positions in Å, times or None, and box vectors in Å or None."""
    from mdtraj.utils import lengths_and_angles_to_box_vectors

    if suffix == ".pdb":
        return handle.read(n_frames, atoms), None, None
    found = handle.read(n_frames, atom_indices=atoms)
    scale = 1.0 if handle.distance_unit == "angstroms" else ANGSTROM_PER_NANOMETRE
    positions = np.asarray(found[0], dtype=np.float32) * np.float32(scale)
    times: Any = None
    boxes: Any = None
    if suffix in _XDR:
        times, boxes = found[1], found[3]
    elif suffix == ".dcd":
        lengths, angles = found[1:3]
    elif suffix in _HDF5:
        times, lengths, angles = found.time, found.cell_lengths, found.cell_angles
    else:
        times, lengths, angles = found[1:4]
    if suffix not in _XDR and lengths is not None and angles is not None:
        vectors = lengths_and_angles_to_box_vectors(*np.asarray(lengths).T, *np.asarray(angles).T)
        boxes = np.stack(vectors, axis=1)
    return positions, times, None if boxes is None else np.asarray(boxes, np.float64) * scale


def _times(handle: Any, suffix: str) -> Any:
    """Return the times of all frames, with a single atom read beside them."""
    only = np.array([0])
    found = handle.read(atom_indices=only)
    return found.time if suffix in _HDF5 else found[1]


class _PdbFrames:
    """The models of a pdb file, with the same methods as mdtraj's readers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def _all(self) -> NDArray[np.float32]:
        status = self.path.stat()
        return _pdb_positions(self.path, status.st_size, status.st_mtime_ns)

    def __len__(self) -> int:
        return len(self._all())

    def seek(self, frame: int) -> None:
        self._start = frame

    def read(self, n_frames: int, atoms: NDArray[np.int64] | None) -> NDArray[np.float32]:
        chosen = self._all()[self._start : self._start + n_frames]
        return np.array(chosen if atoms is None else chosen[:, atoms])


@lru_cache(maxsize=4)
def _pdb_positions(path: Path, size: int, modified: int) -> NDArray[np.float32]:
    from mdtraj.formats import PDBTrajectoryFile

    if size > _LARGEST_PDB:
        raise UsageError(
            f"{path}: too large for a text format",
            expected=f"at most {_LARGEST_PDB} bytes",
            found=size,
            fix="convert it to xtc",
        )
    with PDBTrajectoryFile(str(path)) as handle:
        return np.asarray(handle.positions, dtype=np.float32)
