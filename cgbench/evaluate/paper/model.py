"""The Markov state model of the reference work's analysis and its macrostates."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.msm import (
    MarkovModel,
    assign,
    cluster,
    count_metastable,
    fit_markov_model,
    largest_connected_set,
    metastable_sets,
    solve_reversible,
)
from cgbench.evaluate.paper.frames import PaperFrames
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.weighting import LONGEST_LAG
from cgbench.evaluate.weights import TransitionCounts, count_transitions
from cgbench.registry import PaperConstants
from cgbench.registry.models import Source

Float = NDArray[np.float64]

#: What the mathematics of a count matrix without enough crossings can end in.
_UNSOLVABLE: Final = (ValidationError, ValueError, ArithmeticError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Degenerate:
    """Why trajectories have no Markov state model with macrostates.

    Attributes:
        reason: One sentence.
        connected_fraction: Fraction of the frames in the largest connected set, where there is one.
    """

    reason: str
    connected_fraction: float | None = None


@dataclass(frozen=True)
class PaperModel:
    """Microstates, their Markov state model, and macrostates.

    Attributes:
        microstate: (n_frames,) microstate of each frame.
        trajectory: (n_frames,) trajectory of each frame.
        counts: Transition counts of each trajectory.
        markov: The model on the largest connected set.
        macrostate: (n_microstates,) macrostate of each microstate, −1 outside that set.
        n_macrostates: Number of macrostates that hold a microstate.
        source: Where their number is from.
        how: How it was found.
        lag_ps: Lag of the counts.
        frame_interval: Time between frames in ps.
        flaw: What is wrong with the macrostates, or None.
        notes: What else to know.
    """

    microstate: NDArray[np.int64]
    trajectory: NDArray[np.int64]
    counts: TransitionCounts
    markov: MarkovModel
    macrostate: NDArray[np.int64]
    n_macrostates: int
    source: Source
    how: str
    lag_ps: float
    frame_interval: float
    flaw: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def lag_frames(self) -> int:
        """The lag in frames."""
        return self.markov.lag_frames

    @cached_property
    def macrostate_of_frame(self) -> NDArray[np.int64]:
        """(n_frames,) macrostate of each frame, −1 outside the largest connected set."""
        return self.macrostate[self.microstate]

    @cached_property
    def frame_weights(self) -> Float:
        """(n_frames,) weight of each frame, summing to one; zero outside the connected set."""
        weight = np.zeros(self.counts.n_states)
        states = self.markov.states
        weight[states] = self.markov.stationary / self.populations[states]
        return weight[self.microstate]

    @cached_property
    def populations(self) -> NDArray[np.int64]:
        """(n_microstates,) frames in each microstate."""
        return np.bincount(self.microstate, minlength=self.counts.n_states)

    @property
    def connected_fraction(self) -> float:
        """Fraction of the frames in the largest connected set."""
        return _fraction(self.populations, self.markov.states)

    @property
    def slowest_timescale_ps(self) -> float | None:
        """Slowest implied timescale in ps of the trajectories' own time."""
        slowest = float(self.markov.timescales(self.frame_interval, 1)[0])
        return slowest if np.isfinite(slowest) and slowest > 0 else None


def _fraction(populations: NDArray[np.int64], states: NDArray[np.int64]) -> float:
    return min(1.0, float(populations[states].sum()) / max(1.0, float(populations.sum())))


