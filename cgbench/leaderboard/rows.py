"""What a board is: ranked rows of models, reference rows beside them, and how scores were made."""

import datetime
from typing import Literal

import pydantic

from cgbench.config import Frozen
from cgbench.leaderboard.records import ModelRecord, Submission
from cgbench.registry import PublishedFact
from cgbench.results import MetricStatus, Track, Verification

#: What a reader has to know of a row at one glance. ``best_of_n``: the best of several trained
#: models; ``leak``: trained on what it was scored on, marked; ``missing``: systems that count and
#: were not scored; ``failed``: systems that failed; ``gate``: a gate was not passed;
#: ``unconverged``: a reference that decides nothing; ``few_trajectories``: too few for a rank;
#: ``foreign_code``: an adapter ran code of another program; ``native``: native structures went into
#: it; ``pretrained``: so did pretrained weights; ``unreliable_weights``: every frame counts the
#: same, because a Markov state model could not weight them; ``unregistered``: scored against a
#: reference that the leaderboard does not know.
RowFlag = Literal[
    "best_of_n", "leak", "missing", "failed", "gate", "unconverged", "few_trajectories",
    "foreign_code", "native", "pretrained", "unreliable_weights", "unregistered",
]  # fmt: skip
#: ``not yet run``: a reference row that nobody has computed.
SystemRowStatus = Literal["ok", "failed", "missing", "not yet run"]


class Score(Frozen):
    """A score between 0 and 1 with its 95 % interval; 1 is good, 0 is bad.

    Attributes:
        value: The score.
        lo: Lower end.
        hi: Upper end.
    """

    value: float
    lo: float
    hi: float


class MetricCell(Frozen):
    """One metric of one system of a row.

    Attributes:
        metric: Metric id.
        value: The value; None where there is none.
        lo: Lower end of its 95 % interval.
        hi: Upper end.
        target: The reference's own value, where that is the target or is shown beside.
        status: As in results; ``absent`` where the result does not have the metric.
        score: Its score; None for metrics that do not count.
        note: Why, or how to read it.
    """

    metric: str
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    target: float | None = None
    status: MetricStatus | Literal["absent"] = "ok"
    score: Score | None = None
    note: str | None = None


class SystemCell(Frozen):
    """One system of a row.

    Attributes:
        system: Registry key of the protein or variant.
        status: Whether it was scored.
        counts: Whether it counts in the row's composite score.
        reason: Why it failed, is missing or was not run.
        composite: Mean score of the metrics that count; None for a reference row without scores and
            for systems that are not scored by distributions.
        metrics: Every metric, by id.
        gates_failed: Gates that were not passed.
        n_trajectories: Trajectories scored.
        n_frames: Frames scored.
        converged: Whether the reference is; if not, the metrics are against a finite ensemble.
        weights_status: How frames were weighted.
        leak: Whether training data and scored data overlap, where that is marked.
        notes: Anything else.
    """

    system: str
    status: SystemRowStatus
    counts: bool = True
    reason: str | None = None
    composite: Score | None = None
    metrics: dict[str, MetricCell] = pydantic.Field(default_factory=dict)
    gates_failed: tuple[str, ...] = ()
    n_trajectories: int | None = None
    n_frames: int | None = None
    converged: bool | None = None
    weights_status: str | None = None
    leak: str | None = None
    notes: tuple[str, ...] = ()


class RowCost(Frozen):
    """What a model costs, as its result says; on other hardware the numbers mean little.

    Attributes:
        ns_per_day: Simulated ns of each replica per day of wall time, over all systems.
        steps_per_second: Steps of the whole batch per second.
        n_replicas: Replicas of a batch.
        seconds_per_sample: Wall time of one structure of a sampler in seconds.
        training_seconds: Wall time of the training in seconds.
        n_parameters: Trainable numbers.
        hardware: What the speed was measured on.
    """

    ns_per_day: float | None = None
    steps_per_second: float | None = None
    n_replicas: int | None = None
    seconds_per_sample: float | None = None
    training_seconds: float | None = None
    n_parameters: int | None = None
    hardware: str | None = None


