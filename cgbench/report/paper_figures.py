"""Figures of the reference work's analysis, as SVG and PNG files that stand alone.

Every figure says where the number of macrostates and clusters is from, since those of eleven
proteins were chosen here and not published.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.paper import PaperStudy
from cgbench.report.drawing import COLOURS
from cgbench.results.paper import PaperAnalysis, PaperPathways, PaperTable

Array = NDArray[np.float64]

_REFERENCE_CONTOUR: Final = "#D62728"
_MAP: Final = "viridis"
#: Where labels of points lie, in turn, so that those of close points do not meet.
_LABEL_PLACES: Final = ((8, 7, "left"), (8, -14, "left"), (-8, 7, "right"), (-8, -14, "right"))
#: How far along an arrow its label is.
_LABEL_SHARE: Final = 0.38
_OWN_TIME: Final = "the model's own time"


@dataclass(frozen=True)
class PaperFigure:
    """One figure.

    Attributes:
        name: Short name, for a file.
        title: What it shows, for readers who do not see it.
        svg: An SVG document.
        png: The same as PNG.
    """

    name: str
    title: str
    svg: str
    png: bytes


def paper_figures(study: PaperStudy) -> tuple[PaperFigure, ...]:
    """Draw every figure that there are numbers for; see :func:`figure_names`."""
    return tuple(_DRAWN[name](study) for name in figure_names(study.analysis))


def figure_names(analysis: PaperAnalysis) -> tuple[str, ...]:
    """Return the names of the figures that an analysis has."""
    present = {
        "free-energy": True,
        "trajectory": analysis.transitions is not None,
        "energy": analysis.energy is not None,
        "secondary-structure": bool(_propensities(analysis)),
        "pathways": analysis.pathways is not None or analysis.reference_pathways is not None,
    }
    return tuple(name for name, there in present.items() if there)


@contextmanager
def _style() -> Iterator[Any]:
    import matplotlib as mpl

    # The non-interactive canvas works without a screen; the salt makes element ids repeatable.
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    settings: Any = {
        "svg.hashsalt": "cgbench",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "figure.dpi": 100,
    }
    with mpl.rc_context(settings):
        try:
            yield plt
        finally:
            plt.close("all")


def _finished(figure: Any, name: str, title: str, analysis: PaperAnalysis) -> PaperFigure:
    """Add the provenance of the macrostates and return the figure in both formats."""
    figure.supxlabel(provenance(analysis), fontsize=7, color="#444444", x=0.01, ha="left")
    text, image = io.StringIO(), io.BytesIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Title": title}, bbox_inches="tight")
    figure.savefig(
        image, format="png", dpi=150, metadata={"Software": None, "Title": title},
        bbox_inches="tight",
    )  # fmt: skip
    return PaperFigure(name, title, text.getvalue(), image.getvalue())


def provenance(analysis: PaperAnalysis) -> str:
    """Return where the numbers of macrostates and clusters are from, a line for each table."""
    clusters = {setting.name: setting.source for setting in analysis.settings}
    lines = []
    for who, table, setting in (
        ("model", analysis.table, "clusters"),
        ("reference", analysis.reference, "reference_clusters"),
    ):
        if table is not None:
            lines.append(
                f"{who}: {len(table.macrostates)} macrostates ({table.macrostates_source}: "
                f"{table.macrostates_how}), {table.n_microstates} clusters "
                f"({clusters.get(setting, 'chosen here')})"
            )
    if analysis.status != "ok":
        lines.append(f"model: {analysis.status}: {analysis.reason}")
    return "\n".join(lines)


def _constant(analysis: PaperAnalysis, name: str) -> float:
    return next(float(item.value or 0.0) for item in analysis.settings if item.name == name)


def _levels(analysis: PaperAnalysis) -> Array:
    step, top = _constant(analysis, "contour_step"), _constant(analysis, "contour_top")
    return np.arange(0.0, top + 0.5 * step, step)


def _native_label(system: str) -> str:
    entry = registry.system(system)
    if entry.native.pdb_id is None:
        return "native structure (no experimental one)"
    return f"experimental structure ({entry.native.pdb_id})"


def _surface(axis: Any, study: PaperStudy, surface: Array, *, filled: bool) -> Any:
    """Draw one surface with contour levels, the reference's contour in red and the star."""
    x, y = (0.5 * (edge[1:] + edge[:-1]) for edge in study.edges)
    levels = _levels(study.analysis)
    shown = np.ma.masked_invalid(surface).T
    image = None
    if filled:
        image = axis.contourf(x, y, shown, levels=levels, cmap=_MAP, extend="max")
    axis.contour(x, y, shown, levels=levels, colors="#555555", linewidths=0.4)
    cutoff = _constant(study.analysis, "reference_contour")
    outline = np.where(np.isfinite(study.reference_fes), study.reference_fes, 2.0 * cutoff)
    if outline.min() < cutoff < outline.max():
        axis.contour(x, y, outline.T, levels=[cutoff], colors=_REFERENCE_CONTOUR, linewidths=1.3)
    axis.plot(
        *study.native_tics, marker="*", color="white", markeredgecolor="black", markersize=12,
        linestyle="none", zorder=6,
    )  # fmt: skip
    axis.set_xlabel("TIC 1")
    return image


