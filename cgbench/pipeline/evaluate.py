"""The arrows from ``model.pt`` to ``result.json`` and a report, each system for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml

from cgbench import config, provenance, registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.models import model_hash
from cgbench.pipeline.beside import report_runs
from cgbench.pipeline.check import systems_of
from cgbench.pipeline.evaluate_system import (
    Plan,
    SystemRow,
    earlier_row,
    evaluate_system,
    prior_beside,
)
from cgbench.pipeline.leaks import refuse_leaks, told_of_leaks
from cgbench.pipeline.programs import AnyPotential, Opened, open_potential
from cgbench.pipeline.results import assemble, commands_for, write_result_of
from cgbench.pipeline.scored_rows import recorded_systems
from cgbench.pipeline.stages import run_stage
from cgbench.pipeline.stated import state_training
from cgbench.progress import Progress, silent
from cgbench.results import Cost, ModelIdentity, Result, SystemResult, Track, read_result
from cgbench.simulation.checkpoint import RunRecord
from cgbench.units import nanoseconds_per_day

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice

#: What a system says that an interrupted run has not come to.
_NOT_YET = "not scored yet: run the same command again"


@dataclass(frozen=True)
class _Named:
    """Identifier and fingerprint of a split, or version and fingerprint of a reference."""

    id: str
    fingerprint: str

    @property
    def version(self) -> str:
        return self.id


def model_identity(path: Path, potential: AnyPotential) -> ModelIdentity:
    """Return what a result says of a model."""
    return identity_of(Opened(path, potential, model_hash(path)))


def identity_of(opened: Opened) -> ModelIdentity:
    """Return what a result says of a model, and of the adapter that opened it."""
    return ModelIdentity(
        name=opened.potential.spec.name,
        hash=opened.hash,
        kind="potential",
        spec=opened.potential.spec.model_dump(mode="json"),
        adapter=opened.adapter,
    )


def evaluate_model(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    protocol: str = "standard",
    out: Path,
    seed: int = 1,
    threads: int | None = None,
    workers: int | None = None,
    paper: bool = False,
    stable_step: bool | None = None,
    prior: bool = True,
    trust: bool = False,
    adapter: "AdapterChoice | None" = None,
    name: str | None = None,
    track: Track | None = None,
    references: Path | None = None,
    trained_on: Sequence[str] = (),
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Check, simulate and score a model, system by system; what is there already is kept.

    A system's row is on disk as soon as it is scored, and ``result.json`` is written again after
    each, so that an interrupted evaluation goes on where it was. One that fails does not keep
    others from being scored. The result also holds the systems that an earlier run of the same
    model, protocol and seed has left in the folder.

    Args:
        model: A model file, or the name of a model.
        systems: Registry keys; those that the model was trained on if None.
        protocol: Protocol id.
        out: The run folder.
        seed: Seed of replicas and resamples.
        threads: Threads of torch.
        workers: Threads that measure frames; all cores if None.
        paper: Whether the analysis of the reference work is done as well; with the protocol
            ``paper`` it always is.
        stable_step: Whether the largest stable time step is looked for; for long protocols if
            None.
        prior: Whether a model's prior is simulated and scored beside it, for the report.
        trust: Whether a program may be opened, or an adapter may run foreign code.
        adapter: What opens a model of another program.
        name: What a program is called; a ``model.pt`` has its own name.
        track: By which rules the model must have been trained: what it was trained on and is tested
            on is refused. If None the track is that which the model is on, and overlaps are marked
            on the result.
        references: Folder with the references to score against instead of the home's
            (:class:`~cgbench.pipeline.bundles.References`); none is then taken from the home.
        trained_on: What a model that says nothing of it was trained on, by its user's word
            (:func:`~cgbench.pipeline.stated.state_training`).
        force: Do everything again.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: Model, system or protocol is unknown, or the folder holds another run.
        IntegrityError: The model is damaged or unsafe, or no system could be scored because of
            damaged files.
        ValidationError: The model was trained on what the track forbids.
    """
    opened = open_potential(model, home, trust=trust, name=name, adapter=adapter)
    potential = opened.potential
    state_training(potential, trained_on, home)
    plan = Plan(
        model=opened.path,
        potential=potential,
        identity=identity_of(opened),
        protocol=registry.protocol(protocol),
        out=out,
        seed=seed,
        force=force,
        home=home,
        paper=paper or protocol in registry.PAPER_PROTOCOLS,
        stable_step=stable_step,
        prior=prior,
        workers=workers,
        track=track,
        folder=references,
    )
    if plan.protocol.start != "k-centres":
        raise UsageError(
            f"{protocol}: a protocol for variants",
            expected="one that starts from a reference's start frames",
            fix="use 'cgbench mutants'",
        )
    keys = systems_of(potential, systems, model)
    refuse_leaks(plan, keys)
    if threads is not None:
        torch.set_num_threads(threads)
    if not force:
        _require_same_run(plan)
    _write_settings(plan, keys, threads)
    rows = _earlier(plan, keys if force else [])
    missing = {key: _unscored(key, _NOT_YET) for key in keys if key not in rows}
    errors: list[CgbenchError] = []
    result = _written(plan, rows, missing)
    priors: dict[str, str | None] = {}
    for key in keys:
        if key in missing:
            try:
                rows[key] = evaluate_system(plan, key, progress)
                del missing[key]
            except (UsageError, IntegrityError, ValidationError) as error:
                errors.append(error)
                missing[key] = _unscored(key, commands_for(key, error, home))
            result = _written(plan, rows, missing)
        # An earlier run may have been without the prior, or ended before it.
        if key in rows:
            priors[key] = prior_beside(plan, key, progress)
    if not rows and errors and all(isinstance(error, IntegrityError) for error in errors):
        raise errors[0]
    if rows:
        _report(plan, rows, priors, result, progress)
    return result


