"""The one place for every protein, protocol, metric, split and constant."""

from cgbench.registry.baselines import BaselineSettings, baseline_settings
from cgbench.registry.beads import Bead, BeadVocabulary
from cgbench.registry.constants import Constants
from cgbench.registry.loader import (
    add_metric,
    bead_vocabulary,
    constants,
    metric,
    metrics,
    mutant,
    mutant_screening,
    mutants,
    protocol,
    protocols,
    published_facts,
    sequence_identity,
    split,
    splits,
    system,
    systems,
)
from cgbench.registry.models import (
    AnalysisSettings,
    MetricSpec,
    NativeStructure,
    PublishedFact,
    SequenceIdentityRule,
    SplitSettings,
    SplitSpec,
    System,
)
from cgbench.registry.mutant_models import Mutant, MutantScreening
from cgbench.registry.paper import (
    PAPER_PROTOCOL,
    PAPER_PROTOCOLS,
    PaperConstant,
    PaperConstants,
    paper_constants,
)
from cgbench.registry.protocol_models import Protocol, TemperatureLadder
from cgbench.registry.references import KnownReference, known_references
from cgbench.registry.releases import BadRelease, bad_releases
from cgbench.registry.remote import FILE_KINDS, SUITE, FileKind, RemoteFile, remote_files
from cgbench.registry.samplers import (
    Level,
    PublishedTMScores,
    SamplerConstants,
    sampler_constants,
)
from cgbench.registry.secondary_structure import (
    Element,
    PairingConstants,
    SecondaryStructure,
    native_annotation,
    pairing_constants,
    secondary_structure,
)
from cgbench.registry.zoo import ZooModel, zoo, zoo_model

__all__ = [
    "FILE_KINDS",
    "PAPER_PROTOCOL",
    "PAPER_PROTOCOLS",
    "SUITE",
    "AnalysisSettings",
    "BadRelease",
    "BaselineSettings",
    "Bead",
    "BeadVocabulary",
    "Constants",
    "Element",
    "FileKind",
    "KnownReference",
    "Level",
    "MetricSpec",
    "Mutant",
    "MutantScreening",
    "NativeStructure",
    "PairingConstants",
    "PaperConstant",
    "PaperConstants",
    "Protocol",
    "PublishedFact",
    "PublishedTMScores",
    "RemoteFile",
    "SamplerConstants",
    "SecondaryStructure",
    "SequenceIdentityRule",
    "SplitSettings",
    "SplitSpec",
    "System",
    "TemperatureLadder",
    "ZooModel",
    "add_metric",
    "bad_releases",
    "baseline_settings",
    "bead_vocabulary",
    "constants",
    "known_references",
    "metric",
    "metrics",
    "mutant",
    "mutant_screening",
    "mutants",
    "native_annotation",
    "pairing_constants",
    "paper_constants",
    "protocol",
    "protocols",
    "published_facts",
    "remote_files",
    "sampler_constants",
    "secondary_structure",
    "sequence_identity",
    "split",
    "splits",
    "system",
    "systems",
    "zoo",
    "zoo_model",
]
