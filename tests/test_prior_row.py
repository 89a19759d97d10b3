"""The row of a model's prior: simulated beside the model, kept, told apart, and never its harm."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_networks import small_network, small_prior
from toy_simulation import SpringChain, toy_protocol

from cgbench import registry
from cgbench.errors import SimulationError
from cgbench.evaluate import Scored, read_reference, reference_statistics
from cgbench.models import NetworkPotential, PotentialSpec, save_model
from cgbench.models.conformance import ConformanceReport
from cgbench.pipeline import beside, evaluate_system, prior_row, simulate
from cgbench.pipeline import evaluate as pipeline
from cgbench.pipeline.evaluate import evaluate_model
from cgbench.pipeline.prior_row import prior_folder, prior_rows, score_prior
from cgbench.pipeline.results import read_run
from cgbench.priors import BondTerm, PriorParameters
from cgbench.progress import silent
from cgbench.results import Result, read_result
from cgbench.store import find_reference

SYSTEM = "chignolin-sample-v2"
BUNDLE = read_reference(find_reference(SYSTEM))
STATISTICS = functools.cache(
    lambda seed: reference_statistics(BUNDLE, seed=seed, n_resamples=2, workers=1)
)
Run = Callable[..., Result]


def potential(name: str = "toy", *, prior: PriorParameters | None = None) -> NetworkPotential:
    """A small network over a prior."""
    return NetworkPotential(
        small_network().float(), prior or small_prior(), PotentialSpec(name=name)
    )


def stiff(k: float) -> PriorParameters:
    """The toy prior with bonds of another stiffness."""
    old = small_prior()
    bonds = {pair: BondTerm(k=k, r0=term.r0) for pair, term in old.bonds.items()}
    return old.model_copy(update={"bonds": bonds})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol of forty steps, few resamples, no conformance suite, no page."""

    def score(ensemble: Any, bundle: Any, **options: Any) -> Scored:
        return SCORE(ensemble, bundle, **(options | {"reference": STATISTICS(options["seed"])}))

    def check(potential: Any, bundles: Any, progress: Any) -> ConformanceReport:
        return ConformanceReport(potential="toy", systems=tuple(bundles), checks=())

    monkeypatch.setattr(registry, "protocol", lambda _: toy_protocol())
    monkeypatch.setattr(simulate, "score", score)
    monkeypatch.setattr(evaluate_system, "score", score)
    monkeypatch.setattr(evaluate_system, "check_on", check)
    monkeypatch.setattr(evaluate_system, "force_errors", lambda *_, **__: None)
    monkeypatch.setattr(prior_row, "force_errors", lambda *_, **__: None)
    monkeypatch.setattr(beside, "kept_rows", lambda *_, **__: [])
    monkeypatch.setattr(pipeline, "report_runs", page)


SCORE = simulate.score
DRAWN: list[Path] = []


def page(runs: list[Path], out: Path, **_: Any) -> None:
    """Note that a page is drawn."""
    DRAWN.append(out)
    out.write_text("a page")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def evaluate(**options: Any) -> Result:
        model = save_to(tmp_path / "model.pt", options.pop("potential", None) or potential())
        values = {"protocol": "toy", "out": tmp_path / "run", "home": tmp_path / "home"}
        return evaluate_model(model, [SYSTEM], **(values | options))

    return evaluate


def save_to(path: Path, model: NetworkPotential) -> Path:
    save_model(path, model)
    return path


def kept(folder: Path) -> list[Scored]:
    """The rows of priors that a report of a run shows."""
    scored = read_run(folder).scored[SYSTEM]
    return prior_rows([(scored, folder)], BUNDLE)


def test_the_row_is_drawn_beside_the_model(run: Run, tmp_path: Path) -> None:
    result = run()
    assert [item.status for item in result.systems] == ["ok"]
    (row,) = kept(tmp_path / "run")
    assert (row.name, row.result.status) == ("prior_only", "ok")
    assert row.result.n_trajectories == toy_protocol().n_replicas
    model = read_run(tmp_path / "run").scored[SYSTEM]
    assert row.result.metrics["rg_w1"].value != model.result.metrics["rg_w1"].value
    html = beside.report_runs([tmp_path / "run"], tmp_path / "page.html").read_text()
    assert "prior_only" in html
    # The prior is no model of the run: its result holds the model alone.
    assert "prior_only" not in (tmp_path / "run" / "result.json").read_text()


def test_a_kept_row_is_not_simulated_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    drawn = len(DRAWN)
    monkeypatch.setattr(prior_row, "simulate", None)
    run()
    assert len(DRAWN) == drawn


def test_without_a_prior_and_then_with_it(run: Run, tmp_path: Path) -> None:
    run(prior=False)
    assert kept(tmp_path / "run") == []
    drawn = len(DRAWN)
    # The model's row is kept, and the page is drawn again for the row that joined it.
    run()
    assert [row.name for row in kept(tmp_path / "run")] == ["prior_only"]
    assert len(DRAWN) == drawn + 1


