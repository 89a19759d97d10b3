"""Renders a report as one HTML file that needs nothing from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jinja2

from cgbench.config import write_atomic
from cgbench.report.content import ReportContent, Row
from cgbench.report.embedding import (
    breakable,
    embedded,
    source_hash,
    structure_data,
    web_text,
)
from cgbench.report.groups import figure_groups, paper_figures
from cgbench.report.text import number
from cgbench.report.viewer import COMMAND, Viewer

#: Groups of metrics in the order of the filter, as the registry names them, and what people read.
_GROUPS: Final = {
    "primary": "Leading",
    "thermodynamics": "Thermodynamics",
    "structure": "Structure",
    "gate": "Gates",
    "stability": "Stability",
    "forces": "Forces",
    "optional": "As other benchmarks",
}
#: Scripts of a page, in the order in which they run.
_SCRIPTS: Final = ("trace.js", "common.js", "viewer.js", "page.js")


def _any_void(rows: Sequence[Row]) -> bool:
    return any(cell.status == "void" for row in rows for cell in row.cells.values())


def render(content: ReportContent, viewer: Viewer | None = None) -> str:
    """Return the page. All text is escaped; only figures drawn here are inserted as markup.

    Args:
        content: What is shown.
        viewer: The molecular viewer to embed; without it the page draws the traces itself.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["any_void"] = _any_void
    environment.filters["breakable"] = breakable
    sections = [
        (
            section,
            list(figure_groups(section, place)),
            list(paper_figures(section, place)),
            None
            if section.structures is None
            else embedded(
                structure_data(
                    section.structures, [row.name for row in section.rows if row.kind == "model"]
                )
            ),
        )
        for place, section in enumerate(content.sections)
    ]
    shown = any(section.structures is not None for section in content.sections)
    scripts = [web_text(name) for name in _SCRIPTS]
    if viewer is not None and shown:
        scripts.insert(0, viewer.script)
    return environment.from_string(web_text("page.html.jinja")).render(
        content=content,
        sections=sections,
        groups=_GROUPS,
        style=web_text("page.css"),
        scripts=scripts,
        hashes=" ".join(map(source_hash, scripts)),
        licence=viewer.licence if viewer is not None and shown else None,
        viewer_command=None if viewer is not None else COMMAND,
    )


def write_report(content: ReportContent, path: Path, viewer: Viewer | None = None) -> Path:
    """Render a page and write it atomically."""
    write_atomic(path, render(content, viewer))
    return path