class MutantCount(Frozen):
    """How many variants a model recovers.

    Attributes:
        recovered: Variants whose recovery counts.
        tested: Variants that were simulated.
        total: Variants that there are; those not tested count as not recovered.
    """

    recovered: int
    tested: int
    total: int


class PastSubmission(Frozen):
    """An earlier submission of a model, kept."""

    submitted: datetime.date
    level: Verification
    score: Score | None


class BoardRow(Frozen):
    """One row: a model with its latest submission, or a reference row.

    Attributes:
        id: ``<family>/<name>`` of a model; the name of a reference row. Unique within a group.
        title: Name for people.
        reference: Whether it is a reference row, which has no rank.
        track: Its track; None for reference rows.
        group: Rows that are ranked among each other: the systems that count, and the protocol, as
            ``published · standard@1``. For reference rows the systems alone.
        model: The record; None for reference rows.
        submission: The submission that is shown; None for reference rows.
        history: Earlier submissions, latest first.
        rank: One plus the number of models of the group that are significantly better; None for
            rows that have none.
        unranked_reason: Why it has no rank.
        score: Composite score over the systems that count; None where there is none.
        systems: Every system, by key, those that count first.
        metrics: Mean score of each metric over the systems that count.
        gates_failed: Gates not passed, as ``handedness (chignolin)``.
        cost: What it costs.
        mutants: For the mutants' track.
        level: Level of verification; None for reference rows.
        flags: What to know at a glance.
        notes: The same in sentences, and more.
        facts: Published numbers, for rows that are "published, not re-scored".
        best_of_n: How many models were trained, of which this is the best.
        n_seeds: Seeds that were trained.
        description: What a reference row tells.
    """

    id: str
    title: str
    reference: bool = False
    track: Track | None = None
    group: str
    model: ModelRecord | None = None
    submission: Submission | None = None
    history: tuple[PastSubmission, ...] = ()
    rank: int | None = None
    unranked_reason: str | None = None
    score: Score | None = None
    systems: dict[str, SystemCell] = pydantic.Field(default_factory=dict)
    metrics: dict[str, Score] = pydantic.Field(default_factory=dict)
    gates_failed: tuple[str, ...] = ()
    cost: RowCost | None = None
    mutants: MutantCount | None = None
    level: Verification | None = None
    flags: tuple[RowFlag, ...] = ()
    notes: tuple[str, ...] = ()
    facts: tuple[PublishedFact, ...] = ()
    best_of_n: int | None = None
    n_seeds: int | None = None
    description: str = ""


class ScoredMetric(Frozen):
    """A metric that counts in composite scores, with its frozen thresholds.

    Attributes:
        metric: Metric id.
        version: Its version.
        name: Name for people.
        unit: Unit.
        direction: Which way is better.
        good: Value of score 1; for ``target`` a distance from it.
        bad: Value of score 0.
    """

    metric: str
    version: int
    name: str
    unit: str
    direction: Literal["min", "max", "target"]
    good: float
    bad: float


class Board(Frozen):
    """A whole leaderboard, as it is shown.

    Attributes:
        suite_version: Version of cgbench that ranked it.
        tracks: Rows by track, every track there: ranked rows first, in the order of their ranks
            and scores, then those without rank, then reference rows.
        scored_metrics: Metrics that count, with their thresholds.
        uncounted: Ranked metrics that do not count because they have no thresholds yet.
        systems: Systems that occur, in the order of the registry.
        notes: What a reader of the whole has to know.
    """

    format: Literal["cgbench-board"] = "cgbench-board"
    version: Literal[1] = 1
    suite_version: str
    tracks: dict[str, tuple[BoardRow, ...]]
    scored_metrics: tuple[ScoredMetric, ...]
    uncounted: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def row(self, model: str) -> BoardRow | None:
        """Return the row of a model, or None."""
        rows = (row for track in self.tracks.values() for row in track)
        return next((row for row in rows if not row.reference and row.id == model), None)
