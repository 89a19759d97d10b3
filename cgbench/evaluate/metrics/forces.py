"""Force errors on the test part of a store, as sums over its trajectories."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ForceErrors:
    """Sums of force errors by trajectory, made where forces are predicted.

    Attributes:
        force_map: The force map that was compared with; errors under two maps never compare.
        trajectory: (n,) index of each trajectory in the store, ascending.
        squared: (n,) float64 sum of squared errors over frames, beads and components,
            (kcal/mol/Å)².
        absolute: (n,) float64 sum of absolute errors, kcal/mol/Å.
        count: (n,) int64 number of components summed.
    """

    force_map: str
    trajectory: NDArray[np.int64]
    squared: Float
    absolute: Float
    count: NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = {
            array.shape for array in (self.trajectory, self.squared, self.absolute, self.count)
        }
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValidationError("force errors of different lengths", found=sorted(shapes))
        if len(self.count) and (self.count <= 0).any():
            raise ValidationError(
                "force errors without components", expected="a positive count each"
            )

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories."""
        return len(self.trajectory)


def force_mse(errors: ForceErrors, multiplicities: NDArray[Any]) -> Float:
    """Return the mean square error per component, (kcal/mol/Å)².

    Args:
        errors: The sums.
        multiplicities: (n, n_columns) how often each trajectory is taken.
    """
    return _mean(errors.squared, errors.count, multiplicities)


def force_l1(errors: ForceErrors, multiplicities: NDArray[Any]) -> Float:
    """Return the mean absolute error per component, kcal/mol/Å; see :func:`force_mse`."""
    return _mean(errors.absolute, errors.count, multiplicities)


def _mean(sums: Float, count: NDArray[np.int64], multiplicities: NDArray[Any]) -> Float:
    # A model whose forces overflow has an infinite sum, and zero times that is no number.
    with np.errstate(invalid="ignore"):
        return np.asarray((sums @ multiplicities) / (count @ multiplicities))


FORCE_METRICS: Final[dict[str, Callable[[ForceErrors, NDArray[Any]], Float]]] = {
    "force_mse": force_mse,
    "force_l1": force_l1,
}
