"""What a training run of NEMO is: data, model, loss, optimiser and seed."""

from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic

from cgbench.config import Frozen
from cgbench.nemo.settings import EnergySettings, NemoSettings, SimulatorSettings
from cgbench.train.config import System, SystemsConfig, TrainingConfig

Weight = Annotated[float, pydantic.Field(ge=0, le=1e6, allow_inf_nan=False)]


class NemoNetwork(Frozen):
    """Shape of the model; see :class:`~cgbench.nemo.NemoSettings`."""

    features: Literal["sequence", "profile"] = "sequence"
    width: int = pydantic.Field(default=64, ge=4, le=4096)
    n_blocks: int = pydantic.Field(default=4, ge=0, le=64)
    kernel: int = pydantic.Field(default=5, ge=1, le=31)
    energy: EnergySettings = EnergySettings()
    simulator: SimulatorSettings = SimulatorSettings()

    def at(self, temperature: float | None) -> NemoSettings:
        """Return the settings of a model of data of this temperature in K."""
        return NemoSettings(**self.model_dump(), temperature=temperature)


class NemoLoss(Frozen):
    """Weights of the parts of the loss; a part of weight zero is not computed.

    Attributes:
        likelihood: Energy of data less that of the model's own samples, whose gradient is that of
            the negative log-likelihood.
        energy_scale: Mean squares of both energies per residue, in units of kT: keeps them from
            drifting together, to which the likelihood is blind.
        distances: Energy score of all distances, Å.
        angles: Energy score of angles and dihedrals.
        contacts: Divergence of the probabilities of contacts, the proxy of hydrogen bonds.
        secondary: Divergence of the probabilities of secondary structure.
        tm_score: Score of one less the TM-score.
        initial: Of distances and angles of the initial structure.
        trajectory: Of distances on the way.
        lyapunov: Penalty of what drives neighbouring chains apart.
        diversity: κ of the energy scores: one half for ensembles, zero for single structures.
        lyapunov_allowed: Logarithm of the stretch in a step that is free.
        lyapunov_steps: Steps over which the stretch is taken.
        lyapunov_places: Places on the way where it is.
        tm_least_scale: Least d₀ of the TM-score in Å; that of short chains, 0.5 Å, leaves no
            gradient to anything that is not native already.
    """

    likelihood: Weight = 0.2
    energy_scale: Weight = 0.02
    distances: Weight = 1.0
    angles: Weight = 2.0
    contacts: Weight = 2.0
    secondary: Weight = 0.2
    tm_score: Weight = 1.0
    initial: Weight = 0.25
    trajectory: Weight = 0.25
    lyapunov: Weight = 1.0
    diversity: float = pydantic.Field(default=0.5, ge=0, le=0.5)
    lyapunov_allowed: float = pydantic.Field(default=0.0, ge=0, le=10)
    lyapunov_steps: int = pydantic.Field(default=2, ge=1, le=100)
    lyapunov_places: int = pydantic.Field(default=2, ge=1, le=100)
    tm_least_scale: float = pydantic.Field(default=1.5, ge=0.5, le=10)

    @pydantic.model_validator(mode="after")
    def _all_parts(self) -> Self:
        if self.likelihood == 0.0:
            raise ValueError("likelihood must be above 0: without it the energy is no energy")
        if not any((self.distances, self.angles, self.contacts, self.secondary, self.tm_score)):
            raise ValueError("at least one of the parts of the empirical risk must be above 0")
        return self


