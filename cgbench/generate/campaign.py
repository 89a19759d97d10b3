"""Rounds of many short trajectories, until the budget is spent; continued where it stopped."""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cgbench.config import write_atomic
from cgbench.errors import SimulationError
from cgbench.generate import planning
from cgbench.generate.backend import platform as find_platform
from cgbench.generate.card import GenerationCard, write_card
from cgbench.generate.copies import check_copies
from cgbench.generate.earlier import EarlierSet
from cgbench.generate.folder import RunFolder
from cgbench.generate.raw_files import raw_trajectories, write_raw
from cgbench.generate.records import DoubleArray, Machine, PlannedTrajectory
from cgbench.generate.settings import GenerationSettings
from cgbench.generate.structures import Structure, write_pdb
from cgbench.generate.system import alpha_carbons
from cgbench.generate.trajectory import run_batch
from cgbench.progress import Progress, silent


@dataclass(frozen=True)
class Budget:
    """When to stop; whichever comes first.

    Attributes:
        trajectories: Number of trajectories that the run has in the end, failed ones included.
        hours: Wall time of this call. No batch is begun that would probably end after it.
    """

    trajectories: int | None = None
    hours: float | None = None


@dataclass(frozen=True)
class Source:
    """What a new run starts from.

    Attributes:
        chain: The extended chain; its order of atoms is that of the run.
        native: Positions (n_atoms, 3) of the native structure in Å, None without one.
        left_out: Residues of the given structure that are not simulated.
        notes: What the card says beyond the settings.
    """

    chain: Structure
    native: DoubleArray | None
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def generate(
    settings: GenerationSettings,
    source: Source,
    out: Path,
    *,
    budget: Budget,
    machine: Machine | None = None,
    workers: int = 1,
    earlier: Path | None = None,
    include_earlier: bool = False,
    discard_all_atom: bool = False,
    progress: Progress = silent,
) -> GenerationCard:
    """Generate trajectories and write them as raw files.

    The folder is that of a new run, or of one with the same settings, which then goes on. Each
    batch of trajectories (one, unless several copies share a system) is finished or not there, so
    a run can be killed at any time. The plan depends on the settings alone: on the seed, and in
    later rounds on the frames of all rounds before.

    Args:
        settings: What to simulate.
        source: What a new run starts from.
        out: Folder of the run and its raw files.
        budget: When to stop.
        machine: On what.
        workers: Processes that simulate, each a batch at a time.
        earlier: Raw set that starts are also drawn from.
        include_earlier: Write the frames of the earlier set before the run's own.
        discard_all_atom: Remove the all-atom frames once the raw files are written. The run
            cannot be continued then.
        progress: Called with trajectories or seconds done.

    Raises:
        UsageError: The folder holds something else, or a package is missing.
        SimulationError: Every trajectory diverged.
    """
    machine = machine or Machine()
    find_platform(machine.platform)
    if settings.n_copies > 1:
        check_copies(settings.n_copies, len(settings.sequence), settings.system)
    folder = RunFolder(out)
    with folder.locked():
        folder.claim(settings)
        if not (folder.topology_path.is_file() and folder.starts_path.is_file()):
            folder.keep_starts(source.chain, _native(source, earlier))
        topology, starts = folder.starts()
        if "native" in starts:
            native = Structure(topology, starts["native"], (None,) * len(settings.sequence))
            write_atomic(out / "native.pdb", write_pdb(native))
        known = None if earlier is None else EarlierSet(earlier, topology)
        if known is not None and include_earlier:
            known.check_same_dynamics(settings)
        runner = _Runner(folder, settings, machine, workers, known, topology, progress)
        runner.run(budget)
        raw = write_raw(
            out,
            settings,
            topology,
            raw_trajectories(folder),
            earlier=known if include_earlier else None,
            progress=progress,
        )
        card = write_card(
            folder,
            settings,
            raw,
            earlier=None if known is None else known.path.name,
            left_out=source.left_out,
            notes=(*source.notes, _native_note(source, known, "native" in starts)),
        )
        if discard_all_atom:
            folder.discard_frames()
    return card


def _native(source: Source, earlier: Path | None) -> DoubleArray | None:
    """Return the native structure, or the frame of the earlier set that stands for it."""
    if source.native is not None or earlier is None:
        return source.native
    found = EarlierSet(earlier, source.chain.topology).native_like()
    return None if found is None else found[0]


def _native_note(source: Source, earlier: EarlierSet | None, native: bool) -> str:
    if not native:
        return (
            "No native structure was at hand, so no trajectory starts from it: "
            "cgbench download --kind native gets it, --structure names one."
        )
    found = None if source.native is not None or earlier is None else earlier.native_like()
    return "Native starts: the given structure." if found is None else f"Native starts: {found[1]}."


