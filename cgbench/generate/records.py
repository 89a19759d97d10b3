"""What is planned, what became of it, and the frames: one entry for each trajectory."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from cgbench.config import Frozen

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
StartKind = Literal["native", "coil", "adaptive"]


class PlannedTrajectory(Frozen):
    """Where a trajectory starts, decided before it runs.

    Attributes:
        index: Number of the trajectory.
        round: Round of adaptive sampling.
        kind: What it starts from.
        parent: Number of the trajectory whose frame it starts from; for ``pool``, the number of
            the trajectory in the earlier raw set.
        frame: Number of that frame.
        pool: The frame is of the all-atom frames that came with an earlier raw set.
        seed: Of its velocities and noise.
    """

    index: int = Field(ge=0)
    round: int = Field(ge=0)
    kind: StartKind
    parent: int | None = None
    frame: int | None = None
    pool: bool = False
    seed: int = Field(ge=1)

    @pydantic.model_validator(mode="after")
    def _frames_have_parents(self) -> Self:
        known = (self.kind == "adaptive", self.parent is not None, self.frame is not None)
        if len(set(known)) != 1:
            raise ValueError("adaptive starts, and only they, have parent and frame")
        return self


class Divergence(Frozen):
    """An attempt that failed.

    Attributes:
        seed: Its seed.
        timestep: Its step in ps.
        reason: What went wrong.
    """

    seed: int
    timestep: float
    reason: str


class TrajectoryRecord(Frozen):
    """What became of a planned trajectory.

    Attributes:
        planned: The plan.
        status: ``failed`` if every attempt diverged; there are no frames then.
        n_frames: Number of frames.
        seed: Seed of the attempt that succeeded (the last for a failed one).
        timestep: Its step in ps.
        divergences: The attempts that failed.
        batch: Numbers of the trajectories that were integrated together with it.
        platform: OpenMM platform.
        wall_time: Seconds that the batch took, over its size, preparation included.
        ns_per_day: Simulated ns a day of the whole batch, without preparation.
        sha256: Hash of the file of its frames.
    """

    planned: PlannedTrajectory
    status: Literal["ok", "failed"]
    n_frames: int
    seed: int
    timestep: float
    divergences: tuple[Divergence, ...]
    batch: tuple[int, ...]
    platform: str
    wall_time: float
    ns_per_day: float
    sha256: str | None = None


@dataclass(frozen=True)
class Frames:
    """Frames of one trajectory.

    Attributes:
        positions: (n_frames, n_atoms, 3) of the protein, Å.
        forces: Same shape, kcal/mol/Å.
        energies: (n_frames,) potential energy in kcal/mol; NaN where copies share a system.
    """

    positions: FloatArray
    forces: FloatArray
    energies: DoubleArray


@dataclass(frozen=True)
class Machine:
    """Where and how trajectories are computed; nothing of it changes what they mean.

    Attributes:
        platform: OpenMM platform; the fastest there is for None.
        threads: Threads of the CPU platform; all cores for None.
    """

    platform: str | None = None
    threads: int | None = None


def spawn_seed(seed: int, *key: int) -> int:
    """Return a seed that OpenMM accepts (1 to 2³¹ − 1), independent for every key."""
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(1)
    return int(words[0]) % (2**31 - 1) + 1
