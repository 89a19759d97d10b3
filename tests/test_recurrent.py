"""The recurrent baseline: its likelihood, its draws, and how it is trained, resumed and stopped."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import yaml
from scipy.special import i0e, i1e
from toy_samplers import SMALL, helix, toy_structures

from cgbench.errors import (
    CgbenchError,
    IntegrityError,
    SimulationError,
    UsageError,
    ValidationError,
)
from cgbench.nemo.internal import InternalCoordinates, to_internal
from cgbench.pipeline.sampler_cards import training_block
from cgbench.samplers import load_sampler
from cgbench.samplers.recurrent import (
    RecurrentNetwork,
    RecurrentSettings,
    von_mises_deviations,
)
from cgbench.splits import read_split, write_split
from cgbench.splits.cath_structures import open_structures
from cgbench.store import find_split
from cgbench.train import read_config
from cgbench.train import recurrent as module
from cgbench.train.recurrent import RecurrentConfig, train_recurrent
from cgbench.train.sampler_records import SamplerOutcome, no_validation

SEQUENCE = "YYDPETGT"
SAMPLE = "chignolin-sample-v2"


def network(**settings: Any) -> RecurrentNetwork:
    torch.manual_seed(2)
    return RecurrentNetwork(RecurrentSettings(**(SMALL.model_dump() | settings))).double().eval()


def features_of(net: RecurrentNetwork) -> torch.Tensor:
    return torch.from_numpy(net.features(SEQUENCE, None)).double()


def structures(n: int) -> InternalCoordinates:
    rng = np.random.default_rng(3)
    frames = helix(len(SEQUENCE))[None] + rng.normal(0, 0.3, (n, len(SEQUENCE), 3))
    return to_internal(torch.from_numpy(frames))


@torch.no_grad()
def test_the_likelihood_is_that_of_the_distributions_it_names() -> None:
    """Against loops over components, residues and modes with scipy's densities."""
    net, z = network(components=3, modes=2), structures(4)
    given = net.distribution(features_of(net))
    found = net.log_likelihood(features_of(net), z).numpy()
    part = {name: value.numpy() for name, value in given._asdict().items()}
    for row in range(4):
        components = []
        for k in range(3):
            total = part["components"][k]
            for i in range(1, len(SEQUENCE)):
                modes = []
                for m in range(2):
                    at = (k, i, m)
                    value = part["modes"][at] + scipy.stats.norm.logpdf(
                        float(z.lengths[row, i - 1]), part["bond"][at], part["bond_width"][at]
                    )
                    if i >= 2:
                        value += scipy.stats.vonmises.logpdf(
                            float(z.angles[row, i - 2]) - part["angle"][at],
                            part["angle_concentration"][at],
                        )
                    if i >= 3:
                        value += scipy.stats.vonmises.logpdf(
                            float(z.dihedrals[row, i - 3]) - part["dihedral"][at],
                            part["dihedral_concentration"][at],
                        )
                    modes.append(value)
                total += scipy.special.logsumexp(modes)
            components.append(total)
        assert found[row] == pytest.approx(scipy.special.logsumexp(components), rel=1e-9)


@torch.no_grad()
def test_a_gap_of_the_chain_has_no_likelihood() -> None:
    net, z = network(), structures(3)
    intact = torch.ones(len(SEQUENCE) - 1, dtype=torch.bool)
    everything = net.log_likelihood(features_of(net), z)
    assert torch.allclose(net.log_likelihood(features_of(net), z, intact), everything)
    intact[3] = False
    torn = InternalCoordinates(*(part.clone() for part in z))
    torn.lengths[:, 3] = 30.0
    torn.angles[:, 2:4] += 0.5
    torn.dihedrals[:, 1:4] += 2.0
    first = net.log_likelihood(features_of(net), z, intact)
    assert torch.allclose(net.log_likelihood(features_of(net), torn, intact), first)
    assert not torch.allclose(net.log_likelihood(features_of(net), torn), everything)


@pytest.mark.parametrize("concentration", [0.3, 2.0, 50.0, 1500.0])
def test_deviations_are_von_mises_distributed(concentration: float) -> None:
    generator = torch.Generator().manual_seed(7)
    kappa = torch.full((4000,), concentration, dtype=torch.float64)
    drawn = von_mises_deviations(kappa, generator).numpy()
    mean = i1e(concentration) / i0e(concentration)
    assert np.cos(drawn).mean() == pytest.approx(mean, abs=5 * math.sqrt((1 - mean) / 4000))
    assert scipy.stats.kstest(drawn, scipy.stats.vonmises(concentration).cdf).pvalue > 1e-3


