"""The one place for every protein, protocol, metric, split and constant."""

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
    SplitSettings,
    SplitSpec,
    System,
)
from cgbench.registry.mutant_models import Mutant, MutantScreening
from cgbench.registry.paper import PAPER_PROTOCOL, PaperConstant, PaperConstants, paper_constants
from cgbench.registry.protocol_models import Protocol, TemperatureLadder
from cgbench.registry.remote import FILE_KINDS, SUITE, FileKind, RemoteFile, remote_files
from cgbench.registry.secondary_structure import (
    Element,
    PairingConstants,
    SecondaryStructure,
    native_annotation,
    pairing_constants,
    secondary_structure,
)

__all__ = [
    "FILE_KINDS",
    "PAPER_PROTOCOL",
    "SUITE",
    "AnalysisSettings",
    "Bead",
    "BeadVocabulary",
    "Constants",
    "Element",
    "FileKind",
    "MetricSpec",
    "Mutant",
    "MutantScreening",
    "NativeStructure",
    "PairingConstants",
    "PaperConstant",
    "PaperConstants",
    "Protocol",
    "PublishedFact",
    "RemoteFile",
    "SecondaryStructure",
    "SplitSettings",
    "SplitSpec",
    "System",
    "TemperatureLadder",
    "add_metric",
    "bead_vocabulary",
    "constants",
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
    "secondary_structure",
    "split",
    "splits",
    "system",
    "systems",
]
