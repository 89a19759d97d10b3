"""The benchmarks of samplers: their stages run, and the pages show the results that are there."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cgbench.config import read_model

ROOT = Path(__file__).parent.parent


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    found = tuple(importlib.import_module(name) for name in ("samplers", "structures_task"))
    yield found
    for one in found:
        sys.modules.pop(one.__name__, None)


def test_the_pages_show_the_results_that_are_there(modules: tuple[Any, Any]) -> None:
    samplers, task = modules
    page = samplers.PAGE.read_text(encoding="utf-8")
    results = sorted(samplers.RESULTS.glob("samplers-*.json"))
    assert results
    for path in results:
        found = read_model(samplers.Benchmark, path)
        assert f"{samplers.table(found.rows)}\n\n{samplers.footnote(found)}\n" in page
        assert {"recurrent", "nemo"} == set(found.runs)
        assert not found.quick
        assert found.synthetic == (path.stem == "samplers-synthetic")
        assert {"noise floor", "native_constant", "ideal_chain"} <= {row.row for row in found.rows}
    outcome = read_model(task.StructuresOutcome, task.RESULTS)
    assert task.filled(task.PAGE.read_text(encoding="utf-8"), outcome) == task.PAGE.read_text(
        encoding="utf-8"
    )


def test_samplers_of_the_results_say_what_they_cost(modules: tuple[Any, Any]) -> None:
    samplers, _ = modules
    found = read_model(samplers.Benchmark, samplers.RESULTS / "samplers-sample.json")
    own = [row for row in found.rows if row.models is not None]
    assert [row.row for row in own] == sorted(samplers.BASELINES.values())
    for row in own:
        assert row.models.n_models == 100
        assert row.training_seconds is not None
        assert row.metrics["w1_tic1"][0] is not None


def test_results_keep_the_rows_that_a_run_does_not_make(
    modules: tuple[Any, Any], tmp_path: Path
) -> None:
    samplers, _ = modules
    path = tmp_path / "results.json"
    whole = read_model(samplers.Benchmark, samplers.RESULTS / "samplers-synthetic.json")
    order = tuple(dict.fromkeys(row.system for row in whole.rows))
    for kind in ("recurrent", "nemo"):
        own = tuple(row for row in whole.rows if row.row.startswith(kind) or kind == "recurrent")
        part = {"rows": own[::-1], "runs": {kind: whole.runs[kind]}}
        samplers.write_results(path, whole.model_copy(update=part), order)
    found = read_model(samplers.Benchmark, path)
    assert set(found.runs) == set(whole.runs)
    assert {(row.system, row.row): row for row in found.rows} == {
        (row.system, row.row): row for row in whole.rows
    }
    assert [row.system for row in found.rows] == [row.system for row in whole.rows]
    with pytest.raises(SystemExit, match="other settings"):
        samplers.write_results(path, whole.model_copy(update={"quick": True}), order)


def test_trainings_on_synthetic_stores_leave_out_and_unroll_fifty_steps(
    modules: tuple[Any, Any],
) -> None:
    samplers, _ = modules
    for left_out in (None, "bba"):
        settings = samplers.small_config("nemo", "synthetic/nemo", ("chignolin",), left_out, False)
        assert settings.network.simulator.n_steps >= 50
        assert settings.left_out == left_out
        assert settings.split == ("block-v1" if left_out is None else "lopo-bba")


@pytest.mark.slow
def test_the_stage_of_the_embedded_sample_runs_and_is_kept(
    modules: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samplers, _ = modules
    told = Console(quiet=True)
    kinds = tuple(samplers.BASELINES)
    rows = samplers.run_sample(tmp_path, kinds, True, told)
    assert [row.status for row in rows] == ["ok"] * 5
    monkeypatch.setattr(samplers, "score", None)
    assert samplers.run_sample(tmp_path, kinds, True, told) == rows
    alone = samplers.run_sample(tmp_path, ("nemo",), True, told, beside=False)
    assert alone == rows[1:2]


@pytest.mark.slow
def test_the_structures_task_on_entries_at_hand(
    modules: tuple[Any, Any], tmp_path: Path, published_dir: Path
) -> None:
    _, task = modules
    outcome = task.run(published_dir, tmp_path)
    assert outcome.total.n_domains == 4
    assert all(one.models is not None for one in outcome.domains)


def test_the_cost_of_the_structures_task_is_measured_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    cost = importlib.import_module("structures_cost")
    monkeypatch.setattr(cost, "CHAINS", 2)
    (row,) = cost.measure(tmp_path, (100,), 8, Console(quiet=True))
    assert (row.name, row.chains, row.steps) == ("recurrent/structures-100", 32, 100_000)
    assert row.seconds_per_step > 0
    found = read_model(cost.Costs, cost.RESULTS)
    assert [one.width for one in found.rows] == [100, 300, 500, 700]
    page = cost.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(cost, "CHAINS", 24)
    assert cost.filled(page, found) == page
    for one in found.rows:
        path = ROOT / "baselines" / one.name / "expected-cost.txt"
        assert path.read_text(encoding="utf-8") == cost.expected_cost(one, found)
    sys.modules.pop("structures_cost", None)