def _report(
    plan: Plan,
    rows: Mapping[str, SystemRow],
    priors: Mapping[str, str | None],
    result: Result,
    progress: Progress,
) -> None:
    """Draw the report, unless there is one of these rows."""
    page = plan.out / "report.html"
    made_of = [[key, item.timings, item.reference] for key, item in sorted(rows.items())]
    reasons = [item.reason for item in result.systems]
    inputs = [made_of, sorted(priors.items()), result.metrics_versions, reasons]

    def draw() -> None:
        report_runs([plan.out], page, references=plan.folder, home=plan.home, progress=progress)

    run_stage(plan.out, "report", inputs, draw, force=plan.force or not page.is_file())


def _written(
    plan: Plan, rows: Mapping[str, SystemRow], missing: Mapping[str, SystemResult]
) -> Result:
    """Write the result of what there is by now, unless the file says the same already."""
    result = _result(plan, rows, missing)
    try:
        before = read_result(plan.out / "result.json")
    except CgbenchError:
        before = None
    when = {"provenance"}
    if before is None or before.model_dump(exclude=when) != result.model_dump(exclude=when):
        write_result_of(plan.out, result)
        return result
    return before


def _require_same_run(plan: Plan) -> None:
    """Refuse a folder with simulations of another model, protocol or seed.

    Raises:
        UsageError: It has one.
    """
    wanted = {
        "model": plan.identity.hash,
        "protocol": config.fingerprint(plan.protocol),
        "seed": plan.seed,
    }
    for path in sorted(plan.out.glob("trajectories.*.run.json")):
        found = config.read_model(RunRecord, path).inputs
        differing = sorted(key for key, value in wanted.items() if found.get(key) != value)
        if differing:
            raise UsageError(
                f"{plan.out}: holds the run of another {', '.join(differing)}",
                expected=f"the same {', '.join(differing)} as in {path.name}",
                fix="use --force to replace it, or another --out",
            )


