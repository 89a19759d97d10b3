"""Maps of the report as SVG text: free-energy surfaces, contacts and dihedral angles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.report.content import PairMaps
from cgbench.report.drawing import INK, WIDTH, shortened, style, svg

Array = NDArray[np.float64]

#: Colours of the maps; both are even in lightness for readers with any colour vision.
_SEQUENTIAL, _DIVERGING = "viridis", "RdBu_r"
_CONTOUR = "#E4572E"
#: How far above the contour surfaces are drawn.
_TOP = 1.5


def _axes(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(True)


def _star(axis: Any, native: tuple[float, float] | None) -> None:
    if native is not None:
        axis.plot(*native, marker="*", color="white", markeredgecolor="black", ms=11, zorder=5)


def _surface(axis: Any, energy: Array, edges: tuple[Array, Array], cutoff: float) -> Any:
    extent = (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1])
    _axes(axis)
    return axis.imshow(
        np.ma.masked_greater(np.ma.masked_invalid(energy), _TOP * cutoff).T, origin="lower",
        extent=extent, aspect="auto", vmin=0.0, vmax=_TOP * cutoff, cmap=_SEQUENTIAL,
        interpolation="none",
    )  # fmt: skip


def _contour(axis: Any, reference: Array, edges: tuple[Array, Array], cutoff: float) -> None:
    x, y = (0.5 * (edge[1:] + edge[:-1]) for edge in edges)
    outline = np.where(np.isfinite(reference), reference, 2 * cutoff)
    if outline.min() < cutoff < outline.max():
        axis.contour(x, y, outline.T, levels=[cutoff], colors=_CONTOUR, linewidths=1.1)


def surface_pair(
    titles: tuple[str, str],
    left_energy: Array,
    model: Array,
    reference: Array,
    edges: tuple[Array, Array],
    cutoff: float,
    native: tuple[float, float] | None,
    key: str,
) -> str:
    """Draw a free energy and, right of it, the difference of a model from the reference.

    Args:
        titles: Of both panels.
        left_energy: (n_x, n_y) what is drawn at the left, kcal/mol.
        model: What is compared.
        reference: What it is compared with; its contour is drawn in both panels.
        edges: Bin edges of both axes.
        cutoff: Energy of the contour.
        native: Place of the native conformer, drawn as a star.
        key: Put before ids.

    Where only one of the two has been, the difference is at least the cutoff and drawn as such.
    """
    top = np.where(np.isfinite(reference), np.minimum(reference, cutoff), cutoff)
    own = np.where(np.isfinite(model), np.minimum(model, cutoff), cutoff)
    visited = (np.isfinite(model) & (model <= cutoff)) | (top < cutoff)
    difference = np.where(visited, own - top, np.nan)
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(WIDTH, 2.6), sharex=True, sharey=True, layout="constrained"
        )
        image = _surface(left, left_energy, edges, cutoff)
        extent = (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1])
        apart = right.imshow(
            np.ma.masked_invalid(difference).T, origin="lower", extent=extent, aspect="auto",
            vmin=-cutoff, vmax=cutoff, cmap=_DIVERGING, interpolation="none",
        )  # fmt: skip
        _axes(right)
        for axis in (left, right):
            _contour(axis, reference, edges, cutoff)
            _star(axis, native)
            axis.set_xlabel("TIC 1")
        left.set_ylabel("TIC 2")
        left.set_title(shortened(titles[0]))
        right.set_title(shortened(titles[1]))
        for axis, drawn in ((left, image), (right, apart)):
            figure.colorbar(drawn, ax=axis, shrink=0.9).set_label("kcal/mol", fontsize=8)
        return svg(figure, key)


def reference_surface(
    energy: Array,
    edges: tuple[Array, Array],
    cutoff: float,
    native: tuple[float, float] | None,
    key: str,
) -> str:
    """Draw the free energy of a reference alone, with its contour and the native conformer.

    Args:
        energy: (n_x, n_y) in kcal/mol, not a number where nothing was visited.
        edges: Bin edges of both axes.
        cutoff: Energy of the contour.
        native: Place of the native conformer, drawn as a star.
        key: Put before ids.
    """
    with style() as plt:
        figure, axis = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
        image = _surface(axis, energy, edges, cutoff)
        _contour(axis, energy, edges, cutoff)
        _star(axis, native)
        axis.set_xlabel("TIC 1")
        axis.set_ylabel("TIC 2")
        figure.colorbar(image, ax=axis, shrink=0.9).set_label("kcal/mol", fontsize=8)
        return svg(figure, key)


def contact_maps(name: str, maps: PairMaps, key: str) -> str:
    """Draw contacts, the reference above the diagonal and the model below, and the difference."""
    n_beads = len(maps.model)
    both = np.triu(maps.reference, 1) + np.tril(maps.model, -1)
    np.fill_diagonal(both, np.nan)
    extent = (0.5, n_beads + 0.5, n_beads + 0.5, 0.5)
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(WIDTH, 2.75), sharex=True, sharey=True, layout="constrained"
        )
        image = left.imshow(
            np.ma.masked_invalid(both), extent=extent, vmin=0.0, vmax=1.0, cmap=_SEQUENTIAL,
            interpolation="none",
        )  # fmt: skip
        difference = maps.model - maps.reference
        np.fill_diagonal(difference, np.nan)
        apart = right.imshow(
            np.ma.masked_invalid(difference), extent=extent, vmin=-1.0, vmax=1.0,
            cmap=_DIVERGING, interpolation="none",
        )  # fmt: skip
        for axis in (left, right):
            _axes(axis)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.yaxis.get_major_locator().set_params(integer=True)
            axis.plot([0.5, n_beads + 0.5], [0.5, n_beads + 0.5], color=INK, linewidth=0.5)
            axis.set_xlabel("residue")
        left.set_ylabel("residue")
        left.set_title("reference ◥   model ◣")
        right.set_title("model − reference")
        figure.colorbar(image, ax=left, shrink=0.8)
        figure.colorbar(apart, ax=right, shrink=0.8, label="share of frames")
        return svg(figure, key)


def dihedral_maps(name: str, maps: PairMaps, key: str) -> str:
    """Draw the distribution of every Cα dihedral angle as a strip, reference and model."""
    number = len(maps.model)
    top = float(np.percentile(maps.reference.max(axis=1), 75)) or 1.0
    extent = (-180.0, 180.0, number + 0.5, 0.5)
    with style() as plt:
        figure, axes = plt.subplots(
            1, 2, figsize=(WIDTH, 2.6), sharex=True, sharey=True, layout="constrained"
        )
        titles = ("reference", shortened(name))
        for axis, values, title in zip(axes, (maps.reference, maps.model), titles, strict=True):
            image = axis.imshow(
                values, extent=extent, aspect="auto", vmin=0.0, vmax=top, cmap=_SEQUENTIAL,
                interpolation="none",
            )  # fmt: skip
            _axes(axis)
            axis.set_title(title)
            axis.set_xlabel("dihedral angle (°)")
            axis.set_xticks([-180, -90, 0, 90, 180])
        axes[0].set_ylabel("dihedral")
        figure.colorbar(image, ax=axes, shrink=0.9, label="density (1/rad)")
        return svg(figure, key)
