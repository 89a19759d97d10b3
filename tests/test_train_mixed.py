"""Training on several proteins at once: batches, losses of each, strides, what is left out."""

import csv
import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_training import LONG, SHORT, make_home, settings

from cgbench import config, registry
from cgbench.data import MultiProteinDataModule, ProteinForcesDataset
from cgbench.errors import UsageError, ValidationError
from cgbench.models import load_model
from cgbench.priors import PriorParameters
from cgbench.splits import read_split, write_split
from cgbench.store import find_split, open_store
from cgbench.train import TrainingConfig, TrainingOutcome, train
from cgbench.train.losses import validation_shares
from cgbench.train.material import _check_left_out, open_material


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("train") / "run"
    train(settings(frame_stride={LONG: 4}), out, home=home)
    return out


def test_each_protein_has_its_loss(finished: Path, home: Path) -> None:
    """Losses of the record are those of the model, computed again frame by frame."""
    outcome = config.read_model(TrainingOutcome, finished / "training.json")
    assert set(outcome.systems) == {SHORT, LONG}
    potential = load_model(finished / "model.pt")
    prior = config.read_model(PriorParameters, finished / "prior.json")
    assert potential.network is not None
    for system, found in outcome.systems.items():
        frames = ProteinForcesDataset(system, "val", "block-v1", prior=prior, home=home).load()
        forces = potential.network.energy_forces_chains(frames.bead_types, frames.pos)[1]
        loss = float((forces.detach() - frames.forces).double().square().mean())
        assert found.validation_loss == pytest.approx(loss, rel=1e-4)
        variance = float(frames.forces.double().square().mean())
        assert found.validation_variance == pytest.approx(variance, rel=1e-6)
        assert found.explained == pytest.approx(1 - loss / variance, abs=1e-4)
        assert found.explained is not None
        assert found.explained > 0.01
        assert found.n_validation_frames == len(frames)


