"""Sweeps over hyper-parameters: trained, simulated, scored, in parallel and resumable."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.models import SelectedBy, load_model, save_model
from cgbench.pipeline.candidates import Candidate, Judge, named, train_candidate, trained_systems
from cgbench.pipeline.results import failure_text
from cgbench.progress import Progress, silent
from cgbench.store.scheduling import Scheduler, run_units
from cgbench.train.config import SelectionSettings
from cgbench.train.sweep import SweepConfig, SweepPoint, read_sweep, sweep_points

RECORD = "sweep.json"
#: Settings that decide on which systems a run trains.
_DATA = ("system", "systems", "split", "left_out", "force_map")


class SweepRow(Frozen):
    """One run of a sweep.

    Attributes:
        number: Place in the grid, from 1.
        parameters: Values by key.
        run: The model and its scores, or why there are none.
        rank: From 1 for the best; None for runs that failed.
        n_parameters: Weights of the network.
    """

    number: int
    parameters: dict[str, pydantic.JsonValue]
    run: Candidate
    rank: int | None = None
    n_parameters: int | None = None


class SweepOutcome(Frozen):
    """What ``sweep.json`` holds; ``compared`` is what ranks are by."""

    format: Literal["cgbench-sweep"] = "cgbench-sweep"
    version: Literal[1] = 1
    name: str
    compared: str
    direction: Literal["min", "max"]
    protocol: str | None
    references: dict[str, str] = pydantic.Field(default_factory=dict)
    n_combinations: int
    rows: tuple[SweepRow, ...]
    best: int | None = None

    def ranked(self) -> list[SweepRow]:
        """Return the rows from the best to those that failed."""
        return sorted(self.rows, key=lambda row: (row.rank is None, row.rank or 0, row.number))


class _Kept(Frozen):
    """What is kept of a run, and what it was made from."""

    inputs: str
    row: SweepRow


@dataclass(frozen=True)
class _Task:
    """Trains and scores one combination, in whatever process.

    Attributes:
        points: All combinations.
        out: Folder of the sweep.
        home: Data home.
        selection: How models are scored; None where they are not.
        threads: Threads of torch where a configuration does not say.
        force: Start over.
        checkpoint_minutes: Time between checkpoints within an epoch.
        progress: Told how far it is, where that can be.
    """

    points: tuple[SweepPoint, ...]
    out: Path
    home: Path | None
    selection: SelectionSettings | None
    threads: int | None
    force: bool
    checkpoint_minutes: float | None
    progress: Progress | None = None

    def __call__(self, unit: int) -> SweepRow:
        point = self.points[unit]
        folder = f"runs/{point.run}"
        record = self.out / folder / "row.json"
        inputs = config.fingerprint(
            {
                "settings": point.settings,
                "selection": None if self.selection is None else self.selection.model_dump(),
            }
        )
        # What failed fails again. What did not is found in its folder, and checked there.
        if not self.force:
            kept = _kept(record, inputs)
            if kept is not None and kept.run.status == "failed":
                return kept.model_copy(update={"number": point.number})
        row = self._row(point, folder)
        record.parent.mkdir(parents=True, exist_ok=True)
        config.write_model(record, _Kept(inputs=inputs, row=row))
        return row

    def _row(self, point: SweepPoint, folder: str) -> SweepRow:
        def made(run: Candidate, n_parameters: int | None = None) -> SweepRow:
            return SweepRow(
                number=point.number,
                parameters=point.parameters,
                run=run,
                n_parameters=n_parameters,
            )

        if point.settings is None:
            return made(
                Candidate(seed=0, folder=folder, status="failed", reason=point.reason or "invalid")
            )
        settings = point.configuration()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        told = named(self.progress or silent, f"run {point.number} of {len(self.points)}")
        try:
            candidate = train_candidate(
                settings,
                self.out,
                folder,
                home=self.home,
                resume=True,
                force=self.force,
                checkpoint_minutes=self.checkpoint_minutes,
                progress=told,
            )
            if candidate.status == "failed":
                return made(candidate)
            model = self.out / folder / "model.pt"
            if self.selection is not None:
                systems = trained_systems(settings, self.home)
                judge = Judge(systems, self.selection, self.home, progress=told)
                values = judge.judge(model, model.parent / "selection", told)
                candidate = judge.judged(candidate, values)
            return made(candidate, load_model(model).spec.n_parameters)
        except (CgbenchError, RuntimeError, MemoryError, ArithmeticError) as error:
            # One combination that cannot be trained does not end the others.
            return made(
                Candidate(
                    seed=settings.seed, folder=folder, status="failed", reason=failure_text(error)
                )
            )


def _kept(record: Path, inputs: str) -> SweepRow | None:
    try:
        kept = config.read_model(_Kept, record)
    except CgbenchError:
        return None
    return kept.row if kept.inputs == inputs else None


def run_sweep(
    path: Path,
    out: Path | None = None,
    *,
    scheduler: Scheduler = "processes",
    workers: int = 1,
    home: Path | None = None,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> SweepOutcome:
    """Train and score every combination of a sweep; what is there already is kept.

    A run that fails is a row with its reason. ``sweep.json`` is written again after each run, and
    the best model is ``model.pt``, which says of how many it is the best.

    Args:
        path: The sweep's YAML file.
        out: Folder of the runs; ``cgbench-runs/<name>`` if None.
        scheduler: ``processes``, or the address of a dask scheduler whose workers see the same
            folders.
        workers: Runs at a time.
        home: Data home.
        force: Start over.
        checkpoint_minutes: Time between checkpoints within an epoch.
        progress: Told how far it is.

    Raises:
        UsageError: The file, the base, the selection's reference or the scheduler is not there.
        ValidationError: No combination is a configuration.
    """
    if scheduler == "threads":
        raise UsageError(
            "sweep: runs in threads would share one random stream",
            expected="processes, or the address of a dask scheduler",
        )
    sweep = read_sweep(path)
    points = sweep_points(sweep, path.parent)
    out = out or Path("cgbench-runs") / sweep.name
    selection = _selection(sweep, path.parent)
    judge = None
    if selection is not None:
        # References are built once, before workers look for them.
        judge = Judge(_systems(points, home), selection, home, workers=workers, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    config.write_model(out / "sweep-config.json", sweep)
    alone = scheduler == "processes" and workers == 1
    task = _Task(
        points=tuple(points),
        out=out.absolute(),
        home=None if home is None else home.absolute(),
        selection=selection,
        threads=None if alone else 1,
        force=force,
        checkpoint_minutes=checkpoint_minutes,
        progress=progress if alone else None,
    )
    rows: list[SweepRow] = []
    units = range(len(points))
    # By itself in this process, where progress can be told and Ctrl-C is heard.
    done = (
        map(task, units) if alone else run_units(task, units, scheduler, workers, unit_name="run")
    )
    outcome = _written(out, sweep, judge, rows)
    for row in done:
        rows.append(row)
        outcome = _written(out, sweep, judge, rows)
        progress("sweep", len(rows), len(points))
    _keep_best(out, judge, outcome)
    return outcome


def _systems(points: list[SweepPoint], home: Path | None) -> list[str]:
    """Return the systems that any run trains on; what a split leaves out is in no choice."""
    found: dict[str, None] = {}
    seen = set()
    for point in points:
        values = point.settings or {}
        data = config.canonical_json({key: values.get(key) for key in _DATA})
        if point.settings is None or data in seen:
            continue
        seen.add(data)
        try:
            found |= dict.fromkeys(trained_systems(point.configuration(), home))
        except ValidationError:
            # Its run fails in the same way, and says so in its row.
            continue
    return list(found)


def _selection(sweep: SweepConfig, folder: Path) -> SelectionSettings | None:
    if not sweep.select:
        return None
    if sweep.selection is not None:
        return sweep.selection
    base: Any = (
        sweep.base if isinstance(sweep.base, dict) else config.read_data(folder / sweep.base)
    )
    stated = base.get("selection")
    return config.validate(SelectionSettings, stated or {}, f"{sweep.name}: selection")


def _written(
    out: Path, sweep: SweepConfig, judge: Judge | None, rows: list[SweepRow]
) -> SweepOutcome:
    """Rank what there is by now, and write it."""
    sign = -1.0 if judge is not None and judge.direction == "max" else 1.0
    values = {
        row.number: row.run.validation_loss if judge is None else row.run.metric
        for row in rows
        if row.run.status == "ok"
    }
    known = {number: sign * value for number, value in values.items() if value is not None}
    order = sorted(known, key=lambda number: (known[number], number))
    ranks = {number: place for place, number in enumerate(order, start=1)}
    outcome = SweepOutcome(
        name=sweep.name,
        compared="validation_loss" if judge is None else judge.metric,
        direction="min" if judge is None else judge.direction,
        protocol=None if judge is None else judge.protocol.id,
        references={} if judge is None else judge.references,
        n_combinations=sweep.n_points,
        rows=tuple(
            row.model_copy(update={"rank": ranks.get(row.number)})
            for row in sorted(rows, key=lambda row: row.number)
        ),
        best=order[0] if order else None,
    )
    config.write_model(out / RECORD, outcome)
    return outcome


def _keep_best(out: Path, judge: Judge | None, outcome: SweepOutcome) -> None:
    """Write the best model, with how it was chosen."""
    best = next((row for row in outcome.rows if row.number == outcome.best), None)
    if best is None:
        return
    path = out / best.run.folder / "model.pt"
    if not path.is_file():
        raise IntegrityError(f"{path}: the best model is gone", fix="repeat the sweep with --force")
    potential = load_model(path)
    # What it takes to have the best one is what all of them took.
    spent = math.fsum(row.run.training_seconds or 0.0 for row in outcome.rows)
    changes: dict[str, Any] = {
        "best_of_n": len(outcome.rows),
        "training_cost_s": round(spent, 1),
    }
    if judge is not None:
        changes["selected_by"] = SelectedBy(
            metric=judge.metric,
            protocol=judge.protocol.id,
            seed=best.run.seed,
            references={target.system: target.bundle.fingerprint for target in judge.targets},
            described=judge.references,
        )
    potential.spec = potential.spec.model_copy(update=changes)
    save_model(out / "model.pt", potential)
