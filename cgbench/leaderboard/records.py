"""What a leaderboard folder holds: a file for each model and for each submitted result.

::

    models/<family>/<name>.yml                    ModelRecord
    submissions/<family>/<name>/<date>.json       Submission
    reference_rows/<system>.json                  ReferenceRows

Everything here may come from anyone. Texts are plain and of bounded length, addresses are https,
and the identifier of a model is two plain folder names: no record can name a file elsewhere.
"""

import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import pydantic

from cgbench import config
from cgbench.config import Frozen
from cgbench.leaderboard.text import HttpsUrl, Line, ModelId, Prose
from cgbench.results import MAX_RESULT_BYTES, Result, SystemResult, Track
from cgbench.results.fields import Count, Name
from cgbench.results.mutants import MutantsOutcome
from cgbench.results.schema import Fingerprint, Verification

#: The tracks in the order of tables.
TRACKS: Final[tuple[Track, ...]] = (
    "protein-specific", "multi-protein", "leave-one-out", "sampler", "mutants"
)  # fmt: skip
#: ``trajectories``: structures of any origin, scored without a model file.
ModelKind = Literal["potential", "sampler", "trajectories", "reference"]
ModelStatus = Literal["active", "superseded", "withdrawn"]

#: A model record is a page of text.
MAX_RECORD_BYTES: Final = 64 * 1024
#: A submission is a result and a few lines.
MAX_SUBMISSION_BYTES: Final = MAX_RESULT_BYTES + 1024 * 1024


class Author(Frozen):
    """One author.

    Attributes:
        name: As it is to be shown.
        affiliation: Institution.
        orcid: ORCID iD.
    """

    name: Line
    affiliation: Line | None = None
    orcid: Annotated[str, pydantic.Field(pattern=r"^(\d{4}-){3}\d{3}[\dX]$")] | None = None


class ModelRecord(Frozen):
    """A model on the leaderboard, ``models/<family>/<name>.yml``.

    Attributes:
        model: Its identifier, ``<family>/<name>``, which is also where its files are.
        title: Name for people.
        authors: Who made it.
        contact: How to reach them: an e-mail address or a handle, as text.
        url: Where to read more.
        code_url: Where its code or weights are.
        citation: How to cite it.
        licence: Licence of the weights or structures (SPDX identifier where there is one).
        description: What it is, in a few sentences.
        track: What it is ranked among.
        kind: What was scored.
        status: ``active``; ``superseded`` by another model; ``withdrawn`` by its authors. Records
            are kept in either case.
        superseded_by: The model that took its place.
        reason: Why it was superseded or withdrawn.
        training_data: What it was trained on, in words.
        uses_native_structure: Whether experimental or native structures of the scored proteins
            went into it, other than through the reference's start frames.
        uses_pretrained: Pretrained weights or embeddings that went into it; None for none.
        date: Day of the record.
    """

    format: Literal["cgbench-leaderboard-model"] = "cgbench-leaderboard-model"
    version: Literal[1] = 1
    model: ModelId
    title: Line
    authors: tuple[Author, ...] = pydantic.Field(min_length=1, max_length=200)
    contact: Line | None = None
    url: HttpsUrl | None = None
    code_url: HttpsUrl | None = None
    citation: Prose | None = None
    licence: Line | None = None
    description: Prose
    track: Track
    kind: ModelKind
    status: ModelStatus = "active"
    superseded_by: ModelId | None = None
    reason: Prose | None = None
    training_data: Prose
    uses_native_structure: bool
    uses_pretrained: Prose | None = None
    date: datetime.date

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.status == "superseded") != (self.superseded_by is not None):
            raise ValueError("a superseded model, and only it, names the one that took its place")
        if self.status != "active" and not self.reason:
            raise ValueError(f"a model that is {self.status} says why")
        if self.superseded_by == self.model:
            raise ValueError("a model cannot take its own place")
        return self


class TrajectoriesSource(Frozen):
    """The trajectories behind a result.

    Attributes:
        url: Where anyone can get them.
        digests: ``sha256:…`` over the content of each system's group, by registry key.
    """

    url: HttpsUrl | None = None
    digests: dict[Name, Fingerprint] = pydantic.Field(default_factory=dict, max_length=1000)

    @pydantic.model_validator(mode="after")
    def _something(self) -> Self:
        if self.url is None and not self.digests:
            raise ValueError("trajectories have an address, digests, or both")
        return self


