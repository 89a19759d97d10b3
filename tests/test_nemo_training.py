"""Training of NEMO: resuming, divergence, the files it leaves, and what it refuses."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cgbench.cli.main import app
from cgbench.errors import IntegrityError, SimulationError, UsageError, ValidationError
from cgbench.nemo.model import Nemo
from cgbench.samplers import load_sampler
from cgbench.splits import read_split, write_split
from cgbench.store import find_split
from cgbench.train import nemo as training
from cgbench.train import read_config, train, train_sampler
from cgbench.train.nemo_config import NemoConfig
from cgbench.train.nemo_losses import LOCAL, loss_parts

ROOT = Path(__file__).parent.parent
#: As small as training can be; nothing is learned.
TINY: dict[str, Any] = {
    "name": "nemo/tiny",
    "system": "chignolin-sample",
    "maximum_frames": 400,
    "network": {
        "width": 8,
        "n_blocks": 1,
        "energy": {"hidden": 8, "n_features": 4},
        "simulator": {"n_steps": 4, "largest_drift": 1.0},
    },
    "optimiser": {
        "steps": 4,
        "chains": 4,
        "frames": 8,
        "segment": 2,
        "validate_every": 2,
        "validation_samples": 8,
    },
    "threads": 1,
}


def tiny(**changes: dict[str, Any]) -> NemoConfig:
    data = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value}
    return NemoConfig.model_validate(data)


class KilledError(Exception):
    """Stands for a process that is gone."""


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny()
    whole = train_sampler(settings, tmp_path / "whole")
    assert whole.steps == 4
    assert set(whole.terms) == set(whole.floor)
    assert whole.validation_loss is not None
    assert math.isfinite(whole.validation_loss)

    def dies(model: Any, data: Any, config: Any, step: int) -> Any:
        if step == 4:
            raise KilledError
        return loss_parts(model, data, config, step)

    out = tmp_path / "parts"
    monkeypatch.setattr(training, "loss_parts", dies)
    with pytest.raises(KilledError):
        train_sampler(settings, out)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="unfinished"):
        train_sampler(settings, out)
    shutil.copytree(out, tmp_path / "late")
    late = tiny(optimiser={"maximum_minutes": 1e-9})
    assert train_sampler(late, tmp_path / "late", resume=True).steps == 2
    resumed = train_sampler(settings, out, resume=True)
    volatile = {"seconds"}
    assert resumed.model_dump(exclude=volatile) == whole.model_dump(exclude=volatile)
    one, other = (load_sampler(folder / "sampler.pt") for folder in (tmp_path / "whole", out))
    for name, weight in one.network.state_dict().items():
        torch.testing.assert_close(weight, other.network.state_dict()[name], rtol=0, atol=0)
    with (out / "logs" / "metrics.csv").open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["distances"]]
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    # Finished, it is returned as it is; another configuration is refused.
    assert train_sampler(settings, out).seconds == resumed.seconds
    with pytest.raises(UsageError, match="another configuration"):
        train_sampler(tiny(optimiser={"learning_rate": 0.5}), out, resume=True)
    spec = one.spec
    assert (spec.n_steps, spec.seeds, spec.temperature) == (4, (1,), 350.0)
    drawn = one.sample("chignolin-sample", 5, temperature=None, seed=3)
    again = one.sample("chignolin-sample", 5, temperature=None, seed=3)
    np.testing.assert_array_equal(drawn.trajectories[0], again.trajectories[0])
    assert drawn.frame_interval is None
    # A damaged checkpoint is told, not executed.
    (out / "training.json").unlink()
    (out / "logs" / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(IntegrityError, match="checkpoint cannot be read"):
        train_sampler(settings, out, resume=True)


def test_a_run_that_diverges_says_where_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(model: Any, data: Any, config: Any, step: int) -> Any:
        if step == 3:
            with torch.no_grad():
                model.energy.separation.fill_(math.nan)
        return loss_parts(model, data, config, step)

    out = tmp_path / "run"
    monkeypatch.setattr(training, "loss_parts", breaks)
    with pytest.raises(SimulationError, match=r"training step 3: .* in step 1 of 4") as caught:
        train_sampler(tiny(), out)
    assert caught.value.exit_code == 5
    assert "last-good.pt" in str(caught.value.found)
    kept = load_sampler(out / "last-good.pt")
    assert "before step 3" in kept.spec.description
    assert all(bool(torch.isfinite(one).all()) for one in kept.network.state_dict().values())
    assert not (out / "sampler.pt").exists()


def test_a_validation_without_a_finite_sample_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Nemo, sequence: str, n: int, **options: Any) -> torch.Tensor:
        return torch.full((n, len(sequence), 3), math.nan)

    monkeypatch.setattr(Nemo, "draw", lost)
    with pytest.raises(SimulationError, match=r"0 of 8 samples of chignolin-sample .*step 2"):
        train_sampler(tiny(), tmp_path)
    assert (tmp_path / "last-good.pt").is_file()


def test_without_a_validation_part_the_record_says_so(tmp_path: Path) -> None:
    """Nothing is validated on what was trained on, and no number stands for none."""
    split = read_split(find_split("chignolin-sample", "block-v1"))
    both = {"train": tuple(sorted(split.parts["train"] + split.parts["val"])), "val": ()}
    changed = split.model_copy(
        update={"id": "unvalidated", "parts": split.parts | both, "trajectories": None}
    )
    write_split(tmp_path / "splits" / "chignolin-sample" / "unvalidated.json", changed)
    settings = tiny().model_copy(update={"split": "unvalidated"})
    outcome = train_sampler(settings, tmp_path / "run", home=tmp_path)
    assert (outcome.validation_loss, outcome.best_step) == (None, 4)
    assert (outcome.terms, outcome.floor, outcome.systems) == ({}, {}, {})
    assert outcome.unvalidated == ("chignolin-sample",)
    assert "no validation part" in str(outcome.validation_reason)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["validation_loss"] is None
    with (tmp_path / "run" / "logs" / "metrics.csv").open(newline="") as handle:
        assert not any("validation" in name for name in next(csv.reader(handle)))
    assert train_sampler(settings, tmp_path / "run", home=tmp_path) == outcome


@pytest.mark.parametrize("name", ["contacts", "likelihood"])
def test_the_term_that_is_to_blame_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: Any, data: Any, config: Any, step: int) -> Any:
        parts = loss_parts(model, data, config, step)
        # A finite value whose gradient is none: of a square root at zero.
        weight = model.sequence.step.bias.sum()
        parts.terms[name] = parts.terms[name] + (weight * 0.0).clamp(min=0.0).sqrt() * 0.0
        return parts

    monkeypatch.setattr(training, "loss_parts", spoilt)
    with pytest.raises(SimulationError, match=f"training step 1: the gradient of the term {name}"):
        train_sampler(tiny(), tmp_path)


def test_the_loss_has_all_its_parts_and_only_some_pass_through_the_simulation(
    tmp_path: Path,
) -> None:
    from cgbench.train.material import open_material
    from cgbench.train.nemo_data import read_chains

    settings = tiny()
    (data,) = read_chains(settings, open_material(settings.as_training()))
    assert data.weights.sum() == pytest.approx(1.0)
    torch.manual_seed(1)
    model = Nemo(settings.network.at(300.0))
    parts = loss_parts(model, data, settings, 1)
    unrolled = {
        "distances", "angles", "contacts", "secondary", "tm_score", "initial", "trajectory"
    }  # fmt: skip
    assert set(parts.terms) == unrolled | LOCAL
    # The start is learned by what passes through the simulation alone.
    mean = model.sequence.dihedral.weight
    for name, term in parts.terms.items():
        (gradient,) = torch.autograd.grad(term, mean, retain_graph=True)
        of_the_mean = gradient[:2].abs().max()
        assert (float(of_the_mean) > 0.0) == (name in unrolled), name
    assert loss_parts(model, data, settings, 1).raw == parts.raw
    assert loss_parts(model, data, settings, 2).raw != parts.raw


def test_configurations_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for changes, told in (
        ({"loss": {"likelihood": 0.0}}, "likelihood"),
        ({"network": {"kernel": 4}}, "odd"),
        ({"network": {"features": "profile"}}, "profiles"),
        ({"secondary": {"bba": "HHH"}}, "not among the systems"),
        ({"optimiser": {"segment": 4}}, "no state on the way"),
    ):
        with pytest.raises((ValueError, ValidationError), match=told):
            tiny(**changes).network.at(None)
    with pytest.raises(ValidationError, match="another length"):
        train_sampler(tiny(secondary={"chignolin-sample": "HHH"}), tmp_path / "a")
    with pytest.raises(UsageError, match="sampler, no potential"):
        train(tiny(), tmp_path / "b")
    with pytest.raises(UsageError, match="potential, no sampler"):
        train_sampler(
            read_config(ROOT / "baselines/go-model/chignolin-sample/config.yaml"), tmp_path / "c"
        )


def test_the_shipped_configurations_are_valid_and_long_enough() -> None:
    found = sorted((ROOT / "baselines" / "nemo").glob("*/config.yaml"))
    assert found
    for path in found:
        settings = read_config(path)
        assert settings.kind == "nemo"
        assert settings.network.simulator.n_steps >= 50


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({**tiny().model_dump(mode="json"), "kind": "nemo"}))
    run = [
        "train", str(path), "--out", str(tmp_path / "run"), "--set", "optimiser.steps=1",
        "--set", "network.simulator.integrator=direct", "--json",
    ]  # fmt: skip
    found = CliRunner().invoke(app, run)
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["model"] == str(tmp_path / "run" / "sampler.pt")
    assert told["steps"] == 1
    plain = CliRunner().invoke(app, run[:-1])
    assert plain.exit_code == 0
    refused = CliRunner().invoke(app, [*run, "--seeds", "2"])
    assert isinstance(refused.exception, UsageError)


def test_single_structures_train_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from cgbench.splits.cath_structures import Structure
    from cgbench.train import nemo_material

    def domain(name: str, n: int, gap: int | None) -> Structure:
        generator = np.random.default_rng(n)
        x = np.cumsum(generator.normal(size=(n, 3)), axis=0)
        x = np.cumsum(3.8 * x / np.linalg.norm(x, axis=1, keepdims=True), axis=0)
        intact = np.ones(n - 1, dtype=bool)
        if gap is not None:
            intact[gap] = False
        return Structure(name, "ACDEFGHIKLMNPQRSTVWY"[:n], x.astype(np.float32), intact)

    domains = {
        "1aaaA00": domain("1aaaA00", 20, None),
        "1bbbA00": domain("1bbbA00", 20, 1),
        "1cccA00": domain("1cccA00", 20, 9),
        "1dddA00": domain("1dddA00", 18, None),
    }
    parts = {"train": ("1aaaA00", "1bbbA00", "1cccA00"), "val": ("1dddA00",)}
    split = SimpleNamespace(parts=parts, fingerprint="sha256:" + "0" * 64)
    monkeypatch.setattr(nemo_material, "open_structures", lambda folder: (split, domains))
    data = {key: value for key, value in tiny().model_dump(mode="json").items() if key != "system"}
    data |= {"systems": [], "structures": str(tmp_path / "cath"), "loss": {"diversity": 0.0}}
    settings = NemoConfig.model_validate(data)
    found = nemo_material.read_material(settings)
    # The third one has no stretch of 16 residues; the second one begins after its gap.
    assert [chain.sequence for chain in found.chains] == [
        "ACDEFGHIKLMNPQRSTVWY",
        "DEFGHIKLMNPQRSTVWY",
    ]
    outcome = train_sampler(settings, tmp_path / "run")
    assert set(outcome.systems) == {"1dddA00"}
    spec = load_sampler(tmp_path / "run" / "sampler.pt").spec
    assert spec.structures is not None
    assert (spec.structures.n_domains, spec.temperature, spec.trained_on) == (2, None, ())
    with pytest.raises(ValueError, match="one of them"):
        NemoConfig.model_validate(data | {"systems": ["bba"]})
