"""Kinds of training configurations, and that old ones keep their fingerprints."""

from pathlib import Path

import pytest
import yaml

from cgbench import config
from cgbench.errors import UsageError, ValidationError
from cgbench.train import TrainingConfig, read_config
from cgbench.train.kinds import KINDS, as_config, config_class

ROOT = Path(__file__).parent.parent
#: Of configurations as the first version of the format wrote them.
FINGERPRINTS = {
    "baselines/torchmd-gn/chignolin-sample/config.yaml": "c5b957d514a99ba8",
    "baselines/torchmd-gn/chignolin-sample-v2/config.yaml": "0cc20300247f3ce9",
    "cgbench/assets/configs/demo-network.yaml": "06fe38830160b944",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_old_configurations_keep_their_fingerprints(name: str) -> None:
    settings = read_config(ROOT / name)
    found = config.fingerprint(settings.training_identity())
    assert found.startswith(f"sha256:{FINGERPRINTS[name]}")
    # Written and read again it is the same, in the old form.
    dumped = settings.model_dump(mode="json")
    assert "systems" not in dumped
    assert TrainingConfig.model_validate(dumped) == settings


def write(folder: Path, **values: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"name": "x", **values}))
    return path


def test_systems_and_system_are_two_ways_to_say_one_thing(tmp_path: Path) -> None:
    one = read_config(write(tmp_path, system="bba"))
    assert one.systems == ("bba",)
    assert one == read_config(write(tmp_path, systems=["bba"]))
    both = read_config(write(tmp_path, systems=["bba", "villin"]))
    assert both.model_dump(mode="json")["systems"] == ["bba", "villin"]
    assert read_config(write(tmp_path, system="bba"), ["systems=[villin]"]).systems == ("villin",)
    with pytest.raises(ValidationError, match="not both"):
        read_config(write(tmp_path, system="bba", systems=["bba"]))


def test_selection_is_no_part_of_the_training(tmp_path: Path) -> None:
    plain = read_config(write(tmp_path, system="bba"))
    chosen = read_config(write(tmp_path, system="bba", selection={"trajectories": 0.3}))
    assert chosen != plain
    assert chosen.training_identity() == plain.training_identity()
    with pytest.raises(ValidationError, match="not both"):
        read_config(
            write(tmp_path, system="bba", selection={"trajectories": 0.3, "reference_system": "x"})
        )


@pytest.mark.parametrize(
    "override",
    [
        "devices=2",
        "precision=bf16-mixed",
        "averaging.decay=0.9",
        "frame_stride=10",
        "balance=systems",
    ],
)
def test_later_options_change_the_fingerprint(override: str, tmp_path: Path) -> None:
    path = write(tmp_path, system="bba")
    plain, changed = read_config(path), read_config(path, [override])
    assert changed.training_identity() != plain.training_identity()
    assert TrainingConfig.model_validate(changed.model_dump(mode="json")) == changed


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_configuration(kind: str) -> None:
    assert config_class(kind).model_fields["kind"].default == kind


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no such kind") as error:
        read_config(write(tmp_path, system="bba", kind="transformer"))
    assert "pair-spline" in error.value.message
    with pytest.raises(ValidationError, match="no such kind"):
        as_config({"kind": ["graph-network"]}, "x")


def test_kind_decides_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("kind: pair-spline\nname: x\nsystem: bba\nnetwork: {num_layers: 2}\n")
    with pytest.raises(ValidationError, match="network"):
        read_config(path)
    with pytest.raises(UsageError, match="no such file"):
        read_config(tmp_path / "none.yaml")
