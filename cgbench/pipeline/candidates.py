"""Trained models among which one is chosen: their simulation, their scores, their comparison."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pydantic

from cgbench import registry
from cgbench.config import Frozen
from cgbench.errors import SimulationError, UsageError
from cgbench.evaluate import reference_statistics
from cgbench.evaluate.resampling import ReferenceStatistics
from cgbench.models import (
    NetworkPotential,
    SeedSpread,
    load_model,
    model_hash,
)
from cgbench.pipeline.results import failure_text
from cgbench.pipeline.scored_rows import kept_row, row_inputs, write_row
from cgbench.pipeline.selection_references import Target, selection_targets
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.progress import Progress, silent
from cgbench.results import MetricValue
from cgbench.simulation import simulate
from cgbench.train import SelectionSettings, TrainingOutcome
from cgbench.train.kinds import AnyConfig, train


class Candidate(Frozen):
    """One model among several.

    Attributes:
        seed: Seed of its training.
        folder: Its run folder, relative to that of the selection.
        status: ``ok``; ``failed`` where training or simulation failed.
        reason: Why.
        validation_loss: (kcal/mol/Å)².
        best_epoch: Epoch of its weights.
        training_seconds: Wall time of its training.
        metric: Mean of the selection's metric over the systems; None where it was not computed.
        systems: The metric of each system.
    """

    seed: int
    folder: str
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    validation_loss: float | None = None
    best_epoch: int | None = None
    training_seconds: float | None = None
    metric: float | None = None
    systems: dict[str, MetricValue] = pydantic.Field(default_factory=dict)


class Judge:
    """Simulates and scores candidates on the same references, with the same seeds.

    Args:
        systems: Systems that candidates were trained on.
        settings: How to choose.
        home: Data home.
        workers: Threads that measure frames, and groups of frames where a bundle is built.
        progress: Told what is being done.

    Raises:
        UsageError: Metric, protocol or reference are unknown or not at hand, or the metric is not
            one of which less or more is better.
        ValidationError: The reference does not fit.
    """

    def __init__(
        self,
        systems: Sequence[str],
        settings: SelectionSettings | None = None,
        home: Path | None = None,
        *,
        workers: int = 1,
        progress: Progress = silent,
    ) -> None:
        self.settings = settings or SelectionSettings()
        self.home = home
        self.protocol = registry.protocol(self.settings.protocol)
        spec = registry.metric(self.settings.metric)
        if spec.direction not in ("min", "max"):
            raise UsageError(
                f"selection: {spec.id} has a target, not a direction",
                expected="a metric of which less or more is better",
            )
        self.metric = spec.id
        self.direction: Literal["min", "max"] = "min" if spec.direction == "min" else "max"
        self.workers = workers
        self.targets = selection_targets(
            systems, self.settings, home, workers=workers, progress=progress
        )
        self._statistics: dict[str, ReferenceStatistics] = {}

    @property
    def references(self) -> dict[str, str]:
        """Where the references are from, by system."""
        return {target.system: target.described for target in self.targets}

    def judge(
        self, model: Path, folder: Path, progress: Progress = silent
    ) -> dict[str, MetricValue]:
        """Return the metric of a model on each system; what is there already is kept.

        A model that cannot be simulated has a failed value, never an exception.

        Args:
            model: A ``model.pt``.
            folder: Where trajectories and rows are kept.
            progress: Told what is being done.

        Raises:
            IntegrityError: A file here is damaged: no fault of the model.
        """
        potential, identity = load_model(model), model_hash(model)
        return {
            target.system: self._value(potential, identity, target, folder, progress)
            for target in self.targets
        }

    def _value(
        self,
        potential: NetworkPotential,
        identity: str,
        target: Target,
        folder: Path,
        progress: Progress,
    ) -> MetricValue:
        system, seed, bundle = target.simulated, self.settings.seed, target.bundle
        inputs = row_inputs(
            system,
            model_hash=identity,
            protocol=self.protocol,
            reference=bundle.fingerprint,
            split=None,
            seeds={"simulation": seed, "resampling": seed},
            options={"selection": True},
        )
        kept = kept_row(folder, system, inputs)
        if kept is not None:
            return self._of(kept[0].result.metrics)
        try:
            simulate(
                potential,
                system_input(system, self.home, bundle),
                self.protocol,
                seed=seed,
                out=folder / "trajectories.zarr",
                model_hash=identity,
                progress=progress,
            )
            row = score_simulation(
                folder / "trajectories.zarr",
                bundle,
                self.protocol,
                name=potential.spec.name,
                errors=None,
                seed=seed,
                reference=self._statistics_of(target, progress),
                workers=self.workers,
                progress=progress,
            )
        except SimulationError as error:
            return MetricValue(status="failed", note=failure_text(error))
        write_row(
            folder,
            row,
            inputs,
            reference=bundle.fingerprint,
            reference_version=bundle.version,
            split=None,
            timings={},
            cost=None,
        )
        return self._of(row.result.metrics)

    def _of(self, metrics: Mapping[str, MetricValue]) -> MetricValue:
        missing = MetricValue(status="n/a", note="not a metric of this kind of ensemble")
        return metrics.get(self.metric, missing)

    def _statistics_of(self, target: Target, progress: Progress) -> ReferenceStatistics:
        if target.system not in self._statistics:
            self._statistics[target.system] = reference_statistics(
                target.bundle, seed=self.settings.seed, workers=self.workers, progress=progress
            )
        return self._statistics[target.system]

    def judged(self, candidate: Candidate, values: dict[str, MetricValue]) -> Candidate:
        """Return a candidate with its values; one that failed on a system has failed."""
        bad = {system: value for system, value in values.items() if value.status != "ok"}
        numbers = [value.value for value in values.values() if value.value is not None]
        complete = len(numbers) == len(values) > 0
        reasons = [f"{system}: {v.note or v.status}" for system, v in bad.items()]
        return candidate.model_copy(
            update={
                "systems": values,
                "metric": math.fsum(numbers) / len(numbers) if complete else None,
                "status": "failed" if bad else "ok",
                "reason": "; ".join(reasons) or None,
            }
        )

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the best of those that did not fail; of equal ones the first.

        Raises:
            SimulationError: All failed.
        """
        good = [one for one in candidates if one.status == "ok" and one.metric is not None]
        if not good:
            reasons = "; ".join(f"seed {one.seed}: {one.reason}" for one in candidates)
            raise SimulationError(
                "selection: every candidate failed",
                found=reasons,
                fix="train longer, with other settings, or choose another metric",
            )
        sign = 1.0 if self.direction == "min" else -1.0
        return min(good, key=lambda one: sign * (one.metric or 0.0))


