"""Calculators of the Atomic Simulation Environment as potentials, and potentials as calculators.

ASE works in eV and Å, potentials here in kcal/mol and Å; its own constants convert. A calculator
knows one structure at a time, so a batch is a loop over its systems: for comparisons, not for long
simulations.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from torch import Tensor

from cgbench import registry
from cgbench.adapters.base import Adapted, AdaptedPotential, Request
from cgbench.adapters.functions import import_function, told
from cgbench.adapters.installed import version_of
from cgbench.adapters.parts import prior_option, said_of, vocabulary_option
from cgbench.errors import UsageError, ValidationError
from cgbench.models import Potential
from cgbench.results.adapter import AdapterIdentity

VERSION: Final = "1"
OPTIONS: Final = ("calculator", "prior", "vocabulary")
#: eV in one kcal/mol.
EV_PER_KCAL_MOL: Final[float] = units.kcal / units.mol


class CalculatorPotential:
    """An ASE calculator under the calling convention, one system after the other.

    Atomic numbers are the bead types (or what a vocabulary makes of them), masses those of beads,
    and there is no periodic box.

    Args:
        calculator: Gives energy and forces.
    """

    def __init__(self, calculator: Calculator) -> None:
        self.calculator = calculator

    def __call__(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) in kcal/mol and forces (n_beads, 3) in kcal/mol/Å."""
        numbers, positions = bead_types.cpu().numpy(), pos.detach().cpu().double().numpy()
        systems = batch.cpu().numpy()
        energies, forces = [], np.zeros_like(positions)
        for system in range(int(systems.max()) + 1):
            beads = systems == system
            energy, found = self._one(numbers[beads], positions[beads])
            energies.append(energy)
            forces[beads] = found
        scale = 1.0 / EV_PER_KCAL_MOL
        total = torch.tensor(energies, dtype=torch.float64) * scale
        return total.to(pos), (torch.from_numpy(forces) * scale).to(pos)

    def _one(self, numbers: Any, positions: Any) -> tuple[float, Any]:
        masses = np.full(len(numbers), registry.constants().bead_mass)
        atoms: Any = Atoms(numbers=numbers, positions=positions, masses=masses, pbc=False)
        # Calculators for charged systems look there.
        atoms.info["charge"] = 0
        atoms.calc = self.calculator
        return float(atoms.get_potential_energy()), np.asarray(atoms.get_forces())


class CgbenchCalculator(Calculator):
    """A potential of this package as an ASE calculator: energies in eV, forces in eV/Å.

    Args:
        potential: Any potential, such as what ``cgbench.load`` returns.
        bead_types: Bead types (n_beads,); by default the atomic numbers of the atoms, or the array
            ``bead_types`` of the atoms where there is one.

    Raises:
        ValidationError: When asked, if there are as many bead types as atoms, or the potential
            does not know one.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - so is it in ASE

    def __init__(
        self, potential: Potential, bead_types: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.potential = potential
        self.bead_types = None if bead_types is None else tuple(int(kind) for kind in bead_types)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``, as ASE asks for it.

        Raises:
            ValidationError: The bead types do not fit the atoms or the potential.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        chain: Any = self.atoms
        found = chain.arrays.get("bead_types", chain.numbers)
        types = torch.tensor(
            np.asarray(found if self.bead_types is None else self.bead_types), dtype=torch.int64
        )
        if len(types) != len(chain) or bool(chain.pbc.any()):
            raise ValidationError(
                f"{self.potential.spec.name}: atoms that it cannot be asked about",
                expected=f"{len(types)} beads without a periodic box",
                found=f"{len(chain)} atoms, pbc {chain.pbc.tolist()}",
            )
        dtype = getattr(self.potential, "precision", torch.float32)
        positions = torch.tensor(chain.positions, dtype=dtype)
        energy, forces = self.potential(types, positions, torch.zeros_like(types))
        self.results = {
            "energy": float(energy.reshape(-1)[0]) * EV_PER_KCAL_MOL,
            "forces": forces.double().cpu().numpy() * EV_PER_KCAL_MOL,
        }


def load(request: Request) -> Adapted:
    """Open a model through an ASE calculator that a function makes of its path.

    Options: ``calculator`` (``package.module:function``, which gets the path and returns a
    calculator), ``prior`` and ``vocabulary`` (atomic numbers of the residues).

    Raises:
        UsageError: No ``calculator``, an unknown option, or not trusted.
        ValidationError: The function fails or makes no calculator.
    """
    request.known(*OPTIONS)
    target = request.options.get("calculator")
    if target is None:
        raise UsageError(
            f"{request.path}: which calculator?",
            fix="--adapter-option calculator=package.module:function, which gets the path",
        )
    package = f"ase {version_of('ase')}"
    request.require_trust(f"the function {target} and {package}")
    function = import_function(target)
    try:
        calculator = function(request.path)
    # Foreign code may raise anything; the caller is told which function it was.
    except Exception as error:
        raise ValidationError(
            f"{target}: failed on {request.path}",
            expected="function(path) that returns an ASE calculator",
            found=told(error),
        ) from error
    if not callable(getattr(calculator, "get_property", None)):
        raise ValidationError(
            f"{target}: does not return a calculator",
            expected="an ASE calculator",
            found=type(calculator).__name__,
        )
    identity = AdapterIdentity(
        name="ase",
        version=VERSION,
        origin="built-in",
        foreign_code=True,
        runs=(package, target[:200]),
        options=request.recorded(),
        notes=("One structure at a time: slow.",),
    )
    potential = AdaptedPotential(
        CalculatorPotential(calculator),
        said_of(request.path, request.name),
        identity,
        prior=prior_option(request),
        vocabulary=vocabulary_option(request),
    )
    return Adapted(potential, identity)