class VerificationRecord(Frozen):
    """Who recomputed a submission, and what of it.

    Attributes:
        level: What was reached.
        by: Who did it.
        date: When.
        suite_version: Version of cgbench that did it.
        result: Fingerprint of the result that was checked; on another result this says nothing.
        systems: Systems that were recomputed, all that the result has scored.
        n_metrics: Values that were compared.
        largest_difference: Largest difference of a compared value over its own tolerance.
        not_recomputed: Metrics that take more than trajectories, as force errors.
        digests: Content of the trajectories that were read or simulated, by system.
    """

    level: Literal["trajectories_checked", "reproduced"]
    by: Line
    date: datetime.date
    suite_version: Name
    result: Fingerprint
    systems: tuple[Name, ...] = pydantic.Field(min_length=1, max_length=1000)
    n_metrics: Count
    largest_difference: Annotated[float, pydantic.Field(ge=0.0, le=1.0)]
    not_recomputed: tuple[Name, ...] = pydantic.Field(default=(), max_length=500)
    digests: dict[Name, Fingerprint] = pydantic.Field(default_factory=dict, max_length=1000)


def fingerprint_of(result: Result) -> str:
    """Return ``sha256:…`` over what a result says.

    Fields that hold their default say nothing: a later version of the format that adds an optional
    field leaves the fingerprints of earlier results, and what was recorded of them, as they are.
    """
    return config.fingerprint(result.model_dump(mode="json", exclude_defaults=True))


class Submission(Frozen):
    """A submitted result, ``submissions/<family>/<name>/<date>.json``.

    Attributes:
        model: Identifier of the model's record.
        submitted: Day of the submission, the name of its file.
        result: The result, unchanged.
        trajectories: Where the trajectories are; None where they were not kept.
        missing: Systems that count on the model's track and are not in the result, each with the
            reason; they score 0.
        mutants: Outcome of the test of variants, for that track.
        verification: What was recomputed; None while it is self-reported.
    """

    format: Literal["cgbench-submission"] = "cgbench-submission"
    version: Literal[1] = 1
    model: ModelId
    submitted: datetime.date
    result: Result
    trajectories: TrajectoriesSource | None = None
    missing: dict[Name, Prose] = pydantic.Field(default_factory=dict, max_length=100)
    mutants: MutantsOutcome | None = None
    verification: VerificationRecord | None = None

    @pydantic.model_validator(mode="after")
    def _level_is_earned(self) -> Self:
        if self.result.verification != "self_reported":
            raise ValueError("a result cannot state its own verification; it is recorded beside it")
        if (self.result.track == "mutants") != (self.mutants is not None):
            raise ValueError("a result of the mutants' test, and only it, has that test's outcome")
        return self

    @property
    def result_fingerprint(self) -> str:
        """``sha256:…`` over the result (:func:`fingerprint_of`)."""
        return fingerprint_of(self.result)

    @property
    def level(self) -> Verification:
        """The level of verification; a record of another result does not count."""
        record = self.verification
        if record is None or record.result != self.result_fingerprint:
            return "self_reported"
        return record.level


#: ``scored``: computed here; ``not yet run``: nobody has run the command that gives it.
ReferenceRowStatus = Literal["scored", "not yet run"]


class ReferenceRow(Frozen):
    """A row that models are read beside, on one system.

    Attributes:
        name: ``md_split_half``, ``prior_only``, ``native_constant`` or ``ideal_chain``.
        title: Name for people.
        description: What it tells.
        status: Whether it was computed.
        reason: Why not, with the command that computes it.
        result: Its metrics.
    """

    name: Name
    title: Line
    description: Prose
    status: ReferenceRowStatus
    reason: Prose | None = None
    result: SystemResult | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.status == "scored") != (self.result is not None):
            raise ValueError("a scored row, and only it, has a result")
        if self.status != "scored" and not self.reason:
            raise ValueError("a row that was not run says why")
        return self


class ReferenceRows(Frozen):
    """The reference rows of one system, ``reference_rows/<system>.json``.

    Attributes:
        system: Registry key.
        reference: Fingerprint of the reference bundle.
        protocol: Protocol whose number of frames the noise floor has.
        metrics_versions: Version of every metric, by id.
        seed: Seed of simulation and resamples.
        suite_version: Version of cgbench that wrote it.
        rows: The rows.
    """

    format: Literal["cgbench-reference-rows"] = "cgbench-reference-rows"
    version: Literal[1] = 1
    system: Name
    reference: Fingerprint
    protocol: Name
    metrics_versions: dict[Name, Annotated[int, pydantic.Field(ge=1)]]
    seed: int
    suite_version: Name
    rows: tuple[ReferenceRow, ...] = pydantic.Field(max_length=50)


def record_file(folder: Path, model: str) -> Path:
    """Return where a leaderboard folder keeps the record of a model."""
    family, name = model.split("/")
    return folder / "models" / family / f"{name}.yml"


def submission_file(folder: Path, model: str, day: datetime.date) -> Path:
    """Return where a leaderboard folder keeps a submission."""
    family, name = model.split("/")
    return folder / "submissions" / family / name / f"{day.isoformat()}.json"
