"""Baselines: their configurations, cards, and what the cards state."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import ValidationError
from cgbench.pipeline.baseline_cards import update_baseline_cards
from cgbench.pipeline.baselines import MULTI, baseline_configs, update_configs
from cgbench.train.kinds import read_config

FOLDER = Path("baselines")
PUBLISHED = [one.key for one in registry.systems() if one.published_key is not None]


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
    strides = found[MULTI]["frame_stride"]
    assert {key for key, stride in strides.items() if stride == 1} == {
        "chignolin",
        "trpcage",
        "bba",
        "villin",
    }
    assert set(strides.values()) == {1, 10}


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
