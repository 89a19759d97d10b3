"""Sums over lagged pairs of frames, streamed with bounded memory and added up in a fixed order.

Trajectories are cut into groups of pairs, each of which is summed on its own: by a thread, a
process or a worker of a cluster. The groups depend on the lengths of the trajectories alone and
their sums are added in their order, so that the result is the same to the last bit whoever does
the work.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import scipy.linalg.blas
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.grouped import Piece, in_order, pieces_in_groups
from cgbench.progress import Progress, silent
from cgbench.store.scheduling import Scheduler

#: Rows of a product: enough for full speed of the processor, 52 MB of λ-repressor's distances.
_BLOCK_BYTES: Final = 48 * 1024 * 1024
#: From this many float32 features on, products of a chunk are taken in float32, at twice the rate,
#: and added up in float64. Rounding within a chunk is some 1e-9 of the largest variance then, far
#: below any rank cutoff; with fewer features the products cost nothing worth saving.
SINGLE_PRECISION_FEATURES: Final = 1000
#: Least number of pairs in a group, and largest number of groups: the sums of a group are two
#: matrices, which should cost little beside what is summed.
_GROUP_PAIRS: Final = 65_536
_MOST_GROUPS: Final = 64
#: Frames that the provisional mean is taken of, spread over as many places.
_MEAN_FRAMES: Final = 128
_MEAN_PLACES: Final = 8

FeatureFunction = Callable[[NDArray[Any]], NDArray[Any]]


class FrameSequence(Protocol):
    """A trajectory that gives its frames by slices: an array, or something that reads them."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def __getitem__(self, frames: slice, /) -> NDArray[Any]:
        """Return a range of frames, (n, …)."""


