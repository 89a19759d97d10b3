"""What a user says that a model of another program was trained on: recorded, checked, refused."""

from pathlib import Path

import pytest
from toy_adapters import save_checkpoint
from toy_runs import FIRST, Play
from typer.testing import CliRunner

from cgbench.adapters import AdapterChoice
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.models import TrainedOn, load_model, model_hash
from cgbench.pipeline.evaluate import evaluate_model
from cgbench.pipeline.leaks import check_leaks, track
from cgbench.splits import read_split
from cgbench.store import find_split

RANDOM = "random-85-5-10"


def converted(tmp_path: Path, *stated: str) -> Path:
    out = tmp_path / "model.pt"
    command = ["convert", str(save_checkpoint(tmp_path / "net.ckpt")), "--out", str(out)]
    for one in stated:
        command += ["--trained-on", one]
    result = CliRunner().invoke(app, command)
    if result.exception is not None:
        raise result.exception
    return out


def test_systems_without_a_split(tmp_path: Path) -> None:
    spec = load_model(converted(tmp_path, FIRST, "villin")).spec
    assert [item.system for item in spec.trained_on] == [FIRST, "villin"]
    assert all(item.stated for item in spec.trained_on)
    assert track(spec, FIRST) == "multi-protein"
    leak = check_leaks(spec, FIRST)
    assert leak.status == "marked"
    assert "cannot be told" in leak.overlaps[0]
    assert leak.checked[f"trained on {FIRST}"] == "stated by the user, without a split"
    # A protein that was not trained on needs no split to be clean.
    assert track(spec, "bba") == "leave-one-out"
    assert check_leaks(spec, "bba", asked="leave-one-out").status == "none"
    assert check_leaks(spec, FIRST, asked="multi-protein").status == "refused"


def test_a_split_that_is_at_hand_is_compared_frame_by_frame(tmp_path: Path) -> None:
    canonical = read_split(find_split(FIRST, "block-v1"))
    spec = load_model(converted(tmp_path, f"{FIRST}:block-v1")).spec
    (item,) = spec.trained_on
    assert (item.split_fingerprint, item.stated) == (canonical.fingerprint, True)
    assert check_leaks(spec, FIRST).status == "none"
    assert check_leaks(spec, FIRST).checked[f"trained on {FIRST}"].startswith("stated by the user")


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (("nowhere",), "nowhere"),
        ((f"{FIRST}:{RANDOM}-x",), "split"),
        ((FIRST, f"{FIRST}:block-v1"), "twice"),
    ],
)
def test_what_cannot_be_stated(tmp_path: Path, stated: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        converted(tmp_path, *stated)
    assert not (tmp_path / "model.pt").exists()


def test_an_adapted_model_has_default_systems_and_a_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(monkeypatch.setattr)
    model = save_checkpoint(tmp_path / "net.ckpt")
    options = {"adapter": AdapterChoice("torchmdnet"), "protocol": "smoke", "home": tmp_path}
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        evaluate_model(model, out=tmp_path / "a", **options)
    result = evaluate_model(model, out=tmp_path / "a", trained_on=[f"{FIRST}:block-v1"], **options)
    assert play.scored == [FIRST]
    (row,) = result.systems
    assert (row.track, row.leak.status) == ("protein-specific", "none")
    assert result.model.spec["trained_on"][0]["stated"] is True
    with pytest.raises(ValidationError, match="not on track protein-specific"):
        evaluate_model(
            model, out=tmp_path / "b", trained_on=[FIRST], track="protein-specific", **options
        )


def test_a_model_that_says_it_itself_keeps_its_word_and_its_hash(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says itself"):
        evaluate_model(
            "torchmd-gn/chignolin-sample", out=tmp_path, trained_on=["villin"], home=tmp_path
        )
    item = TrainedOn(system="a", split_id="b", split_fingerprint="c", store_fingerprint="d")
    assert "stated" not in item.model_dump(mode="json")
    assert TrainedOn.model_validate(item.model_dump()) == item


def test_the_statement_is_part_of_the_converted_model(tmp_path: Path) -> None:
    hashes = set()
    for name, stated in (("silent", ()), ("told", (FIRST,))):
        (tmp_path / name).mkdir()
        hashes.add(model_hash(converted(tmp_path / name, *stated)))
    assert len(hashes) == 2
