"""Small drawings of the site as SVG: intervals, bars, the Pareto plot and a chain.

They have classes instead of styles, so that a strict security policy allows them and they follow
the page's light and dark colours. Every text goes through ``Markup.format``, which escapes it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cgbench.leaderboard.rows import Score

#: Size of an interval's drawing in pixels, as in the style; a score of 0 is at the left margin.
INTERVAL_WIDTH: Final = 140
INTERVAL_HEIGHT: Final = 34
_MARGIN: Final = 5.0
#: How far lines reach into the rows above and below.
_OVER: Final = 30
_BAR: Final = 5
_BAR_HEIGHT: Final = 18

#: The Pareto plot and its margins: left, right, top, bottom.
_WIDTH, _HEIGHT = 520.0, 300.0
_EDGES: Final = (46.0, 14.0, 14.0, 42.0)


#: What stands behind an interval without an axis.
_GROUND: Final = Markup('<path class="frame" d="M5 17H135"/>')


def _place(score: float) -> float:
    return _MARGIN + (INTERVAL_WIDTH - 2 * _MARGIN) * min(1.0, max(0.0, score))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def interval(score: Score | None, axis: str = "") -> Markup:
    """Draw a score with its interval between 0 and 1.

    Args:
        score: The score; None draws nothing but what stands behind it.
        axis: Id of the :func:`axis` that is drawn behind it; a line from 0 to 1 if empty.
    """
    inside = Markup('<use href="#{}"/>').format(axis) if axis else _GROUND
    if score is not None:
        middle = INTERVAL_HEIGHT / 2
        inside += Markup('<path d="M{} {}H{}"/><circle cx="{}" cy="{}" r="4"/>').format(
            _short(_place(score.lo)), _short(middle), _short(_place(score.hi)),
            _short(_place(score.value)), _short(middle),
        )  # fmt: skip
    # As large as the style says, in pixels: a table of hundreds of rows has one in each.
    return Markup('<svg class="iv" aria-hidden="true">{}</svg>').format(inside)


def axis(identifier: str, marks: Mapping[str, float]) -> Markup:
    """Return what stands behind every interval of a table: reference rows as lines.

    Lines of all the table's rows touch, so that they read as one.

    Args:
        identifier: Id that intervals refer to.
        marks: Scores of reference rows, by a class that gives each its look.
    """
    foot = INTERVAL_HEIGHT + _OVER
    lines = Markup().join(
        Markup('<path class="{}" d="M{} {}V{}"/>').format(name, _short(_place(at)), -_OVER, foot)
        for name, at in marks.items()
    )
    frame = Markup('<path class="frame" d="M{a} {t}V{h}M{m} {t}V{h}M{b} {t}V{h}"/>').format(
        a=_short(_place(0.0)), m=_short(_place(0.5)), b=_short(_place(1.0)), t=-_OVER, h=foot
    )
    return Markup('<svg class="defs" aria-hidden="true"><g id="{}">{}{}</g></svg>').format(
        identifier, frame, lines
    )


def bars(scores: Sequence[float | None]) -> Markup:
    """Draw one bar for each system; a system without score is a dot at the foot."""
    path = Markup().join(
        Markup("M{} {}v{}").format(
            _BAR * index + 2, _BAR_HEIGHT, -1 if one is None else round(-1 - 16 * one)
        )
        for index, one in enumerate(scores)
    )
    return Markup('<svg class="bars" width="{}" aria-hidden="true"><path d="{}"/></svg>').format(
        max(1, _BAR * len(scores)), path
    )


@dataclass(frozen=True)
class Point:
    """A model in the Pareto plot: its cost and its score, and how its dot looks."""

    cost: float
    score: float
    look: str = ""


def front(points: Sequence[Point], better: Literal["more", "less"]) -> list[Point]:
    """Return the points that no other one beats in both cost and score, by cost."""
    sign = -1.0 if better == "more" else 1.0
    best = -math.inf
    found = []
    for point in sorted(points, key=lambda one: (sign * one.cost, -one.score)):
        if point.score > best:
            best = point.score
            found.append(point)
    return sorted(found, key=lambda one: one.cost)


def pareto(
    points: Sequence[Point | None],
    references: Mapping[str, float],
    *,
    label: str,
    better: Literal["more", "less"],
    ticks: Mapping[float, str] | None = None,
) -> Markup | None:
    """Draw score against cost on a logarithmic axis; None without any point.

    Args:
        points: One for each row of the table, in its order; None where a number is missing.
        references: Scores of reference rows, by name: level lines.
        label: Text of the cost axis.
        better: Whether more or less of it is better.
        ticks: Places and texts of the cost axis; powers of ten if None.
    """
    drawn = [point for point in points if point is not None]
    if not drawn:
        return None
    logs = [math.log10(point.cost) for point in drawn]
    low, high = min(logs) - 0.15, max(logs) + 0.15
    if high - low < 1.0:
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    left, right, top, bottom = _EDGES
    seen = [*(point.score for point in drawn), *references.values()]
    most = min(1.0, max(0.2, math.ceil(10 * max(seen) + 0.5) / 10))

    def x(cost: float) -> float:
        return left + (_WIDTH - left - right) * (math.log10(cost) - low) / (high - low)

    def y(score: float) -> float:
        return top + (_HEIGHT - top - bottom) * (1.0 - score / most)

    parts = [Markup('<g class="grid">')]
    tenths = 1 if most <= 0.5 else 2
    for step in range(0, round(10 * most) + 1, tenths):
        level = y(step / 10)
        parts.append(
            Markup('<path d="M{} {}H{}"/><text x="{}" y="{}" class="end">{}</text>').format(
                left, _short(level), _WIDTH - right, left - 7, _short(level + 4), f"{step / 10:.1f}"
            )
        )
    for value, text in (ticks or _powers(low, high)).items():
        if low <= math.log10(value) <= high:
            at = _short(x(value))
            parts.append(
                Markup('<path d="M{} {}V{}"/><text x="{}" y="{}" class="middle">{}</text>').format(
                    at, top, _HEIGHT - bottom, at, _HEIGHT - bottom + 17, text
                )
            )
    parts.append(
        Markup(
            '<text x="{}" y="{}" class="middle">{}</text>'
            '<text class="middle" transform="translate(12 {}) rotate(-90)">score</text></g>'
        ).format(
            (left + _WIDTH - right) / 2, _HEIGHT - 6, label, (top + _HEIGHT - bottom) / 2
        )
    )  # fmt: skip
    for names, score in _merged(references, 14.0 / (_HEIGHT - top - bottom) * most):
        level = y(score)
        parts.append(
            Markup(
                '<path class="beside" d="M{} {}H{}"/>'
                '<text class="beside end" x="{}" y="{}">{}</text>'
            ).format(left, _short(level), _WIDTH - right, _WIDTH - right, _short(level - 4), names)
        )
    corners = [(_short(x(one.cost)), _short(y(one.score))) for one in front(drawn, better)]
    line = Markup()
    for index, (across, up) in enumerate(corners):
        if index == 0:
            line += Markup("M{} {}").format(across, up)
        elif better == "more":
            line += Markup("V{}H{}").format(up, across)
        else:
            line += Markup("H{}V{}").format(across, up)
    parts.append(Markup('<path class="front" d="{}"/><g class="dots">').format(line))
    for index, point in enumerate(points):
        if point is not None:
            parts.append(
                Markup('<circle cx="{}" cy="{}" r="4.5" data-i="{}"{}/>').format(
                    _short(x(point.cost)), _short(y(point.score)), index,
                    Markup(' class="{}"').format(point.look) if point.look else "",
                )
            )  # fmt: skip
    parts.append(Markup("</g>"))
    return Markup('<svg class="pareto" viewBox="0 0 {:g} {:g}" aria-hidden="true">{}</svg>').format(
        _WIDTH, _HEIGHT, Markup().join(parts)
    )


def _merged(references: Mapping[str, float], apart: float) -> list[tuple[str, float]]:
    """Return names and scores of level lines, those too near to be told apart as one."""
    found: list[tuple[str, float]] = []
    for name, score in sorted(references.items(), key=lambda item: -item[1]):
        if found and found[-1][1] - score < apart:
            found[-1] = (f"{found[-1][0]}, {name}", found[-1][1])
        else:
            found.append((name, score))
    return found


def _powers(low: float, high: float) -> dict[float, str]:
    """Return ticks at powers of ten, with 2 and 5 between where there are few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    values = [factor * 10.0**power for power in powers for factor in factors]
    return {value: f"{value:g}" if 1e-3 <= value < 1e6 else f"{value:.0e}" for value in values}


