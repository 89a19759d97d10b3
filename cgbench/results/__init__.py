"""The versioned result schema: reading, writing, migration and tables."""

from cgbench.results.adapter import AdapterIdentity
from cgbench.results.export import export_schemas, schemas_command
from cgbench.results.file import MAX_RESULT_BYTES, migrate, read_result, write_result
from cgbench.results.leaks import TRACKS, Leak, Track
from cgbench.results.schema import (
    Cost,
    GateStatus,
    MetricStatus,
    MetricValue,
    ModelIdentity,
    PairedDifference,
    ProtocolIdentity,
    ReferenceIdentity,
    Result,
    SplitIdentity,
    SystemCost,
    SystemResult,
    SystemStatus,
    Verification,
    WeightsStatus,
)
from cgbench.results.table import COLUMNS, to_frame

__all__ = [
    "COLUMNS",
    "MAX_RESULT_BYTES",
    "TRACKS",
    "AdapterIdentity",
    "Cost",
    "GateStatus",
    "Leak",
    "MetricStatus",
    "MetricValue",
    "ModelIdentity",
    "PairedDifference",
    "ProtocolIdentity",
    "ReferenceIdentity",
    "Result",
    "SplitIdentity",
    "SystemCost",
    "SystemResult",
    "SystemStatus",
    "Track",
    "Verification",
    "WeightsStatus",
    "export_schemas",
    "migrate",
    "read_result",
    "schemas_command",
    "to_frame",
    "write_result",
]
