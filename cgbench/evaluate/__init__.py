"""Reference bundles, ensembles, metrics with intervals, and the rows that stand beside a model."""

from cgbench.evaluate.bootstrap import can_pair, interval, moved, multiplicities, paired_difference
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.harness import failed, missing, score
from cgbench.evaluate.metrics import COMPARED, FORCE_METRICS, METRICS, ForceErrors
from cgbench.evaluate.observables import Observables, observe
from cgbench.evaluate.reference import (
    ReferenceBundle,
    ReferenceMetadata,
    build_reference,
    frame_weights,
    read_reference,
    write_reference,
)
from cgbench.evaluate.resampling import ReferenceStatistics, reference_statistics
from cgbench.evaluate.rows import ROWS, ideal_chain, md_split_half, native_constant, start_frames
from cgbench.evaluate.scored import (
    SIDECAR,
    Display,
    MacrostatePopulation,
    Marginal,
    Scored,
    Trace,
    read_scored,
    write_scored,
)

__all__ = [
    "COMPARED",
    "FORCE_METRICS",
    "METRICS",
    "ROWS",
    "SIDECAR",
    "Display",
    "Ensemble",
    "ForceErrors",
    "MacrostatePopulation",
    "Marginal",
    "Observables",
    "ReferenceBundle",
    "ReferenceMetadata",
    "ReferenceStatistics",
    "Scored",
    "Trace",
    "build_reference",
    "can_pair",
    "failed",
    "frame_weights",
    "ideal_chain",
    "interval",
    "md_split_half",
    "missing",
    "moved",
    "multiplicities",
    "native_constant",
    "observe",
    "paired_difference",
    "read_reference",
    "read_scored",
    "reference_statistics",
    "score",
    "start_frames",
    "write_reference",
    "write_scored",
]
