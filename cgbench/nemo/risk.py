"""How far structures that a sampler draws are from data: the empirical risk, term by term.

For data that are an ensemble a sampler must not be taught their mean. Each term compares samples X
with data Y by a dissimilarity D in the form of an energy score (Gneiting and Raftery, J. Am. Stat.
Assoc. 102, 359 (2007), section 4),

    E D(X, Y) − κ E D(X, X′),

with κ = ½ for ensembles: for a D that is a Euclidean distance of features, it is least where
samples and data are distributed alike. With κ = 0 it is the mean error, for data that are a single
structure of each sequence. Contacts and secondary structure are compared as probabilities, by cross
entropy: the mean over samples with the mean over data.

All terms are differentiable in the samples, do not change when a structure is moved or turned, and
see Cα alone: hydrogen bonds and secondary structure are read from the geometry that they give Cα.
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.nemo.internal import norm, to_internal

#: Distance in Å at which two Cα count as half in contact, and the width of the change. Cα that are
#: joined by a hydrogen bond of a helix or a sheet are 4.5 to 6.5 Å apart.
CONTACT_DISTANCE: Final = 7.0
CONTACT_WIDTH: Final = 0.7
#: Least number of bonds between beads that can be in contact.
CONTACT_SEPARATION: Final = 3
#: Dihedral and the angle before it, in degrees, at the centre of a helix and of a strand, and how
#: far they spread: the Cα trace of ideal helices and strands.
SECONDARY: Final = {"H": (50.0, 91.0), "E": (-170.0, 124.0)}
_SECONDARY_SPREAD: Final = (30.0, 14.0)
#: Probabilities are kept this far from 0 and 1.
_LEAST_PROBABILITY: Final = 1e-3
#: Rounds of weighting in the superposition of a TM-score.
_ROUNDS: Final = 3

TERMS: Final = ("distances", "angles", "contacts", "secondary", "tm_score")


class Target(NamedTuple):
    """Data of one chain, as the terms see them.

    Attributes:
        x: Structures (M, L, 3) in Å.
        labels: (L,) 0 for helix, 1 for strand, 2 for neither, −1 for not known; None where labels
            are read from the structures.
        diversity: κ.
        tm_scale: d₀ of the TM-score in Å.
    """

    x: Tensor
    labels: Tensor | None = None
    diversity: float = 0.5
    tm_scale: float = 2.0


def risk(x: Tensor, target: Target, term: str) -> Tensor:
    """Return one term of the risk, a number.

    Args:
        x: Samples (B, L, 3) in Å.
        target: Data of the same chain.
        term: One of ``TERMS``; ``distances`` in Å, the others without a unit.

    Raises:
        ValidationError: There is no such term, or the chains differ in length.
    """
    if x.shape[1:] != target.x.shape[1:]:
        raise ValidationError(
            "risk: samples and data of different chains",
            expected=tuple(target.x.shape[1:]),
            found=tuple(x.shape[1:]),
        )
    if term == "distances":
        return _score(_distances(x), _distances(target.x), target.diversity)
    if term == "angles":
        return _score(_directions(x), _directions(target.x), target.diversity)
    if term == "contacts":
        return _cross_entropy(_contacts(x).mean(dim=0), _contacts(target.x).mean(dim=0))
    if term == "secondary":
        return _secondary(x, target)
    if term == "tm_score":
        between = 1.0 - tm_scores(x, target.x, target.tm_scale)
        if target.diversity == 0.0 or len(x) < 2:
            return between.mean()
        within = 1.0 - tm_scores(x, x, target.tm_scale)
        return between.mean() - target.diversity * _off_diagonal_mean(within)
    raise ValidationError("risk: no such term", expected=", ".join(TERMS), found=term)


def _score(samples: Tensor, data: Tensor, diversity: float) -> Tensor:
    """Return the energy score of features (B, F) and (M, F), by root mean square differences."""
    between = _dissimilarity(samples, data).mean()
    if diversity == 0.0 or len(samples) < 2:
        return between
    return between - diversity * _off_diagonal_mean(_dissimilarity(samples, samples))


def _dissimilarity(first: Tensor, second: Tensor) -> Tensor:
    """Return root mean square differences of rows (B, F) and (M, F), (B, M)."""
    return norm(first.unsqueeze(1) - second.unsqueeze(0)) / math.sqrt(first.shape[1])


def _off_diagonal_mean(matrix: Tensor) -> Tensor:
    """Return the mean over pairs of different samples, which is without bias."""
    n = len(matrix)
    return (matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))


def _distances(x: Tensor) -> Tensor:
    """Return the distances of all pairs, two bonds or more apart, (B, pairs)."""
    first, second = torch.triu_indices(x.shape[1], x.shape[1], offset=2, device=x.device)
    return norm(x[:, second] - x[:, first])


def _directions(x: Tensor) -> Tensor:
    """Return cosines and sines of angles and dihedrals, (B, 4 L − 10)."""
    z = to_internal(x)
    both = torch.cat([z.angles, z.dihedrals], dim=1)
    return torch.cat([torch.cos(both), torch.sin(both)], dim=1)


def _contacts(x: Tensor) -> Tensor:
    """Return how far pairs are in contact, 0 to 1, (B, pairs)."""
    n = x.shape[1]
    first, second = torch.triu_indices(n, n, offset=CONTACT_SEPARATION, device=x.device)
    distance = norm(x[:, second] - x[:, first])
    return torch.sigmoid((CONTACT_DISTANCE - distance) / CONTACT_WIDTH)


def _cross_entropy(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean divergence of Bernoulli distributions: zero where the two agree."""
    low, high = _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY
    p, q = wanted.clamp(low, high), found.clamp(low, high)
    return (p * (p / q).log() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).log()).mean()


