"""Figures of a reference bundle's diagnostics, as SVG and PNG files that stand alone."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate import ReferenceBundle
from cgbench.evaluate.convergence import ChapmanKolmogorovRow, Convergence
from cgbench.evaluate.free_energy import free_energy_surface
from cgbench.evaluate.reference_bundle import frame_weights
from cgbench.evaluate.reference_statistics import fes_histogram
from cgbench.report.drawing import COLOURS, style

Array = NDArray[np.float64]

_PICOSECONDS: Final = "ps"
_CONTOUR: Final = "#E4572E"


@dataclass(frozen=True)
class DiagnosticFigure:
    """One figure.

    Attributes:
        name: Short name, for a file.
        title: What it shows, for readers who do not see it.
        svg: An SVG document.
        png: The same as PNG.
    """

    name: str
    title: str
    svg: bytes
    png: bytes


@contextmanager
def _figure(rows: int, columns: int, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    import matplotlib as mpl

    # A file of its own has no page around it whose colours it could take. Labels of logarithmic
    # axes are mathematics; titles hold no dollar signs.
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = {
        **dict.fromkeys(inks, "black"),
        **dict.fromkeys(("figure.facecolor", "savefig.facecolor"), "white"),
        "text.parse_math": True,
    }
    with style() as plt, mpl.rc_context(settings):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width * columns, height * rows), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        yield figure, axes


def _saved(figure: Any, name: str, title: str) -> DiagnosticFigure:
    files = []
    for kind, metadata in (("svg", {"Date": None, "Title": title}), ("png", {"Title": title})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        files.append(buffer.getvalue())
    return DiagnosticFigure(name, title, *files)


def diagnostic_figures(bundle: ReferenceBundle) -> list[DiagnosticFigure]:
    """Draw what a bundle says of its convergence; what it does not say is left out.

    Args:
        bundle: The reference.
    """
    drawn = [split_half_maps(bundle)] if bundle.observables.n_trajectories > 1 else []
    convergence = bundle.metadata.convergence
    if convergence is None:
        return drawn
    parts: list[tuple[bool, Callable[[ReferenceBundle, Convergence], DiagnosticFigure]]] = [
        (bool(bundle.metadata.timescales), implied_timescales),
        (bool(convergence.chapman_kolmogorov), chapman_kolmogorov),
        (bool(convergence.blocks), block_estimates),
    ]
    return drawn + [draw(bundle, convergence) for known, draw in parts if known]


def implied_timescales(bundle: ReferenceBundle, convergence: Convergence) -> DiagnosticFigure:
    """Draw implied timescales against the lag with bootstrap intervals."""
    rows = bundle.metadata.timescales
    ranges = {row.lag_ps: row.ranges_ps for row in convergence.timescale_ranges}
    title = f"{bundle.system}: implied timescales, 95 % over {convergence.n_resamples} resamples"
    with _figure(1, 1, 5.4, 3.6) as (figure, axes):
        axis = axes[0, 0]
        lags = np.array([row.lag_ps for row in rows])
        for index in range(max(len(row.timescales_ps) for row in rows)):
            values = np.array([row.timescales_ps[index] or np.nan for row in rows], dtype=float)
            colour = COLOURS[index % len(COLOURS)]
            axis.plot(lags, values, marker="o", ms=4, color=colour, label=f"process {index + 1}")
            known = [
                (lag, *bounds)
                for lag in lags
                if lag in ranges and (bounds := ranges[lag][index]) is not None
            ]
            if known:
                axis.fill_between(*np.array(known).T, color=colour, alpha=0.18, linewidth=0)
        axis.fill_between(
            lags, lags * 1e-3, lags, color="#BBBBBB", alpha=0.5, lw=0, label="faster than the lag"
        )
        axis.axvline(
            bundle.metadata.msm_lag_frames * bundle.frame_interval, color="black", lw=0.8, ls=":"
        )
        axis.set_xscale("log")
        axis.set_yscale("log")
        shown = [t for row in rows for t in row.timescales_ps if t is not None]
        if shown:
            axis.set_ylim(0.5 * min(*shown, float(lags[0])), 5.0 * max(shown))
        axis.set_xlabel(f"lag ({_PICOSECONDS}); dotted: the model's own")
        axis.set_ylabel(f"implied timescale ({_PICOSECONDS})")
        axis.legend(frameon=False, fontsize=8)
        figure.suptitle(title, fontsize=9.5)
        return _saved(figure, "implied_timescales", title)


def chapman_kolmogorov(bundle: ReferenceBundle, convergence: Convergence) -> DiagnosticFigure:
    """Draw predicted and estimated probabilities between macrostates against the lag."""
    rows = convergence.chapman_kolmogorov
    n_sets = bundle.metadata.n_macrostates
    title = f"{bundle.system}: Chapman-Kolmogorov test, macrostates {_chosen(bundle)}"
    size = 2.3 if n_sets > 3 else 3.0
    with _figure(n_sets, n_sets, size, 0.75 * size) as (figure, axes):
        for start in range(n_sets):
            for end in range(n_sets):
                axis = axes[start, end]
                _test_panel(axis, [row for row in rows if (row.start, row.end) == (start, end)])
                axis.set_title(f"{start} → {end}")
        for axis in axes[-1]:
            axis.set_xlabel(f"lag ({_PICOSECONDS})")
        for axis in axes[:, 0]:
            axis.set_ylabel("probability")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(title, fontsize=9.5)
        return _saved(figure, "chapman_kolmogorov", title)


def _chosen(bundle: ReferenceBundle) -> str:
    source = bundle.metadata.analysis.source.get("n_macrostates", "chosen here")
    return "as published" if source == "paper" else source


def _test_panel(axis: Any, rows: list[ChapmanKolmogorovRow]) -> None:
    lags = [row.lag_ps for row in rows]
    for index, (name, values, ranges) in enumerate(
        (
            ("predicted", [row.predicted for row in rows], [row.predicted_range for row in rows]),
            ("estimated", [row.estimated for row in rows], [row.estimated_range for row in rows]),
        )
    ):
        if not rows:
            continue
        colour = COLOURS[index]
        low, high = np.array(ranges).T
        if index:
            # An estimate may lie outside the percentiles of its resamples; a bar cannot.
            bars = np.maximum(np.stack([values - low, high - values]), 0.0)
            axis.errorbar(lags, values, bars, color=colour, fmt="o", ms=3.5, lw=1.0, label=name)
        else:
            axis.plot(lags, values, color=colour, label=name)
            axis.fill_between(lags, low, high, color=colour, alpha=0.2, linewidth=0)
    highest = max(
        (max(row.predicted_range[1], row.estimated_range[1]) for row in rows), default=1.0
    )
    axis.set_ylim(0.0, min(1.02, 1.15 * highest) if highest > 0 else 1.0)


def split_half_maps(bundle: ReferenceBundle) -> DiagnosticFigure:
    """Draw the free energy of the reference and of two random halves of its trajectories.

    Each half is weighted by a Markov state model of its own.
    """
    constants = registry.constants()
    n = bundle.observables.n_trajectories
    order = np.random.default_rng(np.random.SeedSequence([bundle.metadata.seed, 4])).permutation(n)
    maps = [("all trajectories", bundle.fes)]
    for name, chosen in (("one half", order[: n // 2]), ("the other half", order[n // 2 :])):
        weights = frame_weights(bundle, np.sort(chosen).tolist())
        used = weights > 0
        plane = fes_histogram(bundle.observables.tics[used], weights[used], bundle.fes_edges)
        smoothing = bundle.metadata.smoothing * bundle.tic_sigma[:2]
        surface = free_energy_surface(plane, bundle.fes_edges, smoothing, bundle.temperature)
        maps.append((name, surface))
    title = f"{bundle.system}: free energy of all and of random halves of {n} trajectories"
    limit = constants.fes_cutoff + constants.fes_clip
    x, y = (0.5 * (edge[1:] + edge[:-1]) for edge in bundle.fes_edges)
    outline = np.where(np.isfinite(bundle.fes), bundle.fes, 2 * limit)
    with _figure(1, len(maps), 2.7, 2.7) as (figure, axes):
        image = None
        for axis, (name, surface) in zip(axes[0], maps, strict=True):
            image = axis.pcolormesh(
                *bundle.fes_edges, np.ma.masked_where(surface > limit, surface).T,
                vmin=0.0, vmax=limit, cmap="viridis", rasterized=True,
            )  # fmt: skip
            axis.contour(
                x, y, outline.T, levels=[constants.fes_cutoff], colors=_CONTOUR, linewidths=0.9
            )
            axis.plot(*bundle.native_tics[:2], marker="*", color="white", mec="black", ms=10)
            axis.set_title(name)
            axis.set_xlabel("TIC 1")
        axes[0, 0].set_ylabel("TIC 2")
        figure.colorbar(image, ax=axes, label="free energy (kcal/mol)", shrink=0.8)
        figure.suptitle(title, fontsize=9.5)
        return _saved(figure, "split_halves", title)


def block_estimates(bundle: ReferenceBundle, convergence: Convergence) -> DiagnosticFigure:
    """Draw the standard error of the folded population against the length of blocks."""
    title = f"{bundle.system}: standard error of the folded population from blocks"
    with _figure(1, 1, 5.4, 3.4) as (figure, axes):
        axis = axes[0, 0]
        for index, (name, several) in enumerate(
            (("parts of trajectories", False), ("whole trajectories", True))
        ):
            longest = max(
                (row.block_ps for row in convergence.blocks if row.trajectories == 1), default=0.0
            )
            rows = [
                row
                for row in convergence.blocks
                if (row.trajectories > 1 or row.block_ps == longest) == several
            ]
            if not rows:
                continue
            lengths = [row.block_ps for row in rows]
            errors = np.array([row.standard_error for row in rows])
            # The error of a standard error from n independent blocks.
            own = errors / np.sqrt(2.0 * np.array([row.n_blocks - 1 for row in rows]))
            axis.errorbar(
                lengths, errors, own, marker="so"[index], ms=4, lw=1.0, color=COLOURS[index],
                label=name,
            )  # fmt: skip
        interval = bundle.metadata.folded_population
        # A 95 % interval is 3.92 standard errors wide where errors are normal.
        axis.axhline(
            (interval.hi - interval.lo) / 3.92, color="black", ls=":", lw=0.9,
            label="trajectory bootstrap, weights solved again",
        )  # fmt: skip
        axis.set_xscale("log")
        axis.set_ylim(bottom=0.0)
        axis.set_xlabel(f"length of a block ({_PICOSECONDS})")
        axis.set_ylabel("standard error")
        axis.legend(frameon=False, fontsize=8)
        figure.suptitle(title, fontsize=9.5)
        return _saved(figure, "block_estimates", title)
