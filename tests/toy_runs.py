"""Evaluations of a real model file in which only simulating and scoring are play."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cgbench.errors import SimulationError
from cgbench.evaluate import Scored
from cgbench.models import NetworkPotential, PotentialSpec, save_model
from cgbench.pipeline import evaluate as pipeline
from cgbench.pipeline import evaluate_system
from cgbench.priors import BondTerm, DihedralSet, DihedralTerm, PriorParameters
from cgbench.results import MetricValue, Result, SystemResult

#: Two systems whose references come with the package, and one without.
FIRST, SECOND, ABSENT = "chignolin-sample", "chignolin-sample-v2", "chignolin"


def save_toy_model(path: Path, name: str = "toy") -> Path:
    """Write a prior alone that covers every bead."""
    numbers = range(1, 25)
    prior = PriorParameters(
        bonds={f"{a}-{b}": BondTerm(k=100.0, r0=3.8) for a in numbers for b in numbers},
        repulsion=dict.fromkeys(numbers, 2.0),
        dihedrals=(DihedralSet(types=None, terms=(DihedralTerm(n=1, k=0.1, gamma=0.0),)),),
        source="toy",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, NetworkPotential(None, prior, PotentialSpec(name=name)))
    return path


def toy_row(system: str, *, name: str = "toy", value: float = 1.0, seed: int = 1) -> Scored:
    """A row with one metric of each direction."""
    values = {"rg_w1": value, "coverage": min(1.0, value / 2), "native_population": value / 4}
    generator = np.random.default_rng(int(1000 * value) + len(system))
    resamples = {key: one + generator.normal(0, 0.01, 200) for key, one in values.items()}
    metrics = {
        key: MetricValue(
            value=one, lo=one - 0.02, hi=one + 0.02,
            target=0.5 if key == "native_population" else None,
        )
        for key, one in values.items()
    }  # fmt: skip
    result = SystemResult(
        system=system, status="ok", metrics=metrics, n_trajectories=32, n_frames=320
    )
    return Scored(name=name, result=result, seed=seed, n_trajectories=32, resamples=resamples)


class Play:
    """What stands in for the slow parts, with a count of what was done.

    Args:
        patch: ``setattr`` or a monkeypatch's.
        faults: What happens where a system is scored, by system.
    """

    def __init__(
        self,
        patch: Callable[[Any, str, Any], None],
        faults: dict[str, Callable[[], None]] | None = None,
    ) -> None:
        self.scored: list[str] = []
        self.simulated: list[str] = []
        self.drawn = 0
        self.faults = dict(faults or {})
        patch(evaluate_system, "check_on", self._check)
        patch(evaluate_system, "simulate", self._simulate)
        patch(evaluate_system, "force_errors", lambda *a, **k: None)
        patch(evaluate_system, "read_trajectories", lambda path, system: system)
        ensemble = SimpleNamespace(notes=(), time_ordered=True)
        patch(
            evaluate_system.Ensemble,
            "from_trajectory_set",
            staticmethod(lambda trajectories, name: ensemble),
        )
        patch(evaluate_system, "score", self._score)
        patch(pipeline, "report_runs", self._report)

    def _check(self, potential: Any, bundles: Any, progress: Any) -> Any:
        from cgbench.models.conformance import ConformanceReport

        return ConformanceReport(potential="toy", systems=tuple(bundles), checks=())

    def _simulate(self, potential: Any, system: Any, protocol: Any, **rest: Any) -> Any:
        self.simulated.append(system.key)
        return SimpleNamespace(steps_per_second=100.0, ns_per_day=5.0, wall_time=2.0, exchange=None)

    def _score(self, ensemble: Any, bundle: Any, **rest: Any) -> Scored:
        if bundle.system in self.faults:
            self.faults[bundle.system]()
        self.scored.append(bundle.system)
        return toy_row(bundle.system, seed=rest["seed"])

    def _report(self, runs: list[Path], out: Path, **rest: Any) -> Path:
        self.drawn += 1
        out.write_text("a page")
        return out


def broken() -> None:
    """What a model that cannot be simulated raises."""
    raise SimulationError("toy: every replica is lost")


def killed() -> None:
    """End this process at once, as a full memory or a cut cable does."""
    os.kill(os.getpid(), signal.SIGKILL)


def by_system(result: Result) -> dict[str, SystemResult]:
    """The systems of a result by key."""
    return {item.system: item for item in result.systems}
