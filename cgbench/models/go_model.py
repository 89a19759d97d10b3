"""A structure-based (Gō) model of Cα beads: every term has its minimum in the native structure.

Form and relative strengths are those of C. Clementi, H. Nymeyer and J. N. Onuchic, "Topological and
energetic factors: what determines the structural details of the transition state ensemble and
'en-route' intermediates for protein folding?", J. Mol. Biol. 298, 937 (2000), eq. 1: with one
energy ε for everything,

- bonds ``100 ε (r − r°)²`` and angles ``20 ε (θ − θ°)²``, without factors of one half,
- dihedrals ``ε [1 − cos(φ − φ°)] + ½ ε [1 − cos 3(φ − φ°)]``,
- native pairs ``ε [5 (r°/r)¹² − 6 (r°/r)¹⁰]`` and all others ``ε (4 Å/r)¹²``, for |i − j| ≥ 4.

The paper writes the dihedrals with a plus sign, by which its φ° are half a turn from the native
angles. It takes its native pairs from contacts between heavy atoms; here only Cα atoms are at hand,
and pairs within 8 Å are native (chosen here).

The dihedrals tell the native handedness from its mirror image. Such a model is given the answer: it
shows what a simple model folds to once it knows the native structure, and is no prediction.
"""

from typing import Final, NamedTuple

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.models.chain_model import ChainModel
from cgbench.priors import terms

#: What every specification of such a model says of itself.
NOT_A_PREDICTION: Final = (
    "A structure-based model: it was built from the native structure, so how close it folds to "
    "that structure is no prediction."
)
#: Distance in Å under which pairs are continued by a parabola.
CLASH_DISTANCE: Final = 0.5
#: Matrix elements of a block of replicas: bounds the memory of large batches.
_BLOCK_ELEMENTS: Final = 2**20


class GoConstants(Frozen):
    """Strengths in units of ε and lengths in Å; the defaults are those of Clementi et al. (2000).

    Attributes:
        bond: Of bonds, in ε/Å².
        angle: Of angles, in ε/rad².
        dihedral: Of the first and the third harmonic of dihedrals, in ε.
        contact: Depth of a native pair in ε.
        repulsion: Energy of any other pair at ``repulsion_distance``, in ε.
        repulsion_distance: Range of the repulsion in Å.
        least_separation: Least |i − j| of pairs.
        contact_distance: Pairs that are closer than this in the native structure are native, Å.
    """

    bond: float = pydantic.Field(default=100.0, gt=0, le=1e4)
    angle: float = pydantic.Field(default=20.0, ge=0, le=1e4)
    dihedral: tuple[float, float] = (1.0, 0.5)
    contact: float = pydantic.Field(default=1.0, ge=0, le=1e3)
    repulsion: float = pydantic.Field(default=1.0, ge=0, le=1e3)
    repulsion_distance: float = pydantic.Field(default=4.0, gt=0, le=20)
    least_separation: int = pydantic.Field(default=4, ge=2, le=100)
    contact_distance: float = pydantic.Field(default=8.0, gt=0, le=50)


class GoChain(Frozen):
    """A chain that the model knows: its name and bead types."""

    name: str = pydantic.Field(min_length=1, max_length=200)
    bead_types: tuple[int, ...] = pydantic.Field(min_length=5, max_length=2000)


class GoModelSettings(Frozen):
    """Constants and chains of a Gō model; native structures and ε are its numbers."""

    constants: GoConstants = GoConstants()
    chains: tuple[GoChain, ...] = pydantic.Field(min_length=1, max_length=1000)

    @pydantic.model_validator(mode="after")
    def _chains_differ(self) -> "GoModelSettings":
        if len({chain.bead_types for chain in self.chains}) != len(self.chains):
            raise ValueError("two chains have the same sequence")
        return self


