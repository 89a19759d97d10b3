"""Work on trajectories in groups of frames, the same groups whoever does the work."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from cgbench.store.scheduling import Scheduler, run_units

Result = TypeVar("Result")


@dataclass(frozen=True)
class Piece:
    """A range of frames of one trajectory."""

    trajectory: int
    start: int
    stop: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.stop - self.start


def pieces_in_groups(
    lengths: Sequence[int], group_frames: int, most_groups: int
) -> list[list[Piece]]:
    """Cut trajectories into groups of about equal numbers of frames.

    Args:
        lengths: Frames of each trajectory; empty ones are in no group.
        group_frames: Least number of frames in a group, but for the last.
        most_groups: Largest number of groups; they are larger rather than more.

    Returns:
        Pieces in the order of the trajectories, all frames once. They depend on nothing else.
    """
    size = max(group_frames, -(-sum(lengths) // most_groups))
    groups: list[list[Piece]] = []
    room = 0
    for index, length in enumerate(lengths):
        start = 0
        while start < length:
            if not room:
                groups.append([])
                room = size
            stop = min(length, start + room)
            groups[-1].append(Piece(index, start, stop))
            room -= stop - start
            start = stop
    return groups


def in_order(
    task: Callable[[int], tuple[int, Result]],
    n_units: int,
    scheduler: Scheduler = "threads",
    workers: int = 1,
) -> Iterator[Result]:
    """Run units, as many at a time as there are workers, and yield their results in order.

    Linear algebra takes one thread in each unit: the units run side by side, and the number of
    threads can change the last digits of a product.

    Args:
        task: Returns the number of the unit with its result.
        n_units: Number of units.
        scheduler: As :func:`cgbench.store.scheduling.run_units`.
        workers: Units under way at a time.

    Raises:
        UsageError: As :func:`cgbench.store.scheduling.run_units`.
    """
    if workers == 1 and scheduler == "threads":
        with _one_thread():
            for unit in range(n_units):
                yield task(unit)[1]
        return
    # Other processes have libraries, and settings, of their own.
    single = task if scheduler == "threads" else _SingleThreaded(task)
    for first in range(0, n_units, workers):
        units = range(first, min(first + workers, n_units))
        # Results wait for those before them, so that no more than one window is ever held.
        with _one_thread():
            window = dict(
                run_units(single, units, scheduler, workers, unit_name="group", kept=False)
            )
        for unit in units:
            yield window.pop(unit)


@contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class _SingleThreaded(Generic[Result]):
    task: Callable[[int], tuple[int, Result]]

    def __call__(self, unit: int) -> tuple[int, Result]:
        with _one_thread():
            return self.task(unit)
