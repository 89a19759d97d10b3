"""The one place for every protein, protocol, metric, split and constant."""

from cgbench.registry.beads import Bead, BeadVocabulary
from cgbench.registry.constants import Constants
from cgbench.registry.loader import (
    bead_vocabulary,
    constants,
    metric,
    metrics,
    mutant,
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
    Mutant,
    NativeStructure,
    Protocol,
    PublishedFact,
    SplitSettings,
    SplitSpec,
    System,
)
from cgbench.registry.remote import FILE_KINDS, SUITE, FileKind, RemoteFile, remote_files

__all__ = [
    "FILE_KINDS",
    "SUITE",
    "AnalysisSettings",
    "Bead",
    "BeadVocabulary",
    "Constants",
    "FileKind",
    "MetricSpec",
    "Mutant",
    "NativeStructure",
    "Protocol",
    "PublishedFact",
    "RemoteFile",
    "SplitSettings",
    "SplitSpec",
    "System",
    "bead_vocabulary",
    "constants",
    "metric",
    "metrics",
    "mutant",
    "mutants",
    "protocol",
    "protocols",
    "published_facts",
    "remote_files",
    "split",
    "splits",
    "system",
    "systems",
]
