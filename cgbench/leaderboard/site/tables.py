"""Tables of rows: which rows stand together, in which order, and what is drawn beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from cgbench import registry
from cgbench.leaderboard.rows import Board, BoardRow, RowFlag, Score, ScoredMetric, SystemCell
from cgbench.leaderboard.site import plots, words

#: Reference rows drawn as lines behind the intervals: their class and their name.
MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "md_split_half": ("floor", "noise floor"),
    "prior_only": ("prior", "prior only"),
    "ideal_chain": ("ideal", "ideal chain"),
}
#: What stands for reference rows of systems without models.
REFERENCES: Final = (
    "Reference rows",
    "What stands beside models, for systems on which no model has been ranked yet.",
)
#: Levels as the filter counts them.
_LEVELS: Final = {None: 0, "self_reported": 0, "trajectories_checked": 1, "reproduced": 2}
#: Flags that a table has room for; all of them are on the model's page.
_SHOWN_FLAGS: Final[tuple[RowFlag, ...]] = (
    "unregistered", "leak", "gate", "failed", "missing", "best_of_n",
)  # fmt: skip
#: Ticks of the training time.
_TIMES: Final = {
    1.0: "1 s", 60.0: "1 min", 600.0: "10 min", 3600.0: "1 h", 36000.0: "10 h", 86400.0: "1 d",
    864000.0: "10 d", 8640000.0: "100 d",
}  # fmt: skip


def model_address(model: str) -> str:
    """Return where a model's page is, below the site's folder."""
    return f"models/{model}.html"


def protein_address(system: str) -> str:
    """Return where a protein's page is."""
    return f"proteins/{system}.html"


def address(row: BoardRow) -> str:
    """Return where a row is explained."""
    return f"metrics.html#row-{row.id}" if row.reference else model_address(row.id)


@dataclass(frozen=True)
class Line:
    """One line of a track's table."""

    row: BoardRow
    href: str
    look: str
    under: str
    level: int
    flags: tuple[RowFlag, ...]
    plot: Markup
    bars: Markup
    n_scored: int
    n_systems: int


@dataclass(frozen=True)
class Plot:
    """A figure under a table."""

    title: str
    alt: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Group:
    """Rows that are ranked among each other, with the reference rows of the same systems."""

    key: str
    title: str
    label: str
    lines: Sequence[Line]
    axis: Markup
    marks: Sequence[tuple[str, str]]
    leading: Sequence[ScoredMetric]
    systems: Sequence[str]
    mutants: bool
    ranked: bool
    plots: Sequence[Plot]


@dataclass(frozen=True)
class TrackTables:
    """One track: its groups."""

    key: str
    title: str
    text: str
    n_models: int
    groups: Sequence[Group]


def leading(board: Board) -> list[ScoredMetric]:
    """Return the metrics that lead tables: those that count and are primary."""
    primary = {spec.id for spec in registry.metrics() if spec.primary}
    return [metric for metric in board.scored_metrics if metric.metric in primary]


def systems_of(group: str) -> str:
    """Return the systems' part of a group's name, which its reference rows have as theirs."""
    return group.partition(" · ")[0]


def track_tables(board: Board) -> list[TrackTables]:
    """Return the tables of every track, those with models first."""
    found = []
    alone: dict[tuple[str, str], BoardRow] = {}
    joined = set()
    for key, (title, text) in words.TRACK_TEXTS.items():
        rows = board.tracks.get(key, ())
        grouped = _grouped(rows)
        groups = [
            _group(f"{words.SHORT[key]}{index + 1}", title, name, members, board)
            for index, (name, members) in enumerate(grouped.items())
        ]
        n_models = len({row.id for row in rows if not row.reference})
        found.append(TrackTables(key, title, text, n_models, groups))
        joined |= {(row.group, row.id) for members in grouped.values() for row in members}
        # Every track has the same reference rows.
        alone |= {(row.group, row.id): row for row in rows if row.reference}
    found.sort(key=lambda track: track.n_models == 0)
    rest: dict[str, list[BoardRow]] = {}
    for identity, row in alone.items():
        if identity not in joined:
            rest.setdefault(row.group, []).append(row)
    if rest:
        title, text = REFERENCES
        groups = [
            _group(f"r{index + 1}", title, name, members, board)
            for index, (name, members) in enumerate(rest.items())
        ]
        found.append(TrackTables("references", title, text, 0, groups))
    return found


def _grouped(rows: Iterable[BoardRow]) -> dict[str, list[BoardRow]]:
    """Return models by group, with the reference rows of the same systems."""
    groups: dict[str, list[BoardRow]] = {}
    beside = []
    for row in rows:
        if row.reference:
            beside.append(row)
        else:
            groups.setdefault(row.group, []).append(row)
    for name, members in groups.items():
        members += [row for row in beside if row.group in (name, systems_of(name))]
    return groups


