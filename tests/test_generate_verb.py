"""The command: what it accepts, what it refuses, and that preprocessing reads what it writes."""

import builtins
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError
from cgbench.generate import options as options_module
from cgbench.generate.backend import platform, require
from cgbench.generate.options import Options, resolve
from cgbench.generate.settings import SystemSettings
from cgbench.generate.structures import from_sequence, write_pdb
from cgbench.generate.target import find_target
from cgbench.ingest import preprocess_folder
from cgbench.ingest.recipe import read_recipe
from cgbench.store import open_store

QUICK = ("--trajectory-length", "0.002", "--platform", "cpu", "--threads", "1")


def refused(match: str, **given: Any) -> UsageError:
    values = {"protein": "AGSA", "home": Path("none"), "trajectories": 1} | given
    with pytest.raises(UsageError, match=match) as caught:
        resolve(Options(**values))
    return caught.value


def test_options_that_are_refused(tmp_path: Path) -> None:
    refused("nothing says when to stop", trajectories=None)
    refused("no such system", protein="chig")
    refused("norleucine", protein="villin")
    refused("--solvent", solvent="wet")
    refused("--force-field", force_field="amber")
    refused("implicit solvent", force_field="amber14-gbn2", solvent="explicit")
    refused("wrong option", timestep=0.003)
    refused("wrong option", trajectory_length=0.0005)
    refused("trajectory_length", trajectory_length=math.inf)
    refused("temperature", temperature=math.inf)
    refused("--nanoseconds", nanoseconds=math.inf)
    refused("too short", protein="AG")
    refused("--trajectory-length", trajectory_length=0.0, nanoseconds=1.0)
    refused("only one", ladder=(2, 300.0, 400.0), replica_exchange=("300,400",))
    refused("--replica-exchange", replica_exchange=("300,hot",))
    refused("wrong option", replica_exchange=("400,500",))
    refused("--include-raw", include_raw=True)
    refused("no raw coordinates", from_raw=tmp_path)
    refused("no such file", structure=tmp_path / "none.pdb")


def test_how_options_become_settings(tmp_path: Path) -> None:
    def found(**given: Any) -> Any:
        values = {"protein": "AGSA", "home": tmp_path, "trajectories": 1} | given
        return resolve(Options(**values))

    plain = found().settings
    assert plain.system == SystemSettings()
    assert plain.dynamics.model_dump() == {
        "temperature": 350.0, "friction": 0.1, "timestep": 0.004, "frame_interval": 1.0,
    }  # fmt: skip
    assert (plain.name, plain.n_frames, plain.trajectories_per_round) == ("seq-agsa", 500, 8)
    assert found(copies=100).settings.trajectories_per_round == 100
    assert found(solvent="explicit").settings.system.force_field == "amber14-tip3p"
    assert found(replica_exchange=("300, 350", "400")).settings.ladder == (300.0, 350.0, 400.0)
    assert found(ladder=(3, 300.0, 432.0)).settings.ladder == (300.0, 360.0, 432.0)
    budgets = [found(trajectories=None, nanoseconds=n).budget for n in (0.3, 0.5, 1.7)]
    assert [one.trajectories for one in budgets] == [1, 1, 4]
    exchange = found(trajectories=None, nanoseconds=3.0, ladder=(3, 300.0, 400.0))
    assert exchange.budget.trajectories == 2
    assert found(trajectories=None, mean_force=3).budget is None


def test_native_structures_are_found_in_the_data_home(tmp_path: Path) -> None:
    assert find_target("chignolin-sample", tmp_path).structure is None
    chain = from_sequence("YYDPETGTWY", SystemSettings(), seed=1)
    path = tmp_path / "raw/chignolin/native/5AWL.pdb"
    path.parent.mkdir(parents=True)
    path.write_text(write_pdb(chain))
    for name in ("chignolin", "chignolin-sample"):
        target = find_target(name, tmp_path)
        assert target.structure == path
        assert target.selection.residues == (1, 10)
        assert target.name == f"{name}-generated"
    source = resolve(Options(protein="chignolin", home=tmp_path, trajectories=1)).source
    assert source.native is not None
    assert source.native.shape == (166, 3)


def test_a_missing_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == "openmm":
            raise ImportError("No module named 'openmm'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(
        "cgbench.generate.backend.importlib.import_module", lambda name: without(name)
    )
    with pytest.raises(UsageError, match="openmm") as caught:
        require("openmm.app")
    assert "pip install 'cgbench[generate]'" in str(caught.value)
    with pytest.raises(UsageError, match="openmm"):
        options_module.make_source(find_target("AGSA", Path("none")), SystemSettings(), seed=1)


def test_platforms() -> None:
    assert platform("reference").getName() == "Reference"
    assert platform(None).getName()
    with pytest.raises(UsageError, match="quantum"):
        platform("quantum")


@pytest.mark.data
def test_the_sample_is_continued_and_preprocessed(chignolin_dir: Path, tmp_path: Path) -> None:
    """A few ps of CLN025 beside the frames of the sample, as a store of the sample."""
    out = tmp_path / "run"
    command = [
        "generate", "chignolin-sample", "--from-raw", str(chignolin_dir), "--include-raw",
        "--trajectories", "1", "--per-round", "1", *QUICK, "--out", str(out), "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["card"]["raw"]["n_trajectories"] == 106
    assert printed["card"]["n_finished"] == 1
    assert "native_ca.pdb" in (out / "README.md").read_text()
    store = tmp_path / "sample.zarr"
    manifest = preprocess_folder(registry.system("chignolin-sample"), out, store)
    assert manifest.n_frames == 52502
    assert open_store(store).metadata.start_kind is not None
    recipe = read_recipe(out / "recipe.yaml")
    assert recipe.start_kind is not None
    assert len(recipe.start_kind) == 106
    optimal = np.load(out / "chignolin-sample-generated_ca_forces_optimal.npy", mmap_mode="r")
    kept = np.load(chignolin_dir / "chignolin_ca_forces_optimal.npy", mmap_mode="r")
    np.testing.assert_array_equal(optimal[:52500], kept)
    # The new frames have forces under the same map: as little noise as the old.
    assert np.sqrt((optimal[52500:] ** 2).mean()) < 20


def test_exchange_and_mean_forces_on_the_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    common = ["--coil-length", "0.1", "--frame-interval", "0.1", *QUICK]
    plain = ["generate", "AGSA", *common, "--out", str(tmp_path / "a")]
    result = runner.invoke(app, [*plain, "--mean-force", "2", "--sampling", "0.5"])
    assert isinstance(result.exception, UsageError)
    result = runner.invoke(
        app,
        [
            *plain,
            "--trajectories",
            "2",
            "--mean-force",
            "2",
            "--sampling",
            "0.5",
            "--json",
            "--discard-all-atom",
        ],
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["mean_forces"]["n_frames"] == 2
    assert (tmp_path / "a/mean_force/mean_forces.npz").is_file()
    assert not list((tmp_path / "a/all_atom").glob("*.npz"))
    exchange = ["generate", "AGSA", *common, "--out", str(tmp_path / "b"),
                "--replica-exchange", "350,352"]  # fmt: skip
    result = runner.invoke(app, [*exchange, "--trajectories", "1"])
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "b/weights.npy").shape == (40,)
    for wrong in (
        ["--copies", "2"], ["--mean-force", "1"], ["--per-round", "2"], ["--sampling", "1"],
        ["--chain", "A"], [],
    ):  # fmt: skip
        budget = ["--trajectories", "1"] if wrong else []
        result = runner.invoke(app, [*exchange, *budget, *wrong])
        assert isinstance(result.exception, UsageError)
