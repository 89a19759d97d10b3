"""Backbones as text of the Protein Data Bank's format, version 3.30."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.backmap.backbone import ATOMS, beta_carbons

Array = NDArray[Any]

#: Coordinates have eight columns; a frame that has drifted further is moved back to the origin.
_FURTHEST: Final = 999.0


def pdb_model(atoms: Array, sequence: str, *, with_beta: bool = False) -> str:
    """Return the ATOM records of one structure, and the TER record that ends them.

    Args:
        atoms: (n_beads, 4, 3) in Å, as from `backbone`.
        sequence: One letter for each bead.
        with_beta: Whether Cβ are written, except of glycine.
    """
    names = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    places = np.asarray(atoms, dtype=np.float64)
    if np.abs(places).max() > _FURTHEST:
        places = places - places.mean(axis=(0, 1))
    beta = beta_carbons(places[None])[0] if with_beta else None
    lines = []
    serial = 0
    for number, letter in enumerate(sequence, start=1):
        rows = list(zip(ATOMS, places[number - 1], strict=True))
        if beta is not None and letter != "G":
            rows.append(("CB", beta[number - 1]))
        for name, (x, y, z) in rows:
            serial += 1
            lines.append(
                f"ATOM  {serial:5d}  {name:<3s} {names[letter]:>3s} A{number:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {name[0]:>2s}"
            )
    lines.append(f"TER   {serial + 1:5d}      {names[sequence[-1]]:>3s} A{len(sequence):4d}")
    return "\n".join(lines) + "\n"
