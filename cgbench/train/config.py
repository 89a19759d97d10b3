"""What a training run is: one YAML file, validated, frozen, fingerprinted."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

import pydantic

from cgbench.config import Frozen
from cgbench.models import GraphNetworkSettings
from cgbench.priors import PriorFitSettings

#: Name of a model or of a sweep: a relative path that stays below where it is put.
Name = Annotated[
    str,
    pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,127}$"),
    pydantic.AfterValidator(lambda value: _without_parents(value)),
]
System = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


def _without_parents(value: str) -> str:
    if ".." in value or value.endswith("/") or "//" in value:
        raise ValueError("a model name is a relative path without '..'")
    return value


class OptimiserSettings(Frozen):
    """Adam with a plateau schedule; the defaults are the reference work's ``train.yaml``."""

    learning_rate: float = pydantic.Field(default=5e-4, gt=0)
    factor: float = pydantic.Field(default=0.8, gt=0, lt=1)
    patience: int = pydantic.Field(default=10, ge=0)
    minimum_learning_rate: float = pydantic.Field(default=1e-6, ge=0)
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    batch_size: int = pydantic.Field(default=256, ge=1)
    gradient_clip: float | None = pydantic.Field(default=None, gt=0)
    maximum_epochs: int = pydantic.Field(default=100, ge=1)
    maximum_minutes: float | None = pydantic.Field(default=None, gt=0)
    early_stopping_patience: int = pydantic.Field(default=30, ge=1)


class AveragingSettings(Frozen):
    """An exponential moving average of the weights, which is what validation and the model see.

    Attributes:
        decay: Share of the average that is kept in each step.
        warm_up: Whether the first steps keep less, (1 + n) / (10 + n) at step n, so that the
            random weights of the start are forgotten soon.
    """

    decay: float = pydantic.Field(default=0.999, gt=0, lt=1)
    warm_up: bool = True


class SelectionSettings(Frozen):
    """How one of several models is chosen: by short simulations on a validation reference.

    The reference must come from other trajectories than those that the model is evaluated on
    later. Either ``reference_system`` names a system of the same protein whose bundle was made
    from other trajectories, or ``trajectories`` is the share of the system's own trajectories, at
    random by ``seed``, that a bundle for selection is made of; the rest make the bundle for
    evaluation.

    Attributes:
        reference_system: System whose reference bundle scores the simulations.
        trajectories: Share of the trajectories for the bundle of the selection.
        metric: What is compared; the registry says whether less of it is better.
        protocol: How it is simulated.
        seed: Of the share, the simulations and the resamples.
    """

    reference_system: System | None = None
    trajectories: float | None = pydantic.Field(default=None, gt=0, lt=1)
    metric: str = "w1_tic1"
    protocol: str = "selection"
    seed: int = pydantic.Field(default=1, ge=0)

    @pydantic.model_validator(mode="after")
    def _one_reference(self) -> Self:
        if self.reference_system is not None and self.trajectories is not None:
            raise ValueError("reference_system or trajectories, not both")
        return self


#: Fields that came after the first configurations; at these values they are not written down, so
#: that fingerprints of old configurations stay what they are.
_LATER: Final[dict[str, Any]] = {
    "kind": "graph-network",
    "left_out": None,
    "balance": "frames",
    "frame_stride": 1,
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "precision": "32-true",
    "averaging": None,
    "selection": None,
}


class SystemsConfig(Frozen):
    """What configurations of all kinds have in common: a name, data and a seed.

    ``system: x`` is short for ``systems: [x]``, and ``left_out: x`` for the split ``lopo-x`` where
    none is given.
    """

    name: Name
    description: str = ""
    systems: tuple[System, ...] = pydantic.Field(min_length=1)
    split: str = "block-v1"
    force_map: str | None = None
    seed: int = pydantic.Field(default=1, ge=0)
    threads: int | None = pydantic.Field(default=None, ge=1)
    licence: str = "MIT"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "system" in data:
            if "systems" in data:
                raise ValueError("system or systems, not both")
            data["systems"] = (data.pop("system"),)
        if isinstance(data.get("left_out"), str):
            data.setdefault("split", f"lopo-{data['left_out']}")
        return data

    @property
    def system(self) -> str:
        """The one system, or the names of all with a + between them."""
        return "+".join(self.systems)


