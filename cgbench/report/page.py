"""Renders a report as one HTML file that needs nothing from elsewhere."""

from importlib.resources import files
from pathlib import Path

import jinja2

from cgbench.config import write_atomic
from cgbench.report.content import Cell, ReportContent, SystemSection
from cgbench.report.figures import free_energy_maps, marginals, rmsd_traces


def number(value: float | None) -> str:
    """Return a value with three significant digits, without an exponent where that is readable."""
    if value is None:
        return "–"
    if value != 0.0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    magnitude = f"{value:.3g}"
    return f"{value:.0f}" if "e" in magnitude else magnitude


def cell_text(cell: Cell | None) -> str:
    """Return ``value [lo, hi]``, or ``n/a``."""
    if cell is None or cell.value is None:
        return "n/a"
    text = number(cell.value)
    if cell.lo is not None and cell.hi is not None:
        text += f" [{number(cell.lo)}, {number(cell.hi)}]"
    return text


def _figures(section: SystemSection) -> dict[str, str]:
    drawn = {
        "maps": free_energy_maps(
            section.maps, section.map_edges, cutoff=section.map_cutoff, native=section.native_tics
        ),
        "marginals": marginals(section.panels),
    }
    if section.traces:
        drawn["traces"] = rmsd_traces(section.traces, time_unit="ps")
    return drawn


def render(content: ReportContent) -> str:
    """Return the page. All text is escaped; only figures drawn here are inserted as markup."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["cell"] = cell_text
    template = environment.from_string(
        files("cgbench.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        content=content, sections=[(section, _figures(section)) for section in content.sections]
    )


def write_report(content: ReportContent, path: Path) -> Path:
    """Render a page and write it atomically."""
    write_atomic(path, render(content))
    return path
