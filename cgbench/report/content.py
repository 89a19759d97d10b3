"""What a report page shows, as plain values: filled by the pipeline, drawn by ``page``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cgbench.report.figures import Panel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One value of the metric table with its interval, or the reason why there is none."""

    value: float | None
    lo: float | None
    hi: float | None
    note: str | None = None
    status: str = "ok"


@dataclass(frozen=True)
class Row:
    """One line of the metric table: a model or a reference row."""

    name: str
    kind: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Column:
    """One metric of the table."""

    id: str
    title: str
    unit: str
    direction: str
    description: str


@dataclass(frozen=True)
class MacrostateRow:
    """One reference macrostate: population in the reference and in every model."""

    index: int
    native: bool
    reference_population: float
    reference_rmsd: float
    populations: Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """A paired difference of two rows on the same starts or the same test trajectories."""

    metric: str
    a: str
    b: str
    diff: float
    lo: float
    hi: float


@dataclass(frozen=True)
class SystemSection:
    """Everything shown for one system."""

    system: str
    title: str
    verdicts: Sequence[str]
    warnings: Sequence[str]
    facts: Mapping[str, str]
    columns: Sequence[Column]
    rows: Sequence[Row]
    maps: Sequence[tuple[str, Array]]
    map_edges: tuple[Array, Array]
    map_cutoff: float
    native_tics: tuple[float, float] | None
    panels: Sequence[Panel]
    traces: Mapping[str, Sequence[tuple[Array, Array]]]
    macrostates: Sequence[MacrostateRow]
    differences: Sequence[Difference] = field(default_factory=tuple)


@dataclass(frozen=True)
class ReportContent:
    """A whole page."""

    title: str
    introduction: str
    sections: Sequence[SystemSection]
    provenance: Mapping[str, str]
