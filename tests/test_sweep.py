"""Sweeps: combinations, failed runs as rows, resumption, processes, the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_training import LONG, SHORT, make_home, settings, without_figures
from typer.testing import CliRunner

from cgbench import config, registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.models import load_model
from cgbench.pipeline import sweep
from cgbench.pipeline.candidates import Judge
from cgbench.pipeline.choice import told_of_choice
from cgbench.pipeline.sweep import SweepOutcome, run_sweep
from cgbench.results import MetricValue
from cgbench.train import kinds
from cgbench.train.sweep import SweepConfig, read_sweep, sweep_points

VALUES = {"network.num_layers": [1, 2], "network.cutoff_lower": [3.0, 13.0], "seed": [1]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


def write(folder: Path, **changes: Any) -> Path:
    base = settings(system=LONG, optimiser={"maximum_epochs": 1, "batch_size": 300})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(base.model_dump(mode="json")))
    values = {"name": "toy", "base": "base.yaml", "parameters": VALUES, "select": False, **changes}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sweep")
    with without_figures():
        run_sweep(write(folder), folder / "out", home=home)
    return folder


def test_failed_runs_are_rows_with_the_reason(finished: Path) -> None:
    outcome = config.read_model(SweepOutcome, finished / "out" / "sweep.json")
    assert [row.parameters for row in outcome.rows] == [
        {"network.num_layers": n, "network.cutoff_lower": c, "seed": 1}
        for n in (1, 2)
        for c in (3.0, 13.0)
    ]
    assert [row.run.status for row in outcome.rows] == ["ok", "failed", "ok", "failed"]
    assert "cutoff_lower must be below" in (outcome.rows[1].run.reason or "")
    ranks = {row.rank: row.run.validation_loss for row in outcome.rows if row.rank}
    assert (ranks[1] or 0.0) < (ranks[2] or 0.0)
    assert outcome.rows[2].n_parameters != outcome.rows[0].n_parameters
    best = next(row for row in outcome.rows if row.number == outcome.best)
    spec = load_model(finished / "out" / "model.pt").spec
    assert spec.best_of_n == 4
    spent = [row.run.training_seconds for row in outcome.rows if row.run.training_seconds]
    assert len(spent) == 2
    assert spec.training_cost_s == pytest.approx(sum(spent), abs=0.1)
    assert spec.n_parameters == best.n_parameters
    assert [row.rank for row in outcome.ranked()] == [1, 2, None, None]


def test_runs_that_are_there_are_kept(
    finished: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(finished / "out", tmp_path / "out")
    lost = next(path.parent for path in (out / "runs").glob("*/model.pt"))
    shutil.rmtree(lost)
    trained = []
    original = kinds.train

    def train(*args: Any, **options: Any) -> Any:
        trained.append(args[1].name)
        return original(*args, **options)

    monkeypatch.setattr("cgbench.pipeline.candidates.train", train)
    # More values: runs keep their names, and so what is there.
    more = {**VALUES, "seed": [1], "network.num_layers": [1, 2, 3]}
    outcome = run_sweep(write(tmp_path / "more", parameters=more), out, home=home)
    assert len(outcome.rows) == 6
    assert len(trained) == 3
    earlier = json.loads((finished / "out" / "sweep.json").read_text())["rows"]
    assert outcome.rows[0].run.validation_loss == earlier[0]["run"]["validation_loss"]


def test_models_are_ranked_by_simulation(
    finished: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run with fewer layers is better by the metric, whatever its loss."""
    out = shutil.copytree(finished / "out", tmp_path / "out")

    def init(self: Judge, systems: Any, *_: Any, **__: Any) -> None:
        self.metric, self.direction, self.targets = "w1_tic1", "min", []
        self.protocol = registry.protocol("selection")

    def judge(self: Judge, model: Path, *_: Any) -> dict[str, MetricValue]:
        weights = load_model(model).spec.n_parameters or 0
        return {LONG: MetricValue(value=float(weights))}

    monkeypatch.setattr(Judge, "__init__", init)
    monkeypatch.setattr(Judge, "judge", judge)
    outcome = run_sweep(write(tmp_path / "s", select=True), out, home=home)
    assert outcome.compared == "w1_tic1"
    assert outcome.best == 1
    assert outcome.rows[0].run.metric == outcome.rows[0].n_parameters
    # Of runs that differ in more than their seeds.
    (note,) = told_of_choice(load_model(out / "model.pt").spec)
    assert note.startswith("Best of 4 runs by w1_tic1")
    assert "seeds" not in note


