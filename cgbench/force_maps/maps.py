"""Linear maps from the forces on atoms to the forces on beads."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgbench.config import Frozen
from cgbench.errors import ValidationError

#: Weights that must be equal may differ by rounding.
_TOLERANCE: Final = 1e-6
#: Numbers of a block that is mapped at once: 2 MB in double precision stay in the cache.
_BLOCK_NUMBERS: Final = 250_000


class FitRecord(Frozen):
    """What a fitted map was fitted on: what leak checks compare with.

    Attributes:
        trajectories: Numbers of the trajectories whose forces were used.
        n_frames: Frames of these.
        ridge: Ridge in units of the mean diagonal of the free groups' Gram matrix.
        root_mean_square: Of a component of the mapped force on these frames, kcal/mol/Å.
    """

    trajectories: tuple[int, ...]
    n_frames: int
    ridge: float
    root_mean_square: float


@dataclass(frozen=True, eq=False)
class ForceMap:
    """Weights of the atoms in the force on each bead.

    The mean of the mapped force at fixed beads is the mean force, the negative gradient of the
    potential of mean force, if each bead has weight 1 on its own atom and 0 on the atoms of all
    others, and atoms joined by constraints have the same weight, so that the forces that hold
    them together cancel (Ciccotti et al., ChemPhysChem 6, 1809, 2005; Krämer et al., J. Phys.
    Chem. Lett. 14, 3970, 2023). The first condition is checked always; whether the second holds
    is ``consistent``.

    Attributes:
        name: Name, as ``slice``, ``hydrogens`` or ``optimal``.
        weights: (n_beads, n_atoms) float64.
        sites: (n_beads,) atom of each bead.
        groups: (n_atoms,) group of each atom; atoms joined by constraints share one.
        fit: What the weights were fitted on; None for a map that is not fitted.

    Raises:
        ValidationError: Shapes do not fit, weights are not finite, two beads share a group, or
            the weights on the beads' own atoms are not 1 and 0.
    """

    name: str
    weights: NDArray[np.float64]
    sites: NDArray[np.int64]
    groups: NDArray[np.int64]
    fit: FitRecord | None = None

    def __post_init__(self) -> None:
        for field, dtype in (("weights", np.float64), ("sites", np.int64), ("groups", np.int64)):
            values = np.array(getattr(self, field), dtype=dtype)
            values.flags.writeable = False
            object.__setattr__(self, field, values)
        check_beads(self.name, self.sites, self.groups)
        what = f"force map {self.name!r}"
        if self.weights.shape != (self.n_beads, self.n_atoms):
            raise ValidationError(
                f"{what}: wrong shape of the weights",
                expected=(self.n_beads, self.n_atoms),
                found=self.weights.shape,
            )
        if not np.isfinite(self.weights).all():
            raise ValidationError(f"{what}: weights that are not finite")
        error = np.abs(self.weights[:, self.sites] - np.eye(self.n_beads)).max()
        if error > _TOLERANCE:
            raise ValidationError(
                f"{what}: no map of forces on these beads",
                expected="weight 1 on the bead's own atom and 0 on those of the other beads",
                found=f"off by {error:.2g}",
            )

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.sites)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.groups)

    @property
    def consistent(self) -> bool:
        """Whether atoms joined by constraints have the same weight."""
        return bool(self.weight_spread <= _TOLERANCE)

    @property
    def consistency(self) -> Literal["yes", "no"]:
        """The same in the words of a store's metadata (``force_map_consistent``)."""
        return "yes" if self.consistent else "no"

    @property
    def weight_spread(self) -> float:
        """Largest difference of a weight from that of its group's first atom; 0 if consistent."""
        first, labels = np.unique(self.groups, return_index=True, return_inverse=True)[1:]
        return float(np.abs(self.weights - self.weights[:, first[labels]]).max())

    def apply(self, forces: ArrayLike) -> NDArray[np.float32]:
        """Map forces on atoms to forces on beads.

        Atoms without weight are not looked at. Sums are taken in double precision.

        Args:
            forces: (n_frames, n_atoms, 3) kcal/mol/Å.

        Returns:
            (n_frames, n_beads, 3) kcal/mol/Å.

        Raises:
            ValidationError: The shape does not fit.
        """
        values = np.asarray(forces)
        if values.ndim != 3 or values.shape[1:] != (self.n_atoms, 3):
            raise ValidationError(
                f"force map {self.name!r}: wrong shape of the forces",
                expected=f"(frames, {self.n_atoms}, 3)",
                found=values.shape,
            )
        used = np.flatnonzero(self.weights.any(axis=0))
        transposed = np.ascontiguousarray(self.weights[:, used].T)
        every = len(used) == self.n_atoms
        mapped = np.empty((len(values), self.n_beads, 3), dtype=np.float32)
        step = max(1, _BLOCK_NUMBERS // (3 * len(used)))
        for start in range(0, len(values), step):
            # One matrix product over frames and axes: far faster than one for every frame.
            block = values[start : start + step]
            rows = axes_first(block if every else block[:, used])
            product = (rows.reshape(-1, len(used)) @ transposed).reshape(-1, 3, self.n_beads)
            mapped[start : start + step] = product.transpose(0, 2, 1)
        return mapped


def axes_first(forces: NDArray[Any]) -> NDArray[np.float64]:
    """Return forces (n_frames, n_atoms, 3) as contiguous (n_frames, 3, n_atoms)."""
    # Moving the numbers before widening them is twice as fast as both at once.
    return np.ascontiguousarray(forces.transpose(0, 2, 1)).astype(np.float64)


def check_beads(name: str, sites: NDArray[np.int64], groups: NDArray[np.int64]) -> None:
    """Refuse beads that a force map cannot exist for.

    Raises:
        ValidationError: An atom does not exist, or two beads are in one group and so cannot move
            independently.
    """
    what = f"force map {name!r}"
    if sites.ndim != 1 or groups.ndim != 1 or not len(sites) or not len(groups):
        raise ValidationError(
            f"{what}: wrong shape of beads or groups",
            expected="(n_beads,) and (n_atoms,), not empty",
            found=f"{sites.shape} and {groups.shape}",
        )
    if sites.min() < 0 or sites.max() >= len(groups) or groups.min() < 0:
        raise ValidationError(
            f"{what}: a bead's atom or a group that does not exist",
            expected=f"atoms 0 to {len(groups) - 1}, groups from 0",
            found=f"atoms {sites.min()} to {sites.max()}, groups from {groups.min()}",
        )
    if len(np.unique(groups[sites])) != len(sites):
        raise ValidationError(
            f"{what}: two beads are one atom or are joined by constraints",
            expected="beads that can move independently",
            fix="use forces of a simulation in which only bonds to hydrogen are constrained",
        )


def slice_map(sites: NDArray[np.int64], groups: NDArray[np.int64]) -> ForceMap:
    """Return the map that takes the force on each bead's own atom alone.

    It is consistent only where no constraint acts on these atoms.

    Args:
        sites: (n_beads,) atom of each bead.
        groups: (n_atoms,) group of each atom.

    Raises:
        ValidationError: Beads or groups do not fit.
    """
    check_beads("slice", sites, groups)
    own = sites[:, None] == np.arange(len(groups))
    return ForceMap("slice", own.astype(np.float64), sites, groups)


def hydrogens_map(sites: NDArray[np.int64], groups: NDArray[np.int64]) -> ForceMap:
    """Return the map that sums the forces on each bead's atom and on all joined to it.

    With rigid bonds to hydrogen these are the hydrogens of the Cα.

    Args:
        sites: (n_beads,) atom of each bead.
        groups: (n_atoms,) group of each atom.

    Raises:
        ValidationError: Beads or groups do not fit.
    """
    check_beads("hydrogens", sites, groups)
    own = groups[sites][:, None] == groups
    return ForceMap("hydrogens", own.astype(np.float64), sites, groups)
