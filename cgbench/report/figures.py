"""Figures of the report as SVG text: curves and standings."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgbench.report.content import Curve, Panel, Standing, TraceSet
from cgbench.report.drawing import COLOURS, INK, SOFT, WIDTH, shortened, style, svg

Colours = Mapping[str, tuple[str, Any]]


def _support(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the range in which any curve can be seen, with a margin."""
    drawn = [curve for curve in curves if curve.y.max() > 0.0] or list(curves)
    seen = [curve.x[curve.y >= 2e-3 * curve.y.max()] for curve in drawn]
    least, most = (float(edge) for edge in (min(map(np.min, seen)), max(map(np.max, seen))))
    margin = 0.05 * (most - least) or 1.0
    return least - margin, most + margin


def _legend(figure: Any, handles: Mapping[str, Any]) -> None:
    figure.legend(
        list(handles.values()), [shortened(name, 34) for name in handles], loc="outside upper left",
        ncols=2, frameon=False, handlelength=2.6,
    )  # fmt: skip


def _line(axis: Any, curve: Curve, colours: Colours) -> Any:
    colour, dashes = (INK, "-") if curve.is_reference else colours[curve.name]
    (line,) = axis.plot(
        curve.x, curve.y, color=colour, linestyle=dashes,
        linewidth=2.2 if curve.is_reference else 1.5, zorder=2 if curve.is_reference else 3,
    )  # fmt: skip
    if curve.lo is not None and curve.hi is not None:
        axis.fill_between(curve.x, curve.lo, curve.hi, color=colour, alpha=0.16, linewidth=0)
    return line


