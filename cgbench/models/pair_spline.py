"""A pairwise potential of cubic splines: the simplest form that force matching can fit.

The energy of a chain is ``Σ_{|i−j|≥2} u_ij(r_ij)``. Every u is a sum of cubic B-splines on evenly
spaced knots, so that forces are linear in the coefficients and their best values follow from linear
least squares: S. Izvekov and G. A. Voth, J. Phys. Chem. B 109, 2469 (2005); W. G. Noid et al., J.
Chem. Phys. 128, 244114 (2008).

Pairs two and three beads apart have functions of their own, the same for all types, as they say how
a chain bends. Pairs farther apart share one function, to which each pair of residue groups (or of
bead types) adds its own. So a pair of types that the data hardly hold is still described, and a
regularised fit takes from it no more than the data say.

Only splines whose support ends at the cutoff or before are used, so that energy, force and its
slope vanish there. Below the first knot, where fitted data end, the energy is a straight line.
"""

from typing import Final, Literal, NamedTuple

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cgbench import registry
from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.models.chain_model import ChainModel, state_of

#: Residues that share a function, by one-letter code (chosen here): aliphatic and aromatic, polar,
#: positive, negative; glycine and proline, whose backbones differ from all others, by themselves.
GROUPS: Final = ("ACFILMVWXY", "HNQST", "KR", "DE", "G", "P")
#: Separations with functions of their own; the last stands for all that are larger.
SEPARATIONS: Final = (2, 3, 4)
#: Rows: factors of 1, t, t² and t³ in each of the four B-splines of an interval, t from 0 to 1.
POLYNOMIALS: Final = (
    np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]], dtype=np.float64) / 6.0
)
#: Chains whose functions are kept.
_MAX_TABLES: Final = 64
#: Matrix elements of a block of replicas: bounds the memory of large batches.
_BLOCK_ELEMENTS: Final = 2**18
#: Least distance in Å that anything is divided by.
_LEAST_DISTANCE: Final = 1e-6


class PairSplineSettings(Frozen):
    """Shape of a pairwise spline potential.

    Attributes:
        first_knot: Å; below it the energy is a straight line.
        cutoff: Å; beyond it pairs do not interact.
        n_intervals: Intervals between the two, and coefficients of each function.
        types: What adds a function of its own to that of all distant pairs: pairs of residue
            groups, pairs of bead types, or nothing.
    """

    first_knot: float = pydantic.Field(default=3.0, gt=0, allow_inf_nan=False)
    cutoff: float = pydantic.Field(default=12.0, gt=0, le=1000, allow_inf_nan=False)
    n_intervals: int = pydantic.Field(default=18, ge=4, le=1000)
    types: Literal["none", "groups", "pairs"] = "groups"

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> "PairSplineSettings":
        if self.first_knot >= self.cutoff:
            raise ValueError("first_knot must be below cutoff")
        return self

    @property
    def spacing(self) -> float:
        """Distance between knots in Å."""
        return (self.cutoff - self.first_knot) / self.n_intervals

    @property
    def class_of_type(self) -> dict[int, int]:
        """Group of each bead type, or its own number among them; empty without types."""
        vocabulary = registry.bead_vocabulary()
        letters = vocabulary.letters
        if self.types == "none":
            return {}
        if self.types == "pairs":
            return {kind: index for index, kind in enumerate(sorted(set(letters.values())))}
        return {
            letters[letter]: index
            for index, group in enumerate(GROUPS)
            for letter in group
            if letter in letters
        }

    @property
    def n_functions(self) -> int:
        """Number of functions: those of separations, then one for each pair of classes."""
        n_classes = len(set(self.class_of_type.values()))
        return len(SEPARATIONS) + n_classes * (n_classes + 1) // 2


