"""Reads the published force field and psf topologies of the reference work.

The force field of Majewski et al., Nat. Commun. 14, 5739 (2023), is a YAML file for TorchMD, keyed
by psf atom types (``CAA`` for alanine). Bonds are keyed by ordered pairs, dihedrals have one set
for all, ``lj`` holds ε and σ = 1 Å of which only the r⁻⁶ part is used, as repulsion.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydantic
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import IntegrityError, ValidationError
from cgbench.priors.parameters import (
    BondTerm,
    DihedralSet,
    DihedralTerm,
    PriorParameters,
    bond_key,
)

#: Key of the dihedrals of all quadruples: X stands for any type.
_ANY_QUADRUPLE: Final = "(X, X, X, X)"


class _PublishedBond(Frozen):
    k0: float
    req: float


class _PublishedDihedralTerm(Frozen):
    phi_k: float
    phase: float
    per: int


class _PublishedDihedral(Frozen):
    terms: tuple[_PublishedDihedralTerm, ...]
    scnb: float = 1.0
    scee: float = 1.0


class _PublishedRepulsion(Frozen):
    epsilon: float
    sigma: float
    epsilon14: float | None = None
    sigma14: float | None = None


class _PublishedForceField(Frozen):
    """The sections of the file; charges (all zero) and masses are no part of a prior."""

    atomtypes: tuple[str, ...]
    bonds: dict[str, _PublishedBond]
    dihedrals: dict[str, _PublishedDihedral]
    lj: dict[str, _PublishedRepulsion]
    electrostatics: dict[str, Any] = pydantic.Field(default_factory=dict)
    masses: dict[str, float] = pydantic.Field(default_factory=dict)


def read_published_prior(path: Path) -> PriorParameters:
    """Read a published ``prior_force_field.yaml``.

    Every bead type of the vocabulary takes the terms of its psf type, so norleucine has leucine's.
    Amplitudes and phases are taken as they are.

    Args:
        path: The YAML file; plain data only are read, never objects.

    Raises:
        UsageError: There is no such file.
        IntegrityError: The file cannot be parsed.
        ValidationError: It lacks a section or value, or has terms of another form.
    """
    data = config.validate(_PublishedForceField, config.read_data(path), path)
    psf_types = {
        bead_type: name
        for bead_type, name in registry.bead_vocabulary().psf_types.items()
        if name in data.lj
    }
    if set(data.dihedrals) != {_ANY_QUADRUPLE}:
        raise ValidationError(
            f"{path}: dihedrals of another form",
            expected=f"one entry {_ANY_QUADRUPLE}",
            found=", ".join(sorted(data.dihedrals)[:5]) or "none",
        )
    if other := {name for name, item in data.lj.items() if item.sigma != 1.0}:
        raise ValidationError(
            f"{path}: repulsion with another length scale",
            expected="sigma: 1.0 for every type",
            found=", ".join(sorted(other)[:5]),
        )
    bonds = {}
    for first, first_name in psf_types.items():
        for second, second_name in psf_types.items():
            entry = data.bonds.get(f"({first_name}, {second_name})")
            if entry is not None:
                bonds[bond_key(first, second)] = BondTerm(k=entry.k0, r0=entry.req)
    terms = tuple(
        DihedralTerm(n=term.per, k=term.phi_k, gamma=term.phase)
        for term in data.dihedrals[_ANY_QUADRUPLE].terms
    )
    return PriorParameters(
        bonds=bonds,
        repulsion={bead_type: data.lj[name].epsilon for bead_type, name in psf_types.items()},
        dihedrals=(DihedralSet(types=None, terms=terms),),
        source=f"published force field {path.name}, sha256 {config.file_sha256(path)[:12]}",
    )


@dataclass(frozen=True)
class Topology:
    """Who is bonded to whom; indices count from zero.

    Attributes:
        residues: Residue names, one a bead; empty if only the connections are known.
        types: psf types, one a bead; empty if only the connections are known.
        bonds: (n_bonds, 2) int64.
        dihedrals: (n_dihedrals, 4) int64.
    """

    residues: tuple[str, ...]
    types: tuple[str, ...]
    bonds: NDArray[np.int64]
    dihedrals: NDArray[np.int64]


def chain_topology(n_beads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return bonds (n_beads − 1, 2) and dihedrals (n_beads − 3, 4) of a linear chain."""
    index = np.arange(n_beads, dtype=np.int64)
    bonds, dihedrals = (
        np.stack([index[start : n_beads - width + start] for start in range(width + 1)], axis=1)
        for width in (1, 3)
    )
    return bonds, dihedrals


def read_psf(path: Path) -> Topology:
    """Read beads, bonds and dihedrals of a psf topology.

    Raises:
        UsageError: There is no such file.
        IntegrityError: A section is missing, cut short or holds an index that no bead has.
    """
    lines = config.read_text(path).splitlines()
    start, n_beads = _section(lines, "NATOM", path)
    rows = [line.split() for line in lines[start : start + n_beads]]
    if len(rows) != n_beads or any(len(row) < 8 for row in rows):
        raise IntegrityError(
            f"{path}: the list of beads is cut short", expected=f"{n_beads} lines of 8 columns"
        )
    return Topology(
        residues=tuple(row[3] for row in rows),
        types=tuple(row[5] for row in rows),
        bonds=_indices(lines, "NBOND", 2, n_beads, path),
        dihedrals=_indices(lines, "NPHI", 4, n_beads, path),
    )


def _section(lines: list[str], name: str, path: Path) -> tuple[int, int]:
    """Return the line after a section's header, and the number of entries that it states."""
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if len(words) >= 2 and words[0].isdigit() and words[1].rstrip(":") == f"!{name}":
            return number, int(words[0])
    raise IntegrityError(f"{path}: not a psf file, or cut short", expected=f"a section !{name}")


def _indices(
    lines: list[str], name: str, width: int, n_beads: int, path: Path
) -> NDArray[np.int64]:
    start, count = _section(lines, name, path)
    words: list[str] = []
    for line in lines[start:]:
        if len(words) >= count * width:
            break
        words += line.split()
    try:
        values = np.array([int(word) for word in words], dtype=np.int64)
    except ValueError:
        values = np.empty(0, dtype=np.int64)
    if values.size != count * width or np.any((values < 1) | (values > n_beads)):
        raise IntegrityError(
            f"{path}: section !{name} is cut short or wrong",
            expected=f"{count} times {width} numbers between 1 and {n_beads}",
            found=f"{len(words)} words",
        )
    return values.reshape(count, width) - 1
