"""How the frames of an ensemble are weighted: by its own Markov state model, or as given."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.resampling import resampled_weights
from cgbench.evaluate.weights import count_transitions
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import WeightsStatus

Float = NDArray[np.float64]

#: The lag of the model's Markov state model is at most this share of the longest trajectory.
LONGEST_LAG: Final = 0.25


@dataclass(frozen=True)
class Weighting:
    """How the frames of an ensemble are weighted.

    Attributes:
        status: As in :class:`SystemResult`.
        weight_of_state: (n_states, n_columns) weight of a frame in each microstate.
        reason: Why not by a Markov state model.
        lag_ps: Lag of that model.
        lag_frames: The same in frames.
        fraction_outside: Share of frames outside its connected set.
        notes: What else to know.
    """

    status: WeightsStatus
    weight_of_state: Float
    reason: str | None = None
    lag_ps: float | None = None
    lag_frames: int | None = None
    fraction_outside: float | None = None
    notes: tuple[str, ...] = ()


def weigh(
    ensemble: Ensemble,
    observables: Observables,
    bundle: ReferenceBundle,
    protocol: Protocol | None,
    taken: Float,
    workers: int = 1,
    progress: Progress = silent,
) -> Weighting:
    """Weight an ensemble for every resample.

    Frames in time order are weighted by the stationary distribution of a Markov state model of
    their own transitions between the reference's microstates; samples as given, or uniformly.

    Args:
        ensemble: The ensemble, its start dropped.
        observables: Its per-frame numbers.
        bundle: The reference.
        protocol: Says the lag; None for the system's own constant.
        taken: (n_trajectories, n_columns) multiplicities.
        workers: Threads; the result does not depend on their number.
        progress: Told how far it is.
    """
    uniform = np.ones((bundle.n_microstates, taken.shape[1]))
    if ensemble.frame_interval is None:
        if ensemble.weights is not None:
            return Weighting("given", uniform, "weights that came with the samples")
        return Weighting("uniform", uniform, "samples without time order")
    settings = bundle.metadata.analysis
    wanted = settings.model_msm_lag_ps if protocol is None else protocol.model_msm_lag
    lag, notes = _lag(wanted, ensemble.frame_interval, int(ensemble.alive_until.max()))
    counts = count_transitions(
        observables.microstate,
        observables.trajectory,
        bundle.n_microstates,
        observables.n_trajectories,
        lag,
        observables.alive,
    )
    solved = resampled_weights(
        counts,
        taken,
        bundle.temperature,
        task=f"resamples of {ensemble.name}",
        workers=workers,
        progress=progress,
    )
    if solved.n_unreliable:
        notes.append(
            f"In {solved.n_unreliable} of {taken.shape[1] - 1} resamples the weights could not be "
            "trusted and every frame counted the same."
        )
    return Weighting(
        solved.estimate.status,
        solved.weight_of_state,
        solved.estimate.reason,
        lag * ensemble.frame_interval,
        lag,
        solved.estimate.fraction_outside,
        tuple(notes),
    )


def _lag(wanted: float, frame_interval: float, longest: int) -> tuple[int, list[str]]:
    """Return the lag in frames, and a note where it is not what was wanted."""
    most = max(1, int(longest * LONGEST_LAG))
    lag = min(max(1, round(wanted / frame_interval)), most)
    if abs(lag * frame_interval - wanted) <= 1e-6 * wanted:
        return lag, []
    return lag, [
        f"The lag of the Markov state model is {lag * frame_interval:g} ps instead of {wanted:g} "
        f"ps: the longest trajectory has {longest} frames, {frame_interval:g} ps apart."
    ]
