"""docs/formats.md and the pages of fields say what the code reads and writes."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from test_validate import SAMPLE, ensemble
from toy_board import put, toy_record, toy_result, toy_submission
from toy_runs import save_toy_model, toy_row
from typer.testing import CliRunner

from cgbench import config
from cgbench.cli.main import app
from cgbench.config import assets_home
from cgbench.errors import CgbenchError
from cgbench.evaluate.scored import write_scored
from cgbench.force_maps import groups_from_constraints, hydrogens_map, write_force_map
from cgbench.leaderboard.validate import _FORMATS, validate
from cgbench.models import load_model
from cgbench.models.files import FORMAT as MODEL_FORMAT
from cgbench.pipeline.validate import _RECORDS
from cgbench.provenance import collect
from cgbench.store import trajectory_schema
from cgbench.store.schema import ArraySpec

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "formats.md").read_text(encoding="utf-8")
ASSETS = assets_home()


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(DOCS))
    try:
        import format_tables

        yield format_tables
    finally:
        sys.path.remove(str(DOCS))


def test_pages_of_fields_are_up_to_date(tables) -> None:
    for path, text in tables.pages().items():
        assert path.read_text(encoding="utf-8") == text, "python docs/format_tables.py"


def test_a_field_that_is_described_nowhere_is_found(tables) -> None:
    class Unknown(config.Frozen):
        number: int

    with pytest.raises(ValueError, match="described nowhere"):
        tables.described(Unknown, {})
    assert tables.described(Unknown, {"Unknown": {"number": "a number"}})
    with pytest.raises(ValueError, match="no such fields"):
        tables.described(Unknown, {"Unknown": {"number": "a number", "other": "none"}})


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def described_arrays(title: str) -> dict[str, tuple[str, int]]:
    """Type and number of dimensions by the name of each array, from the table of a section."""
    found = {}
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) >= 3:
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = (cells[2], len(cells[1].split(",")))
    return found


def arrays(group: zarr.Group, prefix: str = "") -> Iterator[tuple[str, zarr.Array]]:
    for name, item in group.members():
        if isinstance(item, zarr.Array):
            yield prefix + name, item
        else:
            yield from arrays(item, f"{prefix}{name}/")


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("Store", f"store/{SAMPLE}.zarr"),
        ("Reference bundle", f"references/v2/{SAMPLE}.zarr"),
    ],
)
def test_arrays_on_disk_are_those_described(title: str, path: str) -> None:
    described = described_arrays(title)
    seen = set()
    for name, array in arrays(zarr.open_group(ASSETS / path, mode="r")):
        general = re.sub(r"^(forces|edges|histograms)/.*", r"\1/", name)
        key = next(k for k in described if k == name or ("<" in k and k.startswith(general)))
        assert described[key] == (str(array.dtype), array.ndim), name
        seen.add(key)
    assert seen == set(described)


def test_arrays_of_ensembles_are_those_described() -> None:
    specs = [value for value in vars(trajectory_schema).values() if isinstance(value, ArraySpec)]
    described = described_arrays("Simulated ensemble")
    assert {spec.name: (spec.dtype, len(spec.dims)) for spec in specs} == described


def test_parts_of_a_model_file_are_those_described() -> None:
    import torch

    model = ASSETS / "models" / "torchmd-gn" / SAMPLE / "model.pt"
    content = torch.load(model, weights_only=True)
    text = section("Model")
    assert content["format"] == MODEL_FORMAT
    assert all(f"`{key}`" in text for key in (*content, *content["network"]))


def test_every_format_that_is_checked_is_on_the_page() -> None:
    listed = section("Checking a file")
    for name, (kind, _) in _FORMATS.items():
        assert f"`{name}`" in listed or kind in listed, name
    fields = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("format-fields-*.md"))
    others = ("simulations, selections, sweeps, comparisons, mutants", "generated data")
    assert all(words in listed for words in others)
    for name in ("cgbench-prior", "cgbench-force-map", "cgbench-reference", "cgbench-run"):
        assert name in _RECORDS
        assert name in fields or name in PAGE


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One good file of every kind."""
    folder = tmp_path_factory.mktemp("formats")
    model = save_toy_model(folder / "model.pt", "toy/one")
    prior = load_model(model).prior
    assert prior is not None
    config.write_model(folder / "prior.json", prior)
    config.write_model(folder / "result.json", toy_result())
    config.write_model(folder / "provenance.json", collect())
    write_scored(folder / "row.npz", toy_row(SAMPLE))
    groups = groups_from_constraints(5, [(0, 1), (3, 4)])
    write_force_map(folder / "map.npz", hydrogens_map(np.array([0, 3]), groups))
    board = put(folder / "board", toy_record(), toy_submission())
    split = Path(shutil.copy(ASSETS / "splits" / SAMPLE / "block-v1.json", folder / "split.json"))
    reference = ASSETS / "references" / "v2" / f"{SAMPLE}.zarr"
    return {
        "model": model,
        "prior": folder / "prior.json",
        "result": folder / "result.json",
        "provenance": folder / "provenance.json",
        "scored row": folder / "row.npz",
        "force map": folder / "map.npz",
        "submission": board / "submissions/toy/one/2026-01-10.json",
        "model record": board / "models/toy/one.yml",
        "split": split,
        "ensemble": ensemble(folder / "t.zarr"),
        "reference bundle": Path(shutil.copytree(reference, folder / "bundle.zarr")),
    }


KINDS = (
    "model", "prior", "result", "provenance", "scored row", "force map", "submission",
    "model record", "split", "ensemble", "reference bundle",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised_and_damage_is_found(
    kind: str, files: dict[str, Path], tmp_path: Path
) -> None:
    good = files[kind]
    told = CliRunner().invoke(app, ["validate", str(good), "--json"])
    assert told.exit_code == 0, told.exception
    assert json.loads(told.stdout) | {"kind": kind, "valid": True} == json.loads(told.stdout)

    bad = tmp_path / good.name
    if good.is_dir():
        shutil.copytree(good, bad)
        largest = max((p for p in bad.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    else:
        for name in {good, good.with_suffix(".json")} if kind == "force map" else {good}:
            shutil.copy(name, tmp_path)
        largest = bad
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    broken = CliRunner().invoke(app, ["validate", str(bad), "--json"])
    assert isinstance(broken.exception, CgbenchError)
    assert broken.exception.exit_code in (3, 4)
    assert json.loads(broken.stdout)["valid"] is False


@pytest.mark.parametrize("kind", ["prior", "result", "submission", "split", "provenance"])
def test_a_wrong_field_is_named(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    data = json.loads(files[kind].read_text(encoding="utf-8"))
    (tmp_path / "f.json").write_text(json.dumps(data | {"surprise": 1}), encoding="utf-8")
    with pytest.raises(CgbenchError, match="surprise") as error:
        validate(tmp_path / "f.json")
    assert error.value.exit_code == 4


def test_a_run_folder_is_checked_part_by_part(files: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "scored").mkdir(parents=True)
    shutil.copytree(files["ensemble"], run / "trajectories.zarr")
    shutil.copy(files["scored row"], run / "scored" / "row.npz")
    shutil.copy(files["provenance"], run / "provenance.json")
    assert validate(run).kind == "run folder"
    (run / "provenance.json").write_text('{"suite_version": "1", "hardware": 3}')
    with pytest.raises(CgbenchError, match="provenance"):
        validate(run)
