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
        assert samplers.table(found.rows) in page
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
    own, *beside = found.rows
    assert own.models is not None
    assert own.models.n_models == 100
    assert own.training_seconds is not None
    assert all(row.models is None for row in beside)
    assert own.metrics["w1_tic1"][0] is not None


@pytest.mark.slow
def test_the_stage_of_the_embedded_sample_runs_and_is_kept(
    modules: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samplers, _ = modules
    told = Console(quiet=True)
    rows = samplers.run_sample(tmp_path, True, told)
    assert [row.status for row in rows] == ["ok"] * 4
    monkeypatch.setattr(samplers, "score", None)
    assert samplers.run_sample(tmp_path, True, told) == rows


@pytest.mark.slow
def test_the_structures_task_on_entries_at_hand(
    modules: tuple[Any, Any], tmp_path: Path, published_dir: Path
) -> None:
    _, task = modules
    outcome = task.run(published_dir, tmp_path)
    assert outcome.total.n_domains == 4
    assert all(one.models is not None for one in outcome.domains)
