"""What a comparison of runs says: differences with intervals, and which are significant."""

from typing import Annotated, Literal

import pydantic

from cgbench.config import Frozen
from cgbench.results.fields import Count, Finite, Name, Text


class ComparedRun(Frozen):
    """One of the runs.

    Attributes:
        name: What it is called here; the model's name where no other run has it.
        model: Name of the model.
        model_hash: Hash of the model, where there is one.
        protocol: Protocol id, where there is one.
        seeds: Seeds of the run.
        resamples: Whether its resampled values are at hand; without them only its intervals are.
    """

    name: Name
    model: Name
    model_hash: str | None
    protocol: Name | None
    seeds: dict[Name, int]
    resamples: bool


class ComparedDifference(Frozen):
    """The difference a − b of one metric, on one system or over several.

    Attributes:
        system: Registry key; None for the mean over ``n_systems`` systems.
        n_systems: Systems behind the difference.
        metric: Metric id.
        unit: Its unit.
        direction: Which way is better; None where this version does not know the metric.
        a: Name of the first run.
        b: Name of the second.
        value_a: Value of the first; None for a mean over systems.
        value_b: Value of the second.
        target: What both are compared with where the direction is ``target``: the difference is
            then that of the distances to it.
        diff: The difference.
        lo: Lower end of its 95 % interval; None where there is none.
        hi: Upper end.
        kind: ``paired`` on the same starts and resamples, ``unpaired`` for independent resamples,
            ``intervals`` where only the values' own intervals are known.
        significant: Whether zero lies outside the interval; None without one.
        better: The run in whose favour a significant difference is; None where it is not, or the
            metric has no better.
        note: Why it is not paired, or how to read it.
    """

    system: Name | None
    n_systems: Annotated[int, pydantic.Field(ge=1)] = 1
    metric: Name
    unit: Name | None
    direction: Literal["min", "max", "target"] | None
    a: Name
    b: Name
    value_a: Finite | None
    value_b: Finite | None
    target: Finite | None
    diff: Finite
    lo: Finite | None
    hi: Finite | None
    kind: Literal["paired", "unpaired", "intervals"]
    significant: bool | None
    better: Name | None
    note: Text | None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "ComparedDifference":
        if (self.lo is None) != (self.hi is None) or (self.lo is None) != (
            self.significant is None
        ):
            raise ValueError("an interval has two ends, and only with it there is significance")
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise ValueError("the interval's lower end is above its upper end")
        if self.better not in (None, self.a, self.b):
            raise ValueError("the better run is one of the two")
        return self


class ComparisonTally(Frozen):
    """How often a run is better than another, over all systems and ranked metrics.

    Attributes:
        a: Name of the first run.
        b: Name of the second.
        a_better: Significant differences in favour of the first.
        b_better: Significant differences in favour of the second.
        undecided: Differences with an interval that holds zero, and those without interval.
    """

    a: Name
    b: Name
    a_better: Count
    b_better: Count
    undecided: Count


class RunComparison(Frozen):
    """A comparison of two or more runs.

    Attributes:
        runs: The runs, in the order given.
        systems: Systems that at least two of them have scored.
        differences: Of every pair of runs, system by system.
        summary: The mean differences over the systems that a pair shares, and how many there are.
        tallies: How often a run of a pair is better, in ranked metrics.
        ranks: By system, metric and run: one plus the number of runs that are significantly
            better. Ranked metrics only; runs with too few trajectories for a rank have none.
        notes: What could not be compared, and why.
    """

    format: Literal["cgbench-comparison"] = "cgbench-comparison"
    version: Literal[1] = 1
    runs: tuple[ComparedRun, ...] = pydantic.Field(min_length=2, max_length=100)
    systems: tuple[Name, ...]
    differences: tuple[ComparedDifference, ...]
    summary: tuple[ComparedDifference, ...]
    tallies: tuple[ComparisonTally, ...]
    ranks: dict[Name, dict[Name, dict[Name, int]]]
    notes: tuple[Text, ...]
