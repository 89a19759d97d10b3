"""Time-lagged independent component analysis (TICA), streamed with bounded memory.

The estimator is the symmetrised one: every lagged pair counts forwards and backwards, so the mean
is taken over both ends of the pairs and both covariance matrices are symmetric
(Pérez-Hernández et al., J. Chem. Phys. 139, 015102, 2013). Components are scaled by their
eigenvalues (the kinetic map of Noé and Clementi, J. Chem. Theory Comput. 11, 5002, 2015), so that
distances between projections are kinetic distances.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.progress import Progress, silent

#: Bytes of features that are held at once while streaming.
_CHUNK_BYTES: Final = 32 * 1024 * 1024
#: From this many float32 features on, products of a chunk are taken in float32, at twice the rate,
#: and added up in float64. Rounding within a chunk is some 1e-9 of the largest variance then, far
#: below any rank cutoff; with fewer features the products cost nothing worth saving.
SINGLE_PRECISION_FEATURES: Final = 1000

FeatureFunction = Callable[[NDArray[Any]], NDArray[Any]]


class FrameSequence(Protocol):
    """A trajectory that gives its frames by slices: an array, or something that reads them."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def __getitem__(self, frames: slice, /) -> NDArray[Any]:
        """Return a range of frames, (n, …)."""


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


