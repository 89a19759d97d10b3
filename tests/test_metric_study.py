"""The study of corrupted ensembles: what primary metrics rank, and that its figures are shown."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cgbench import registry
from cgbench.config import read_text

ROOT = Path(__file__).parents[1]


#: A minute: run whenever a metric changes.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study_module() -> Any:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("metric_study")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def study(study_module: Any) -> dict[str, Any]:
    study_module.FLOOR_DIVISIONS = 4
    study_module.RESAMPLES = 2
    result: dict[str, Any] = study_module.study("chignolin-sample-v2")
    return result | {"ranking": study_module.ranking(result)}


PRIMARY = [spec.id for spec in registry.metrics() if spec.primary]
SEEN = [
    "hotter",
    "colder",
    "collapsed",
    "mixed with unfolded",
    "lost folded state",
    "noise",
    "truncated",
]


@pytest.mark.parametrize("family", SEEN)
@pytest.mark.parametrize("metric", PRIMARY)
def test_primary_metrics_rank_every_family_without_inversion(
    study: dict[str, Any], family: str, metric: str
) -> None:
    found = study["ranking"][family][metric]
    assert found["inversions"] == 0
    assert found["rank_correlation"] == pytest.approx(1.0)


def test_only_the_gate_catches_the_mirror_image(study: dict[str, Any]) -> None:
    steps = [step for step in study["steps"] if step["family"] == "mirror image"]
    assert [step["gate"] for step in steps[:1]] == ["passed"]
    assert steps[-1]["gate"] == "failed"
    for metric in PRIMARY:
        assert study["ranking"]["mirror image"][metric]["rank_correlation"] is None


def test_shorter_simulations_score_worse_overall(study: dict[str, Any]) -> None:
    for metric in PRIMARY:
        values = study["ranking"]["shortened"][metric]["values"]
        assert values[-1] > values[0]


def test_page_and_registry_are_those_of_the_committed_study(study_module: Any) -> None:
    result = json.loads(read_text(study_module.OUT))
    assert study_module.unequal(result) == []
    page = read_text(study_module.PAGE)
    assert study_module.filled(page, study_module.tables(result)) == page


def test_the_committed_study_is_of_the_current_metrics(study_module: Any) -> None:
    result = json.loads(read_text(study_module.OUT))
    scored = [spec for spec in registry.metrics() if "training" not in spec.needs]
    assert result["metrics_versions"] == {spec.id: spec.version for spec in scored}


@pytest.mark.parametrize(
    "metric", ["fes_rmse", "js_2d", "kl_2d", "dihedral_js", "pair_distance_js"]
)
def test_start_frames_held_still_are_not_taken_for_sampling(
    study: dict[str, Any], metric: str
) -> None:
    """They span the slow coordinates as the reference does, and fill nothing of its surface."""
    still, bad = study["rows"]["start_frames"][metric], registry.metric(metric).bad
    assert bad is not None
    assert still > max(bad, 2 * study["floor"][metric])
