"""Several seeds of one training, and the choice of the best by short simulations."""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cgbench import config
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.evaluate import read_reference
from cgbench.models import PotentialSpec, load_model, model_hash
from cgbench.pipeline import candidates
from cgbench.pipeline.candidates import Candidate, Judge, between_seeds, spread
from cgbench.pipeline.choice import told_of_choice
from cgbench.pipeline.selection import SelectionOutcome, train_seeds
from cgbench.pipeline.selection_references import chosen_trajectories, selection_targets
from cgbench.registry import protocol
from cgbench.results import MetricValue
from cgbench.splits import read_split, write_split
from cgbench.store import find_split, open_store
from cgbench.train import SelectionSettings, TrainingConfig

SAMPLE, OTHER = "chignolin-sample", "chignolin-sample-v2"
N_TRAJECTORIES = {"train": 6, "val": 1, "test": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home whose split has a few of the sample's trajectories, to be quick."""
    folder = tmp_path_factory.mktemp("home")
    split = read_split(find_split(SAMPLE, "block-v1"))
    bounds = open_store(SAMPLE).trajectory_bounds
    assert split.trajectories is not None
    chosen = {part: split.trajectories[part][:count] for part, count in N_TRAJECTORIES.items()}
    parts = {
        part: tuple((int(bounds[index][0]), int(bounds[index][1])) for index in indices)
        for part, indices in chosen.items()
    }
    few = split.model_copy(update={"trajectories": chosen, "parts": parts})
    write_split(folder / "splits" / SAMPLE / "block-v1.json", few)
    return folder


def settings(**changes: Any) -> TrainingConfig:
    values = {
        "name": "tiny",
        "system": SAMPLE,
        "network": {
            "embedding_dimension": 4,
            "num_filters": 4,
            "num_layers": 1,
            "num_rbf": 4,
            "max_bead_type": 23,
        },
        "optimiser": {"learning_rate": 1e-3, "batch_size": 1500, "maximum_epochs": 1},
        "selection": {"protocol": "smoke"},
        "seed": 5,
        "threads": 1,
        **changes,
    }
    return TrainingConfig.model_validate(values)


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("seeds") / "run"
    train_seeds(settings(), 2, out, home=home)
    return out


def test_selection_of_the_protocol_is_as_in_the_reference_work() -> None:
    assert protocol("selection").n_replicas == 4


def test_best_seed_becomes_the_model_and_says_so(finished: Path, home: Path) -> None:
    outcome = config.read_model(SelectionOutcome, finished / "selection.json")
    assert [one.seed for one in outcome.candidates] == [5, 6]
    values = {one.seed: one.metric for one in outcome.candidates}
    assert all(value is not None for value in values.values())
    assert outcome.chosen == min(values, key=lambda seed: values[seed] or 0.0)
    spec = load_model(finished / "model.pt").spec
    assert spec.best_of_n == 2
    assert spec.seeds == (5, 6)
    assert spec.selected_by is not None
    assert spec.selected_by.seed == outcome.chosen
    folder = home / "references" / "selection" / f"{SAMPLE}-0.2-1"
    assert spec.selected_by.references == {
        SAMPLE: read_reference(folder / "validation.zarr").fingerprint
    }
    found = spec.between_seed["w1_tic1"]
    assert found.mean == pytest.approx(statistics.mean(values.values()))  # type: ignore[type-var]
    assert found.standard_deviation == pytest.approx(statistics.stdev(values.values()))  # type: ignore[type-var]
    losses = [
        json.loads((finished / f"seed-{seed}" / "training.json").read_text())["validation_loss"]
        for seed in (5, 6)
    ]
    assert spec.between_seed["validation_loss"].standard_deviation == pytest.approx(
        statistics.stdev(losses)
    )
    (note,) = told_of_choice(spec)
    assert "Best of 2 seeds" in note
    assert "21 of 105 trajectories" in note
    # The weights are those of the seed, to the last bit.
    best = load_model(finished / f"seed-{outcome.chosen}" / "model.pt").network
    chosen = load_model(finished / "model.pt").network
    assert best is not None
    assert chosen is not None
    assert all(torch.equal(chosen.state_dict()[k], v) for k, v in best.state_dict().items())


def test_models_without_a_choice_keep_their_hash_and_say_nothing(finished: Path) -> None:
    spec = load_model(finished / "seed-5" / "model.pt").spec
    assert {"best_of_n", "between_seed", "selected_by"}.isdisjoint(spec.model_dump(mode="json"))
    assert told_of_choice(spec) == []
    assert model_hash(finished / "seed-5" / "model.pt") != model_hash(finished / "model.pt")


def test_what_is_there_is_kept_and_lost_parts_are_made_again(
    finished: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    before = (out / "selection.json").read_bytes()
    (out / "model.pt").unlink()
    simulated = []
    original = candidates.simulate
    monkeypatch.setattr(
        candidates, "simulate", lambda *a, **k: simulated.append(1) or original(*a, **k)
    )
    train_seeds(settings(), 2, out, home=home, resume=True)
    assert simulated == []
    assert (out / "selection.json").read_bytes() == before
    assert model_hash(out / "model.pt") == model_hash(finished / "model.pt")
    # Only the selection changes: nothing is trained again.
    weights = (out / "seed-5" / "model.pt").stat().st_mtime_ns
    train_seeds(settings(selection={"protocol": "smoke", "metric": "w1_tic2"}), 2, out, home=home)
    assert (out / "seed-5" / "model.pt").stat().st_mtime_ns == weights
    assert simulated == []


def test_seeds_without_a_choice(finished: Path, home: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    (out / "model.pt").unlink()
    outcome = train_seeds(settings(), 2, out, select=False, home=home)
    assert outcome.chosen is None
    assert set(outcome.between_seed) == {"validation_loss"}
    assert not (out / "model.pt").exists()
    with pytest.raises(UsageError, match="number of seeds"):
        train_seeds(settings(), 1, out, home=home)


def judge() -> Judge:
    found = object.__new__(Judge)
    found.direction = "min"
    return found


def candidate(seed: int, value: float | None, status: str = "ok") -> Candidate:
    values = {"x": MetricValue(value=value, status="ok" if status == "ok" else "failed")}
    return judge().judged(Candidate(seed=seed, folder=str(seed)), values)


def test_failed_candidates_are_never_chosen() -> None:
    rows = [candidate(1, 0.1, "failed"), candidate(2, 0.5), candidate(3, 0.4)]
    assert judge().best(rows).seed == 3
    assert rows[0].status == "failed"
    highest = judge()
    highest.direction = "max"
    assert highest.best(rows).seed == 2
    with pytest.raises(SimulationError, match="every candidate failed") as error:
        judge().best([candidate(1, None, "failed")])
    assert "seed 1" in error.value.message
    assert between_seeds(rows, "m")["m"].n == 2


def test_spread_of_one_value_has_no_deviation() -> None:
    assert spread([2.0]).standard_deviation is None
    assert spread([1.0, 3.0]).standard_deviation == pytest.approx(np.sqrt(2.0))


@pytest.mark.parametrize(("n", "share", "number"), [(10, 0.2, 2), (3, 0.01, 1), (3, 0.99, 2)])
def test_share_of_the_trajectories(n: int, share: float, number: int) -> None:
    chosen = chosen_trajectories(n, share, seed=4)
    assert len(set(chosen.tolist())) == number
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen.min() <= chosen.max() < n
    np.testing.assert_array_equal(chosen, chosen_trajectories(n, share, seed=4))
    with pytest.raises(ValidationError, match="one trajectory"):
        chosen_trajectories(1, share, seed=4)


@pytest.mark.parametrize(
    ("systems", "changes", "error", "match"),
    [
        ([SAMPLE], {"reference_system": SAMPLE}, ValidationError, "trained on"),
        ([SAMPLE], {"reference_system": OTHER}, ValidationError, "105 of 105 trajectories"),
        ([SAMPLE], {"reference_system": "nowhere"}, UsageError, "nowhere"),
        ([SAMPLE, OTHER], {"reference_system": OTHER}, UsageError, "one system"),
    ],
)
def test_references_that_would_leak(
    systems: list[str], changes: dict[str, str], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        selection_targets(systems, SelectionSettings.model_validate(changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"metric": "w1_tick"}, "w1_tic"), ({"protocol": "selektion"}, "selection")],
)
def test_unknown_metric_or_protocol(changes: dict[str, str], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Judge([SAMPLE], SelectionSettings.model_validate(changes))


def test_choice_is_told_only_where_there_was_one() -> None:
    assert told_of_choice(PotentialSpec(name="x", best_of_n=None)) == []


@pytest.mark.slow
def test_bundles_of_a_share_and_of_the_rest(tmp_path: Path) -> None:
    chosen = SelectionSettings(trajectories=0.5, seed=2)
    (target,) = selection_targets([SAMPLE], chosen, tmp_path)
    assert target.evaluation is not None
    rest = read_reference(target.evaluation)
    total = open_store(SAMPLE).n_trajectories
    assert target.bundle.metadata.n_trajectories + rest.metadata.n_trajectories == total
    assert target.bundle.fingerprint != rest.fingerprint
    again = selection_targets([SAMPLE], chosen, tmp_path)[0]
    assert again.bundle.fingerprint == target.bundle.fingerprint
