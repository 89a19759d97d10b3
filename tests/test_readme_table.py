"""The tables of README.md are those of the committed demo."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from cgbench.config import write_model
from cgbench.errors import UsageError
from cgbench.pipeline.demo import DemoOutcome, DemoRow
from cgbench.results import MetricValue, PairedDifference

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "baselines" / "torchmd-gn" / "chignolin-sample" / "results" / "demo.json"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "docs/readme_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def outcome() -> DemoOutcome:
    return DemoOutcome(
        rows=(
            DemoRow(
                name="network",
                metrics={
                    "force_mse": MetricValue(value=150.123, lo=149.0, hi=151.5),
                    "rg_w1": MetricValue(value=0.25),
                    "w1_tic1": MetricValue(value=1.0, lo=0.5, hi=1.5, status="void"),
                    "fes_rmse": MetricValue(status="n/a"),
                },
            ),
            DemoRow(name="prior_only", metrics={}),
        ),
        paired=(
            PairedDifference(
                metric="force_mse", a="network", b="prior_only", diff=-3.0, lo=-3.5, hi=-2.5
            ),
            PairedDifference(metric="rg_w1", a="network", b="other", diff=9.0, lo=8.0, hi=10.0),
        ),
        report="report.html",
        notes=(),
        quick=False,
        seconds=1.0,
    )


def test_rows_and_differences_are_written(script: ModuleType, outcome: DemoOutcome) -> None:
    lines = script.tables(outcome).splitlines()
    assert lines[2] == ("| `network` | 150 [149, 152] | 0.25 | – | 1 [0.5, 1.5] (void) | – |")
    assert lines[3].startswith("| `prior_only` | –")
    assert lines[-1] == "| `network` | -3 [-3.5, -2.5] | – | – |"
    assert {line.count("|") for line in lines[:4]} == {7}
    assert {line.count("|") for line in lines[5:]} == {5}


def test_check_fails_until_the_tables_are_written(
    script: ModuleType, outcome: DemoOutcome, tmp_path: Path
) -> None:
    demo, readme = tmp_path / "demo.json", tmp_path / "README.md"
    write_model(demo, outcome)
    readme.write_text(f"# Title\n\n{script.BEGIN}\nold\n{script.END}\n\nText.\n")
    arguments = [str(demo), "--readme", str(readme)]
    assert script.main([*arguments, "--check"]) == 1
    assert "old" in readme.read_text()
    assert script.main(arguments) == 0
    assert script.main([*arguments, "--check"]) == 0
    text = readme.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nText.\n")
    assert "old" not in text


def test_a_readme_without_markers_and_a_quick_demo_are_refused(
    script: ModuleType, outcome: DemoOutcome
) -> None:
    with pytest.raises(UsageError, match="markers"):
        script.updated("no markers", outcome)
    with pytest.raises(UsageError, match="quick"):
        script.tables(outcome.model_copy(update={"quick": True}))


def test_the_readme_shows_the_committed_demo(script: ModuleType) -> None:
    if not DEMO.is_file():
        pytest.skip(f"{DEMO.relative_to(ROOT)} has not been made")
    assert script.main([str(DEMO), "--check"]) == 0
