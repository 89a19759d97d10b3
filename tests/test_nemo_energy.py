"""The energy of NEMO: what it depends on, and what not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.nemo.energy import EnergyWeights, local_frames
from cgbench.nemo.features import AMINO_ACIDS, encode
from cgbench.nemo.internal import to_cartesian
from cgbench.nemo.model import Nemo, NemoSettings

SEQUENCE = "YYDPETGTWY"


def a_model(seed: int = 1, **settings: object) -> Nemo:
    torch.manual_seed(seed)
    small = {"width": 16, "n_blocks": 2, **settings}
    model = Nemo(NemoSettings.model_validate(small)).double()
    with torch.no_grad():
        # Away from where training begins: every weight says something.
        for head in (model.sequence.bond, model.sequence.angle, model.sequence.dihedral):
            head.weight.normal_(std=0.3)
        model.energy.separation.normal_()
    return model


def chains(model: Nemo, n: int = 4, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return to_cartesian(model.initial(model.conditions(SEQUENCE), n, generator)).detach()


def weights(model: Nemo, sequence: str = SEQUENCE) -> EnergyWeights:
    return model.conditions(sequence).weights


def test_moving_and_turning_a_chain_changes_nothing() -> None:
    model = a_model()
    x = chains(model)
    generator = torch.Generator().manual_seed(5)
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    turn = basis * torch.linalg.det(basis)
    own = weights(model)
    moved = x @ turn + torch.tensor([10.0, -3.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(model.energy(moved, own), model.energy(x, own), rtol=0, atol=1e-9)


def test_mirror_images_differ_in_every_part_but_the_bonds() -> None:
    model = a_model()
    x, own = chains(model), weights(model)
    mirrored = x * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    bonds, other = x[:, 1:] - x[:, :-1], mirrored[:, 1:] - mirrored[:, :-1]
    torch.testing.assert_close(model.energy.bonded(bonds, own), model.energy.bonded(other, own))
    with torch.no_grad():
        local = model.energy.local(bonds, own) - model.energy.local(other, own)
        pairs = model.energy.pairs(x, bonds, own) - model.energy.pairs(mirrored, other, own)
    assert float(local.abs().min()) > 1e-3
    assert float(pairs.abs().min()) > 1e-3


def test_forces_are_the_gradient() -> None:
    model = a_model()
    x, own = chains(model, 2), weights(model)
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy(at, own).sum(), at)
    step = 1e-5
    for bead, axis in ((0, 0), (4, 1), (9, 2)):
        ahead, behind = x.clone(), x.clone()
        ahead[:, bead, axis] += step
        behind[:, bead, axis] -= step
        slope = (model.energy(ahead, own) - model.energy(behind, own)) / (2.0 * step)
        torch.testing.assert_close(slope, gradient[:, bead, axis], rtol=1e-5, atol=1e-5)


def test_the_sequence_weighs_every_kind_of_feature() -> None:
    model = a_model()
    x, own = chains(model, 1), weights(model)
    other = weights(model, "GGGGGGGGGG")
    bonds = x[:, 1:] - x[:, :-1]
    for part in (model.energy.bonded, model.energy.local):
        assert abs(float((part(bonds, own) - part(bonds, other)).detach())) > 1e-4
    pairs = model.energy.pairs(x, bonds, own) - model.energy.pairs(x, bonds, other)
    assert abs(float(pairs.detach())) > 1e-4


def test_beads_beyond_the_cutoff_do_not_interact_and_fade_in_smoothly() -> None:
    model = a_model(energy={"cutoff": 9.0})
    own = weights(model, "AAAA")
    found = []
    for distance in (9.0, 8.98, 8.96):
        # One pair of beads, three bonds apart.
        x = torch.tensor([[0.0, 0, 0], [1.0, 3.6, 0], [4.0, 3.6, 2], [0, 0, 0]]).double()
        x[3, 0] = distance
        x = x.unsqueeze(0)
        found.append(float(model.energy.pairs(x, x[:, 1:] - x[:, :-1], own).detach()))
    assert found[0] == 0.0
    # It begins with the cube of how far a pair is inside: force and curvature begin at zero.
    assert found[2] / found[1] == pytest.approx(8.0, rel=0.1)


def test_chains_of_a_batch_and_pairs_of_a_chain_do_not_know_of_each_other() -> None:
    model = a_model(energy={"cutoff": 9.0, "contact_distance": 9.5})
    own = weights(model)
    near = chains(model, 2)
    far = torch.zeros(1, 10, 3, dtype=torch.float64)
    far[0, :, 0] = 3.8 * torch.arange(10)
    x = torch.cat([near[:1], far, near[1:]])
    found = model.energy.pairs(x, x[:, 1:] - x[:, :-1], own)
    assert float(found[1].detach()) == 0.0
    for row in range(3):
        alone = x[row : row + 1]
        torch.testing.assert_close(
            model.energy.pairs(alone, alone[:, 1:] - alone[:, :-1], own)[0], found[row]
        )
    # Repulsion that reaches beyond the cutoff is there up to its own end.
    moved = far.clone()
    moved[0, 3, 0] = 9.25
    repelled = model.energy.pairs(moved, far[:, 1:] - far[:, :-1], own)
    assert float(repelled.detach()) == pytest.approx(0.5 * 20.0 * 0.25**2)


def test_degenerate_chains_have_finite_energies_and_forces() -> None:
    model = a_model()
    own = weights(model)
    straight = torch.zeros(1, 10, 3, dtype=torch.float64)
    straight[0, :, 0] = 3.8 * torch.arange(10)
    for x in (straight, torch.zeros_like(straight), 100.0 * straight):
        at = x.clone().requires_grad_()
        energy = model.energy(at, own).sum()
        (gradient,) = torch.autograd.grad(energy, at)
        assert bool(torch.isfinite(energy))
        assert bool(torch.isfinite(gradient).all())


def test_local_frames_are_right_handed_and_move_with_the_chain() -> None:
    x = chains(a_model(), 2)
    frames = local_frames(x[:, 1:] - x[:, :-1])
    unit = torch.eye(3, dtype=torch.float64).expand_as(frames)
    torch.testing.assert_close(frames.mT @ frames, unit)
    torch.testing.assert_close(
        torch.linalg.det(frames), torch.ones(frames.shape[:2], dtype=torch.float64)
    )


def test_what_the_network_sees() -> None:
    features = encode("ACXW")
    assert features.shape == (4, 20)
    # Norleucine is taken for leucine.
    assert AMINO_ACIDS[int(features[2].argmax())] == "L"
    profile = np.full((4, 20), 0.05, dtype=np.float32)
    assert encode("ACXW", profile).shape == (4, 40)
    with pytest.raises(ValidationError, match="add up"):
        encode("ACXW", 2.0 * profile)
    with pytest.raises(ValidationError, match="not the frequencies"):
        encode("ACXWA", profile)
    for bad in ("ACZW", "AC", "ac1w"):
        with pytest.raises(ValidationError, match="sequence"):
            encode(bad)


def test_a_model_of_profiles_needs_one() -> None:
    model = a_model(features="profile")
    with pytest.raises(ValidationError, match="profile"):
        model.conditions(SEQUENCE)
    profile = np.full((10, 20), 0.05, dtype=np.float32)
    found = model.conditions(SEQUENCE, profile)
    other = np.roll(np.eye(20, dtype=np.float32)[:10], 3, axis=1)
    assert (
        float(
            (found.mean.flat() - model.conditions(SEQUENCE, other).mean.flat()).detach().abs().max()
        )
        > 0
    )
    with pytest.raises(ValidationError, match="wrong features"):
        a_model().sequence(torch.zeros(10, 40, dtype=torch.float64))
