"""Evaluations system by system: kept as they go, gone on with, and no failure hides another."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from toy_runs import ABSENT, FIRST, SECOND, Play, broken, by_system, save_toy_model

from cgbench import registry
from cgbench.cli.evaluate import require_scored
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, SimulationError, UsageError
from cgbench.evaluate import failed
from cgbench.pipeline import scored_rows
from cgbench.pipeline.evaluate import evaluate_model
from cgbench.pipeline.results import read_run
from cgbench.results import read_result

TESTS = Path(__file__).parent


@pytest.fixture
def model(tmp_path):
    return save_toy_model(tmp_path / "model.pt")


@pytest.fixture
def run(tmp_path, model):
    def evaluate(*systems, **options):
        values = {"protocol": "smoke", "out": tmp_path / "run", "home": tmp_path / "home"}
        return evaluate_model(options.pop("model", model), list(systems), **(values | options))

    return evaluate


def test_a_run_holds_rows_timings_and_cost(run, tmp_path, monkeypatch):
    play = Play(monkeypatch.setattr)
    result = run(FIRST, SECOND)
    assert [item.system for item in result.systems] == [FIRST, SECOND]
    assert read_result(tmp_path / "run" / "result.json") == result
    # What the simulation says it took counts, not what waiting for its answer took here.
    assert result.timings[f"simulate/{FIRST}"] == 2.0
    assert {name.split("/")[0] for name in result.timings} >= {"check", "simulate", "score"}
    assert result.wall_time_s == pytest.approx(sum(result.timings.values()))
    assert result.cost.steps_per_second == pytest.approx(100.0)
    assert result.cost.n_replicas == registry.protocol("smoke").n_replicas
    assert result.cost.largest_stable_step is None
    assert "--stable-step" in result.cost.largest_stable_step_reason
    assert set(result.cost.systems) == {FIRST, SECOND}
    record = json.loads((tmp_path / "run/scored" / f"{FIRST}.json").read_text())
    assert record["inputs"]["model"] == result.model.hash
    assert record["inputs"]["protocol"]["n_replicas"] == 8
    assert record["inputs"]["seeds"] == {"simulation": 1, "resampling": 1}
    assert play.drawn == 1


def test_what_is_scored_is_kept_to_the_byte(run, tmp_path, monkeypatch):
    play = Play(monkeypatch.setattr)
    run(FIRST)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")
              if path.is_file()}  # fmt: skip
    run(FIRST)
    assert (play.scored, play.drawn) == ([FIRST], 1)
    assert {path: path.read_bytes() for path in before} == before
    # Another system is added; the first one stays in the result.
    result = run(SECOND)
    assert play.scored == [FIRST, SECOND]
    assert [item.system for item in result.systems] == [FIRST, SECOND]
    assert set(read_run(tmp_path / "run").scored) == {FIRST, SECOND}
    run(FIRST, force=True)
    assert play.scored == [FIRST, SECOND, FIRST]


def test_only_what_changed_is_scored_again(run, tmp_path, monkeypatch):
    play = Play(monkeypatch.setattr)
    run(FIRST, SECOND)
    row = tmp_path / "run/scored" / f"{FIRST}.npz"
    damaged = bytearray(row.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    row.write_bytes(bytes(damaged))
    run(FIRST, SECOND)
    assert play.scored == [FIRST, SECOND, FIRST]
    # A metric of a new version: every row is of the past.
    version = scored_rows.metric_version
    monkeypatch.setattr(scored_rows, "metric_version", lambda one: version(one) + (one == "rg_w1"))
    run(FIRST, SECOND)
    assert play.scored[3:] == [FIRST, SECOND]
    run(FIRST, SECOND, seed=2)
    assert play.scored[5:] == [FIRST, SECOND]


def test_a_failed_system_does_not_hide_the_others_and_is_tried_again(run, tmp_path, monkeypatch):
    play = Play(monkeypatch.setattr, {FIRST: broken})
    result = run(FIRST, ABSENT, SECOND)
    found = by_system(result)
    assert {key: item.status for key, item in found.items()} == {
        FIRST: "failed", ABSENT: "missing", SECOND: "ok",
    }  # fmt: skip
    assert "every replica is lost" in found[FIRST].reason
    penalty = registry.metric("rg_w1").penalty
    assert found[FIRST].metrics["rg_w1"].value == penalty
    assert f"cgbench download {ABSENT} && cgbench preprocess {ABSENT} && " in found[ABSENT].reason
    require_scored([result], tmp_path)
    del play.faults[FIRST]
    again = by_system(run(FIRST, ABSENT, SECOND))
    assert again[FIRST].status == "ok"
    assert play.scored == [SECOND, FIRST]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("bad\x1bshape"), np.linalg.LinAlgError("singular"), FloatingPointError("nan")],
)
def test_whatever_a_model_raises_is_its_failure(run, monkeypatch, error):
    def fault():
        raise error

    Play(monkeypatch.setattr, {FIRST: fault})
    found = by_system(run(FIRST, SECOND))
    assert (found[FIRST].status, found[SECOND].status) == ("failed", "ok")
    assert "\x1b" not in found[FIRST].reason


def test_a_damaged_file_here_is_no_fault_of_the_model(run, tmp_path, monkeypatch):
    def fault():
        raise IntegrityError("trajectories.zarr: damaged", fix="start over with --force")

    Play(monkeypatch.setattr, {FIRST: fault})
    found = by_system(run(FIRST, SECOND))
    assert (found[FIRST].status, found[FIRST].metrics) == ("missing", {})
    with pytest.raises(IntegrityError, match="damaged"):
        run(FIRST, out=tmp_path / "alone")


def test_exit_codes_say_whose_fault_it_is(run, tmp_path, monkeypatch, model):
    Play(monkeypatch.setattr, {FIRST: broken})
    arguments = ["evaluate", str(model), "--home", str(tmp_path), "--protocol", "smoke"]
    with pytest.raises(SimulationError, match="no system could be scored"):
        app([*arguments, "--system", FIRST, "--system", ABSENT, "--out", str(tmp_path / "a")],
            standalone_mode=False)  # fmt: skip
    with pytest.raises(UsageError, match="cgbench download bba && cgbench preprocess bba") as told:
        app([*arguments, "--system", ABSENT, "--system", "bba", "--out", str(tmp_path / "b")],
            standalone_mode=False)  # fmt: skip
    assert told.value.exit_code == 2
    assert not (tmp_path / "b" / "report.html").exists()


def test_a_folder_of_another_run_is_refused_untouched(run, tmp_path, monkeypatch):
    Play(monkeypatch.setattr)
    run(FIRST)
    folder = tmp_path / "run"
    other = {"fingerprint": "x", "inputs": {"model": "sha256:other", "seed": 1}, "outcome": None}
    (folder / f"trajectories.{FIRST}.run.json").write_text(json.dumps(other))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="another model"):
        run(SECOND)
    assert {path: path.read_bytes() for path in before} == before


def test_a_protocol_for_variants_scores_no_protein(run, monkeypatch):
    Play(monkeypatch.setattr)
    with pytest.raises(UsageError, match="cgbench mutants"):
        run(FIRST, protocol="mutants")


def test_an_interrupt_keeps_what_is_done(run, tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    play = Play(monkeypatch.setattr, {SECOND: interrupt})
    with pytest.raises(KeyboardInterrupt):
        run(FIRST, SECOND)
    partial = by_system(read_result(tmp_path / "run" / "result.json"))
    assert partial[FIRST].status == "ok"
    assert "not scored yet" in partial[SECOND].reason
    del play.faults[SECOND]
    run(FIRST, SECOND)
    assert play.scored == [FIRST, SECOND]


KILLED = """
import sys
from pathlib import Path
from toy_runs import FIRST, SECOND, Play, killed
from cgbench.pipeline.evaluate import evaluate_model
Play(setattr, {SECOND: killed})
evaluate_model(sys.argv[1], [FIRST, SECOND], protocol="smoke", out=Path(sys.argv[2]))
"""


def test_a_killed_process_loses_nothing_finished(run, tmp_path, model, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(model), str(tmp_path / "run")],
        cwd=TESTS, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    partial = by_system(read_result(tmp_path / "run" / "result.json"))
    assert partial[FIRST].status == "ok"
    assert partial[SECOND].status == "missing"
    play = Play(monkeypatch.setattr)
    result = run(FIRST, SECOND)
    assert play.scored == [SECOND]
    assert {item.status for item in result.systems} == {"ok"}


def test_a_kill_between_row_and_record_scores_again(run, tmp_path, monkeypatch):
    play = Play(monkeypatch.setattr)
    run(FIRST)
    (tmp_path / "run/scored" / f"{FIRST}.json").unlink()
    run(FIRST)
    assert play.scored == [FIRST, FIRST]
    record = tmp_path / "run/scored" / f"{FIRST}.json"
    record.write_text(record.read_text()[:50])
    run(FIRST)
    assert play.scored == [FIRST] * 3


def test_settings_and_model_travel_with_the_run(run, tmp_path, model, monkeypatch):
    Play(monkeypatch.setattr)
    result = run(FIRST)
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert settings["model_hash"] == result.model.hash
    assert (tmp_path / "run/model.pt").read_bytes() == model.read_bytes()
    shutil.rmtree(tmp_path / "run/scored")
    with pytest.raises(UsageError, match="no such file"):
        read_run(tmp_path / "run")


def test_a_failed_row_without_frames_counts_as_present(tmp_path):
    row = failed("toy", FIRST, "nothing to score", seed=1)
    assert row.result.status == "failed"
    assert row.result.metrics["rg_w1"].value == registry.metric("rg_w1").penalty