def densities(panels: Sequence[Panel], colours: Colours, key: str) -> str:
    """Draw probability densities of observables, the reference in the colour of the text."""
    columns = 2
    rows = -(-len(panels) // columns)
    with style() as plt:
        figure, axes = plt.subplots(
            rows, columns, figsize=(WIDTH, 1.75 * rows + 0.5), squeeze=False, layout="constrained"
        )
        handles: dict[str, Any] = {}
        for axis, panel in zip(axes.flat, panels, strict=False):
            for curve in panel.curves:
                handles.setdefault(curve.name, _line(axis, curve, colours))
            first = panel.curves[0]
            axis.fill_between(first.x, 0.0, first.y, color=INK, alpha=0.08, linewidth=0)
            axis.set_xlim(*_support(panel.curves))
            # A spike of a single structure would flatten what there is to see.
            tops = sorted(float(curve.y.max()) for curve in panel.curves)
            axis.set_ylim(0.0, 1.08 * min(tops[-1], 4.0 * tops[len(tops) // 2]) or 1.0)
            axis.set_xlabel(f"{panel.title} ({panel.unit})" if panel.unit else panel.title)
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        _legend(figure, handles)
        return svg(figure, key)


def profiles(panels: Sequence[Panel], colours: Colours, cutoff: float, key: str) -> str:
    """Draw free energies along the slow coordinates with their intervals."""
    with style() as plt:
        figure, axes = plt.subplots(
            len(panels), 1, figsize=(WIDTH, 2.55 * len(panels) + 0.4), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        handles: dict[str, Any] = {}
        top = 1.5 * cutoff
        for axis, panel in zip(axes.flat, panels, strict=True):
            seen = []
            for curve in panel.curves:
                clipped = Curve(
                    curve.name,
                    curve.x,
                    np.where(np.isfinite(curve.y), curve.y, np.nan),
                    curve.is_reference,
                    None if curve.lo is None else np.minimum(curve.lo, 2 * top),
                    None if curve.hi is None else np.minimum(curve.hi, 2 * top),
                )
                handles.setdefault(curve.name, _line(axis, clipped, colours))
                seen.append(curve.x[curve.y <= top])
            ends = np.concatenate(seen)
            axis.axhline(cutoff, color=SOFT, linewidth=0.6, linestyle=":")
            if len(ends):
                margin = 0.04 * float(np.ptp(ends)) or 1.0
                axis.set_xlim(ends.min() - margin, ends.max() + margin)
            axis.set_ylim(0.0, top)
            axis.set_xlabel(panel.title)
            axis.set_ylabel("free energy (kcal/mol)")
        _legend(figure, handles)
        return svg(figure, key)


def trace(traces: TraceSet, colour: str, key: str) -> str:
    """Draw RMSD and the slowest coordinate along every replica, distributions beside them."""
    with style() as plt:
        figure, axes = plt.subplots(
            2, 2, figsize=(WIDTH, 4.0), sharey="row", sharex="col",
            gridspec_kw={"width_ratios": [4.2, 1.0], "wspace": 0.03}, layout="constrained",
        )  # fmt: skip
        labels = ("RMSD to native (Å)", "TIC 1")
        for row, (label, panel) in enumerate(zip(labels, (traces.rmsd, traces.tic1), strict=True)):
            left, right = axes[row]
            for index, replica in enumerate(traces.replicas):
                left.plot(
                    replica[0], replica[1 + row], color=COLOURS[index % len(COLOURS)],
                    linewidth=0.5, alpha=0.65,
                )  # fmt: skip
            left.set_ylabel(label)
            for curve in panel.curves:
                height = curve.y / max(float(curve.y.max()), 1e-300)
                shade = INK if curve.is_reference else colour
                right.plot(
                    height, curve.x, color=shade, linewidth=1.8 if curve.is_reference else 1.3
                )
            right.set_xticks([])
            right.spines["bottom"].set_visible(False)
            seen = [replica[1 + row] for replica in traces.replicas if len(replica[1 + row])]
            ends = [
                *_support(panel.curves),
                *(float(end(part)) for part in seen for end in (np.min, np.max)),
            ]
            least, most = min(ends), max(ends)
            left.set_ylim(0.0 if row == 0 else least, most)
        axes[1, 0].set_xlabel("simulation time (ps)")
        axes[0, 1].set_title("all frames", fontsize=8)
        return svg(figure, key)


def standing(standings: Sequence[Standing], colours: Colours, key: str) -> str:
    """Draw each metric between the noise floor and an ideal chain, models with their intervals.

    Each line is scaled so that the ideal chain stands at one.
    """
    with style() as plt:
        n_models = max(len(item.models) for item in standings)
        height = (0.27 + 0.05 * min(n_models, 6)) * len(standings) + 1.1 + 0.1 * n_models
        figure, axis = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        handles: dict[str, Any] = {}
        most = 1.45
        for line, item in enumerate(reversed(standings)):
            scale = item.ideal if item.ideal > 0 else 1.0
            axis.axhline(line, color=SOFT, linewidth=0.4, alpha=0.5)
            handles["noise floor (95 %)"] = axis.barh(
                line, (item.floor[2] - item.floor[1]) / scale, left=item.floor[1] / scale,
                height=0.62, color=INK, alpha=0.18, linewidth=0,
            )  # fmt: skip
            handles["ideal chain"] = axis.plot(
                [1.0],
                [line],
                marker="|",
                color=INK,
                markersize=13,
                markeredgewidth=1.6,
                linewidth=0,
            )[0]
            for name, value in item.marks.items():
                marker = {"start_frames": "D", "prior_only": "s"}.get(name.partition(" (")[0], "x")
                handles[name] = axis.plot(
                    [min(value / scale, most)], [line], marker=marker, markersize=4.5,
                    markerfacecolor="none", markeredgecolor=colours.get(name, (SOFT, "-"))[0],
                    linewidth=0,
                )[0]  # fmt: skip
            spread = np.linspace(0.16, -0.16, len(item.models)) if len(item.models) > 1 else [0.0]
            for shift, (name, (value, lo, hi)) in zip(spread, item.models.items(), strict=True):
                place = min(value / scale, most)
                axis.plot(
                    [min(lo / scale, most), min(hi / scale, most)], [line + shift] * 2,
                    color=colours[name][0], linewidth=1.6,
                )  # fmt: skip
                handles[name] = axis.plot(
                    [place], [line + shift], marker=">" if value / scale > most else "o",
                    markersize=5.5, color=colours[name][0], linewidth=0,
                )[0]  # fmt: skip
        titles = [textwrap.fill(item.title, 28) for item in reversed(standings)]
        axis.set_yticks(range(len(standings)), titles, fontsize=8)
        axis.tick_params(axis="y", length=0)
        axis.set_xlim(-0.03, 1.5)
        axis.set_ylim(-0.6, len(standings) - 0.4)
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("distance, ideal chain = 1")
        _legend(figure, handles)
        return svg(figure, key)
