"""Radial functions and activations beside the reference's: derivatives, files, engines."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cgbench.errors import UsageError, ValidationError
from cgbench.models import (
    FusedPotential,
    GraphNetwork,
    GraphNetworkSettings,
    NetworkPotential,
    PotentialSpec,
    from_torchmdnet,
    load_model,
    save_model,
)
from cgbench.models.activations import ACTIVATIONS
from cgbench.models.radial import GaussianBasis
from cgbench.simulation.engines import choose_engine as simulation_engine
from cgbench.train.engine import choose_engine as training_engine

VARIANTS = [
    ("expnorm", "silu"),
    ("expnorm", "ssp"),
    ("gauss", "tanh"),
    ("gauss", "sigmoid"),
]
TYPES = torch.tensor([1, 2, 3, 4, 5, 6, 7])


def network(rbf_type: str, activation: str) -> GraphNetwork:
    torch.manual_seed(5)
    settings = GraphNetworkSettings.model_validate(
        {
            "embedding_dimension": 8,
            "num_filters": 6,
            "num_layers": 2,
            "num_rbf": 7,
            "max_bead_type": 23,
            "rbf_type": rbf_type,
            "activation": activation,
        }
    )
    return GraphNetwork(settings)


def positions(n_frames: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(1)
    steps = torch.randn(n_frames, len(TYPES), 3, generator=random, dtype=torch.float64)
    return 3.8 * torch.cumsum(nn.functional.normalize(steps, dim=-1), 1)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_slopes_of_activations(name: str) -> None:
    activation = ACTIVATIONS[name]
    x = torch.linspace(-6.0, 6.0, 41, dtype=torch.float64, requires_grad=True)
    y = activation.value(x)
    (expected,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(activation.slope(x, y), expected, rtol=1e-12, atol=1e-14)


def test_gaussian_functions_are_those_of_the_formula() -> None:
    basis = GaussianBasis(5, 3.0, 12.0, trainable=True).double()
    r = torch.tensor([3.5, 7.5, 11.0], dtype=torch.float64)
    spacing = 9.0 / 4
    expected = torch.stack(
        [torch.exp(-((r - (3.0 + k * spacing)) ** 2) / (2 * spacing**2)) for k in range(5)], dim=1
    )
    torch.testing.assert_close(basis(r)[0], expected, rtol=1e-6, atol=1e-8)
    slope = torch.autograd.functional.jacobian(lambda x: basis(x)[0].sum(0), r)
    torch.testing.assert_close(basis(r)[1].T, slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("rbf_type", "activation"), VARIANTS)
def test_forces_are_the_gradient_of_the_energy(rbf_type: str, activation: str) -> None:
    model = network(rbf_type, activation).double()
    pos = positions().requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy_chains(TYPES, pos).sum(), pos)
    _, forces = model.energy_forces_chains(TYPES, pos)
    torch.testing.assert_close(forces, -gradient, rtol=1e-9, atol=1e-11)
    # The gradient of a loss on forces is that of the double backward pass.
    (first,) = torch.autograd.grad(model.energy_chains(TYPES, pos).sum(), pos, create_graph=True)
    weight = model.interactions[0].filter.hidden.weight
    (expected,) = torch.autograd.grad(first.square().sum(), weight)
    (found,) = torch.autograd.grad(forces.square().sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("rbf_type", "activation"), VARIANTS)
def test_tables_and_files(rbf_type: str, activation: str, tmp_path: Path) -> None:
    potential = NetworkPotential(network(rbf_type, activation), None, PotentialSpec(name="variant"))
    save_model(tmp_path / "model.pt", potential)
    loaded = load_model(tmp_path / "model.pt")
    pos = positions().float()
    found = loaded.chains(TYPES, pos)
    exact = NetworkPotential(potential.network, None, potential.spec, tabulate=False)
    torch.testing.assert_close(found.forces, exact.chains(TYPES, pos).forces, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("rbf_type", "activation"), VARIANTS)
def test_engines_say_why_they_fall_back(rbf_type: str, activation: str) -> None:
    model = network(rbf_type, activation)
    potential = NetworkPotential(model, None, PotentialSpec(name="variant"))
    device = torch.device("cpu")
    trained = training_engine(model, device)
    simulated = simulation_engine(potential, TYPES, torch.float32)
    if activation == "tanh":
        assert (trained.name, simulated.name) == ("fused", "fused")
        fused = FusedPotential(potential, TYPES).chains(TYPES, positions().float())
        expected = potential.chains(TYPES, positions().float())
        torch.testing.assert_close(fused.forces, expected.forces, rtol=2e-4, atol=2e-5)
        return
    assert (trained.name, simulated.name) == ("torch", "torch")
    assert activation in trained.reason
    assert activation in simulated.reason
    with pytest.raises(UsageError, match="does not fit"):
        training_engine(model, device, "fused")
    with pytest.raises(ValidationError, match=activation):
        FusedPotential(potential, TYPES)


def test_weights_of_torchmdnet_with_gaussians() -> None:
    model = network("gauss", "silu")
    parts = {
        "filter.hidden": "mlp.0",
        "filter.output": "mlp.2",
        "send": "conv.lin1",
        "receive": "conv.lin2",
        "update": "lin",
    }
    theirs = {}
    for name, weight in model.state_dict().items():
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            part, _, kind = part.rpartition(".")
            theirs[f"representation_model.interactions.{layer}.{parts[part]}.{kind}"] = weight
        elif name.startswith("readout"):
            number = 0 if "hidden" in name else 2
            kind = name.rpartition(".")[2]
            theirs[f"output_model.output_network.layers.{number}.{kind}"] = weight
    theirs |= {
        "representation_model.embedding.weight": model.embedding.weight.detach(),
        "representation_model.distance_expansion.offset": model.radial.centres.detach(),
        "representation_model.distance_expansion.coeff": model.radial.exponent.detach(),
    }
    read = from_torchmdnet(theirs, model.settings)
    assert all(torch.equal(read.state_dict()[k], v) for k, v in model.state_dict().items())
