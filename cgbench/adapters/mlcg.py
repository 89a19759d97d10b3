"""Models of the package mlcg, which saves whole objects: opening one runs code in the file.

An mlcg model takes an ``AtomicData`` batch and fills ``data.out`` with ``energy`` and ``forces``,
of a sum of models directly and of a single one under its name. Priors in it read ``neighbor_list``,
which is built here from the chain: bonds, angles and dihedrals of neighbours. The package is not on
the package index and not part of the tests of cgbench; they use a stand-in of the same convention.
"""

import contextlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from cgbench import registry
from cgbench.adapters.base import Adapted, AdaptedPotential, Request
from cgbench.adapters.functions import told
from cgbench.adapters.installed import is_importable, version_of
from cgbench.adapters.parts import prior_option, said_of, vocabulary_option
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import chain_topology
from cgbench.results.adapter import AdapterIdentity

VERSION: Final = "1"
OPTIONS: Final = ("prior", "vocabulary")


class AtomicDataModel(nn.Module):
    """An mlcg model under the calling convention of potentials.

    Args:
        model: Takes and returns an ``AtomicData``.
        data: The class ``AtomicData``.
        topology: The class ``Topology``, for models with priors; None if it is not there.
    """

    def __init__(self, model: nn.Module, data: Any, topology: Any = None) -> None:
        super().__init__()
        self.model = model
        self._data = data
        self._topology = topology

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        Raises:
            ValidationError: The model fills in neither.
        """
        from torch_geometric.data.collate import collate

        systems = []
        for system in range(int(batch.max()) + 1):
            beads = batch == system
            types = bead_types[beads]
            systems.append(
                self._data.from_points(
                    pos=pos[beads],
                    atom_types=types,
                    masses=torch.full_like(pos[beads][:, 0], registry.constants().bead_mass),
                    neighborlist=self._neighbours(types),
                )
            )
        data, _, _ = collate(
            systems[0].__class__, data_list=systems, increment=True, add_batch=True
        )
        out = self.model(data).out
        energy, forces = _found(out, "energy"), _found(out, "forces")
        if energy is None or forces is None:
            raise ValidationError(
                "the mlcg model gives no energy and forces",
                expected="out['energy'] and out['forces'], or both under one model's name",
                found=", ".join(str(key) for key in out) or "nothing",
                fix="wrap the model with GradientsOut, or its parts with SumOut",
            )
        return energy, forces

    def _neighbours(self, types: Tensor) -> dict[str, Any]:
        """Return the lists that priors of the model ask for, for one chain."""
        lists: dict[str, Any] = {}
        asking: list[Any] = [one for one in self.model.modules() if _wants_topology(one)]
        if not asking or self._topology is None:
            return lists
        topology = self._topology()
        for index, kind in enumerate(types.tolist()):
            topology.add_atom(kind, "CA", resid=index)
        bonds, dihedrals = chain_topology(len(types))
        for first, second in bonds.tolist():
            topology.add_bond(first, second)
        for index in range(len(types) - 2):
            topology.add_angle(index, index + 1, index + 2)
        for quadruple in dihedrals.tolist():
            topology.add_dihedral(*quadruple)
        for prior in asking:
            # Static in mlcg: found on the class, where a module's attributes are not in the way.
            lists.update(type(prior).neighbor_list(topology))
        return lists


def load(request: Request) -> Adapted:
    """Open a model that mlcg saved with ``torch.save(model, path)``.

    Options: ``prior`` and ``vocabulary`` (mlcg's numbers of the residues).

    Raises:
        UsageError: Not trusted, or mlcg is not installed.
        ValidationError: The file cannot be unpickled or holds no model.
    """
    request.known(*OPTIONS)
    if not request.path.is_file():
        raise UsageError(f"{request.path}: no such model")
    package = f"mlcg {version_of('mlcg') or '(version not stated)'}"
    request.require_trust(f"whatever code is pickled in it, and the package {package}")
    if not is_importable("mlcg"):
        raise UsageError(
            f"{request.path}: the package mlcg is not installed here",
            fix="install mlcg from its repository; it is not on the package index",
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):
            from mlcg.data.atomic_data import AtomicData
            from mlcg.geometry.topology import Topology

            model = torch.load(request.path, map_location="cpu", weights_only=False)
    # Foreign code may raise anything; the caller is told which file it was.
    except Exception as error:
        raise ValidationError(
            f"{request.path}: cannot be opened with {package}",
            expected="a model saved with torch.save(model, path) by the same version of mlcg",
            found=told(error),
        ) from error
    if not isinstance(model, nn.Module):
        raise ValidationError(
            f"{request.path}: holds no model",
            expected="a torch.nn.Module saved whole",
            found=type(model).__name__,
            fix="build the model from its checkpoint with mlcg, and save it with torch.save",
        )
    identity = AdapterIdentity(
        name="mlcg",
        version=VERSION,
        origin="built-in",
        foreign_code=True,
        runs=(package, "code pickled in the model's file"),
        options=request.recorded(),
        notes=("This adapter is tested with a stand-in for mlcg, not with mlcg itself.",),
    )
    potential = AdaptedPotential(
        AtomicDataModel(model.eval(), AtomicData, Topology),
        said_of(request.path, request.name),
        identity,
        prior=prior_option(request),
        vocabulary=vocabulary_option(request),
    )
    return Adapted(potential, identity)


def _wants_topology(module: nn.Module) -> bool:
    """Tell whether a part of a model makes its neighbour list from a topology alone."""
    make = getattr(type(module), "neighbor_list", None)
    if make is None:
        return False
    try:
        needed = [
            name
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
    except (TypeError, ValueError):
        return False
    return needed == ["topology"]


def _found(out: Mapping[str, Any], target: str) -> Tensor | None:
    """Return a target of the whole, or of the only model that gives it."""
    if isinstance(out.get(target), Tensor):
        return out[target]  # type: ignore[no-any-return]
    named = [part[target] for part in out.values() if isinstance(part, Mapping) and target in part]
    return named[0] if len(named) == 1 else None
