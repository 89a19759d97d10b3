"""What every page is put together from: shared files, escaped text and data, hashes of scripts."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np
from markupsafe import Markup, escape

from cgbench.report.content import Structures
from cgbench.report.drawing import colour_of

#: Coordinates in a page are whole hundredths of an ångström.
_STRUCTURE_SCALE: Final = 100.0


def web_text(name: str, package: str = "cgbench.report") -> str:
    """Return a style, script or template that comes with a package, from its ``web`` folder."""
    return files(package).joinpath("web", name).read_text(encoding="utf-8")


def structure_data(structures: Structures, names: Sequence[str]) -> dict[str, Any]:
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


def breakable(name: str) -> Markup:
    """Return an escaped name that may be broken after its separators."""
    text = str(escape(name))
    for letter in "_/":
        text = text.replace(letter, f"{letter}<wbr>")
    return Markup(text)  # noqa: S704 - escaped above


def embedded(data: Any) -> str:
    """Return JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def source_hash(text: str) -> str:
    """Return what a content security policy calls a script or style that is part of the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
