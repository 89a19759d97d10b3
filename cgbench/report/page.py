"""Renders a report as one HTML file that needs nothing from elsewhere."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from markupsafe import Markup, escape

from cgbench.config import write_atomic
from cgbench.report.content import ReportContent, Row, Structures
from cgbench.report.drawing import colour_of
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
#: Coordinates in the page are whole hundredths of an ångström.
_STRUCTURE_SCALE: Final = 100.0


def _web(name: str) -> str:
    return files("cgbench.report").joinpath("web", name).read_text(encoding="utf-8")


def _structure_data(structures: Structures, names: Sequence[str]) -> dict[str, Any]:
    """Return what the viewer draws as plain data, coordinates as whole numbers."""
    colours = colour_of(names)
    return {
        "sequence": structures.sequence,
        "backbone": structures.backbone,
        "macrostates": [
            {
                "label": label,
                "structures": [
                    {
                        "name": item.name,
                        "kind": item.kind,
                        "colour": colours[item.name][0] if item.name in colours else None,
                        "frames": [
                            np.rint(frame * _STRUCTURE_SCALE).astype(int).ravel().tolist()
                            for frame in item.frames
                        ],
                    }
                    for item in shown
                ],
            }
            for label, shown in structures.macrostates
        ],
    }


def _breakable(name: str) -> Markup:
    """Return an escaped name that may be broken after its separators."""
    text = str(escape(name))
    for letter in "_/":
        text = text.replace(letter, f"{letter}<wbr>")
    return Markup(text)  # noqa: S704 - escaped above


def _any_void(rows: Sequence[Row]) -> bool:
    return any(cell.status == "void" for row in rows for cell in row.cells.values())


def _embedded(data: Any) -> str:
    """Return JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


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
    environment.filters["breakable"] = _breakable
    sections = [
        (
            section,
            list(figure_groups(section, place)),
            list(paper_figures(section, place)),
            None
            if section.structures is None
            else _embedded(
                _structure_data(
                    section.structures, [row.name for row in section.rows if row.kind == "model"]
                )
            ),
        )
        for place, section in enumerate(content.sections)
    ]
    shown = any(section.structures is not None for section in content.sections)
    scripts = [_web("trace.js"), _web("page.js")]
    if viewer is not None and shown:
        scripts.insert(0, viewer.script)
    return environment.from_string(_web("page.html.jinja")).render(
        content=content,
        sections=sections,
        groups=_GROUPS,
        style=_web("page.css"),
        scripts=scripts,
        hashes=" ".join(map(_hash, scripts)),
        licence=viewer.licence if viewer is not None and shown else None,
        viewer_command=None if viewer is not None else COMMAND,
    )


def write_report(content: ReportContent, path: Path, viewer: Viewer | None = None) -> Path:
    """Render a page and write it atomically."""
    write_atomic(path, render(content, viewer))
    return path
