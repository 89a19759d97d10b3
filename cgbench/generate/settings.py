"""What a run of all-atom molecular dynamics is made from, and which force fields there are."""

from typing import Annotated, Final, Literal, Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen

Solvent = Literal["implicit", "explicit"]
ForceFieldName = Literal[
    "amber99sbildn-obc", "amber14-gbn2", "amber14-obc2", "amber14-tip3p", "amber99sbildn-tip3p"
]


class ForceField(Frozen):
    """A force field as OpenMM ships it.

    Attributes:
        files: OpenMM's files, in the order in which they are loaded.
        solvent: What the protein is in.
        water: Water model of OpenMM's ``Modeller.addSolvent``; None in implicit solvent.
        description: The force field in words, for the card of a run.
    """

    files: tuple[str, ...]
    solvent: Solvent
    water: str | None
    description: str


FORCE_FIELDS: Final[dict[ForceFieldName, ForceField]] = {
    "amber99sbildn-obc": ForceField(
        files=("amber99sbildn.xml", "amber99_obc.xml"),
        solvent="implicit",
        water=None,
        description="Amber ff99SB-ILDN with OBC generalised Born solvent",
    ),
    "amber14-gbn2": ForceField(
        files=("amber14-all.xml", "implicit/gbn2.xml"),
        solvent="implicit",
        water=None,
        description="Amber ff14SB with GBn2 generalised Born solvent",
    ),
    "amber14-obc2": ForceField(
        files=("amber14-all.xml", "implicit/obc2.xml"),
        solvent="implicit",
        water=None,
        description="Amber ff14SB with OBC2 generalised Born solvent",
    ),
    "amber14-tip3p": ForceField(
        files=("amber14-all.xml", "amber14/tip3p.xml"),
        solvent="explicit",
        water="tip3p",
        description="Amber ff14SB in TIP3P water",
    ),
    "amber99sbildn-tip3p": ForceField(
        files=("amber99sbildn.xml", "tip3p.xml"),
        solvent="explicit",
        water="tip3p",
        description="Amber ff99SB-ILDN in TIP3P water",
    ),
}

#: The force field of each solvent when none is named; the first made the embedded sample.
DEFAULT_FORCE_FIELD: Final[dict[Solvent, ForceFieldName]] = {
    "implicit": "amber99sbildn-obc",
    "explicit": "amber14-tip3p",
}


#: Added to the configuration of models: infinity is no temperature and no length.
_FINITE: Final = pydantic.ConfigDict(allow_inf_nan=False)


class SystemSettings(Frozen):
    """The forces between atoms. Bonds to hydrogen are constrained and water is rigid.

    The defaults are those of the embedded sample.

    Attributes:
        force_field: Which force field.
        hydrogen_mass: Mass of every hydrogen of the protein in amu, taken from the atom that it
            is bonded to.
        cutoff: Cutoff in Å of the direct part of particle-mesh Ewald sums in explicit solvent;
            implicit solvent has no cutoff.
        padding: Least distance in Å between the protein and the edge of the box of water.
        ionic_strength: Salt in mol/l beyond the ions that make the box neutral.
    """

    model_config = _FINITE

    force_field: ForceFieldName = "amber99sbildn-obc"
    hydrogen_mass: float = Field(default=4.0, ge=1.0, le=4.0)
    cutoff: float = Field(default=9.0, gt=0)
    padding: float = Field(default=10.0, gt=0)
    ionic_strength: float = Field(default=0.0, ge=0, le=5)

    @property
    def solvent(self) -> Solvent:
        """What the protein is in."""
        return FORCE_FIELDS[self.force_field].solvent


