"""Frames that stand for an ensemble: statistics that are too large to be counted of every frame.

Distributions of every residue and pair are made from a seeded subset, structure scores from a
smaller one and the frames of least RMSD. In each resample such a frame carries the mass that all
frames of its microstate have, shared among the sampled ones, so that sampling adds little noise.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.statistic import Definition, Frames, Statistic
from cgbench.evaluate.threads import threads

Float = NDArray[np.float64]

#: Frames that statistics are measured on at a time.
_CHUNK_FRAMES: Final = 512
#: Resamples whose histograms are made at a time: a block of a histogram fits into the cache.
COLUMN_BLOCK: Final = 32
#: Histograms of more bins than this are kept in single precision.
_LARGE: Final = 100_000


@dataclass(frozen=True)
class BinnedFrames:
    """The bins that frames are counted in, in the smallest type that holds them.

    Attributes:
        first: (k,) int64 lowest bin of each of a frame's k counts.
        steps: (k, m) one more than the bins above it, 0 for none; of the smallest whole type.
        width: Number of bins.
    """

    first: NDArray[np.int64]
    steps: NDArray[Any]
    width: int

    @classmethod
    def of(cls, bins: NDArray[Any], width: int) -> "BinnedFrames":
        """Return the bins (k, m) of frames, −1 for none, in this form."""
        if not bins.size:
            return cls(np.zeros(len(bins), dtype=np.int64), bins.astype(np.uint8), width)
        least = np.where(bins < 0, width, bins).min(axis=1).astype(np.int64)
        first = np.where(least == width, 0, least)
        span = int((bins.max(axis=1) - first).max()) + 1
        steps = np.empty(bins.shape, dtype=np.min_scalar_type(max(span, 1)))
        # One count at a time: all of them in a wider type would take many times the memory.
        for count, row in enumerate(bins):
            steps[count] = np.where(row < 0, 0, row - first[count] + 1)
        return cls(first, steps, width)

    @property
    def bins(self) -> NDArray[np.int64]:
        """(k, m) bins, −1 for none."""
        return np.where(self.steps > 0, self.first[:, None] + self.steps.astype(np.int64) - 1, -1)


@dataclass(frozen=True)
class SampledFrames:
    """Sampled frames with what was measured of them.

    Attributes:
        trajectory: (m,) int32 trajectory of each.
        microstate: (m,) int32 microstate of each.
        weight: (m,) weight that each brings with it.
        coordinates: (m, n_beads, 3) float32 in Å.
        bins: By statistic, the bins that a frame is counted in.
        sums: (m, n_columns) by statistic.
    """

    trajectory: NDArray[np.int32]
    microstate: NDArray[np.int32]
    weight: Float
    coordinates: NDArray[np.float32]
    bins: dict[str, BinnedFrames]
    sums: dict[str, Float]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.trajectory)

    def __add__(self, other: "SampledFrames") -> "SampledFrames":
        """Join the samples of two parts of an ensemble."""
        mine, theirs = (
            ({name: (len(one.first), one.width) for name, one in part.bins.items()}, [*part.sums])
            for part in (self, other)
        )
        if mine != theirs:
            raise ValidationError("samples with different statistics cannot be joined")
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in (self, other)])
            for name in ("trajectory", "microstate", "weight", "coordinates")
        }
        return SampledFrames(
            **joined,
            bins={
                name: BinnedFrames.of(
                    np.concatenate([part.bins[name].bins for part in (self, other)], axis=1),
                    one.width,
                )
                for name, one in self.bins.items()
            },
            sums={name: np.concatenate([self.sums[name], other.sums[name]]) for name in self.sums},
        )


@dataclass(frozen=True)
class SearchedFrames:
    """Frames whose superposition on the native conformer was searched.

    Attributes:
        trajectory: (m,) int32 trajectory of each.
        microstate: (m,) int32 microstate of each.
        weight: (m,) weight that each brings with it.
        closest: (m,) frames of least RMSD, each of which stands for itself; the others stand for
            all frames that are not among these.
        scores: (m,) by name: ``gdt_ts``, ``gdt_ha`` and, for chains that are long enough, ``tm``.
        population: ``all`` where the frames were drawn from all frames, ``subset`` where they were
            drawn from the subset.
    """

    trajectory: NDArray[np.int32]
    microstate: NDArray[np.int32]
    weight: Float
    closest: NDArray[np.bool_]
    scores: dict[str, Float]
    population: Literal["all", "subset"]

    def __add__(self, other: "SearchedFrames") -> "SearchedFrames":
        """Join the samples of two parts of an ensemble."""
        parts = {
            field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
            for field in fields(self)[:4]
        }
        scores = {
            name: np.concatenate([self.scores[name], other.scores[name]]) for name in self.scores
        }
        return SearchedFrames(**parts, scores=scores, population=self.population)


def sample(
    coordinates: NDArray[np.float32],
    trajectory: NDArray[np.int32],
    microstate: NDArray[np.int32],
    weight: Float,
    definition: Definition,
    statistics: Sequence[Statistic],
    *,
    workers: int = 1,
    failed: Callable[[Statistic, Exception], None] | None = None,
) -> SampledFrames:
    """Measure statistics on sampled frames; the result is the same whatever the workers.

    Args:
        coordinates: (m, n_beads, 3) finite coordinates in Å.
        trajectory: (m,) trajectory of each.
        microstate: (m,) microstate of each.
        weight: (m,) weight that each brings with it.
        definition: What the numbers refer to.
        statistics: What to measure.
        workers: Threads.
        failed: Told of a statistic that raises, which is then left out; None lets it raise.
    """
    arrays: dict[str, NDArray[Any]] = {}
    errors: dict[str, Exception] = {}

    def chunk(start: int) -> None:
        place = slice(start, start + _CHUNK_FRAMES)
        frames = Frames(coordinates[place], definition)
        for statistic in statistics:
            name = statistic.name
            try:
                values = statistic.measured(frames, definition)
                if name not in arrays:
                    bins = statistic.kind == "bins"
                    shape = (values.shape[1], len(trajectory))
                    arrays[name] = np.empty(
                        shape if bins else shape[::-1], dtype=np.int32 if bins else np.float64
                    )
                if statistic.kind == "bins":
                    arrays[name][:, place] = values.T
                else:
                    arrays[name][place] = values
            # A statistic may come from another package: whatever it raises is reported.
            except Exception as error:
                if failed is None:
                    raise
                errors[name] = error

    starts = range(0, len(coordinates), _CHUNK_FRAMES)
    # The first chunk makes the arrays that the others fill.
    for start in starts[:1]:
        chunk(start)
    with threads(workers) as pool:
        list(pool.map(chunk, starts[1:]))
    bins, sums = {}, {}
    for statistic in statistics:
        name = statistic.name
        if name in errors:
            if failed is not None:
                failed(statistic, errors[name])
        elif name not in arrays:
            continue
        elif statistic.kind == "bins":
            bins[name] = BinnedFrames.of(arrays.pop(name), statistic.n_columns(definition))
        else:
            sums[name] = arrays[name]
    return SampledFrames(trajectory, microstate, weight, coordinates, bins, sums)


def by_state(microstate: NDArray[Any], values: Float, n_states: int) -> Float:
    """Return the sums (n_states, n_columns) of (m, n_columns) values over each microstate."""
    rows = np.arange(len(microstate))
    place = scipy.sparse.csr_array(
        (np.ones(len(rows)), (microstate, rows)), shape=(n_states, len(rows))
    )
    return np.asarray(place @ values)


def subset_weights(
    frames: SampledFrames | SearchedFrames, taken: Float, state_mass: Float
) -> Float:
    """Return the weight of sampled frames in each resample, (m, n_columns), summing to one.

    A frame has the mass of its microstate over the frames that were sampled from it.

    Args:
        frames: The frames.
        taken: (n_trajectories, n_columns) multiplicities.
        state_mass: (n_states, n_columns) share of all frames' weight in each microstate.
    """
    own = frames.weight[:, None] * taken[frames.trajectory]
    return _normalised(own * _shared(frames.microstate, own, state_mass)[frames.microstate])


def _shared(microstate: NDArray[Any], own: Float, mass: Float) -> Float:
    """Return the mass of each microstate over what was sampled of it."""
    sampled = by_state(microstate, own, len(mass))
    return np.where(sampled > 0, mass / np.where(sampled > 0, sampled, 1.0), 0.0)


def _normalised(weights: Float) -> Float:
    total = weights.sum(axis=0)
    return np.asarray(weights / np.where(total > 0, total, 1.0))


def searched_weights(
    searched: SearchedFrames, taken: Float, state_mass: Float, population: Float
) -> Float:
    """Return the weight of searched frames in each resample, (m, n_columns), summing to one.

    The closest frames weigh what they weigh among all frames. The others share what is left of
    their microstates' mass.

    Args:
        searched: The frames.
        taken: (n_trajectories, n_columns) multiplicities.
        state_mass: (n_states, n_columns) share of all frames' weight in each microstate.
        population: (n_states, n_columns) frames of each microstate that the searched ones were
            drawn from, times their own weights and multiplicities.
    """
    own = searched.weight[:, None] * taken[searched.trajectory]
    states, closest = searched.microstate, searched.closest
    each = np.where(population > 0, state_mass / np.where(population > 0, population, 1.0), 0.0)
    weights = np.zeros_like(own)
    weights[closest] = own[closest] * each[states[closest]]
    rest = state_mass - by_state(states[closest], weights[closest], len(state_mass))
    others = own[~closest]
    shared = _shared(states[~closest], others, np.maximum(rest, 0.0))
    left = np.maximum(state_mass.sum(axis=0) - weights.sum(axis=0), 0.0)
    weights[~closest] = _normalised(others * shared[states[~closest]]) * left
    return _normalised(weights)


def weighted_bins(
    frames: BinnedFrames, weights: Float, workers: int = 1
) -> NDArray[np.floating[Any]]:
    """Return weighted histograms, (n_bins, n_columns), one column a resample.

    Args:
        frames: The bins that each of m frames is counted in.
        weights: (m, n_columns).
        workers: Threads; each makes the columns of other resamples.

    Returns:
        Single precision where there are so many bins that memory matters.
    """
    from cgbench.evaluate.histogram_kernel import add_weights

    n_columns = weights.shape[1]
    dtype = np.float32 if frames.width > _LARGE else np.float64
    result = np.zeros((frames.width, n_columns), dtype=dtype)

    def block(start: int) -> None:
        columns = slice(start, min(start + COLUMN_BLOCK, n_columns))
        part = np.zeros((frames.width, columns.stop - columns.start))
        chosen = np.ascontiguousarray(weights[:, columns])
        add_weights(frames.first, frames.steps, chosen, part)
        result[:, columns] = part

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(block, range(0, n_columns, COLUMN_BLOCK)))
    return result
