"""The Cα atoms of an mmCIF file, chain by chain, in the numbering of the entry's authors."""

import re
from pathlib import Path
from typing import Final

import numpy as np

from cgbench import registry
from cgbench.errors import IntegrityError, ValidationError
from cgbench.ingest.native import Residue

_CATEGORY: Final = "_atom_site."
#: Columns that are needed, and those that may be missing with what they are then.
_NEEDED: Final = ("label_atom_id", "Cartn_x", "Cartn_y", "Cartn_z", "auth_asym_id", "auth_seq_id")
_VALUE: Final = re.compile(r"'(?:[^']|'(?=\S))*'|\"(?:[^\"]|\"(?=\S))*\"|\S+")
#: What a residue that the vocabulary does not know was made from.
_PARENTS: Final = {"MSE": "MET"}


def chains_of_mmcif(path: Path, text: str, model: int = 1) -> dict[str, list[Residue]]:
    """Return the residues of each chain of a model, of alternate locations the fullest one.

    Atoms that are no part of a polymer are left out.

    Args:
        path: The file, for errors.
        text: Its content.
        model: Number of the model.

    Raises:
        IntegrityError: There is no loop of atoms, or a line of it cannot be parsed.
        ValidationError: There is no Cα atom in the model.
    """
    lines = text.splitlines()
    columns, start = _columns(path, lines)
    letters = {
        name: bead.letter for bead in registry.bead_vocabulary().beads for name in bead.residues
    }
    atoms: dict[str, dict[tuple[int, str], list[tuple[float, str, Residue]]]] = {}
    ended = False
    for number, line in enumerate(lines[start:], start=start + 1):
        if line.startswith(("#", "_", "loop_", "data_")):
            ended = True
            break
        if "CA" not in line:
            continue
        values = [_unquoted(value) for value in _VALUE.findall(line)]
        if len(values) != len(columns):
            raise IntegrityError(
                f"{path}: line {number} cannot be parsed",
                expected=f"{len(columns)} values",
                found=line.rstrip()[:80],
            )
        row = dict(zip(columns, values, strict=True))
        if not _wanted(row, model):
            continue
        try:
            residue = _residue(row, letters)
            occupancy = float(row.get("occupancy", "1") or 1.0)
        except (ValueError, KeyError) as error:
            raise IntegrityError(
                f"{path}: line {number} cannot be parsed", found=line.rstrip()[:80]
            ) from error
        place = (residue.number, residue.insertion)
        alternatives = atoms.setdefault(row["auth_asym_id"], {}).setdefault(place, [])
        alternatives.append((-occupancy, row.get("label_alt_id", "."), residue))
    if not ended:
        raise IntegrityError(
            f"{path}: truncated within its atoms", expected="a line with # after them"
        )
    if not atoms:
        raise ValidationError(f"{path}: no Cα atom in model {model}")
    return {
        chain: [min(alternatives)[2] for alternatives in residues.values()]
        for chain, residues in atoms.items()
    }


def _columns(path: Path, lines: list[str]) -> tuple[list[str], int]:
    """Return the names of the columns of the atoms, and the line after them."""
    columns: list[str] = []
    for number, line in enumerate(lines):
        if line.startswith(_CATEGORY):
            columns.append(line.strip().removeprefix(_CATEGORY))
        elif columns:
            if missing := [name for name in _NEEDED if name not in columns]:
                break
            return columns, number
    missing = [name for name in _NEEDED if name not in columns]
    raise IntegrityError(
        f"{path}: no loop of atoms",
        expected=", ".join(_CATEGORY + name for name in _NEEDED),
        found=f"without {', '.join(missing)}" if columns else "none",
    )


def _unquoted(value: str) -> str:
    """Return a value without the quotes around it; those within stay."""
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _wanted(row: dict[str, str], model: int) -> bool:
    return (
        row["label_atom_id"] == "CA"
        and row.get("type_symbol", "C") == "C"
        # Waters and ligands have no place in a polymer.
        and row.get("label_seq_id", "1") not in (".", "?")
        and row.get("pdbx_PDB_model_num", "1") in (str(model), "?", ".")
    )


def _residue(row: dict[str, str], letters: dict[str, str]) -> Residue:
    name = row.get("auth_comp_id") or row["label_comp_id"]
    insertion = row.get("pdbx_PDB_ins_code", "?")
    residue = Residue(
        number=int(row["auth_seq_id"]),
        insertion="" if insertion in ("?", ".") else insertion,
        letter=letters.get(name) or letters.get(_PARENTS.get(name, ""), "?"),
        place=(row["Cartn_x"], row["Cartn_y"], row["Cartn_z"]),
    )
    if not np.isfinite(residue.position).all():
        raise ValueError("coordinates are not finite")
    return residue
