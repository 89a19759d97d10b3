"""What a training run of the recurrent baseline is: data, network, optimiser and seed."""

from pathlib import Path
from typing import Literal, Self

import pydantic

from cgbench.config import Frozen
from cgbench.samplers.recurrent import RecurrentSettings
from cgbench.train.config import System, SystemsConfig, TrainingConfig


class RecurrentOptimiser(Frozen):
    """How weights are found.

    Attributes:
        steps: Most training steps.
        chains: Chains of different sequences in a step.
        batch_size: Structures of each chain in a step; a domain has one.
        learning_rate: Of Adam at the start; it falls to a hundredth along half a cosine.
        weight_decay: Of Adam with decoupled weight decay.
        gradient_clip: Norm above which the gradient is shortened.
        validate_every: Steps between two validations.
        patience: Validations without a better one after which training ends.
        maximum_minutes: Wall time after which no further step begins.
    """

    steps: int = pydantic.Field(default=2000, ge=1)
    chains: int = pydantic.Field(default=4, ge=1, le=4096)
    batch_size: int = pydantic.Field(default=64, ge=1)
    learning_rate: float = pydantic.Field(default=3e-3, gt=0, le=1)
    weight_decay: float = pydantic.Field(default=1e-4, ge=0, le=1)
    gradient_clip: float = pydantic.Field(default=5.0, gt=0)
    validate_every: int = pydantic.Field(default=100, ge=1)
    patience: int = pydantic.Field(default=10, ge=1)
    maximum_minutes: float | None = pydantic.Field(default=None, gt=0)


class RecurrentConfig(SystemsConfig):
    """A recurrent sampler of systems with stores, or of single structures.

    Attributes:
        systems: Proteins whose frames train; ``system: x`` is short for ``systems: [x]``. Empty
            where ``structures`` are trained on.
        structures: Folder of a split of structures, from ``cgbench splits make --cath``; relative
            to the folder in which the command is run.
        split: Split id; with ``left_out`` it is ``lopo-<left_out>`` if not given.
        left_out: The protein that training must not see.
        maximum_frames: Most training and most validation frames of each system, evenly spread.
        network: Shape of the network.
        optimiser: How weights are found.
        profiles: File of the evolutionary profile of each system, for ``features: profile``.
        structure_profiles: Folder of the profiles of domains.
    """

    kind: Literal["recurrent"] = "recurrent"
    systems: tuple[System, ...] = ()
    structures: Path | None = None
    left_out: System | None = None
    maximum_frames: int = pydantic.Field(default=20_000, ge=2)
    network: RecurrentSettings = RecurrentSettings()
    optimiser: RecurrentOptimiser = RecurrentOptimiser()
    profiles: dict[System, Path] = pydantic.Field(default_factory=dict)
    structure_profiles: Path | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.systems) == (self.structures is not None):
            raise ValueError("systems or structures: one of them, and only one")
        if unknown := sorted(set(self.profiles) - set(self.systems)):
            raise ValueError(f"profiles: {', '.join(unknown)} not among the systems")
        if self.left_out is not None and (self.structures or self.left_out in self.systems):
            raise ValueError("left_out: a protein that is not among the systems to train on")
        needed = self.network.features == "profile"
        there = bool(self.structure_profiles or self.profiles)
        missing = sorted(set(self.systems) - set(self.profiles))
        if needed and (not there or (self.systems and missing)):
            raise ValueError(f"profiles: none for {', '.join(missing) or 'the structures'}")
        if there and not needed:
            raise ValueError("profiles: network.features has to be profile")
        return self

    def as_training(self) -> TrainingConfig:
        """Return the settings of the data, in the form in which a training run opens them."""
        return TrainingConfig(
            name=self.name,
            systems=self.systems,
            split=self.split,
            left_out=self.left_out,
            balance="systems",
            force_map=self.force_map,
        )
