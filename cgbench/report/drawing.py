"""The canvas of the report's figures: SVG that follows the page's light and dark colours."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

#: Okabe and Ito's palette, told apart by readers with any colour vision; the reference has the
#: colour of the text.
COLOURS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07D00", "#2F9BD6", "#7F7F7F", "#8A7A00"
)  # fmt: skip
#: Dash patterns of the same rows, so that lines differ in more than colour.
DASHES: Final = ("-", (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1.5, 1)), (0, (8, 2, 1, 2)), "-.")
#: Dash patterns of reference rows.
_DASHES_BESIDE: Final = {
    "prior_only": (0, (5, 1.2, 1, 1.2)),
    "ideal_chain": (0, (1, 1.3)),
    "md_replay": (0, (3, 2)),
}
#: Width of every figure in inches: one column of a phone, half the page of a desk.
WIDTH: Final = 5.4
#: Drawn in this colour while matplotlib works, and in the page's text colour afterwards.
INK: Final = "#010203"
SOFT: Final = "#040506"

_PRECISION = re.compile(r"(\d+\.\d{2})\d+")
_IDENTIFIER = re.compile(r'\bid="([^"]+)"')
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)


@contextmanager
def style() -> Iterator[Any]:
    """Give pyplot with the report's settings; every figure is closed afterwards."""
    import matplotlib as mpl

    # The non-interactive canvas works without a screen; the salt makes element ids repeatable.
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    settings: Any = {
        "svg.hashsalt": "cgbench",
        "svg.fonttype": "none",
        # Names of models are shown as they are, dollar signs included.
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.8,
        "figure.dpi": 100,
        "path.simplify_threshold": 0.4,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has more letters than the font that widths are measured with.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        try:
            yield plt
        finally:
            plt.close("all")


def svg(figure: Any, key: str) -> str:
    """Return a figure as an SVG element for an HTML page.

    Args:
        figure: The matplotlib figure.
        key: Put before every id that is referred to, so that figures of one page do not share any.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # The XML prologue is not allowed inside an HTML page.
    text = _DROPPED.sub("", text[text.index("<svg") :])
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    text = _IDENTIFIER.sub(lambda found: f'id="{key}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', text)
    # Texts may hold numbers of any length; only attributes are rounded.
    text = re.sub(
        r'\b(d|x|y|points|transform|style)="[^"]*"',
        lambda found: _PRECISION.sub(r"\1", found[0]),
        text,
    )
    return text.replace(INK, "currentColor").replace(SOFT, "var(--soft, #5b6470)")


def shortened(name: str, most: int = 28) -> str:
    """Return a name short enough for a figure; the page's tables have all of it."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def colour_of(names: Sequence[str], beside: Sequence[str] = ()) -> Mapping[str, tuple[str, Any]]:
    """Return colour and dashes of each row, the same wherever it is drawn.

    Args:
        names: Models: each has a colour of its own.
        beside: Reference rows. One that belongs to a model, ``role (model)``, has its colour, and
            the others the soft colour of the page, so that colour always means a model.
    """
    found: dict[str, tuple[str, Any]] = {
        name: (COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)])
        for index, name in enumerate(names)
    }
    for name in beside:
        role, _, model = name.removesuffix(")").partition(" (")
        colour = found[model][0] if model in found else SOFT
        found[name] = (colour, _DASHES_BESIDE.get(role, "-."))
    return found