@torch.no_grad()
def test_draws_follow_the_distribution() -> None:
    net = network(components=1, modes=1)
    given = net.distribution(features_of(net))
    generator = torch.Generator().manual_seed(1)
    drawn = net.draw(SEQUENCE, 4000, profile=None, temperature=None, generator=generator)
    z = to_internal(drawn.double())
    assert torch.allclose(z.lengths.mean(dim=0), given.bond[0, 1:, 0], atol=0.02)
    assert torch.allclose(z.lengths.std(dim=0), given.bond_width[0, 1:, 0], rtol=0.1)
    for values, mean in (
        (z.angles, given.angle[0, 2:, 0]),
        (z.dihedrals, given.dihedral[0, 3:, 0]),
    ):
        found = torch.atan2(values.sin().mean(dim=0), values.cos().mean(dim=0))
        assert float(torch.cos(found - mean).min()) > 0.98


def test_a_network_of_profiles_needs_one() -> None:
    net = network(features="profile")
    with pytest.raises(ValidationError, match="made for sequences with a profile"):
        net.features(SEQUENCE, None)
    assert net.features(SEQUENCE, np.full((8, 20), 0.05, dtype=np.float32)).shape == (8, 40)
    with pytest.raises(ValidationError, match="wrong features"):
        net.distribution(torch.zeros(8, 20).double())


def config(structures_at: Path | None = None, **changes: Any) -> RecurrentConfig:
    data: dict[str, Any] = {
        "name": "recurrent/toy",
        "network": SMALL.model_dump(),
        "optimiser": {"steps": 6, "chains": 3, "batch_size": 4, "validate_every": 2},
        "threads": 1,
    }
    if structures_at is not None:
        data["structures"] = structures_at
    else:
        data |= {"systems": [SAMPLE], "maximum_frames": 50}
    return RecurrentConfig.model_validate(data | changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_sampler(folder / "sampler.pt").network.state_dict()


def test_an_interrupted_run_gives_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    toy_structures(tmp_path / "structures")
    settings = config(tmp_path / "structures")
    whole = train_recurrent(settings, tmp_path / "whole")
    assert whole.steps == 6

    def interrupt(task: str, done: float, total: float) -> None:
        if task == "training" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recurrent(settings, tmp_path / "cut", progress=interrupt)
    assert not (tmp_path / "cut" / "sampler.pt").exists()
    with pytest.raises(UsageError, match="unfinished run"):
        train_recurrent(settings, tmp_path / "cut")
    resumed = train_recurrent(settings, tmp_path / "cut", resume=True)
    assert resumed.validation_loss == whole.validation_loss
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)
    # A finished run is returned as it is; another configuration is refused.
    assert train_recurrent(settings, tmp_path / "whole") == whole
    with pytest.raises(UsageError, match="another configuration"):
        train_recurrent(config(tmp_path / "structures", seed=2), tmp_path / "whole")


def test_a_sampler_of_structures_says_what_it_was_trained_on(tmp_path: Path) -> None:
    split = toy_structures(tmp_path / "structures")
    train_recurrent(config(tmp_path / "structures"), tmp_path / "run")
    spec = load_sampler(tmp_path / "run" / "sampler.pt").spec
    assert spec.structures is not None
    assert spec.structures.split_fingerprint == split.fingerprint
    assert spec.structures.n_domains == len(split.parts["train"])
    assert (spec.trained_on, spec.temperature, spec.seeds) == ((), None, (1,))
    assert spec.training_cost_s is not None


def test_training_learns_what_it_is_shown(tmp_path: Path) -> None:
    toy_structures(tmp_path / "structures")
    before = train_recurrent(
        config(tmp_path / "structures", optimiser={"steps": 1}), tmp_path / "short"
    )
    optimiser = {"steps": 150, "chains": 8, "learning_rate": 0.02, "validate_every": 50}
    network = {"width": 12, "components": 2, "modes": 1}
    settings = config(tmp_path / "structures", optimiser=optimiser, network=network)
    after = train_recurrent(settings, tmp_path / "long")
    assert after.validation_loss < before.validation_loss - 2.0
    sampler = load_sampler(tmp_path / "long" / "sampler.pt")
    _, structures_of = open_structures(tmp_path / "structures")
    drawn = sampler.structures(next(iter(structures_of)).sequence, 20, seed=1)
    angles = to_internal(torch.from_numpy(drawn)).angles
    assert float(angles.mean()) == pytest.approx(np.deg2rad(91.0), abs=0.1)


def test_a_run_that_diverges_stops_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_structures(tmp_path / "structures")
    original = module._Run._loss

    def diverging(self: Any, *arguments: Any) -> torch.Tensor:
        late = torch.is_grad_enabled() and self.place.step >= 4
        return original(self, *arguments) * (float("nan") if late else 1.0)

    monkeypatch.setattr(module._Run, "_loss", diverging)
    with pytest.raises(SimulationError, match=r"(?s)training step 5, on .*last-good") as error:
        train_recurrent(config(tmp_path / "structures"), tmp_path / "run")
    assert "learning_rate" in str(error.value)
    assert not (tmp_path / "run" / "sampler.pt").exists()
    kept = load_sampler(tmp_path / "run" / "last-good.pt")
    assert "diverged at step 5" in kept.spec.description
    assert np.isfinite(kept.structures(SEQUENCE, 3, seed=1)).all()


