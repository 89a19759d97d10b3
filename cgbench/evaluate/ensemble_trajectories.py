"""Ensembles from trajectory files: all atoms or beads alone, reduced to Cα by their topology."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.evaluate.pdb_models import PdbModels, read_pdb_models
from cgbench.evaluate.raw_ensemble import RawEnsemble
from cgbench.evaluate.sequence_match import (
    Chain,
    SequenceMatch,
    match_system,
    sequence_of,
    topology_chains,
)
from cgbench.progress import Progress, silent

Array = NDArray[Any]

#: Numbers that are decoded at a time.
_BLOCK_NUMBERS: Final = 12_000_000
_HDF5: Final = (".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class MappedFile:
    """A trajectory file and the system that it is of.

    Attributes:
        path: The file.
        system: Registry key.
        atoms: Which atoms are the beads, in order; None for all.
        n_frames: Number of frames.
        interval: Time between frames that the file states, in ps, or None.
        note: What a reader of scores has to know, or None.
        models: What a pdb file holds, which is read whole.
    """

    path: Path
    system: str
    atoms: NDArray[np.int64] | None
    n_frames: int
    interval: float | None = None
    note: str | None = None
    models: PdbModels | None = None


def map_pdb(path: Path, systems: Sequence[str]) -> MappedFile:
    """Read a pdb file and find which system its models are of.

    Args:
        path: The file.
        systems: Systems that are wanted; any of the registry if empty.

    Raises:
        UsageError: No such file, or several systems have its sequence.
        IntegrityError: Damaged or cut off.
        ValidationError: No chain has the sequence of a system.
    """
    models = read_pdb_models(path)
    match = _match(models.chains, path, systems)
    return MappedFile(
        path,
        match.system,
        match.chain.atoms,
        len(models.coordinates),
        note=match.note,
        models=models,
    )


def map_trajectories(
    files: Sequence[Path],
    systems: Sequence[str],
    topology: Path | None = None,
    progress: Progress = silent,
) -> list[MappedFile]:
    """Inspect trajectory files and find which system each is of, by its topology.

    Without a topology, one is looked for beside the files, by its number of atoms; a file with as
    many atoms as the only system that is wanted has beads needs none.

    Args:
        files: xtc, trr, dcd, netcdf or h5 files.
        systems: Systems that are wanted; any of the registry if empty.
        topology: Topology of all files.
        progress: Called with files inspected.

    Raises:
        UsageError: A file or topology does not exist, is of no known format, or none is found.
        IntegrityError: Damaged or cut off.
        ValidationError: No chain has the sequence of a system, or atoms and topology disagree.
    """
    from cgbench.ingest.trajectory_files import inspect_trajectory

    finder = _Finder(systems, topology)
    mapped = []
    for number, path in enumerate(files):
        progress("inspect trajectories", number, len(files))
        file = inspect_trajectory(path, in_order=False)
        system, atoms, note = finder.beads(path, file.n_atoms)
        mapped.append(MappedFile(path, system, atoms, file.n_frames, file.interval, note))
    progress("inspect trajectories", len(files), len(files))
    return mapped


def stated_intervals(files: Sequence[MappedFile]) -> list[float]:
    """Return the times between frames that files state, each once, in their own unit."""
    return sorted({file.interval for file in files if file.interval is not None})


def read_mapped(files: Sequence[MappedFile], progress: Progress = silent) -> RawEnsemble:
    """Read the beads of files of one system, one trajectory each, block by block.

    Raises:
        IntegrityError: A file is damaged.
    """
    total = sum(file.n_frames for file in files)
    done = 0
    trajectories = []
    for file in files:
        trajectories.append(_read(file, done, total, progress))
        done += file.n_frames
    notes = list(dict.fromkeys(file.note for file in files if file.note is not None))
    intervals = {file.interval for file in files}
    # Thousands of files of one structure each are a pool of samples.
    grouped = len(files) > 1 and any(file.n_frames > 1 for file in files)
    if not grouped and len(files) > 1:
        trajectories = [np.concatenate(trajectories)]
    return RawEnsemble(
        trajectories,
        grouped=grouped,
        stated_interval=intervals.pop() if len(intervals) == 1 else None,
        notes=notes,
    )


def _read(file: MappedFile, before: int, total: int, progress: Progress) -> Array:
    from cgbench.ingest.trajectory_files import inspect_trajectory, read_positions
    from cgbench.ingest.trajectory_source import make_whole

    if file.models is not None:
        found = file.models.coordinates
        progress("read structures", before + file.n_frames, total)
        if file.atoms is None or len(file.atoms) == found.shape[1]:
            return found
        return found[:, file.atoms]
    inspected = inspect_trajectory(file.path, in_order=False)
    n_beads = inspected.n_atoms if file.atoms is None else len(file.atoms)
    frames = np.empty((file.n_frames, n_beads, 3), dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // (3 * inspected.n_atoms))
    for start in range(0, file.n_frames, step):
        stop = min(start + step, file.n_frames)
        positions, boxes = read_positions(inspected, range(start, stop), file.atoms)
        frames[start:stop] = positions if boxes is None else make_whole(positions, boxes)
        progress("read trajectories", before + stop, total)
    return frames


def _match(chains: Sequence[Chain], origin: object, systems: Sequence[str]) -> SequenceMatch:
    if len(systems) == 1:
        return match_system(chains, origin, systems[0])
    if not systems:
        return match_system(chains, origin)
    sequences = {key: sequence_of(key) for key in systems}
    return match_system(chains, origin, sequences=sequences)


class _Finder:
    """Finds the topology and with it the beads of files, each number of atoms once a folder."""

    def __init__(self, systems: Sequence[str], topology: Path | None) -> None:
        from cgbench.ingest.topology import load_topology

        self.systems = systems
        self.topology = topology
        self.given = None if topology is None else load_topology(topology)
        self.known: dict[tuple[Path, int], tuple[str, NDArray[np.int64] | None, str | None]] = {}

    def beads(self, path: Path, n_atoms: int) -> tuple[str, NDArray[np.int64] | None, str | None]:
        """Return system, atoms and note of a file."""
        own = path if path.suffix.lower() in _HDF5 else path.parent
        key = (self.topology or own, n_atoms)
        if key not in self.known:
            self.known[key] = self._find(path, n_atoms)
        return self.known[key]

    def _find(self, path: Path, n_atoms: int) -> tuple[str, NDArray[np.int64] | None, str | None]:
        if self.given is not None:
            if self.given.n_atoms != n_atoms:
                raise ValidationError(
                    f"{path}: another number of atoms than its topology {self.topology}",
                    expected=self.given.n_atoms,
                    found=n_atoms,
                )
            match = _match(topology_chains(self.given), self.topology, self.systems)
            return match.system, match.chain.atoms, match.note
        if len(self.systems) == 1 and n_atoms == len(sequence_of(self.systems[0])):
            return self.systems[0], None, None
        return self._beside(path, n_atoms)

    def _beside(self, path: Path, n_atoms: int) -> tuple[str, NDArray[np.int64] | None, str | None]:
        tried: list[str] = []
        failures: list[CgbenchError] = []
        matches: dict[str, SequenceMatch] = {}
        for candidate in _candidates(path):
            try:
                chains = _chains_of(candidate, n_atoms)
                if isinstance(chains, int):
                    tried.append(f"{candidate.name} has {chains} atoms")
                    continue
                match = _match(chains, candidate, self.systems)
            except CgbenchError as error:
                failures.append(error)
                continue
            matches.setdefault(match.system, match)
        if len(matches) > 1:
            raise UsageError(
                f"{path}: topologies of several systems beside it",
                found=", ".join(matches),
                fix="give --topology or --system",
            )
        if matches:
            ((_, match),) = matches.items()
            return match.system, match.chain.atoms, match.note
        if failures:
            raise failures[0]
        beads = "".join(f"; {key} has {len(sequence_of(key))} beads" for key in self.systems[:5])
        raise UsageError(
            f"{path}: no topology, so its {n_atoms} atoms have no names",
            expected=f"a psf, pdb, gro or prmtop file with {n_atoms} atoms beside it{beads}",
            found="; ".join(tried[:5]) or "none",
            fix="give --topology FILE, or --system where the atoms are its beads alone",
        )


def _candidates(path: Path) -> list[Path]:
    from cgbench.ingest.topology import TOPOLOGY_SUFFIXES, natural_order

    if path.suffix.lower() in _HDF5:
        return [path]
    folders = [path.parent, path.parent.parent]
    found = [
        file
        for folder in folders
        for file in folder.iterdir()
        if file.suffix.lower() in TOPOLOGY_SUFFIXES
        and file.suffix.lower() not in _HDF5
        and file.is_file()
    ]
    # Beside the file first, then by how well the format names residues.
    return sorted(
        found,
        key=lambda file: (
            folders.index(file.parent),
            TOPOLOGY_SUFFIXES.index(file.suffix.lower()),
            natural_order(file),
        ),
    )[:200]


def _chains_of(path: Path, n_atoms: int) -> tuple[Chain, ...] | int:
    """Return the chains of a topology, or its number of atoms where that is another."""
    from cgbench.ingest.topology import load_topology

    topology = load_topology(path)
    return topology_chains(topology) if topology.n_atoms == n_atoms else int(topology.n_atoms)
