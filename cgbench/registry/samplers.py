"""Constants of the evaluation of samplers, and the published numbers of the structures task."""

from functools import cache
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry.loader import DATA, read_data_file

#: A level of the CATH classification: class, architecture, topology, homologous superfamily.
Level = Literal["C", "A", "T", "H"]
_Score = Annotated[float, Field(ge=0, le=1)]


class ModelsPerSequence(Frozen):
    """How many models are drawn of each sequence.

    Attributes:
        per_sequence: Their number.
        source: Where it is from.
    """

    per_sequence: int = Field(ge=2)
    source: str


class ClusteringConstants(Frozen):
    """When two models of a sequence are in one cluster.

    Attributes:
        tm_score: From this TM-score on, for chains of at least ``shortest_chain_of_tm_score``.
        shortest_chain_of_tm_score: In residues.
        rmsd: Up to this RMSD in Å, for shorter chains.
        reason: Why these.
    """

    tm_score: float = Field(gt=0, lt=1)
    shortest_chain_of_tm_score: int = Field(ge=1)
    rmsd: float = Field(gt=0)
    reason: str


class SamplerConformance(Frozen):
    """What the conformance suite lets pass.

    Attributes:
        bad_bonds: Largest share of bonds that would make a frame a bad one.
        reason: Why.
    """

    bad_bonds: float = Field(ge=0, lt=1)
    reason: str


class PublishedTMScores(Frozen):
    """One published row of the structures task.

    Attributes:
        model: The model.
        features: What it sees.
        total: Mean TM-score of all test domains.
        C: Of those of a new class.
        A: Of those of a new architecture.
        T: Of those of a new topology.
        H: Of those of a new homologous superfamily.
    """

    model: str
    features: str
    total: _Score
    C: _Score
    A: _Score
    T: _Score
    H: _Score


class StructuresTask(Frozen):
    """The task of predicting single structures of domains.

    Attributes:
        levels: Levels of the classification, from the coarsest.
        names: Their names.
        share: Share of the domains that is held out at each level.
        share_reason: Why.
        source: The publication.
        published: Its numbers, as published and not scored again.
    """

    levels: tuple[Level, ...]
    names: dict[Level, str]
    share: float = Field(gt=0, lt=0.5)
    share_reason: str
    source: str
    published: tuple[PublishedTMScores, ...]


class SamplerConstants(Frozen):
    """All of it."""

    models: ModelsPerSequence
    clustering: ClusteringConstants
    conformance: SamplerConformance
    structures: StructuresTask

    @pydantic.model_validator(mode="after")
    def _named(self) -> "SamplerConstants":
        if set(self.structures.names) != set(self.structures.levels):
            raise ValueError("every level has a name")
        return self


@cache
def sampler_constants() -> SamplerConstants:
    """Return the constants of the evaluation of samplers."""
    return validate(SamplerConstants, read_data_file("samplers"), DATA / "samplers.yaml")