def _write_settings(plan: Plan, keys: list[str], threads: int | None) -> None:
    plan.out.mkdir(parents=True, exist_ok=True)
    if plan.model.is_file():
        copy = plan.out / f"model{plan.model.suffix}"
        content = plan.model.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            config.write_atomic(copy, content)
    settings = {
        "model": plan.identity.name,
        "model_hash": plan.identity.hash,
        **_adapter_settings(plan),
        "systems": keys,
        "protocol": plan.protocol.model_dump(mode="json"),
        "seed": plan.seed,
        **({} if plan.folder is None else {"references": plan.folder.name}),
        "threads": threads,
        "paper": plan.paper,
    }
    config.write_atomic(plan.out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))


def _adapter_settings(plan: Plan) -> dict[str, object]:
    """Return what the settings say of an adapter; nothing where there is none."""
    adapter = plan.identity.adapter
    return {} if adapter is None else {"adapter": adapter.model_dump(mode="json")}


def _unscored(key: str, reason: str) -> SystemResult:
    return SystemResult(system=key, status="missing", reason=reason)


def _earlier(plan: Plan, redone: list[str]) -> dict[str, SystemRow]:
    """Return the rows that earlier runs left in the folder and that would be the same now."""
    rows = {}
    for key in recorded_systems(plan.out):
        if key in redone:
            continue
        try:
            found = earlier_row(plan, key)
        except CgbenchError:
            continue
        if found is not None:
            rows[key] = found
    return rows


def _result(
    plan: Plan, rows: Mapping[str, SystemRow], missing: Mapping[str, SystemResult]
) -> Result:
    order = {entry.key: index for index, entry in enumerate(registry.systems())}
    rows = dict(sorted(rows.items(), key=lambda item: order[item[0]]))
    splits = {
        key: _Named(item.split.id, item.split.fingerprints[key])
        for key, item in rows.items()
        if item.split is not None
    }
    timings = {
        f"{stage}/{key}": seconds
        for key, item in rows.items()
        for stage, seconds in item.timings.items()
    }
    return assemble(
        plan.identity,
        {key: told_of_leaks(plan, key, item.row) for key, item in rows.items()},
        list(missing.values()),
        bundles={key: _Named(item.reference_version, item.reference) for key, item in rows.items()},
        protocol=plan.protocol,
        splits=splits,
        seeds=plan.seeds,
        # Parts of a stage, after a colon, are in the stage.
        wall_time=sum(spent for stage, spent in timings.items() if ": " not in stage),
        timings=timings,
        cost=_cost(plan, rows),
    )


def _cost(plan: Plan, rows: Mapping[str, SystemRow]) -> Cost:
    """Return what the model costs: totals over the systems, and each of them."""
    systems = {key: item.cost for key, item in rows.items() if item.cost is not None}
    steps = {key: plan.protocol.n_steps(key) for key in systems}
    seconds = {
        key: steps[key] / cost.steps_per_second
        for key, cost in systems.items()
        if cost.steps_per_second
    }
    speed = sum(steps[key] for key in seconds) / sum(seconds.values()) if seconds else None
    machine = provenance.hardware()
    known = [cost.largest_stable_step for cost in systems.values() if cost.largest_stable_step]
    reasons = {cost.largest_stable_step_reason for cost in systems.values()}
    spec = plan.potential.spec
    return Cost(
        steps_per_second=speed,
        ns_per_day=None if speed is None else nanoseconds_per_day(speed, plan.protocol.timestep),
        n_replicas=plan.protocol.n_replicas,
        hardware=f"{machine.accelerator or machine.processor}, {machine.cores} cores"[:200],
        n_parameters=spec.n_parameters,
        training_seconds=spec.training_cost_s,
        largest_stable_step=min(known) if known and len(known) == len(systems) else None,
        largest_stable_step_reason=reasons.pop() if len(reasons) == 1 else None,
        systems=systems,
    )
