"""TorchMD-Net checkpoints: graph networks as our own, others by the package, errors that help."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from toy_adapters import BEADS, GOLDEN, SETTINGS, save_checkpoint, their_weights
from toy_networks import SMALL, small_network, small_prior

from cgbench import registry
from cgbench.adapters import AdaptedPotential, AdapterChoice, load, load_adapted
from cgbench.adapters.capped import CappedGraphNetwork
from cgbench.errors import UsageError, ValidationError
from cgbench.models import (
    GraphNetwork,
    GraphNetworkSettings,
    NetworkPotential,
    PotentialSpec,
    check_potential,
    from_torchmdnet,
)
from cgbench.testing.strategies import random_chains

POS = torch.tensor(random_chains(3, len(BEADS), 5), dtype=torch.float32)
ONE = torch.zeros_like(BEADS)
SAMPLE = {"chignolin-sample": (BEADS, POS)}


def chains_of_peer() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The made-up chains that TorchMD-Net was asked about."""
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "peers"))
    try:
        import adapters_torchmdnet as peer
    finally:
        sys.path.pop()
    types, positions, systems = peer.chains(peer.SEED + 1)
    return torch.tensor(types), torch.tensor(positions), torch.tensor(systems)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "cln" / "model.ckpt")


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_checkpoint_of_torchmdnet_gives_its_energies_and_forces(
    precision: str, bound: float
) -> None:
    with np.load(GOLDEN / "results.npz") as arrays:
        expected = dict(arrays)
    types, positions, systems = chains_of_peer()
    potential = load("torchmdnet", GOLDEN / "graph-network.ckpt")
    assert isinstance(potential, NetworkPotential)
    dtype = getattr(torch, precision)
    energy, forces = potential.to(dtype)(types, positions.to(dtype), systems)
    for found, name in ((energy, "energies"), (forces, "forces")):
        values = expected[f"graph-network/{precision}/{name}"]
        assert np.sqrt(np.mean(values**2)) > 0.1
        np.testing.assert_allclose(found.numpy(), values, rtol=bound, atol=bound)


def test_it_needs_no_trust_and_runs_nothing_foreign(checkpoint: Path) -> None:
    before = set(sys.modules)
    adapted = load_adapted(AdapterChoice("torchmdnet"), checkpoint, trust=False, name=None)
    assert not {name for name in set(sys.modules) - before if name.startswith("torchmdnet")}
    identity = adapted.identity
    assert (identity.name, identity.origin, identity.foreign_code) == (
        "torchmdnet", "built-in", False,
    )  # fmt: skip
    assert identity.runs == ()
    assert any("max_num_neighbors 32" in note for note in identity.notes)
    spec = adapted.potential.spec
    assert (spec.name, spec.cutoff) == ("cln/model", 12.0)
    assert spec.n_parameters == small_network().n_parameters
    report = check_potential(adapted.potential, SAMPLE)
    assert report.passed, report.failed


def test_the_prior_of_the_reference_work_goes_with_it(checkpoint: Path, tmp_path: Path) -> None:
    prior = tmp_path / "prior.json"
    prior.write_text(small_prior().model_dump_json())
    potential = load("torchmdnet", checkpoint, {"prior": str(prior)})
    expected = NetworkPotential(
        small_network().float(), small_prior(), PotentialSpec(name="x")
    ).chains(BEADS, POS)
    assert isinstance(potential, NetworkPotential)
    found = potential.chains(BEADS, POS)
    torch.testing.assert_close(found, expected)
    assert found.prior_energy.abs().max() > 1.0


@pytest.mark.data
def test_the_published_force_field_as_a_prior(checkpoint: Path, published_dir: Path) -> None:
    file = published_dir / "prior_force_field.yaml"
    potential = load("torchmdnet", checkpoint, {"prior": str(file)})
    types = torch.tensor(registry.system("chignolin").bead_types)
    assert isinstance(potential, NetworkPotential)
    assert float(potential.chains(types, POS).prior_energy.min()) > 0.0


