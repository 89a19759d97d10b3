"""Network plus prior: the flat call, replicas of one chain, and inputs that do not fit."""

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_networks import SMALL, TYPES, small_network, small_potential, small_prior

from cgbench.errors import ValidationError
from cgbench.models import NetworkPotential, PotentialSpec, TrainedOn
from cgbench.priors import Prior
from cgbench.testing.strategies import random_chains

BEAD_TYPES = torch.tensor(TYPES)
POS = torch.tensor(random_chains(4, len(TYPES), 3))


def double_potential() -> NetworkPotential:
    return small_potential(dtype=torch.float64)


def test_sum_of_network_and_prior() -> None:
    potential = double_potential()
    result = potential.chains(BEAD_TYPES, POS)
    energy, forces = small_network().energy_forces_chains(BEAD_TYPES, POS)
    prior_energy, prior_forces = Prior(small_prior(), TYPES).energy_forces(POS)
    torch.testing.assert_close(result.network_energy, energy.detach())
    torch.testing.assert_close(result.prior_energy, prior_energy)
    torch.testing.assert_close(result.forces, forces.detach() + prior_forces)
    assert not result.forces.requires_grad


def test_flat_call_on_mixed_sizes_in_any_order() -> None:
    potential = double_potential()
    lengths = [10, 4, 7, 1, 10]
    structures = [(BEAD_TYPES[:n], POS[i % 4, :n]) for i, n in enumerate(lengths)]
    # Beads of systems alternate, in chain order within each.
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(5), lengths))
    seen = [0] * 5
    places = []
    for system in order:
        places.append((system, seen[system]))
        seen[system] += 1
    energy, forces = potential(
        torch.stack([structures[system][0][bead] for system, bead in places]),
        torch.stack([structures[system][1][bead] for system, bead in places]),
        torch.tensor(order),
    )
    for system, (types, pos) in enumerate(structures):
        alone = potential.chains(types, pos[None])
        total = alone.network_energy + alone.prior_energy
        torch.testing.assert_close(energy[system : system + 1], total)
        torch.testing.assert_close(forces[torch.tensor(order) == system], alone.forces[0])


def test_a_half_missing_counts_as_zero() -> None:
    spec = PotentialSpec(name="half")
    whole = double_potential()
    batch = torch.zeros_like(BEAD_TYPES)
    parts = [
        NetworkPotential(whole.network, None, spec),
        NetworkPotential(None, whole.prior, spec),
    ]
    energies, forces = zip(*(part(BEAD_TYPES, POS[0], batch) for part in parts), strict=True)
    energy, force = whole(BEAD_TYPES, POS[0], batch)
    torch.testing.assert_close(energies[0] + energies[1], energy)
    torch.testing.assert_close(forces[0] + forces[1], force)
    assert [part.cutoffs for part in parts] == [(3.0, 12.0), ()]


def test_changed_bead_types_are_noticed() -> None:
    potential = double_potential()
    types = BEAD_TYPES.clone()
    first = potential.chains(types, POS)
    types[3] = TYPES[0]
    second = potential.chains(types, POS)
    expected = double_potential().chains(types.clone(), POS)
    assert not torch.equal(first.prior_energy, second.prior_energy)
    torch.testing.assert_close(second.forces, expected.forces)
    types[3] = SMALL.max_bead_type
    with pytest.raises(ValidationError, match="bead types that the network does not have"):
        potential.chains(types, POS)


def test_tabulation_is_below_single_precision() -> None:
    exact = small_potential()
    exact.tabulate = False
    pos = POS.float()
    one, other = small_potential().chains(BEAD_TYPES, pos), exact.chains(BEAD_TYPES, pos)
    assert not torch.equal(one.network_energy, other.network_energy)
    torch.testing.assert_close(one.forces, other.forces, rtol=1e-5, atol=1e-4)


def test_inference_mode() -> None:
    potential = small_potential()
    expected = potential.chains(BEAD_TYPES, POS.float())
    with torch.inference_mode():
        found = small_potential().chains(BEAD_TYPES.clone(), POS.float())
    torch.testing.assert_close(found.forces.clone(), expected.forces)


NO_BATCH = torch.zeros_like(BEAD_TYPES)


@pytest.mark.parametrize(
    ("types", "pos", "batch", "message"),
    [
        (BEAD_TYPES[:-1], POS[0], NO_BATCH, "wrong shape of bead types"),
        (BEAD_TYPES, POS[0], NO_BATCH[:-1], "wrong shape of batch"),
        (BEAD_TYPES, POS[0, :, :2], NO_BATCH, "wrong shape of positions"),
        (BEAD_TYPES, POS[0].float(), NO_BATCH, "another precision"),
        (BEAD_TYPES.int(), POS[0], NO_BATCH, "must be integers"),
        (BEAD_TYPES - 5, POS[0], NO_BATCH, "-3 to 8"),
        (BEAD_TYPES[:0], POS[0, :0], NO_BATCH[:0], "no beads"),
        (BEAD_TYPES + 8, POS[0], NO_BATCH, "bead type"),
    ],
)
def test_inputs_that_do_not_fit(types: Tensor, pos: Tensor, batch: Tensor, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        double_potential()(types, pos, batch)


@pytest.mark.parametrize(
    ("types", "pos", "message"),
    [
        (BEAD_TYPES[:-1], POS, "wrong shape of bead types"),
        (BEAD_TYPES, POS[0], "wrong shape of positions"),
        (BEAD_TYPES, POS.float(), "another precision"),
        (BEAD_TYPES.float(), POS, "must be integers"),
    ],
)
def test_replicas_that_do_not_fit(types: Tensor, pos: Tensor, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        double_potential().chains(types, pos)


def test_spec_round_trips_and_refuses_unknown_keys() -> None:
    spec = PotentialSpec(
        name="torchmd-gn/chignolin",
        cutoff=12.0,
        trained_on=(
            TrainedOn(
                system="chignolin",
                split_id="block-v1",
                split_fingerprint="sha256:1",
                store_fingerprint="sha256:2",
            ),
        ),
        seeds=(1, 2),
    )
    assert PotentialSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="Extra inputs"):
        PotentialSpec.model_validate({"name": "x", "colour": "red"})
    with pytest.raises(ValueError, match="majewski-2023"):
        PotentialSpec.model_validate({"name": "x", "bead_vocabulary": "other"})
