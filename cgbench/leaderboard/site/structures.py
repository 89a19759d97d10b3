"""Structures that a page's viewer draws: a script of plain data beside the page, loaded when seen.

A page that is opened from a disk may load scripts of its own folder and nothing else, so that the
data are a script: one assignment of JSON, whose names were written by whoever submitted and cannot
end it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cgbench.report.content import Structure, Structures
from cgbench.report.drawing import colour_of
from cgbench.report.embedding import embedded

#: Coordinates are whole hundredths of an ångström.
_SCALE: Final = 100.0
_ATOMS_PER_RESIDUE: Final = 4
_ALPHA_CARBON, _OXYGEN = 1, 3
#: Charges' product times the conversion to kcal/mol, and the energy below which there is a
#: hydrogen bond (Kabsch and Sander, Biopolymers 22, 2577 (1983), eq. 1).
_COULOMB: Final = 0.42 * 0.20 * 332.0
_BONDED: Final = -0.5
#: Least number of residues between the two of a bridge.
_LEAST_APART: Final = 3
#: The same for a bridge alone, which within a turn is none.
_LONE_APART: Final = 5


@dataclass(frozen=True)
class StructureFile:
    """What a viewer shows.

    Attributes:
        address: Where its data are, below the site's folder.
        key: Name of the data among those of a page.
        script: The data, as a script.
        poster: What is there before, and without, the script.
        what: Whose structures they are, in words.
        states: Number of states to play through.
    """

    address: str
    key: str
    script: str
    poster: Markup
    what: str
    states: int


def structure_file(
    address: str,
    what: str,
    structures: Structures,
    poster: Markup,
    *,
    names: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
) -> StructureFile:
    """Return the data of a viewer.

    Args:
        address: Where they are to be, below the site's folder, ending in ``.js``.
        what: Whose structures they are, in words.
        structures: What is shown, with four backbone atoms a residue.
        poster: Drawing of the native structure.
        names: Models, in the order of their colours.
        texts: What is said of a state, by its label.
    """
    key = address.removesuffix(".js")
    data = embedded(_data(structures, names, texts or {}))
    script = f"(window.cgbenchStructures ||= {{}})[{embedded(key)}] = {data};\n"
    return StructureFile(address, key, script, poster, what, len(structures.macrostates))


def _data(structures: Structures, names: Sequence[str], texts: Mapping[str, str]) -> dict[str, Any]:
    colours = colour_of(names)
    native = next(
        (one for _, items in structures.macrostates for one in items if one.kind == "native"), None
    )
    first = structures.macrostates[0][1][0] if native is None else native
    centre, turn = _pose(first.frames[0])
    structures = replace(
        structures,
        macrostates=[
            (label, [replace(one, frames=(one.frames - centre) @ turn) for one in items])
            for label, items in structures.macrostates
        ],
    )
    native = None if native is None else replace(native, frames=(native.frames - centre) @ turn)
    return {
        "sequence": structures.sequence,
        "first": 1,
        "native": None if native is None else _packed(native.frames[0]),
        "states": [
            {
                "label": label,
                "text": texts.get(label, ""),
                "native": "native" in label,
                "items": [_item(one, colours) for one in items if one.kind != "native"],
            }
            for label, items in structures.macrostates
        ],
    }


def _pose(frame: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centre and rotation that lay a structure out flat, so that most of it is seen."""
    centre = np.asarray(frame, dtype=np.float64).mean(axis=0)
    axes = np.linalg.svd(frame - centre, full_matrices=False)[2]
    # The signs of singular vectors are free; so chosen, they do not depend on the library.
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], 1) < 0, -1, 1)
    # A mirror image would be another molecule.
    axes[2] = np.cross(axes[0], axes[1])
    return centre, axes.T


def _item(structure: Structure, colours: Mapping[str, Any]) -> dict[str, Any]:
    name = structure.name
    return {
        "name": name,
        "kind": structure.kind,
        "colour": colours[name][0] if name in colours else None,
        "frames": [_packed(frame) for frame in structure.frames],
    }


def _packed(frame: NDArray[Any]) -> dict[str, Any]:
    """Return Cα and O of each residue, and what each residue is part of."""
    atoms = np.asarray(frame, dtype=np.float64).reshape(-1, _ATOMS_PER_RESIDUE, 3)
    shown = np.rint(atoms[:, [_ALPHA_CARBON, _OXYGEN]] * _SCALE).astype(int)
    return {"xyz": shown.ravel().tolist(), "kinds": residue_kinds(atoms)}


def residue_kinds(atoms: NDArray[Any]) -> str:
    """Return a letter for each residue: H in a helix, E in a strand, C in neither.

    Helices are two hydrogen bonds in a row from a residue to the fourth after it; strands are
    bridges, as Kabsch and Sander (1983) define both. It is for drawing: gaps of one residue in a
    strand are closed, and a bridge alone, as that of a short hairpin, takes its neighbours with it.

    Args:
        atoms: (n_residues, 4, 3) in Å: N, Cα, C and O.
    """
    n = len(atoms)
    bonds = _hydrogen_bonds(np.asarray(atoms, dtype=np.float64))

    def bond(acceptor: int, donor: int) -> bool:
        return 0 <= acceptor < n and 0 <= donor < n and bool(bonds[acceptor, donor])

    apart = [
        max(
            abs(i - j)
            for j in range(n)
            if i == j
            or (
                abs(i - j) >= _LEAST_APART
                and (
                    (bond(i - 1, j) and bond(j, i + 1))
                    or (bond(j - 1, i) and bond(i, j + 1))
                    or (bond(i, j) and bond(j, i))
                    or (bond(i - 1, j + 1) and bond(j - 1, i + 1))
                )
            )
        )
        for i in range(n)
    ]
    strand = [one > 0 for one in apart]
    whole = [False, *strand, False]
    for i in range(1, n + 1):
        before, here, after = whole[i - 1 : i + 2]
        if before and after:
            strand[i - 1] = True
        elif here and not before and not after:
            wide = apart[i - 1] >= _LONE_APART
            strand[max(0, i - 2) : i + 1] = [wide] * (min(n, i + 1) - max(0, i - 2))
    kinds = ["E" if here else "C" for here in strand]
    for i in range(1, n - 4):
        if bond(i - 1, i + 3) and bond(i, i + 4):
            kinds[i : i + 4] = "HHHH"
    return "".join(kinds)


def _hydrogen_bonds(atoms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which C=O (rows) are bonded to which N–H (columns)."""
    nitrogen, carbon, oxygen = atoms[:, 0], atoms[:, 2], atoms[:, 3]
    # The hydrogen lies opposite the oxygen of the residue before, 1 Å from its nitrogen.
    before = carbon[:-1] - oxygen[:-1]
    hydrogen = nitrogen.copy()
    hydrogen[1:] += before / np.linalg.norm(before, axis=1, keepdims=True)

    def apart(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(one[:, None] - two[None], axis=2)).clip(0.5)

    energy = _COULOMB * (
        1.0 / apart(oxygen, nitrogen)
        + 1.0 / apart(carbon, hydrogen)
        - 1.0 / apart(oxygen, hydrogen)
        - 1.0 / apart(carbon, nitrogen)
    )
    bonds = np.asarray(energy < _BONDED)
    index = np.arange(len(atoms))
    bonds[np.abs(index[:, None] - index[None]) < 2] = False
    bonds[:, 0] = False
    return bonds
