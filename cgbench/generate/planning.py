"""Which trajectories come next: decided from the seed and the frames of finished rounds."""

from collections.abc import Iterator

import numpy as np

from cgbench.errors import UsageError
from cgbench.generate.adaptive import SEPARATION, k_centres, least_counts, pair_distances
from cgbench.generate.earlier import EarlierSet
from cgbench.generate.folder import Plan, RunFolder
from cgbench.generate.records import PlannedTrajectory, StartKind, spawn_seed
from cgbench.generate.settings import GenerationSettings

#: First words of the keys of seeds, one for each use.
_ROUND, _TRAJECTORY = 0, 1

#: Distances that are in memory at once (1 GB); more frames are thinned evenly.
_MAXIMUM_NUMBERS = 250_000_000


def extend(
    plan: Plan, folder: RunFolder, settings: GenerationSettings, earlier: EarlierSet | None
) -> Plan:
    """Return the plan with one round more.

    The first round starts from the native structure and coils in turn (coils alone without a
    native structure). A part of later rounds does too; the rest starts from frames of earlier
    rounds. With an earlier raw set the first round is like later ones.

    Args:
        plan: All rounds so far, whose trajectories are finished or failed.
        folder: Where their frames are.
        settings: Of the run.
        earlier: A raw set that is continued.

    Raises:
        UsageError: The all-atom frames were discarded.
    """
    if folder.discarded_path.is_file():
        raise UsageError(
            f"{folder.path}: its all-atom frames were discarded, so it cannot be continued",
            fix="start a new --out with --from-raw and this folder",
        )
    number, first = plan.n_rounds, len(plan.trajectories)
    count = settings.trajectories_per_round
    frames = _frames(folder, settings, earlier, number)
    n_fresh = count if frames is None else min(count, round(settings.fresh_fraction * count))
    native = "native" in folder.starts()[1]
    drawn = (
        []
        if frames is None
        else frames.draw(count - n_fresh, spawn_seed(settings.seed, _ROUND, number, 1))
    )
    planned = []
    for position in range(count):
        index = first + position
        seed = spawn_seed(settings.seed, _TRAJECTORY, index)
        if position < n_fresh:
            kind: StartKind = "native" if native and (number + position) % 2 == 0 else "coil"
            planned.append(PlannedTrajectory(index=index, round=number, kind=kind, seed=seed))
        else:
            parent, frame, pool = drawn[position - n_fresh]
            planned.append(
                PlannedTrajectory(
                    index=index, round=number, kind="adaptive", parent=parent, frame=frame,
                    pool=pool, seed=seed,
                )
            )  # fmt: skip
    return Plan(trajectories=(*plan.trajectories, *planned))


def batches(plan: Plan, n_copies: int) -> Iterator[list[PlannedTrajectory]]:
    """Give the trajectories of a plan in the batches that are integrated together."""
    for number in range(plan.n_rounds):
        members = [one for one in plan.trajectories if one.round == number]
        for start in range(0, len(members), n_copies):
            yield members[start : start + n_copies]


class _Frames:
    """All frames that are counted, and where those are from that can be started from."""

    def __init__(self, settings: GenerationSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._positions: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
        self._usable: list[bool] = []
        self._counted: list[bool] = []
        self._origin: list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ...]] = []

    def add(
        self,
        positions: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        trajectory: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
        frame: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
        *,
        usable: bool,
        counted: bool,
    ) -> None:
        """Add frames of one origin."""
        self._positions.append(positions)
        self._usable.append(usable)
        self._counted.append(counted)
        self._origin.append((trajectory, frame))

    def draw(self, count: int, seed: int) -> list[tuple[int, int, bool]]:
        """Draw frames by least counts: trajectory, frame, and whether it is of the pool."""
        n_residues = len(self._settings.sequence)
        n_pairs = (n_residues - SEPARATION) * (n_residues - SEPARATION + 1) // 2
        n_frames = sum(len(one) for one in self._positions)
        # Thinned before anything is read, so that a large earlier set stays on disk.
        every = slice(None, None, max(1, -(-n_frames * n_pairs // _MAXIMUM_NUMBERS)))
        positions = [one[every] for one in self._positions]
        sizes = [len(one) for one in positions]
        clusters = k_centres(
            pair_distances(np.concatenate(positions)), self._settings.n_clusters, seed=self._seed
        )
        chosen = least_counts(
            clusters,
            np.repeat(self._usable, sizes),
            count,
            seed=seed,
            counted=np.repeat(self._counted, sizes),
        )
        trajectory = np.concatenate([one[0][every] for one in self._origin])
        frame = np.concatenate([one[1][every] for one in self._origin])
        pool = np.repeat([not counted for counted in self._counted], sizes)
        return [(int(trajectory[i]), int(frame[i]), bool(pool[i])) for i in chosen]

    @property
    def any_usable(self) -> bool:
        """Whether there is a frame to start from."""
        return any(u and len(p) for u, p in zip(self._usable, self._positions, strict=True))


def _frames(
    folder: RunFolder, settings: GenerationSettings, earlier: EarlierSet | None, number: int
) -> _Frames | None:
    """Collect all frames so far; None if there is none to start from."""
    found = _Frames(settings, spawn_seed(settings.seed, _ROUND, number, 0))
    if earlier is not None:
        everything = earlier.bead_positions()
        nowhere = np.zeros(len(everything), dtype=np.int64)
        found.add(everything, nowhere, nowhere, usable=False, counted=True)
        pool = earlier.pool()
        found.add(pool.beads, pool.trajectory, pool.frame, usable=True, counted=False)
    for index, record in folder.records().items():
        if record.status == "ok":
            (beads,) = folder.read(index, "bead_positions")
            numbers = np.arange(len(beads), dtype=np.int64)
            found.add(beads, np.full_like(numbers, index), numbers, usable=True, counted=True)
    return found if found.any_usable else None
