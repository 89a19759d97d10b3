"""Reference bundles, ensembles, metrics with intervals, and the rows that stand beside a model."""

from cgbench.evaluate.bootstrap import can_pair, interval, moved, multiplicities, paired_difference
from cgbench.evaluate.display import DrawnFrames
from cgbench.evaluate.drawings import (
    Contacts,
    Display,
    MacrostatePopulation,
    Marginal,
    Profile,
    Trace,
)
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.harness import failed, missing, score
from cgbench.evaluate.metrics import (
    COMPARED,
    FORCE_METRICS,
    METRICS,
    Comparison,
    ForceErrors,
    Metric,
)
from cgbench.evaluate.observables import Observables, observe
from cgbench.evaluate.plugins import PluginMetric, load_plugins
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
from cgbench.evaluate.scored import SIDECAR, Scored, read_scored, write_scored
from cgbench.evaluate.statistic import Definition, Frames, Statistic

__all__ = [
    "COMPARED",
    "FORCE_METRICS",
    "METRICS",
    "ROWS",
    "SIDECAR",
    "Comparison",
    "Contacts",
    "Definition",
    "Display",
    "DrawnFrames",
    "Ensemble",
    "ForceErrors",
    "Frames",
    "MacrostatePopulation",
    "Marginal",
    "Metric",
    "Observables",
    "PluginMetric",
    "Profile",
    "ReferenceBundle",
    "ReferenceMetadata",
    "ReferenceStatistics",
    "Scored",
    "Statistic",
    "Trace",
    "build_reference",
    "can_pair",
    "failed",
    "frame_weights",
    "ideal_chain",
    "interval",
    "load_plugins",
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