def fit_model(
    frames: PaperFrames, constants: PaperConstants, seed: int
) -> "PaperModel | Degenerate":
    """Cluster frames, fit a reversible Markov model and divide it into macrostates.

    Args:
        frames: The frames.
        constants: The constants of the analysis.
        seed: Seed of the clustering.
    """
    n_clusters = constants.count("clusters")
    if not frames.n_frames:
        return Degenerate("no frame is alive after the dropped start")
    step = -(-frames.n_frames // constants.count("cluster_frames"))
    try:
        centres = cluster(frames.tics[::step], n_clusters, seed)
    except ValidationError as error:
        return Degenerate(
            f"{error.what}: {n_clusters} clusters need as many distinct frames, and there are "
            f"{error.found}"
        )
    microstate = assign(frames.tics, centres)[0].astype(np.int64)
    lag, notes = lag_of(constants.number("msm_lag"), frames)
    counts = count_transitions(
        microstate, frames.trajectory, n_clusters, frames.n_trajectories, lag
    )
    wanted = constants["macrostates"]
    return _divided(
        microstate,
        frames,
        counts,
        lag,
        n_macrostates=None if wanted.value is None else constants.count("macrostates"),
        source=wanted.source,
        bounds=(constants.count("macrostates_least"), constants.count("macrostates_most")),
        notes=notes,
    )


def lag_of(wanted: float, frames: PaperFrames) -> tuple[int, tuple[str, ...]]:
    """Return the lag in frames, and a note where it is not the one of the reference work.

    Args:
        wanted: The lag in ps.
        frames: The frames; the lag is at most a quarter of the longest trajectory.
    """
    longest = int(np.diff(frames.bounds).max(initial=0))
    lag = max(1, min(round(wanted / frames.frame_interval), int(longest * LONGEST_LAG)))
    if abs(lag * frames.frame_interval - wanted) <= 1e-6 * wanted:
        return lag, ()
    return lag, (
        f"The lag is {lag * frames.frame_interval:g} ps instead of {wanted:g} ps: the longest "
        f"trajectory has {longest} frames, {frames.frame_interval:g} ps apart.",
    )


def _divided(
    microstate: NDArray[np.int64],
    frames: PaperFrames,
    counts: TransitionCounts,
    lag: int,
    *,
    n_macrostates: int | None,
    source: Source,
    bounds: tuple[int, int],
    notes: tuple[str, ...],
) -> "PaperModel | Degenerate":
    everything = np.ones(counts.n_trajectories)
    total = counts.total(everything)
    populations = counts.populations.sum(axis=0)
    if not total.any():
        return Degenerate(
            f"no transition was counted at a lag of {lag * frames.frame_interval:g} ps"
        )
    states = np.flatnonzero(largest_connected_set(total, populations))
    connected = _fraction(populations, states)
    if len(states) == 1:
        return Degenerate(
            "the largest connected set has one microstate: no two are entered from one another",
            connected,
        )
    try:
        markov = fit_markov_model(total, populations, lag)
        wanted = n_macrostates or count_metastable(markov.eigenvalues, *bounds)
        crisp = metastable_sets(markov, wanted)
    except _UNSOLVABLE as error:
        return Degenerate(
            f"{len(states)} connected microstates cannot be divided into macrostates "
            f"({str(error).splitlines()[0]})",
            connected,
        )
    # PCCA++ may leave a macrostate without a microstate of its own.
    present, crisp = np.unique(crisp, return_inverse=True)
    if len(present) < 2:
        return Degenerate("PCCA++ puts every microstate into one macrostate", connected)
    macrostate = np.full(counts.n_states, -1, dtype=np.int64)
    macrostate[markov.states] = crisp
    how = (
        f"{wanted}, as stated for this protein"
        if n_macrostates is not None
        else f"largest gap between eigenvalues in {bounds[0]} to {bounds[1]}"
    )
    return PaperModel(
        microstate=microstate,
        trajectory=frames.trajectory,
        counts=counts,
        markov=markov,
        macrostate=macrostate,
        n_macrostates=len(present),
        source=source,
        how=how,
        lag_ps=lag * frames.frame_interval,
        frame_interval=frames.frame_interval,
        flaw=f"PCCA++ finds {len(present)} of {wanted} macrostates"
        if len(present) < wanted
        else None,
        notes=notes,
    )


def reference_model(bundle: ReferenceBundle) -> "PaperModel | Degenerate":
    """Return the reference's own model, with the macrostates that its bundle holds."""
    observables, metadata = bundle.observables, bundle.metadata
    used = np.flatnonzero(observables.alive)
    counts = bundle.counts
    everything = np.ones(counts.n_trajectories)
    total = counts.total(everything)
    populations = counts.populations.sum(axis=0)
    if not total.any():
        return Degenerate("no transition was counted in the reference")
    try:
        markov = fit_markov_model(total, populations, metadata.msm_lag_frames)
    except _UNSOLVABLE as error:
        return Degenerate(f"the reference's model cannot be solved ({error})")
    macrostate = np.full(bundle.n_microstates, -1, dtype=np.int64)
    present, inside = np.unique(bundle.macrostate[markov.states], return_inverse=True)
    macrostate[markov.states] = inside
    from_registry = metadata.macrostates_source == "registry"
    return PaperModel(
        microstate=observables.microstate[used].astype(np.int64),
        trajectory=observables.trajectory[used].astype(np.int64),
        counts=counts,
        markov=markov,
        macrostate=macrostate,
        n_macrostates=len(present),
        source=metadata.analysis.source["n_macrostates"],
        how=f"{metadata.n_macrostates}, from the registry"
        if from_registry
        else ("largest gap between eigenvalues"),
        lag_ps=metadata.msm_lag_frames * bundle.frame_interval,
        frame_interval=bundle.frame_interval,
    )


def folds(
    model: PaperModel, n_models: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], Float]]:
    """Yield models of part of the trajectories: multiplicities and stationary distribution.

    Trajectories are dealt out to as many groups as models; each model leaves one group out, so that
    each trajectory is left out once. Microstates stay what they are.

    Args:
        model: The model of all trajectories.
        n_models: Number of models, at most the number of trajectories.
        seed: Seed of the deal.

    Yields:
        (n_trajectories,) zeros and ones, and (n_microstates,) probabilities.
    """
    n_trajectories = model.counts.n_trajectories
    n_models = min(n_models, n_trajectories)
    if n_models < 2:
        return
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(n_trajectories)
    states = model.markov.states
    for left_out in np.array_split(order, n_models):
        taken = np.ones(n_trajectories)
        taken[left_out] = 0.0
        total = model.counts.total(taken)[np.ix_(states, states)]
        populations = (taken @ model.counts.populations)[states]
        if not total.any():
            continue
        inside = np.flatnonzero(largest_connected_set(total, populations))
        try:
            solved = solve_reversible(total[np.ix_(inside, inside)])
        except _UNSOLVABLE:
            continue
        stationary = np.zeros(model.counts.n_states)
        stationary[states[inside]] = solved
        yield taken, stationary
