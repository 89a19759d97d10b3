"""Figures as self-contained text: SVG for lines, PNG data for maps."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Okabe and Ito's palette, told apart by readers with any colour vision; black is the reference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#B8A200")
REFERENCE_COLOUR = "#000000"


@dataclass(frozen=True)
class Curve:
    """One line of a panel: bin centres and probability density."""

    name: str
    x: Array
    density: Array
    is_reference: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel of marginals."""

    title: str
    unit: str
    curves: tuple[Curve, ...]


@contextmanager
def _style() -> Iterator[Any]:
    import matplotlib as mpl

    # The non-interactive canvas works without a screen; the salt makes element ids repeatable.
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    settings: Any = {
        "svg.hashsalt": "cgbench",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "figure.dpi": 100,
    }
    with mpl.rc_context(settings):
        try:
            yield plt
        finally:
            plt.close("all")


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    # The XML prologue is not allowed inside an HTML page.
    return text[text.index("<svg") :]


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def free_energy_maps(
    maps: Sequence[tuple[str, Array]],
    edges: tuple[Array, Array],
    *,
    cutoff: float,
    native: tuple[float, float] | None = None,
) -> str:
    """Draw free-energy surfaces side by side on one scale, as a PNG data URI.

    Args:
        maps: Title and free energy (n_x, n_y) in kcal/mol, not a number where nothing was visited;
            the first is the reference, whose outline is repeated in every panel.
        edges: Bin edges of TIC 1 and TIC 2.
        cutoff: Top of the colour scale in kcal/mol.
        native: TIC coordinates of the native structure, drawn as a star.
    """
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    with _style() as plt:
        figure, axes = plt.subplots(
            rows, columns, figsize=(2.6 * columns, 2.5 * rows), sharex=True, sharey=True,
            squeeze=False, layout="constrained",
        )  # fmt: skip
        x, y = (0.5 * (edge[1:] + edge[:-1]) for edge in edges)
        outline = np.where(np.isfinite(maps[0][1]), maps[0][1], 2 * cutoff)
        image = None
        for axis, (title, surface) in zip(axes.flat, maps, strict=False):
            shown = np.ma.masked_invalid(surface)
            image = axis.pcolormesh(
                edges[0], edges[1], shown.T, vmin=0.0, vmax=cutoff, cmap="viridis", rasterized=True
            )
            axis.contour(x, y, outline.T, levels=[cutoff], colors="#D55E00", linewidths=0.8)
            if native is not None:
                axis.plot(*native, marker="*", color="white", markeredgecolor="black", ms=10)
            axis.set_title(title)
        for axis in list(axes.flat)[len(maps) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("TIC 1")
        for axis in axes[:, 0]:
            axis.set_ylabel("TIC 2")
        figure.colorbar(image, ax=axes, label="free energy (kcal/mol)", shrink=0.8)
        return _png(figure)


def _support(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the range in which any curve can be seen, with a margin."""
    drawn = [curve for curve in curves if curve.density.max() > 0.0] or list(curves)
    seen = [curve.x[curve.density >= 2e-3 * curve.density.max()] for curve in drawn]
    least, most = (float(edge) for edge in (min(map(np.min, seen)), max(map(np.max, seen))))
    margin = 0.05 * (most - least) or 1.0
    return least - margin, most + margin


def marginals(panels: Sequence[Panel]) -> str:
    """Draw probability densities of the observables, reference in black, as SVG."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with _style() as plt:
        figure, axes = plt.subplots(
            rows, columns, figsize=(3.5 * columns, 2.4 * rows), squeeze=False, layout="constrained"
        )
        handles: dict[str, Any] = {}
        names = [curve.name for panel in panels for curve in panel.curves if not curve.is_reference]
        order = list(dict.fromkeys(names))
        for axis, panel in zip(axes.flat, panels, strict=False):
            for curve in panel.curves:
                colour = (
                    REFERENCE_COLOUR
                    if curve.is_reference
                    else COLOURS[order.index(curve.name) % len(COLOURS)]
                )
                (line,) = axis.plot(
                    curve.x,
                    curve.density,
                    color=colour,
                    linewidth=2.0 if curve.is_reference else 1.2,
                    zorder=1 if curve.is_reference else 2,
                )
                handles.setdefault(curve.name, line)
            axis.set_xlim(*_support(panel.curves))
            axis.set_xlabel(f"{panel.title} ({panel.unit})" if panel.unit else panel.title)
            axis.set_yticks([])
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper center",
            ncols=min(4, len(handles)), frameon=False,
        )  # fmt: skip
        return _svg(figure)


def rmsd_traces(rows: Mapping[str, Sequence[tuple[Array, Array]]], *, time_unit: str) -> str:
    """Draw the RMSD to the native structure along every replica, one panel a model, as SVG.

    Args:
        rows: Model name to replicas, each times (n_frames,) and RMSD (n_frames,) in Å.
        time_unit: Unit of the time axis.
    """
    with _style() as plt:
        figure, axes = plt.subplots(
            1, len(rows), figsize=(3.6 * len(rows), 2.6), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axis, (name, replicas) in zip(axes.flat, rows.items(), strict=True):
            for index, (time, rmsd) in enumerate(replicas):
                axis.plot(time, rmsd, color=COLOURS[index % len(COLOURS)], linewidth=0.5, alpha=0.6)
            axis.set_title(name)
            axis.set_xlabel(f"time ({time_unit})")
            axis.set_ylim(bottom=0.0)
        axes[0, 0].set_ylabel("RMSD to native (Å)")
        return _svg(figure)
