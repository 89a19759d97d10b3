"""Adapters from the command line: check, simulate, evaluate, mutants; what results say of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from toy_adapters import Runs, save_checkpoint, write_module
from toy_networks import SMALL, small_network, small_prior
from toy_programs import Springs, save_exported
from toy_runs import FIRST, Play
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app, main
from cgbench.errors import CgbenchError, UsageError
from cgbench.models import NetworkPotential, PotentialSpec, save_model
from cgbench.pipeline import simulate as pipeline_simulate
from cgbench.pipeline.evaluate import evaluate_model
from cgbench.pipeline.programs import adapter_notes, choice_of, open_potential
from cgbench.results import read_result
from cgbench.store import read_trajectories

SAMPLE = "chignolin-sample"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "250"})


def failure(result: Result) -> CgbenchError:
    assert isinstance(result.exception, CgbenchError), result.output
    return result.exception


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with foreign code and a checkpoint that fits the sample."""
    monkeypatch.chdir(write_module(tmp_path))
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path / "home"))
    save_checkpoint(tmp_path / "cln" / "model.ckpt")
    (tmp_path / "prior.json").write_text(small_prior().model_dump_json())
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protocols of a hundred steps."""
    usual = registry.protocol

    def protocol(name: str) -> Any:
        return usual(name).model_copy(update={"length": 0.4, "n_replicas": 4})

    monkeypatch.setattr(pipeline_simulate.registry, "protocol", protocol)


def test_check_through_every_kind_of_adapter(folder: Path) -> None:
    save_exported(folder / "program.pt2", Springs())
    for model, options in (
        ("cln/model.ckpt", ["--adapter", "torchmdnet"]),
        ("weights.bin", ["--adapter", "foreign_springs:make", "--trust"]),
        ("program.pt2", ["--adapter", "program", "--trust"]),
        ("program.pt2", ["--trust"]),
    ):
        result = run("check", model, *options, "--system", SAMPLE, "--json")
        assert result.exit_code == 0, (model, result.output)
        report = json.loads(result.stdout)
        assert {check["name"] for check in report["checks"]} >= {"interface", "no_leak"}
        assert all(check["passed"] for check in report["checks"])


@pytest.mark.parametrize("verb", ["check", "simulate", "evaluate", "mutants"])
def test_no_verb_runs_foreign_code_unasked(folder: Path, verb: str) -> None:
    error = failure(run(verb, "weights.bin", "--adapter", "foreign_springs:make"))
    assert isinstance(error, UsageError)
    assert "would run the function foreign_springs:make" in error.message
    assert "--trust" in str(error.fix)
    assert "foreign_springs" not in sys.modules
    assert not (folder / "cgbench-runs").exists()


@pytest.mark.parametrize("verb", ["check", "simulate", "evaluate", "mutants"])
def test_a_checkpoint_without_an_adapter(folder: Path, verb: str) -> None:
    error = failure(run(verb, "cln/model.ckpt"))
    assert "a training checkpoint" in error.message
    assert "--adapter torchmdnet" in str(error.fix)


def test_wrong_use(folder: Path) -> None:
    assert "only with --adapter" in failure(
        run("check", "weights.bin", "--adapter-option", "a=1")
    ).message  # fmt: skip
    assert "KEY=VALUE" in failure(
        run("check", "weights.bin", "--adapter", "ase", "--adapter-option", "a")
    ).message  # fmt: skip
    assert "only with a MODEL" in failure(
        run("evaluate", "--ensemble", "weights.bin", "--adapter", "ase")
    ).message  # fmt: skip
    error = failure(run("check", "weights.bin", "--adapter", "nonsense", "--trust"))
    assert "cgbench adapters list" in str(error.fix)


def test_a_user_sees_exit_codes_and_clean_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cgbench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    foreign = ["check", "weights.bin", "--adapter", "foreign_springs:make", "--system", SAMPLE]
    code, _, told = call(*foreign)
    assert code == 2
    assert "to do:    give --trust" in told
    code, output, told = call(*foreign, "--trust", "--json")
    assert code == 0
    assert json.loads(output)["potential"] == "weights"
    assert "output of foreign code" in told
    mark = folder / "executed"
    hostile = {"callbacks": Runs(__import__("os").system, f"touch {mark}")}
    save_checkpoint(folder / "hostile.ckpt", **hostile)
    code, _, told = call("check", "hostile.ckpt", "--adapter", "torchmdnet", "--trust")
    assert code == 3
    assert "nothing of it was executed" in told
    assert not mark.exists()


def test_simulate_and_go_on(folder: Path, short: None) -> None:
    options = ["--adapter", "foreign_springs:make", "--trust", "--system", SAMPLE]
    command = ["simulate", "weights.bin", *options, "--protocol", "smoke", "--json"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    out = folder / "cgbench-runs" / "weights-smoke" / "trajectories.zarr"
    stored = read_trajectories(out, SAMPLE)
    assert stored.complete
    assert len(stored.coordinates) == 4
    assert json.loads(result.stdout)[SAMPLE]["engine"] == "torch"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert run(*command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # Another option is another model.
    error = failure(run(*command, "--adapter-option", "stiffness=3"))
    assert "holds another simulation" in error.message


def test_a_converted_checkpoint_and_the_adapter_simulate_the_same(
    folder: Path, short: None
) -> None:
    """Bitwise: the adapter gives our own network, which the same engine runs."""
    model = folder / "model.pt"
    potential = NetworkPotential(
        small_network().float(), small_prior(), PotentialSpec(name="a", cutoff=SMALL.cutoff_upper)
    )
    save_model(model, potential)
    for source, options in (
        (model, []),
        ("cln/model.ckpt", ["--adapter", "torchmdnet", "--adapter-option", "prior=prior.json"]),
    ):
        command = ["simulate", source, *options, "--system", SAMPLE, "--protocol", "smoke"]
        result = run(*command, "--engine", "torch", "--out", folder / Path(source).suffix[1:])
        assert result.exit_code == 0, result.output
    ours, theirs = (
        read_trajectories(folder / name / "trajectories.zarr", SAMPLE).coordinates
        for name in ("pt", "ckpt")
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one == other).all()


@pytest.mark.slow
def test_parts_in_processes_of_their_own(folder: Path) -> None:
    options = ["--adapter", "torchmdnet", "--adapter-option", "prior=prior.json"]
    command = ["simulate", "cln/model.ckpt", *options, "--system", SAMPLE, "--protocol", "smoke"]
    result = run(*command, "--processes", "2", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    stored = read_trajectories(folder / "run" / "trajectories.zarr", SAMPLE)
    assert stored.complete
    assert len(stored.coordinates) == registry.protocol("smoke").n_replicas


def test_results_say_what_opened_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Play(monkeypatch.setattr)
    choice = choice_of("foreign_springs:make", ["stiffness=4"])
    result = evaluate_model(
        folder / "weights.bin", [FIRST], protocol="smoke", out=folder / "run",
        trust=True, adapter=choice, home=folder / "home",
    )  # fmt: skip
    adapter = result.model.adapter
    assert adapter is not None
    assert (adapter.name, adapter.origin, adapter.foreign_code) == (
        "foreign_springs:make", "function", True,
    )  # fmt: skip
    assert adapter.options == {"stiffness": "4"}
    assert read_result(folder / "run" / "result.json") == result
    told = result.systems[0].notes[0]
    assert told == (
        "Opened by the adapter foreign_springs:make not stated running foreign_springs:make: "
        "foreign code."
    )
    settings = (folder / "run" / "config.yaml").read_text()
    assert "foreign_code: true" in settings
    # Our own format has no adapter, and says nothing of one.
    save_model(folder / "model.pt", NetworkPotential(None, small_prior(), PotentialSpec(name="p")))
    opened = open_potential(folder / "model.pt")
    assert opened.adapter is None
    assert adapter_notes(opened.adapter) == []


def test_options_of_a_folder_of_this_machine_are_kept_by_name(folder: Path) -> None:
    choice = choice_of("torchmdnet", [f"prior={folder / 'prior.json'}"])
    opened = open_potential(folder / "cln" / "model.ckpt", adapter=choice)
    assert opened.adapter is not None
    assert opened.adapter.options == {"prior": "prior.json"}
    before = opened.hash
    prior = small_prior().model_copy(update={"source": "another"})
    (folder / "prior.json").write_text(prior.model_dump_json())
    assert open_potential(folder / "cln" / "model.ckpt", adapter=choice).hash != before


def test_adapters_are_listed(folder: Path) -> None:
    listed = {one["name"]: one for one in json.loads(run("adapters", "list", "--json").stdout)}
    assert {"torchmdnet", "mlcg", "ase", "program"} <= set(listed)
    assert listed["ase"]["needs_trust"] == "always"
    assert "graph-network" in listed["torchmdnet"]["runs"]
    assert "torchmdnet" in run("adapters", "list").stdout


@pytest.mark.slow
def test_a_whole_evaluation_of_a_foreign_model(folder: Path) -> None:
    """Nothing played: check, simulate and score a function's model on the sample."""
    options = ["--adapter", "foreign_springs:make", "--trust", "--system", SAMPLE]
    options += ["--protocol", "smoke", "--out", str(folder / "run")]
    result = run("evaluate", "weights.bin", *options)
    assert result.exit_code == 0, result.output
    found = read_result(folder / "run" / "result.json")
    assert found.systems[0].status in ("ok", "failed")
    assert found.model.adapter is not None
    assert any("foreign code" in note for note in found.systems[0].notes)
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "foreign_springs:make" in page
