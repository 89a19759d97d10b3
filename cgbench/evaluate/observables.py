"""What is measured of every frame, once; everything else is sums over these numbers."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.statistic import Frames, ObservableDefinition
from cgbench.evaluate.threads import threads
from cgbench.evaluate.tica import FrameSequence
from cgbench.progress import Progress, silent

if TYPE_CHECKING:
    from cgbench.evaluate.reference_bundle import ReferenceBundle

#: Bytes of pair distances (float64) that are held at once.
_CHUNK_BYTES: Final = 32 * 1024 * 1024
#: What is kept of every frame.
PER_FRAME: Final = (
    "microstate",
    "tics",
    "rg",
    "end_to_end",
    "q",
    "rmsd",
    "handedness",
    "centre_distance",
)
#: Coordinates beyond this many Å are not of a molecule, and their squares overflow float32.
_LARGEST_COORDINATE: Final = 1e6


@dataclass(frozen=True)
class Observables:
    """Per-frame numbers of a set of trajectories, one after the other.

    Attributes:
        trajectory: (n,) int32 trajectory of each frame.
        microstate: (n,) int32 nearest microstate of the reference.
        tics: (n, dimensions) float32 projection on the reference's slow coordinates.
        rg: (n,) float32 radius of gyration in Å.
        end_to_end: (n,) float32 distance between the first and the last bead in Å.
        q: (n,) float32 fraction of native contacts.
        rmsd: (n,) float32 root mean square deviation from the native conformer in Å.
        handedness: (n,) float32 share of the dihedrals that have the native one's sign.
        centre_distance: (n,) float32 distance to the nearest microstate's centre.
        alive: (n,) bool; frames that are not have the native conformer's numbers.
        n_trajectories: Number of trajectories, also of those without frames.
    """

    trajectory: NDArray[np.int32]
    microstate: NDArray[np.int32]
    tics: NDArray[np.float32]
    rg: NDArray[np.float32]
    end_to_end: NDArray[np.float32]
    q: NDArray[np.float32]
    rmsd: NDArray[np.float32]
    handedness: NDArray[np.float32]
    centre_distance: NDArray[np.float32]
    alive: NDArray[np.bool_]
    n_trajectories: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.trajectory)

    def select(self, trajectories: Sequence[int]) -> "Observables":
        """Return some trajectories, numbered anew in the given order.

        Args:
            trajectories: Indices; one given twice becomes two trajectories.

        Raises:
            ValidationError: An index is out of range.
        """
        chosen = np.asarray(trajectories, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < self.n_trajectories):
            raise ValidationError(
                "a trajectory index is out of range",
                expected=f"0 to {self.n_trajectories - 1}",
                found=f"{chosen.min()} to {chosen.max()}",
            )
        order = np.argsort(self.trajectory, kind="stable")
        bounds = np.searchsorted(self.trajectory, np.arange(self.n_trajectories + 1), sorter=order)
        parts = [order[bounds[index] : bounds[index + 1]] for index in chosen]
        frames = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        lengths = [len(part) for part in parts]
        return Observables(
            trajectory=np.repeat(np.arange(len(chosen), dtype=np.int32), lengths),
            microstate=self.microstate[frames],
            tics=self.tics[frames],
            rg=self.rg[frames],
            end_to_end=self.end_to_end[frames],
            q=self.q[frames],
            rmsd=self.rmsd[frames],
            handedness=self.handedness[frames],
            centre_distance=self.centre_distance[frames],
            alive=self.alive[frames],
            n_trajectories=len(chosen),
        )


def chunk_frames(n_beads: int) -> int:
    """Return how many frames of a chain are worked on at once."""
    n_pairs = n_beads * (n_beads - 1) // 2
    return max(64, _CHUNK_BYTES // (8 * n_pairs))


def usable_frames(
    block: NDArray[Any], native: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Replace frames that are not finite, or absurdly far away, by the native conformer.

    Args:
        block: (n, n_beads, 3) coordinates.
        native: (n_beads, 3) native conformer.

    Returns:
        The coordinates float32 and the mask (n,) of the frames that were kept.
    """
    # A comparison with NaN is false, so NaN is caught as well.
    kept = (np.abs(block) < _LARGEST_COORDINATE).all(axis=(1, 2))
    coordinates = np.asarray(block, dtype=np.float32)
    if not kept.all():
        coordinates = np.where(kept[:, None, None], coordinates, native)
    return coordinates, kept


@dataclass(frozen=True)
class Chunk:
    """Frames that are measured together, of one trajectory or of several that follow.

    Attributes:
        place: Their place among all frames.
        frames: Their coordinates; those that are not alive are the native conformer's.
        alive: (n,) frames that count.
    """

    place: slice
    frames: Frames
    alive: NDArray[np.bool_]


Visited = TypeVar("Visited")


