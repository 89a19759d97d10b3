"""What a result file holds: one model under one protocol on one or several systems.

Composite scores and ranks are not part of it: they are computed where results are shown, from the
registry's thresholds, so that a stored result never depends on which other models are listed.
"""

from typing import Annotated, Final, Literal

import pydantic

from cgbench.config import Frozen
from cgbench.provenance import Provenance

#: Version of the format that this code writes.
RESULT_VERSION: Final = 1


def _printable(text: str) -> str:
    """Refuse control characters: results come from anywhere and are shown in terminals."""
    if any(not (letter.isprintable() or letter == "\n") for letter in text):
        raise ValueError("control characters are not allowed")
    return text


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("line breaks are not allowed")
    return _printable(text)


#: A short name of anything: one printable line.
Name = Annotated[
    str,
    pydantic.StringConstraints(min_length=1, max_length=200),
    pydantic.AfterValidator(_one_line),
]
#: A sentence or a few, for people.
Text = Annotated[
    str, pydantic.StringConstraints(max_length=2000), pydantic.AfterValidator(_printable)
]
Fingerprint = Annotated[str, pydantic.StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Fraction = Annotated[float, pydantic.Field(ge=0.0, le=1.0, allow_inf_nan=False)]

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
    n_eff: Annotated[float, pydantic.Field(ge=0.0, allow_inf_nan=False)] | None = None
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
        dead_fraction: Share of the frames at and after a trajectory's first bad frame.
        weights_status: How frames were weighted.
        weights_reason: Why not by the stationary distribution of a Markov state model.
        weights_lag_ps: Lag of that model.
        weights_fraction_outside: Share of frames outside its largest connected set.
        converged: Whether the reference has seen enough folding and unfolding; if not, free
            energies and populations are against this finite ensemble and decide nothing.
        notes: Anything else to know.
    """

    system: Name
    status: SystemStatus
    reason: Text | None = None
    metrics: dict[Name, MetricValue] = pydantic.Field(default_factory=dict, max_length=500)
    gates: dict[Name, GateStatus] = pydantic.Field(default_factory=dict, max_length=50)
    n_trajectories: Annotated[int, pydantic.Field(ge=0)] | None = None
    n_frames: Annotated[int, pydantic.Field(ge=0)] | None = None
    dead_fraction: Fraction | None = None
    weights_status: WeightsStatus | None = None
    weights_reason: Text | None = None
    weights_lag_ps: Annotated[float, pydantic.Field(gt=0.0, allow_inf_nan=False)] | None = None
    weights_fraction_outside: Fraction | None = None
    converged: bool | None = None
    notes: tuple[Text, ...] = pydantic.Field(default=(), max_length=100)

    @pydantic.model_validator(mode="after")
    def _explained(self) -> "SystemResult":
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a system that is {self.status} says why")
        if self.status == "missing" and self.metrics:
            raise ValueError("a missing system has no metrics")
        return self


class ModelIdentity(Frozen):
    """What was scored; the specification is the one inside the model file."""

    name: Name
    hash: Fingerprint | None
    kind: Literal["potential", "sampler", "ensemble", "reference row"]
    spec: dict[Name, pydantic.JsonValue] | None = None


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


class Result(Frozen):
    """One model, one protocol, one or several systems.

    Attributes:
        metrics_versions: Version of every metric that occurs, by id.
        seeds: Every seed, by what it was used for.
        wall_time_s: Seconds that simulating and scoring took.
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
    wall_time_s: Annotated[float, pydantic.Field(ge=0.0, allow_inf_nan=False)] | None = None
    verification: Verification = "self_reported"
    systems: tuple[SystemResult, ...] = pydantic.Field(min_length=1, max_length=1000)

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
