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

from typing import Final

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.models.chain_model import ChainModel, state_of
from cgbench.models.go_terms import GoConstants, GoTables, energy_forces, make_tables

#: What every specification of such a model says of itself.
NOT_A_PREDICTION: Final = (
    "A structure-based model: it was built from the native structure, so how close it folds to "
    "that structure is no prediction."
)
#: Chains and pieces whose tables are kept.
_MAX_TABLES: Final = 64
#: Matrix elements of a block of replicas: bounds the memory of large batches.
_BLOCK_ELEMENTS: Final = 2**20


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
        key = (types, *state_of(self.scale))
        if key not in self._cache:
            if len(self._cache) >= _MAX_TABLES:
                self._cache.clear()
            index, start = self._locate(types)
            self._cache[key] = make_tables(
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
        parts = [energy_forces(block, tables) for block in blocks]
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