def _blocks(
    trajectories: Sequence[FrameSequence], definition: ObservableDefinition
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the place of the first frame and the coordinates of as many as are worked on at once.

    Short trajectories are put together, because every block costs some time of its own.
    """
    shape = definition.native.shape
    step = chunk_frames(definition.n_beads)
    first = held = 0
    parts: list[NDArray[Any]] = []
    for index, trajectory in enumerate(trajectories):
        start = 0
        while start < len(trajectory):
            block = np.asarray(trajectory[start : start + step - held])
            if block.ndim != 3 or block.shape[1:] != shape:
                raise ValidationError(
                    f"trajectory {index} has the wrong shape",
                    expected=f"(n_frames, {shape[0]}, 3)",
                    found=block.shape,
                )
            parts.append(block)
            start, held = start + len(block), held + len(block)
            if held >= step:
                yield first, parts[0] if len(parts) == 1 else np.concatenate(parts)
                first, held, parts = first + held, 0, []
    if parts:
        yield first, parts[0] if len(parts) == 1 else np.concatenate(parts)


def survey(
    definition: ObservableDefinition,
    trajectories: Sequence[FrameSequence],
    alive_until: Sequence[int] | NDArray[np.integer] | None = None,
    progress: Progress = silent,
    task: str = "observables",
    *,
    visit: Callable[[Chunk, Observables], Visited],
    workers: int | None = None,
) -> tuple[Observables, list[Visited]]:
    """Measure every frame, chunk by chunk, and visit every chunk.

    Chunks are read one after the other and measured by several threads. What is returned does not
    depend on their number. Memory is bounded by the result and some chunks.

    Args:
        definition: Native conformer, projection and microstates.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        alive_until: First bad frame of each trajectory; None when all are good.
        progress: Told after each chunk.
        task: The name that progress is told.
        visit: Called by a thread with each chunk once its place in the observables is filled.
        workers: Threads; one for each core that may be used if None.

    Returns:
        One entry per frame, and what the visits returned, in order. Frames that are not finite,
        and those from ``alive_until`` on, are not alive and hold the native conformer's numbers.

    Raises:
        ValidationError: A trajectory has the wrong shape, or ``alive_until`` the wrong length.
    """
    lengths = np.array([len(trajectory) for trajectory in trajectories], dtype=np.int64)
    if alive_until is not None and len(alive_until) != len(trajectories):
        raise ValidationError(
            "alive_until does not fit the trajectories",
            expected=len(trajectories),
            found=len(alive_until),
        )
    total = int(lengths.sum())
    good = np.ones(total, dtype=bool)
    if alive_until is not None:
        within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        good = within < np.repeat(np.asarray(alive_until, dtype=np.int64), lengths)
    result = Observables(
        trajectory=np.repeat(np.arange(len(trajectories), dtype=np.int32), lengths),
        microstate=np.empty(total, dtype=np.int32),
        tics=np.empty((total, definition.tica.dimensions), dtype=np.float32),
        rg=np.empty(total, dtype=np.float32),
        end_to_end=np.empty(total, dtype=np.float32),
        q=np.empty(total, dtype=np.float32),
        rmsd=np.empty(total, dtype=np.float32),
        handedness=np.empty(total, dtype=np.float32),
        centre_distance=np.empty(total, dtype=np.float32),
        alive=good,
        n_trajectories=len(trajectories),
    )

    def work(first: int, block: NDArray[Any]) -> tuple[int, Visited]:
        place = slice(first, first + len(block))
        if not good[place].all():
            block = np.where(good[place][:, None, None], block, definition.native)
        coordinates, finite = usable_frames(block, definition.native)
        good[place] &= finite
        chunk = Chunk(place, Frames(coordinates, definition), good[place])
        for name in PER_FRAME:
            getattr(result, name)[place] = getattr(chunk.frames, name)
        return place.stop, visit(chunk, result)

    visited: list[Visited] = []
    count = default_workers() if workers is None else workers
    with threads(count) as pool:
        pending: deque[Future[tuple[int, Visited]]] = deque()

        def finish() -> None:
            done, found = pending.popleft().result()
            visited.append(found)
            progress(task, done, total)

        for first, block in _blocks(trajectories, definition):
            pending.append(pool.submit(work, first, block))
            # One more than there are threads, so that none waits for the next block.
            if len(pending) > count:
                finish()
        while pending:
            finish()
    return result, visited


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(
    definition: ObservableDefinition,
    trajectories: Sequence[FrameSequence],
    alive_until: Sequence[int] | NDArray[np.integer] | None = None,
    progress: Progress = silent,
    task: str = "observables",
    *,
    workers: int | None = None,
) -> Observables:
    """Measure every frame, chunk by chunk; see :func:`survey`."""
    return survey(
        definition,
        trajectories,
        alive_until,
        progress,
        task,
        visit=lambda chunk, observables: None,
        workers=workers,
    )[0]


def observe(
    bundle: "ReferenceBundle",
    trajectories: Sequence[FrameSequence],
    alive_until: Sequence[int] | NDArray[np.integer] | None = None,
    progress: Progress = silent,
    *,
    workers: int | None = None,
) -> Observables:
    """Measure an ensemble against a reference bundle.

    Args:
        bundle: The reference.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        alive_until: First bad frame of each trajectory; None when all are good.
        progress: Told after each chunk.
        workers: Threads; one for each core that may be used if None.

    Raises:
        ValidationError: As :func:`survey`.
    """
    return measure(bundle.definition, trajectories, alive_until, progress, workers=workers)
