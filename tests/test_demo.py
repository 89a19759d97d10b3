"""The main job end to end: the demo, its interruption, and the verbs on what it leaves behind."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cgbench.cli.main import app
from cgbench.errors import UsageError
from cgbench.pipeline.demo import SHIPPED, SYSTEM, DemoOutcome, run_demo
from cgbench.results import read_result, to_frame

ROWS = {
    "demo-network",
    SHIPPED,
    "prior_only",
    "md_split_half",
    "start_frames",
    "native_constant",
    "ideal_chain",
}
RUN = "from cgbench.cli import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "cgbench-demo"


@pytest.fixture(scope="module")
def outcome(folder: Path) -> DemoOutcome:
    return run_demo(folder, quick=True)


def _strip(value: dict[str, object]) -> dict[str, object]:
    return {key: value[key] for key in ("rows", "paired", "notes")}


def test_demo_scores_every_row(outcome: DemoOutcome, folder: Path) -> None:
    written = json.loads((folder / "demo.json").read_text())
    assert {row["name"] for row in written["rows"]} == ROWS
    for row in written["rows"]:
        assert row["metrics"]["w1_tic1"]["value"] is not None
        assert row["metrics"]["fes_rmse"]["value"] is not None
    assert Path(written["report"]).is_file()
    forces = {row.name: row.metrics.get("force_mse") for row in outcome.rows}
    for name in ("demo-network", SHIPPED, "prior_only"):
        value = forces[name]
        assert value is not None
        assert value.lo is not None
        assert value.value is not None
        assert value.lo < value.value
    paired = {(item["metric"], item["a"]) for item in written["paired"]}
    for metric in ("force_mse", "rg_w1", "dihedral_js"):
        for name in ("demo-network", SHIPPED):
            assert (metric, name) in paired
    assert all(item["b"] == "prior_only" for item in written["paired"])


def test_the_shipped_baseline_beats_the_prior_on_held_out_forces(outcome: DemoOutcome) -> None:
    (found,) = [i for i in outcome.paired if i.metric == "force_mse" and i.a == SHIPPED]
    assert found.hi < 0.0


def test_report_says_how_far_to_trust_the_reference(outcome: DemoOutcome) -> None:
    page = Path(outcome.report).read_text()
    assert "The reference is not converged" in page
    assert "md_split_half" in page
    assert "run is too short" in page


@pytest.mark.slow
def test_a_finished_demo_is_not_run_again(outcome: DemoOutcome, folder: Path) -> None:
    kept = [folder / "demo-network" / "model.pt", folder / "demo-network" / "logs" / "metrics.csv"]
    kept += list(folder.rglob("trajectories*run.json"))
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) == 5
    again = run_demo(folder, quick=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert _strip(again.model_dump()) == _strip(outcome.model_dump())


def test_killed_while_training_and_while_simulating_it_resumes(
    outcome: DemoOutcome, tmp_path: Path
) -> None:
    out = tmp_path / "cgbench-demo"
    marks = [
        out / "demo-network" / "run.json",
        out / SHIPPED.replace("/", "-") / "trajectories.zarr" / SYSTEM,
    ]
    for mark in marks:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, "demo", "--quick", "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Losses and forces are the same to the last bit for the same number of threads.
            env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        )
        # Only a bound on hanging: on a busy machine the imports alone take minutes.
        limit = time.monotonic() + 900
        while not mark.exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        assert mark.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "demo.json").exists()
    # What the killed processes had finished is not done again.
    kept = [out / "demo-network" / "model.pt", out / "demo-network" / "logs" / "metrics.csv"]
    kept += list((out / "demo-network").rglob("trajectories*run.json"))
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) == 3
    resumed = run_demo(out, quick=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert _strip(resumed.model_dump()) == _strip(outcome.model_dump())


@pytest.fixture(scope="module")
def evaluated(outcome: DemoOutcome, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's run folder, with what the command printed beside it."""
    out = tmp_path_factory.mktemp("evaluated")
    model = out / "model.pt"
    shutil.copy(folder / "prior_only" / "model.pt", model)
    arguments = ["evaluate", str(model), "--protocol", "smoke", "--out", str(out / "run"), "--json"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        app(arguments, standalone_mode=False)
    (out / "printed.json").write_text(printed.getvalue())
    return out


def test_evaluate_report_and_table_on_a_model(evaluated: Path, tmp_path: Path) -> None:
    run = evaluated / "run"
    printed = json.loads((evaluated / "printed.json").read_text())
    result = read_result(run / "result.json")
    assert printed["model"]["hash"] == result.model.hash
    assert result.protocol is not None
    assert result.protocol.id == "smoke"
    (system,) = result.systems
    assert system.status == "ok"
    table = to_frame(result)
    assert set(table.metric) == set(system.metrics)
    assert table.set_index("metric").loc["rg_w1", "unit"] == "Å"
    check = f"check/{SYSTEM}.json"
    for name in ("config.yaml", "model.pt", check, "provenance.json", "report.html"):
        assert (run / name).is_file()

    again = tmp_path / "ensemble"
    app(
        ["evaluate", "--ensemble", str(run), "--out", str(again)],
        standalone_mode=False,
    )
    scored_again = read_result(again / "result.json")
    # The file itself says which model and protocol it is of.
    assert scored_again.model.hash == result.model.hash
    assert scored_again.protocol == result.protocol
    other = scored_again.systems[0]
    # The same frames give the same numbers, wherever they come from.
    assert other.metrics["rg_w1"] == system.metrics["rg_w1"]
    assert other.metrics["force_mse"].status == "n/a"

    for row in ("md_split_half", "start_frames", "native_constant", "ideal_chain"):
        assert row in (run / "report.html").read_text()
    page = tmp_path / "twice.html"
    app(["report", str(run), str(run), "--out", str(page)], standalone_mode=False)
    assert "(run 1)" in page.read_text()
    assert "(run 2)" in page.read_text()


def test_a_refused_run_leaves_the_earlier_result_alone(evaluated: Path) -> None:
    run = evaluated / "run"
    kept = [path for path in run.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in kept}
    assert (run / "result.json") in before
    arguments = ["evaluate", str(evaluated / "model.pt"), "--protocol", "smoke", "--out", str(run)]
    with pytest.raises(UsageError, match="another"):
        app([*arguments, "--seed", "2"], standalone_mode=False)
    assert {path: path.read_bytes() for path in kept} == before


@pytest.mark.slow
def test_a_system_without_a_reference_is_missing_not_fatal(
    outcome: DemoOutcome, folder: Path, tmp_path: Path
) -> None:
    model = folder / "prior_only" / "model.pt"
    run = tmp_path / "run"
    app(
        ["evaluate", str(model), "--protocol", "smoke", "--out", str(run),
         "--system", SYSTEM, "--system", "chignolin", "--home", str(tmp_path / "home")],
        standalone_mode=False,
    )  # fmt: skip
    by_name = {item.system: item for item in read_result(run / "result.json").systems}
    assert by_name[SYSTEM].status == "ok"
    assert by_name["chignolin"].status == "missing"
    assert "cgbench" in (by_name["chignolin"].reason or "")