@pytest.mark.parametrize("damage", ["cut", "other", "nan"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    toy_structures(tmp_path / "structures")
    settings = config(tmp_path / "structures")
    train_recurrent(settings, tmp_path / "run")
    for name in ("sampler.pt", "training.json"):
        (tmp_path / "run" / name).unlink()
    path = tmp_path / "run" / "logs" / "last.pt"
    content = torch.load(path, weights_only=True)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "other":
        torch.save(content | {"fingerprint": "another"}, path)
    else:
        content["weights"]["chain.bias"] += float("nan")
        torch.save(content, path)
    with pytest.raises((IntegrityError, ValidationError), match="checkpoint"):
        train_recurrent(settings, tmp_path / "run", resume=True)


def test_frames_of_a_store_train_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    data = config().model_dump(mode="json")
    path.write_text(yaml.safe_dump({key: data[key] for key in ("name", "systems", "network",
                    "optimiser", "maximum_frames")} | {"kind": "recurrent"}))  # fmt: skip
    settings = read_config(path, ["optimiser.steps=2"])
    outcome = train_recurrent(settings, tmp_path / "run")
    assert set(outcome.systems) == {SAMPLE}
    spec = load_sampler(tmp_path / "run" / "sampler.pt").spec
    assert [(one.system, one.split_id, one.part) for one in spec.trained_on] == [
        (SAMPLE, "block-v1", "train")
    ]
    assert spec.temperature == 350.0


def test_without_a_validation_part_the_record_says_so(tmp_path: Path) -> None:
    """Nothing is validated on what was trained on, and no number stands for none."""
    split = read_split(find_split(SAMPLE, "block-v1"))
    both = {"train": tuple(sorted(split.parts["train"] + split.parts["val"])), "val": ()}
    changed = split.model_copy(
        update={"id": "unvalidated", "parts": split.parts | both, "trajectories": None}
    )
    write_split(tmp_path / "splits" / SAMPLE / "unvalidated.json", changed)
    settings = config(split="unvalidated")
    outcome = train_recurrent(settings, tmp_path / "run", home=tmp_path)
    assert (outcome.validation_loss, outcome.systems) == (None, {})
    assert outcome.validation_reason is not None
    assert SAMPLE in outcome.validation_reason
    assert (outcome.unvalidated, outcome.best_step) == ((SAMPLE,), outcome.steps)
    data = outcome.model_dump(mode="json")
    for wrong in ({"validation_loss": 0.0}, {"validation_reason": None}):
        with pytest.raises(ValueError, match="or the reason"):
            SamplerOutcome.model_validate(data | wrong)
    assert f"none: {outcome.validation_reason}" in card_of(tmp_path, settings, outcome)
    assert (
        outcome.model_dump()
        == train_recurrent(settings, tmp_path / "run", home=tmp_path).model_dump()
    )
    assert "domain" in no_validation(())


def card_of(folder: Path, settings: RecurrentConfig, outcome: SamplerOutcome) -> str:
    (folder / "results").mkdir()
    (folder / "results" / "training.json").write_text(outcome.model_dump_json())
    return training_block(settings, folder, "cgbench train", "a processor")


def test_a_validation_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = toy_structures(tmp_path / "structures")
    original = module._Run._loss
    lost = split.parts["val"][0]

    def wrong(self: Any, chain: Any, z: Any) -> torch.Tensor:
        return original(self, chain, z) * (float("inf") if chain.name == lost else 1.0)

    monkeypatch.setattr(module._Run, "_loss", wrong)
    with pytest.raises(SimulationError, match=f"step 2, on validation of {lost}"):
        train_recurrent(config(tmp_path / "structures"), tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"systems": []},
        {"structures": "somewhere"},
        {"left_out": SAMPLE},
        {"profiles": {"chignolin": "x.npy"}},
        {"profiles": {SAMPLE: "x.npy"}},
        {"network": {"features": "profile"}},
        {"network": {"width": 0}},
        {"unknown": 1},
    ],
)
def test_configurations_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        config(**changes)


def test_data_that_are_not_there(tmp_path: Path) -> None:
    for settings in (config(systems=["lambda"]), config(split="lopo-chignolin"),
                     config(tmp_path / "nothing")):  # fmt: skip
        with pytest.raises(CgbenchError):
            train_recurrent(settings, tmp_path / "run", home=tmp_path)