class ChainPairs(NamedTuple):
    """Pairs of one chain and the functions that each is a sum of.

    Attributes:
        first: (P,) int64 index of one bead.
        second: (P,) int64 index of the other, larger.
        separation: (P,) int64 function of their separation.
        types: (P,) int64 function of their types; −1 where there is none.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    separation: NDArray[np.int64]
    types: NDArray[np.int64]


def chain_pairs(settings: PairSplineSettings, bead_types: NDArray[np.int64]) -> ChainPairs:
    """Return the pairs of a chain with their functions; all bead types must be known."""
    first, second = np.triu_indices(len(bead_types), k=SEPARATIONS[0])
    apart = np.minimum(second - first, SEPARATIONS[-1])
    types = np.full(len(first), -1, dtype=np.int64)
    classes = settings.class_of_type
    if classes:
        own = np.array([classes[int(kind)] for kind in bead_types], dtype=np.int64)
        low = np.minimum(own[first], own[second])
        high = np.maximum(own[first], own[second])
        distant = apart == SEPARATIONS[-1]
        # Row by row of the upper triangle of a symmetric matrix.
        n_classes = len(set(classes.values()))
        place = low * n_classes - low * (low - 1) // 2 + high - low
        types[distant] = len(SEPARATIONS) + place[distant]
    return ChainPairs(first, second, apart - SEPARATIONS[0], types)


class _Tables(NamedTuple):
    """Functions of one chain: polynomials (n_functions · n_intervals, 4) and pairs (P,)."""

    polynomials: Tensor
    first: Tensor
    second: Tensor
    offset: Tensor


class PairSpline(ChainModel):
    """A pairwise potential of cubic splines.

    Args:
        settings: Its shape.
        coefficients: (n_functions, n_intervals) in kcal/mol, factors of the B-splines that begin
            at knots −3, −2 …; zero if None.
    """

    kind = "pair-spline"

    def __init__(
        self, settings: PairSplineSettings, coefficients: NDArray[np.floating] | None = None
    ) -> None:
        super().__init__()
        self._settings = settings
        shape = (settings.n_functions, settings.n_intervals)
        values = torch.zeros(shape)
        if coefficients is not None:
            values = torch.as_tensor(np.asarray(coefficients), dtype=torch.float32)
            if tuple(values.shape) != shape:
                raise ValidationError(
                    "coefficients do not fit the settings of a pair spline",
                    expected=shape,
                    found=tuple(values.shape),
                )
        self.coefficients = nn.Parameter(values, requires_grad=False)
        self._cache: dict[tuple[object, ...], _Tables] = {}

    @property
    def settings(self) -> PairSplineSettings:
        """Its shape."""
        return self._settings

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """First knot and cutoff: the energy is smooth at both, but of another form beyond."""
        return (self._settings.first_knot, self._settings.cutoff)

    def check_types(self, bead_types: Tensor, name: str) -> None:
        """Check that each bead type belongs to a class."""
        classes = self._settings.class_of_type
        if not classes:
            return
        unknown = sorted(set(bead_types.reshape(-1).tolist()) - set(classes))
        if unknown:
            raise ValidationError(
                f"{name}: bead types that the vocabulary does not have",
                expected=", ".join(map(str, sorted(classes))),
                found=", ".join(map(str, unknown)),
            )

    def function(self, distance: NDArray[np.float64], index: int) -> NDArray[np.float64]:
        """Return one function in kcal/mol at distances in Å, for looking at."""
        polynomials = _polynomials(self.coefficients[index : index + 1].detach().double())
        scaled = (torch.as_tensor(distance) - self._settings.first_knot) / self._settings.spacing
        interval, place = _place(scaled, self._settings.n_intervals)
        value, _ = _values(polynomials[interval], place)
        return value.numpy()

    def _tables(self, bead_types: Tensor) -> _Tables:
        types = tuple(bead_types.tolist())
        weights = self.coefficients
        key = (types, *state_of(weights))
        if key not in self._cache:
            if len(self._cache) >= _MAX_TABLES:
                self._cache.clear()
            pairs = chain_pairs(self._settings, np.array(types, dtype=np.int64))
            both = np.stack([pairs.separation, pairs.types], axis=1)
            used, which = np.unique(both, axis=0, return_inverse=True)
            padded = torch.cat([weights.detach().double(), weights.new_zeros(1, weights.shape[1])])
            functions = padded[torch.as_tensor(used[:, 0])] + padded[torch.as_tensor(used[:, 1])]
            self._cache[key] = _Tables(
                _polynomials(functions).to(weights),
                torch.as_tensor(pairs.first, device=weights.device),
                torch.as_tensor(pairs.second, device=weights.device),
                torch.as_tensor(which.reshape(-1), device=weights.device)
                * self._settings.n_intervals,
            )
        return self._cache[key]

    @torch.no_grad()
    def energy_forces_chains(self, bead_types: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (R,) in kcal/mol and forces (R, N, 3) in kcal/mol/Å."""
        tables = self._tables(bead_types)
        blocks = torch.split(pos, max(1, _BLOCK_ELEMENTS // len(bead_types) ** 2))
        parts = [self._block(block, tables) for block in blocks]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])

    def _block(self, pos: Tensor, tables: _Tables) -> tuple[Tensor, Tensor]:
        # Replicas diffuse; relative to a bead of their own the rounding of products stays small.
        beads = pos - pos[:, :1]
        components = beads.permute(2, 0, 1)
        difference = components[..., tables.first] - components[..., tables.second]
        distance = difference.square().sum(0).clamp_min(_LEAST_DISTANCE**2).sqrt()
        scaled = (distance - self._settings.first_knot) / self._settings.spacing
        interval, place = _place(scaled, self._settings.n_intervals)
        value, slope = _values(tables.polynomials[interval + tables.offset], place)
        pull = slope / (distance * self._settings.spacing)
        weights = pos.new_zeros(len(pos), pos.shape[1], pos.shape[1])
        weights[:, tables.first, tables.second] = pull
        weights[:, tables.second, tables.first] = pull
        return value.sum(1), weights @ beads - beads * weights.sum(2, keepdim=True)


def _polynomials(functions: Tensor) -> Tensor:
    """Return factors of powers of t, (n_functions · n_intervals, 4), of B-spline coefficients."""
    n_intervals = functions.shape[1]
    padded = torch.nn.functional.pad(functions, (0, 3))
    windows = padded.unfold(1, 4, 1)[:, :n_intervals]
    return (windows @ torch.as_tensor(POLYNOMIALS.T).to(windows)).reshape(-1, 4)


def _place(scaled: Tensor, n_intervals: int) -> tuple[Tensor, Tensor]:
    """Return interval and place within it; beyond the last knot the place is its end."""
    # Bounded as a number and as an index: what is not a number becomes some index and stays itself.
    interval = scaled.clamp(0, n_intervals - 1).long().clamp(0, n_intervals - 1)
    return interval, (scaled - interval).clamp_max(1.0)


def _values(polynomials: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and slopes by place; linear at places below zero."""
    constant, linear, quadratic, cubic = polynomials.unbind(-1)
    curved = place.clamp_min(0.0)
    value = constant + linear * place + curved * curved * (quadratic + curved * cubic)
    return value, linear + curved * (2.0 * quadratic + 3.0 * curved * cubic)
