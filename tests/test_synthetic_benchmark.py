"""The benchmark of synthetic systems: its verdicts, its tables and, slowly, all of its stages."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cgbench.config import read_model
from cgbench.registry import systems
from cgbench.results import read_result
from cgbench.results.mutants import MutantsOutcome
from cgbench.testing.synthetic_natives import PROTEINS, VARIANTS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "synthetic.md"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """The modules of the benchmark, which are scripts."""
    names = (
        "synthetic",
        "synthetic_answers",
        "synthetic_cases",
        "synthetic_stages",
        "synthetic_tables",
    )
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in names:
            sys.modules.pop(name, None)


def errors(mean: float, spread: float = 0.1) -> tuple[float, ...]:
    """Force errors of five trajectories around a mean."""
    return tuple(mean * (1.0 + spread * step) for step in (-1.0, -0.5, 0.0, 0.5, 1.0))


def rows(benchmark: Any, **changes: dict[str, Any]) -> list[Any]:
    """Rows of one protein on which every known answer comes out, changed by name."""
    values: dict[str, dict[str, Any]] = {
        "generating": {"forces": errors(1e-9), "w1_tic1": 0.2, "w1_lo": 0.1, "w1_hi": 0.3},
        "multi-protein": {"forces": errors(2.0), "w1_tic1": 0.4, "w1_lo": 0.3, "w1_hi": 0.5},
        "leave-one-out": {"forces": errors(4.0), "w1_tic1": 0.8, "w1_lo": 0.7, "w1_hi": 0.9},
        "prior": {"forces": errors(3.0), "w1_tic1": 1.4, "w1_lo": 1.3, "w1_hi": 1.5},
        "pair-spline": {"forces": errors(2.5)},
        "md_split_half": {"w1_tic1": 0.2, "w1_lo": 0.1, "w1_hi": 0.25},
    }
    row = benchmark["synthetic_stages"].Row
    return [
        row(system="chignolin", row=name, **{**value, **changes.get(name.replace("-", "_"), {})})
        for name, value in values.items()
    ]


def variants(benchmark: Any, network: float, prior: str = "unfolds") -> list[Any]:
    row = benchmark["synthetic_stages"].VariantRow
    means = {"generating": 1e-9, "multi-protein": network, "prior": 3.0}
    told = {"multi-protein": "stays", "prior": prior}
    return [
        row(variant="a", row=name, forces=errors(value), status=told.get(name))
        for name, value in means.items()
    ]


def answers(
    benchmark: Any, found: list[Any], network: float = 1.0, prior: str = "unfolds"
) -> list[Any]:
    known = benchmark["synthetic_answers"].known_answers
    made: list[Any] = known(found, variants(benchmark, network, prior))
    assert len(made) == 7
    return made


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generating": {"forces": errors(1e-3)}}, "no force error"),
        ({"generating": {"w1_lo": 0.26, "w1_hi": 0.4}}, "noise floor"),
        ({"multi_protein": {"forces": errors(3.5)}}, "than its prior"),
        ({"leave_one_out": {"forces": errors(1.0)}}, "trained without the protein"),
        ({"prior": {"w1_tic1": 0.05, "w1_lo": 0.04, "w1_hi": 0.06}}, "the prior alone scores"),
    ],
)
def test_each_answer_can_be_wrong(benchmark: Any, changes: Any, told: str) -> None:
    assert all(one.holds == one.cases == 1 for one in answers(benchmark, rows(benchmark)))
    (wrong,) = (one for one in answers(benchmark, rows(benchmark, **changes)) if one.failing)
    assert told in wrong.statement


def test_a_model_that_fails_is_not_at_the_noise_floor_and_no_better(benchmark: Any) -> None:
    lost = {"status": "failed", "w1_tic1": None, "w1_lo": None, "w1_hi": None}
    found = answers(benchmark, rows(benchmark, generating=lost))
    assert "noise floor" in next(one.statement for one in found if one.failing)
    found = answers(benchmark, rows(benchmark, prior=lost))
    assert all(one.holds for one in found)


@pytest.mark.parametrize(
    "changes",
    [
        # The interval of the ratio holds one; that of the other row overlaps; there is none.
        {"multi_protein": {"forces": (1.0, 5.0, 3.0, 3.5, 2.0)}},
        {"prior": {"w1_tic1": 0.3, "w1_lo": 0.2, "w1_hi": 0.4}},
        {"md_split_half": {"w1_lo": None, "w1_hi": None}},
    ],
)
def test_what_an_interval_does_not_decide_is_open(benchmark: Any, changes: Any) -> None:
    found = answers(benchmark, rows(benchmark, **changes))
    assert any(one.open for one in found)
    assert not any(one.failing for one in found)


def test_the_answers_on_variants_can_be_wrong(benchmark: Any) -> None:
    (wrong,) = (one for one in answers(benchmark, rows(benchmark), network=3.5) if one.failing)
    assert "on variants" in wrong.statement
    (wrong,) = (one for one in answers(benchmark, rows(benchmark), prior="stays") if one.failing)
    assert "does not hold the fold" in wrong.statement


def test_ratios_are_of_the_same_trajectories(benchmark: Any) -> None:
    """What both models share, as a trajectory that is hard for both, leaves no spread."""
    ratio, interval = (benchmark["synthetic_answers"].__dict__[k] for k in ("ratio", "interval"))
    hard = (1.0, 10.0, 3.0, 50.0, 7.0)
    found = ratio([0.5 * one for one in hard], hard)
    assert (found.value, found.lo, found.hi) == pytest.approx((0.5, 0.5, 0.5))
    low, high = interval(hard)
    assert low < sum(hard) / 5 < high


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
    made = answers(benchmark, rows(benchmark, multi_protein={"forces": errors(3.5)}))
    found = {
        "systems": [record],
        "rows": [row.model_dump() for row in rows(benchmark)],
        "variants": [row.model_dump() for row in variants(benchmark, 1.0)],
        "answers": [answer.model_dump() for answer in made],
    }
    filled = benchmark["synthetic_tables"].filled
    page = filled(PAGE.read_text(encoding="utf-8"), found)
    assert "Not yet run" not in page
    assert "| `chignolin` | 1e-09 | 2 [1.88, 2.12] | 4 [3.76, 4.24] |" in page
    assert "0.20 [0.10, 0.25]" in page
    assert "0 of 1 | – | chignolin | median 1.17" in page
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
    variant = {"systems": ("chignolin", "homeodomain"), "variants": ("homeodomain-1P7I",)}
    case = case.model_copy(update={**variant, "screening_length": 4.0})
    found = run(case, "least", tmp_path, published_dir)
    exact = next(one for one in found.answers if "no force error" in one.statement)
    assert exact.holds == exact.cases == 2
    assert all(row.synthetic for row in (*found.rows, *found.variants))
    assert len(found.rows) == 12
    outcome = read_model(MutantsOutcome, tmp_path / "mutants" / "prior" / "mutants.json")
    assert outcome.synthetic
    assert outcome.window_ps == 2.0
    result = read_result(tmp_path / "mutants" / "prior" / "result.json")
    assert all(item.synthetic for item in result.systems)
    assert [one.status for one in outcome.variants] == [found.variants[-1].status]
    models = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*/model.pt"))]
    again = run(case, "least", tmp_path, published_dir)
    assert again.rows == found.rows
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*/model.pt"))] == models
