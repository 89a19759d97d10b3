"""Draws docs/architecture.svg and docs/layers.svg: python docs/draw_architecture.py.

The first is the data flow of the whole suite: boxes are things on disk or in memory, arrows are
verbs. The second is the import layers of pyproject.toml. Both are written by this file alone, with
no fonts or files from elsewhere, and are the same on every machine.
"""

import tomllib
from html import escape
from pathlib import Path
from typing import Final

WIDTH, HEIGHT = 1000, 660
BOX_WIDTH, BOX_HEIGHT = 176, 54

#: Bands of the picture: top, height, name, colour.
BANDS: Final = (
    (16, 214, "data", "#eaf2fa"),
    (242, 152, "models", "#f0f6ea"),
    (406, 114, "scores", "#fbf3e4"),
    (532, 112, "people", "#f6edf5"),
)
#: Name, left, top, first line, second line; names are used by the arrows.
BOXES: Final = (
    ("published", 24, 42, "published files", "checked bead for bead"),
    ("own", 24, 104, "own trajectories", "xtc, npy, a recipe"),
    ("allatom", 24, 166, "all-atom dynamics", "OpenMM, with forces"),
    ("store", 290, 104, "store/SYSTEM.zarr", "coordinates, forces, valid"),
    ("split", 540, 42, "split", "by trajectories, with a gap"),
    ("prior", 540, 166, "prior", "bonds, repulsion, dihedrals"),
    ("bundle", 790, 104, "reference bundle", "TICA, FES, states, starts"),
    ("adapters", 290, 328, "other programs", "adapters, with --trust"),
    ("samplers", 24, 328, "samplers", "structures without time"),
    ("model", 290, 262, "model.pt", "network + prior, no code"),
    ("potential", 540, 262, "Potential", "energy and forces"),
    ("trajectories", 790, 262, "trajectories.zarr", "replicas, alive until"),
    ("ensemble", 790, 436, "Ensemble", "frames and their weights"),
    ("result", 540, 436, "result.json", "value, interval, n_eff"),
    ("report", 290, 436, "report, comparison", "one page, paired differences"),
    ("submission", 540, 562, "submission", "the result, unchanged"),
    ("board", 290, 562, "leaderboard", "checked, verified, ranked"),
    ("site", 24, 562, "site", "static pages"),
)
#: From, to, what happens, and corners between; sides are chosen by where the boxes are.
ARROWS: Final = (
    ("published", "store", "", ()),
    ("own", "store", "preprocess", ()),
    ("allatom", "store", "", ()),
    ("store", "split", "", ()),
    ("store", "prior", "", ()),
    ("store", "bundle", "reference build", ()),
    ("store", "model", "train", ()),
    ("prior", "model", "", ((628, 240), (420, 240))),
    ("adapters", "potential", "", ()),
    ("model", "potential", "check", ()),
    ("potential", "trajectories", "simulate", ()),
    ("bundle", "trajectories", "start frames", ()),
    ("trajectories", "ensemble", "", ()),
    ("samplers", "ensemble", "evaluate --ensemble", ((112, 398), (850, 398))),
    ("bundle", "ensemble", "", ((984, 131), (984, 463))),
    ("ensemble", "result", "evaluate", ()),
    ("result", "report", "compare", ()),
    ("result", "submission", "submit", ()),
    ("submission", "board", "verify", ()),
    ("board", "site", "build", ()),
)


def _sides(
    start: tuple[float, float], end: tuple[float, float], corners: tuple[tuple[int, int], ...]
) -> list[tuple[float, float]]:
    """Return the corners of an arrow from the edge of one box to that of another."""
    path = [start, *corners, end]
    found: list[tuple[float, float]] = list(corners)
    for place, (here, there) in enumerate(((path[0], path[1]), (path[-1], path[-2]))):
        across, down = there[0] - here[0], there[1] - here[1]
        sideways = abs(across) > BOX_WIDTH / 2 or abs(down) < BOX_HEIGHT / 2
        if sideways:
            edge = (here[0] + (BOX_WIDTH / 2 if across > 0 else -BOX_WIDTH / 2), here[1])
        else:
            edge = (here[0], here[1] + (BOX_HEIGHT / 2 if down > 0 else -BOX_HEIGHT / 2))
        # An arrow that turns leaves and arrives on the line of its corner.
        if corners and not sideways:
            edge = (there[0], edge[1])
        found.insert(0 if place == 0 else len(found), edge)
    return found


