"""Frozen models of everything the registry holds. A fact that is null says why."""

from typing import Literal, Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen

Source = Literal["paper", "repository", "chosen here"]
Consistency = Literal["yes", "no", "unknown"]
Need = Literal["native", "reference", "time_order", "store", "training"]


class AnalysisSettings(Frozen):
    """Constants of a system's slow coordinates and Markov state model.

    Attributes:
        tica_lag_ps: Lag of the time-lagged independent component analysis in ps.
        tica_dimensions: Number of slow coordinates kept.
        tica_epsilon: Rank cutoff, relative to the largest eigenvalue of the covariance matrix.
        msm_lag_ps: Lag of the reference's Markov state model in ps.
        model_msm_lag_ps: Lag in ps for weighting simulated ensembles that follow no protocol.
        n_microstates: Number of k-means clusters.
        n_macrostates: Number of metastable states; null is the largest spectral gap in 2 to 6.
        seed: Seed of the clustering.
        source: Where each constant is from.
    """

    tica_lag_ps: float = Field(gt=0)
    tica_dimensions: int = Field(ge=2)
    tica_epsilon: float = Field(gt=0, lt=1)
    msm_lag_ps: float = Field(gt=0)
    model_msm_lag_ps: float = Field(gt=0)
    n_microstates: int = Field(ge=2)
    n_macrostates: int | None = Field(ge=2)
    seed: int = Field(ge=0)
    source: dict[str, Source]

    @pydantic.model_validator(mode="after")
    def _every_constant_has_a_source(self) -> Self:
        constants = set(type(self).model_fields) - {"source"}
        if constants != set(self.source):
            raise ValueError(
                f"source must name every constant, wrong for {constants ^ set(self.source)}"
            )
        return self


class SplitSettings(Frozen):
    """How a system's canonical split is made.

    Attributes:
        unit: What is given to a part as a whole.
        train: Fraction of the training part.
        val: Fraction of the validation part.
        test: Fraction of the test part.
        gap_frames: Frames left unused where two parts meet within a trajectory.
        seed: Seed of the assignment.
    """

    unit: Literal["trajectory", "block"]
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    gap_frames: int = Field(ge=0)
    seed: int = Field(ge=0)

    @pydantic.model_validator(mode="after")
    def _fractions_add_up(self) -> Self:
        if abs(self.train + self.val + self.test - 1.0) > 1e-9:
            raise ValueError(f"fractions add up to {self.train + self.val + self.test}, not 1")
        return self


class NativeStructure(Frozen):
    """Where a native structure is from.

    Attributes:
        pdb_id: Entry of the Protein Data Bank.
        chain: Chain within the entry or file.
        residues: First and last residue in the numbering of the entry's authors, both included.
        model: Model number in an entry with several models, where it is known.
        file: Path below the package's assets or the data home, for a structure made here.
        source: How the structure was chosen.
    """

    pdb_id: str | None = Field(pattern=r"^[0-9][A-Z0-9]{3}$")
    chain: str | None
    residues: tuple[int, int] | None
    model: int | None
    file: str | None
    source: str


class System(Frozen):
    """A protein as it was simulated, one bead for each residue.

    Attributes:
        key: Name of the system everywhere in cgbench.
        name: Name for people.
        published_key: Name in the published topology and starting-frame files.
        n_beads: Number of beads.
        sequence: One letter for each bead; X is norleucine.
        bead_types: Numbers of the published vocabulary, one for each bead.
        substitutions: How the simulated sequence differs from the native structure's, as
            letter in the structure, bead counted from 1, letter in the simulation.
        native: The native structure.
        temperature: Temperature of the reference simulations in K.
        frame_interval: Time between frames in ps.
        analysis: Constants of the analysis.
        split: How the canonical split is made.
        force_maps: Names of the force maps there are.
        default_force_map: The map that is used when none is named.
        force_map_consistent: Whether each map moves atoms joined by a constraint together.
        constraints: Which bonds the all-atom simulations held rigid.
        embedded: Whether store, split, reference and native structure come with the package.
        minimum_start_rmsd: Least Cα RMSD in Å of the 32 published starting frames.
        licence: Licence of the data.
        converged: Whether the reference has ten folding and ten unfolding events.
        note: What a user should know.
        description: How the data were made, for their store; null for what is not made here.
        reasons: For each null above, why it is null.
    """

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    name: str
    published_key: str | None
    n_beads: int = Field(ge=4)
    sequence: str = Field(pattern=r"^[A-Z]+$")
    bead_types: tuple[int, ...]
    substitutions: tuple[str, ...]
    native: NativeStructure
    temperature: float = Field(gt=0)
    frame_interval: float | None = Field(gt=0)
    analysis: AnalysisSettings
    split: SplitSettings
    force_maps: tuple[str, ...]
    default_force_map: str
    force_map_consistent: dict[str, Consistency]
    constraints: str | None
    embedded: bool
    minimum_start_rmsd: float | None = Field(gt=0)
    licence: str | None
    converged: bool | None
    note: str | None
    description: str | None = None
    reasons: dict[str, str]

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.n_beads == len(self.sequence) == len(self.bead_types):
            raise ValueError("n_beads, sequence and bead_types disagree")
        if self.default_force_map not in self.force_maps:
            raise ValueError("default_force_map is none of force_maps")
        if set(self.force_map_consistent) != set(self.force_maps):
            raise ValueError("force_map_consistent must name every force map")
        nulls = {
            name
            for name in type(self).model_fields
            if getattr(self, name) is None and name not in ("note", "description")
        }
        if nulls != set(self.reasons):
            raise ValueError(f"every null needs a reason, wrong for {nulls ^ set(self.reasons)}")
        return self


