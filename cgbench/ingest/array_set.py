"""A user's own ``.npy`` arrays as a source of frames, in any of the units a recipe may name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.ingest.npy import FrameFile, read_integers, read_lengths
from cgbench.ingest.screening import screened_block
from cgbench.store import FloatArray, FrameBlock, IntArray


class ArraySet:
    """Coordinates and forces from ``.npy`` files, bead types from the sequence.

    Files are opened for each block, so a source can be used from several threads and sent to other
    processes.

    Args:
        coordinates: File (n_frames, n_beads, 3) of floating-point numbers.
        forces: Per force map a file of the same shape.
        sequence: One letter per bead.
        bead_types: File of bead types (n_beads,), which must be those of the sequence.
        lengths: Frames of each trajectory in order, a sequence or a file; None if not known.
        length_scale: Å in the files' unit of length.
        force_scale: kcal/mol/Å in the files' unit of force.

    Raises:
        UsageError: A file does not exist.
        IntegrityError: A file is truncated, no ``.npy`` file, or holds pickled objects.
        ValidationError: Shapes or types are wrong or disagree, or the bead types are not those of
            the sequence.
    """

    def __init__(
        self,
        coordinates: Path,
        forces: Mapping[str, Path],
        sequence: str,
        *,
        bead_types: Path | None = None,
        lengths: Sequence[int] | Path | None = None,
        length_scale: float = 1.0,
        force_scale: float = 1.0,
    ) -> None:
        self._coordinates = FrameFile.open(coordinates, "coordinates")
        self._forces = {name: FrameFile.open(path, "forces") for name, path in forces.items()}
        self._scales = (np.float32(length_scale), np.float32(force_scale))
        self._bead_types = np.array(registry.bead_vocabulary().types(sequence), dtype=np.int64)
        shape = self._coordinates.header.shape
        if shape[1] != len(sequence):
            raise ValidationError(
                f"{coordinates}: wrong number of beads",
                expected=f"{len(sequence)} for the sequence {sequence}",
                found=shape[1],
            )
        for name, path in forces.items():
            if self._forces[name].header.shape != shape:
                raise ValidationError(
                    f"{path}: forces and coordinates have different shapes",
                    expected=f"{shape} as in {coordinates}",
                    found=self._forces[name].header.shape,
                )
        if bead_types is not None:
            _check_types(bead_types, self._bead_types, sequence)
        self._lengths = None if lengths is None else read_lengths(lengths, self.n_frames)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self._coordinates.header.shape[0]

    @property
    def n_beads(self) -> int:
        """Number of beads of each frame."""
        return len(self._bead_types)

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
        """Return the frames of a half-open range in Å and kcal/mol/Å as float32, screened."""
        length, force = self._scales
        # A number too large for float32 becomes infinite here, and screening masks it.
        with np.errstate(over="ignore", invalid="ignore"):
            coordinates = _scaled(self._coordinates.read(start, stop), length)
            forces = {
                name: _scaled(file.read(start, stop), force) for name, file in self._forces.items()
            }
        return screened_block(coordinates, forces)


def _scaled(values: FloatArray, scale: np.float32) -> FloatArray:
    return values if scale == 1.0 else values * scale


def _check_types(path: Path, expected: IntArray, sequence: str) -> None:
    found = read_integers(path, "bead types")
    if found.shape != expected.shape:
        raise ValidationError(
            f"{path}: wrong number of beads", expected=len(expected), found=len(found)
        )
    different = np.flatnonzero(found != expected)
    if len(different):
        bead = int(different[0])
        raise ValidationError(
            f"{path}: the bead types are not those of the sequence",
            expected=f"type {expected[bead]} ({sequence[bead]}) at bead {bead}",
            found=f"type {found[bead]}; {len(different)} beads differ",
        )
