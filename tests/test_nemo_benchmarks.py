"""The benchmarks of NEMO: their stages run, and the page shows the results that are there."""

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cgbench.config import read_model
from cgbench.results import Result
from cgbench.samplers import load_sampler
from cgbench.splits.cath import DEPTH
from cgbench.train import SamplerOutcome

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "nemo.md"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("nemo_cost", "nemo_stability", "nemo_structures", "structures_task")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def test_the_page_shows_the_results_that_are_there(modules: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    cost, task = modules["nemo_cost"], modules["structures_task"]
    costs = read_model(cost.Costs, cost.RESULTS)
    assert cost.filled(page, costs) == page
    own = modules["nemo_structures"]
    outcome = read_model(task.StructuresOutcome, own.RESULTS)
    assert task.filled(page, outcome) == page
    assert outcome.n_models == 100
    results = ROOT / "baselines" / "nemo" / "chignolin-sample" / "results"
    trained = read_model(SamplerOutcome, results / "training.json")
    for name, value in trained.terms.items():
        assert f"| `{name}` | {value:.3f} | {trained.floor[name]:.3f} |" in page
    (system,) = read_model(Result, results / "samples.json").systems
    assert system.status == "ok"
    assert f"`fes_rmse` {system.metrics['fes_rmse'].value:.2f} against" in page


def test_what_is_measured_has_fifty_steps_and_bounded_memory(modules: dict[str, Any]) -> None:
    cost, stability = modules["nemo_cost"], modules["nemo_stability"]
    costs = read_model(cost.Costs, cost.RESULTS)
    assert {row.n_beads for row in costs.steps} == set(cost.LENGTHS)
    assert all(row.checkpoints < 0.01 * row.everything for row in costs.memory)
    assert all(row.n_steps >= 50 for row in costs.memory)
    found = read_model(stability.Stability, stability.RESULTS)
    assert found.n_steps >= 50
    # The regularisation is what keeps the gradient finite past the critical step size.
    past = {
        name: [row.gradient for row in rows if row.step_size > (found.critical_step_size or 0.0)]
        for name, rows in (("with", found.regularised), ("without", found.plain))
    }
    assert len(past["with"]) == len(past["without"]) > 10
    assert all(norm is not None and norm < 1e3 for norm in past["with"])
    exploded = [norm is None or norm > 1e12 for norm in past["without"]]
    assert exploded == sorted(exploded)
    assert past["without"][-10:] == [None] * 10


def test_measuring_says_when_a_chain_diverges(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = modules["nemo_cost"]
    monkeypatch.setattr(cost, "REPEATS", 1)
    monkeypatch.setattr(cost, "STEPS", 1)
    rows = cost.costs(5, True)
    assert [row.way for row in rows] == list(cost.WAYS)
    assert all(math.isfinite(row.forward + row.gradient) for row in rows)
    monkeypatch.setattr(cost, "nothing", lambda x: x.sum(dim=(1, 2)) * float("nan"))
    with pytest.raises(SystemExit, match="5 beads: diverged in step 1"):
        cost.costs(5, False)


@pytest.mark.slow
def test_the_structures_task_from_the_list_to_the_table(
    modules: dict[str, Any], tmp_path: Path, published_dir: Path
) -> None:
    own = modules["nemo_structures"]
    outcome = own.run(published_dir, tmp_path, steps=3, n=5)
    assert outcome.total.n_domains == 4
    assert {level: outcome.levels[level].n_domains for level in DEPTH} == dict.fromkeys(DEPTH, 1)
    assert all(one.models is not None for one in outcome.domains)
    assert "| representative | 0." in modules["structures_task"].table(outcome)
    spec = load_sampler(tmp_path / "run" / "sampler.pt").spec
    assert spec.n_steps == 50
    assert spec.structures is not None
    assert spec.structures.n_domains == 3
    # It goes on where it was: nothing is drawn again.
    again = own.run(published_dir, tmp_path, steps=3, n=5)
    assert again.domains == outcome.domains
