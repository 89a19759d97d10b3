"""Turns the analysis of the reference work into a section of a report."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from cgbench.errors import CgbenchError
from cgbench.evaluate import Scored
from cgbench.pipeline.paper import figure_paths
from cgbench.report import ImageFigure, PaperSection, Table
from cgbench.results.paper import PaperAnalysis, PaperMacrostate, PaperSpread, PaperTable

#: A figure that is larger was not drawn by this package.
_MAXIMUM_BYTES: Final = 4 * 1024 * 1024
_TYPES: Final = {"svg": "image/svg+xml", "png": "image/png"}


def paper_section(
    rows: Sequence[Scored], system: str, folders: Mapping[str, Path]
) -> list[PaperSection]:
    """Return the paper-style analysis of every row that has one."""
    return [
        _section(row.name, row.result.paper, system, folders.get(row.name))
        for row in rows
        if row.result.paper is not None
    ]


def _section(name: str, analysis: PaperAnalysis, system: str, folder: Path | None) -> PaperSection:
    notes = [text for text in (analysis.reason, *analysis.notes) if text]
    tables = []
    if analysis.table is not None:
        notes.append(_how(analysis.table))
        tables.append(_macrostates(f"Macrostates of {name}", analysis.table, analysis))
    if analysis.reference is not None:
        tables.append(
            _macrostates(
                "Macrostates of the reference, analysed alike", analysis.reference, analysis
            )
        )
    elif analysis.reference_reason:
        notes.append(f"reference: {analysis.reference_reason}")
    if analysis.transitions is not None:
        passed = analysis.transitions
        notes.append(
            f"{sum(passed.into_native)} passages into the native macrostate and "
            f"{sum(passed.out_of_native)} out of it; {passed.native_from_unfolded} of "
            f"{passed.n_started_unfolded} trajectories that start unfolded reach it, "
            f"{passed.folded_from_unfolded} the reference's folded basin."
        )
    if analysis.energy is not None:
        is_lowest = analysis.energy.native_is_lowest_energy
        notes.append(
            f"The native macrostate {'has' if is_lowest else 'does not have'} the least mean "
            f"network energy: {analysis.energy.gap:.3g} kcal/mol against the least of the others."
        )
    if analysis.pathways is not None:
        tables.append(
            Table(
                "Pathways from the unfolded to the native macrostate, in the model's own time",
                ["pathway", "share of the reactive flux (%)"],
                [
                    [" → ".join(map(str, path.macrostates)), path.percentage]
                    for path in analysis.pathways.pathways
                ],
            )
        )
    if analysis.settings:
        tables.append(
            Table(
                "Constants of the analysis",
                ["constant", "value", "unit", "source", "reason"],
                [
                    [item.name, item.value, item.unit, item.source, item.reason or "–"]
                    for item in analysis.settings
                ],
            )
        )
    figures = [] if folder is None else _figures(folder, system)
    return PaperSection(name, analysis.status, notes, tables, figures)


def _how(table: PaperTable) -> str:
    return (
        f"{len(table.macrostates)} macrostates ({table.macrostates_source}: "
        f"{table.macrostates_how}) of {table.n_connected} connected clusters of "
        f"{table.n_microstates}, which hold {100 * table.connected_fraction:.1f} % of the frames; "
        f"lag {table.lag_ps:g} ps."
    )


def _spread(value: float, spread: PaperSpread | None) -> str:
    return f"{value:.3g}" if spread is None else f"{value:.3g} ± {spread.deviation:.2g}"


def _macrostates(caption: str, table: PaperTable, analysis: PaperAnalysis) -> Table:
    elements = list(dict.fromkeys(key for row in table.macrostates for key in row.propensities))

    def line(row: PaperMacrostate) -> list[str | float | None]:
        role = {table.native: " (native)", table.unfolded: " (unfolded)"}.get(row.index, "")
        return [
            f"{row.index}{role}",
            _spread(row.probability, row.probability_spread),
            f"{row.rmsd_mean:.3g} ± {row.rmsd_deviation:.2g}",
            row.rmsd_minimum,
            row.q_mean,
            row.gdt_ts_mean,
            row.network_energy_mean,
            *(row.propensities.get(element) for element in elements),
        ]

    head = ["macrostate", "probability", "RMSD (Å), mean ± deviation", "least RMSD (Å)", "Q",
            "GDT-TS", "network energy (kcal/mol)", *elements]  # fmt: skip
    return Table(
        caption, head, [line(row) for row in table.macrostates], [f"±: {analysis.spread_label}."]
    )


def _figures(folder: Path, system: str) -> list[ImageFigure]:
    """Return the figures that the run has drawn, as images: nothing in an image can run."""
    found = []
    try:
        paths = figure_paths(folder, system)
    except CgbenchError:
        return []
    for path in paths:
        if path.suffix != ".svg" or not path.is_file() or path.stat().st_size > _MAXIMUM_BYTES:
            continue
        suffix: Literal["svg", "png"] = "svg"
        data = base64.b64encode(path.read_bytes()).decode()
        title = path.stem.removeprefix(f"{system}-").replace("-", " ")
        found.append(
            ImageFigure(
                title[:1].upper() + title[1:],
                "Drawn as in the reference work; what was chosen here is labelled in the figure.",
                f"data:{_TYPES[suffix]};base64,{data}",
                suffix,
            )
        )
    return found
