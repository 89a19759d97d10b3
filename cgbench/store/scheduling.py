"""Who works on the units of a store: threads, processes, or a cluster of dask workers.

Whoever it is, units that are finished come back one by one, and only so many are under way at a
time: memory is bounded by them, and an interruption loses no more than them.
"""

import os
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING, Any, Final, TypeVar, Union

from cgbench.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

Result = TypeVar("Result")
Task = Callable[[int], Result]

#: ``threads``, ``processes``, the address of a dask scheduler, or a client of one.
Scheduler = Union[str, "Client"]

#: So often a unit is tried again whose process died. A unit that kills whoever writes it (memory)
#: would go on for ever.
_ATTEMPTS: Final = 3
#: Units that each worker of a cluster has, one of them waiting, so that none is idle.
_UNITS_PER_WORKER: Final = 2
#: How long a scheduler may take to answer.
CONNECT_TIMEOUT: Final = "30s"


def run_units(
    task: Task[Result],
    units: Sequence[int],
    scheduler: Scheduler = "threads",
    workers: int = 1,
    *,
    unit_name: str = "shard",
    kept: bool = True,
) -> Iterator[Result]:
    """Run a task for each unit and yield the results as they come, in any order.

    When a unit fails, those under way are finished and yielded, and then its error is raised.

    Args:
        task: What is run; it must be picklable except with threads.
        units: Numbers of the units.
        scheduler: ``threads``, ``processes``, ``tcp://host:port`` (also ``tls://``, ``ucx://``
            and ``inproc://``) or a ``distributed.Client``.
        workers: Units under way at a time; on a cluster at least this many.
        unit_name: What errors call a unit.
        kept: Whether results outlive an error, which then says so.

    Raises:
        UsageError: The scheduler is unknown, cannot be reached or is gone, or workers died again
            and again.
    """
    if workers < 1:
        raise UsageError("number of workers", expected="at least 1", found=workers)
    kept_units = f"; finished {unit_name}s are kept" if kept else ""
    if not isinstance(scheduler, str):
        yield from _on_cluster(task, units, scheduler, workers, kept_units)
    elif scheduler == "threads":
        yield from _in_pool(
            task, units, lambda: ThreadPoolExecutor(workers), workers, unit_name, kept_units
        )
    elif scheduler == "processes":
        # Forked children of a process with zarr's threads can deadlock.
        spawn = get_context("spawn")
        yield from _in_pool(
            task,
            units,
            lambda: ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent),
            workers,
            unit_name,
            kept_units,
        )
    elif "://" in scheduler:
        with _connect(scheduler) as client:
            yield from _on_cluster(task, units, client, workers, kept_units)
    else:
        raise UsageError(
            f"unknown scheduler {scheduler}", expected="threads, processes or tcp://host:port"
        )


def _end_with_parent() -> None:
    """Let this worker end when the process that started it does, killed or not.

    It would finish its unit otherwise, beside whoever does it again, and wait for ever for another.
    """
    parent = parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def _in_pool(
    task: Task[Result],
    units: Sequence[int],
    start: Callable[[], Executor],
    workers: int,
    unit_name: str,
    kept_units: str,
) -> Iterator[Result]:
    waiting = deque(units)
    running: dict[Future[Result], int] = {}
    deaths: Counter[int] = Counter()
    failure: Exception | None = None
    pool = start()
    try:
        while waiting or running:
            try:
                while waiting and len(running) < workers:
                    future = pool.submit(task, waiting[0])
                    running[future] = waiting.popleft()
            except BrokenProcessPool:
                # A process has died since the last look; what it had under way says so below.
                if not running:
                    pool.shutdown()
                    pool = start()
                    continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            for future in finished:
                unit = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    lost.append(unit)
                    continue
                except Exception as error:  # noqa: BLE001
                    # Raised below, when what is under way is safe.
                    failure = failure or error
                    waiting.clear()
                    continue
                yield result
            if lost:
                # The death of one process breaks the whole pool: all that it had is lost.
                lost += running.values()
                running.clear()
                pool.shutdown()
                deaths.update(lost)
                if failure is None:
                    _check_deaths(deaths, unit_name, kept_units)
                    waiting.extendleft(sorted(lost, reverse=True))
                    pool = start()
    finally:
        pool.shutdown(cancel_futures=True)
    if failure is not None:
        raise failure


def _check_deaths(deaths: Counter[int], unit_name: str, kept_units: str) -> None:
    unit, number = deaths.most_common(1)[0]
    if number >= _ATTEMPTS:
        raise UsageError(
            f"worker processes died {number} times while {unit_name} {unit} was worked on",
            fix=f"use fewer workers, or a machine with more memory{kept_units}",
        )


def _connect(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            f"{address}: distributed is not installed", fix="pip install 'cgbench[cluster]'"
        ) from error
    try:
        return Client(address, timeout=CONNECT_TIMEOUT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"{address}: no dask scheduler answers",
            found=str(error).splitlines()[0],
            fix="start one (dask scheduler), or give the address that it prints",
        ) from error


def _on_cluster(
    task: Task[Result], units: Sequence[int], client: "Client", workers: int, kept_units: str
) -> Iterator[Result]:
    from distributed import KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    waiting = deque(units)
    run = uuid.uuid4().hex
    failure: Exception | None = None
    # The scheduler runs units of workers that died again, elsewhere.
    pending: Any = as_completed()  # type: ignore[no-untyped-call]
    under_way = 0

    def submit() -> int:
        if not waiting:
            return 0
        known = client.ncores()  # type: ignore[no-untyped-call]
        allowed = max(workers, _UNITS_PER_WORKER * len(known))
        submitted = 0
        while waiting and under_way + submitted < allowed:
            unit = waiting.popleft()
            future = client.submit(task, unit, key=f"cgbench-{run}-{unit}", pure=False)
            pending.add(future)
            submitted += 1
        return submitted

    under_way += submit()
    try:
        while under_way:
            future = next(pending)
            under_way -= 1
            try:
                result = future.result()
            except KilledWorker as error:
                failure = failure or UsageError(
                    f"workers of the cluster died again and again: {error}",
                    fix=f"give workers more memory{kept_units}",
                )
                waiting.clear()
                continue
            except (CancelledError, CommClosedError) as error:
                failure = failure or UsageError(
                    "the dask scheduler no longer answers",
                    found=str(error).partition("\n")[0],
                    fix=f"start it again and repeat the command{kept_units}",
                )
                waiting.clear()
                continue
            except Exception as error:  # noqa: BLE001
                failure = failure or error
                waiting.clear()
                continue
            under_way += submit()
            yield result
    finally:
        # An abandoned run leaves nothing behind that the workers would go on with.
        pending.clear()
    if failure is not None:
        raise failure
