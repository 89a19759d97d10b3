"""Which atoms must move together, and which atom is a bead: what every force map is built on."""

from collections.abc import Iterable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError, ValidationError

ConstraintRule = Literal["hydrogen-bonds", "none"]

#: Name of the atom that is the bead of its residue.
BEAD_ATOM: Final = "CA"


def groups_from_constraints(
    n_atoms: int, constraints: Iterable[tuple[int, int]]
) -> NDArray[np.int64]:
    """Return the group of each atom: atoms joined by constraints, also indirectly, share one.

    Groups are numbered in the order of their first atom.

    Args:
        n_atoms: Number of atoms.
        constraints: Pairs of atoms at a fixed distance.

    Returns:
        (n_atoms,) group of each atom.

    Raises:
        ValidationError: A pair names an atom that does not exist.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.array(list(constraints), dtype=np.int64).reshape(-1, 2)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n_atoms):
        raise ValidationError(
            "constraints: an atom that does not exist",
            expected=f"0 to {n_atoms - 1}",
            found=f"{pairs.min()} to {pairs.max()}",
        )
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_atoms, n_atoms))
    labels = connected_components(graph, directed=False)[1]
    first, inverse = np.unique(labels, return_index=True, return_inverse=True)[1:]
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


def constraint_groups(source: Any, rule: ConstraintRule = "hydrogen-bonds") -> NDArray[np.int64]:
    """Return the group of each atom of a topology or a system.

    A system tells its constraints itself. A topology does not know what was held rigid when the
    forces were computed, so the rule says it.

    Args:
        source: An OpenMM ``System``, or an mdtraj ``Topology``.
        rule: For a topology: ``hydrogen-bonds`` for rigid bonds to hydrogen, ``none`` for none.

    Returns:
        (n_atoms,) group of each atom.

    Raises:
        UsageError: The source is neither, or there is no such rule.
    """
    if hasattr(source, "getConstraintParameters"):
        pairs = (source.getConstraintParameters(i)[:2] for i in range(source.getNumConstraints()))
        return groups_from_constraints(source.getNumParticles(), pairs)
    if not (hasattr(source, "bonds") and hasattr(source, "n_atoms")):
        raise UsageError(
            f"constraint groups: cannot be found in a {type(source).__name__}",
            expected="an OpenMM System or an mdtraj Topology",
        )
    if rule == "none":
        return np.arange(source.n_atoms, dtype=np.int64)
    if rule != "hydrogen-bonds":
        raise UsageError(
            f"constraint groups: no rule {rule!r}", expected="'hydrogen-bonds' or 'none'"
        )
    bonds = [(a.index, b.index) for a, b in source.bonds if "H" in _elements(a, b)]
    _check_hydrogens(source, bonds)
    return groups_from_constraints(source.n_atoms, bonds)


def _elements(*atoms: Any) -> set[str]:
    return {atom.element.symbol for atom in atoms if atom.element is not None}


def _check_hydrogens(topology: Any, bonds: list[tuple[int, int]]) -> None:
    """Refuse a topology whose hydrogens hang in the air: its bonds are not all known."""
    bonded = {atom for bond in bonds for atom in bond}
    loose = [
        str(atom) for atom in topology.atoms if "H" in _elements(atom) and atom.index not in bonded
    ]
    if loose:
        raise ValidationError(
            "constraint groups: the topology has hydrogens without a bond",
            found=", ".join(loose[:5]),
            fix="add the bonds to the topology (CONECT records or standard residue names)",
        )


def bead_atoms(topology: Any) -> NDArray[np.int64]:
    """Return the Cα atom of each residue that has one, in order.

    Args:
        topology: An mdtraj ``Topology``.

    Returns:
        (n_beads,) atom of each bead.

    Raises:
        ValidationError: There is none.
    """
    # A calcium ion is called CA as well; its element tells it apart.
    chosen = [
        atom.index for atom in topology.atoms if atom.name == BEAD_ATOM and "C" in _elements(atom)
    ]
    if not chosen:
        raise ValidationError(f"topology: no atom {BEAD_ATOM}", expected="one in each residue")
    return np.array(chosen, dtype=np.int64)