class DynamicsSettings(Frozen):
    """Langevin dynamics at constant volume; the defaults are those of the embedded sample.

    Attributes:
        temperature: In K.
        friction: In 1/ps.
        timestep: In ps.
        frame_interval: Time between frames in ps.
    """

    model_config = _FINITE

    temperature: float = Field(default=350.0, gt=0)
    friction: float = Field(default=0.1, gt=0)
    timestep: float = Field(default=0.004, gt=0, le=0.005)
    frame_interval: float = Field(default=1.0, gt=0)

    @pydantic.model_validator(mode="after")
    def _whole_number_of_steps(self) -> Self:
        ratio = self.frame_interval / self.timestep
        if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
            raise ValueError(
                f"frame_interval {self.frame_interval} is no multiple of timestep {self.timestep}"
            )
        return self

    @property
    def steps_per_frame(self) -> int:
        """Number of integration steps between frames."""
        return round(self.frame_interval / self.timestep)


class GenerationSettings(Frozen):
    """Everything that determines a set of trajectories; a run goes on only with the same.

    How long to run, on what and with how many processes is not among it.

    Attributes:
        name: Beginning of the names of the raw files: a system of the registry, or the user's.
        sequence: One letter for each residue.
        system: The forces between atoms.
        dynamics: Temperature, friction, step and frames.
        trajectory_length: Of each trajectory, in ps.
        trajectories_per_round: How many trajectories start from the frames of earlier rounds.
        n_clusters: Number of k-centres that frames are counted over.
        fresh_fraction: Share of each later round that starts from the native structure and coils
            again.
        coil_temperature: Temperature in K at which a coil forgets the extended chain.
        coil_length: Time in ps that it is given.
        equilibration: Time in ps at constant pressure before a trajectory in explicit solvent.
        pressure: In bar.
        n_copies: Trajectories that are integrated together in one system.
        structure_sha256: Hash of the file of the native structure, None without one.
        raw_sha256: Hash of the coordinates of an earlier raw set that starts are drawn from.
        ladder: Temperatures in K of replica exchange, ascending; empty for adaptive sampling.
        exchange_interval: Time in ps between attempts to exchange.
        seed: Seed of everything random.
    """

    model_config = _FINITE

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    sequence: str = Field(pattern=r"^[A-Z]+$")
    system: SystemSettings = SystemSettings()
    dynamics: DynamicsSettings = DynamicsSettings()
    trajectory_length: float = Field(default=500.0, gt=0)
    trajectories_per_round: int = Field(default=8, ge=1)
    n_clusters: int = Field(default=40, ge=1)
    fresh_fraction: float = Field(default=0.25, ge=0, le=1)
    coil_temperature: float = Field(default=600.0, gt=0)
    coil_length: float = Field(default=50.0, ge=0)
    equilibration: float = Field(default=100.0, ge=0)
    pressure: float = Field(default=1.0, gt=0)
    n_copies: int = Field(default=1, ge=1)
    structure_sha256: str | None = None
    raw_sha256: str | None = None
    ladder: tuple[Annotated[float, Field(gt=0)], ...] = ()
    exchange_interval: float = Field(default=1.0, gt=0)
    seed: int = Field(default=1, ge=0)

    @pydantic.model_validator(mode="after")
    def _sound_ladder(self) -> Self:
        if not self.ladder:
            return self
        if len(self.ladder) < 2 or list(self.ladder) != sorted(set(self.ladder)):
            raise ValueError(f"ladder {self.ladder}: two or more ascending temperatures")
        if not self.ladder[0] <= self.dynamics.temperature <= self.ladder[-1]:
            raise ValueError(f"temperature {self.dynamics.temperature} is outside the ladder")
        ratio = self.exchange_interval / self.dynamics.frame_interval
        frames = round(ratio)
        if frames < 1 or abs(ratio - frames) > 1e-6 * ratio or self.n_frames % frames:
            raise ValueError(
                "exchange_interval must be a multiple of frame_interval and divide "
                "trajectory_length"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _whole_number_of_frames(self) -> Self:
        ratio = self.trajectory_length / self.dynamics.frame_interval
        if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
            raise ValueError(
                f"trajectory_length {self.trajectory_length} is no multiple of frame_interval "
                f"{self.dynamics.frame_interval}"
            )
        return self

    @property
    def n_frames(self) -> int:
        """Number of frames of each trajectory."""
        return round(self.trajectory_length / self.dynamics.frame_interval)
