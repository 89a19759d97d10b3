"""Reference bundles of published proteins: before they are registered, and from then on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from toy_board import toy_hash, toy_record, toy_result, toy_submission, toy_system
from toy_reference import toy_input
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.reference import build_from_trajectories
from cgbench.evaluate.reference_file import write_reference
from cgbench.leaderboard import known, registering
from cgbench.leaderboard.board import ranked
from cgbench.leaderboard.checking import check_submission
from cgbench.leaderboard.model_rows import model_row
from cgbench.leaderboard.registering import register_reference
from cgbench.registry import KnownReference
from cgbench.store import find_split

SYSTEM = "chignolin"


@pytest.fixture(scope="module")
def bundles():
    """Two bundles of a published protein: of other trajectories, with other fingerprints."""
    made = []
    for seed in (0, 1):
        source = toy_input(seed, n_trajectories=60)[0]
        entry = registry.system(SYSTEM).model_copy(update={"analysis": source.system.analysis})
        made.append(build_from_trajectories(replace(source, system=entry), n_resamples=20))
    return made


@pytest.fixture
def home(tmp_path, bundles) -> Path:
    place = tmp_path / "home"
    write_reference(place / "references" / "v2" / f"{SYSTEM}.zarr", bundles[0])
    splits = place / "splits" / SYSTEM
    splits.mkdir(parents=True)
    shutil.copy(find_split("chignolin-sample", "block-v1"), splits)
    return place


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A copy of the registry's file, which the leaderboard reads instead of its own."""
    path = tmp_path / "references.yaml"
    path.write_text("# What is registered.\nreferences: []\n")

    def entries() -> tuple[KnownReference, ...]:
        data = yaml.safe_load(path.read_text())["references"]
        return tuple(KnownReference.model_validate(one) for one in data)

    monkeypatch.setattr(registry, "known_references", entries)
    monkeypatch.setattr(known, "_known", known._known.__wrapped__)
    return path


def submission_of(fingerprint: str, share: float = 0.5):
    result = toy_result(
        toy_system(SYSTEM, share), trained=(SYSTEM,), protocol="standard",
        reference={"version": "v2", "fingerprints": {SYSTEM: fingerprint}},
    )  # fmt: skip
    return toy_submission(result)


def test_until_then_a_result_is_kept_with_a_mark_and_without_score(clone, bundles) -> None:
    """Nobody else knows what it was scored against: it might be the model's own frames."""
    found = submission_of(bundles[0].fingerprint, 0.0)
    remarks = check_submission(found, toy_record())
    assert any(f"cgbench leaderboard register {SYSTEM}" in one for one in remarks)
    (row,) = ranked([model_row(toy_record(), [found])])
    assert (row.score, row.rank, row.level) == (None, None, "self_reported")
    assert "unregistered" in row.flags
    assert "not registered yet" in row.unranked_reason
    cell = row.systems[SYSTEM]
    assert cell.composite is None
    assert cell.metrics["w1_tic1"].value is not None
    assert {value.score for value in cell.metrics.values()} == {None}


def test_a_registered_reference_gives_scores_and_ranks(home, clone, bundles) -> None:
    made = CliRunner().invoke(
        app,
        ["leaderboard", "register", SYSTEM, "--home", str(home), "--write", str(clone), "--json"],
    )
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)[0]["fingerprint"] == bundles[0].fingerprint
    assert clone.read_text().startswith("# What is registered.\n")
    found = submission_of(bundles[0].fingerprint)
    assert check_submission(found, toy_record()) == ()
    (row,) = ranked([model_row(toy_record(), [found])])
    assert (row.rank, row.flags) == (1, ())
    other = submission_of(toy_hash(9))
    with pytest.raises(ValidationError) as raised:
        check_submission(other, toy_record())
    assert "scored against another reference" in raised.value.found


def test_a_later_reference_takes_the_place_of_the_first(home, clone, bundles) -> None:
    first = register_reference(SYSTEM, file=clone, home=home)
    assert (first.before, first.entry.superseded) == (None, ())
    write_reference(home / "references" / "v2" / f"{SYSTEM}.zarr", bundles[1])
    second = register_reference(SYSTEM, file=clone, home=home)
    assert second.before == bundles[0].fingerprint
    assert second.entry.superseded == (bundles[0].fingerprint,)
    with pytest.raises(ValidationError) as raised:
        check_submission(submission_of(bundles[0].fingerprint), toy_record())
    assert "superseded reference" in raised.value.found
    again = register_reference(SYSTEM, file=clone, home=home)
    assert (again.before, again.entry) == (None, second.entry)


def test_what_cannot_be_registered(home, clone, tmp_path, bundles, monkeypatch) -> None:
    with pytest.raises(UsageError, match="only bundles of published proteins"):
        register_reference("chignolin-sample", home=home)
    with pytest.raises(UsageError, match="villin"):
        register_reference("villin", home=home)
    (tmp_path / "other.yaml").write_text("a: 1\n")
    with pytest.raises(UsageError, match="not the registry"):
        register_reference(SYSTEM, file=tmp_path / "other.yaml", home=home)
    metadata = bundles[0].metadata.model_copy(update={"synthetic": True})
    made_up = replace(bundles[0], metadata=metadata)
    monkeypatch.setattr(registering, "read_reference", lambda path: made_up)
    with pytest.raises(ValidationError, match="known answers"):
        register_reference(SYSTEM, home=home)
    shown = CliRunner().invoke(app, ["leaderboard", "register", "villin", "--home", str(home)])
    assert isinstance(shown.exception, UsageError)
