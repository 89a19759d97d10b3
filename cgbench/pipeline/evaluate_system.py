"""One system of an evaluation: checked, simulated and scored, or kept from an earlier run."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydantic

from cgbench import config
from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.evaluate import (
    Ensemble,
    ReferenceBundle,
    Scored,
    failed,
    score,
    write_scored,
)
from cgbench.models import NetworkPotential
from cgbench.pipeline.bundles import References
from cgbench.pipeline.check import check_on
from cgbench.pipeline.choice import told_of_choice, with_choice
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.paper import paper_stage
from cgbench.pipeline.prior_row import score_prior
from cgbench.pipeline.programs import AnyPotential, adapter_notes
from cgbench.pipeline.results import failure_text, noted
from cgbench.pipeline.scored_rows import (
    RowRecord,
    Stopwatch,
    kept_row,
    record_path,
    row_inputs,
    scored_path,
    write_row,
)
from cgbench.pipeline.simulate import system_input, told_of_mass, told_of_temperature
from cgbench.pipeline.stages import run_stage
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import ModelIdentity, SplitIdentity, SystemCost, Track
from cgbench.simulation import SimulationOutcome, largest_stable_step, simulate
from cgbench.splits import read_split
from cgbench.store import find_split, read_trajectories

#: Force errors are reported on the test part of the canonical split.
CANONICAL_SPLIT = "block-v1"
#: From this many steps on, looking for the largest stable time step takes a small share of a run.
_LONG_RUN_STEPS = 100_000
_NOT_MEASURED = "not measured: evaluate with --stable-step"


@dataclass(frozen=True)
class Plan:
    """What an evaluation is asked for, the same for all its systems.

    Attributes:
        model: The model's file.
        potential: What is in it.
        identity: What results say of it.
        protocol: How it is simulated.
        out: The run folder.
        seed: Seed of replicas and resamples.
        force: Whether everything is done again.
        home: Data home.
        paper: Whether the analysis of the reference work is done as well.
        stable_step: Whether the largest stable time step is looked for; if None for long
            protocols, of which it takes a small share.
        prior: Whether the model's prior is simulated and scored beside it.
        workers: Threads that measure frames; all cores if None.
        track: The track that was asked for by name; None for the one that the model is on.
        folder: Folder of the references that were named instead of the home's.
    """

    model: Path
    potential: AnyPotential
    identity: ModelIdentity
    protocol: Protocol
    out: Path
    seed: int
    force: bool
    home: Path | None
    paper: bool
    stable_step: bool | None
    prior: bool
    workers: int | None
    track: Track | None = None
    folder: Path | None = None

    @property
    def references(self) -> References:
        """What is scored against."""
        return References(self.folder, self.home)

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed, by what it is used for."""
        return {"simulation": self.seed, "resampling": self.seed}

    def wants_stable_step(self, system: str) -> bool:
        """Return whether the largest stable time step of a system is looked for."""
        if self.stable_step is not None:
            return self.stable_step
        return self.protocol.n_steps(system) >= _LONG_RUN_STEPS


@dataclass(frozen=True)
class SystemRow:
    """One system of an evaluation.

    Attributes:
        row: Its scored row.
        reference: Fingerprint of the reference bundle.
        reference_version: Its version.
        split: Where the force errors are from.
        timings: Seconds of each stage.
        cost: What simulating it took.
        kept: Whether it is from an earlier run.
    """

    row: Scored
    reference: str
    reference_version: str
    split: SplitIdentity | None
    timings: dict[str, float]
    cost: SystemCost | None
    kept: bool


def model_inputs(plan: Plan, system: str, reference: str) -> dict[str, pydantic.JsonValue]:
    """Return everything that decides the row of a system."""
    return row_inputs(
        system,
        model_hash=plan.identity.hash,
        protocol=plan.protocol,
        reference=reference,
        split=_split(system, plan.home),
        seeds=plan.seeds,
        options={"paper": plan.paper, "stable_step": plan.wants_stable_step(system)},
    )


def earlier_row(plan: Plan, system: str) -> SystemRow | None:
    """Return the row that an earlier run left of a system, if it would be the same now.

    Raises:
        UsageError: The system's reference is not at hand.
        IntegrityError: The reference is damaged.
    """
    bundle = plan.references.bundle(system)
    found = kept_row(plan.out, system, model_inputs(plan, system, bundle.fingerprint))
    return None if found is None else _kept(*found)


