"""What a report page shows, as plain values: filled by the pipeline, drawn by ``page``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: What a statement says of a model; the page shows it as a word and a sign, never by colour alone.
StatementKind = Literal["right", "wrong", "open", "note"]


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
    kind: Literal["model", "reference row"]
    cells: Mapping[str, Cell]
    description: str = ""


@dataclass(frozen=True)
class Column:
    """One metric of the table."""

    id: str
    title: str
    unit: str
    direction: str
    description: str
    group: str = "other"
    primary: bool = False


@dataclass(frozen=True)
class Statement:
    """One sentence of a verdict."""

    kind: StatementKind
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a system's numbers say of one model.

    Attributes:
        name: Name of the model.
        headline: The verdict in one sentence.
        statements: What it gets right, where it fails, and what cannot be told.
    """

    name: str
    headline: str
    statements: Sequence[Statement]


@dataclass(frozen=True)
class Standing:
    """Where the models stand in one metric, between the noise floor and an ideal chain.

    Attributes:
        metric: Its id.
        title: Its name.
        unit: Its unit.
        floor: Value, lower and upper end of the noise floor.
        ideal: The freely jointed chain's value.
        marks: Values of other reference rows, by name.
        models: Value, lower and upper end by model.
    """

    metric: str
    title: str
    unit: str
    floor: tuple[float, float, float]
    ideal: float
    marks: Mapping[str, float]
    models: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        name: Name of the row.
        x: (n,) abscissa.
        y: (n,) probability density, or free energy; not finite where there is none.
        is_reference: Whether it is the reference's.
        lo: (n,) lower end of its interval.
        hi: (n,) upper end.
    """

    name: str
    x: Array
    y: Array
    is_reference: bool = False
    lo: Array | None = None
    hi: Array | None = None


@dataclass(frozen=True)
class Panel:
    """One panel of curves."""

    title: str
    unit: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Surface:
    """One free-energy surface (n_x, n_y) in kcal/mol, not a number where nothing was visited."""

    name: str
    energy: Array
    is_model: bool


@dataclass(frozen=True)
class TraceSet:
    """The trajectories of one model in time.

    Attributes:
        replicas: Time (n,) in ps, RMSD (n,) in Å and slowest coordinate (n,) of each.
        rmsd: The distributions beside them; the reference first.
        tic1: As ``rmsd``.
    """

    replicas: Sequence[tuple[Array, Array, Array]]
    rmsd: Panel
    tic1: Panel


@dataclass(frozen=True)
class PairMaps:
    """Maps of one model beside the reference's, both on the same axes."""

    reference: Array
    model: Array


@dataclass(frozen=True)
class MacrostateRow:
    """One reference macrostate: population in the reference and in every model."""

    index: int
    native: bool
    reference_population: float
    reference_rmsd: float
    populations: Mapping[str, float]
    rmsds: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Structure:
    """One structure of a macrostate in the viewer.

    Attributes:
        name: ``native``, ``reference`` or the name of a model.
        kind: What it is; the first model frame is the nearest to the reference's structure.
        frames: (n_frames, n_atoms, 3) in Å, superposed; four backbone atoms a bead (N, CA, C, O),
            or the Cα alone.
    """

    name: str
    kind: Literal["native", "reference", "model"]
    frames: Array


@dataclass(frozen=True)
class Structures:
    """What the viewer shows of one system: structures by macrostate, in the order of the table."""

    sequence: str
    backbone: bool
    macrostates: Sequence[tuple[str, Sequence[Structure]]]


@dataclass(frozen=True)
class Difference:
    """A paired difference of two rows on the same starts or the same test trajectories."""

    metric: str
    a: str
    b: str
    diff: float
    lo: float
    hi: float
    unit: str = ""
    direction: str = ""
    group: str = "other"

    @property
    def significant(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.lo > 0.0 or self.hi < 0.0


@dataclass(frozen=True)
class Table:
    """A table of anything: cells are shown as they are, numbers with three digits.

    Attributes:
        caption: What it holds.
        head: Names of the columns.
        rows: As many cells each; None is shown as a dash.
        notes: What to know to read it.
        lead: What it says in a sentence, shown above it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    notes: Sequence[str] = ()
    lead: str = ""


@dataclass(frozen=True)
class ImageFigure:
    """A figure that was drawn before, as an image that runs nothing.

    Attributes:
        title: What it shows.
        description: How to read it.
        address: ``data:`` address of the image.
        suffix: What a file of it is called.
    """

    title: str
    description: str
    address: str
    suffix: Literal["svg", "png"]


@dataclass(frozen=True)
class PaperSection:
    """The paper-style analysis of one model: its tables, figures and what to know of it."""

    name: str
    status: str
    notes: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[ImageFigure] = ()


@dataclass(frozen=True)
class SystemSection:
    """Everything shown for one system."""

    system: str
    title: str
    verdicts: Sequence[Verdict]
    warnings: Sequence[str]
    facts: Mapping[str, str]
    columns: Sequence[Column]
    rows: Sequence[Row]
    surfaces: Sequence[Surface]
    map_edges: tuple[Array, Array]
    map_cutoff: float
    native_tics: tuple[float, float] | None
    standings: Sequence[Standing] = ()
    profiles: Sequence[Panel] = ()
    panels: Sequence[Panel] = ()
    local_panels: Sequence[Panel] = ()
    traces: Mapping[str, TraceSet] = field(default_factory=dict)
    contacts: Mapping[str, PairMaps] = field(default_factory=dict)
    dihedrals: Mapping[str, PairMaps] = field(default_factory=dict)
    macrostates: Sequence[MacrostateRow] = ()
    structures: Structures | None = None
    differences: Sequence[Difference] = ()
    paper: Sequence[PaperSection] = ()


@dataclass(frozen=True)
class Absent:
    """A system that could not be scored: why, and what helps."""

    model: str
    system: str
    status: Literal["failed", "missing"]
    reason: str


@dataclass(frozen=True)
class ReportContent:
    """A whole page.

    Attributes:
        title: Its heading.
        introduction: What it is, in a sentence.
        sections: One for each system.
        provenance: Where every number is from.
        overview: The leading metrics of every model on every system, where there are several.
        comparison: Differences of the runs, where there are several.
        absent: Systems that failed or are missing.
        tables: Costs, timings and other tables of whole runs.
        commands: How to make the page again.
    """

    title: str
    introduction: str
    sections: Sequence[SystemSection]
    provenance: Mapping[str, str]
    overview: Table | None = None
    comparison: Table | None = None
    absent: Sequence[Absent] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[str] = ()
