"""The benchmark of synthetic systems: its verdicts, its tables and, slowly, all of its stages."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cgbench.registry import systems
from cgbench.testing.synthetic_natives import PROTEINS, VARIANTS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "synthetic.md"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """The modules of the benchmark, which are scripts."""
    names = ("synthetic", "synthetic_cases", "synthetic_stages", "synthetic_tables")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in names:
            sys.modules.pop(name, None)


def rows(benchmark: Any, **changes: dict[str, Any]) -> list[Any]:
    """Rows of one protein on which every known answer comes out, changed by name."""
    values: dict[str, dict[str, Any]] = {
        "generating": {"force_mse": 1e-9, "w1_tic1": 0.2, "w1_lo": 0.1, "w1_hi": 0.3},
        "multi-protein": {"force_mse": 2.0, "w1_tic1": 0.4, "w1_lo": 0.3, "w1_hi": 0.5},
        "leave-one-out": {"force_mse": 4.0, "w1_tic1": 0.8, "w1_lo": 0.7, "w1_hi": 0.9},
        "prior": {"force_mse": 3.0, "w1_tic1": 1.4, "w1_lo": 1.3, "w1_hi": 1.5},
        "pair-spline": {"force_mse": 2.5, "w1_tic1": 0.9, "w1_lo": 0.8, "w1_hi": 1.0},
        "md_split_half": {"w1_tic1": 0.2, "w1_lo": 0.1, "w1_hi": 0.25},
    }
    row = benchmark["synthetic_stages"].Row
    return [
        row(system="chignolin", row=name, **{**value, **changes.get(name.replace("-", "_"), {})})
        for name, value in values.items()
    ]


def variants(benchmark: Any, network: float) -> list[Any]:
    row = benchmark["synthetic_stages"].VariantRow
    errors = {"generating": 0.0, "multi-protein": network, "prior": 3.0}
    return [row(variant="a", row=name, force_mse=value) for name, value in errors.items()]


def failing(benchmark: Any, found: list[Any], network: float = 1.0) -> list[str]:
    answers = benchmark["synthetic"].known_answers(found, variants(benchmark, network))
    assert len(answers) == 5
    return [one.statement for one in answers if one.failing]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generating": {"force_mse": 1e-3}}, "no force error"),
        ({"generating": {"w1_lo": 0.26}}, "noise floor"),
        ({"generating": {"status": "failed", "w1_lo": None}}, "noise floor"),
        ({"multi_protein": {"force_mse": 3.5}}, "than its prior"),
        ({"leave_one_out": {"force_mse": 1.0}}, "leaving a protein out"),
    ],
)
def test_each_answer_can_be_wrong(benchmark: Any, changes: Any, told: str) -> None:
    assert failing(benchmark, rows(benchmark)) == []
    (wrong,) = failing(benchmark, rows(benchmark, **changes))
    assert told in wrong


def test_the_answer_on_variants_can_be_wrong(benchmark: Any) -> None:
    (wrong,) = failing(benchmark, rows(benchmark), network=3.5)
    assert "variants" in wrong


def test_cases_cover_all_proteins_once(benchmark: Any) -> None:
    case = benchmark["synthetic_cases"].CASES["full"]
    assert case.systems == PROTEINS
    assert case.variants == tuple(VARIANTS)
    assert set(case.systems) == {one.key for one in systems() if one.published_key}
    for left_out in case.systems:
        training = case.training(left_out)
        assert left_out not in training.systems
        assert len(training.systems) == 11
        assert training.split == f"lopo-{left_out}"
    assert case.training(None).systems == PROTEINS
    # What is scored is simulated as the data were.
    data, scored = case.data.protocol(), case.protocol
    same = ("timestep", "friction", "temperature", "output_interval", "bead_mass")
    assert all(getattr(data, name) == getattr(scored, name) for name in same)


def test_tables_take_the_place_of_the_old_ones(benchmark: Any) -> None:
    record = {
        "system": "chignolin",
        "scale": 0.8,
        "n_frames": 19200,
        "folded_population": 0.25,
        "n_folding": 100,
        "n_unfolding": 101,
    }
    answers = benchmark["synthetic"].known_answers(
        rows(benchmark, multi_protein={"force_mse": 3.5}), variants(benchmark, 1.0)
    )
    found = {
        "systems": [record],
        "rows": [row.model_dump() for row in rows(benchmark)],
        "variants": [row.model_dump() for row in variants(benchmark, 1.0)],
        "answers": [answer.model_dump() for answer in answers],
    }
    filled = benchmark["synthetic_tables"].filled
    page = filled(PAGE.read_text(encoding="utf-8"), found)
    assert "Not yet run" not in page
    assert "| `chignolin` | 1e-09 | 2 | 4 | 3 | 2.5 |" in page
    assert "0.20 [0.10, 0.25]" in page
    assert "0 of 1 | chignolin" in page
    assert filled(page, found) == page
    with pytest.raises(SystemExit, match="no markers"):
        filled("# another page", found)


def test_the_page_shows_the_results_that_are_there(benchmark: Any) -> None:
    """Either nothing was run, or the tables are those of the results."""
    results = ROOT / "benchmarks" / "results" / "synthetic.json"
    page = PAGE.read_text(encoding="utf-8")
    if not results.is_file():
        assert page.count("Not yet run.") == 5
        return
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["synthetic"] is True
    assert benchmark["synthetic_tables"].filled(page, found) == page


@pytest.mark.slow
def test_every_stage_runs_and_is_kept(benchmark: Any, published_dir: Path, tmp_path: Path) -> None:
    run, case = benchmark["synthetic"].run, benchmark["synthetic_cases"].CASES["least"]
    found = run(case, "least", tmp_path, published_dir)
    exact = next(one for one in found.answers if "no force error" in one.statement)
    assert exact.holds == exact.cases == 2
    assert all(row.synthetic for row in found.rows)
    assert len(found.rows) == 12
    models = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*/model.pt"))]
    again = run(case, "least", tmp_path, published_dir)
    assert again.rows == found.rows
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*/model.pt"))] == models
