"""What a result file holds: one model under one protocol on one or several systems.

Composite scores and ranks are not part of it: they are computed where results are shown, from the
registry's thresholds, so that a stored result never depends on which other models are listed.
"""

from typing import Annotated, Final, Literal

import pydantic

from cgbench.config import Frozen
from cgbench.provenance import Provenance
from cgbench.results.adapter import AdapterIdentity
from cgbench.results.fields import Count, Finite, Fraction, Name, NotNegative, Positive, Text
from cgbench.results.leaks import Leak, Track
from cgbench.results.paper import PaperAnalysis
from cgbench.results.sequence_models import SequenceModels

#: Version of the format that this code writes.
RESULT_VERSION: Final = 1

Fingerprint = Annotated[str, pydantic.StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

MetricStatus = Literal["ok", "n/a", "failed", "void"]
SystemStatus = Literal["ok", "failed", "missing"]
GateStatus = Literal["passed", "failed", "n/a"]
#: How frames were weighted; ``given``: by the weights that came with an ensemble.
WeightsStatus = Literal["ok", "weights_unreliable", "uniform", "given"]
Verification = Literal["self_reported", "trajectories_checked", "reproduced"]


class MetricValue(Frozen):
    """One metric of one system.

    Attributes:
        value: The value; the registry's penalty where the status is ``failed``.
        lo: Lower end of the 95 % interval, in the metric's unit.
        hi: Upper end.
        n_eff: Effective number of independent units, here trajectories, behind the value.
        target: The reference's own value, where that is the target or is shown beside.
        status: ``ok``; ``n/a`` where the metric has no meaning for this ensemble; ``failed`` where
            the model failed; ``void`` where a gate does not let the value count.
        note: Why, or how to read it.
    """

    value: Finite | None = None
    lo: Finite | None = None
    hi: Finite | None = None
    n_eff: NotNegative | None = None
    target: Finite | None = None
    status: MetricStatus = "ok"
    note: Text | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "MetricValue":
        if self.status in ("ok", "void") and self.value is None:
            raise ValueError(f"a metric with status {self.status} has a value")
        if self.status == "n/a" and self.value is not None:
            raise ValueError("a metric with status n/a has no value")
        if (self.lo is None) != (self.hi is None):
            raise ValueError("an interval has two ends")
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise ValueError("the interval's lower end is above its upper end")
        return self


class SystemResult(Frozen):
    """All metrics of one system.

    Attributes:
        system: Registry key.
        status: ``ok``, ``failed`` (the model did not give a usable ensemble) or ``missing`` (not
            scored: no store or reference at hand).
        reason: Why it failed or is missing, with the command that helps.
        metrics: Values by metric id.
        gates: Whether each gate was passed.
        n_trajectories: Trajectories scored.
        n_frames: Frames scored, those lost included.
        effective_frames: How many frames of equal weight are as uneven as the weights of these.
        dead_fraction: Share of the frames at and after a trajectory's first bad frame.
        weights_status: How frames were weighted.
        weights_reason: Why not by the stationary distribution of a Markov state model.
        weights_lag_ps: Lag of that model.
        weights_fraction_outside: Share of frames outside its largest connected set.
        converged: Whether the reference has seen enough folding and unfolding; if not, free
            energies and populations are against this finite ensemble and decide nothing.
        simulation_converged: Whether what is scored was long enough for its populations to be the
            model's own; None where that cannot be told, as for samples.
        simulation_converged_reason: Why, or why not.
        paper: What the analysis of the reference work finds, where it was asked for.
        track: By which rules the model may have been trained; None in older results.
        leak: The check for data that it was trained on and is tested on; None in older results.
        synthetic: Whether the reference was made from a model with known answers. Such results test
            the suite; they are compared with no others.
        models: What a sampler's models of the sequence say of its confidence; None for others.
        notes: Anything else to know.
    """

    system: Name
    status: SystemStatus
    reason: Text | None = None
    metrics: dict[Name, MetricValue] = pydantic.Field(default_factory=dict, max_length=500)
    gates: dict[Name, GateStatus] = pydantic.Field(default_factory=dict, max_length=50)
    n_trajectories: Count | None = None
    n_frames: Count | None = None
    effective_frames: NotNegative | None = None
    dead_fraction: Fraction | None = None
    weights_status: WeightsStatus | None = None
    weights_reason: Text | None = None
    weights_lag_ps: Positive | None = None
    weights_fraction_outside: Fraction | None = None
    converged: bool | None = None
    simulation_converged: bool | None = None
    simulation_converged_reason: Text | None = None
    paper: PaperAnalysis | None = None
    track: Track | None = None
    leak: Leak | None = None
    synthetic: bool = False
    models: SequenceModels | None = None
    notes: tuple[Text, ...] = pydantic.Field(default=(), max_length=100)

    @pydantic.model_validator(mode="after")
    def _explained(self) -> "SystemResult":
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a system that is {self.status} says why")
        if self.status == "missing" and self.metrics:
            raise ValueError("a missing system has no metrics")
        return self


class ModelIdentity(Frozen):
    """What was scored; the specification is the one inside the model file.

    A model of another program says which adapter opened it, and whether foreign code ran.
    """

    name: Name
    hash: Fingerprint | None
    kind: Literal["potential", "sampler", "ensemble", "reference row"]
    spec: dict[Name, pydantic.JsonValue] | None = None
    adapter: AdapterIdentity | None = None


class ProtocolIdentity(Frozen):
    """A frozen simulation protocol."""

    id: Name
    version: Annotated[int, pydantic.Field(ge=1)]


class ReferenceIdentity(Frozen):
    """The reference bundles that were compared with, by system."""

    version: Name
    fingerprints: dict[Name, Fingerprint]


class SplitIdentity(Frozen):
    """The split whose test part gave the force errors, by system."""

    id: Name
    fingerprints: dict[Name, Fingerprint]


class PairedDifference(Frozen):
    """The difference ``a − b`` of two rows on the same trajectories, with its 95 % interval."""

    metric: Name
    a: Name
    b: Name
    diff: Finite
    lo: Finite
    hi: Finite

    @property
    def significant(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.lo > 0.0 or self.hi < 0.0


class SystemCost(Frozen):
    """What simulating one system costs on the hardware of :class:`Cost`.

    Attributes:
        steps_per_second: Steps of the whole batch of replicas per second of wall time.
        ns_per_day: Simulated time of each replica in ns per day of wall time.
        largest_stable_step: The largest time step in ps at which every replica lived; None where
            there is none or it was not measured.
        largest_stable_step_reason: How it was measured, or why it was not.
        seconds_per_sample: Wall time of one structure of a sampler.
    """

    steps_per_second: NotNegative | None = None
    ns_per_day: NotNegative | None = None
    largest_stable_step: Positive | None = None
    largest_stable_step_reason: Text | None = None
    seconds_per_sample: NotNegative | None = None


class Cost(Frozen):
    """What a model costs to run and to make; the same numbers mean little on other hardware.

    Attributes:
        steps_per_second: Steps of the whole batch of replicas per second of wall time, over all
            systems simulated.
        ns_per_day: Simulated time of each replica in ns per day of wall time, over all of them.
        n_replicas: Replicas of a batch.
        hardware: What it was measured on.
        n_parameters: Trainable numbers of the network.
        training_seconds: Wall time of the training in seconds, as the model file says.
        largest_stable_step: The smallest of the systems' largest stable time steps in ps.
        largest_stable_step_reason: How it was measured, or why it was not.
        seconds_per_sample: Wall time of one structure of a sampler, over all systems.
        systems: The same for each system.
    """

    steps_per_second: NotNegative | None = None
    ns_per_day: NotNegative | None = None
    n_replicas: Annotated[int, pydantic.Field(ge=1)] | None = None
    hardware: Name | None = None
    n_parameters: Count | None = None
    training_seconds: NotNegative | None = None
    largest_stable_step: Positive | None = None
    largest_stable_step_reason: Text | None = None
    seconds_per_sample: NotNegative | None = None
    systems: dict[Name, SystemCost] = pydantic.Field(default_factory=dict, max_length=1000)


class Result(Frozen):
    """One model, one protocol, one or several systems.

    Attributes:
        metrics_versions: Version of every metric that occurs, by id.
        seeds: Every seed, by what it was used for.
        wall_time_s: Seconds that simulating and scoring took.
        timings: Seconds of each stage, as ``simulate/chignolin``, whichever run it was done in;
            ``score: metrics/chignolin`` is a part of ``score/chignolin``.
        cost: What the model costs; None for trajectories of other origin.
        track: ``mutants`` for the test of variants, whose systems are ``<parent>-<PDB id>``.
        verification: ``self_reported``; ``trajectories_checked`` when the metrics were computed
            again from submitted trajectories; ``reproduced`` when the model was simulated again.
    """

    format: Literal["cgbench-result"] = "cgbench-result"
    version: Literal[1] = RESULT_VERSION
    suite_version: Name
    model: ModelIdentity
    protocol: ProtocolIdentity | None
    reference: ReferenceIdentity
    split: SplitIdentity | None = None
    metrics_versions: dict[Name, Annotated[int, pydantic.Field(ge=1)]]
    seeds: dict[Name, int]
    provenance: Provenance
    wall_time_s: NotNegative | None = None
    timings: dict[Name, NotNegative] = pydantic.Field(default_factory=dict, max_length=5000)
    cost: Cost | None = None
    track: Literal["systems", "mutants"] = "systems"
    verification: Verification = "self_reported"
    systems: tuple[SystemResult, ...] = pydantic.Field(min_length=1, max_length=1000)

    @property
    def synthetic(self) -> bool:
        """Whether a system was compared with data of known answers: no result for a leaderboard."""
        return any(item.synthetic for item in self.systems)

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "Result":
        names = [item.system for item in self.systems]
        if len(set(names)) != len(names):
            raise ValueError("a system occurs twice")
        used = {metric for item in self.systems for metric in item.metrics}
        if unknown := sorted(used - set(self.metrics_versions)):
            raise ValueError(f"metrics without a version: {', '.join(unknown)}")
        scored = {item.system for item in self.systems if item.status == "ok"}
        if unnamed := sorted(scored - set(self.reference.fingerprints)):
            raise ValueError(f"systems without a reference fingerprint: {', '.join(unnamed)}")
        return self

    def system(self, key: str) -> SystemResult | None:
        """Return the result of one system, or None."""
        return next((item for item in self.systems if item.system == key), None)
