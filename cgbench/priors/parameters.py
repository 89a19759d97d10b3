"""Parameters of a prior: tables keyed by bead type, so that any sequence can be built from them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field, SerializerFunctionWrapHandler

from cgbench import registry
from cgbench.config import Frozen, canonical_json, fingerprint
from cgbench.errors import ValidationError

BeadTypeNumber = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class BondTerm(Frozen):
    """Harmonic bond: energy ``k (r − r0)²``, without a factor of one half.

    Attributes:
        k: Force constant in kcal/mol/Å².
        r0: Length of least energy in Å.
    """

    k: Finite = Field(gt=0)
    r0: Finite = Field(gt=0)


class DihedralTerm(Frozen):
    """One Fourier term of a dihedral: energy ``k (1 + cos(n φ − γ))``.

    Attributes:
        n: Periodicity.
        k: Amplitude in kcal/mol.
        gamma: Phase γ in degrees; φ follows the IUPAC sign convention.
    """

    n: int = Field(ge=1, le=6)
    k: Finite
    gamma: Finite


class DihedralSet(Frozen):
    """Fourier terms of the dihedrals with given bead types.

    Attributes:
        types: Bead types of four neighbours from the first to the last residue; None stands for
            all quadruples that no other set names.
        terms: The terms, summed.
    """

    types: tuple[BeadTypeNumber, BeadTypeNumber, BeadTypeNumber, BeadTypeNumber] | None
    terms: tuple[DihedralTerm, ...]


class ChainParameters(NamedTuple):
    """Parameters of one chain as plain numbers, in chain order.

    Attributes:
        bond_k: n_beads − 1 force constants in kcal/mol/Å².
        bond_r0: n_beads − 1 lengths in Å.
        epsilon: n_beads repulsion strengths in kcal·Å⁶/mol.
        dihedrals: n_beads − 3 lists of Fourier terms.
    """

    bond_k: list[float]
    bond_r0: list[float]
    epsilon: list[float]
    dihedrals: list[tuple[DihedralTerm, ...]]


def describe_types(*bead_types: int) -> str:
    """Return bead types with their residue names, such as ``4 (TYR) and 5 (ASP)``."""
    names = {bead.type: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    return " and ".join(
        f"{number} ({names[number]})" if number in names else str(number) for number in bead_types
    )


def bond_key(first: int, second: int) -> str:
    """Return the table key of a bond from bead type ``first`` to the next residue's ``second``."""
    return f"{first}-{second}"


class PriorOrigin(Frozen):
    """Data of one system that a transferable prior was fitted to: what leak checks compare with.

    Attributes:
        system: Registry key, or the name of a user's own system.
        sequence: One letter for each bead.
        store_fingerprint: ``sha256:…`` of the store; None for frames of other origin.
        split_id: Split that the frames are a part of; None for frames of other origin.
        split_fingerprint: ``sha256:…`` of that split.
        part: Part of the split.
        n_frames: Frames with weight.
    """

    system: str = Field(min_length=1, max_length=200)
    sequence: str = Field(pattern=r"^[A-Z]+$", max_length=10_000)
    store_fingerprint: str | None = None
    split_id: str | None = None
    split_fingerprint: str | None = None
    part: str = "train"
    n_frames: int = Field(ge=1)


class TransferableFit(Frozen):
    """How a prior was fitted to several systems together, and what it could not learn from them.

    Attributes:
        fitted_on: The data, by name of the system.
        balance: Whether every frame counts alike, or every system.
        left_out: System that a prior for leave-one-out was fitted without.
        pooled_bond: Bond of all pairs together.
        pooled_repulsion: ε of all bead types together, kcal·Å⁶/mol.
        bonds_from_pool: Undirected pairs, ``"smaller-larger"``, that were too rare or did not
            occur, so that they have the pooled bond.
        beads_from_pool: Bead types that did not occur, so that they have the pooled ε.
    """

    fitted_on: tuple[PriorOrigin, ...] = Field(min_length=1)
    balance: Literal["frames", "systems"]
    left_out: str | None = None
    pooled_bond: BondTerm | None = None
    pooled_repulsion: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    bonds_from_pool: tuple[str, ...] = ()
    beads_from_pool: tuple[BeadTypeNumber, ...] = ()