class TrainingConfig(SystemsConfig):
    """One force-matching run: data, prior, network, optimiser, seed.

    ``force_map`` is ``null`` for the store's default. ``threads`` is ``null`` for torch's default;
    runs with the same seed, engine and number of threads give the same weights. ``engine`` is what
    computes losses and gradients: ``fused``, compiled loops for processors, ``torch``,
    ``compiled``, which is torch's compiler, or ``auto``: the first where it fits, else the second.

    Attributes:
        systems: Proteins to train on; ``system: x`` is short for ``systems: [x]``.
        split: Split id; with ``left_out`` it is ``lopo-<left_out>`` if not given.
        left_out: The protein that training must not see.
        balance: Shares of the systems in training batches and in the prior: by their ``frames``,
            or all ``systems`` alike.
        frame_stride: Every so many frames of each trajectory train, one number or one by system;
            a system that is not named has all. Validation takes all frames.
        devices: Processes on each node, one for each device; ``batch_size`` is that of each.
        num_nodes: Nodes.
        strategy: ``auto`` or a strategy of Lightning, as ``ddp``.
        precision: ``32-true``, or mixed: ``bf16-mixed``, ``16-mixed``.
        averaging: Moving average of the weights, or none.
        selection: How ``--select`` chooses among seeds; it is no part of the training itself.
    """

    kind: Literal["graph-network"] = "graph-network"
    left_out: System | None = None
    balance: Literal["frames", "systems"] = "frames"
    frame_stride: (
        Annotated[int, pydantic.Field(ge=1)] | dict[System, Annotated[int, pydantic.Field(ge=1)]]
    ) = 1
    network: GraphNetworkSettings = GraphNetworkSettings()
    prior: PriorFitSettings = PriorFitSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    accelerator: str = "cpu"
    engine: Literal["auto", "torch", "compiled", "fused"] = "auto"
    devices: int = pydantic.Field(default=1, ge=1)
    num_nodes: int = pydantic.Field(default=1, ge=1)
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    averaging: AveragingSettings | None = None
    selection: SelectionSettings | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.systems)) < len(self.systems):
            raise ValueError("a system is named twice")
        if self.left_out is not None and self.left_out in self.systems:
            raise ValueError(f"left_out: {self.left_out} is among the systems to train on")
        if isinstance(self.frame_stride, dict) and (
            unknown := sorted(set(self.frame_stride) - set(self.systems))
        ):
            raise ValueError(f"frame_stride: {', '.join(unknown)} not among the systems")
        if self.engine == "fused" and self.precision != "32-true":
            raise ValueError("engine fused computes in single precision: precision must be 32-true")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _as_before(self, handler: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        """Write what the first version of the format wrote, and later fields where they are set."""
        found = {}
        for key, value in handler(self).items():
            if key == "systems" and len(value) == 1:
                found["system"] = value[0]
            elif key not in _LATER or value != _LATER[key]:
                found[key] = value
        return found

    @property
    def n_processes(self) -> int:
        """Processes that share an epoch."""
        return self.devices * self.num_nodes

    def stride_of(self, system: str) -> int:
        """Return every how many frames of a system's trajectories train."""
        if isinstance(self.frame_stride, dict):
            return self.frame_stride.get(system, 1)
        return self.frame_stride

    def training_identity(self) -> dict[str, Any]:
        """Return what decides the weights: all settings but those of the selection."""
        identity: dict[str, Any] = self.model_dump(mode="json")
        identity.pop("selection", None)
        return identity