class _Runner:
    """Works off the plan and extends it."""

    def __init__(
        self,
        folder: RunFolder,
        settings: GenerationSettings,
        machine: Machine,
        workers: int,
        earlier: EarlierSet | None,
        topology: Any,
        progress: Progress,
    ) -> None:
        self._folder, self._settings, self._machine = folder, settings, machine
        self._workers, self._earlier, self._topology = workers, earlier, topology
        self._progress = progress
        self._began = time.perf_counter()
        self._batch_seconds: list[float] = []

    def run(self, budget: Budget) -> None:
        """Simulate until the budget is spent.

        Raises:
            SimulationError: Every trajectory of the first round diverged.
        """
        with contextlib.ExitStack() as stack:
            pool = None
            if self._workers > 1:
                context = multiprocessing.get_context("spawn")
                pool = stack.enter_context(
                    concurrent.futures.ProcessPoolExecutor(
                        self._workers, mp_context=context, initializer=_end_with_parent
                    )
                )
            while batches := list(self._pending(budget)):
                if pool is None:
                    begun = self._run_here(batches, budget)
                else:
                    begun = self._run_in_processes(pool, batches, budget)
                if begun < len(batches):
                    break

    def _pending(self, budget: Budget) -> Iterator[list[PlannedTrajectory]]:
        """Give the batches of the current round that are not finished, or plan the next round."""
        plan, done = self._folder.plan(), self._folder.records()
        if all(one.index in done for one in plan.trajectories):
            if done and all(one.status == "failed" for one in done.values()):
                first = next(iter(done.values())).divergences[0]
                raise SimulationError(
                    f"{self._folder.path}: every trajectory diverged",
                    found=f"trajectory 0: {first.reason}",
                    fix="look at the start structure, or use a shorter step",
                )
            if budget.trajectories is None or len(plan.trajectories) < budget.trajectories:
                plan = planning.extend(plan, self._folder, self._settings, self._earlier)
                self._folder.keep_plan(plan)
        for batch in planning.batches(plan, self._settings.n_copies):
            missing = [one for one in batch if one.index not in done]
            within = budget.trajectories is None or batch[0].index < budget.trajectories
            if missing and within:
                yield batch

    def _run_here(self, batches: Sequence[list[PlannedTrajectory]], budget: Budget) -> int:
        """Run batches while there is time; return how many were begun."""
        for number, batch in enumerate(batches):
            if not self._has_time(budget):
                return number
            self._batch_seconds.append(
                work(
                    self._folder.path,
                    self._settings,
                    self._machine,
                    batch,
                    self._starts(batch),
                    partial(self._report, budget, len(batch)),
                )
            )
            self._report(budget, 0, 0.0)
        return len(batches)

    def _run_in_processes(
        self,
        pool: concurrent.futures.Executor,
        batches: Sequence[list[PlannedTrajectory]],
        budget: Budget,
    ) -> int:
        """The same with several batches at a time."""
        waiting = list(batches)
        running: set[concurrent.futures.Future[float]] = set()
        while waiting or running:
            while waiting and len(running) < self._workers and self._has_time(budget):
                batch = waiting.pop(0)
                running.add(
                    pool.submit(
                        work,
                        self._folder.path,
                        self._settings,
                        self._machine,
                        batch,
                        self._starts(batch),
                    )
                )
            if not running:
                break
            finished, running = concurrent.futures.wait(
                running, timeout=1.0, return_when=concurrent.futures.FIRST_COMPLETED
            )
            self._batch_seconds.extend(one.result() for one in finished)
            self._report(budget, 0, 0.0)
        return len(batches) - len(waiting)

    def _has_time(self, budget: Budget) -> bool:
        if budget.hours is None:
            return True
        left = budget.hours * 3600.0 - (time.perf_counter() - self._began)
        if not self._batch_seconds:
            return left > 0
        return left > float(np.mean(self._batch_seconds))

    def _starts(self, batch: Sequence[PlannedTrajectory]) -> list[DoubleArray]:
        structures = self._folder.starts()[1]
        return [self._start(one, structures) for one in batch]

    def _start(self, planned: PlannedTrajectory, known: dict[str, DoubleArray]) -> DoubleArray:
        if planned.parent is None or planned.frame is None:
            return known["native" if planned.kind == "native" else "extended"]
        if planned.pool and self._earlier is not None:
            return self._earlier.atoms(planned.parent, planned.frame)
        (positions,) = self._folder.read(planned.parent, "positions")
        return np.asarray(positions[planned.frame], dtype=np.float64)

    def _report(self, budget: Budget, size: int, fraction: float) -> None:
        done = len(list(self._folder.record_path(0).parent.glob("[0-9]*.json")))
        if budget.trajectories is not None:
            self._progress("trajectories", done + size * fraction, budget.trajectories)
        elif budget.hours is not None:
            elapsed = time.perf_counter() - self._began
            total = budget.hours * 3600.0
            self._progress(f"generate ({done} trajectories)", min(elapsed, total), total)


def _end_with_parent() -> None:
    """Let a worker end when the process that gives it work is killed; it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def work(
    path: Path,
    settings: GenerationSettings,
    machine: Machine,
    batch: Sequence[PlannedTrajectory],
    starts: Sequence[DoubleArray],
    listen: Any = None,
) -> float:
    """Simulate a batch, keep what is not there yet, and return the seconds that it took."""
    began = time.perf_counter()
    folder = RunFolder(path)
    topology, _ = folder.starts()
    beads = alpha_carbons(topology)
    results = run_batch(
        batch, starts, topology, settings, machine, listen or (lambda fraction: None)
    )
    for record, frames in results:
        if not folder.record_path(record.planned.index).is_file():
            folder.keep(record, frames, beads)
    return time.perf_counter() - began