def chain(positions: NDArray[Any], size: int = 120) -> Markup:
    """Draw the trace of a chain in the plane that shows most of it, from its first to last bead.

    Args:
        positions: (n_beads, 3) in Å.
        size: Width and height.
    """
    centred = np.asarray(positions, dtype=np.float64) - np.mean(positions, axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    # The signs of singular vectors are free; so drawn, the picture does not depend on the library.
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], 1) < 0, -1, 1)
    flat = centred @ axes.T
    smooth = _curve(flat)
    scale = (size - 16) / max(float(np.ptp(smooth[:, 0])), float(np.ptp(smooth[:, 1])), 1.0)
    middle = (smooth.max(axis=0) + smooth.min(axis=0)) / 2
    placed = size / 2 + scale * (smooth - middle)
    n_pieces = 10
    bounds = np.linspace(0, len(placed) - 1, n_pieces + 1).round().astype(int)
    depth = [placed[a : b + 1, 2].mean() for a, b in itertools.pairwise(bounds)]
    paths = []
    for piece in np.argsort(depth):
        points = placed[bounds[piece] : bounds[piece + 1] + 1, :2]
        line = Markup("M") + Markup("L").join(f"{_short(px)} {_short(py)}" for px, py in points)
        paths.append(
            Markup('<path class="edge" d="{0}"/><path class="c{1}" d="{0}"/>').format(line, piece)
        )
    return Markup('<svg class="chain" viewBox="0 0 {0} {0}" aria-hidden="true">{1}</svg>').format(
        size, Markup().join(paths)
    )