def test_settings_of_the_published_training(checkpoint: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.ckpt"
    torch.save(their_weights(), bare)
    settings = tmp_path / "train.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS))
    found = load("torchmdnet", bare, {"settings": str(settings)})
    expected = load("torchmdnet", checkpoint)
    torch.testing.assert_close(found(BEADS, POS[0], ONE), expected(BEADS, POS[0], ONE))
    settings.write_text(yaml.safe_dump({"cutoff_upper": 9.0}))
    with pytest.raises(ValidationError, match="another cutoff_upper") as raised:
        load("torchmdnet", checkpoint, {"settings": str(settings)})
    assert (raised.value.expected, raised.value.found) == (12.0, 9.0)


def test_the_spread_of_the_data_is_kept_and_a_constant_is_not_silently_lost(
    tmp_path: Path,
) -> None:
    scaled = their_weights() | {"model.std": torch.tensor(2.5)}
    plain = load("torchmdnet", save_checkpoint(tmp_path / "a.ckpt"))
    found = load("torchmdnet", save_checkpoint(tmp_path / "b.ckpt", weights=scaled))
    torch.testing.assert_close(
        found(BEADS, POS[0], ONE)[1], 2.5 * plain(BEADS, POS[0], ONE)[1], rtol=1e-5, atol=1e-5
    )
    shifted = their_weights() | {"model.mean": torch.tensor(-3.0)}
    path = save_checkpoint(tmp_path / "c.ckpt", weights=shifted)
    with pytest.raises(ValidationError, match="constant energy") as raised:
        load("torchmdnet", path)
    assert "drop_constant=true" in str(raised.value.fix)
    adapted = load_adapted(
        AdapterChoice("torchmdnet", {"drop_constant": "true"}), path, trust=False, name=None
    )
    torch.testing.assert_close(adapted.potential(BEADS, POS[0], ONE), plain(BEADS, POS[0], ONE))
    assert any("constant energy" in note for note in adapted.identity.notes)


FOREIGN: list[dict[str, Any]] = [
    {"neighbor_embedding": True},
    {"activation": "no-such-function"},
    {"aggr": "mean"},
    {"reduce_op": "mean"},
    {"prior_model": "Atomref"},
    {"output_model": "DipoleMoment"},
]


@pytest.mark.parametrize("settings", FOREIGN, ids=lambda one: next(iter(one)))
def test_what_our_network_is_not_is_not_run_without_trust(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt", settings)
    before = set(sys.modules)
    with pytest.raises(UsageError, match="opening it would run the package torchmd-net") as raised:
        load("torchmdnet", path)
    assert str(next(iter(settings.values()))) in raised.value.what or "prior" in raised.value.what
    assert "--trust" in str(raised.value.fix)
    assert not {name for name in set(sys.modules) - before if name.startswith("torchmdnet")}


def test_another_architecture_is_refused_or_needs_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = GOLDEN / "equivariant-transformer.ckpt"
    with pytest.raises(UsageError, match="model equivariant-transformer"):
        load("torchmdnet", path)

    def missing(name: str) -> str:
        raise __import__("importlib.metadata").metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(UsageError, match="is not installed here") as raised:
        load("torchmdnet", path, trust=True)
    assert "cgbench[adapters]" in str(raised.value.fix)


@pytest.mark.parametrize(
    ("settings", "weights", "message"),
    [
        ({"model": "tensornet"}, {}, "weights of another architecture"),
        ({"num_layers": 3}, {}, "lack 'representation_model.interactions.2"),
        ({"num_layers": 1}, {}, "that this network does not have"),
        ({"num_rbf": 7}, {}, "another shape than the settings"),
        ({"max_z": 100}, {}, "another shape than the settings"),
        ({"embedding_dimension": 8}, {}, "another shape than the settings"),
        ({"cutoff_upper": 2.0}, {}, "cutoff_lower must be below"),
        ({"num_rbf": "many"}, {}, "hyper-parameters: not a valid"),
        ({"box_vecs": [[30, 0, 0], [0, 30, 0], [0, 0, 30]]}, {}, "more than bead types"),
        ({"charge": True}, {}, "more than bead types"),
        (
            {},
            {"model.representation_model.interactions.0.conv.net.0.bias": torch.ones(10)},
            "stored twice",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(
    tmp_path: Path, settings: dict[str, Any], weights: dict[str, Any], message: str
) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt", settings, their_weights() | weights)
    with pytest.raises(ValidationError) as raised:
        load("torchmdnet", path)
    assert message in raised.value.message
    assert "a.ckpt" in raised.value.message or "GraphNetworkSettings" in raised.value.message


def test_a_missing_hyper_parameter_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(
        tmp_path / "a.ckpt",
        hyper_parameters={key: value for key, value in SETTINGS.items() if key != "num_rbf"},
    )
    with pytest.raises(ValidationError, match="num_rbf: Field required"):
        load("torchmdnet", path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cap": "3"}, "no such option"),
        ({"max_num_neighbors": "0"}, "not a number"),
        ({"max_num_neighbors": "many"}, "not a number"),
        ({"drop_constant": "yes"}, "drop_constant=yes"),
        ({"prior": "none.yaml"}, "no such file"),
    ],
)
def test_wrong_options(checkpoint: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load("torchmdnet", checkpoint, options)


def slow_capped_energy(cap: int, chain: np.ndarray) -> float:
    """The capped energy bead by bead, in double precision."""
    network = small_network()
    w = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    low, high = SMALL.cutoff_lower, SMALL.cutoff_upper
    x = np.stack([w["embedding.weight"][kind] for kind in BEADS.tolist()])
    heard = []
    for i in range(len(chain)):
        listed = [j for j in range(len(chain)) if np.linalg.norm(chain[i] - chain[j]) < high]
        heard.append([j for j in listed[: cap + 1] if j != i])
    for layer in range(SMALL.num_layers):
        part = f"layers.{layer}."
        new = x.copy()
        for i, neighbours in enumerate(heard):
            total = np.zeros(SMALL.num_filters)
            for j in neighbours:
                r = float(np.linalg.norm(chain[i] - chain[j]))
                decay = np.exp(5.0 / (high - low) * (low - r)) - w["radial.centres"]
                basis = 0.5 * (np.cos(np.pi * r / high) + 1)
                basis = basis * np.exp(-w["radial.widths"] * decay**2)
                hidden = w[f"{part}filter.hidden.weight"] @ basis + w[f"{part}filter.hidden.bias"]
                value = w[f"{part}filter.output.weight"] @ np.tanh(hidden)
                value = value + w[f"{part}filter.output.bias"]
                if r <= low:
                    continue
                envelope = 0.5 * (np.cos(np.pi * (2 * (r - low) / (high - low) + 1)) + 1)
                total += envelope * value * (w[f"{part}send.weight"] @ x[j])
            active = np.tanh(w[f"{part}receive.weight"] @ total + w[f"{part}receive.bias"])
            new[i] = x[i] + w[f"{part}update.weight"] @ active + w[f"{part}update.bias"]
        x = new
    hidden = np.tanh(x @ w["readout_hidden.weight"].T + w["readout_hidden.bias"])
    return float((hidden @ w["readout_energy.weight"].T + w["readout_energy.bias"]).sum())


@pytest.mark.parametrize("cap", [1, 3, 5, 8, 9])
def test_the_cap_on_neighbours(cap: int) -> None:
    network = small_network()
    capped = CappedGraphNetwork(network, cap)
    chains = POS.double()
    batch = torch.arange(len(chains)).repeat_interleave(len(BEADS))
    energy, forces = capped(BEADS.repeat(len(chains)), chains.reshape(-1, 3), batch)
    for found, chain in zip(energy, chains, strict=True):
        assert float(found) == pytest.approx(slow_capped_energy(cap, chain.numpy()), rel=1e-10)
    if cap == len(BEADS) - 1:
        expected = network.energy_forces_chains(BEADS, chains)
        torch.testing.assert_close(energy, expected[0].detach())
        torch.testing.assert_close(forces, expected[1].detach().reshape(-1, 3))


@pytest.mark.parametrize("other", [{"activation": "silu"}, {"rbf_type": "gauss"}])
def test_the_cap_with_other_functions(other: dict[str, str]) -> None:
    settings = GraphNetworkSettings(**(SMALL.model_dump() | other))
    network = GraphNetwork(settings).double()
    expected = network.energy_forces_chains(BEADS, POS[:1].double())
    energy, forces = CappedGraphNetwork(network, 9)(BEADS, POS[0].double(), ONE)
    torch.testing.assert_close(energy, expected[0].detach())
    torch.testing.assert_close(forces, expected[1].detach()[0])


def test_a_cap_is_offered_and_recorded(checkpoint: Path) -> None:
    choice = AdapterChoice("torchmdnet", {"max_num_neighbors": "2"})
    adapted = load_adapted(choice, checkpoint, trust=False, name="capped")
    assert isinstance(adapted.potential, AdaptedPotential)
    assert adapted.identity.options == {"max_num_neighbors": "2"}
    assert any("max_num_neighbors 2 as asked for" in note for note in adapted.identity.notes)
    everyone = load("torchmdnet", checkpoint)
    differing = adapted.potential(BEADS, POS[0], ONE)[0] - everyone(BEADS, POS[0], ONE)[0]
    assert abs(float(differing)) > 1e-3
    # With room for all it is the network itself, and it keeps the contract.
    choice = AdapterChoice("torchmdnet", {"max_num_neighbors": "32"})
    roomy = load_adapted(choice, checkpoint, trust=False, name=None).potential
    torch.testing.assert_close(
        roomy(BEADS, POS[0], ONE), everyone(BEADS, POS[0], ONE), rtol=1e-5, atol=1e-5
    )
    report = check_potential(roomy, SAMPLE)
    assert report.passed, report.failed


def test_another_vocabulary(checkpoint: Path, tmp_path: Path) -> None:
    beads = registry.bead_vocabulary().beads
    shifted = {bead.residues[0]: (bead.type + 3) % 23 for bead in beads}
    file = tmp_path / "vocabulary.yaml"
    file.write_text(yaml.safe_dump(shifted))
    potential = load("torchmdnet", checkpoint, {"vocabulary": str(file)})
    expected = load("torchmdnet", checkpoint)((BEADS + 3) % 23, POS[0], ONE)
    torch.testing.assert_close(potential(BEADS, POS[0], ONE), expected)
    del shifted["TYR"]
    file.write_text(yaml.safe_dump(shifted))
    potential = load("torchmdnet", checkpoint, {"vocabulary": str(file)})
    with pytest.raises(ValidationError, match="beads that its vocabulary does not have") as raised:
        potential(BEADS, POS[0], ONE)
    assert raised.value.found == "TYR"
    report = check_potential(potential, SAMPLE)
    assert [check.name for check in report.failed] == ["interface"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("XYZ: 1", "unknown residue 'XYZ'"),
        ("ALA: one", "has no number"),
        ("ALA: -1", "has no number"),
        ("HIS: 1\nHSE: 2", "two numbers for one residue"),
        ("- ALA", "not a vocabulary"),
    ],
)
def test_vocabularies_that_are_none(
    checkpoint: Path, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "v.yaml").write_text(content)
    with pytest.raises(ValidationError, match=message):
        load("torchmdnet", checkpoint, {"vocabulary": str(tmp_path / "v.yaml")})


def test_beads_above_the_embedding(checkpoint: Path, tmp_path: Path) -> None:
    potential = load("torchmdnet", checkpoint)
    with pytest.raises(ValidationError, match="does not have"):
        potential(BEADS + 20, POS[0], ONE)
    capped = load("torchmdnet", checkpoint, {"max_num_neighbors": "4"})
    with pytest.raises(ValidationError, match="bead types that the model does not have") as raised:
        capped(BEADS + 20, POS[0], ONE)
    assert raised.value.expected == "0 to 22"


def test_filters_of_another_width_are_seen_in_the_weights() -> None:
    settings = GraphNetworkSettings(**(SMALL.model_dump() | {"num_filters": 5}))
    network = small_network(settings=settings).float()
    again = from_torchmdnet(
        {key.removeprefix("model."): w for key, w in their_weights(network).items()}, settings
    )
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
