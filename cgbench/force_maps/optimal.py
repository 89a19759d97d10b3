"""The statistically optimal linear force map, fitted on training trajectories."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps.maps import FitRecord, ForceMap, check_beads
from cgbench.force_maps.statistics import ForceStatistics

#: Ridge in units of the mean diagonal. It keeps weights of atoms that move as one finite and
#: costs less than 0.1 % of the mean square on the chignolin sample.
DEFAULT_RIDGE: Final = 1e-3


def fit_optimal(
    statistics: ForceStatistics,
    sites: NDArray[np.int64],
    groups: NDArray[np.int64],
    ridge: float = DEFAULT_RIDGE,
) -> ForceMap:
    """Fit the consistent linear map whose forces have the least mean square.

    All consistent maps have the same mean at fixed beads, so the one of least mean square has the
    least noise (Krämer et al., J. Phys. Chem. Lett. 14, 3970, 2023). Atoms of a
    group share a weight, which makes the force on a group the unknown's regressor; the bead's own
    group has weight 1 and those of other beads 0. What is left is linear least squares for the
    other groups, w = −(G + λ·mean(diag G)·1)⁻¹ g, with G their Gram matrix and g their products
    with the bead's own group; the same G serves all beads.

    Args:
        statistics: Sums over the trajectories to fit on: select the training trajectories first.
        sites: (n_beads,) atom of each bead.
        groups: (n_atoms,) group of each atom; atoms joined by constraints share one.
        ridge: λ, in units of the mean diagonal of G.

    Raises:
        UsageError: The ridge is negative or not finite.
        ValidationError: Beads, groups and statistics do not fit, or G is singular and λ zero.
    """
    if not 0 <= ridge < np.inf:
        raise UsageError("force map 'optimal': ridge", expected="at least 0", found=ridge)
    check_beads("optimal", sites, groups)
    if len(groups) != statistics.n_atoms:
        raise ValidationError(
            "force map 'optimal': groups of other atoms than the statistics",
            expected=statistics.n_atoms,
            found=len(groups),
        )
    labels = np.unique(groups, return_inverse=True)[1]
    membership = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float64)
    gram = membership.T @ statistics.total() @ membership
    own = labels[sites]
    free = np.setdiff1d(np.arange(len(gram)), own)
    weights = np.zeros((len(sites), len(gram)))
    weights[np.arange(len(sites)), own] = 1.0
    weights[:, free] = -_solve(gram[np.ix_(free, free)], gram[np.ix_(free, own)], ridge).T
    fitted = ForceMap("optimal", weights @ membership.T, sites, groups)
    record = FitRecord(
        trajectories=tuple(statistics.trajectories.tolist()),
        n_frames=int(statistics.n_frames.sum()),
        ridge=ridge,
        root_mean_square=float(np.sqrt(statistics.mean_square(fitted).mean())),
    )
    return ForceMap("optimal", fitted.weights, sites, groups, record)


def _solve(
    gram: NDArray[np.float64], products: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    from scipy.linalg import cho_factor, cho_solve

    if not len(gram):
        return products
    scale = np.trace(gram) / len(gram)
    regular = gram + ridge * scale * np.eye(len(gram))
    try:
        factor = cho_factor(regular, lower=True)
    except np.linalg.LinAlgError as error:
        raise ValidationError(
            "force map 'optimal': forces that depend linearly on each other",
            expected="more frames than groups of atoms, or a ridge above 0",
            found=f"{len(gram)} groups",
            fix="use more frames or a larger ridge",
        ) from error
    solution: NDArray[np.float64] = cho_solve(factor, products)
    return solution
