"""An earlier raw set that a run continues: its Cα frames, and the all-atom frames at hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import read_data, read_model
from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps import ForceMap, read_force_map
from cgbench.generate.adaptive import pair_distances
from cgbench.generate.folder import TOPOLOGY_NAME, RunFolder, load_arrays
from cgbench.generate.settings import GenerationSettings
from cgbench.generate.structures import atom_order, read_pdb
from cgbench.generate.system import alpha_carbons, rigid_groups
from cgbench.ingest.npy import read_header, read_lengths

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_COORDINATES: Final = "_ca_coords.npy"
_EXAMPLE: Final = "all_atom_example.npz"
_NATIVE: Final = ("native_ca.pdb", "native.pdb")
#: Å in Cα distances within which a frame stands for the native structure.
_NATIVE_LIKE: Final = 1.0
#: Most all-atom frames of an earlier set that starts are drawn from; more are thinned evenly.
_MAXIMUM_POOL: Final = 20_000


@dataclass(frozen=True)
class Pool:
    """All-atom frames that a trajectory can start from.

    Attributes:
        trajectory: (n,) number of the trajectory of each.
        frame: (n,) number of the frame within it.
        beads: (n, n_beads, 3) Cα positions in Å.
    """

    trajectory: IntArray
    frame: IntArray
    beads: FloatArray


class EarlierSet:
    """A folder of raw files, with ``topology_all_atom.pdb`` and some all-atom frames.

    All-atom frames are those of a run of cgbench in the same folder (``all_atom/``), else those of
    ``all_atom_example.npz`` with arrays ``coords_0``, ``coords_1`` and so on, one a trajectory.
    Without either, starts are drawn from native structure and coils alone.

    Args:
        path: The folder.
        topology: Topology of the run that continues it; its atoms are named alike.

    Raises:
        UsageError: A file is missing.
        IntegrityError: A file is damaged.
        ValidationError: The set is of another chain.
    """

    def __init__(self, path: Path, topology: Any) -> None:
        self.path = path
        self._topology = topology
        self._beads = alpha_carbons(topology)
        self._coordinates = coordinates_file(path)
        self.stem = self._coordinates.name.removesuffix(_COORDINATES)
        header = read_header(self._coordinates)
        if header.shape[1:] != (len(self._beads), 3):
            raise ValidationError(
                f"{self._coordinates}: of another chain",
                expected=f"(frames, {len(self._beads)}, 3)",
                found=header.shape,
            )
        self._header = header
        self._order = self._atom_order()
        self.index = self._read_index()

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self._header.shape[0]

    @property
    def lengths(self) -> list[int]:
        """Frames of each trajectory."""
        return [int(length) for length in self.index["lengths"]]

    @property
    def started_from(self) -> list[str]:
        """What each trajectory started from, ``earlier`` where the set does not say."""
        return list(self.index.get("started_from") or ["earlier"] * len(self.lengths))

    def check_same_dynamics(self, settings: GenerationSettings) -> None:
        """Check that frames of this set may stand beside those of a run, as far as it tells.

        Raises:
            UsageError: Frame interval, temperature or force field differ, or the set holds frames
                of several temperatures.
        """
        alike: dict[str, tuple[object, object]] = {}
        if (interval := self.index.get("frame_interval_ps")) is not None:
            alike["frame interval in ps"] = (settings.dynamics.frame_interval, interval)
        if self._run.settings_path.is_file():
            known = read_model(GenerationSettings, self._run.settings_path)
            alike["temperature in K"] = (
                settings.dynamics.temperature,
                known.ladder or known.dynamics.temperature,
            )
            alike["force field"] = (settings.system.force_field, known.system.force_field)
        for what, (expected, found) in alike.items():
            if found != expected:
                raise UsageError(
                    f"{self.path}: frames of another {what} cannot be included",
                    expected=expected,
                    found=found,
                    fix="leave out --include-raw, or simulate alike",
                )

    def bead_positions(self) -> FloatArray:
        """Return the Cα positions (n_frames, n_beads, 3) in Å, mapped from disk."""
        mapped = np.load(self._coordinates, mmap_mode="r", allow_pickle=False)
        return np.asarray(mapped, dtype=np.float32)

    def array_path(self, suffix: str) -> Path:
        """Return the path of a raw file by the end of its name, ``_ca_forces.npy`` and so on."""
        return self.path / f"{self.stem}{suffix}"

    def pool(self) -> Pool:
        """Return the all-atom frames that starts can be drawn from, perhaps none."""
        trajectory, frame, beads = [], [], []
        for number, values in self._bead_trajectories():
            trajectory.append(np.full(len(values), number))
            frame.append(np.arange(len(values)))
            beads.append(values)
        if not beads:
            nothing = np.empty(0, dtype=np.int64)
            return Pool(nothing, nothing, np.empty((0, len(self._beads), 3), dtype=np.float32))
        stride = -(-sum(map(len, frame)) // _MAXIMUM_POOL)
        return Pool(
            np.concatenate(trajectory)[::stride].astype(np.int64),
            np.concatenate(frame)[::stride].astype(np.int64),
            np.concatenate(beads)[::stride].astype(np.float32),
        )

    def atoms(self, trajectory: int, frame: int) -> NDArray[np.float64]:
        """Return the positions (n_atoms, 3) of a frame of the pool in Å."""
        if self._run.has_frames:
            (positions,) = self._run.read(trajectory, "positions")
        else:
            name = f"coords_{trajectory}"
            positions = load_arrays(self.path / _EXAMPLE, (name,))[name]
        return np.asarray(positions[frame], dtype=np.float64)[self._order]

    def native_like(self) -> tuple[NDArray[np.float64], str] | None:
        """Return the all-atom frame nearest to the set's native structure, and which it is.

        The structure is ``native_ca.pdb`` or ``native.pdb``; nearness is the root mean square
        difference of Cα distances. None without a structure, or if no frame is within 1 Å.
        """
        path = next((p for p in map(self.path.joinpath, _NATIVE) if p.is_file()), None)
        pool = self.pool()
        if path is None or not len(pool.frame):
            return None
        structure = read_pdb(path)
        native = structure.positions[alpha_carbons(structure.topology)].astype(np.float32)
        if native.shape != pool.beads.shape[1:]:
            raise ValidationError(
                f"{path}: of another chain", expected=pool.beads.shape[1:], found=native.shape
            )
        differences = pair_distances(pool.beads) - pair_distances(native[None])
        distances = np.sqrt((differences**2).mean(axis=1))
        nearest = int(distances.argmin())
        if distances[nearest] > _NATIVE_LIKE:
            return None
        trajectory, frame = int(pool.trajectory[nearest]), int(pool.frame[nearest])
        what = (
            f"frame {frame} of all-atom trajectory {trajectory} of {self.path.name}, "
            f"{distances[nearest]:.2f} Å from {path.name} in Cα distances"
        )
        return self.atoms(trajectory, frame), what

    def optimal_map(self) -> ForceMap | None:
        """Return the optimal force map of the set in the order of atoms of the run, if it has one.

        Raises:
            ValidationError: It is of other atoms.
        """
        path = self.path / "force_map_optimal.npz"
        if path.with_suffix(".json").is_file():
            known = read_force_map(path)
            weights, fit = known.weights, known.fit
        elif path.is_file():
            weights, fit = load_arrays(path, ("atom_weights",))["atom_weights"], None
        else:
            return None
        if weights.shape != (len(self._beads), len(self._order)):
            raise ValidationError(
                f"{path}: of other atoms",
                expected=(len(self._beads), len(self._order)),
                found=weights.shape,
            )
        groups = rigid_groups(self._topology)
        return ForceMap("optimal", weights[:, self._order], self._beads, groups, fit)

    @property
    def _run(self) -> RunFolder:
        return RunFolder(self.path)

    def _bead_trajectories(self) -> list[tuple[int, FloatArray]]:
        if self._run.has_frames:
            return [
                (index, self._run.read(index, "bead_positions")[0])
                for index, record in self._run.records().items()
                if record.status == "ok"
            ]
        example = self.path / _EXAMPLE
        if not example.is_file():
            return []
        arrays = load_arrays(example, None)
        numbers = sorted(int(name[7:]) for name in arrays if name.startswith("coords_"))
        chosen = self._order[self._beads]
        return [(number, arrays[f"coords_{number}"][:, chosen]) for number in numbers]

    def _atom_order(self) -> IntArray:
        path = self.path / TOPOLOGY_NAME
        structure = read_pdb(path)
        return atom_order(structure.topology, self._topology, path)

    def _read_index(self) -> dict[str, Any]:
        path = self.path / "trajectories.json"
        data = read_data(path)
        if not isinstance(data, dict) or "lengths" not in data:
            raise ValidationError(f"{path}: no lengths of trajectories")
        read_lengths(path, self.n_frames)
        return data


def coordinates_file(path: Path) -> Path:
    """Return the one file of Cα coordinates of a raw folder.

    Raises:
        UsageError: There is none, or there are several.
    """
    found = sorted(path.glob(f"*{_COORDINATES}"))
    if len(found) != 1:
        raise UsageError(
            f"{path}: which coordinates?" if found else f"{path}: no raw coordinates",
            expected=f"one file *{_COORDINATES}",
            found=", ".join(one.name for one in found[:5]) or "none",
        )
    return found[0]
