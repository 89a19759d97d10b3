"""Gradients of force losses, and filters from a table instead of their networks."""

import numpy as np
import pytest
import torch
from toy_networks import SMALL, small_network, small_potential

from cgbench.errors import ValidationError
from cgbench.models import GraphNetwork, from_torchmdnet, keep_freed_memory
from cgbench.models.filters import accurate_table
from cgbench.testing.strategies import random_chains

TYPES = torch.arange(10) + 3


def frames(n: int, dtype: torch.dtype = torch.float64, n_beads: int = 10) -> torch.Tensor:
    return torch.tensor(random_chains(n, n_beads, 7), dtype=dtype)


def gradient_of_loss(network: GraphNetwork, forces: torch.Tensor) -> torch.Tensor:
    target = torch.linspace(-1, 1, forces.numel(), dtype=forces.dtype).reshape(forces.shape)
    network.zero_grad()
    (forces - target).square().mean().backward()
    # The energy's constant has no force.
    return torch.cat(
        [weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]
    )


def test_force_loss_has_the_gradient_of_a_double_backward_pass() -> None:
    network = small_network(1)
    pos = frames(4)
    found = gradient_of_loss(network, network.energy_forces_chains(TYPES, pos)[1])
    leaf = pos.clone().requires_grad_()
    energy = network.energy_chains(TYPES, leaf)
    (slope,) = torch.autograd.grad(energy.sum(), leaf, create_graph=True)
    expected = gradient_of_loss(network, -slope)
    assert found.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_beads", [10, 24])
def test_table_gives_forces_and_gradients(n_beads: int) -> None:
    network = small_network(1)
    pos, types = frames(6, n_beads=n_beads), torch.arange(n_beads) % 20
    energy, exact = network.energy_forces_chains(types, pos)
    exact_gradient = gradient_of_loss(network, exact)
    errors = []
    for n_intervals in (64, 128, 256):
        looked_up, forces = network.energy_forces_chains(types, pos, network.table(n_intervals))
        gradient = gradient_of_loss(network, forces)
        torch.testing.assert_close(looked_up, energy, rtol=1e-4, atol=1e-4)
        error = (gradient - exact_gradient).norm() / exact_gradient.norm()
        force_error = (forces - exact).detach().norm() / exact.detach().norm()
        errors.append(max(float(error), float(force_error)))
    # Slopes of cubics between exact knots: third order.
    assert errors[2] < 1e-4
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_forces_from_a_table_are_the_gradient_of_its_energy() -> None:
    network = small_network(1)
    table = network.table(40)
    pos = frames(1)
    with torch.no_grad():
        _, forces = network.energy_forces_chains(TYPES, pos, table)
        direction = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(pos.shape)))
        up, _ = network.energy_forces_chains(TYPES, pos + 1e-5 * direction, table)
        down, _ = network.energy_forces_chains(TYPES, pos - 1e-5 * direction, table)
    slope = float((up - down).sum() / 2e-5)
    assert abs(slope + float((forces * direction).sum())) < 1e-6 * abs(slope)


def test_single_precision_table_is_as_good_as_exact_filters() -> None:
    torch.manual_seed(5)
    network = GraphNetwork()
    pos, types = frames(8, torch.float32, 20), torch.arange(20)
    with torch.no_grad():
        table = accurate_table(network.radial, network.filter_networks)
        assert table is not None
        _, looked_up = network.energy_forces_chains(types, pos, table)
        _, exact = network.energy_forces_chains(types, pos)
        _, truth = network.double().energy_forces_chains(types, pos.double())
    rounding = (exact - truth).norm() / truth.norm()
    error = (looked_up - truth).norm() / truth.norm()
    assert error < max(1.5 * rounding, 3e-6)


def test_table_refines_and_gives_up_on_sharp_filters() -> None:
    network = small_network(1, dtype=torch.float32)
    table = accurate_table(network.radial, network.filter_networks)
    assert table is not None
    with torch.no_grad():
        network.radial.widths.mul_(30.0)
        finer = accurate_table(network.radial, network.filter_networks)
        assert finer is not None
        assert finer.n_intervals > table.n_intervals
        network.radial.widths.mul_(1e4)
        assert accurate_table(network.radial, network.filter_networks) is None


