"""Sums over frames that a force map is fitted and judged from, additive over chunks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps.maps import ForceMap, axes_first

#: Numbers of a block that is summed at once, about 32 MB in double precision.
_BLOCK_NUMBERS: Final = 4_000_000


@dataclass(frozen=True, eq=False)
class ForceStatistics:
    """Gram matrices of the forces on atoms, trajectory by trajectory.

    The Gram matrix of a trajectory, Σ over frames of F_i·F_j, gives the mean square of every
    linear map and the fit of the optimal one, so the forces themselves are read once. Statistics
    of chunks are added with ``+``, in any order; those of the same trajectory sum up.

    Attributes:
        trajectories: (n,) numbers of the trajectories, ascending.
        n_frames: (n,) frames of each.
        gram: (n, n_atoms, n_atoms) (kcal/mol/Å)², summed over frames and the three axes.

    Raises:
        ValidationError: Shapes do not fit, numbers repeat or values are not finite.
    """

    trajectories: NDArray[np.int64]
    n_frames: NDArray[np.int64]
    gram: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.trajectories)
        n_atoms = self.gram.shape[-1]
        if self.n_frames.shape != (n,) or self.gram.shape != (n, n_atoms, n_atoms):
            raise ValidationError(
                "force statistics: shapes do not fit",
                expected=f"({n},) and ({n}, atoms, atoms)",
                found=f"{self.n_frames.shape} and {self.gram.shape}",
            )
        if (np.diff(self.trajectories) <= 0).any():
            raise ValidationError("force statistics: trajectories are not ascending")
        if not np.isfinite(self.gram).all():
            raise ValidationError("force statistics: values that are not finite")

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return int(self.gram.shape[-1])

    @classmethod
    def from_forces(cls, forces: ArrayLike, trajectory: int) -> "ForceStatistics":
        """Sum up a chunk of one trajectory.

        Args:
            forces: (n_frames, n_atoms, 3) kcal/mol/Å.
            trajectory: Number of the trajectory that the chunk is of.

        Raises:
            ValidationError: The shape is wrong, there is no frame, or a force is not finite.
        """
        values = np.asarray(forces)
        what = f"forces of trajectory {trajectory}"
        if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
            raise ValidationError(
                f"{what}: wrong shape", expected="(frames, atoms, 3)", found=values.shape
            )
        n_atoms = values.shape[1]
        gram = np.zeros((n_atoms, n_atoms))
        step = max(1, _BLOCK_NUMBERS // (3 * n_atoms))
        for start in range(0, len(values), step):
            rows = axes_first(values[start : start + step]).reshape(-1, n_atoms)
            if not np.isfinite(rows).all():
                bad = start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]) // 3
                raise ValidationError(
                    f"{what}: not finite", found=f"frame {bad} of the chunk", fix="screen frames"
                )
            gram += rows.T @ rows
        return cls(np.array([trajectory]), np.array([len(values)]), gram[None])

    def __add__(self, other: "ForceStatistics") -> "ForceStatistics":
        return ForceStatistics.merge((self, other))

    @classmethod
    def merge(cls, parts: Iterable["ForceStatistics"]) -> "ForceStatistics":
        """Add up any number of parts at once, which is faster than one after the other.

        Raises:
            UsageError: There is none.
            ValidationError: They are of different numbers of atoms.
        """
        chosen = tuple(parts)
        if not chosen:
            raise UsageError("force statistics: nothing to merge")
        n_atoms = {part.n_atoms for part in chosen}
        if len(n_atoms) > 1:
            raise ValidationError("force statistics: of different atoms", found=sorted(n_atoms))
        numbers = np.unique(np.concatenate([part.trajectories for part in chosen]))
        n_frames = np.zeros(len(numbers), dtype=np.int64)
        gram = np.zeros((len(numbers), *chosen[0].gram.shape[1:]))
        for part in chosen:
            places = np.searchsorted(numbers, part.trajectories)
            n_frames[places] += part.n_frames
            gram[places] += part.gram
        return cls(numbers, n_frames, gram)

    def select(self, trajectories: Iterable[int]) -> "ForceStatistics":
        """Return the statistics of some trajectories.

        Raises:
            UsageError: One is not there, is named twice, or none is named.
        """
        chosen = np.array(sorted(trajectories), dtype=np.int64)
        missing = np.setdiff1d(chosen, self.trajectories)
        if len(missing) or not len(chosen) or (np.diff(chosen) == 0).any():
            raise UsageError(
                "force statistics: cannot select these trajectories",
                expected="numbers of trajectories that are there, each once",
                found=f"{len(chosen)} named, not there: {missing[:5].tolist()}",
            )
        places = np.searchsorted(self.trajectories, chosen)
        return ForceStatistics(chosen, self.n_frames[places], self.gram[places])

    def total(self) -> NDArray[np.float64]:
        """Return the Gram matrix (n_atoms, n_atoms) over all trajectories."""
        total: NDArray[np.float64] = self.gram.sum(axis=0)
        return total

    def mean_square(self, force_map: ForceMap) -> NDArray[np.float64]:
        """Return the mean square of a component of the mapped force on each bead.

        Args:
            force_map: Any map of these atoms.

        Returns:
            (n_beads,) (kcal/mol/Å)².

        Raises:
            ValidationError: The map is of other atoms.
        """
        if force_map.n_atoms != self.n_atoms:
            raise ValidationError(
                f"force map {force_map.name!r}: of other atoms than the statistics",
                expected=self.n_atoms,
                found=force_map.n_atoms,
            )
        weights = force_map.weights
        squares: NDArray[Any] = np.einsum("bi,bi->b", weights @ self.total(), weights)
        # Cancellation in the product can leave a tiny negative number where the force is zero.
        mean: NDArray[np.float64] = np.maximum(squares, 0.0) / (3 * self.n_frames.sum())
        return mean
