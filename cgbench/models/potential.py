"""Potentials: the calling convention of everything that is benchmarked, and network + prior."""

from typing import Any, Final, Literal, NamedTuple, Protocol, Self

import pydantic
import torch
from torch import Tensor, nn

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.models.chain_model import ChainModel
from cgbench.models.filters import FilterTable, accurate_table
from cgbench.models.graph_network import GraphNetwork
from cgbench.priors import Prior, PriorParameters, prior_energy_forces

#: Chains whose prior is kept built; a benchmark has a dozen.
_MAX_PRIORS = 64


#: Identifier and fingerprints of a split that a user does not name.
NOT_STATED: Final = "not stated"


class TrainedOn(Frozen):
    """Data that a potential was trained on: what leak checks compare with.

    Attributes:
        system: Registry key of the protein.
        split_id: Split, as ``block-v1``.
        split_fingerprint: ``sha256:…`` of the split.
        store_fingerprint: ``sha256:…`` of the store's manifest.
        part: Part of the split.
        stated: Whether that is its user's word, of a model that says nothing itself.
    """

    system: str
    split_id: str
    split_fingerprint: str
    store_fingerprint: str
    part: str = "train"
    stated: bool = False

    @classmethod
    def without_split(cls, system: str) -> Self:
        """Return the word of a user that a system was trained on, on frames not known."""
        return cls(
            system=system,
            split_id=NOT_STATED,
            split_fingerprint=NOT_STATED,
            store_fingerprint=NOT_STATED,
            stated=True,
        )

    @pydantic.model_serializer(mode="wrap")
    def _without_later_field(
        self, handler: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # So that the hashes of models that say it themselves stay what they are.
        data: dict[str, Any] = handler(self)
        return data if self.stated else {k: v for k, v in data.items() if k != "stated"}


class SeedSpread(Frozen):
    """How far models of the same training differ that have other seeds.

    Attributes:
        n: Number of models.
        mean: Their mean.
        standard_deviation: Between them; None for one.
    """

    n: int = pydantic.Field(ge=1)
    mean: float = pydantic.Field(allow_inf_nan=False)
    standard_deviation: float | None = pydantic.Field(default=None, ge=0, allow_inf_nan=False)


class SelectedBy(Frozen):
    """How a model was chosen among several.

    Attributes:
        metric: What was compared, as ``w1_tic1``.
        protocol: How they were simulated.
        seed: Training seed of the one that was chosen.
        references: For each system the fingerprint of the reference bundle that it was scored
            against: of other trajectories than those of the evaluation.
        described: Where these references are from.
    """

    metric: str
    protocol: str
    seed: int
    references: dict[str, str]
    described: dict[str, str] = pydantic.Field(default_factory=dict)


#: Fields that came after the first models; they are not written where they say nothing.
_LATER = frozenset({"best_of_n", "between_seed", "selected_by"})


class PotentialSpec(Frozen):
    """What a potential says of itself; stored in ``model.pt`` and carried by every result.

    Attributes:
        name: Name, as ``torchmd-gn/chignolin``.
        version: Version of these weights.
        bead_vocabulary: Numbering of the bead types.
        cutoff: Å beyond which beads do not interact through the network; None for no network.
        trained_on: Training data, system by system.
        force_map: Force map of the training forces; None if no forces were used.
        licence: Licence of the weights (SPDX identifier), None if not stated.
        description: One paragraph.
        seeds: Random seeds of the training.
        training_cost_s: Wall time of the training in seconds.
        n_parameters: Number of weights.
        best_of_n: Of how many trained models this is the best; None where there was no choice.
        between_seed: Spread of validation loss and of the metric over all of them, by name.
        selected_by: How it was chosen.
    """

    name: str = pydantic.Field(min_length=1, max_length=200)
    version: str = pydantic.Field(default="1", min_length=1, max_length=50)
    bead_vocabulary: Literal["majewski-2023"] = "majewski-2023"
    cutoff: float | None = pydantic.Field(default=None, gt=0, allow_inf_nan=False)
    trained_on: tuple[TrainedOn, ...] = ()
    force_map: str | None = None
    licence: str | None = None
    description: str = pydantic.Field(default="", max_length=20_000)
    seeds: tuple[int, ...] = ()
    training_cost_s: float | None = pydantic.Field(default=None, ge=0, allow_inf_nan=False)
    n_parameters: int | None = pydantic.Field(default=None, ge=0)
    best_of_n: int | None = pydantic.Field(default=None, ge=1)
    between_seed: dict[str, SeedSpread] = pydantic.Field(default_factory=dict)
    selected_by: SelectedBy | None = None

    @pydantic.model_serializer(mode="wrap")
    def _without_later_fields(
        self, handler: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # So that the hashes of models that were not chosen among several stay what they are.
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if name not in _LATER or value}


class Potential(Protocol):
    """Anything that gives energies and forces of coarse-grained chains.

    The convention is that of TorchMD-Net, so its models fit. All beads of all systems come in a
    row; the call returns energies (n_systems,) in kcal/mol and forces (n_beads, 3) in kcal/mol/Å,
    the negative gradient of the summed energy.
    """

    @property
    def spec(self) -> PotentialSpec:
        """What the potential says of itself."""

    def __call__(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3).

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64, the system of each bead.
        """


class ChainResult(NamedTuple):
    """Energies and forces of R replicas of one chain.

    Attributes:
        network_energy: (R,) kcal/mol.
        prior_energy: (R,) kcal/mol.
        forces: (R, N, 3) kcal/mol/Å, of both together.
    """

    network_energy: Tensor
    prior_energy: Tensor
    forces: Tensor


class NetworkPotential(nn.Module):
    """The sum of a network and a prior; either may be missing, not both.

    It computes in the precision of the network's weights, and positions must come in it. Nothing
    is recorded for differentiation: train the network through its own methods.

    Args:
        network: A graph network or another model of chains, or None for the prior alone.
        prior: Parameters of the prior, or None for the network alone.
        spec: What the potential says of itself.
        tabulate: Let ``chains`` look filters up in a table where single precision allows it; the
            difference is below its rounding. Double precision always evaluates them.

    Raises:
        ValidationError: Neither network nor prior.
    """

    def __init__(
        self,
        network: GraphNetwork | ChainModel | None,
        prior: PriorParameters | None,
        spec: PotentialSpec,
        *,
        tabulate: bool = True,
    ) -> None:
        super().__init__()
        if network is None and prior is None:
            raise ValidationError(f"{spec.name}: a potential needs a network, a prior or both")
        self.network = network
        self.prior = prior
        self.spec = spec
        self.tabulate = tabulate
        self._table: FilterTable | None = None
        self._table_weights: tuple[tuple[int, int], ...] = ()
        self._priors: dict[tuple[int, ...], Prior] = {}
        self._checked: tuple[Tensor, int, tuple[int, ...]] | None = None

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Distances in Å at which the network's interaction starts or ends."""
        if self.network is None:
            return ()
        if isinstance(self.network, ChainModel):
            return self.network.cutoffs
        settings = self.network.settings
        return tuple(c for c in (settings.cutoff_lower, settings.cutoff_upper) if c > 0)

    @property
    def precision(self) -> torch.dtype:
        """Precision of the network's weights; single where there is no network."""
        if isinstance(self.network, ChainModel):
            return self.network.precision
        return torch.float32 if self.network is None else self.network.embedding.weight.dtype

    @torch.no_grad()
    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64 from 0, the system of each bead; sizes may differ.

        Raises:
            ValidationError: Shapes, precision or bead types do not fit.
        """
        n_beads = len(pos)
        self._check_shape("bead types", bead_types, (n_beads,))
        self._check_shape("batch", batch, (n_beads,))
        self._check_shape("positions", pos, (n_beads, 3))
        self._check_precision(pos)
        self.check_types(bead_types)
        if n_beads == 0:
            raise ValidationError(f"{self.spec.name}: no beads given")
        n_systems = int(batch.max()) + 1
        energy, forces = pos.new_zeros(n_systems), torch.zeros_like(pos)
        if self.network is not None:
            energy, forces = self.network.energy_forces(bead_types, pos, batch, n_systems)
        if self.prior is not None:
            prior_energy, prior_forces = prior_energy_forces(self.prior, bead_types, pos, batch)
            energy, forces = energy + prior_energy, forces + prior_forces
        return energy, forces

    @torch.no_grad()
    def chains(self, bead_types: Tensor, pos: Tensor) -> ChainResult:
        """Return energies and forces of R replicas of one chain: the path that simulation uses.

        Args:
            bead_types: (N,) int64. Passing the same tensor again skips its checks.
            pos: (R, N, 3) in Å.

        Raises:
            ValidationError: Shapes, precision or bead types do not fit.
        """
        if pos.ndim != 3 or pos.shape[2] != 3:
            self._check_shape("positions", pos, ("replicas", "beads", 3))
        types = self._known_types(bead_types, pos.shape[1])
        self._check_precision(pos)
        zero = pos.new_zeros(len(pos))
        network_energy, prior_energy, forces = zero, zero, torch.zeros_like(pos)
        if isinstance(self.network, ChainModel):
            network_energy, forces = self.network.energy_forces_chains(bead_types, pos)
        elif self.network is not None:
            network_energy, forces = self.network.energy_forces_chains(
                bead_types, pos, self._current_table(self.network)
            )
        if self.prior is not None:
            prior_energy, prior_forces = self._built_prior(self.prior, types).energy_forces(pos)
            forces = forces + prior_forces
        return ChainResult(network_energy, prior_energy, forces)

    def _current_table(self, network: GraphNetwork) -> FilterTable | None:
        """Return the table of the weights as they are now, made anew when they have changed."""
        if not self.tabulate or network.embedding.weight.dtype != torch.float32:
            return None
        modules = (network.radial, *network.filter_networks)
        weights = tuple(
            (weight.data_ptr(), _version(weight))
            for module in modules
            for weight in module.parameters()
        )
        if weights != self._table_weights:
            self._table = accurate_table(network.radial, network.filter_networks)
            self._table_weights = weights
        return self._table

    def _built_prior(self, parameters: PriorParameters, types: tuple[int, ...]) -> Prior:
        built = self._priors.get(types)
        if built is None:
            if len(self._priors) >= _MAX_PRIORS:
                self._priors.clear()
            built = self._priors[types] = Prior(parameters, types)
        return built

    def _known_types(self, bead_types: Tensor, n_beads: int) -> tuple[int, ...]:
        """Return bead types as numbers, checked; the last tensor seen is not checked again."""
        version = _version(bead_types)
        if self._checked is not None:
            tensor, checked_version, types = self._checked
            if tensor is bead_types and version == checked_version and len(types) == n_beads:
                return types
        self._check_shape("bead types", bead_types, (n_beads,))
        self.check_types(bead_types)
        types = tuple(bead_types.tolist())
        self._checked = (bead_types, version, types)
        return types

    def _check_shape(self, what: str, tensor: Tensor, shape: tuple[int | str, ...]) -> None:
        if tuple(tensor.shape) != shape:
            raise ValidationError(
                f"{self.spec.name}: wrong shape of {what}",
                expected=shape,
                found=tuple(tensor.shape),
            )

    def check_types(self, bead_types: Tensor) -> None:
        """Check that the network has an embedding for every bead.

        Raises:
            ValidationError: It has none for some, or they are not integers.
        """
        if bead_types.dtype != torch.int64:
            raise ValidationError(
                f"{self.spec.name}: bead types must be integers",
                expected=torch.int64,
                found=bead_types.dtype,
            )
        if self.network is None or bead_types.numel() == 0:
            return
        if isinstance(self.network, ChainModel):
            self.network.check_types(bead_types, self.spec.name)
            return
        lowest, highest = int(bead_types.min()), int(bead_types.max())
        limit = self.network.settings.max_bead_type
        if lowest < 0 or highest >= limit:
            raise ValidationError(
                f"{self.spec.name}: bead types that the network does not have",
                expected=f"0 to {limit - 1}",
                found=f"{lowest} to {highest}",
            )

    def _check_precision(self, pos: Tensor) -> None:
        if self.network is None:
            return
        precision = self.precision
        if pos.dtype != precision:
            raise ValidationError(
                f"{self.spec.name}: positions in another precision than the network's",
                expected=precision,
                found=pos.dtype,
                fix="convert the positions, or load the model with their dtype",
            )


def _version(tensor: Tensor) -> int:
    """Return a number that grows when a tensor changes in place; constant in inference mode."""
    return 0 if tensor.is_inference() else tensor._version