class GoTables(NamedTuple):
    """Terms of one chain in units of kcal/mol, tensors of one data type.

    Attributes:
        bonded: Bonds and dihedrals, in the form of a prior's.
        angle_k: (N − 2,) kcal/mol/rad².
        angle_0: (N − 2,) rad.
        squared: (N, N) squared native or repulsion distance in Å²; zero where beads are no pair.
        twelve: (N, N) factor of (r°/r)¹² in kcal/mol.
        ten: (N, N) factor of (r°/r)¹⁰ in kcal/mol.
    """

    bonded: terms.Tables
    angle_k: Tensor
    angle_0: Tensor
    squared: Tensor
    twelve: Tensor
    ten: Tensor


def native_pairs(native: NDArray[np.float64], constants: GoConstants) -> NDArray[np.int64]:
    """Return the native pairs (n_pairs, 2), i < j, of a conformer (N, 3) in Å."""
    first, second = np.triu_indices(len(native), k=constants.least_separation)
    distance = np.linalg.norm(native[first] - native[second], axis=1)
    near = distance < constants.contact_distance
    return np.stack([first[near], second[near]], axis=1)


class GoModel(ChainModel):
    """Gō models of one or several chains, with one energy scale for each.

    A contiguous piece of a chain has the terms between its own beads.

    Args:
        settings: Constants and chains.
        natives: (N, 3) in Å for each chain; None leaves room for stored numbers.
        scales: ε of each chain in kcal/mol.

    Raises:
        ValidationError: A native structure does not fit its chain, or is no possible structure.
    """

    kind = "go-model"

    def __init__(
        self,
        settings: GoModelSettings,
        natives: list[NDArray[np.floating]] | None = None,
        scales: list[float] | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        n_chains = len(settings.chains)
        self.scale = nn.Parameter(torch.ones(n_chains), requires_grad=False)
        if scales is not None:
            self.scale.data = torch.tensor(scales, dtype=torch.float32)
        for index, chain in enumerate(settings.chains):
            native = torch.zeros(len(chain.bead_types), 3)
            if natives is not None:
                native = torch.as_tensor(np.asarray(natives[index]), dtype=torch.float32)
            self.register_buffer(f"native_{index}", native)
        self._cache: dict[tuple[object, ...], GoTables] = {}
        if natives is not None:
            self.check()

    @property
    def settings(self) -> GoModelSettings:
        """Constants and chains."""
        return self._settings

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """None: pairs fall off as powers of their distance."""
        return ()

    def check(self) -> None:
        """Check native structures and energies.

        Raises:
            ValidationError: A structure does not fit its chain, or an energy is not above zero.
        """
        for index, chain in enumerate(self._settings.chains):
            _check_native(chain, torch.as_tensor(self.native(index)))
            scale = float(self.scale[index])
            if not 0.0 < scale < 1e3:
                raise ValidationError(
                    f"{chain.name}: the energy ε of a Gō model is out of range",
                    expected="above 0 and below 1000 kcal/mol",
                    found=scale,
                )

    def check_types(self, bead_types: Tensor, name: str) -> None:
        """Check that each bead type occurs in a known chain."""
        known = {number for chain in self._settings.chains for number in chain.bead_types}
        unknown = sorted(set(bead_types.reshape(-1).tolist()) - known)
        if unknown:
            raise ValidationError(
                f"{name}: bead types that its chains do not have",
                expected=", ".join(map(str, sorted(known))),
                found=", ".join(map(str, unknown)),
            )

    def native(self, index: int) -> NDArray[np.float64]:
        """Return the native structure (N, 3) of a chain in Å."""
        found: Tensor = getattr(self, f"native_{index}")
        return found.detach().cpu().double().numpy()

    def tables(self, bead_types: Tensor) -> GoTables:
        """Return the terms of a chain, or of a contiguous piece of one.

        Raises:
            ValidationError: It is no piece of a known chain.
        """
        types = tuple(bead_types.tolist())
        key = (types, self.scale.dtype, self.scale.device, self.scale._version)
        if key not in self._cache:
            index, start = self._locate(types)
            self._cache[key] = _tables(
                self.native(index)[start : start + len(types)],
                float(self.scale[index]),
                self._settings.constants,
                self.scale,
            )
        return self._cache[key]

    def _locate(self, types: tuple[int, ...]) -> tuple[int, int]:
        """Return the chain that holds a sequence, and where it begins there."""
        chains = [chain.bead_types for chain in self._settings.chains]
        if types in chains:
            return chains.index(types), 0
        for index, chain in enumerate(chains):
            for start in range(len(chain) - len(types) + 1):
                if chain[start : start + len(types)] == types:
                    return index, start
        raise ValidationError(
            "a Gō model has energies for the chains that it was built from only",
            expected=", ".join(
                f"{chain.name} ({len(chain.bead_types)} beads)" for chain in self._settings.chains
            ),
            found=f"another chain of {len(types)} beads",
            fix="build a Gō model from the native structure of this chain",
        )

    @torch.no_grad()
    def energy_forces_chains(self, bead_types: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (R,) in kcal/mol and forces (R, N, 3) in kcal/mol/Å."""
        tables = self.tables(bead_types)
        blocks = torch.split(pos, max(1, _BLOCK_ELEMENTS // len(bead_types) ** 2))
        parts = [_energy_forces(block, tables) for block in blocks]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])


def _check_native(chain: GoChain, native: Tensor) -> None:
    if tuple(native.shape) != (len(chain.bead_types), 3) or not bool(torch.isfinite(native).all()):
        raise ValidationError(
            f"{chain.name}: the native structure does not fit the chain",
            expected=f"({len(chain.bead_types)}, 3), finite",
            found=tuple(native.shape),
        )
    nearest = float(torch.nn.functional.pdist(native).min())
    if nearest < 2.0:
        raise ValidationError(
            f"{chain.name}: two beads of the native structure lie on each other",
            expected="at least 2 Å between any two",
            found=f"{nearest:.2f} Å",
        )


def _tables(
    native: NDArray[np.float64], scale: float, constants: GoConstants, like: Tensor
) -> GoTables:
    def tensor(values: NDArray[np.floating]) -> Tensor:
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)

    bond = np.diff(native, axis=0)
    angle, dihedral = _native_angles(bond)
    cosine, sine = np.zeros((3, len(dihedral))), np.zeros((3, len(dihedral)))
    for n, strength in zip((1, 3), constants.dihedral, strict=True):
        # 1 − cos n(φ − φ°) is 1 + cos(nφ − γ) with γ = nφ° + π.
        cosine[n - 1] = -scale * strength * np.cos(n * dihedral)
        sine[n - 1] = -scale * strength * np.sin(n * dihedral)
    n_beads = len(native)
    bonded = terms.Tables(
        bond_k=tensor(np.full(n_beads - 1, scale * constants.bond)),
        bond_r0=tensor(np.linalg.norm(bond, axis=1)),
        strength=tensor(np.zeros((0, 0))),
        constant=scale * sum(constants.dihedral) * len(dihedral),
        cosine=tensor(cosine),
        sine=tensor(sine),
    )
    index = np.arange(n_beads)
    pairs = np.abs(np.subtract.outer(index, index)) >= constants.least_separation
    squared = ((native[:, None] - native[None]) ** 2).sum(axis=2)
    near = squared < constants.contact_distance**2
    repulsion = constants.repulsion_distance**2
    return GoTables(
        bonded=bonded,
        angle_k=tensor(np.full(n_beads - 2, scale * constants.angle)),
        angle_0=tensor(angle),
        squared=tensor(np.where(pairs, np.where(near, squared, repulsion), 0.0)),
        twelve=tensor(scale * np.where(near, 5.0 * constants.contact, constants.repulsion)),
        ten=tensor(scale * np.where(near, 6.0 * constants.contact, 0.0)),
    )


def _native_angles(bond: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return angles (N − 2,) and dihedrals (N − 3,) in rad from bond vectors (N − 1, 3)."""
    normal = np.cross(bond[:-1], bond[1:])
    angle = np.arctan2(np.linalg.norm(normal, axis=1), -(bond[:-1] * bond[1:]).sum(axis=1))
    # IUPAC sign, as in the prior.
    length = np.linalg.norm(bond[1:-1], axis=1)
    sine = (bond[:-2] * normal[1:]).sum(axis=1) * length
    return angle, np.arctan2(sine, (normal[:-1] * normal[1:]).sum(axis=1))


def _energy_forces(pos: Tensor, tables: GoTables) -> tuple[Tensor, Tensor]:
    components = terms.by_component(pos)
    bonds = terms.bonds(components, tables.bonded)
    dihedrals = terms.dihedrals(bonds, tables.bonded) if len(tables.angle_k) > 1 else None
    gradient = terms.bond_vector_gradient(bonds, dihedrals, tables.bonded)
    angle_energy, angle_gradient = _angles(bonds, tables)
    gradient = gradient + angle_gradient
    energy, forces = _pairs(pos, tables)
    energy = energy + bonds.energy + angle_energy
    if dihedrals is not None:
        energy = energy + dihedrals.energy
    forces[:, :-1] += gradient
    forces[:, 1:] -= gradient
    return energy, forces


def _angles(bonds: terms.Bonds, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return the energy of angles (R,) and dE/d(bond vector), (R, N − 1, 3).

    With bond vectors a, b and m = a×b, the angle between −a and b is atan2(|m|, −a·b), and its
    gradients are m×a/(|m| a²) and −m×b/(|m| b²). The norm of m is bounded below: a straight chain
    has no normal.
    """
    vectors, lengths, _ = bonds
    a, b = vectors[..., :-1], vectors[..., 1:]
    normal = torch.linalg.cross(a, b, dim=0)
    size = normal.square().sum(0).clamp_min(terms.LEAST_SQUARED_NORMAL).sqrt()
    stretch = torch.atan2(size, -(a * b).sum(0)) - tables.angle_0
    slope = 2.0 * stretch * tables.angle_k / size
    squared = lengths.square()
    gradient = torch.zeros_like(vectors)
    gradient[..., :-1] += torch.linalg.cross(normal, a, dim=0) * (slope / squared[:, :-1])
    gradient[..., 1:] -= torch.linalg.cross(normal, b, dim=0) * (slope / squared[:, 1:])
    return stretch.square() @ tables.angle_k, gradient.permute(1, 2, 0)


def _pairs(pos: Tensor, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return energy (R,) and forces (R, N, 3) of native and other pairs.

    Compiled loops on a processor, matrices elsewhere.
    """
    if pos.device.type != "cpu":
        return pairs_by_matrices(pos, tables)
    # Compiled loops take a second to import.
    from cgbench.kernels.native_pairs import native_pairs as compiled_pairs

    components = pos.detach().permute(0, 2, 1).contiguous()
    forces, energies = torch.empty_like(components), pos.new_empty(len(pos))
    limits = pos.new_tensor([CLASH_DISTANCE**2, 5.0, 6.0])
    arguments = (components, *tables[3:], limits, energies, forces)
    compiled_pairs(*(tensor.numpy() for tensor in arguments))
    return energies, forces.permute(0, 2, 1)


def pairs_by_matrices(pos: Tensor, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return energy (R,) and forces (R, N, 3) of native and other pairs, in plain torch.

    With s = r², q = r°²/max(s, r_c²) the energy of a pair is ``A q⁶ − B q⁵``; inside the clash
    distance r_c it goes on linearly in s, with the same value and slope.
    """
    difference = pos[:, :, None] - pos[:, None]
    squared = difference.square().sum(3)
    bounded = squared.clamp_min(CLASH_DISTANCE**2)
    ratio = tables.squared / bounded
    square = ratio * ratio
    fifth = square * square * ratio
    twelve, ten = fifth * ratio * tables.twelve, fifth * tables.ten
    # −dE/ds
    push = (6.0 * twelve - 5.0 * ten) / bounded
    energy = (twelve - ten + push * (bounded - squared)).sum((1, 2))
    return 0.5 * energy, 2.0 * (push[..., None] * difference).sum(2)