def fold(annotation: str, width: int = 120, height: int = 80) -> Markup:
    """Draw where helices and strands lie along a chain: waves, arrows, and a line between them.

    Args:
        annotation: A letter for each bead: ``a`` in a helix, ``b`` in a strand, another in neither.
        width: Width.
        height: Height.
    """
    edge, middle = 6.0, height / 2
    step = (width - 2 * edge) / max(1, len(annotation))
    parts = [Markup('<path class="loop" d="M{} {}H{}"/>').format(edge, middle, width - edge)]
    if not set(annotation) & {"a", "b"}:
        parts += [
            Markup('<circle class="f{}" cx="{}" cy="{}" r="4"/>').format(
                min(9, 10 * (2 * bead + 1) // (2 * len(annotation))),
                _short(edge + step * (bead + 0.5)), _short(middle),
            )
            for bead in range(len(annotation))
        ]  # fmt: skip
    start = 0
    for kind, run in itertools.groupby(annotation):
        number = len(list(run))
        left, right = edge + step * start, edge + step * (start + number)
        shade = min(9, 10 * (2 * start + number) // (2 * len(annotation)))
        start += number
        if kind == "b":
            tip = min(7.0, right - left)
            points = (
                (left, -4), (right - tip, -4), (right - tip, -8), (right, 0), (right - tip, 8),
                (right - tip, 4), (left, 4),
            )  # fmt: skip
            line = Markup("L").join(f"{_short(x)} {_short(middle + y)}" for x, y in points)
            parts.append(Markup('<path class="strand f{}" d="M{}Z"/>').format(shade, line))
        elif kind == "a":
            turns = max(2, round(number / 1.8))
            along = (right - left) / turns
            # Each "t" mirrors the wave before it.
            waves = Markup("q{} -26 {} 0").format(_short(along / 2), _short(along))
            waves += Markup("t{} 0").format(_short(along)) * (turns - 1)
            parts.append(
                Markup('<path class="helix c{}" d="M{} {}{}"/>').format(
                    shade, _short(left), _short(middle), waves
                )
            )
    return Markup('<svg class="fold" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        width, height, Markup().join(parts)
    )


def _curve(points: NDArray[np.float64], pieces: int = 4) -> NDArray[np.float64]:
    """Return a Catmull-Rom curve through points (Catmull and Rom, 1974), ``pieces`` a bond."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    found = [points[:1]]
    for index in range(1, len(points)):
        a, b, c, d = padded[index - 1 : index + 3]
        t = np.arange(1, pieces + 1)[:, None] / pieces
        found.append(
            0.5
            * (
                2 * b
                + (c - a) * t
                + (2 * a - 5 * b + 4 * c - d) * t**2
                + (3 * b - a - 3 * c + d) * t**3
            )
        )
    return np.concatenate(found)