def secondary_structure(x: Tensor) -> Tensor:
    """Return probabilities (B, L − 3, 3) of helix, strand and neither, by four beads in a row.

    Entry i is of the dihedral of beads i to i + 3 and the angles at beads i + 1 and i + 2.
    """
    z = to_internal(x)
    angle = 0.5 * (z.angles[:, :-1] + z.angles[:, 1:])
    wide, narrow = (math.radians(value) for value in _SECONDARY_SPREAD)
    likeness = []
    for kind in "HE":
        dihedral, middle = (math.radians(value) for value in SECONDARY[kind])
        turned = (1.0 - torch.cos(z.dihedrals - dihedral)) / wide**2
        likeness.append(-turned - 0.5 * ((angle - middle) / narrow) ** 2)
    # Neither: as likely as something two spreads away.
    neither = torch.full_like(likeness[0], -2.0)
    return torch.softmax(torch.stack([*likeness, neither], dim=-1), dim=-1)


def _secondary(x: Tensor, target: Target) -> Tensor:
    found = secondary_structure(x).mean(dim=0).clamp(min=_LEAST_PROBABILITY)
    if target.labels is None:
        wanted = secondary_structure(target.x).mean(dim=0).clamp(min=_LEAST_PROBABILITY)
        return (wanted * (wanted / found).log()).sum(dim=-1).mean()
    # A label is of a residue, a probability of four: that of the second and third must agree.
    first, second = target.labels[1:-2], target.labels[2:-1]
    known = (first >= 0) & (first == second)
    if not bool(known.any()):
        return found.sum() * 0.0
    chosen = found[known].gather(1, first[known].unsqueeze(1))
    return -chosen.log().mean()


def tm_scores(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Return the TM-score of each sample with each of others, (B, M), residue i with residue i.

    Superposed with weights of the pairs that are near, in a few rounds; that is a lower bound of
    the score at the best superposition (Zhang and Skolnick, Proteins 57, 702 (2004)). The gradient
    is that at this superposition.

    Args:
        x: (B, L, 3) in Å.
        y: (M, L, 3) in Å.
        scale: d₀ in Å.
    """
    n, m, length = len(x), len(y), x.shape[1]
    first = x.unsqueeze(1).expand(n, m, length, 3)
    second = y.unsqueeze(0).expand(n, m, length, 3)
    weights = torch.ones(n, m, length, dtype=x.dtype, device=x.device)
    with torch.no_grad():
        for _ in range(_ROUNDS):
            rotation, from_centre, to_centre = _superposition(first, second, weights)
            moved = torch.matmul(first - from_centre, rotation) + to_centre
            weights = 1.0 / (1.0 + ((moved - second) ** 2).sum(dim=-1) / scale**2)
    moved = torch.matmul(first - from_centre, rotation) + to_centre
    away = ((moved - second) ** 2).sum(dim=-1)
    return (1.0 / (1.0 + away / scale**2)).mean(dim=-1)


def _superposition(first: Tensor, second: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the proper rotations (…, 3, 3) and centres (…, 1, 3) of weighted superpositions."""
    share = (weights / weights.sum(dim=-1, keepdim=True)).unsqueeze(-1)
    from_centre = (share * first).sum(dim=-2, keepdim=True)
    to_centre = (share * second).sum(dim=-2, keepdim=True)
    covariance = torch.matmul((share * (first - from_centre)).mT, second - to_centre)
    finite = torch.nan_to_num(covariance, nan=0.0, posinf=0.0, neginf=0.0)
    u, _, vt = torch.linalg.svd(finite)
    sign = torch.sign(torch.linalg.det(torch.matmul(u, vt)))
    last = torch.ones_like(sign).unsqueeze(-1).expand(*sign.shape, 3).clone()
    last[..., 2] = sign
    return torch.matmul(u * last.unsqueeze(-2), vt), from_centre, to_centre
