"""JSON schemas of every JSON format: ``python -m cgbench.pipeline.schemas docs/schemas``."""

import sys
from collections.abc import Mapping
from typing import Final

import pydantic

from cgbench.evaluate import ReferenceMetadata
from cgbench.force_maps import ForceMapFile
from cgbench.generate import GenerationCard, GenerationSettings
from cgbench.ingest import Recipe
from cgbench.ingest.variants import Variant
from cgbench.models import ConformanceReport, GraphNetworkSettings, PotentialSpec
from cgbench.pipeline.card_facts import StoreFacts
from cgbench.pipeline.demo import DemoOutcome
from cgbench.pipeline.sampling import SamplingRecord
from cgbench.pipeline.scored_rows import RowRecord
from cgbench.pipeline.selection import SelectionOutcome
from cgbench.pipeline.structures_task import StructuresOutcome
from cgbench.pipeline.sweep import SweepOutcome
from cgbench.priors import PriorParameters
from cgbench.provenance import Provenance
from cgbench.registry import MetricSpec, Mutant, Protocol, System
from cgbench.results import Result, schemas_command
from cgbench.results.comparison import RunComparison
from cgbench.results.mutants import MutantsOutcome
from cgbench.samplers import SamplerConformanceReport, SamplerSpec
from cgbench.simulation.checkpoint import RunRecord
from cgbench.splits import Split
from cgbench.splits.cath_split import StructureSplit
from cgbench.store import Manifest, StoreMetadata, TrajectoryAttributes
from cgbench.train import TrainingConfig, TrainingOutcome
from cgbench.train.nemo_config import NemoConfig
from cgbench.train.recurrent import RecurrentConfig
from cgbench.train.sampler_records import SamplerOutcome
from cgbench.train.sweep import SweepConfig

#: The model that reads each format, by the name of its schema.
FORMATS: Final[Mapping[str, type[pydantic.BaseModel]]] = {
    "conformance-report": ConformanceReport,
    "demo-outcome": DemoOutcome,
    "force-map": ForceMapFile,
    "generation-card": GenerationCard,
    "generation-settings": GenerationSettings,
    "graph-network-settings": GraphNetworkSettings,
    "metric": MetricSpec,
    "mutant": Mutant,
    "mutants-outcome": MutantsOutcome,
    "nemo-config": NemoConfig,
    "potential-spec": PotentialSpec,
    "prior-parameters": PriorParameters,
    "protocol": Protocol,
    "provenance": Provenance,
    "recipe": Recipe,
    "reference-metadata": ReferenceMetadata,
    "result": Result,
    "run-comparison": RunComparison,
    "recurrent-config": RecurrentConfig,
    "sampler-conformance-report": SamplerConformanceReport,
    "sampler-outcome": SamplerOutcome,
    "sampler-spec": SamplerSpec,
    "sampling-record": SamplingRecord,
    "scored-row": RowRecord,
    "selection-outcome": SelectionOutcome,
    "simulation-record": RunRecord,
    "split": Split,
    "store-facts": StoreFacts,
    "store-manifest": Manifest,
    "store-metadata": StoreMetadata,
    "structure-split": StructureSplit,
    "structures-outcome": StructuresOutcome,
    "sweep-config": SweepConfig,
    "sweep-outcome": SweepOutcome,
    "system": System,
    "training-config": TrainingConfig,
    "training-outcome": TrainingOutcome,
    "trajectory-attributes": TrajectoryAttributes,
    "variant": Variant,
}


def main(arguments: list[str]) -> int:
    """Write the schemas to the folder named on the command line; return the exit code."""
    return schemas_command("cgbench.pipeline.schemas", FORMATS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
