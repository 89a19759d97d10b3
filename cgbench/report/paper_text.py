"""The table of the reference work's analysis as Markdown, every constant with its source."""

from collections.abc import Sequence
from typing import Final

from cgbench import registry
from cgbench.results.paper import (
    PaperAnalysis,
    PaperMacrostate,
    PaperPathways,
    PaperSpread,
    PaperTable,
)

#: The protein whose tutorial states the number of macrostates and clusters.
_PUBLISHED_COUNTS: Final = "proteing"
_COLUMNS: Final = (
    "macrostate",
    "probability",
    "mean RMSD (Å)",
    "spread (Å)",
    "least RMSD (Å)",
    "mean GDT-TS",
    "Q",
    "folded",
    "network energy (kcal/mol)",
)


def paper_markdown(analysis: PaperAnalysis, system: str) -> str:
    """Return the whole analysis of one system as Markdown.

    Args:
        analysis: The analysis.
        system: Registry key.
    """
    lines = [f"# {registry.system(system).name}: the analysis of the reference work", ""]
    if analysis.status != "ok":
        lines += [f"Status: **{analysis.status}**: {analysis.reason}.", ""]
    lines += [f"±: {analysis.spread_label}.", ""]
    for title, table, pathways in (
        ("Model", analysis.table, analysis.pathways),
        ("Reference", analysis.reference, analysis.reference_pathways),
    ):
        if table is not None:
            lines += [f"## {title}", "", *_table(table), "", *_pathways(pathways)]
    if analysis.reference_status != "ok":
        lines += [f"Reference: {analysis.reference_status}: {analysis.reference_reason}.", ""]
    lines += [*_passages(analysis), *_energy(analysis), *_elements(analysis)]
    if analysis.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in analysis.notes), ""]
    lines += ["## Constants", "", *_settings(analysis), ""]
    return "\n".join(lines)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marked = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(row) + " |" for row in marked]


def _spread(spread: PaperSpread | None, digits: int) -> str:
    return "" if spread is None else f" ± {spread.deviation:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def _table(table: PaperTable) -> list[str]:
    def row(one: PaperMacrostate) -> list[str]:
        energy = _number(one.network_energy_mean, 2)
        if one.network_energy_deviation is not None:
            energy += f" (spread {one.network_energy_deviation:.2f})"
        return [
            table.label(one.index),
            f"{one.probability:.3f}{_spread(one.probability_spread, 3)}",
            f"{one.rmsd_mean:.2f}{_spread(one.rmsd_spread, 2)}",
            f"{one.rmsd_deviation:.2f}",
            f"{one.rmsd_minimum:.2f}",
            _number(one.gdt_ts_mean, 3),
            f"{one.q_mean:.2f}",
            f"{one.folded_fraction:.2f}",
            energy,
        ]

    return [
        f"{len(table.macrostates)} macrostates ({table.macrostates_source}: "
        f"{table.macrostates_how}); {table.n_microstates} clusters, {table.n_connected} of them "
        f"connected, with {table.connected_fraction:.1%} of the frames; lag {table.lag_ps:g} ps, "
        f"frames {table.frame_interval_ps:g} ps apart; {table.n_trajectories} trajectories, "
        f"{table.n_frames} frames.",
        "",
        *_rows(_COLUMNS, [row(one) for one in table.macrostates]),
    ]


def _pathways(found: PaperPathways | None) -> list[str]:
    if found is None:
        return []
    lines = [
        f"- {' → '.join(str(state) for state in path.macrostates)}: {path.percentage:.1f} %"
        for path in found.pathways
    ]
    return ["Reactive flux from the unfolded to the native macrostate:", "", *lines, ""]


def _passages(analysis: PaperAnalysis) -> list[str]:
    found = analysis.transitions
    if found is None:
        return []
    return [
        "## Passages",
        "",
        f"Into the native macrostate {sum(found.into_native)}, out of it "
        f"{sum(found.out_of_native)}, in {len(found.into_native)} trajectories. Of "
        f"{found.n_started_unfolded} that start unfolded, {found.native_from_unfolded} reach the "
        f"native macrostate and {found.folded_from_unfolded} the reference's folded basin.",
        "",
    ]


def _energy(analysis: PaperAnalysis) -> list[str]:
    found = analysis.energy
    if found is None:
        return []
    verdict = "is" if found.native_is_lowest_energy else "is not"
    return [
        "## Energy criterion",
        "",
        f"The native macrostate {verdict} that of least mean network energy: "
        f"{found.gap:+.2f}{_spread(found.gap_spread, 2)} kcal/mol against the best other one.",
        "",
    ]


def _elements(analysis: PaperAnalysis) -> list[str]:
    if not analysis.elements:
        return []
    names = [element.name for element in analysis.elements]
    rows = [
        [f"{who} {table.label(one.index)}", *(_number(one.propensities.get(n), 2) for n in names)]
        for who, table in (("model", analysis.table), ("reference", analysis.reference))
        if table is not None
        for one in table.macrostates
    ]
    header = ["macrostate", *(f"{item.name} ({item.source})" for item in analysis.elements)]
    title = f"Fraction of frames within {analysis.element_distance:g} Å of the native element:"
    return ["## Secondary structure", "", title, "", *_rows(header, rows), ""]


def _settings(analysis: PaperAnalysis) -> list[str]:
    rows = []
    for item in analysis.settings:
        value = f"{item.value:g}" if isinstance(item.value, float) else item.value
        unit = "" if item.unit == "1" else f" {item.unit}"
        rows.append(
            [
                item.name.replace("_", " "),
                f"{value}{unit}" if value is not None else "from the data",
                item.source,
                item.reason or "",
            ]
        )
    return _rows(("constant", "value", "source", "reason"), rows)


def constants_table() -> str:
    """Return every constant for the twelve published proteins as a Markdown table."""
    published = [one.key for one in registry.systems() if one.published_key is not None]
    found = {key: registry.paper_constants(key) for key in published}
    own = found.pop(_PUBLISHED_COUNTS)
    rows = []
    for constant in own.constants:
        others = [constants[constant.name] for constants in found.values()]
        reasons = dict.fromkeys(one.reason for one in others if one.reason)
        rows.append(
            [
                constant.name.replace("_", " "),
                _values([constant], constant.unit),
                constant.source,
                _values(others, constant.unit),
                ", ".join(dict.fromkeys(one.source for one in others)),
                " ".join(reasons),
            ]
        )
    name = registry.system(_PUBLISHED_COUNTS).name
    header = ("constant", name, "source", "the other eleven", "source", "reason")
    return "\n".join(_rows(header, rows))


def _values(constants: Sequence[registry.PaperConstant], unit: str) -> str:
    """Return the value of some constants, or the range where they differ."""
    values = [one.value for one in constants]
    numbers = sorted({value for value in values if isinstance(value, float)})
    suffix = "" if unit == "1" else f" {unit}"
    if not numbers:
        return str(values[0]) if values[0] is not None else "from the data"
    text = f"{numbers[0]:g}" if len(numbers) == 1 else f"{numbers[0]:g} to {numbers[-1]:g}"
    return f"{text}{suffix}"
