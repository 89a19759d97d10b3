"""Time-lagged independent component analysis (TICA), streamed with bounded memory.

The estimator is the symmetrised one: every lagged pair counts forwards and backwards, so the mean
is taken over both ends of the pairs and both covariance matrices are symmetric
(Pérez-Hernández et al., J. Chem. Phys. 139, 015102, 2013). Components are scaled by their
eigenvalues (the kinetic map of Noé and Clementi, J. Chem. Theory Comput. 11, 5002, 2015), so that
distances between projections are kinetic distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.covariances import (
    FeatureFunction,
    FrameSequence,
    LaggedMoments,
    as_they_are,
    lagged_moments,
)
from cgbench.progress import Progress, silent
from cgbench.store.scheduling import Scheduler

__all__ = [
    "FeatureFunction",
    "FrameSequence",
    "LaggedMoments",
    "TicaModel",
    "fit_tica",
    "implied_timescales",
    "lagged_moments",
    "solve_tica",
]

#: From this rank on only the slowest components are solved for, by Lanczos iteration.
_ITERATIVE_RANK: Final = 500


@dataclass(frozen=True)
class TicaModel:
    """A fitted projection onto slow coordinates.

    Attributes:
        lag_frames: The lag of the fit, in frames.
        mean: (n_features,) float64, mean over both ends of all lagged pairs.
        components: (n_features, dimensions) float64, one column each, kinetic-map scaled.
        eigenvalues: (dimensions,) float64 autocorrelations at the lag, largest first.
        rank: Number of directions whose variance exceeds the cutoff.
        n_pairs: Number of lagged pairs in the fit.
    """

    lag_frames: int
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    rank: int
    n_pairs: int

    @property
    def dimensions(self) -> int:
        """Number of components."""
        return int(self.components.shape[1])

    def timescales(self, frame_interval: float) -> NDArray[np.float64]:
        """Return implied timescales −τ/ln λ in ps, (dimensions,).

        Args:
            frame_interval: Time between frames in ps.

        Returns:
            Not-a-number where an eigenvalue is not between 0 and 1.
        """
        return implied_timescales(self.eigenvalues, self.lag_frames * frame_interval)

    def transform(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Project features (n_frames, n_features) to (n_frames, dimensions) float32.

        Raises:
            ValidationError: The number of features is not that of the fit.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValidationError(
                "features do not fit the TICA model",
                expected=f"(n_frames, {len(self.mean)})",
                found=features.shape,
            )
        projected = (features.astype(np.float64) - self.mean) @ self.components
        return projected.astype(np.float32)

    def oriented(self, features: NDArray[Any]) -> "TicaModel":
        """Return the model with signs such that one frame's projection is positive.

        The sign of an eigenvector is arbitrary; the native structure fixes it.

        Args:
            features: (n_features,) features of the frame.
        """
        projection = (np.asarray(features, dtype=np.float64) - self.mean) @ self.components
        return replace(self, components=self.components * np.where(projection < 0, -1.0, 1.0))


def implied_timescales(eigenvalues: NDArray[np.float64], lag: float) -> NDArray[np.float64]:
    """Return −lag/ln λ for each eigenvalue; not-a-number where λ is not between 0 and 1."""
    inside = (eigenvalues > 0) & (eigenvalues < 1)
    safe = np.where(inside, eigenvalues, 0.5)
    return np.where(inside, -lag / np.log(safe), np.nan)


def solve_tica(
    moments: LaggedMoments, lag_frames: int, dimensions: int, epsilon: float
) -> TicaModel:
    """Solve the generalised eigenvalue problem of the two covariances, in double precision.

    Args:
        moments: Sums over lagged pairs.
        lag_frames: The lag of those pairs.
        dimensions: Number of components to keep.
        epsilon: Directions whose variance is at most this fraction of the largest are dropped.

    Raises:
        ValidationError: Fewer independent directions than dimensions.
    """
    instantaneous, lagged = moments.covariances()
    variances, directions = scipy.linalg.eigh(
        instantaneous, overwrite_a=True, check_finite=False, driver="evd"
    )
    kept = variances > epsilon * variances[-1]
    rank = int(kept.sum()) if variances[-1] > 0 else 0
    if rank < dimensions:
        raise ValidationError(
            "the features have too few independent directions for TICA",
            expected=f"at least {dimensions}",
            found=rank,
            fix="ask for fewer dimensions or give more frames",
        )
    # Eigenvalues ascend, so that the kept directions are the last columns: a view.
    whitening = directions[:, len(variances) - rank :]
    whitening /= np.sqrt(variances[kept])
    eigenvalues, rotations = _slowest(whitening, lagged, dimensions)
    components = whitening @ rotations
    # An eigenvector's sign is arbitrary; the largest coefficient decides until a frame does.
    largest = components[np.abs(components).argmax(axis=0), np.arange(dimensions)]
    scale = np.abs(eigenvalues) * np.where(largest < 0, -1.0, 1.0)
    return TicaModel(
        lag_frames=lag_frames,
        mean=moments.mean(),
        components=components * scale,
        eigenvalues=eigenvalues,
        rank=rank,
        n_pairs=moments.n_pairs,
    )


def _slowest(
    whitening: NDArray[np.float64], lagged: NDArray[np.float64], dimensions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues of the whitened lagged covariance, and their vectors."""
    rank = whitening.shape[1]
    if rank >= max(_ITERATIVE_RANK, 20 * dimensions):
        # A few hundred products with a vector cost far less than the whitened matrix.
        def correlate(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(whitening.T @ (lagged @ (whitening @ vector)))

        operator: Any = scipy.sparse.linalg.LinearOperator(
            (rank, rank), matvec=correlate, dtype=np.float64
        )
        start = np.random.default_rng(0).standard_normal((rank,))
        try:
            found, vectors = scipy.sparse.linalg.eigsh(
                operator, k=dimensions, which="LA", v0=start, ncv=max(40, 4 * dimensions)
            )
        except scipy.sparse.linalg.ArpackNoConvergence:
            pass
        else:
            order = np.argsort(found)[::-1]
            return np.asarray(found[order]), np.asarray(vectors[:, order])
    correlation = whitening.T @ lagged @ whitening
    found, vectors = scipy.linalg.eigh(
        (correlation + correlation.T) / 2, subset_by_index=[rank - dimensions, rank - 1]
    )
    return np.ascontiguousarray(found[::-1]), np.ascontiguousarray(vectors[:, ::-1])


def fit_tica(
    trajectories: Sequence[FrameSequence],
    lag_frames: int,
    dimensions: int,
    epsilon: float,
    *,
    features: FeatureFunction = as_they_are,
    used: Sequence[NDArray[np.bool_]] | None = None,
    chunk_frames: int | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    progress: Progress = silent,
) -> TicaModel:
    """Fit TICA to trajectories: :func:`lagged_moments`, then :func:`solve_tica`.

    Args:
        trajectories: Feature arrays (n_frames_i, n_features), or anything that ``features``
            turns into them.
        lag_frames: The lag in frames.
        dimensions: Number of components to keep.
        epsilon: Relative variance below which a direction is dropped.
        features: Makes features from a chunk of a trajectory.
        used: One mask per trajectory; a pair counts when both ends are used.
        chunk_frames: Frames per chunk; by default as many as fit in 48 MiB.
        scheduler: Who sums the pairs (:func:`cgbench.store.scheduling.run_units`).
        workers: Groups of pairs that are summed at a time; the result does not depend on it.
        progress: Told after each group.

    Raises:
        ValidationError: As the two functions.
    """
    moments = lagged_moments(
        trajectories,
        lag_frames,
        features=features,
        used=used,
        chunk_frames=chunk_frames,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )
    return solve_tica(moments, lag_frames, dimensions, epsilon)
