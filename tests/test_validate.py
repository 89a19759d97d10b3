"""``cgbench validate``: every format of the suite is told apart, checked, and never run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_board import put, toy_hash, toy_record, toy_result, toy_submission
from toy_runs import save_toy_model, toy_row
from typer.testing import CliRunner

from cgbench import config
from cgbench.cli.main import app
from cgbench.config import assets_home
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate.scored import write_scored
from cgbench.leaderboard.validate import validate
from cgbench.models import load_model, model_hash
from cgbench.results import ModelIdentity
from cgbench.store import TrajectoryAttributes, TrajectorySet, write_trajectories

ASSETS = assets_home()
SAMPLE = "chignolin-sample"


def ensemble(path: Path, sequence: str = "YYDPETGTWY", system: str = SAMPLE) -> Path:
    frames = np.cumsum(np.full((3, len(sequence), 3), 2.2, dtype=np.float32), axis=1)
    write_trajectories(
        path,
        TrajectorySet(
            system=system, coordinates=[frames], network_energy=None, prior_energy=None,
            weights=None, alive_until=np.array([3]), frame_interval=0.1, temperature=350.0,
            attributes=TrajectoryAttributes(
                sequence=sequence, temperature=350.0, frame_interval=0.1
            ),
        ),
    )  # fmt: skip
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    model = save_toy_model(folder / "model.pt", "toy/one")
    identity = ModelIdentity(name="toy/one", hash=model_hash(model), kind="potential")
    config.write_model(folder / "result.json", toy_result(model=identity))
    ensemble(folder / "trajectories.zarr")
    return folder


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (ASSETS / "store" / f"{SAMPLE}.zarr", "store"),
        (ASSETS / "references" / "v2" / f"{SAMPLE}.zarr", "reference bundle"),
        (ASSETS / "splits" / SAMPLE / "block-v1.json", "split"),
        (ASSETS / "configs" / "demo-network.yaml", "training configuration"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_the_package_holds_is_valid(path: Path, kind: str) -> None:
    found = validate(path)
    assert found.kind == kind
    assert found.record()["valid"] is True


def test_what_is_written_here_is_valid(tmp_path: Path, run_folder: Path) -> None:
    board = put(tmp_path / "board", toy_record(), toy_submission())
    prior = load_model(run_folder / "model.pt").prior
    assert prior is not None
    config.write_model(tmp_path / "prior.json", prior)
    write_scored(tmp_path / "row.npz", toy_row(SAMPLE))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "key: mine\ntemperature: 300\nframe_interval: 10\n"
        "sequence: YYDPET\nnpy: {coordinates: a.npy}\n"
    )
    expected = {
        run_folder: "run folder",
        run_folder / "model.pt": "model",
        run_folder / "result.json": "result",
        run_folder / "trajectories.zarr": "ensemble",
        board: "leaderboard folder",
        board / "models/toy/one.yml": "model record",
        board / "submissions/toy/one/2026-01-10.json": "submission",
        tmp_path / "prior.json": "prior",
        tmp_path / "row.npz": "scored row",
        recipe: "recipe",
    }
    assert {path: validate(path).kind for path in expected} == expected


def test_a_run_folder_holds_the_model_of_its_result(run_folder: Path) -> None:
    save_toy_model(run_folder / "model.pt", "another")
    with pytest.raises(ValidationError, match="not the model of the result"):
        validate(run_folder)


def test_an_ensemble_is_of_the_protein_that_it_names(tmp_path: Path) -> None:
    path = ensemble(tmp_path / "t.zarr", sequence="GGGG")
    with pytest.raises(ValidationError):
        validate(path)
    assert validate(ensemble(tmp_path / "u.zarr", "GGGG", "mine")).kind == "ensemble"


def test_a_changed_byte_of_a_store_is_found(tmp_path: Path) -> None:
    path = Path(shutil.copytree(ASSETS / "store" / f"{SAMPLE}.zarr", tmp_path / "s.zarr"))
    shard = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        validate(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [10**15]}, "too large"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "codec"),
        ({"data_type": "string"}, "wrong data type"),
    ],
    ids=range(3),
)
def test_harmful_metadata_of_a_bundle_do_not_reach_zarr(tmp_path, change, told) -> None:
    source = ASSETS / "references" / "v2" / f"{SAMPLE}.zarr"
    path = Path(shutil.copytree(source, tmp_path / f"{SAMPLE}.zarr"))
    file = path / "stationary" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CgbenchError, match=told):
        validate(path)


def test_programs_are_named_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(torch.nn.Identity()).save(str(path))
    with pytest.raises(ValidationError, match="never run here"):
        validate(path)


@pytest.mark.parametrize(
    "name", ["a.txt", "a.json", "b.json", "c.yaml", "folder", "empty.zarr", "none"]
)
def test_what_is_no_format_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.json").write_text('{"format": "another"}')
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.yaml").write_text("- x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "empty.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(UsageError):
        validate(tmp_path / name)


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "split.json").symlink_to(ASSETS / "splits" / SAMPLE / "block-v1.json")
    with pytest.raises(IntegrityError, match="symbolic link"):
        validate(tmp_path / "split.json")


def test_the_command_checks_all_files_and_fails_for_one(tmp_path: Path) -> None:
    split = ASSETS / "splits" / SAMPLE / "block-v1.json"
    good = CliRunner().invoke(app, ["validate", str(split), "--json"])
    assert json.loads(good.stdout)["kind"] == "split"
    bad = tmp_path / "result.json"
    config.write_model(bad, toy_result())
    data = json.loads(bad.read_text())
    data["model"]["hash"] = toy_hash(1)[:20]
    bad.write_text(json.dumps(data))
    both = CliRunner().invoke(app, ["validate", str(bad), str(split)])
    assert isinstance(both.exception, ValidationError)
    assert "a valid split" in both.stdout
    assert "model.hash" in str(both.exception)
