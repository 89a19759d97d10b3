"""The raw files of a run, in the layout that preprocessing reads."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.config import Frozen
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.force_maps import (
    ForceMap,
    ForceStatistics,
    MapReport,
    fit_optimal,
    hydrogens_map,
    map_report,
    slice_map,
    write_force_map,
)
from cgbench.generate.earlier import EarlierSet
from cgbench.generate.folder import RunFolder
from cgbench.generate.index_files import SUFFIXES, split_settings, write_index, write_recipe
from cgbench.generate.settings import GenerationSettings
from cgbench.generate.system import alpha_carbons, rigid_groups
from cgbench.progress import Progress, silent
from cgbench.splits.make import make_block_split

#: Bytes of Gram matrices that are in memory at once.
_STATISTICS_BYTES: Final = 1_000_000_000


class RawSummary(Frozen):
    """What the raw files hold.

    Attributes:
        n_trajectories: Number of trajectories, earlier ones included.
        n_frames: Number of frames, earlier ones included.
        n_earlier: Trajectories that are copied from an earlier set.
        training: Trajectories that the optimal map may have been fitted on.
        map_source: Where the optimal map is from.
        force_maps: Mean squares of all maps on the new trajectories; None where nothing could be
            held out.
    """

    n_trajectories: int
    n_frames: int
    n_earlier: int
    training: tuple[int, ...]
    map_source: str
    force_maps: MapReport | None


@dataclass(frozen=True)
class RawTrajectory:
    """A trajectory that raw files are written from.

    Attributes:
        kind: What it started from.
        n_frames: Number of frames.
        read: Gives Cα positions (n, n_beads, 3) in Å and forces on atoms (n, n_atoms, 3) in
            kcal/mol/Å, piece by piece.
        facts: What the index of trajectories says of it beyond kind and length.
    """

    kind: str
    n_frames: int
    read: Callable[[], Iterator[tuple[NDArray[Any], NDArray[Any]]]]
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Metadata:
    system: str
    start_kind: tuple[str, ...] | None
    # Only splits that leave a protein out look at it.
    sequence: str = ""


@dataclass(frozen=True)
class _Index:
    """As much of a store as splits look at."""

    metadata: _Metadata
    fingerprint: str
    n_frames: int
    trajectory_bounds: NDArray[np.int64]
    valid: NDArray[np.bool_]


def training_trajectories(
    name: str, lengths: Sequence[int], kinds: Sequence[str], settings: registry.SplitSettings
) -> tuple[int, ...]:
    """Return the trajectories that the canonical split will train on; all if too few to split."""
    stops = np.cumsum(lengths)
    n_frames = int(stops[-1])
    index = _Index(
        metadata=_Metadata(name, tuple(kinds)),
        fingerprint="",
        n_frames=n_frames,
        trajectory_bounds=np.stack([stops - np.array(lengths), stops], axis=1).astype(np.int64),
        valid=np.ones(n_frames, dtype=np.bool_),
    )
    try:
        split = make_block_split(index, settings)
    except ValidationError:
        return tuple(range(len(lengths)))
    return tuple((split.trajectories or {})["train"])


def raw_trajectories(folder: RunFolder) -> list[RawTrajectory]:
    """Return the finished trajectories of an adaptive run, in the order of their numbers."""

    def reader(index: int) -> Callable[[], Iterator[tuple[NDArray[Any], NDArray[Any]]]]:
        def read() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
            beads, forces = folder.read(index, "bead_positions", "forces")
            yield beads, forces

        return read

    found = []
    for index, record in folder.records().items():
        if record.status == "ok":
            plan = record.planned
            facts = {
                "number": index,
                "round": plan.round,
                "parent": plan.parent,
                "parent_frame": plan.frame,
                "parent_is_earlier": plan.pool,
                "seed": record.seed,
                "timestep_ps": record.timestep,
            }
            found.append(RawTrajectory(plan.kind, record.n_frames, reader(index), facts))
    return found


def write_raw(
    path: Path,
    settings: GenerationSettings,
    topology: Any,
    trajectories: Sequence[RawTrajectory],
    *,
    earlier: EarlierSet | None = None,
    progress: Progress = silent,
) -> RawSummary:
    """Write coordinates, forces under three maps, bead types and the index of trajectories.

    The optimal map is fitted on the trajectories that the canonical split trains on. With earlier
    frames it is theirs, since the forces on their atoms are not at hand.

    Args:
        path: Folder of the files.
        settings: Of the run.
        topology: Topology of the protein.
        trajectories: The run's trajectories.
        earlier: A set whose frames come first; None for the run's own alone.
        progress: Called with trajectories done.

    Raises:
        SimulationError: There is no trajectory.
        UsageError: The earlier set lacks the optimal map or a file.
    """
    if not trajectories:
        raise SimulationError(f"{path}: no trajectory is finished")
    before = [] if earlier is None else earlier.lengths
    lengths = [*before, *(one.n_frames for one in trajectories)]
    kinds = [
        *([] if earlier is None else earlier.started_from),
        *(one.kind for one in trajectories),
    ]
    training = training_trajectories(
        settings.name, lengths, kinds, split_settings(settings.sequence)
    )
    statistics = _statistics(trajectories, topology.getNumAtoms(), len(before), progress)
    maps, source = _maps(topology, earlier, statistics, training)
    _write_arrays(path / settings.name, maps, lengths, settings, trajectories, earlier, progress)
    write_force_map(path / "force_map_optimal.npz", maps[-1])
    write_index(path, settings, lengths, kinds, [one.facts for one in trajectories])
    write_recipe(path, settings, kinds, maps)
    held_out = sorted(set(statistics.trajectories.tolist()) - set(training))
    trained = sorted(set(statistics.trajectories.tolist()) & set(training))
    report = map_report(maps, statistics, trained, held_out) if held_out and trained else None
    return RawSummary(
        n_trajectories=len(lengths),
        n_frames=sum(lengths),
        n_earlier=len(before),
        training=training,
        map_source=source,
        force_maps=report,
    )


def _write_arrays(
    stem: Path,
    maps: Sequence[ForceMap],
    lengths: Sequence[int],
    settings: GenerationSettings,
    trajectories: Sequence[RawTrajectory],
    earlier: EarlierSet | None,
    progress: Progress,
) -> None:
    shape = (sum(lengths), len(settings.sequence), 3)
    with contextlib.ExitStack() as stack:
        coordinates = stack.enter_context(_array(Path(f"{stem}_ca_coords.npy"), shape))
        forces = {
            one.name: stack.enter_context(_array(Path(f"{stem}{SUFFIXES[one.name]}"), shape))
            for one in maps
        }
        start = 0
        if earlier is not None:
            start = earlier.n_frames
            coordinates[:start] = earlier.bead_positions()
            for name, array in forces.items():
                array[:start] = _earlier_forces(earlier, SUFFIXES[name])
        for done, trajectory in enumerate(trajectories, start=1):
            for positions, atom_forces in trajectory.read():
                stop = start + len(positions)
                coordinates[start:stop] = positions
                for one in maps:
                    forces[one.name][start:stop] = one.apply(atom_forces)
                start = stop
            progress("raw files", done, len(trajectories))
    types = np.array(registry.bead_vocabulary().types(settings.sequence), dtype=np.int64)
    with _array(Path(f"{stem}_ca_embeddings.npy"), types.shape, np.int64) as array:
        array[:] = types


def _statistics(
    trajectories: Sequence[RawTrajectory], n_atoms: int, first: int, progress: Progress
) -> ForceStatistics:
    """Return the Gram matrices of the new trajectories, as many as fit into memory."""
    most = max(8, _STATISTICS_BYTES // (8 * n_atoms**2))
    chosen = list(range(0, len(trajectories), -(-len(trajectories) // most)))
    parts = []
    for done, number in enumerate(chosen, start=1):
        pieces = [
            ForceStatistics.from_forces(forces, first + number)
            for _, forces in trajectories[number].read()
        ]
        parts.append(sum(pieces[1:], start=pieces[0]))
        progress("force maps", done, len(chosen))
    return ForceStatistics(
        np.concatenate([part.trajectories for part in parts]),
        np.concatenate([part.n_frames for part in parts]),
        np.concatenate([part.gram for part in parts]),
    )


def _maps(
    topology: Any,
    earlier: EarlierSet | None,
    statistics: ForceStatistics,
    training: Sequence[int],
) -> tuple[tuple[ForceMap, ForceMap, ForceMap], str]:
    sites, groups = alpha_carbons(topology), rigid_groups(topology)
    if earlier is not None:
        optimal = earlier.optimal_map()
        if optimal is None:
            raise UsageError(
                f"{earlier.path}: no force_map_optimal.npz, so its frames cannot be included",
                fix="leave out --include-raw",
            )
        source = f"force_map_optimal.npz of {earlier.path.name}"
    else:
        usable = sorted(set(statistics.trajectories.tolist()) & set(training))
        chosen = statistics.select(usable) if usable else statistics
        optimal = fit_optimal(chosen, sites, groups)
        n_frames = int(chosen.n_frames.sum())
        source = f"fitted on {n_frames} frames of {len(chosen.trajectories)} training trajectories"
    return (slice_map(sites, groups), hydrogens_map(sites, groups), optimal), source


def _earlier_forces(earlier: EarlierSet, suffix: str) -> NDArray[Any]:
    path = earlier.array_path(suffix)
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file, so these frames cannot be included",
            fix="leave out --include-raw",
        )
    values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return values


@contextlib.contextmanager
def _array(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.float32
) -> Iterator[NDArray[Any]]:
    """Give an array on disk that appears under its name when it is whole."""
    for stale in path.parent.glob(f".{path.name}.*.partial"):
        stale.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(descriptor)
    temporary = Path(name)
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        yield array
        array.flush()
        del array
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