class PriorParameters(Frozen):
    """A prior: bonds, repulsion and dihedrals for all bead types that it knows.

    The energy of a chain is

    - ``k (r − r0)²`` for neighbours,
    - ``4 sqrt(ε_i ε_j) r⁻⁶`` for every pair with |i − j| ≥ 2 (σ = 1 Å, no cutoff),
    - ``Σ k_n (1 + cos(n φ − γ_n))`` for every four neighbours.

    The form is that of Majewski et al., Nat. Commun. 14, 5739 (2023), and of its published force
    field. A table that is empty stands for a term that the prior does not have.

    Attributes:
        bonds: Keyed ``"first-second"`` by bead types in chain order: 4-5 is not 5-4, because
            a peptide bond before proline differs from one after it.
        repulsion: ε in kcal·Å⁶/mol, keyed by bead type.
        dihedrals: Sets of Fourier terms; a set with types goes before the one for all.
        temperature: Temperature in K of the data that the prior was fitted to; None if unknown.
        source: Where the numbers come from.
        transferable: How it was fitted, for a prior of several systems. Its table holds both
            directions of every pair, with the same numbers.
    """

    format: Literal["cgbench-prior"] = "cgbench-prior"
    version: Literal[1] = 1
    bonds: dict[Annotated[str, Field(pattern=r"^\d+-\d+$")], BondTerm]
    repulsion: dict[BeadTypeNumber, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    dihedrals: tuple[DihedralSet, ...] = ()
    minimum_separation: Literal[2] = 2
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    source: str = ""
    transferable: TransferableFit | None = None

    @pydantic.model_serializer(mode="wrap")
    def _without_what_is_not_there(self, standard: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Priors of one system keep the files and fingerprints that they had before there were
        # others.
        fields: dict[str, Any] = standard(self)
        if fields.get("transferable", 0) is None:
            del fields["transferable"]
        return fields

    @pydantic.field_validator("dihedrals")
    @classmethod
    def _one_set_for_each_quadruple(cls, value: tuple[DihedralSet, ...]) -> tuple[DihedralSet, ...]:
        if len({item.types for item in value}) != len(value):
            raise ValueError("two sets of dihedral terms have the same bead types")
        return value

    @property
    def fingerprint(self) -> str:
        """``sha256:…`` over all fields."""
        return fingerprint(self)

    def __hash__(self) -> int:
        # Cheap, because evaluation looks specialised chains up by it; equality decides.
        return hash((tuple(self.repulsion.items()), len(self.bonds), self.source))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PriorParameters):
            return NotImplemented
        return self is other or canonical_json(self) == canonical_json(other)

    def bond(self, first: int, second: int) -> BondTerm:
        """Return the bond from bead type ``first`` to ``second`` of the next residue.

        Raises:
            ValidationError: The table has no such pair.
        """
        try:
            return self.bonds[bond_key(first, second)]
        except KeyError:
            raise ValidationError(
                f"prior ({self.source or self.fingerprint}): no bond from bead type "
                f"{describe_types(first)} to {describe_types(second)} of the next residue",
                expected=f"one of the {len(self.bonds)} pairs of its table",
                found=bond_key(first, second),
                fix="fit the prior on data that hold this pair, or use the published force field",
            ) from None

    def epsilon(self, bead_type: int) -> float:
        """Return the repulsion strength of a bead type in kcal·Å⁶/mol.

        Raises:
            ValidationError: The table has no such bead type.
        """
        try:
            return self.repulsion[bead_type]
        except KeyError:
            raise ValidationError(
                f"prior ({self.source or self.fingerprint}): no repulsion for bead type "
                f"{describe_types(bead_type)}",
                expected=f"one of {', '.join(map(str, sorted(self.repulsion)))}",
                fix="fit the prior on data that hold this bead, or use the published force field",
            ) from None

    def dihedral(self, types: Sequence[int]) -> tuple[DihedralTerm, ...]:
        """Return the Fourier terms of four neighbouring bead types.

        Raises:
            ValidationError: No set names these types and there is none for all.
        """
        sets = {item.types: item.terms for item in self.dihedrals}
        first, second, third, fourth = types
        found = sets.get((first, second, third, fourth), sets.get(None))
        if found is None:
            raise ValidationError(
                f"prior ({self.source or self.fingerprint}): no dihedral terms for bead types "
                f"{describe_types(first, second, third, fourth)}",
                fix="fit the prior on data that hold these four neighbours",
            )
        return found

    def for_chain(self, bead_types: Sequence[int]) -> ChainParameters:
        """Return the parameters of a linear chain, bead by bead.

        Raises:
            ValidationError: A table has no entry for a pair or bead of the chain.
        """
        types = [int(item) for item in bead_types]
        neighbours = pairwise(types)
        bonds = [self.bond(*pair) for pair in neighbours] if self.bonds else []
        quadruples = [types[start : start + 4] for start in range(len(types) - 3)]
        return ChainParameters(
            bond_k=[bond.k for bond in bonds] or [0.0] * (len(types) - 1),
            bond_r0=[bond.r0 for bond in bonds] or [0.0] * (len(types) - 1),
            epsilon=[self.epsilon(item) if self.repulsion else 0.0 for item in types],
            dihedrals=[self.dihedral(item) if self.dihedrals else () for item in quadruples],
        )
