"""The folder of a run: settings, plan, and finished trajectories, each whole or not there."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.config import Frozen, file_sha256, read_model, whole_file, write_atomic, write_model
from cgbench.errors import IntegrityError, UsageError
from cgbench.generate.records import Frames, PlannedTrajectory, TrajectoryRecord
from cgbench.generate.settings import GenerationSettings
from cgbench.generate.structures import Structure, read_pdb, write_pdb

FloatArray = NDArray[np.float32]

TOPOLOGY_NAME: Final = "topology_all_atom.pdb"


class Plan(Frozen):
    """All trajectories that have been planned, round by round."""

    version: Literal[1] = 1
    trajectories: tuple[PlannedTrajectory, ...] = ()

    @property
    def n_rounds(self) -> int:
        """Number of rounds that are planned."""
        return 1 + max((one.round for one in self.trajectories), default=-1)


class RunFolder:
    """Reads and writes a run's own files.

    Args:
        path: The folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_path = path / "settings.json"
        self.plan_path = path / "plan.json"
        self.topology_path = path / TOPOLOGY_NAME
        self.starts_path = path / "starts.npz"
        self.discarded_path = path / "all_atom_discarded.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            UsageError: Another process generates into it.
        """
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"{self.path}: another process generates into this folder",
                    fix="wait for it, or name another --out",
                ) from error
            yield

    def claim(self, settings: GenerationSettings) -> None:
        """Take the folder for a run, new or continued.

        Raises:
            UsageError: It holds a run with other settings, or other things.
        """
        if self.settings_path.is_file():
            known = read_model(GenerationSettings, self.settings_path)
            if known != settings:
                first, second = _flat(known.model_dump()), _flat(settings.model_dump())
                changed = [name for name in first if first[name] != second[name]]
                raise UsageError(
                    f"{self.path}: holds a run with other settings",
                    expected=", ".join(f"{name} {first[name]}" for name in changed[:5]),
                    found=", ".join(f"{name} {second[name]}" for name in changed[:5]),
                    fix="use the same settings, or name another --out",
                )
        else:
            strangers = [one.name for one in self.path.glob("*") if not one.name.startswith(".")]
            if strangers:
                raise UsageError(
                    f"{self.path}: holds something else",
                    expected="a new or empty folder",
                    found=", ".join(sorted(strangers)[:5]),
                    fix="name another --out",
                )
            write_model(self.settings_path, settings)

    def keep_starts(self, topology: Structure, native: NDArray[np.float64] | None) -> None:
        """Keep the extended chain and, where there is one, the native structure."""
        arrays = {"extended": topology.positions}
        if native is not None:
            arrays["native"] = native
        # The topology is written last: it says that the other is there.
        save_arrays(self.starts_path, arrays)
        write_atomic(self.topology_path, write_pdb(topology))

    def starts(self) -> tuple[Any, dict[str, NDArray[np.float64]]]:
        """Return the topology and the structures ``extended`` and perhaps ``native`` in Å."""
        structure = read_pdb(self.topology_path)
        arrays = load_arrays(self.starts_path, None)
        return structure.topology, arrays

    def plan(self) -> Plan:
        """Return the plan so far, empty for a new run."""
        return read_model(Plan, self.plan_path) if self.plan_path.is_file() else Plan()

    def keep_plan(self, plan: Plan) -> None:
        """Write the plan."""
        write_model(self.plan_path, plan)

    def frames_path(self, index: int) -> Path:
        """Return where the frames of a trajectory are kept."""
        return self.path / "all_atom" / f"{index:06d}.npz"

    def record_path(self, index: int) -> Path:
        """Return where the record of a trajectory is kept; with it the trajectory is finished."""
        return self.path / "trajectories" / f"{index:06d}.json"

    def keep(self, record: TrajectoryRecord, frames: Frames | None, beads: NDArray[Any]) -> None:
        """Write a finished trajectory: frames first, then the record that says they are whole.

        Args:
            record: What became of it.
            frames: Its frames, None if it failed.
            beads: Atom indices (n_residues,) of the Cα atoms.
        """
        path = self.frames_path(record.planned.index)
        if frames is not None:
            save_arrays(
                path,
                {
                    "positions": frames.positions,
                    "forces": frames.forces,
                    "energies": frames.energies,
                    "bead_positions": frames.positions[:, beads],
                },
            )
            record = record.model_copy(update={"sha256": file_sha256(path)})
        write_model(self.record_path(record.planned.index), record)

    def records(self) -> dict[int, TrajectoryRecord]:
        """Return the records of finished and failed trajectories by their numbers."""
        found = {}
        for path in sorted(self.record_path(0).parent.glob("[0-9]*.json")):
            record = read_model(TrajectoryRecord, path)
            found[record.planned.index] = record
        return found

    def discard_frames(self) -> None:
        """Remove the all-atom frames; a note says so, before the first is gone."""
        write_atomic(self.discarded_path, '{"discarded": true}\n')
        for path in self.frames_path(0).parent.glob("*.npz"):
            path.unlink()

    @property
    def has_frames(self) -> bool:
        """Whether the folder holds all-atom frames of a run."""
        return self.settings_path.is_file() and not self.discarded_path.is_file()

    def read(self, index: int, *names: str) -> list[NDArray[Any]]:
        """Return arrays of a finished trajectory: positions, forces, energies, bead_positions.

        Raises:
            UsageError: The frames were discarded.
            IntegrityError: The file is damaged.
        """
        path = self.frames_path(index)
        if not path.is_file() and self.discarded_path.is_file():
            raise UsageError(
                f"{self.path}: its all-atom frames were discarded, so it cannot be continued",
                fix="start a new --out with --from-raw and this folder",
            )
        arrays = load_arrays(path, names)
        return [arrays[name] for name in names]


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` file that is whole or not there."""
    # mypy takes the keyword arguments for other parameters of savez.
    _write_whole(path, lambda handle: np.savez(handle, **arrays))  # type: ignore[arg-type]


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an ``.npy`` file that is whole or not there."""
    _write_whole(path, lambda handle: np.save(handle, array))


def _write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    for stale in path.parent.glob(f".{path.name}.*.partial"):
        stale.unlink(missing_ok=True)
    with whole_file(path) as handle:
        write(handle)


def load_arrays(path: Path, names: tuple[str, ...] | None) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz`` file; nothing in it is executed.

    Args:
        path: The file.
        names: Which arrays; all for None.

    Raises:
        IntegrityError: The file or an array is missing or damaged.
    """
    if not path.is_file():
        raise IntegrityError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            chosen = tuple(archive.files) if names is None else names
            return {name: archive[name] for name in chosen}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path}: damaged, or an array is missing", found=error) from error


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
