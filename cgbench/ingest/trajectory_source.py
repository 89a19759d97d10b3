"""Trajectory files as a source of frames: one trajectory a file, Cα atoms by topology."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.ingest.force_files import ForceFile, inspect_forces, read_forces, sidecar_of
from cgbench.ingest.hashing import LocalFile, RawFile
from cgbench.ingest.screening import screened_block
from cgbench.ingest.topology import find_topology, load_topology, select_beads
from cgbench.ingest.trajectory_files import (
    TrajectoryFile,
    inspect_trajectory,
    read_positions,
    xdr_index,
)
from cgbench.ingest.xdr import read_trr_forces
from cgbench.progress import Progress, silent
from cgbench.store import FloatArray, FrameBlock, IntArray
from cgbench.units import (
    ANGSTROM_PER_NANOMETRE,
    FEMTOSECONDS_PER_PICOSECOND,
    KILOJOULE_PER_KILOCALORIE,
)

_INTERVAL_TOLERANCE: Final = 1e-3
#: One kJ/mol/nm in kcal/mol/Å.
_KILOJOULE_FORCE: Final = 1.0 / (KILOJOULE_PER_KILOCALORIE * ANGSTROM_PER_NANOMETRE)
#: The map that forces on the Cα atom alone belong to.
SLICE: Final = "slice"


class TrajectorySource:
    """Trajectory files as a source of frames, screened as they are read.

    Files are opened for each block and closed again, so a source can be used from several threads
    and sent to other processes. Molecules that a periodic box cuts are joined along the chain.

    Args:
        files: Trajectory files, xtc, trr, dcd, netcdf, h5 or pdb, one trajectory each.
        sequence: One letter per bead.
        topology: Topology of all files. Where it is None, files with as many atoms as beads are
            taken to hold the Cα atoms alone; for others a topology with their number of atoms and
            this sequence is looked for in ``search`` and in the files' folders.
        search: Folders in which a topology may be.
        stride: Keep every so many frames of each file, from its first on.
        interval: Time between frames of the files in ps, where it is known. Files that state this
            number in femtoseconds are then understood; others with another interval are refused.
        force_maps: Which force maps to read, in this order; all that the files have by default.
        forces_in_kilojoule: Whether sidecar forces are in kJ/mol/nm instead of kcal/mol/Å. Forces
            of trr files are, by definition of the format.
        progress: Called with files inspected.

    Raises:
        UsageError: A file does not exist, is of no known format, or no topology is found.
        IntegrityError: A file is damaged or cut off.
        ValidationError: Files disagree in their atoms, intervals or forces, or a residue is not
            that of the sequence.
    """

    def __init__(
        self,
        files: Sequence[Path],
        sequence: str,
        *,
        topology: Path | None = None,
        search: Iterable[Path] = (),
        stride: int = 1,
        interval: float | None = None,
        force_maps: Sequence[str] | None = None,
        forces_in_kilojoule: bool = False,
        progress: Progress = silent,
    ) -> None:
        if not files:
            raise UsageError("no trajectory files", expected="at least one")
        if stride < 1:
            raise UsageError("stride", expected="at least 1", found=stride)
        self.sequence = sequence
        self.stride = stride
        self.forces_in_kilojoule = forces_in_kilojoule
        self._bead_types = np.array(registry.bead_vocabulary().types(sequence), dtype=np.int64)
        inspected = []
        for done, path in enumerate(files):
            progress("inspect trajectories", done, len(files))
            inspected.append(inspect_trajectory(path))
        progress("inspect trajectories", len(files), len(files))
        self.files = tuple(inspected)
        self._atoms = _beads_of(self.files, sequence, topology, tuple(search))
        self.n_in_femtoseconds, self._interval = _common_interval(self.files, interval)
        self._sidecars = _sidecars(self.files, sequence)
        self._from_trr = not self._sidecars and all(file.has_forces for file in self.files)
        self._force_maps = self._chosen(force_maps)
        self._lengths = np.array([-(-f.n_frames // stride) for f in self.files], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return int(self._starts[-1])

    @property
    def n_beads(self) -> int:
        """Number of beads of each frame."""
        return len(self.sequence)

    @property
    def force_maps(self) -> tuple[str, ...]:
        """Names of the force maps."""
        return self._force_maps

    @property
    def bead_types(self) -> IntArray:
        """Bead types (n_beads,) in the published vocabulary."""
        return self._bead_types

    @property
    def trajectory_lengths(self) -> IntArray:
        """Frames of each trajectory, one a file."""
        return self._lengths

    @property
    def frame_interval(self) -> float | None:
        """Time between frames in ps as the files state it, times the stride; None if none does."""
        return None if self._interval is None else self._interval * self.stride

    def read(self, start: int, stop: int) -> FrameBlock:
        """Return the frames of a half-open range as float32, screened."""
        coordinates = np.empty((stop - start, self.n_beads, 3), dtype=np.float32)
        forces = {name: np.empty_like(coordinates) for name in self.force_maps}
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        row = start
        while row < stop:
            first = row - int(self._starts[number])
            count = min(stop - row, int(self._lengths[number]) - first)
            frames = range(first * self.stride, (first + count - 1) * self.stride + 1, self.stride)
            inside = slice(row - start, row - start + count)
            coordinates[inside] = self._positions(number, frames)
            for name, values in forces.items():
                # A number too large for float32 becomes infinite, and screening masks it.
                with np.errstate(over="ignore"):
                    values[inside] = self._forces(number, name, frames)
            row += count
            number += 1
        return screened_block(coordinates, forces)

    def raw_files(self, topology: Path | None = None) -> list[tuple[str, RawFile]]:
        """Return every file by its role, for the hashes that a store keeps."""
        files: list[tuple[str, RawFile]] = []
        if topology is not None:
            files.append(("topology", LocalFile(topology)))
        for number, file in enumerate(self.files):
            part = self._starts[number : number + 2] / self.n_frames
            frames = (float(part[0]), float(part[1]))
            files.append((f"trajectory/{number}", LocalFile(file.path, frames)))
            if self._sidecars:
                sidecar = LocalFile(self._sidecars[number].path, frames)
                files.append((f"trajectory_forces/{number}", sidecar))
        return files

    def _chosen(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        found: tuple[str, ...] = (SLICE,) if self._from_trr else ()
        if self._sidecars:
            found = tuple(self._sidecars[0].shapes)
        for name in wanted or ():
            if name not in found:
                raise ValidationError(
                    f"{self.files[0].path}: no forces of map {name}",
                    expected=f"an array {name} in {sidecar_of(self.files[0].path).name}",
                    found=", ".join(found) or "no forces",
                )
        return found if wanted is None else tuple(dict.fromkeys(wanted))

    def _positions(self, number: int, frames: range) -> FloatArray:
        file = self.files[number]
        positions, boxes = read_positions(file, frames, self._atoms[file.n_atoms])
        return positions if boxes is None else make_whole(positions, boxes)

    def _forces(self, number: int, name: str, frames: range) -> NDArray[np.float64]:
        file = self.files[number]
        atoms = self._atoms[file.n_atoms]
        if self._from_trr:
            chosen = np.arange(file.n_atoms) if atoms is None else atoms
            values = read_trr_forces(
                file.path, xdr_index(file.path), np.array(frames, dtype=np.int64), chosen
            )
            return values * _KILOJOULE_FORCE
        values = read_forces(self._sidecars[number], name, frames)
        if atoms is not None and values.shape[1] == file.n_atoms:
            values = values[:, atoms]
        return values * _KILOJOULE_FORCE if self.forces_in_kilojoule else values


def make_whole(positions: FloatArray, boxes: NDArray[np.float64]) -> FloatArray:
    """Join chains that a periodic box cuts, bead by bead from the first on.

    A bond is far shorter than half a box, so the whole numbers nearest to its components along
    the box vectors are how many boxes it crosses. Chains that are whole are returned as they are.

    Args:
        positions: (n, n_beads, 3) Å.
        boxes: (n, 3, 3) Å, box vectors row by row; a box without volume is none.
    """
    volume = np.abs(np.linalg.det(boxes))
    sound = np.flatnonzero(np.isfinite(volume) & (volume > 1.0))
    if not len(sound) or positions.shape[1] < 2:
        return positions
    steps = np.diff(positions[sound].astype(np.float64), axis=1)
    crossed = np.round(steps @ np.linalg.inv(boxes[sound]))
    cut = np.isfinite(crossed).all(axis=(1, 2)) & (crossed != 0).any(axis=(1, 2))
    if not cut.any():
        return positions
    shifts = np.cumsum(crossed[cut] @ boxes[sound][cut], axis=1)
    whole = positions.copy()
    whole[sound[cut], 1:] -= shifts.astype(np.float32)
    return whole


def _beads_of(
    files: Sequence[TrajectoryFile],
    sequence: str,
    topology: Path | None,
    search: Sequence[Path],
) -> Mapping[int, NDArray[np.int64] | None]:
    """Return, for each number of atoms that occurs, which atoms are the beads (None for all)."""
    atoms: dict[int, NDArray[np.int64] | None] = {}
    given = None if topology is None else load_topology(topology)
    for file in files:
        n_atoms = file.n_atoms
        if n_atoms in atoms:
            continue
        if given is not None:
            if given.n_atoms != n_atoms:
                raise ValidationError(
                    f"{file.path}: another number of atoms than its topology {topology}",
                    expected=given.n_atoms,
                    found=n_atoms,
                )
            atoms[n_atoms] = select_beads(given, sequence, topology)
        elif n_atoms == len(sequence):
            atoms[n_atoms] = None
        elif n_atoms < len(sequence):
            raise ValidationError(
                f"{file.path}: fewer atoms than beads",
                expected=f"at least {len(sequence)} for {sequence}",
                found=n_atoms,
            )
        else:
            folders = list(dict.fromkeys([*search, file.path.parent]))
            found = find_topology(folders, n_atoms, sequence)
            atoms[n_atoms] = select_beads(load_topology(found), sequence, found)
    return atoms


def _common_interval(
    files: Sequence[TrajectoryFile], expected: float | None
) -> tuple[int, float | None]:
    """Return how many files state femtoseconds, and the one interval in ps of all files."""
    in_femtoseconds = 0
    common, first = expected, None
    for file in files:
        interval = file.interval
        if interval is None:
            continue
        if expected is not None and _close(interval, expected * FEMTOSECONDS_PER_PICOSECOND):
            in_femtoseconds += 1
            interval = expected
        if common is None:
            common = interval
        if not _close(interval, common):
            raise ValidationError(
                f"{file.path}: another time between frames",
                expected=f"{common:g} ps" + (f", as in {first.path}" if first is not None else ""),
                found=f"{interval:g} ps",
                fix="keep files of different intervals in different stores",
            )
        first = first or file
    return in_femtoseconds, common if first is not None else None


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= _INTERVAL_TOLERANCE * second


def _sidecars(files: Sequence[TrajectoryFile], sequence: str) -> tuple[ForceFile, ...]:
    paths = [sidecar_of(file.path) for file in files]
    present = [path.is_file() for path in paths]
    if not any(present):
        return ()
    if not all(present):
        raise ValidationError(
            f"{paths[present.index(False)]}: forces are missing",
            expected="a file of forces beside every trajectory, or beside none",
            found=f"{sum(present)} of {len(paths)}",
        )
    inspected = tuple(inspect_forces(path) for path in paths)
    for file, forces in zip(files, inspected, strict=True):
        if set(forces.shapes) != set(inspected[0].shapes):
            raise ValidationError(
                f"{forces.path}: other force maps than {inspected[0].path}",
                expected=", ".join(inspected[0].shapes),
                found=", ".join(forces.shapes),
            )
        for name, shape in forces.shapes.items():
            widths = {len(sequence)} | ({file.n_atoms} if name == SLICE else set())
            if shape[0] != file.n_frames or shape[1] not in widths:
                raise ValidationError(
                    f"{forces.path}: array {name} does not fit {file.path.name}",
                    expected=(file.n_frames, len(sequence), 3),
                    found=shape,
                )
    return inspected