class MetricSpec(Frozen):
    """What a metric is and how it is ranked.

    Attributes:
        id: Name in results; ``package:name`` for one that another package brings.
        version: Grows when a constant or the formula changes.
        name: Name for people.
        group: Family of the metric.
        unit: Unit of the value; "1" for a pure number, "σ" for the reference's standard deviation.
        direction: Smaller, larger, or closer to the reference's own value is better.
        needs: What it cannot be computed without.
        ranked: Whether models are ranked by it.
        primary: Whether it leads the table.
        penalty: The value that a failed system gets; null for metrics that are not ranked.
        penalty_source: How the penalty was chosen; null with the penalty.
        good: Value of score 1; null until it is measured.
        bad: Value of score 0; null until it is measured.
        threshold_source: Where the thresholds are from.
        description: Definition in a few sentences.
        optional: Whether it is there only so that numbers published elsewhere can be compared.
    """

    id: str = Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*:)?[a-z][A-Za-z0-9_]*$")
    version: int = Field(ge=1)
    name: str
    group: Literal["thermodynamics", "structure", "gate", "stability", "forces"]
    unit: str
    direction: Literal["min", "max", "target"]
    needs: tuple[Need, ...]
    ranked: bool
    primary: bool
    penalty: float | None
    penalty_source: str | None
    good: float | None
    bad: float | None
    threshold_source: str
    description: str
    optional: bool = False

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.primary and not self.ranked:
            raise ValueError("a primary metric is ranked")
        if self.ranked != (self.penalty is not None):
            raise ValueError("a ranked metric has a penalty, and only it")
        if (self.penalty is None) != (self.penalty_source is None):
            raise ValueError("a penalty has a source")
        if (self.good is None) != (self.bad is None):
            raise ValueError("good and bad are set together")
        return self

    @property
    def versioned_id(self) -> str:
        """The id with its version, ``metric@version``."""
        return f"{self.id}@{self.version}"


class PublishedFact(Frozen):
    """A number from the literature that is shown beside results.

    Attributes:
        system: Key of a system or mutant; null where the fact holds for all twelve proteins.
        quantity: What was measured.
        value: The number; null with a reason.
        comparison: Whether the quantity equals, is below or is above the value.
        unit: Unit of the value; "1" for a pure number.
        source: Publication, and where in it.
        label: Name of the row.
        reason: Why the value is null.
    """

    system: str | None
    quantity: str
    value: float | None
    comparison: Literal["=", "<", ">"]
    unit: str
    source: str
    label: str
    reason: str | None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.value is None) != (self.reason is not None):
            raise ValueError("a null value needs a reason, and only it has one")
        return self


class SplitSpec(Frozen):
    """A way of dividing frames or systems into training, validation and test parts.

    Attributes:
        id: Name of the split.
        description: What goes where.
        fractions: Fraction of each part; null where the system's entry gives them.
        left_out: The system that is tested on and not trained on.
        source: Where the rule is from.
    """

    id: str
    description: str
    fractions: dict[str, float] | None
    left_out: str | None
    source: Source


class SequenceIdentityRule(Frozen):
    """When two sequences count as the same protein.

    Attributes:
        threshold: Share of the shorter sequence above which they do.
        match: Score of two identical residues in the alignment.
        mismatch: Score of two different ones.
        gap: Score of a residue without a partner, unless at an end.
        source: Where each number is from.
    """

    threshold: float = Field(gt=0, lt=1)
    match: int = Field(gt=0)
    mismatch: int = Field(le=0)
    gap: int = Field(lt=0)
    source: dict[str, Source]

    @pydantic.model_validator(mode="after")
    def _every_constant_has_a_source(self) -> Self:
        constants = set(type(self).model_fields) - {"source"}
        if constants != set(self.source):
            raise ValueError(f"source is wrong for {constants ^ set(self.source)}")
        return self