def test_an_interrupt_in_the_prior_is_gone_on_with(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prior_row, "simulate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    # The model's own row was safe, and its result says so.
    partial = read_result(tmp_path / "run" / "result.json")
    assert [item.status for item in partial.systems] == ["ok"]
    monkeypatch.setattr(evaluate_system, "simulate", None)
    run()
    assert [row.name for row in kept(tmp_path / "run")] == ["prior_only"]


@pytest.mark.parametrize("error", [SimulationError("lost"), RuntimeError("bad\x1bshape")])
def test_a_prior_that_fails_does_not_hurt_the_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(prior_row, "simulate", broken)
    result = run()
    assert [item.status for item in result.systems] == ["ok"]
    (row,) = kept(tmp_path / "run")
    assert row.result.status == "failed"
    assert row.result.metrics["rg_w1"].value == registry.metric("rg_w1").penalty
    assert "\x1b" not in (row.result.reason or "")


def test_a_prior_that_explodes_is_a_failed_row(run: Run, tmp_path: Path) -> None:
    # Bonds of this stiffness cannot be followed at 4 fs; those of the model's own row can.
    run()
    score_prior(
        potential(prior=stiff(1e7)), BUNDLE, toy_protocol(), tmp_path / "run",
        seed=1, split=None, home=tmp_path / "home", force=True,
    )  # fmt: skip
    (row,) = kept(tmp_path / "run")
    assert row.result.status == "failed"
    assert row.result.dead_fraction == 1.0
    assert read_run(tmp_path / "run").scored[SYSTEM].result.status == "ok"
    html = beside.report_runs([tmp_path / "run"], tmp_path / "page.html").read_text()
    assert "prior_only" in html


def test_what_is_left_of_another_seed_is_replaced(run: Run, tmp_path: Path) -> None:
    run(seed=1)
    run(seed=2, prior=False, force=True)
    result = run(seed=2)
    assert [item.status for item in result.systems] == ["ok"]
    place = prior_folder(tmp_path / "run", SYSTEM)
    record = json.loads((place / "scored" / f"{SYSTEM}.json").read_text())
    assert record["inputs"]["seeds"]["simulation"] == 2
    assert kept(tmp_path / "run")[0].result.status == "ok"


def test_damaged_trajectories_are_simulated_again(run: Run, tmp_path: Path) -> None:
    run()
    place = prior_folder(tmp_path / "run", SYSTEM)
    before = kept(tmp_path / "run")[0].result.metrics
    for path in (place / "trajectories.zarr" / SYSTEM).rglob("zarr.json"):
        path.write_text("{")
    (place / "scored" / f"{SYSTEM}.npz").unlink()
    run()
    assert kept(tmp_path / "run")[0].result.metrics == before


def test_a_damaged_row_is_ignored_and_made_again(run: Run, tmp_path: Path) -> None:
    run()
    path = prior_folder(tmp_path / "run", SYSTEM) / "scored" / f"{SYSTEM}.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert kept(tmp_path / "run") == []
    beside.report_runs([tmp_path / "run"], tmp_path / "page.html")
    run()
    assert [row.name for row in kept(tmp_path / "run")] == ["prior_only"]


def test_a_row_of_another_reference_is_not_shown(run: Run, tmp_path: Path) -> None:
    run()
    path = prior_folder(tmp_path / "run", SYSTEM) / "scored" / f"{SYSTEM}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"reference": "sha256:" + 64 * "0"}))
    assert kept(tmp_path / "run") == []


def test_priors_of_two_models_are_told_apart(run: Run, tmp_path: Path) -> None:
    names = ("one", "other", "third")
    priors = (small_prior(), stiff(90.0), small_prior())
    for name, prior in zip(names, priors, strict=True):
        run(potential=potential(name, prior=prior), out=tmp_path / name)
    drawn = [(read_run(tmp_path / name).scored[SYSTEM], tmp_path / name) for name in names]
    told = [row.name for row in prior_rows(drawn, BUNDLE)]
    assert told == ["prior_only (one)", "prior_only (other)"]
    # Models over one prior share its row.
    assert [row.name for row in prior_rows([drawn[0], drawn[2]], BUNDLE)] == ["prior_only"]
    html = beside.report_runs([tmp_path / name for name in names], tmp_path / "p.html").read_text()
    assert "prior_only (one)" in html
    assert "prior_only (other)" in html


def test_a_prior_alone_and_a_program_have_no_such_row(tmp_path: Path, run: Run) -> None:
    alone = NetworkPotential(None, small_prior(), PotentialSpec(name="alone"))
    run(potential=alone)
    assert not prior_folder(tmp_path / "run", SYSTEM).exists()
    bare = NetworkPotential(small_network().float(), None, PotentialSpec(name="bare"))
    done = score_prior(bare, BUNDLE, toy_protocol(), tmp_path / "bare", seed=1, split=None)
    assert done is None
    assert not (tmp_path / "bare").exists()
    plan = evaluate_system.Plan(
        model=tmp_path / "x.pt2", potential=SpringChain(), identity=None, protocol=toy_protocol(),
        out=tmp_path / "program", seed=1, force=False, home=None, paper=False, stable_step=None,
        prior=True, workers=None,
    )  # type: ignore[arg-type]  # fmt: skip
    assert evaluate_system.prior_beside(plan, SYSTEM, silent) is None
    assert not (tmp_path / "program").exists()


def test_the_prior_has_progress_bars_of_its_own(run: Run) -> None:
    told: list[str] = []
    run(progress=lambda task, done, total: told.append(task.partition(" (")[0]))
    own = {task for task in told if task.startswith("prior alone: ")}
    assert any("simulate" in task for task in own)
    assert any(task.startswith("simulate") for task in set(told) - own)
    assert np.array_equal(sorted(own), sorted({task for task in told if "prior alone" in task}))