def _key(figure: Any, study: PaperStudy) -> None:
    from matplotlib.lines import Line2D

    cutoff = _constant(study.analysis, "reference_contour")
    handles = [
        Line2D([], [], color=_REFERENCE_CONTOUR, label=f"reference at {cutoff:g} kcal/mol"),
        Line2D(
            [], [], marker="*", color="white", markeredgecolor="black", markersize=11,
            linestyle="none", label=_native_label(study.system),
        ),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)


def free_energy_figure(study: PaperStudy) -> PaperFigure:
    """Draw the free energy surfaces of reference and model over the first two components."""
    with _style() as plt:
        figure, axes = plt.subplots(
            1, 2, figsize=(6.6, 3.5), sharex=True, sharey=True, layout="constrained"
        )
        image = _surface(axes[0], study, study.reference_fes, filled=True)
        axes[0].set_title("reference")
        axes[0].set_ylabel("TIC 2")
        axes[1].set_title(f"model: {study.name}")
        if study.fes is None:
            axes[1].text(0.5, 0.5, study.analysis.status, transform=axes[1].transAxes, ha="center")
        else:
            image = _surface(axes[1], study, study.fes, filled=True)
        figure.colorbar(image, ax=axes, label="free energy (kcal/mol)", shrink=0.9)
        _key(figure, study)
        return _finished(
            figure, "free-energy", "Free energy surface over TIC 1 and TIC 2", study.analysis
        )


def trajectory_figure(study: PaperStudy) -> PaperFigure:
    """Draw states of one trajectory, coloured by time, over the surface, and its RMSD below."""
    trace, fes = study.trace, study.fes
    with _style() as plt:
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(4.8, 5.6), height_ratios=(2.2, 1.0), layout="constrained"
        )
        _surface(top, study, study.reference_fes if fes is None else fes, filled=False)
        top.set_ylabel("TIC 2")
        if trace is not None:
            n_states = round(_constant(study.analysis, "trajectory_states"))
            states = np.unique(np.linspace(0, len(trace.time) - 1, n_states).round().astype(int))
            points = top.scatter(
                trace.tics[states, 0], trace.tics[states, 1], c=trace.time[states], cmap="plasma",
                s=14, zorder=5, linewidths=0,
            )  # fmt: skip
            figure.colorbar(points, ax=top, label=f"time (ps, {_OWN_TIME})")
            top.set_title(f"trajectory {trace.index}: {len(states)} states along time")
            bottom.plot(trace.time, trace.rmsd, color=COLOURS[0], linewidth=0.6)
        bottom.set_ylim(bottom=0.0)
        bottom.set_xlabel(f"time (ps, {_OWN_TIME})")
        bottom.set_ylabel("RMSD (Å)")
        _key(figure, study)
        return _finished(
            figure, "trajectory", "States of one trajectory along time, and its RMSD",
            study.analysis,
        )  # fmt: skip


def energy_figure(study: PaperStudy) -> PaperFigure:
    """Draw the mean network energy of each macrostate against its RMSD, with both spreads."""
    analysis = study.analysis
    table, criterion = analysis.table, analysis.energy
    if table is None or criterion is None:
        raise ValidationError(f"{study.name}: no energies of macrostates to draw")
    with _style() as plt:
        figure, axis = plt.subplots(figsize=(4.8, 3.8), layout="constrained")
        for row, (across, up, side) in zip(
            table.macrostates, itertools.cycle(_LABEL_PLACES), strict=False
        ):
            if row.network_energy_mean is None:
                continue
            native = row.index == table.native
            axis.errorbar(
                row.rmsd_mean, row.network_energy_mean, xerr=row.rmsd_deviation,
                yerr=row.network_energy_deviation, fmt="*" if native else "o",
                markersize=13 if native else 7, color=COLOURS[1 if native else 0], capsize=3,
                linewidth=0.9,
            )  # fmt: skip
            axis.annotate(
                table.label(row.index), (row.rmsd_mean, row.network_energy_mean),
                textcoords="offset points", xytext=(across, up), ha=side,
            )  # fmt: skip
        verdict = "is" if criterion.native_is_lowest_energy else "is not"
        axis.set_title(
            f"the native macrostate {verdict} that of least energy "
            f"(by {abs(criterion.gap):.1f} kcal/mol)"
        )
        axis.set_xlabel("RMSD (Å), mean and standard deviation")
        axis.set_ylabel("network energy (kcal/mol),\nmean and standard deviation")
        axis.margins(0.12)
        axis.set_xlim(left=0.0)
        return _finished(
            figure, "energy", "Mean network energy of macrostates against RMSD", analysis
        )


def _propensities(analysis: PaperAnalysis) -> list[tuple[str, Mapping[str, float]]]:
    rows: list[tuple[str, Mapping[str, float]]] = []
    for who, table in (("model", analysis.table), ("reference", analysis.reference)):
        if table is not None:
            rows += [
                (f"{who} {table.label(row.index)}, {row.probability:.0%}", row.propensities)
                for row in table.macrostates
                if row.propensities
            ]
    return rows


