"""Resampling of whole trajectories: multiplicities, intervals and paired differences."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.metrics import COMPARED, FORCE_METRICS
from cgbench.evaluate.scored import Scored
from cgbench.results import PairedDifference

Float = NDArray[np.float64]

#: What is resampled; each draws from a stream of its own, so that none depends on another.
Stream = Literal["model", "reference", "forces", "halves"]
_STREAMS: Final[dict[Stream, int]] = {"model": 0, "reference": 1, "forces": 2, "halves": 3}
#: Fewer resamples with a value than this share give no interval.
_LEAST_SHARE: Final = 0.5
#: Differences smaller than this part of the values are rounding: that of single precision.
_ROUNDING: Final = 1e-7


def generator(seed: int, stream: Stream, n_trajectories: int, index: int) -> np.random.Generator:
    """Return the generator of one resample: a function of its arguments alone."""
    return np.random.default_rng([seed, _STREAMS[stream], n_trajectories, index])


def multiplicities(
    seed: int, n_trajectories: int, n_resamples: int, stream: Stream = "model"
) -> Float:
    """Return how often each trajectory is taken: once each, and then for every resample.

    A resample draws as many trajectories as there are, with replacement. It depends on the seed,
    the number of trajectories and its own index only, so that two models that were started from
    the same frames are resampled together.

    Args:
        seed: Seed of all resamples.
        n_trajectories: Number of trajectories.
        n_resamples: Number of resamples.
        stream: What is resampled.

    Returns:
        (n_trajectories, 1 + n_resamples); the first column is ones, for the estimate itself.
    """
    result = np.ones((n_trajectories, 1 + n_resamples))
    for index in range(n_resamples if n_trajectories else 0):
        drawn = generator(seed, stream, n_trajectories, index).integers(
            n_trajectories, size=n_trajectories
        )
        result[:, 1 + index] = np.bincount(drawn, minlength=n_trajectories)
    return result


def interval(value: float, resamples: Float) -> tuple[float, float] | None:
    """Return the percentile interval of an estimate, moved so that it is centred on it.

    Distances between distributions grow with sampling noise, and a resample is noisier than the
    sample: plain percentiles of them can leave the estimate itself outside. The resamples are
    therefore moved by their mean's distance from the estimate (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 10, estimate of bias). The interval says how
    much the value would vary between repetitions of the same size; what size alone does to it is
    shown by the noise floor. For estimates without bias it is the percentile interval.

    Args:
        value: The estimate.
        resamples: (n_resamples,) its resampled values; those that are not finite are left out.

    Returns:
        Lower and upper end, or None where too few resamples have a value.
    """
    known = resamples[np.isfinite(resamples)]
    if not len(known) or len(known) < _LEAST_SHARE * len(resamples) or not np.isfinite(value):
        return None
    tail = 50.0 * (1.0 - registry.constants().confidence_level)
    lo, hi = np.percentile(known - known.mean(), [tail, 100.0 - tail])
    return float(value + lo), float(value + hi)


def effective_number(shares: NDArray[np.float64]) -> float:
    """Return the number of equal parts that are as uneven as these: (Σs)² / Σs².

    Kish, Survey Sampling (1965), section 11.7. Zero where there is nothing.
    """
    squares = float((shares**2).sum())
    return float(shares.sum() ** 2 / squares) if squares > 0 else 0.0


def paired_difference(a: Scored, b: Scored, metric: str) -> PairedDifference:
    """Return the difference a − b of a metric, both resampled on the same trajectories.

    Replicas are paired by their start frame, force errors by their test trajectory, so what the
    two have in common cancels in every resample.

    Args:
        a: A row.
        b: Another row of the same system.
        metric: Any metric of an ensemble, or of forces.

    Raises:
        ValidationError: The rows cannot be paired, or one has no value of the metric.
    """
    if a.result.system != b.result.system:
        raise _unpaired(a, b, metric, f"systems {a.result.system} and {b.result.system}")
    first, second = _force_pair(a, b, metric) if metric in FORCE_METRICS else _pair(a, b, metric)
    scale = np.maximum(np.abs(first), np.abs(second))
    differences = first - second
    # What two rows have in common must cancel, not leave the rounding of two sums.
    differences[np.abs(differences) <= _ROUNDING * scale] = 0.0
    value, resamples = float(differences[0]), differences[1:]
    found = interval(value, resamples)
    if found is None:
        raise _unpaired(a, b, metric, "too few resamples with a value")
    return PairedDifference(metric=metric, a=a.name, b=b.name, diff=value, lo=found[0], hi=found[1])


def can_pair(a: Scored, b: Scored, metric: str) -> bool:
    """Return whether :func:`paired_difference` has an answer."""
    try:
        paired_difference(a, b, metric)
    except ValidationError:
        return False
    return True


def moved(model: Scored, start_frames: Scored) -> list[str]:
    """Return the metrics in which a model cannot be told from its start frames held still.

    Where there are any, the simulation is too short for a statement about them.

    Args:
        model: A simulated model.
        start_frames: The row of that name, scored with the same seed.

    Returns:
        Ids of metrics that compare distributions with the reference's; empty where the two rows
        cannot be paired.
    """
    return [
        metric
        for metric in COMPARED
        if can_pair(model, start_frames, metric)
        and not paired_difference(model, start_frames, metric).significant
    ]


def _unpaired(a: Scored, b: Scored, metric: str, why: str) -> ValidationError:
    return ValidationError(
        f"{metric}: {a.name} and {b.name} cannot be compared pairwise", found=why
    )


def _pair(a: Scored, b: Scored, metric: str) -> tuple[Float, Float]:
    """Return a metric of both rows, the estimate first and then the resamples."""
    values = [row.result.metrics.get(metric) for row in (a, b)]
    samples = [row.resamples.get(metric) for row in (a, b)]
    if a.n_trajectories != b.n_trajectories or a.n_trajectories < 2:
        raise _unpaired(a, b, metric, f"{a.n_trajectories} and {b.n_trajectories} trajectories")
    if a.seed != b.seed:
        raise _unpaired(a, b, metric, f"seeds {a.seed} and {b.seed}")
    first, second = values
    if (
        first is None
        or second is None
        or first.value is None
        or second.value is None
        or "failed" in (first.status, second.status)
        or samples[0] is None
        or samples[1] is None
        or len(samples[0]) != len(samples[1])
    ):
        raise _unpaired(a, b, metric, "one of them has no value, or another number of resamples")
    return np.append(first.value, samples[0]), np.append(second.value, samples[1])


def _force_pair(a: Scored, b: Scored, metric: str) -> tuple[Float, Float]:
    first, second = a.force_errors, b.force_errors
    if first is None or second is None:
        raise _unpaired(a, b, metric, "one of them has no force errors")
    if first.force_map != second.force_map:
        raise _unpaired(a, b, metric, f"force maps {first.force_map} and {second.force_map}")
    if not (
        np.array_equal(first.trajectory, second.trajectory)
        and np.array_equal(first.count, second.count)
    ):
        raise _unpaired(a, b, metric, "force errors on different test frames")
    if first.n_trajectories < 2:
        raise _unpaired(a, b, metric, f"{first.n_trajectories} test trajectories")
    taken = multiplicities(a.seed, first.n_trajectories, registry.constants().n_resamples, "forces")
    function = FORCE_METRICS[metric]
    return function(first, taken), function(second, taken)
