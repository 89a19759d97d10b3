"""dcd files, whose frames all have one size: read straight from where they are.

mdtraj's reader of this format prints to the standard output and leaves a torn last frame out in
silence, so this one stands in for it, with its methods. A dcd file is a sequence of Fortran
records, each between two copies of its length; the layout is that of the CHARMM documentation.
"""

import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import IntegrityError, UsageError

_HEAD: Final = 84


class DcdFrames:
    """The frames of a dcd file, memory-mapped.

    Args:
        path: The file.

    Raises:
        UsageError: It holds some atoms in its first frame only, or its records are of 64 bits.
        IntegrityError: It is no dcd file, or cut off.
    """

    distance_unit = "angstroms"

    def __init__(self, path: Path) -> None:
        with path.open("rb") as handle:
            head = handle.read(4 + _HEAD + 4)
            if len(head) < 4 + _HEAD + 4:
                raise IntegrityError(f"{path}: cut off in its header", fix="get the file again")
            order = next((o for o in "<>" if struct.unpack(f"{o}i", head[:4])[0] == _HEAD), None)
            if order is None or head[4:8] != b"CORD":
                raise IntegrityError(f"{path}: no dcd file with 32-bit records")
            numbers = struct.unpack(f"{order}20i", head[8:88])
            announced, fixed, has_cell, has_fourth = (
                numbers[0],
                numbers[8],
                numbers[10],
                numbers[11],
            )
            if fixed:
                raise UsageError(
                    f"{path}: {fixed} atoms are in its first frame only",
                    fix="write it again with all atoms in every frame",
                )
            charmm = numbers[19] != 0
            (title,) = struct.unpack(f"{order}i", handle.read(4))
            handle.seek(title + 4, 1)
            length, self.n_atoms, _ = struct.unpack(f"{order}3i", handle.read(12))
            offset = handle.tell()
        if length != 4 or self.n_atoms < 1:
            raise IntegrityError(f"{path}: its header does not say how many atoms it has")
        row = np.dtype(
            [("begin", f"{order}i4"), ("value", f"{order}f4", self.n_atoms), ("end", f"{order}i4")]
        )
        cell = np.dtype(
            [("begin", f"{order}i4"), ("value", f"{order}f8", 6), ("end", f"{order}i4")]
        )
        fields: list[tuple[str, Any]] = [("cell", cell)] if charmm and has_cell else []
        fields += [("x", row), ("y", row), ("z", row)]
        fields += [("w", row)] if charmm and has_fourth else []
        frame = np.dtype(fields)
        count, rest = divmod(path.stat().st_size - offset, frame.itemsize)
        # A program that was killed may leave 0 in the header.
        if rest or announced > count:
            raise IntegrityError(
                f"{path}: cut off",
                expected=f"{max(announced, count + 1)} frames of {frame.itemsize} bytes",
                found=f"{count} frames and {rest} bytes",
                fix="get the file again",
            )
        if not count:
            raise IntegrityError(f"{path}: holds no frame")
        self.path = path
        self._frames = np.memmap(path, dtype=frame, mode="r", offset=offset, shape=(count,))
        self._start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._frames

    def __len__(self) -> int:
        return len(self._frames)

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        self._start = frame

    def read(
        self, n_frames: int, atom_indices: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Return positions (n, n_atoms, 3) Å and the lengths (Å) and angles (degrees) of cells.

        Raises:
            IntegrityError: A record within these frames does not have the length of its kind.
        """
        frames = self._frames[self._start : self._start + n_frames]
        axes = []
        for name in "xyz":
            record = frames[name]
            if (record["begin"] != 4 * self.n_atoms).any() or (
                record["end"] != 4 * self.n_atoms
            ).any():
                raise IntegrityError(
                    f"{self.path}: damaged between frames {self._start} and "
                    f"{self._start + n_frames}",
                    fix="get the file again",
                )
            values = record["value"]
            axes.append(values if atom_indices is None else values[:, atom_indices])
        positions = np.stack(axes, axis=-1).astype(np.float32)
        if "cell" not in (self._frames.dtype.names or ()):
            return positions, None, None
        cell = frames["cell"]["value"].astype(np.float64)
        # The order on disk is A, γ, B, β, α, C.
        angles = cell[:, [4, 3, 1]]
        cosines = (np.abs(angles) <= 1.0).all(axis=1)
        angles[cosines] = np.degrees(np.arccos(angles[cosines]))
        return positions, cell[:, [0, 2, 5]], angles