def trained_systems(settings: AnyConfig, home: Path | None) -> Sequence[str]:
    """Return the systems of a configuration that train: a split may leave some out.

    Raises:
        UsageError: A store or split is not here, and whatever else ``open_material`` raises.
    """
    from cgbench.train.config import TrainingConfig
    from cgbench.train.material import open_material

    if not isinstance(settings, TrainingConfig):
        return tuple(settings.systems)
    return [item.system for item in open_material(settings, home).training]


def spread(values: Sequence[float]) -> SeedSpread:
    """Return mean and standard deviation (of a sample, n − 1) of one value or more."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    deviation = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return SeedSpread(n=len(values), mean=mean, standard_deviation=deviation)


def between_seeds(candidates: Sequence[Candidate], metric: str | None) -> dict[str, SeedSpread]:
    """Return the spread of validation loss and metric over the candidates that did not fail."""
    good = [one for one in candidates if one.status == "ok"]
    losses = [one.validation_loss for one in good if one.validation_loss is not None]
    values = [one.metric for one in good if one.metric is not None]
    found = {"validation_loss": spread(losses)} if losses else {}
    return found | ({metric: spread(values)} if metric is not None and values else {})


def train_candidate(
    settings: AnyConfig,
    out: Path,
    folder: str,
    *,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    progress: Progress = silent,
) -> Candidate:
    """Train one candidate; a run that diverges is a failed one, with the reason.

    Raises:
        UsageError: The folder holds another run, or an unfinished one that is not to be resumed.
    """
    try:
        outcome: TrainingOutcome = train(
            settings,
            out / folder,
            home=home,
            resume=resume,
            force=force,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )
    except SimulationError as error:
        return Candidate(
            seed=settings.seed, folder=folder, status="failed", reason=failure_text(error)
        )
    return Candidate(
        seed=settings.seed,
        folder=folder,
        validation_loss=outcome.validation_loss,
        best_epoch=outcome.best_epoch,
        training_seconds=outcome.seconds,
    )


def named(progress: Progress, name: str) -> Progress:
    """Return a listener that puts a name before each task."""

    def told(task: str, done: float, total: float) -> None:
        progress(f"{name}: {task}", done, total)

    return told