@pytest.mark.slow
def test_processes_give_the_same_rows(finished: Path, home: Path, tmp_path: Path) -> None:
    outcome = run_sweep(write(tmp_path / "s"), tmp_path / "out", home=home, workers=2)
    alone = config.read_model(SweepOutcome, finished / "out" / "sweep.json")
    for row, expected in zip(outcome.rows, alone.rows, strict=True):
        assert row.run.validation_loss == expected.run.validation_loss
        assert row.rank == expected.rank


def test_random_search_is_a_seeded_sample_of_the_grid(tmp_path: Path) -> None:
    grid = read_sweep(write(tmp_path / "a")).points()
    random = read_sweep(write(tmp_path / "b", search="random", n_runs=3, seed=1)).points()
    assert len(random) == 3
    assert all(point in grid for point in random)
    assert random == read_sweep(write(tmp_path / "c", search="random", n_runs=3, seed=1)).points()
    assert {
        str(read_sweep(write(tmp_path / "d", search="random", n_runs=3, seed=n)).points())
        for n in range(6)
    } != {str(random)}
    everything = read_sweep(write(tmp_path / "e", search="random", n_runs=99))
    assert everything.points() == grid


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"parameters": {"network.layers": [1]}}, "layers"),
        ({"parameters": {"network.num_layers": []}}, "no value"),
        ({"parameters": {}}, "parameters"),
        ({"search": "random"}, "n_runs"),
        ({"n_runs": 3}, "n_runs"),
        ({"base": {"name": "x"}}, "base"),
    ],
)
def test_sweeps_that_are_none(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ValidationError, match=match):
        sweep_points(read_sweep(path), tmp_path)


def test_threads_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="threads"):
        run_sweep(write(tmp_path), tmp_path / "out", scheduler="threads")
    with pytest.raises(UsageError, match="no such file"):
        run_sweep(tmp_path / "none.yaml", tmp_path / "out")


def test_runs_are_named_by_what_is_trained(tmp_path: Path) -> None:
    points = sweep_points(read_sweep(write(tmp_path)), tmp_path)
    names = [point.configuration().name for point in points if point.settings is not None]
    assert names == [f"toy/{point.run}" for point in points if point.settings is not None]
    assert len(set(names)) == 2
    assert (
        SweepConfig.model_validate(
            {"name": "x", "base": {}, "parameters": {"seed": [1, 2, 3]}}
        ).n_points
        == 3
    )


def test_command_line(finished: Path, home: Path) -> None:
    arguments = ["train", "sweep", str(finished / "sweep.yaml"), "--out", str(finished / "out")]
    done = CliRunner().invoke(app, [*arguments, "--home", str(home), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["best"] == config.read_model(SweepOutcome, finished / "out/sweep.json").best
    assert found["model"].endswith("model.pt")
    shown = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    assert shown.exit_code == 0
    assert "rank" in shown.output
    # What all have alike is no column, and why one failed is a line of its own.
    assert "all of them: seed=1" in shown.output
    assert "run 2 failed: " in shown.output


def test_what_a_split_leaves_out_is_in_no_choice(home: Path, tmp_path: Path) -> None:
    base = settings(systems=[SHORT, LONG], split=f"lopo-{SHORT}").model_dump(mode="json")
    both = {"split": ["block-v1", f"lopo-{SHORT}"]}
    for parameters, trained in (({"seed": [1, 2]}, {LONG}), (both, {SHORT, LONG})):
        path = write(tmp_path, base=base, parameters=parameters)
        points = sweep_points(read_sweep(path), tmp_path)
        assert set(sweep._systems(points, home)) == trained
