"""A reference bundle: the frozen analysis of a reference simulation that models are scored by."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from cgbench.config import Frozen
from cgbench.evaluate.convergence import Convergence
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.statistic import Definition, Frames
from cgbench.evaluate.tica import TicaModel
from cgbench.evaluate.weights import (
    StateWeights,
    TransitionCounts,
    WeightStatus,
    count_transitions,
    multiplicities_of,
    solve_weights,
)
from cgbench.evaluate.weights import frame_weights as weights_of_frames
from cgbench.registry import AnalysisSettings


class Interval(Frozen):
    """An estimate with its 95 % bootstrap interval over trajectories."""

    value: float
    lo: float
    hi: float


class TimescaleRow(Frozen):
    """Implied timescales of the Markov model at one lag, slowest first.

    ``None`` stands for a timescale that does not exist at that lag.
    """

    lag_ps: float
    timescales_ps: tuple[float | None, ...]
    fraction_outside: float


class Basins(Frozen):
    """Folded and unfolded regions.

    A frame is folded when its fraction of native contacts is at least ``folded_q`` and its RMSD to
    the native conformer at most ``folded_rmsd`` (Å): contacts alone call many compact chains of
    another fold folded. It is unfolded below ``unfolded_q``. Between them it is neither: a passage
    counts only from one core to the other.
    """

    folded_q: float
    folded_rmsd: float
    unfolded_q: float

    def folded(self, q: NDArray[np.float32], rmsd: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which frames are folded, (n,).

        Args:
            q: (n,) fraction of native contacts.
            rmsd: (n,) RMSD to the native conformer in Å.
        """
        return self.native_like(q) & (rmsd <= self.folded_rmsd)

    def native_like(self, q: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which frames have the native contacts, (n,), those of a mirror image included.

        Args:
            q: (n,) fraction of native contacts.
        """
        return q >= self.folded_q


class ReferenceMetadata(Frozen):
    """All that a bundle says in words and single numbers."""

    format: Literal["cgbench-reference"] = "cgbench-reference"
    version: Literal["v2"] = "v2"
    system: str
    sequence: str
    store_fingerprint: str
    temperature: float
    frame_interval: float
    n_frames: int = pydantic.Field(gt=0)
    n_trajectories: int = pydantic.Field(gt=0)
    analysis: AnalysisSettings
    seed: int
    tica_lag_frames: int = pydantic.Field(gt=0)
    tica_rank: int
    tica_pairs: int
    msm_lag_frames: int = pydantic.Field(gt=0)
    n_microstates: int = pydantic.Field(gt=0)
    n_macrostates: int = pydantic.Field(gt=0)
    macrostates_source: Literal["registry", "largest spectral gap"]
    native_microstate: int
    native_macrostate: int
    outside_distance: float
    basins: Basins
    folded_population: Interval
    n_folding: int
    n_unfolding: int
    converged: bool
    n_resamples: int
    n_unreliable_resamples: int
    fraction_outside: float
    weights_status: WeightStatus
    weights_reason: str | None
    slowest_timescale_ps: Interval | None
    timescales: tuple[TimescaleRow, ...]
    timescale_statement: str
    handedness_bound: float | None
    smoothing: float
    convergence: Convergence | None = None
    settings_fingerprint: str | None = None
    #: Made from a store of frames with known answers, not from reference data.
    synthetic: bool = False

    @pydantic.model_serializer(mode="wrap")
    def _without_later_fields(
        self, handler: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # Bundles of reference data keep the fingerprints that they had before there were others.
        data: dict[str, Any] = handler(self)
        return data if self.synthetic else {k: v for k, v in data.items() if k != "synthetic"}


@dataclass(frozen=True)
class ReferenceBundle:
    """The frozen analysis of one system's reference simulation.

    It holds its per-frame numbers, so that any sum over frames can be made again for a resample,
    a half or the training part, without the store.

    Attributes:
        metadata: Settings, counts, populations and statements.
        fingerprint: Hash over the metadata and every array.
        native: (n_beads, 3) float32 native conformer in Å.
        tica: Projection of all pairwise Cα distances, kinetic-map scaled, native positive.
        centres: (n_microstates, dimensions) float64 microstate centres.
        macrostate: (n_microstates,) int64 macrostate of each microstate; one outside the
            connected set has that of the nearest centre inside it.
        folded_microstate: (n_microstates,) bool, mostly folded frames.
        stationary: (n_microstates,) float64 stationary probability at the Markov model's lag.
        native_tics: (dimensions,) float32 projection of the native conformer.
        native_dihedrals: (n_beads − 3,) float32 radians.
        tic_mean: (dimensions,) float64 weighted mean of the projections.
        tic_sigma: (dimensions,) float64 weighted standard deviation of the projections.
        fes_edges: (2, 81) float64 edges of the free energy grid on the first two components.
        fes_probability: (80, 80) float64 weighted histogram on it, not smoothed, sum one.
        fes: (80, 80) float64 free energy in kcal/mol after smoothing, least value zero.
        edges: Edges (n_bins + 1,) of the distributions by observable: ``rg``, ``end_to_end``,
            ``rmsd``, ``q``, ``dihedral`` and ``tic1`` to the last.
        histograms: Weighted histograms (n_bins,) on those edges of all but ``dihedral``.
        start_coordinates: (32, n_beads, 3) float32 frames that simulations start from.
        start_frames: (32,) int64 flat indices of those frames in the store.
        observables: Per-frame numbers of the reference.
        subset_coordinates: (m, n_beads, 3) float32 seeded subset of the reference's usable frames,
            uniform over them, so that any statistic of the reference can be computed from the
            bundle alone.
        subset_frames: (m,) int64 flat indices of those frames, ascending.
        macrostate_structures: (n_macrostates, n_beads, 3) float32 reference frame nearest to the
            probability-weighted centre of each macrostate.
    """

    metadata: ReferenceMetadata
    fingerprint: str
    native: NDArray[np.float32]
    tica: TicaModel
    centres: NDArray[np.float64]
    macrostate: NDArray[np.int64]
    folded_microstate: NDArray[np.bool_]
    stationary: NDArray[np.float64]
    native_tics: NDArray[np.float32]
    native_dihedrals: NDArray[np.float32]
    tic_mean: NDArray[np.float64]
    tic_sigma: NDArray[np.float64]
    fes_edges: NDArray[np.float64]
    fes_probability: NDArray[np.float64]
    fes: NDArray[np.float64]
    edges: dict[str, NDArray[np.float64]]
    histograms: dict[str, NDArray[np.float64]]
    start_coordinates: NDArray[np.float32]
    start_frames: NDArray[np.int64]
    observables: Observables
    subset_coordinates: NDArray[np.float32]
    subset_frames: NDArray[np.int64]
    macrostate_structures: NDArray[np.float32]

    @property
    def system(self) -> str:
        """Registry key of the system."""
        return self.metadata.system

    @property
    def version(self) -> str:
        """Version of the reference."""
        return self.metadata.version

    @property
    def sequence(self) -> str:
        """One-letter sequence."""
        return self.metadata.sequence

    @property
    def store_fingerprint(self) -> str:
        """Fingerprint of the store that was analysed."""
        return self.metadata.store_fingerprint

    @property
    def temperature(self) -> float:
        """Temperature of the reference simulation in K."""
        return self.metadata.temperature

    @property
    def frame_interval(self) -> float:
        """Time between frames of the reference in ps."""
        return self.metadata.frame_interval

    @property
    def converged(self) -> bool:
        """Whether there are at least ten folding and ten unfolding events."""
        return self.metadata.converged

    @property
    def n_microstates(self) -> int:
        """Number of microstates."""
        return self.metadata.n_microstates

    @cached_property
    def definition(self) -> Definition:
        """The facts that per-frame numbers, statistics and metrics refer to."""
        return Definition(
            native=self.native,
            tica=self.tica,
            centres=self.centres,
            macrostate=self.macrostate,
            edges=self.edges,
            fes_edges=self.fes_edges,
            basins=self.metadata.basins,
            outside_distance=self.metadata.outside_distance,
            temperature=self.temperature,
        )

    @cached_property
    def subset(self) -> Frames:
        """The kept frames of the reference."""
        return Frames(self.subset_coordinates, self.definition)

    @cached_property
    def counts(self) -> TransitionCounts:
        """Transition counts of each reference trajectory at the Markov model's lag."""
        return count_transitions(
            self.observables.microstate,
            self.observables.trajectory,
            self.n_microstates,
            self.observables.n_trajectories,
            self.metadata.msm_lag_frames,
            self.observables.alive,
        )

    @cached_property
    def state_weights(self) -> StateWeights:
        """Weights of the reference's frames by microstate, all trajectories taken."""
        return solve_weights(self.counts, None, temperature=self.temperature)


def frame_weights(
    bundle: ReferenceBundle, trajectories: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Return equilibrium weights of the store's frames, (n_frames,), summing to one.

    Args:
        bundle: The reference.
        trajectories: Use only these: transitions are counted and the stationary distribution is
            solved for them alone, and frames of the others weigh nothing. None for all.

    Raises:
        ValidationError: A trajectory index is out of range.
    """
    observables = bundle.observables
    if trajectories is None:
        weights, taken = bundle.state_weights, None
    else:
        taken = multiplicities_of(trajectories, observables.n_trajectories)
        weights = solve_weights(
            bundle.counts, taken, temperature=bundle.temperature, start=bundle.state_weights
        )
    return weights_of_frames(
        weights, observables.microstate, observables.trajectory, taken, observables.alive
    )
