"""Scores against references that are named: which bundle is taken, what results and leaks say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runs import FIRST, SECOND, Play, save_toy_model, toy_row
from typer.testing import CliRunner

from cgbench import config
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import read_reference, write_reference
from cgbench.evaluate.reference_file import bundle_fingerprint
from cgbench.models.potential import PotentialSpec, SelectedBy, TrainedOn
from cgbench.pipeline import evaluate_ensemble
from cgbench.pipeline.bundles import References, bundle_trajectories
from cgbench.pipeline.evaluate import evaluate_model
from cgbench.pipeline.leaks import check_leaks
from cgbench.splits import read_split
from cgbench.store import find_reference, find_split, open_store


def bundle_of(path: Path, trajectories: list[int], *, said: list[int] | None = None) -> Path:
    """Write the embedded bundle as if it were of some trajectories."""
    bundle = read_reference(find_reference(FIRST))
    identity = config.fingerprint(
        {"store": open_store(FIRST).fingerprint, "trajectories": trajectories}
    )
    metadata = bundle.metadata.model_copy(update={"store_fingerprint": identity})
    bundle = replace(bundle, metadata=metadata)
    bundle = replace(bundle, fingerprint=bundle_fingerprint(bundle))
    write_reference(path, bundle, {"trajectories": trajectories if said is None else said})
    return path


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a selection by a share leaves in a data home."""
    folder = tmp_path_factory.mktemp("home") / "references" / "selection" / f"{FIRST}-0.3-1"
    bundle_of(folder / "validation.zarr", [0, 1, 2])
    bundle_of(folder / "evaluation.zarr", [3, 4, 5])
    return folder


def home_of(selection: Path) -> Path:
    return selection.parents[2]


def chosen_by(bundle: Path) -> PotentialSpec:
    split = read_split(find_split(FIRST, "block-v1"))
    return PotentialSpec(
        name="chosen",
        trained_on=(
            TrainedOn(
                system=FIRST,
                split_id=split.id,
                split_fingerprint=split.fingerprint,
                store_fingerprint=split.store_fingerprint,
            ),
        ),
        best_of_n=4,
        selected_by=SelectedBy(
            metric="rg_w1",
            protocol="selection",
            seed=1,
            references={FIRST: read_reference(bundle).fingerprint},
        ),
    )


def test_bundles_are_found_in_folders_of_each_kind(selection: Path, tmp_path: Path) -> None:
    evaluation = selection / "evaluation.zarr"
    for folder in (selection, selection.parent, evaluation):
        assert References(folder).path(FIRST) == evaluation
        assert (
            References(folder).bundle(FIRST).fingerprint == read_reference(evaluation).fingerprint
        )
    own = bundle_of(tmp_path / f"{FIRST}.zarr", [7])
    assert References(tmp_path).path(FIRST) == own
    assert References().path(FIRST) == find_reference(FIRST)


def test_what_is_not_there_is_never_taken_from_the_home(selection: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        References(tmp_path / "absent").path(FIRST)
    # The embedded reference of the other version would be found in the home.
    with pytest.raises(UsageError, match=f"no reference of {SECOND}") as error:
        References(selection.parent).path(SECOND)
    assert f"{SECOND}.zarr" in error.value.message
    with pytest.raises(ValidationError, match=f"not a reference of {SECOND}"):
        References(selection).bundle(SECOND)
    for seed in (1, 2):
        shutil.copytree(selection, tmp_path / f"{FIRST}-0.3-{seed}")
    with pytest.raises(UsageError, match="several references"):
        References(tmp_path).path(FIRST)


def test_trajectories_of_a_bundle_are_proven(selection: Path, tmp_path: Path) -> None:
    store = open_store(FIRST).fingerprint
    assert bundle_trajectories(selection / "evaluation.zarr", store) == {3, 4, 5}
    assert bundle_trajectories(selection / "evaluation.zarr", "sha256:another") is None
    lying = bundle_of(tmp_path / "lying.zarr", [0, 1], said=[8, 9])
    assert bundle_trajectories(lying, store) is None
    assert bundle_trajectories(find_reference(FIRST), store) is None


def test_the_choice_and_the_test_share_no_trajectory(selection: Path, tmp_path: Path) -> None:
    spec, home = chosen_by(selection / "validation.zarr"), home_of(selection)
    assert check_leaks(spec, FIRST, references=selection, home=home).status == "none"
    (overlap,) = check_leaks(spec, FIRST, home=home).overlaps
    assert "the reference here is of all of them" in overlap
    (overlap,) = check_leaks(
        spec, FIRST, references=selection / "validation.zarr", home=home
    ).overlaps
    assert "against which it is tested" in overlap
    other = bundle_of(tmp_path / "other" / f"{FIRST}.zarr", [2, 3]).parent
    (overlap,) = check_leaks(spec, FIRST, references=other, home=home).overlaps
    assert "1 of the 2 of the reference" in overlap
    # Elsewhere nobody knows which trajectories the choice saw.
    (overlap,) = check_leaks(spec, FIRST, references=other, home=tmp_path).overlaps
    assert "cannot be told" in overlap


def test_results_name_the_reference_and_say_that_it_is_another(
    selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(monkeypatch.setattr)
    model = save_toy_model(tmp_path / "model.pt")
    options: dict[str, Any] = {"protocol": "smoke", "out": tmp_path / "run", "home": tmp_path}
    result = evaluate_model(model, [FIRST, SECOND], references=selection.parent, **options)
    found = {item.system: item for item in result.systems}
    evaluation = read_reference(selection / "evaluation.zarr").fingerprint
    assert result.reference.fingerprints == {FIRST: evaluation}
    assert any("that was named" in note for note in found[FIRST].notes)
    assert found[SECOND].status == "missing"
    assert "no reference of" in (found[SECOND].reason or "")
    # The same folder without the option is scored against the usual reference, anew.
    again = evaluate_model(model, [FIRST], **options)
    assert again.reference.fingerprints == {
        FIRST: read_reference(find_reference(FIRST)).fingerprint
    }
    assert play.scored == [FIRST, FIRST]
    assert not any("that was named" in note for note in again.systems[0].notes)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evaluate", "--published", "cg", "--references", "x"], "--references: only with"),
        (["evaluate", "model.pt", "--mutants", "--references", "x"], "--references: only with"),
    ],
)
def test_the_command_line_refuses_what_it_cannot_do(arguments: list[str], told: str) -> None:
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, UsageError)
    assert told in found.exception.message


def test_the_command_line_scores_an_ensemble_against_a_named_reference(
    selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(evaluate_ensemble, "report_runs", lambda *a, **k: drawn.append(k))
    monkeypatch.setattr(evaluate_ensemble, "score", lambda *a, **k: toy_row(FIRST))
    monkeypatch.setattr(evaluate_ensemble, "with_novelty", lambda row, *a, **k: row)
    np.save(tmp_path / "frames.npy", open_store(FIRST).coordinates(0, 40))
    arguments = ["evaluate", "--ensemble", str(tmp_path / "frames.npy"), "--system", FIRST]
    arguments += ["--references", str(selection), "--out", str(tmp_path / "run"), "--json"]
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    result = json.loads(found.stdout)
    evaluation = read_reference(selection / "evaluation.zarr").fingerprint
    assert result["reference"]["fingerprints"] == {FIRST: evaluation}
    assert any("that was named" in note for note in result["systems"][0]["notes"])
    assert drawn[0]["references"] == selection