def propensity_figure(study: PaperStudy) -> PaperFigure:
    """Draw how often each native element of secondary structure is formed in each macrostate."""
    analysis = study.analysis
    rows = _propensities(analysis)
    names = [element.name for element in analysis.elements]
    values = np.array([[row.get(name, np.nan) for name in names] for _, row in rows])
    with _style() as plt:
        figure, axis = plt.subplots(
            figsize=(4.6 + 0.9 * len(names), 2.4 + 0.32 * len(rows)), layout="constrained"
        )
        image = axis.imshow(values, vmin=0.0, vmax=1.0, cmap="YlGnBu", aspect="auto")
        for place, value in np.ndenumerate(values):
            axis.text(
                place[1], place[0], f"{value:.2f}", ha="center", va="center",
                color="white" if value > 0.55 else "black",
            )  # fmt: skip
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axis.set_yticks(range(len(rows)), [label for label, _ in rows])
        axis.tick_params(length=0)
        figure.colorbar(image, ax=axis, label=f"fraction within {analysis.element_distance:g} Å")
        axis.set_title("native secondary structure by macrostate")
        return _finished(
            figure, "secondary-structure", "Secondary-structure propensity per macrostate", analysis
        )


def pathway_figure(study: PaperStudy) -> PaperFigure:
    """Draw the reactive flux between macrostates, with the share of each pathway."""
    analysis = study.analysis
    drawn = [
        (who, table, found)
        for who, table, found in (
            ("model", analysis.table, analysis.pathways),
            ("reference", analysis.reference, analysis.reference_pathways),
        )
        if table is not None and found is not None
    ]
    with _style() as plt:
        figure, axes = plt.subplots(
            1, len(drawn), figsize=(5.4 * len(drawn), 4.4), squeeze=False, layout="constrained"
        )
        for axis, (who, table, found) in zip(axes.flat, drawn, strict=True):
            _network(axis, table, found)
            axis.set_title(f"{who}: reactive flux from unfolded to native")
        return _finished(figure, "pathways", "Reactive flux between macrostates", analysis)


def _network(axis: Any, table: PaperTable, found: PaperPathways) -> None:
    """Draw macrostates in the order of their committor, and the net flux between them."""
    net = np.array(found.net_flux)
    share = 100.0 * net / found.total_flux if found.total_flux > 0 else np.zeros_like(net)
    # By rank and not by value: most committors are close to 0 or to 1.
    order = np.argsort(found.committor, kind="stable")
    rank = np.empty(len(order))
    rank[order] = np.linspace(0.0, 1.0, len(order))
    # Neighbours alternate in height, so that their labels do not meet.
    height = np.zeros(len(order))
    height[order[1:-1]] = np.where(np.arange(len(order) - 2) % 2 == 0, 0.8, -0.8)
    place = np.stack([rank, height], axis=1)
    for begin, end in np.argwhere(share >= 0.5):
        axis.annotate(
            "", xy=place[end], xytext=place[begin],
            arrowprops={
                "arrowstyle": "-|>", "linewidth": 0.6 + 4.0 * share[begin, end] / 100.0,
                "color": "#7F7F7F", "shrinkA": 16, "shrinkB": 16,
                "connectionstyle": "arc3,rad=0.12",
            },
        )  # fmt: skip
        # Not half way, where arrows cross.
        beside = place[begin] + _LABEL_SHARE * (place[end] - place[begin])
        axis.text(
            *beside, f"{share[begin, end]:.0f} %", ha="center", va="center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    for row in table.macrostates:
        colour = COLOURS[1] if row.index == table.native else COLOURS[0]
        axis.scatter(
            *place[row.index], s=220 + 900 * row.probability, color=colour, alpha=0.85, zorder=4
        )
        below = height[row.index] < 0
        axis.annotate(
            f"{table.label(row.index)}\n{row.probability:.0%}, {row.rmsd_mean:.1f} Å\n"
            f"committor {found.committor[row.index]:.2g}",
            place[row.index], textcoords="offset points", xytext=(0, -20 if below else 20),
            ha="center", va="top" if below else "bottom", zorder=5,
        )  # fmt: skip
    lines = [
        f"{' → '.join(str(state) for state in path.macrostates)}: {path.percentage:.1f} %"
        for path in found.pathways[:6]
    ]
    axis.text(
        0.0, -0.02, "\n".join(lines), transform=axis.transAxes, va="top", ha="left", fontsize=8
    )
    axis.set_xlim(-0.25, 1.25)
    reach = float(np.abs(height).max(initial=0.0))
    axis.set_ylim(min(-0.4, float(height.min()) - 0.9), reach + 0.9)
    axis.set_axis_off()


_DRAWN: Final[Mapping[str, Callable[[PaperStudy], PaperFigure]]] = {
    "free-energy": free_energy_figure,
    "trajectory": trajectory_figure,
    "energy": energy_figure,
    "secondary-structure": propensity_figure,
    "pathways": pathway_figure,
}
#: Names of all figures there may be.
FIGURES: Final = tuple(_DRAWN)