def test_table_follows_the_weights() -> None:
    potential = small_potential(dtype=torch.float32, prior=False)
    network = potential.network
    assert network is not None
    pos = frames(3, torch.float32)
    before = potential.chains(TYPES, pos)
    with torch.no_grad():
        network.filter_networks[0].output.bias.add_(0.5)
    after = potential.chains(TYPES, pos)
    _, exact = network.energy_forces_chains(TYPES, pos)
    torch.testing.assert_close(after.forces, exact, rtol=0, atol=1e-5)
    assert (after.forces - before.forces).abs().max() > 1e-3
    network.load_state_dict(small_network(9).state_dict())
    _, exact = network.energy_forces_chains(TYPES, pos)
    torch.testing.assert_close(potential.chains(TYPES, pos).forces, exact, rtol=0, atol=1e-5)


def test_training_step_learns() -> None:
    target, network = small_network(1), small_network(2)
    pos = frames(32)
    with torch.no_grad():
        _, forces = target.energy_forces_chains(TYPES, pos)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        _, found = network.energy_forces_chains(TYPES, pos, network.table(128))
        loss = (found - forces).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_keep_freed_memory_can_be_called_twice() -> None:
    assert keep_freed_memory() == keep_freed_memory()


def torchmdnet_state(network: GraphNetwork) -> dict[str, torch.Tensor]:
    """The weights under the names of a training checkpoint, spelled out by hand."""
    ours = network.state_dict()
    state = {
        "mean": torch.tensor(0.0),
        "std": torch.tensor(1.0),
        "representation_model.distance.box": torch.zeros(3, 3),
        "representation_model.embedding.weight": ours["embedding.weight"],
        "representation_model.distance_expansion.means": ours["radial.centres"],
        "representation_model.distance_expansion.betas": ours["radial.widths"],
    }
    for layer in range(network.settings.num_layers):
        theirs = f"representation_model.interactions.{layer}."
        for kind in ("weight", "bias"):
            for name in ("mlp", "conv.net"):
                state[f"{theirs}{name}.0.{kind}"] = ours[f"layers.{layer}.filter.hidden.{kind}"]
                state[f"{theirs}{name}.2.{kind}"] = ours[f"layers.{layer}.filter.output.{kind}"]
            state[f"{theirs}conv.lin2.{kind}"] = ours[f"layers.{layer}.receive.{kind}"]
            state[f"{theirs}lin.{kind}"] = ours[f"layers.{layer}.update.{kind}"]
        state[f"{theirs}conv.lin1.weight"] = ours[f"layers.{layer}.send.weight"]
    for kind in ("weight", "bias"):
        state[f"output_model.output_network.0.{kind}"] = ours[f"readout_hidden.{kind}"]
        state[f"output_model.output_network.2.{kind}"] = ours[f"readout_energy.{kind}"]
    return {f"model.{name}": tensor.clone() for name, tensor in state.items()}


def test_checkpoint_of_torchmdnet_is_read() -> None:
    network = small_network(3)
    state = torchmdnet_state(network)
    pos = frames(2)
    expected = network.energy_chains(TYPES, pos)
    torch.testing.assert_close(from_torchmdnet(state, SMALL).energy_chains(TYPES, pos), expected)
    state["model.std"] = torch.tensor(2.5)
    scaled = from_torchmdnet(state, SMALL).energy_chains(TYPES, pos)
    torch.testing.assert_close(scaled, 2.5 * expected)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mean", lambda tensor: tensor + 3.0, "constant energy"),
        ("representation_model.embedding.weight", lambda tensor: None, "lack"),
        ("representation_model.embedding.weight", lambda tensor: tensor[:5], "another shape"),
        ("representation_model.interactions.1.mlp.0.bias", lambda tensor: tensor + 1, "disagree"),
        ("prior_model.0.atomref", lambda tensor: torch.zeros(3), "does not have"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name: str, change: object, message: str) -> None:
    state = torchmdnet_state(small_network(3))
    changed = change(state.pop(f"model.{name}", None))  # type: ignore[operator]
    if changed is not None:
        state[f"model.{name}"] = changed
    with pytest.raises(ValidationError, match=message):
        from_torchmdnet(state, SMALL)
