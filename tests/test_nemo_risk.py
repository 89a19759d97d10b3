"""The empirical risk of NEMO's samples, term by term."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.evaluate.alignment_search import search_scores, tm_scale
from cgbench.nemo.internal import InternalCoordinates, to_cartesian
from cgbench.nemo.risk import TERMS, Target, risk, secondary_structure, tm_scores


def chains(
    n: int, n_beads: int = 24, *, middle: float = 0.8, width: float = 0.3, seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def around(centre: float, spread: float, m: int) -> Tensor:
        return centre + spread * torch.randn((n, m), generator=generator, dtype=torch.float64)

    z = InternalCoordinates(
        around(3.8, 0.03, n_beads - 1),
        around(1.6, 0.4 * width, n_beads - 2),
        around(middle, width, n_beads - 3),
    )
    return to_cartesian(z)


def turned(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    return x @ (basis * torch.linalg.det(basis)) - 30.0


@pytest.mark.parametrize("term", TERMS)
def test_terms_are_least_for_samples_of_the_data(term: str) -> None:
    data = Target(chains(70, seed=1))
    same = float(risk(chains(70, seed=2), data, term))
    for other in (chains(70, middle=2.2, seed=3), chains(70, width=0.9, seed=4)):
        assert float(risk(other, data, term)) > same
    # The mean structure is no way out.
    collapsed = chains(70, width=0.01, seed=5)
    assert float(risk(collapsed, data, term)) > same
    moved = float(risk(turned(chains(70, seed=2)), data, term))
    assert moved == pytest.approx(same, abs=1e-9)


@pytest.mark.parametrize("term", TERMS)
def test_terms_have_gradients_also_where_structures_agree(term: str) -> None:
    x = chains(5, seed=1).requires_grad_()
    data = Target(torch.cat([x.detach()[:2], chains(3, middle=2.0, seed=2)]))
    (gradient,) = torch.autograd.grad(risk(x, data, term), x)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) > 0.0
    single = data._replace(x=data.x[-1:], diversity=0.0)
    before = risk(x, single, term)
    (gradient,) = torch.autograd.grad(before, x)
    after = risk(x - 0.02 * gradient / gradient.norm(), single, term)
    assert float(after.detach()) < float(before.detach())


def test_tm_scores_are_those_of_the_evaluation_from_below() -> None:
    native = chains(1, 40, seed=1)
    generator = torch.Generator().manual_seed(3)
    away = torch.randn((3, 40, 3), generator=generator, dtype=torch.float64)
    others = torch.cat([native + 1.5 * away, turned(native)])
    scale = tm_scale(40)
    found = tm_scores(others, native, scale)[:, 0].numpy()
    assert found[-1] == pytest.approx(1.0, abs=1e-9)
    best = search_scores(others.numpy().astype(np.float32), native[0].numpy().astype(np.float32)).tm
    assert best is not None
    assert (found <= best + 1e-4).all()
    assert (found >= 0.95 * best).all()
    mirrored = native * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert float(tm_scores(mirrored, native, scale)) < 0.9


def ideal(dihedral: float, angle: float) -> Tensor:
    z = InternalCoordinates(
        torch.full((1, 11), 3.8),
        torch.full((1, 10), math.radians(angle)),
        torch.full((1, 9), math.radians(dihedral)),
    )
    return to_cartesian(z).double()


def test_helices_and_strands_are_told_apart() -> None:
    helix, strand, other = ideal(50.0, 91.0), ideal(-170.0, 124.0), ideal(-60.0, 110.0)
    assert float(secondary_structure(helix)[..., 0].min()) > 0.8
    assert float(secondary_structure(strand)[..., 1].min()) > 0.8
    assert float(secondary_structure(other)[..., 2].min()) > 0.6
    labels = torch.zeros(12, dtype=torch.int64)
    known = Target(strand, labels)
    assert float(risk(helix, known, "secondary")) < float(risk(strand, known, "secondary"))
    nothing = known._replace(labels=torch.full((12,), -1))
    assert float(risk(helix, nothing, "secondary")) == 0.0


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValidationError, match="different chains"):
        risk(chains(2, 10), Target(chains(2, 11)), "distances")
    with pytest.raises(ValidationError, match="no such term"):
        risk(chains(2), Target(chains(2)), "colour")
