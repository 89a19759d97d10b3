"""Ensembles from files of any format: found, mapped to a system by sequence, and read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.ensemble_arrays import NpzEnsemble, read_npy, read_weights
from cgbench.evaluate.ensemble_inputs import find_inputs
from cgbench.evaluate.ensemble_parts import beads_and_sequence, joined, stored_ensemble
from cgbench.evaluate.ensemble_trajectories import (
    MappedFile,
    map_pdb,
    map_trajectories,
    read_mapped,
)
from cgbench.evaluate.raw_ensemble import Array, RawEnsemble
from cgbench.evaluate.reweighting import at_temperature
from cgbench.evaluate.sequence_match import (
    Chain,
    match_system,
    sequence_of,
    topology_chains,
)
from cgbench.progress import Progress, silent

if TYPE_CHECKING:
    from cgbench.store import TrajectoryAttributes

_INTERVAL_TOLERANCE: Final = 1e-3


class EnsembleFiles:
    """The systems of an ensemble's files; structures are read one system at a time.

    Args:
        path: As for :func:`find_inputs`.
        systems: Systems that are wanted. If None, they are found by sequence: from the topology,
            the pdb files, the ``sequence`` of npz files, or the names in a ``trajectories.zarr``.
        topology: Topology of all files: psf, pdb, gro, prmtop, cif or h5.
        weights: A file ``FILE.npy`` with a weight for each frame, files in natural order.
        progress: Called with files inspected.

    Raises:
        UsageError: Nothing there, of no known format, or it cannot be told which system it is.
        IntegrityError: A file is damaged or cut off.
        ValidationError: No chain has the sequence of a system; the message names the closest.
    """

    def __init__(
        self,
        path: Path,
        systems: Sequence[str] | None = None,
        *,
        topology: Path | None = None,
        weights: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        beside = [one for one in (topology, weights) if one is not None]
        self.inputs = find_inputs(path, beside)
        self._wanted = tuple(dict.fromkeys(systems or ()))
        self._weights = weights
        self._mapped: dict[str, list[MappedFile]] = {}
        for key in self._wanted:
            sequence_of(key)
        if self.inputs.kind == "zarr":
            self._map_zarr()
        elif self.inputs.kind in ("npz", "npy"):
            self._map_arrays(topology)
        else:
            self._map_files(topology, progress)
        if weights is not None and len(self.systems) > 1:
            raise UsageError(
                f"{weights}: one file of weights for several systems",
                found=", ".join(self.systems),
                fix="give one --system",
            )

    @property
    def systems(self) -> tuple[str, ...]:
        """Registry keys of what is there, or was asked for."""
        return tuple(self._mapped)

    def mapped(self, system: str) -> tuple[MappedFile, ...]:
        """Return the files of a system; none for a ``trajectories.zarr``."""
        return tuple(self._mapped[system])

    def paths(self, system: str) -> tuple[Path, ...]:
        """Return every file that holds structures of a system, or says something of them."""
        if self.inputs.kind == "zarr":
            group = self.inputs.files[0] / system
            return tuple(sorted(path for path in group.rglob("*") if path.is_file()))
        return tuple(file.path for file in self._mapped[system])

    def stored_attributes(self, system: str) -> "TrajectoryAttributes | None":
        """Return what a ``trajectories.zarr`` says of a system; None for other formats.

        Raises:
            IntegrityError: The group is damaged.
            ValidationError: An attribute is missing or of the wrong type.
        """
        if self.inputs.kind != "zarr":
            return None
        from cgbench.store import TrajectoryAttributes
        from cgbench.store.untrusted import read_group_attributes

        folder = self.inputs.files[0] / system
        return TrajectoryAttributes.from_disk(read_group_attributes(folder), folder)

    def read(
        self,
        system: str,
        *,
        temperature: float | None = None,
        frame_interval: float | None = None,
        name: str | None = None,
        progress: Progress = silent,
    ) -> Ensemble:
        """Read the structures of a system.

        Args:
            system: One of ``systems``.
            temperature: Temperature of the reference in K, which samples of several temperatures
                are weighted to; the registry's if None.
            frame_interval: Time between frames in ps, which says that they are in time order. What
                a ``trajectories.zarr`` or an npz file states needs no repetition; other files are
                samples without it, whatever times they hold.
            name: What to call the ensemble.
            progress: Called with frames read.

        Raises:
            UsageError: The system is not there.
            IntegrityError: A file is damaged.
            ValidationError: Structures do not fit the system, are in nanometres, or cannot be
                weighted.
            SimulationError: Temperatures do not overlap.
        """
        if system not in self._mapped:
            raise UsageError(
                f"{self.inputs.path}: no structures of {system}", found=", ".join(self.systems)
            )
        title = name or self.inputs.name
        raw = self._raw(system, progress)
        n_beads = len(sequence_of(system))
        for trajectory in raw.trajectories:
            _check_beads(self.inputs.path, trajectory, system, n_beads)
        raw.notes += _told_of_times(raw.stated_interval, frame_interval)
        raw.frame_interval = _interval(self.inputs.path, raw.frame_interval, frame_interval)
        if self._weights is not None:
            raw.weights = raw.divided(read_weights(self._weights), str(self._weights))
        if raw.temperatures is not None and raw.frame_interval is not None:
            # Reweighted frames have no time order any more, so their start is dropped here.
            raw = raw.without_start(registry.constants().drop_fraction)
        raw = at_temperature(raw, temperature or _temperature_of(system), title).in_blocks()
        return Ensemble.from_arrays(
            system,
            raw.trajectories,
            frame_interval=raw.frame_interval,
            weights=raw.weights,
            alive_until=raw.alive_until,
            network_energy=raw.series.get("network_energy"),
            prior_energy=raw.series.get("prior_energy"),
            name=title,
            notes=raw.notes,
            n_beads=n_beads,
        )

    def _map_zarr(self) -> None:
        from cgbench.store import stored_systems

        stored = stored_systems(self.inputs.files[0])
        for key in self._wanted or stored:
            self._mapped[key] = []
        missing = [key for key in self._mapped if key not in stored]
        if missing:
            raise UsageError(
                f"{self.inputs.files[0]}: no system {missing[0]}",
                expected=" or ".join(stored) or "at least one system",
                found=missing[0],
            )

    def _map_files(self, topology: Path | None, progress: Progress) -> None:
        files = self.inputs.files
        if self.inputs.kind == "pdb":
            mapped = []
            for number, path in enumerate(files):
                progress("read pdb files", number, len(files))
                mapped.append(map_pdb(path, self._wanted))
            progress("read pdb files", len(files), len(files))
        else:
            mapped = map_trajectories(files, self._wanted, topology, progress)
        for file in mapped:
            self._mapped.setdefault(file.system, []).append(file)

    def _map_arrays(self, topology: Path | None) -> None:
        chains: tuple[Chain, ...] = ()
        n_atoms = None
        if topology is not None:
            from cgbench.ingest.topology import load_topology

            loaded = load_topology(topology)
            n_atoms, chains = loaded.n_atoms, topology_chains(loaded)
        for path in self.inputs.files:
            n_beads, sequence = beads_and_sequence(path)
            atoms = None
            note = None
            only = self._wanted[0] if len(self._wanted) == 1 else None
            if topology is not None:
                match = match_system(chains, topology, only)
                system, note = match.system, match.note
                if n_beads == n_atoms:
                    atoms = match.chain.atoms
                elif n_beads != len(match.chain.sequence):
                    raise ValidationError(
                        f"{path}: another number of atoms than its topology {topology}",
                        expected=n_atoms,
                        found=n_beads,
                    )
            elif sequence is not None:
                chain = Chain("the file", sequence, np.arange(len(sequence)))
                system = match_system([chain], path, only).system
            else:
                system = self._by_count(path, n_beads)
            self._mapped.setdefault(system, []).append(
                MappedFile(path, system, atoms, 0, note=note)
            )

    def _by_count(self, path: Path, n_beads: int) -> str:
        """Return the wanted system with this number of beads: numbers alone name no protein."""
        fitting = [key for key in self._wanted if len(sequence_of(key)) == n_beads]
        if len(fitting) == 1:
            return fitting[0]
        if not self._wanted:
            raise UsageError(
                f"{path}: its {n_beads} beads have no names, so it cannot be told which protein "
                "it is",
                fix="give --system, --topology, or an array 'sequence' in an npz file",
            )
        sizes = ", ".join(f"{key} has {len(sequence_of(key))}" for key in self._wanted)
        raise ValidationError(
            f"{path}: not the beads of {' or '.join(self._wanted)}",
            expected=sizes,
            found=f"{n_beads} beads",
            fix=_same_count(n_beads),
        )

    def _raw(self, system: str, progress: Progress) -> RawEnsemble:
        files = self._mapped[system]
        if self.inputs.kind == "zarr":
            return stored_ensemble(self.inputs.files[0], system)
        if self.inputs.kind in ("trajectories", "pdb"):
            return read_mapped(files, progress)
        parts = []
        for number, file in enumerate(files):
            progress("read arrays", number, len(files))
            suffix = file.path.suffix.lower()
            part = NpzEnsemble(file.path).read() if suffix == ".npz" else read_npy(file.path)
            if file.atoms is not None:
                part.trajectories = [one[:, file.atoms] for one in part.trajectories]
            if file.note is not None:
                part.notes.append(file.note)
            parts.append(part)
        return joined(parts, [file.path for file in files])


def read_ensemble(
    path: Path,
    system: str,
    *,
    topology: Path | None = None,
    weights: Path | None = None,
    temperature: float | None = None,
    frame_interval: float | None = None,
    name: str | None = None,
    progress: Progress = silent,
) -> Ensemble:
    """Read the ensemble of one system from files of any format.

    Arguments and errors are those of :class:`EnsembleFiles` and its ``read``.
    """
    files = EnsembleFiles(path, [system], topology=topology, weights=weights, progress=progress)
    return files.read(
        system,
        temperature=temperature,
        frame_interval=frame_interval,
        name=name,
        progress=progress,
    )


def _check_beads(path: Path, trajectory: Array, system: str, n_beads: int) -> None:
    if trajectory.ndim != 3 or trajectory.shape[1] != n_beads:
        raise ValidationError(
            f"{path}: not the beads of {system}",
            expected=f"(n_frames, {n_beads}, 3)",
            found=trajectory.shape,
            fix=_same_count(trajectory.shape[1]),
        )


def _same_count(n_beads: int) -> str:
    keys = [one.key for one in registry.systems() if one.n_beads == n_beads]
    if keys:
        return f"{', '.join(keys)} would fit by number: give --system"
    return "atoms other than Cα need --topology FILE"


def _interval(path: Path, stated: float | None, given: float | None) -> float | None:
    if stated is not None and given is not None and abs(stated - given) > 1e-6 * given:
        raise UsageError(
            f"{path}: states another time between frames",
            expected=f"{stated:g} ps, or no --frame-interval",
            found=f"{given:g} ps",
        )
    return stated if given is None else given


def _told_of_times(stated: float | None, given: float | None) -> list[str]:
    if stated is None:
        return []
    if given is None:
        return [
            f"The files state times {stated:g} ps apart; the frames were scored as samples without "
            "time order. Give --frame-interval if they are trajectories of a simulation."
        ]
    if abs(stated - given) <= _INTERVAL_TOLERANCE * given:
        return []
    return [f"The files state times {stated:g} ps apart; {given:g} ps was given and used."]


def _temperature_of(system: str) -> float:
    parents = {one.key: one.parent for one in registry.mutants()}
    return registry.system(parents.get(system, system)).temperature
