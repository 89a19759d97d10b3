"""Data cards and Croissant metadata: true to the registry and to what was measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.config import read_model
from cgbench.errors import UsageError, ValidationError
from cgbench.pipeline.card_facts import MEASURED_NAME, StoreFacts, measure
from cgbench.pipeline.cards import NOT_YET_RUN, blocks, fill, read_facts, update_cards
from cgbench.pipeline.croissant import croissant, update_croissant
from cgbench.store import open_store

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "datasets"
SAMPLE = "chignolin-sample"
DEMO = ROOT / "baselines" / "torchmd-gn" / SAMPLE / "results" / "demo.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CARDS, tmp_path / "datasets")
    return tmp_path / "datasets"


def test_the_committed_cards_and_metadata_are_up_to_date() -> None:
    assert update_cards(CARDS, check=True) == []
    assert update_croissant(CARDS, check=True) == []


def test_the_sample_s_facts_are_what_its_store_says() -> None:
    facts = measure(open_store(SAMPLE), [DEMO])
    assert facts == read_model(StoreFacts, CARDS / SAMPLE / MEASURED_NAME)
    forces = open_store(SAMPLE).forces(force_map="slice").astype(np.float64)
    assert facts.force_maps["slice"].mean_square == pytest.approx((forces**2).mean(), abs=1e-3)
    rows = json.loads(DEMO.read_text(encoding="utf-8"))["rows"]
    errors = [row["metrics"]["force_mse"]["value"] for row in rows if "force_mse" in row["metrics"]]
    lowest = facts.force_maps["optimal"].lowest_error
    assert lowest is not None
    assert lowest.value == pytest.approx(min(e for e in errors if e is not None), abs=1e-3)
    assert lowest.value < facts.force_maps["optimal"].mean_square
    assert facts.force_maps["slice"].lowest_error is None


def test_a_result_without_force_errors_is_refused(tmp_path: Path) -> None:
    data: dict[str, Any] = json.loads(DEMO.read_text(encoding="utf-8"))
    for row in data["rows"]:
        row["metrics"].pop("force_mse", None)
    (tmp_path / "demo.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValidationError, match="no force error"):
        measure(open_store(SAMPLE), [tmp_path / "demo.json"])


@pytest.mark.parametrize("system", [s.key for s in registry.systems()])
def test_a_card_states_its_registry_entry(system: str) -> None:
    entry = registry.system(system)
    card = (CARDS / system / "README.md").read_text(encoding="utf-8")
    assert f"`{entry.sequence}`" in card
    assert f"| {entry.n_beads}, one at each Cα atom |" in card
    for constant, source in entry.analysis.source.items():
        if constant != "seed":
            assert source in card
    for file in [] if entry.embedded else registry.remote_files([system]):
        assert f"]({file.url})" in card
    for name in (entry.key, entry.name):
        assert name in card


@pytest.mark.parametrize("system", [s.key for s in registry.systems() if not s.embedded])
def test_nothing_unmeasured_is_stated_as_a_number(system: str) -> None:
    assert read_facts(CARDS, system) is None
    texts = blocks(registry.system(system), None)
    rows = [line for line in texts["frames"].splitlines() if line.startswith("| ")]
    assert any("not verified" in row for row in rows if "interval" in row)
    assert sum(NOT_YET_RUN in row for row in rows) == 2
    assert texts["forces"].count(NOT_YET_RUN) == 2 * len(registry.system(system).force_maps)


def test_a_measured_store_fills_the_frames_table(folder: Path) -> None:
    sample = read_facts(CARDS, SAMPLE)
    assert sample is not None
    unknown = sample.model_copy(
        update={
            "system": "chignolin",
            "valid": sample.frames - 3,
            "screening": {"all_zero": 3, "force_overflow": 0},
            "trajectories": None,
            "shortest": None,
            "longest": None,
            "start_kinds": None,
            "frame_interval": None,
        }
    )
    (folder / "chignolin" / MEASURED_NAME).write_text(unknown.model_dump_json(), encoding="utf-8")
    assert update_cards(folder) == [folder / "chignolin" / "README.md"]
    card = (folder / "chignolin" / "README.md").read_text(encoding="utf-8")
    assert f"| frames | {sample.frames:,}, {sample.frames - 3:,} of them valid |" in card
    assert "| masked | 3 all_zero |" in card
    assert "| trajectories | boundaries unknown |" in card
    assert "| frame interval | not verified |" in card
    assert update_cards(folder, check=True) == []


def test_check_changes_nothing_and_finds_a_changed_number(folder: Path) -> None:
    path = folder / "lambda" / "README.md"
    wrong = path.read_text(encoding="utf-8").replace("| 80, one at", "| 81, one at")
    path.write_text(wrong, encoding="utf-8")
    assert update_cards(folder, check=True) == [path]
    assert path.read_text(encoding="utf-8") == wrong
    assert update_cards(folder) == [path]
    assert path.read_bytes() == (CARDS / "lambda" / "README.md").read_bytes()


def test_prose_is_left_as_it_is(folder: Path) -> None:
    path = folder / "bba" / "README.md"
    text = path.read_text(encoding="utf-8") + "\nA sentence of one's own.\n"
    path.write_text(text, encoding="utf-8")
    assert update_cards(folder, check=True) == []
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "card",
    [
        "",
        "<!-- facts: one -->\n<!-- end of facts -->\n" * 2,
        "<!-- facts: other -->\n<!-- end of facts -->\n",
        "<!-- facts: one -->\n",
    ],
)
def test_a_card_without_its_blocks_is_refused(card: str) -> None:
    with pytest.raises(ValidationError, match="blocks of a card"):
        fill(card, {"one": "text"}, Path("card.md"))


def test_a_missing_card_is_an_error(folder: Path) -> None:
    (folder / "bbl" / "README.md").unlink()
    with pytest.raises(UsageError, match="bbl"):
        update_cards(folder)


def test_croissant_lists_every_file_once_and_every_protein() -> None:
    data = croissant()
    files = registry.remote_files()
    assert [item["contentUrl"] for item in data["distribution"]] == [file.url for file in files]
    identities = [item["@id"] for item in data["distribution"]]
    assert len(set(identities)) == len(identities)
    assert {item["@id"]: item.get("sha256") for item in data["distribution"]} == {
        str(file.path): file.sha256 for file in files
    }
    records = data["recordSet"][0]
    names = {field["@id"] for field in records["field"]}
    assert all(set(record) == names for record in records["data"])
    assert [record["systems/key"] for record in records["data"]] == [
        system.key for system in registry.systems() if not system.embedded
    ]


def test_the_verbs(folder: Path) -> None:
    runner = CliRunner()
    assert (
        runner.invoke(app, ["datasets", "cards", "--check", "--folder", str(folder)]).exit_code == 0
    )
    (folder / "croissant.json").write_text("{}", encoding="utf-8")
    failed = runner.invoke(app, ["datasets", "croissant", "--check", "--folder", str(folder)])
    assert isinstance(failed.exception, ValidationError)
    done = runner.invoke(app, ["datasets", "croissant", "--json", "--folder", str(folder)])
    assert json.loads(done.stdout) == {
        "changed": [str(folder / "croissant.json")],
        "written": True,
    }
    measured = runner.invoke(
        app,
        ["datasets", "measure", SAMPLE, "--result", str(DEMO), "--folder", str(folder), "--json"],
    )
    assert measured.exit_code == 0, measured.output
    assert json.loads(measured.stdout) == json.loads(
        (folder / SAMPLE / MEASURED_NAME).read_text(encoding="utf-8")
    )
