"""Baselines: their configurations, cards, and what the cards state."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import ValidationError
from cgbench.models import load_model, model_hash
from cgbench.models.zoo import find_weights
from cgbench.pipeline.baseline_cards import update_baseline_cards
from cgbench.pipeline.baselines import MULTI, baseline_configs, update_configs
from cgbench.pipeline.choice import told_of_choice, with_choice
from cgbench.pipeline.leaks import check_leaks
from cgbench.results import read_result
from cgbench.train.kinds import read_config

FOLDER = Path("baselines")
PUBLISHED = [one.key for one in registry.systems() if one.published_key is not None]
#: Of these all frames train, of the larger ones every tenth.
SMALL = {"chignolin", "trpcage", "bba", "villin"}


def test_configurations_and_cards_are_up_to_date() -> None:
    assert update_configs(FOLDER, check=True) == []
    assert update_baseline_cards(FOLDER, check=True) == []


def test_every_configuration_is_one_that_trains() -> None:
    for path in FOLDER.rglob("config.yaml"):
        settings = read_config(path)
        assert settings.name == path.parent.relative_to(FOLDER).as_posix()
        assert all(registry.system(key) for key in settings.systems)


def test_one_for_each_protein_one_for_all_and_one_without_each() -> None:
    found = baseline_configs()
    assert len(PUBLISHED) == 12
    assert found[MULTI]["systems"] == PUBLISHED
    for key in PUBLISHED:
        assert found[f"torchmd-gn/{key}"]["system"] == key
        without = found[f"torchmd-gn/without-{key}"]
        assert set(without["systems"]) == set(PUBLISHED) - {key}
        assert without["split"] == f"lopo-{key}"
    for name in found:
        settings = read_config(FOLDER / name / "config.yaml")
        strides = {key: settings.stride_of(key) for key in settings.systems}
        assert strides == {key: 1 if key in SMALL else 10 for key in settings.systems}
        assert settings.selection.protocol == "selection"
        assert settings.selection.trajectories == 0.2
    assert 2 <= registry.baseline_settings().seeds <= 4


def test_colder_protocols_are_the_papers_at_another_temperature_for_strands() -> None:
    paper = registry.protocol("paper").model_dump()
    page = Path("docs/leaks.md").read_text(encoding="utf-8").partition("## Other temperatures")[2]
    for key, temperature in (("paper-300", 300.0), ("paper-250", 250.0)):
        changed = {"id": key, "temperature": temperature}
        cold = registry.protocol(key).model_dump()
        assert cold == paper | changed | {"description": cold["description"]}
        assert f"`{key}`" in page
    strands = [
        registry.system(key).name
        for key in PUBLISHED
        if any(one.kind == "strand pair" for one in registry.secondary_structure(key))
    ]
    told = " ".join(page.split()).partition("secondary structure these are ")[2].partition(";")[0]
    named = [name.removeprefix("the ") for name in told.replace(" and ", ", ").split(", ")]
    assert [name.lower() for name in named] == [name.split(" (")[0].lower() for name in strands]


def test_results_are_of_the_weights_and_of_a_command() -> None:
    """They say of how many models the one that was scored is the best, where it is one of many."""
    hashes = {model.name: model.hash for model in registry.zoo()}
    found = [
        result
        for path in FOLDER.rglob("results/*.json")
        if json.loads(path.read_text()).get("format") == "cgbench-result"
        and (result := read_result(path)).model.name in hashes
    ]
    assert {result.model.name for result in found} == set(hashes)
    for result in found:
        name, spec = result.model.name, result.model.spec or {}
        assert result.model.hash == hashes[name]
        assert result.provenance.command[0] == "cgbench", name
        (row,) = result.systems
        noted = [note for note in row.notes if note.startswith("Best of")]
        selection = FOLDER / name / "results" / "selection.json"
        if selection.is_file():
            assert spec["best_of_n"] == len(json.loads(selection.read_text())["candidates"])
            assert spec["between_seed"]["validation_loss"]["standard_deviation"] > 0.0
            assert "Over the seeds" in noted[0]
        assert bool(noted) == (selection.is_file() or name == "torchmd-gn/chignolin-sample")


def test_weights_older_than_the_record_of_a_choice_are_the_best_of_several_all_the_same() -> None:
    path = find_weights("torchmd-gn/chignolin-sample")
    spec = load_model(path).spec
    assert spec.best_of_n is None
    known = with_choice(spec, model_hash(path))
    assert known.best_of_n == 5
    (note,) = told_of_choice(known)
    assert note.startswith("Best of 5 runs by radius of gyration and dihedrals")
    assert "Over the seeds" not in note
    leak = check_leaks(known, "chignolin-sample")
    assert leak.status == "marked"
    assert "chosen among 5" in leak.overlaps[0]
    # Other weights under the same name were not chosen so.
    assert with_choice(spec, "sha256:other") == spec


def test_settings_are_those_of_the_reference_work(published_dir: Path) -> None:
    theirs = yaml.safe_load((published_dir / "train.yaml").read_text())
    ours = registry.baseline_settings()
    assert {name: theirs[name] for name in ours.network if name in theirs} == {
        name: value for name, value in ours.network.items() if name in theirs
    }
    names = {
        "learning_rate": "lr",
        "factor": "lr_factor",
        "patience": "lr_patience",
        "minimum_learning_rate": "lr_min",
        "weight_decay": "weight_decay",
        "batch_size": "batch_size",
        "maximum_epochs": "num_epochs",
        "early_stopping_patience": "early_stopping_patience",
    }
    assert ours.optimiser == {name: float(theirs[other]) for name, other in names.items()}
    # What their file leaves to the default of the program.
    assert set(ours.network) - set(theirs) <= {"num_filters"}


def test_what_needs_the_published_data_says_so(tmp_path: Path) -> None:
    for name in (f"torchmd-gn/{PUBLISHED[-1]}", MULTI):
        card = (FOLDER / name / "README.md").read_text()
        assert "| status | not yet run |" in card
        assert "min on one core for each million training frames" in card


def test_a_card_follows_what_the_runs_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    name = "torchmd-gn/chignolin-sample-v2"
    shutil.copytree(FOLDER / name, folder / name)
    rates = tmp_path / "none.json"
    update_baseline_cards(folder, rates=rates)
    assert update_baseline_cards(folder, rates=rates, check=True) == []
    training = folder / name / "results" / "training.json"
    values = json.loads(training.read_text())
    training.write_text(json.dumps(values | {"epochs": 987}))
    (changed,) = update_baseline_cards(folder, rates=rates, check=True)
    assert "987" not in changed.read_text()
    update_baseline_cards(folder, rates=rates)
    assert "| epochs | 987," in changed.read_text()
    changed.write_text(changed.read_text().replace("<!-- facts: results -->", ""))
    with pytest.raises(ValidationError, match="not the blocks of a card"):
        update_baseline_cards(folder, rates=rates)


def test_the_command_line_fails_over_what_is_out_of_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path)
    with pytest.raises(ValidationError, match="cgbench models configs"):
        app(["models", "configs", "--folder", folder, "--check"], standalone_mode=False)
    app(["models", "configs", "--folder", folder, "--json"], standalone_mode=False)
    written = json.loads(capsys.readouterr().out)["changed"]
    assert len(written) == 25
    app(["models", "configs", "--folder", folder, "--check"], standalone_mode=False)


def test_the_page_above_the_cards_says_what_was_run() -> None:
    page = (FOLDER / "README.md").read_text()
    rows = {
        line.split("](")[0].removeprefix("| ["): line
        for line in page.splitlines()
        if line.startswith("| [")
    }
    assert set(rows) == {
        path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("config.yaml")
    }
    for name in baseline_configs():
        assert rows[name].endswith("| 4 planned | not yet run |")
    for model in registry.zoo():
        assert "`standard`" in rows[model.name]
    assert "| best of 5 runs |" in rows["torchmd-gn/chignolin-sample"]
    assert (
        "| seeds trained | 5 runs" in (FOLDER / "torchmd-gn/chignolin-sample/README.md").read_text()
    )
    assert "| 2, the best by short simulations |" in rows["torchmd-gn/chignolin-sample-slice"]
