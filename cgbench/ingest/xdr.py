"""Where the frames of xtc and trr files begin, and when they were taken.

Only headers are read, so an index of a file costs a few microseconds a frame, and a file that was
cut off is known before anything is decompressed. Both formats are sequences of frames in XDR (RFC
4506): big endian, everything padded to four bytes. The layouts are those of the GROMACS reference
manual's chapter on file formats.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import IntegrityError, ValidationError

_XTC_MAGIC: Final = 1995
_TRR_MAGIC: Final = 1993
#: Up to this many atoms an xtc frame holds plain floats instead of compressed integers.
XTC_PLAIN_ATOMS: Final = 9
_XTC_HEAD: Final = struct.Struct(">iiif36xi")
#: Precision, smallest and largest integers, size of small integers, bytes of the packed block.
_XTC_PACKED: Final = struct.Struct(">f28xi")
_TRR_NAME: Final = b"GMX_trn_file"
_TRR_HEAD: Final = struct.Struct(">ii i12s 10i 3i")


@dataclass(frozen=True)
class XdrIndex:
    """Frames of one xtc or trr file.

    ``offsets`` (n_frames,) int64 bytes; ``times`` (n_frames,) float64 ps as the file has them, in
    single precision; ``force_offsets`` (n_frames,) int64 of each frame's block of forces where
    every frame of a trr has one, else None; ``double`` whether a trr is in double precision.
    """

    n_atoms: int
    offsets: NDArray[np.int64]
    times: NDArray[np.float64]
    force_offsets: NDArray[np.int64] | None
    double: bool


class _Frame(NamedTuple):
    n_atoms: int
    time: float
    size: int
    force_offset: int
    double: bool


class _Parser(Protocol):
    """The type of a parser of one frame's header."""

    def __call__(self, data: mmap.mmap, offset: int, path: Path, /) -> _Frame:
        """Parse the header of the frame that begins at a byte."""


def index_xdr(path: Path) -> XdrIndex:
    """Index an xtc or trr file by its headers.

    Raises:
        IntegrityError: The file is empty, cut off or damaged; the message names the frame.
        ValidationError: The number of atoms changes, or a frame has no coordinates.
    """
    frames = _xtc_frame if path.suffix.lower() == ".xtc" else _trr_frame
    offsets, times, forces = [], [], []
    n_atoms = 0
    double = False
    for number, (offset, frame) in enumerate(_walk(path, frames)):
        if number and frame.n_atoms != n_atoms:
            raise ValidationError(
                f"{path}: the number of atoms changes at frame {number}",
                expected=n_atoms,
                found=frame.n_atoms,
            )
        n_atoms = frame.n_atoms
        double = frame.double
        offsets.append(offset)
        times.append(frame.time)
        forces.append(frame.force_offset)
    return XdrIndex(
        n_atoms=n_atoms,
        offsets=np.array(offsets, dtype=np.int64),
        times=np.array(times, dtype=np.float64),
        force_offsets=np.array(forces, dtype=np.int64) if all(forces) else None,
        double=double,
    )


def read_trr_forces(
    path: Path, index: XdrIndex, frames: NDArray[np.int64], atoms: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Read forces of chosen frames and atoms of a trr file, (frames, atoms, 3) in kJ/mol/nm.

    Raises:
        IntegrityError: The file ends within a frame.
        ValidationError: It has no forces.
    """
    if index.force_offsets is None:
        raise ValidationError(f"{path}: not every frame has forces")
    kind = np.dtype(">f8" if index.double else ">f4")
    values = np.empty((len(frames), len(atoms), 3), dtype=np.float64)
    with path.open("rb") as handle:
        for row, frame in enumerate(frames):
            handle.seek(int(index.force_offsets[frame]))
            block = handle.read(3 * index.n_atoms * kind.itemsize)
            if len(block) < 3 * index.n_atoms * kind.itemsize:
                raise _cut_off(path, int(frame), int(index.offsets[frame]))
            values[row] = np.frombuffer(block, dtype=kind).reshape(-1, 3)[atoms]
    return values


def _walk(path: Path, parse: _Parser) -> Iterator[tuple[int, _Frame]]:
    size = path.stat().st_size
    if size == 0:
        raise IntegrityError(f"{path}: an empty file", fix="get the file again")
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset = number = 0
        while offset < size:
            try:
                frame = parse(data, offset, path)
            except struct.error as error:
                raise _cut_off(path, number, offset) from error
            except ValueError as error:
                raise IntegrityError(
                    f"{path}: damaged at frame {number}, byte {offset}",
                    found=error,
                    fix="get the file again",
                ) from error
            if offset + frame.size > size:
                raise _cut_off(path, number, offset)
            yield offset, frame
            offset += frame.size
            number += 1


def _xtc_frame(data: mmap.mmap, offset: int, path: Path) -> _Frame:
    magic, n_atoms, _, time, repeated = _XTC_HEAD.unpack_from(data, offset)
    if magic != _XTC_MAGIC or n_atoms < 1 or repeated != n_atoms:
        raise ValueError(f"no header of an xtc frame (magic number {magic}, {n_atoms} atoms)")
    size = _XTC_HEAD.size
    if n_atoms <= XTC_PLAIN_ATOMS:
        return _Frame(n_atoms, time, size + 12 * n_atoms, 0, False)
    precision, packed = _XTC_PACKED.unpack_from(data, offset + size)
    # An atom takes more than a bit, and hardly more than its plain numbers.
    if not n_atoms <= 8 * packed <= 8 * 16 * n_atoms or not precision > 0:
        raise ValueError(f"{packed} packed bytes at precision {precision:g}")
    return _Frame(n_atoms, time, size + _XTC_PACKED.size + -(-packed // 4) * 4, 0, False)


def _trr_frame(data: mmap.mmap, offset: int, path: Path) -> _Frame:
    magic, outer, length, name, *numbers = _TRR_HEAD.unpack_from(data, offset)
    lengths = (len(_TRR_NAME) + 1, len(_TRR_NAME))
    if magic != _TRR_MAGIC or (outer, length) != lengths or name != _TRR_NAME:
        raise ValueError(f"no header of a trr frame (magic number {magic})")
    sizes, n_atoms = numbers[:10], numbers[10]
    if n_atoms < 1 or min(sizes) < 0:
        raise ValueError(f"{n_atoms} atoms, blocks of {sizes} bytes")
    box, positions, velocities, forces = sizes[2], sizes[7], sizes[8], sizes[9]
    widths = {block / (3 * n_atoms) for block in (positions, velocities, forces) if block}
    widths |= {box / 9} if box else set()
    if not widths:
        raise ValueError("a frame without any block")
    if len(widths) != 1 or not widths <= {4.0, 8.0}:
        raise ValueError(f"blocks of {sizes} bytes for {n_atoms} atoms")
    if not positions:
        raise ValidationError(
            f"{path}: a frame at byte {offset} has no coordinates",
            fix="write coordinates and forces at the same steps",
        )
    double = widths == {8.0}
    (time,) = struct.unpack_from(">d" if double else ">f", data, offset + _TRR_HEAD.size)
    start = _TRR_HEAD.size + (16 if double else 8)
    size = start + sum(sizes)
    return _Frame(n_atoms, time, size, offset + size - forces if forces else 0, double)


def _cut_off(path: Path, number: int, offset: int) -> IntegrityError:
    return IntegrityError(
        f"{path}: cut off in frame {number}, which begins at byte {offset}",
        found=f"{path.stat().st_size} bytes",
        fix="get the file again",
    )
