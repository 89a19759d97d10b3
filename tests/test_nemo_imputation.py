"""Backbone atoms of what NEMO draws: the rigid peptide unit keeps its ideal geometry."""

import numpy as np
import torch

from cgbench.evaluate.backmap import backbone, peptide
from cgbench.nemo.internal import InternalCoordinates, to_cartesian
from cgbench.nemo.model import Nemo, NemoSettings

SEQUENCE = "YYDPETGTWY"


def angle(a, b, c):  # type: ignore[no-untyped-def]
    u, v = a - b, c - b
    cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def test_drawn_chains_have_backbones_of_ideal_geometry() -> None:
    torch.manual_seed(1)
    model = Nemo(NemoSettings.model_validate({"width": 16, "simulator": {"n_steps": 50}}))
    drawn = model.draw(SEQUENCE, 8, generator=torch.Generator().manual_seed(1))
    places = backbone(drawn.numpy(), SEQUENCE)
    n, ca, c, o = (places[:, :, atom] for atom in range(4))
    np.testing.assert_allclose(ca, drawn.numpy(), atol=1e-5)
    # Bonds within a residue are of their ideal length however the samples are bent.
    far = np.linalg.norm(n[:, 1:-1] - ca[:, 1:-1], axis=-1)
    assert abs(np.median(far) - peptide.N_CA) < 0.05
    assert abs(np.median(np.linalg.norm(c - ca, axis=-1)) - peptide.CA_C) < 0.05
    assert abs(np.median(np.linalg.norm(o - c, axis=-1)) - peptide.C_O) < 0.05


def test_ideal_chains_have_ideal_backbones() -> None:
    for dihedral, bend in ((50.0, 91.0), (-170.0, 124.0)):
        z = InternalCoordinates(
            torch.full((1, 15), 3.8),
            torch.full((1, 14), float(np.radians(bend))),
            torch.full((1, 13), float(np.radians(dihedral))),
        )
        places = backbone(to_cartesian(z).numpy(), "A" * 16)[0].astype(float)
        n, ca, c, _ = (places[:, atom] for atom in range(4))
        inner = slice(2, -2)
        assert np.abs(np.linalg.norm(c[:-1] - n[1:], axis=-1)[inner] - 1.33).max() < 0.03
        assert np.abs(angle(n, ca, c)[inner] - peptide.N_CA_C).max() < 12.0
        # Every peptide unit is flat and trans: Cα, C, N and Cα of the next residue.
        first, second, third = c[:-1] - ca[:-1], n[1:] - c[:-1], ca[1:] - n[1:]
        normal, other = np.cross(first, second), np.cross(second, third)
        cosine = (normal * other).sum(-1)
        cosine /= np.linalg.norm(normal, axis=-1) * np.linalg.norm(other, axis=-1)
        assert (cosine < -0.98).all()