@dataclass(frozen=True)
class LaggedMoments:
    """Additive sums over lagged pairs (x, y), each with a provisional mean subtracted.

    The two products Σ(x+y)(x+y)ᵀ and Σ(x−y)(x−y)ᵀ hold the whole symmetrised estimator: their sum
    is twice Σ(xxᵀ+yyᵀ) and their difference twice Σ(xyᵀ+yxᵀ).

    Attributes:
        shift: (n_features,) the provisional mean.
        n_pairs: Number of pairs.
        total: (n_features,) Σ(x+y).
        sums: (n_features, n_features) Σ(x+y)(x+y)ᵀ.
        differences: (n_features, n_features) Σ(x−y)(x−y)ᵀ.
    """

    shift: NDArray[np.float64]
    n_pairs: int
    total: NDArray[np.float64]
    sums: NDArray[np.float64]
    differences: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """Return the mean over both ends of the pairs, (n_features,)."""
        return self.shift + self.total / (2 * self.n_pairs)

    def covariances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the instantaneous and the time-lagged covariance, mean removed."""
        centre = np.outer(self.total, self.total) / self.n_pairs
        centred = self.sums - centre
        scale = 4.0 * self.n_pairs
        return (centred + self.differences) / scale, (centred - self.differences) / scale


def implied_timescales(eigenvalues: NDArray[np.float64], lag: float) -> NDArray[np.float64]:
    """Return −lag/ln λ for each eigenvalue; not-a-number where λ is not between 0 and 1."""
    inside = (eigenvalues > 0) & (eigenvalues < 1)
    safe = np.where(inside, eigenvalues, 0.5)
    return np.where(inside, -lag / np.log(safe), np.nan)


def _as_they_are(block: NDArray[Any]) -> NDArray[Any]:
    return block


def _checked(block: NDArray[Any], used: NDArray[np.bool_] | None) -> NDArray[Any]:
    if block.ndim != 2:
        raise ValidationError(
            "TICA features have the wrong shape",
            expected="(n_frames, n_features)",
            found=block.shape,
        )
    single = block.dtype == np.float32 and block.shape[1] >= SINGLE_PRECISION_FEATURES
    rows = block.astype(np.float32 if single else np.float64)
    if used is not None:
        rows[~used] = 0.0
    if not np.isfinite(rows).all():
        raise ValidationError(
            "TICA features are not finite",
            found=f"{int((~np.isfinite(rows)).any(axis=1).sum())} frames with NaN or infinity",
            fix="mark those frames as unused",
        )
    return rows


class _Accumulator:
    """Sums that grow block by block; the first block sets the provisional mean.

    Rows wait until a block of them is full: a product costs as much as reading the sums, which
    short trajectories would otherwise do each for a few rows.
    """

    def __init__(self) -> None:
        self.shift: NDArray[np.float64] | None = None
        self.n_pairs = 0
        self.total = np.zeros(0)
        self.sums = np.zeros((0, 0))
        self.differences = np.zeros((0, 0))
        self._shift: NDArray[Any] = np.zeros(0)
        self._early: NDArray[Any] = np.zeros((0, 0))
        self._late: NDArray[Any] = np.zeros((0, 0))
        self._waiting = 0

    def add(self, early: NDArray[Any], late: NDArray[Any]) -> None:
        if not len(early):
            return
        if self.shift is None:
            self._begin(early)
        elif len(self.shift) != early.shape[1]:
            raise ValidationError(
                "trajectories differ in their number of TICA features",
                expected=len(self.shift),
                found=early.shape[1],
            )
        start = 0
        while start < len(early):
            if self._waiting == len(self._early):
                self._flush()
            stop = min(len(early), start + len(self._early) - self._waiting)
            rows = slice(self._waiting, self._waiting + stop - start)
            # The mean goes first, so that float32 keeps the digits of what varies.
            np.subtract(early[start:stop], self._shift, out=self._early[rows])
            np.subtract(late[start:stop], self._shift, out=self._late[rows])
            self._waiting = rows.stop
            start = stop

    def _begin(self, early: NDArray[Any]) -> None:
        n_features = early.shape[1]
        self._shift = early.mean(axis=0, dtype=np.float64).astype(early.dtype)
        self.shift = self._shift.astype(np.float64)
        self.total = np.zeros(n_features)
        self.sums = np.zeros((n_features, n_features))
        self.differences = np.zeros((n_features, n_features))
        rows = max(64, _CHUNK_BYTES // (early.itemsize * n_features))
        self._early = np.empty((rows, n_features), dtype=early.dtype)
        self._late = np.empty_like(self._early)

    def _flush(self) -> None:
        early, late = self._early[: self._waiting], self._late[: self._waiting]
        self.n_pairs += self._waiting
        work = np.add(early, late)
        self.total += work.sum(axis=0, dtype=np.float64)
        self.sums += work.T @ work
        np.subtract(late, early, out=work)
        self.differences += work.T @ work
        self._waiting = 0

    def moments(self, lag_frames: int) -> LaggedMoments:
        if self.shift is None:
            raise ValidationError(
                "no lagged pairs for TICA",
                expected=f"a trajectory of more than {lag_frames} frames",
                found="only shorter ones",
            )
        self._flush()
        return LaggedMoments(self.shift, self.n_pairs, self.total, self.sums, self.differences)


def lagged_moments(
    trajectories: Iterable[FrameSequence],
    lag_frames: int,
    *,
    features: FeatureFunction = _as_they_are,
    used: Sequence[NDArray[np.bool_]] | None = None,
    chunk_frames: int | None = None,
    progress: Progress = silent,
) -> LaggedMoments:
    """Sum over all lagged pairs within trajectories, never across them.

    Args:
        trajectories: Arrays whose first axis is the frame; read one after the other, in chunks,
            so that memory-mapped and lazily made trajectories are welcome.
        lag_frames: The lag, at least one frame.
        features: Makes (n, n_features) features from a chunk of a trajectory.
        used: One (n_frames_i,) mask per trajectory; a pair counts when both ends are used.
        chunk_frames: Frames per chunk; by default as many as fit in 32 MiB.
        progress: Told after each trajectory.

    Raises:
        ValidationError: A lag below one, no pair at all, features that are not finite, or that
            differ in number.
    """
    if lag_frames < 1:
        raise ValidationError("the TICA lag is too short", expected="at least 1", found=lag_frames)
    accumulator = _Accumulator()
    n_trajectories = len(trajectories) if isinstance(trajectories, Sequence) else 0
    for index, trajectory in enumerate(trajectories):
        mask = None if used is None else used[index]
        if mask is not None and len(mask) != len(trajectory):
            raise ValidationError(
                f"the mask of trajectory {index} has the wrong length",
                expected=len(trajectory),
                found=len(mask),
            )
        _add_trajectory(accumulator, trajectory, lag_frames, features, mask, chunk_frames)
        progress("covariances", index + 1, n_trajectories or index + 1)
    return accumulator.moments(lag_frames)


def _add_trajectory(
    accumulator: _Accumulator,
    trajectory: FrameSequence,
    lag_frames: int,
    features: FeatureFunction,
    mask: NDArray[np.bool_] | None,
    chunk_frames: int | None,
) -> None:
    # The last `lag_frames` rows of a chunk are the early ends of pairs that finish in the next.
    waiting: NDArray[Any] | None = None
    start = 0
    step = chunk_frames or 1024
    while start < len(trajectory):
        stop = min(start + step, len(trajectory))
        part = None if mask is None else mask[start:stop]
        block = _checked(features(np.asarray(trajectory[start:stop])), part)
        rows = block if waiting is None else np.concatenate([waiting, block])
        early, late = rows[:-lag_frames], rows[lag_frames:]
        if mask is not None and len(late):
            first = stop - len(rows)
            both = mask[first : stop - lag_frames] & mask[first + lag_frames : stop]
            early, late = early[both], late[both]
        accumulator.add(early, late)
        waiting = rows[-lag_frames:]
        start = stop
        if chunk_frames is None:
            step = max(lag_frames, 64, _CHUNK_BYTES // (block.itemsize * block.shape[1]))


def solve_tica(
    moments: LaggedMoments, lag_frames: int, dimensions: int, epsilon: float
) -> TicaModel:
    """Solve the generalised eigenvalue problem of the two covariances.

    Args:
        moments: Sums over lagged pairs.
        lag_frames: The lag of those pairs.
        dimensions: Number of components to keep.
        epsilon: Directions whose variance is at most this fraction of the largest are dropped.

    Raises:
        ValidationError: Fewer independent directions than dimensions.
    """
    instantaneous, lagged = moments.covariances()
    variances, directions = scipy.linalg.eigh(instantaneous)
    kept = variances > epsilon * variances[-1]
    rank = int(kept.sum()) if variances[-1] > 0 else 0
    if rank < dimensions:
        raise ValidationError(
            "the features have too few independent directions for TICA",
            expected=f"at least {dimensions}",
            found=rank,
            fix="ask for fewer dimensions or give more frames",
        )
    whitening = directions[:, kept] / np.sqrt(variances[kept])
    correlation = whitening.T @ lagged @ whitening
    eigenvalues, rotations = scipy.linalg.eigh((correlation + correlation.T) / 2)
    order = np.argsort(eigenvalues)[::-1][:dimensions]
    components = whitening @ rotations[:, order]
    # An eigenvector's sign is arbitrary; the largest coefficient decides until a frame does.
    largest = components[np.abs(components).argmax(axis=0), np.arange(dimensions)]
    scale = np.abs(eigenvalues[order]) * np.where(largest < 0, -1.0, 1.0)
    return TicaModel(
        lag_frames=lag_frames,
        mean=moments.mean(),
        components=components * scale,
        eigenvalues=eigenvalues[order],
        rank=rank,
        n_pairs=moments.n_pairs,
    )


def fit_tica(
    trajectories: Iterable[FrameSequence],
    lag_frames: int,
    dimensions: int,
    epsilon: float,
    *,
    features: FeatureFunction = _as_they_are,
    used: Sequence[NDArray[np.bool_]] | None = None,
    chunk_frames: int | None = None,
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
        chunk_frames: Frames per chunk; by default as many as fit in 32 MiB.
        progress: Told after each trajectory.

    Raises:
        ValidationError: As the two functions.
    """
    moments = lagged_moments(
        trajectories,
        lag_frames,
        features=features,
        used=used,
        chunk_frames=chunk_frames,
        progress=progress,
    )
    return solve_tica(moments, lag_frames, dimensions, epsilon)