def draw() -> str:
    """Return the picture as SVG."""
    centres = {
        name: (left + BOX_WIDTH / 2, top + BOX_HEIGHT / 2) for name, left, top, _, _ in BOXES
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" role="img">',
        "<title>From data to the leaderboard</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#3b4653"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fff"/>',
    ]
    for top, height, name, colour in BANDS:
        parts.append(
            f'<rect x="8" y="{top}" width="{WIDTH - 16}" height="{height}" rx="10" '
            f'fill="{colour}"/>'
            f'<text x="20" y="{top + 17}" font-size="13" '
            f'fill="#5b6470">{escape(name)}</text>'
        )
    labels = []
    for first, second, verb, corners in ARROWS:
        path = _sides(centres[first], centres[second], corners)
        line = "L".join(f"{x:g} {y:g}" for x, y in path)
        parts.append(
            f'<path d="M{line}" fill="none" stroke="#3b4653" stroke-width="1.6" '
            'marker-end="url(#head)"/>'
        )
        if verb:
            middle = len(path) // 2
            (ax, ay), (bx, by) = path[middle - 1], path[middle]
            x, y = (ax + bx) / 2, (ay + by) / 2 - 5
            labels.append(
                f'<text x="{x:g}" y="{y:g}" text-anchor="middle" font-size="12" '
                'font-family="monospace" fill="#0b5c9c" stroke="#fff" stroke-width="3" '
                f'paint-order="stroke">{escape(verb)}</text>'
            )
    for _, left, top, title, note in BOXES:
        middle = left + BOX_WIDTH / 2
        parts.append(
            f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7" '
            'fill="#fff" stroke="#8a94a0"/>'
            f'<text x="{middle:g}" y="{top + 23}" text-anchor="middle" font-size="14" '
            f'font-weight="600" fill="#1a1d21">{escape(title)}</text>'
            f'<text x="{middle:g}" y="{top + 41}" text-anchor="middle" font-size="11.5" '
            f'fill="#59626d">{escape(note)}</text>'
        )
    return "\n".join((*parts, *labels, "</svg>")) + "\n"


def layers() -> list[list[str]]:
    """Return the packages of each import layer, the highest first."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [
        [package.strip().removeprefix("cgbench.") for package in layer.split("|")]
        for layer in found
    ]


def draw_layers() -> str:
    """Return the picture of the layers as SVG."""
    rows, gap, height, left, width = layers(), 8, 34, 60, 640
    total = len(rows) * (height + gap) + gap
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 16} {total}" '
        'font-family="sans-serif" role="img">',
        "<title>Import layers, from the command line down</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#3b4653"/></marker></defs>',
        f'<rect width="{left + width + 16}" height="{total}" rx="12" fill="#fff"/>',
        f'<path d="M34 {gap + 6}L34 {total - gap - 4}" stroke="#3b4653" stroke-width="1.6" '
        'marker-end="url(#head)"/>',
        f'<text transform="translate(24 {total / 2:g}) rotate(-90)" text-anchor="middle" '
        'font-size="13" fill="#5b6470">imports</text>',
    ]
    for row, packages in enumerate(rows):
        top = gap + row * (height + gap)
        each = (width - gap * (len(packages) - 1)) / len(packages)
        for column, name in enumerate(packages):
            x = left + column * (each + gap)
            parts.append(
                f'<rect x="{x:g}" y="{top}" width="{each:g}" height="{height}" rx="7" '
                'fill="#eaf2fa" stroke="#8a94a0"/>'
                f'<text x="{x + each / 2:g}" y="{top + 22}" text-anchor="middle" font-size="14" '
                f'fill="#1a1d21">{escape(name)}</text>'
            )
    return "\n".join((*parts, "</svg>")) + "\n"


#: What this file writes, by name.
PICTURES: Final = {"architecture.svg": draw, "layers.svg": draw_layers}

if __name__ == "__main__":
    for name, picture in PICTURES.items():
        Path(__file__).with_name(name).write_text(picture(), encoding="utf-8")