def evaluate_system(plan: Plan, system: str, progress: Progress = silent) -> SystemRow:
    """Check, simulate and score one system, and write its row; what is there is kept.

    A model that cannot do it is a failed row with the registry's penalties. It is not recorded as
    finished where an error ended it, so that the next run tries again.

    Raises:
        UsageError: The reference is not at hand, or the folder holds another simulation.
        IntegrityError: A file here is damaged: no fault of the model.
        ValidationError: The reference that was named is of another system.
    """
    watch = Stopwatch()
    with watch.stage("reference"):
        bundle = plan.references.bundle(system)
    inputs = model_inputs(plan, system, bundle.fingerprint)
    split = _split(system, plan.home)
    found = None if plan.force else kept_row(plan.out, system, inputs)
    if found is not None:
        return _kept(*found)
    try:
        row, cost = _scored(plan, bundle, split, watch, progress)
    except (UsageError, IntegrityError):
        raise
    except (CgbenchError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
        reason = failure_text(error)
        row = failed(
            plan.identity.name,
            system,
            reason,
            seed=plan.seed,
            converged=bundle.converged,
            synthetic=bundle.metadata.synthetic,
        )
        record_path(plan.out, system).unlink(missing_ok=True)
        write_scored(scored_path(plan.out, system), row)
        return SystemRow(
            row=row,
            reference=bundle.fingerprint,
            reference_version=bundle.version,
            split=None,
            timings=watch.seconds,
            cost=None,
            kept=False,
        )
    record = write_row(
        plan.out,
        row,
        inputs,
        reference=bundle.fingerprint,
        reference_version=bundle.version,
        split=split,
        timings=watch.seconds,
        cost=cost,
    )
    return replace(_kept(row, record), kept=False)


def prior_beside(plan: Plan, system: str, progress: Progress = silent) -> str | None:
    """Simulate and score the model's prior beside a row that is safe on disk.

    Returns:
        Hash of the prior's row; None where there is none.

    Raises:
        UsageError: The reference is not at hand.
        IntegrityError: Reference or split is damaged.
    """
    if not plan.prior or not isinstance(plan.potential, NetworkPotential):
        return None
    return score_prior(
        plan.potential,
        plan.references.bundle(system),
        plan.protocol,
        plan.out,
        seed=plan.seed,
        split=_split(system, plan.home),
        force=plan.force,
        home=plan.home,
        workers=plan.workers,
        progress=progress,
    )


def _kept(row: Scored, record: RowRecord) -> SystemRow:
    return SystemRow(
        row=row,
        reference=record.reference,
        reference_version=record.reference_version,
        split=record.split,
        timings=dict(record.timings),
        cost=record.cost,
        kept=True,
    )


def _split(system: str, home: Path | None) -> SplitIdentity | None:
    """Return the split that force errors are taken on; scores do not need one."""
    try:
        split = read_split(find_split(system, CANONICAL_SPLIT, home))
    except UsageError:
        return None
    return SplitIdentity(id=split.id, fingerprints={system: split.fingerprint})


def _scored(
    plan: Plan,
    bundle: ReferenceBundle,
    split: SplitIdentity | None,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[Scored, SystemCost]:
    system = bundle.system
    with watch.stage("check"):
        _check(plan, bundle, progress)
    with watch.stage("simulate"):
        outcome = simulate(
            plan.potential,
            system_input(system, plan.home, bundle),
            plan.protocol,
            seed=plan.seed,
            out=plan.out / "trajectories.zarr",
            force=plan.force,
            model_hash=plan.identity.hash,
            progress=progress,
        )
    # What an interrupted run has done counts as well.
    watch.seconds["simulate"] = max(watch.seconds["simulate"], outcome.wall_time)
    with watch.stage("stable step"):
        cost = _cost(plan, bundle, outcome, progress)
    errors = None
    with watch.stage("forces"):
        if split is not None:
            try:
                errors = force_errors(
                    plan.potential, system, split=split.id, home=plan.home, progress=progress
                )
            except UsageError:
                # A split without its store: scores do not need force errors.
                errors = None
    ensemble = Ensemble.from_trajectory_set(
        read_trajectories(plan.out / "trajectories.zarr", system), name=plan.identity.name
    )
    with watch.stage("score"):
        row = score(
            ensemble,
            bundle,
            protocol=plan.protocol,
            force_errors=errors,
            seed=plan.seed,
            workers=plan.workers,
            progress=progress,
        )
    # Where the time of scoring goes, as parts of it.
    watch.seconds.update({f"score: {stage}": spent for stage, spent in row.timings.items()})
    mixing = [] if outcome.exchange is None else [outcome.exchange.described()]
    opened = adapter_notes(plan.identity.adapter)
    row = noted(row, [*opened, *told_of_mass(plan.protocol), *mixing, *ensemble.notes])
    row = noted(row, told_of_temperature(plan.protocol, bundle.temperature))
    choice = told_of_choice(with_choice(plan.potential.spec, plan.identity.hash))
    row = noted(row, [*plan.references.told(bundle), *choice])
    if plan.paper and not ensemble.time_ordered:
        row = noted(row, ["The analysis of the reference work needs frames in time order."])
    elif plan.paper:
        with watch.stage("paper"):
            analysis = paper_stage(
                ensemble, bundle, plan.out, seed=plan.seed, force=plan.force, progress=progress
            )
        row = replace(row, result=row.result.model_copy(update={"paper": analysis}))
    return row, cost


def _check(plan: Plan, bundle: ReferenceBundle, progress: Progress) -> None:
    """Run the conformance suite on the start frames, once.

    Raises:
        ValidationError: The model does not pass it.
    """
    system = bundle.system

    def check() -> None:
        report = check_on(plan.potential, {system: bundle}, progress=progress)
        config.write_model(plan.out / "check" / f"{system}.json", report)
        report.require(f"{plan.model} on {system}")

    inputs = [plan.identity.hash, bundle.fingerprint]
    run_stage(plan.out, f"check-{system}", inputs, check, force=plan.force)


def _cost(
    plan: Plan, bundle: ReferenceBundle, outcome: SimulationOutcome, progress: Progress
) -> SystemCost:
    largest = None
    reason = _NOT_MEASURED
    if plan.wants_stable_step(bundle.system):
        largest = largest_stable_step(
            plan.potential,
            system_input(bundle.system, plan.home, bundle),
            plan.protocol,
            seed=plan.seed,
            progress=progress,
        )
        reason = "the largest of the steps tried at which eight replicas lived for 4 ps"
        if largest is None:
            reason = "at none of the steps tried all of eight replicas lived for 4 ps"
    return SystemCost(
        steps_per_second=outcome.steps_per_second,
        ns_per_day=outcome.ns_per_day,
        largest_stable_step=largest,
        largest_stable_step_reason=reason,
    )