def in_order(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Return models in the board's order and reference rows where their scores place them.

    A reference row without a score comes last.
    """
    ordered = [row for row in rows if not row.reference]
    for row in (row for row in rows if row.reference):
        at = len(ordered)
        if row.score is not None:
            for index, other in enumerate(ordered):
                below = other.score is None or other.score.value < row.score.value
                if below and (other.rank is not None or other.reference):
                    at = index
                    break
        ordered.insert(at, row)
    return ordered


def marks_of(scores: Mapping[str, Score]) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Return lines behind intervals by class, and the words and classes of their legend."""
    known = {name: scores[name] for name in MARKS if name in scores}
    lines = {MARKS[name][0]: score.value for name, score in known.items()}
    return lines, [(MARKS[name][1], MARKS[name][0]) for name in known]


def role(row: BoardRow) -> str:
    """Return what a reference row is, without the model that it belongs to."""
    return row.id.partition(" (")[0]


def look(row: BoardRow) -> str:
    """Return the class of a row: a reference row, a model of the past, or a model."""
    if row.reference:
        return "reference"
    return "model" if row.model is None or row.model.status == "active" else "past"


def under(row: BoardRow) -> str:
    """Return the small words under a row's title."""
    if row.reference:
        if row.facts:
            return "published, not re-scored"
        run = [cell for cell in row.systems.values() if cell.status != "not yet run"]
        return "reference row" if run or not row.systems else "reference row, not yet run"
    status = "" if row.model is None or row.model.status == "active" else f" · {row.model.status}"
    return f"{row.id}{status}"


def _group(key: str, track: str, name: str, rows: Sequence[BoardRow], board: Board) -> Group:
    ordered = in_order(rows)
    lines, legend = marks_of({role(row): row.score for row in rows if row.reference and row.score})
    axis = f"x-{key}"
    systems = list(
        dict.fromkeys(
            cell.system
            for row in ordered
            if not row.reference
            for cell in row.systems.values()
            if cell.counts
        )
    )
    shown = [_line(row, axis, systems) for row in ordered]
    proteins = {system.key for system in registry.systems()}
    return Group(
        key=key,
        title=name,
        label=name or track,
        lines=shown,
        axis=plots.axis(axis, lines),
        marks=legend,
        leading=[
            metric for metric in leading(board) if any(metric.metric in row.metrics for row in rows)
        ],
        systems=[system for system in systems if system in proteins],
        mutants=any(row.mutants is not None for row in rows),
        ranked=any(row.rank is not None for row in rows),
        plots=_plots(ordered, {word: lines[name] for word, name in legend}, track),
    )


def _line(row: BoardRow, axis: str, systems: Sequence[str]) -> Line:
    cells = [row.systems.get(system) for system in systems]
    scored = [
        None if cell is None or cell.composite is None else cell.composite.value for cell in cells
    ]
    return Line(
        row=row,
        href=address(row),
        look=look(row),
        under=under(row),
        level=_LEVELS[row.level],
        flags=tuple(flag for flag in _SHOWN_FLAGS if flag in row.flags),
        plot=plots.interval(row.score, axis),
        bars=plots.bars(scored),
        n_scored=sum(cell is not None and cell.status == "ok" for cell in cells),
        n_systems=len(systems),
    )


def _points(rows: Sequence[BoardRow], cost: str) -> list[plots.Point | None]:
    found: list[plots.Point | None] = []
    for row in rows:
        value = None if row.cost is None or row.reference else getattr(row.cost, cost)
        if value is None or value <= 0.0 or row.score is None:
            found.append(None)
        else:
            found.append(plots.Point(value, row.score.value, "past" if look(row) == "past" else ""))
    return found


def _plots(rows: Sequence[BoardRow], beside: Mapping[str, float], track: str) -> list[Plot]:
    speed = plots.pareto(
        _points(rows, "ns_per_day"), beside, label="ns/day of a replica", better="more"
    )
    training = plots.pareto(
        _points(rows, "training_seconds"), beside, label="training time", better="less",
        ticks=_TIMES,
    )  # fmt: skip
    found = []
    if speed is not None:
        found.append(
            Plot(
                "Quality against speed",
                f"Score against simulated ns a day, {track}; both are in the table",
                "Up and to the right is better. The line joins models that no other one beats in "
                "both. Speeds are those of each result's hardware, and compare only there.",
                speed,
            )
        )
    if training is not None:
        found.append(
            Plot(
                "Quality against training cost",
                f"Score against training time, {track}; both are in the table",
                "Up and to the left is better. Wall time of the training as the model's file "
                "states it, on the hardware that its authors had.",
                training,
            )
        )
    return found


def cells_of(board: Board, system: str) -> list[tuple[BoardRow, SystemCell]]:
    """Return every row that has a protein, best score first; a reference row occurs once."""
    found: list[tuple[BoardRow, SystemCell]] = []
    seen = set()
    for rows in board.tracks.values():
        for row in rows:
            cell = row.systems.get(system)
            identity = (row.id,) if row.reference else (row.id, row.track, row.group)
            if cell is None or identity in seen:
                continue
            seen.add(identity)
            found.append((row, cell))

    def place(pair: tuple[BoardRow, SystemCell]) -> tuple[bool, float]:
        composite = pair[1].composite
        return composite is None, 0.0 if composite is None else -composite.value

    return sorted(found, key=place)