@dataclass(frozen=True)
class LaggedMoments:
    """Additive sums over lagged pairs (x, y), each with a provisional mean subtracted.

    The two products Σ(x+y)(x+y)ᵀ and Σ(x−y)(x−y)ᵀ hold the whole symmetrised estimator: their sum
    is twice Σ(xxᵀ+yyᵀ) and their difference twice Σ(xyᵀ+yxᵀ). Both are symmetric, which halves
    the work, and the second alone says how much slow coordinates change within the lag.

    Attributes:
        shift: (n_features,) the provisional mean.
        n_pairs: Number of pairs.
        total: (n_features,) Σ(x+y).
        sums: (n_features, n_features) Σ(x+y)(x+y)ᵀ, the lower triangle.
        differences: (n_features, n_features) Σ(x−y)(x−y)ᵀ, the lower triangle.
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
        sums, differences = _symmetric(self.sums), _symmetric(self.differences)
        sums -= centre
        scale = 4.0 * self.n_pairs
        return (sums + differences) / scale, (sums - differences) / scale

    def add(self, other: "LaggedMoments") -> None:
        """Add the sums of other pairs, in place.

        Raises:
            ValidationError: Another provisional mean was subtracted there.
        """
        if not np.array_equal(self.shift, other.shift):
            raise ValidationError("moments about different provisional means cannot be added")
        object.__setattr__(self, "n_pairs", self.n_pairs + other.n_pairs)
        self.total[...] += other.total
        self.sums[...] += other.sums
        self.differences[...] += other.differences


def _symmetric(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.tril(lower)
    result += np.tril(lower, -1).T
    return result


class _Products:
    """Σ rowᵀ·row of rows that come in blocks: the lower triangle, in double precision."""

    def __init__(self, n_features: int, dtype: "np.dtype[Any]") -> None:
        # Column-major, as the library wants it, so that it writes in place.
        self.total = np.zeros((n_features, n_features), order="F")
        self._single = dtype == np.float32
        held = n_features if self._single else 0
        self._product = np.zeros((held, held), dtype=np.float32, order="F")

    def add(self, rows: NDArray[Any]) -> None:
        if self._single:
            # A float32 sum loses digits as it grows: no more than a block goes into one.
            self._product = scipy.linalg.blas.ssyrk(
                1.0, rows.T, beta=0.0, c=self._product, lower=1, overwrite_c=1
            )
            self.total += self._product
        else:
            self.total = scipy.linalg.blas.dsyrk(
                1.0, rows.T, beta=1.0, c=self.total, lower=1, overwrite_c=1
            )


class _Accumulator:
    """Sums that grow block by block.

    Rows wait until a block of them is full: a product costs as much as reading the sums, which
    short trajectories would otherwise do each for a few rows.
    """

    def __init__(self, shift: NDArray[np.float64], dtype: "np.dtype[Any]") -> None:
        self.shift = shift
        self.n_pairs = 0
        self.total = np.zeros(len(shift))
        self._sums, self._differences = (_Products(len(shift), dtype) for _ in range(2))
        self._sum_rows = np.empty((block_rows(len(shift), dtype), len(shift)), dtype=dtype)
        self._difference_rows = np.empty_like(self._sum_rows)
        self._waiting = 0

    def add(self, early: NDArray[Any], late: NDArray[Any]) -> None:
        start = 0
        while start < len(early):
            if self._waiting == len(self._sum_rows):
                self._flush()
            stop = min(len(early), start + len(self._sum_rows) - self._waiting)
            rows = slice(self._waiting, self._waiting + stop - start)
            np.add(late[start:stop], early[start:stop], out=self._sum_rows[rows])
            np.subtract(late[start:stop], early[start:stop], out=self._difference_rows[rows])
            self._waiting = rows.stop
            start = stop

    def _flush(self) -> None:
        sums = self._sum_rows[: self._waiting]
        self.n_pairs += self._waiting
        self.total += np.ones(len(sums), dtype=sums.dtype) @ sums
        self._sums.add(sums)
        self._differences.add(self._difference_rows[: self._waiting])
        self._waiting = 0

    def moments(self) -> LaggedMoments:
        self._flush()
        return LaggedMoments(
            self.shift, self.n_pairs, self.total, self._sums.total, self._differences.total
        )


def block_rows(n_features: int, dtype: "np.dtype[Any]") -> int:
    """Return how many frames' features are held at once."""
    return max(64, _BLOCK_BYTES // (dtype.itemsize * n_features))


@dataclass(frozen=True)
class _Source:
    """Trajectories, what is made of their frames, and about which mean; it sums one group."""

    trajectories: Sequence[FrameSequence]
    lag_frames: int
    features: FeatureFunction
    used: Sequence[NDArray[np.bool_]] | None
    chunk_frames: int | None
    shift: NDArray[np.float64]
    dtype: "np.dtype[Any]"
    groups: Sequence[Sequence[Piece]]

    def __call__(self, group: int) -> tuple[int, LaggedMoments]:
        accumulator = _Accumulator(self.shift, self.dtype)
        for piece in self.groups[group]:
            self._add_piece(accumulator, piece)
        return group, accumulator.moments()

    def _add_piece(self, accumulator: _Accumulator, piece: Piece) -> None:
        lag = self.lag_frames
        trajectory = self.trajectories[piece.trajectory]
        mask = None if self.used is None else self.used[piece.trajectory]
        step = self.chunk_frames or max(lag, block_rows(len(self.shift), self.dtype))
        # The last rows of a chunk are the early ends of pairs that finish in the next.
        rows = np.empty((lag + min(step, len(piece) + lag), len(self.shift)), dtype=self.dtype)
        waiting = 0
        shift = self.shift.astype(self.dtype)
        for start in range(piece.start, piece.stop + lag, step):
            stop = min(start + step, piece.stop + lag)
            part = None if mask is None else mask[start:stop]
            block = self._checked(np.asarray(trajectory[start:stop]))
            filled = waiting + stop - start
            # The mean goes first, so that float32 keeps the digits of what varies.
            np.subtract(block, shift, out=rows[waiting:filled])
            if part is not None:
                rows[waiting:filled][~part] = 0.0
            _check_finite(rows[waiting:filled])
            if filled > lag:
                early, late = rows[: filled - lag], rows[lag:filled]
                if mask is not None:
                    first = stop - filled
                    both = mask[first : stop - lag] & mask[first + lag : stop]
                    if not both.all():
                        early, late = early[both], late[both]
                accumulator.add(early, late)
            kept = min(lag, filled)
            # Overlapping moves within one array are made through a copy by numpy.
            rows[:kept] = rows[filled - kept : filled]
            waiting = kept

    def _checked(self, frames: NDArray[Any]) -> NDArray[Any]:
        block = checked_features(self.features(frames))
        if block.shape[1] != len(self.shift):
            raise ValidationError(
                "trajectories differ in their number of TICA features",
                expected=len(self.shift),
                found=block.shape[1],
            )
        return block


def checked_features(block: NDArray[Any]) -> NDArray[Any]:
    """Return features after checking that they are a table.

    Raises:
        ValidationError: They are not.
    """
    if block.ndim != 2:
        raise ValidationError(
            "TICA features have the wrong shape",
            expected="(n_frames, n_features)",
            found=block.shape,
        )
    return block


def _check_finite(rows: NDArray[Any]) -> None:
    # A sum is finite when all its terms are: one pass without a table of marks.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(rows.sum()):
            return
    damaged = int((~np.isfinite(rows)).any(axis=1).sum())
    if damaged:
        raise ValidationError(
            "TICA features are not finite",
            found=f"{damaged} frames with NaN or infinity",
            fix="mark those frames as unused",
        )


def as_they_are(block: NDArray[Any]) -> NDArray[Any]:
    """Return frames that are features already."""
    return block


def lagged_moments(
    trajectories: Sequence[FrameSequence],
    lag_frames: int,
    *,
    features: FeatureFunction = as_they_are,
    used: Sequence[NDArray[np.bool_]] | None = None,
    chunk_frames: int | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    progress: Progress = silent,
) -> LaggedMoments:
    """Sum over all lagged pairs within trajectories, never across them.

    Memory is bounded: for each worker the sums (16 bytes for each pair of features, a half more in
    single precision) and about 200 MiB of rows.

    Args:
        trajectories: Arrays whose first axis is the frame; read in chunks, so that memory-mapped
            and lazily read trajectories are welcome.
        lag_frames: The lag, at least one frame.
        features: Makes (n, n_features) features from a chunk of a trajectory; picklable unless
            the scheduler is ``threads``, as the trajectories are.
        used: One (n_frames_i,) mask per trajectory; a pair counts when both ends are used.
        chunk_frames: Frames per chunk; by default as many as fit in 48 MiB.
        scheduler: Who sums the groups (:func:`cgbench.store.scheduling.run_units`).
        workers: Groups that are summed at a time; the result does not depend on it.
        progress: Told after each group.

    Raises:
        ValidationError: A lag below one, no pair at all, features that are not finite, or that
            differ in number.
    """
    if lag_frames < 1:
        raise ValidationError("the TICA lag is too short", expected="at least 1", found=lag_frames)
    lengths = [len(trajectory) for trajectory in trajectories]
    for index, length in enumerate(lengths if used is not None else ()):
        if used is not None and len(used[index]) != length:
            raise ValidationError(
                f"the mask of trajectory {index} has the wrong length",
                expected=length,
                found=len(used[index]),
            )
    groups = pieces_in_groups(
        [max(0, length - lag_frames) for length in lengths], _GROUP_PAIRS, _MOST_GROUPS
    )
    result: LaggedMoments | None = None
    if groups:
        shift, dtype = _provisional_mean(trajectories, features, used)
        source = _Source(
            trajectories, lag_frames, features, used, chunk_frames, shift, dtype, groups
        )
        for done, moments in enumerate(in_order(source, len(groups), scheduler, workers)):
            if result is None:
                result = moments
            else:
                result.add(moments)
            progress("covariances", done + 1, len(groups))
    if result is None or not result.n_pairs:
        raise ValidationError(
            "no lagged pairs for TICA",
            expected=f"a trajectory of more than {lag_frames} frames",
            found="only shorter ones" if not groups else "no pair of usable frames",
        )
    return result


def _provisional_mean(
    trajectories: Sequence[FrameSequence],
    features: FeatureFunction,
    used: Sequence[NDArray[np.bool_]] | None,
) -> tuple[NDArray[np.float64], "np.dtype[Any]"]:
    """Return the mean over some frames, and the type that products are taken in."""
    count, total = 0, np.zeros(0)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    for index, block in _sampled(trajectories):
        rows = checked_features(features(block))
        if not len(total):
            total = np.zeros(rows.shape[1])
            if rows.dtype == np.float32 and rows.shape[1] >= SINGLE_PRECISION_FEATURES:
                dtype = np.dtype(np.float32)
        elif rows.shape[1] != len(total):
            # Said by whoever reads that trajectory for the sums.
            continue
        good = np.isfinite(rows).all(axis=1)
        if used is not None:
            good &= used[index][: len(rows)]
        total += rows[good].sum(axis=0, dtype=np.float64)
        count += int(good.sum())
    # The shift is a number of the type that it is subtracted in, or sums would be about another.
    mean = (total / max(count, 1)).astype(dtype)
    return mean.astype(np.float64), dtype


def _sampled(trajectories: Sequence[FrameSequence]) -> Iterator[tuple[int, NDArray[Any]]]:
    filled = [index for index, trajectory in enumerate(trajectories) if len(trajectory)]
    step = max(1, len(filled) // _MEAN_PLACES)
    for index in filled[::step]:
        yield index, np.asarray(trajectories[index][:_MEAN_FRAMES])
