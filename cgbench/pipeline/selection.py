"""Several seeds of one training, and the choice among them by short simulations.

As in the reference work, a model is chosen by a fast simulation of four trajectories (Majewski et
al., Nat. Commun. 14, 5739 (2023)), here on a reference of other trajectories than those that the
model is evaluated on later.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pydantic

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import SimulationError, UsageError
from cgbench.models import (
    NetworkPotential,
    PotentialSpec,
    SeedSpread,
    SelectedBy,
    load_model,
    save_model,
)
from cgbench.pipeline.candidates import (
    Candidate,
    Judge,
    between_seeds,
    named,
    train_candidate,
    trained_systems,
)
from cgbench.progress import Progress, silent
from cgbench.train import SelectionSettings
from cgbench.train.kinds import AnyConfig

RECORD = "selection.json"


class SelectionOutcome(Frozen):
    """What ``selection.json`` holds.

    Attributes:
        name: The model's name.
        metric: What was compared; None where nothing was chosen.
        direction: Whether less or more of it is better.
        protocol: How candidates were simulated.
        references: Where the references are from, by system.
        candidates: One for each seed.
        chosen: Seed of the best.
        between_seed: Spread over the candidates that did not fail, by name.
    """

    format: Literal["cgbench-selection"] = "cgbench-selection"
    version: Literal[1] = 1
    name: str
    metric: str | None = None
    direction: Literal["min", "max"] = "min"
    protocol: str | None = None
    references: dict[str, str] = pydantic.Field(default_factory=dict)
    candidates: tuple[Candidate, ...]
    chosen: int | None = None
    between_seed: dict[str, SeedSpread] = pydantic.Field(default_factory=dict)


def train_seeds(
    settings: AnyConfig,
    n_seeds: int,
    out: Path,
    *,
    select: bool = True,
    home: Path | None = None,
    resume: bool = False,
    force: bool = False,
    checkpoint_minutes: float | None = 10.0,
    workers: int = 1,
    progress: Progress = silent,
) -> SelectionOutcome:
    """Train a configuration with several seeds, and choose the best by short simulations.

    The seeds are that of the configuration and those that follow it. Each has a run folder
    ``seed-<n>``, which is kept or resumed for itself. The best becomes ``model.pt``, which says of
    how many it is the best and how far they differ.

    Args:
        settings: The configuration.
        n_seeds: Number of seeds.
        out: Folder of the runs.
        select: Whether one is chosen.
        home: Data home.
        resume: Continue unfinished trainings.
        force: Start over.
        checkpoint_minutes: Time between checkpoints within an epoch.
        workers: Threads that measure frames.
        progress: Told how far it is.

    Raises:
        UsageError: Fewer than two seeds to choose from, or what ``train`` raises.
        SimulationError: Every seed failed.
    """
    if n_seeds < (2 if select else 1):
        raise UsageError(
            "number of seeds",
            expected="two or more to select from" if select else "at least 1",
            found=n_seeds,
        )
    selection: SelectionSettings | None = getattr(settings, "selection", None)
    # Before hours of training: what cannot be selected from is told now.
    judge = None
    if select:
        systems = trained_systems(settings, home)
        judge = Judge(systems, selection, home, workers=workers, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    candidates = []
    for number in range(n_seeds):
        seed = settings.seed + number
        candidate = train_candidate(
            settings.model_copy(update={"seed": seed}),
            out,
            f"seed-{seed}",
            home=home,
            resume=resume,
            force=force,
            checkpoint_minutes=checkpoint_minutes,
            progress=named(progress, f"seed {seed}"),
        )
        if judge is not None and candidate.status == "ok":
            folder = out / candidate.folder
            told = named(progress, f"seed {seed}")
            values = judge.judge(folder / "model.pt", folder / "selection", told)
            candidate = judge.judged(candidate, values)
        candidates.append(candidate)
        _write(out, settings, judge, candidates, None)
    if all(one.status == "failed" for one in candidates) and judge is None:
        raise SimulationError(
            f"{settings.name}: every seed failed",
            found="; ".join(f"seed {one.seed}: {one.reason}" for one in candidates),
        )
    best = None if judge is None else judge.best(candidates)
    outcome = _write(out, settings, judge, candidates, best)
    if judge is not None and best is not None:
        save_model(out / "model.pt", _chosen_model(out, judge, outcome, best))
    return outcome


def _write(
    out: Path,
    settings: AnyConfig,
    judge: Judge | None,
    candidates: Sequence[Candidate],
    best: Candidate | None,
) -> SelectionOutcome:
    metric = None if judge is None else judge.metric
    outcome = SelectionOutcome(
        name=settings.name,
        metric=metric,
        direction="min" if judge is None else judge.direction,
        protocol=None if judge is None else judge.protocol.id,
        references={} if judge is None else judge.references,
        candidates=tuple(candidates),
        chosen=None if best is None else best.seed,
        between_seed=between_seeds(candidates, metric),
    )
    config.write_model(out / RECORD, outcome)
    return outcome


def _chosen_model(
    out: Path, judge: Judge, outcome: SelectionOutcome, best: Candidate
) -> NetworkPotential:
    potential = load_model(out / best.folder / "model.pt")
    costs = [one.training_seconds or 0.0 for one in outcome.candidates]
    potential.spec = PotentialSpec.model_validate(
        potential.spec.model_dump()
        | {
            "seeds": tuple(one.seed for one in outcome.candidates),
            "training_cost_s": round(math.fsum(costs), 1),
            "best_of_n": len(outcome.candidates),
            "between_seed": outcome.between_seed,
            "selected_by": SelectedBy(
                metric=judge.metric,
                protocol=judge.protocol.id,
                seed=best.seed,
                references={target.system: target.bundle.fingerprint for target in judge.targets},
                described=judge.references,
            ),
        }
    )
    return potential