def test_losses_of_each_protein_are_logged_and_drawn(finished: Path) -> None:
    outcome = config.read_model(TrainingOutcome, finished / "training.json")
    rows = list(csv.DictReader(io.StringIO((finished / "logs/metrics.csv").read_text())))
    for system, found in outcome.systems.items():
        losses = [float(row[f"val_loss/{system}"]) for row in rows if row[f"val_loss/{system}"]]
        assert len(losses) == 3
        assert losses[outcome.best_epoch - 1] == pytest.approx(found.validation_loss, rel=1e-6)
    assert (finished / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_validation_loss_weighs_proteins_as_training_does(finished: Path, home: Path) -> None:
    outcome = config.read_model(TrainingOutcome, finished / "training.json")
    frames = {system: found.n_training_frames for system, found in outcome.systems.items()}
    weights = {SHORT: frames[SHORT] * 10, LONG: frames[LONG] * 20}
    total = sum(weights.values())
    expected = sum(
        weights[system] / total * (found.validation_loss or 0.0)
        for system, found in outcome.systems.items()
    )
    assert outcome.validation_loss == pytest.approx(expected, rel=1e-5)
    prior = config.read_model(PriorParameters, finished / "prior.json")
    data = open_material(settings(balance="systems"), home).data_module(prior)
    assert validation_shares(data) == pytest.approx({SHORT: 1 / 3, LONG: 2 / 3})


def test_stride_takes_every_so_many_frames_of_each_trajectory(home: Path) -> None:
    data = MultiProteinDataModule([SHORT, LONG], home=home, frame_stride={LONG: 4})
    every = MultiProteinDataModule([SHORT, LONG], home=home)
    whole = {item.system: item for item in every.datasets("train")}
    thin = {item.system: item for item in data.datasets("train")}
    np.testing.assert_array_equal(thin[SHORT].frames, whole[SHORT].frames)
    store = open_store(LONG, home)
    within = np.asarray(store.frame_in_trajectory)[thin[LONG].frames]
    assert (within % 4 == 0).all()
    expected = np.asarray(store.frame_in_trajectory)[whole[LONG].frames] % 4 == 0
    np.testing.assert_array_equal(thin[LONG].frames, whole[LONG].frames[expected])
    # Validation is of all frames.
    assert [len(item) for item in data.datasets("val")] == [
        len(item) for item in every.datasets("val")
    ]
    with pytest.raises(UsageError, match="stride"):
        MultiProteinDataModule([SHORT, LONG], home=home, frame_stride=0)
    with pytest.raises(ValueError, match="villin not among the systems"):
        settings(frame_stride={"villin": 2})


@pytest.mark.parametrize(("balance", "share"), [("frames", 1 / 3), ("systems", 1 / 2)])
def test_balance_decides_the_shares(balance: str, share: float, home: Path) -> None:
    prior = PriorParameters(bonds={}, repulsion={}, dihedrals=())
    data = open_material(settings(balance=balance), home).data_module(prior)
    batches = list(data.train_dataloader())
    short = sum(int((batch.system == 0).sum()) for batch in batches)
    assert short / sum(map(len, batches)) == pytest.approx(share, abs=0.02)


def test_model_names_all_proteins(finished: Path) -> None:
    spec = load_model(finished / "model.pt").spec
    assert [item.system for item in spec.trained_on] == [SHORT, LONG]
    prior = load_model(finished / "model.pt").prior
    assert prior is not None
    # Any sequence of the vocabulary has a prior: a mutant can be built.
    assert len(prior.bonds) > 200


def test_left_out_protein_is_nowhere(home: Path, tmp_path: Path) -> None:
    chosen = settings(systems=[LONG], left_out=SHORT, optimiser={"maximum_epochs": 1})
    assert chosen.split == f"lopo-{SHORT}"
    outcome = train(chosen, tmp_path / "run", home=home)
    potential = load_model(tmp_path / "run" / "model.pt")
    assert [item.system for item in potential.spec.trained_on] == [LONG]
    assert potential.prior is not None
    assert potential.prior.transferable is not None
    assert potential.prior.transferable.left_out == SHORT
    assert [one.system for one in potential.prior.transferable.fitted_on] == [LONG]
    assert set(outcome.systems) == {LONG}
    types = torch.tensor(open_store(SHORT, home).bead_types.astype(np.int64))
    pos = torch.tensor(open_store(SHORT, home).coordinates(0, 2))
    assert torch.isfinite(potential.chains(types, pos).forces).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"left_out": SHORT}, "among the systems"),
        ({"systems": [SHORT, SHORT]}, "twice"),
        ({"systems": []}, "systems"),
        ({"balance": "size"}, "balance"),
    ],
)
def test_configurations_that_contradict_themselves(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        config.validate(TrainingConfig, {"name": "x", "systems": [SHORT, LONG], **changes}, "x")


def test_split_that_does_not_leave_out_is_refused(home: Path, tmp_path: Path) -> None:
    chosen = settings(systems=[LONG], left_out=SHORT, split="block-v1")
    with pytest.raises(ValidationError, match="does not leave out"):
        train(chosen, tmp_path / "run", home=home)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changed", [0, 1])
def test_a_similar_protein_that_trains_is_no_leave_one_out(
    changed: int, home: Path, tmp_path: Path
) -> None:
    """The left-out protein under another name, or with one residue of ten exchanged."""
    (material,) = open_material(settings(systems=[LONG], left_out=SHORT), home).training
    sequence = registry.system(SHORT).sequence
    other = "A" * changed + sequence[changed:]
    metadata = material.store.metadata.model_copy(update={"sequence": other, "system": "another"})
    store = SimpleNamespace(metadata=metadata)
    chosen = settings(systems=[LONG], left_out=SHORT)
    with pytest.raises(ValidationError, match="must be left out") as error:
        _check_left_out(chosen, store, material.split)
    assert f"--split lopo-{SHORT}" in str(error.value.fix)


def test_overlapping_parts_are_no_split(home: Path, tmp_path: Path) -> None:
    path = find_split(LONG, "block-v1", home)
    split = read_split(path)
    start, stop = split.parts["train"][0]
    parts = {**split.parts, "val": tuple(sorted([*split.parts["val"], (start, stop)]))}
    write_split(tmp_path / "bad.json", split.model_copy(update={"parts": parts}))
    with pytest.raises(ValidationError, match="overlaps"):
        train(settings(system=LONG, split=str(tmp_path / "bad.json")), tmp_path / "r", home=home)


def test_same_data_twice_is_refused(home: Path, tmp_path: Path) -> None:
    for folder, ending in (("store", ".zarr"), ("splits", "")):
        for name in (LONG, "villin"):
            here = home / folder / f"{LONG}{ending}"
            shutil.copytree(here, tmp_path / folder / f"{name}{ending}")
    with pytest.raises(ValidationError, match="same data"):
        open_material(settings(systems=[LONG, "villin"]), tmp_path)


def test_all_systems_that_are_missing_are_named_at_once(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError) as error:
        train(settings(systems=[SHORT, "bba", "villin"]), out, home=home)
    assert "of 3 systems 2 cannot be trained" in error.value.message
    assert all(f"{key}: no store here" in error.value.message for key in ("bba", "villin"))
    assert all(f"cgbench preprocess {key}" in (error.value.fix or "") for key in ("bba", "villin"))
    assert not out.exists()