class NemoOptimiser(Frozen):
    """How weights are found.

    Attributes:
        steps: Training steps; each is of one system and one batch of chains.
        chains: Chains that are simulated in a step.
        frames: Frames of the data in a step.
        learning_rate: Of Adam at the start; it falls to a tenth along half a cosine.
        weight_decay: Of Adam with decoupled weight decay.
        gradient_clip: Norm above which a gradient is shortened: that of the parts that pass through
            the simulation and that of the others (likelihood, stability) each, so that the latter
            still count where the former explodes.
        damping: γ: what passes back through t steps of the simulator counts γᵗ.
        segment: Steps of the simulator between the states that are kept.
        checkpointing: Whether states between segments alone are kept for the gradient.
        validate_every: Training steps between two validations.
        validation_samples: Samples and frames of each system in a validation.
        maximum_minutes: Wall time after which no further step begins, and the run is finished with
            the best weights so far; a run may be resumed with another one.
    """

    steps: int = pydantic.Field(default=400, ge=1)
    chains: int = pydantic.Field(default=16, ge=2)
    frames: int = pydantic.Field(default=64, ge=2)
    learning_rate: float = pydantic.Field(default=1e-3, gt=0, le=1)
    weight_decay: float = pydantic.Field(default=1e-4, ge=0, le=1)
    gradient_clip: float = pydantic.Field(default=1.0, gt=0)
    damping: float = pydantic.Field(default=0.95, gt=0, le=1)
    segment: int = pydantic.Field(default=10, ge=1)
    checkpointing: bool = True
    validate_every: int = pydantic.Field(default=50, ge=1)
    validation_samples: int = pydantic.Field(default=128, ge=2, le=4096)
    maximum_minutes: float | None = pydantic.Field(default=None, gt=0)


class NemoConfig(SystemsConfig):
    """A NEMO sampler of one or several proteins.

    Attributes:
        systems: Proteins to train on; ``system: x`` is short for ``systems: [x]``. Empty where
            ``structures`` are trained on.
        split: Split id; with ``left_out`` it is ``lopo-<left_out>`` if not given.
        left_out: The protein that training must not see.
        structures: Folder of a split of structures, from ``cgbench splits make --cath``; relative
            to the folder in which the command is run. One structure of each sequence is no
            ensemble: ``loss.diversity`` should be zero.
        structure_profiles: Folder with a profile of each domain, ``<domain>.npy`` or ``.txt``.
        longest: Residues of a domain that train, from the beginning of its longest stretch without
            a gap: a bound on memory.
        maximum_frames: Most training and most validation frames of each system, evenly spread.
        network: Shape of the model.
        loss: Parts of the loss.
        optimiser: How weights are found.
        profiles: File of the evolutionary profile of each system, for ``features: profile``;
            relative to the folder in which the command is run.
        secondary: Secondary structure of a system where it is known, one letter a residue: ``H``,
            ``E``, ``C``, or ``-`` where it is not. It is read from the frames of other systems.
    """

    kind: Literal["nemo"] = "nemo"
    systems: tuple[System, ...] = ()
    left_out: System | None = None
    structures: Path | None = None
    structure_profiles: Path | None = None
    longest: int = pydantic.Field(default=200, ge=16, le=5000)
    maximum_frames: int = pydantic.Field(default=20_000, ge=2)
    network: NemoNetwork = NemoNetwork()
    loss: NemoLoss = NemoLoss()
    optimiser: NemoOptimiser = NemoOptimiser()
    profiles: dict[System, Path] = pydantic.Field(default_factory=dict)
    secondary: dict[System, Annotated[str, pydantic.Field(pattern="^[HEC-]+$")]] = pydantic.Field(
        default_factory=dict
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = sorted((set(self.profiles) | set(self.secondary)) - set(self.systems))
        if unknown:
            raise ValueError(f"profiles, secondary: {', '.join(unknown)} not among the systems")
        if bool(self.systems) == (self.structures is not None):
            raise ValueError("systems or structures: one of them, and only one")
        if len(set(self.systems)) < len(self.systems):
            raise ValueError("a system is named twice")
        if self.left_out is not None and (self.structures or self.left_out in self.systems):
            raise ValueError("left_out: a protein that is not among the systems to train on")
        segment, n_steps = self.optimiser.segment, self.network.simulator.n_steps
        if self.loss.trajectory and segment >= n_steps:
            raise ValueError(
                f"optimiser.segment: {segment} of {n_steps} steps leave no state on the way, which "
                "loss.trajectory is of"
            )
        if self.network.features == "profile":
            missing = sorted(set(self.systems) - set(self.profiles))
            if missing or (self.structures and self.structure_profiles is None):
                raise ValueError(f"profiles: none for {', '.join(missing) or 'the structures'}")
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
