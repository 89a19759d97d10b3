"""What synthetic systems are: how large, from which frames, and what came of them."""

from typing import Any, Final

import numpy as np
import pydantic
import torch

from cgbench import registry
from cgbench.config import Frozen
from cgbench.models import NetworkPotential
from cgbench.registry import AnalysisSettings, Protocol, SplitSettings
from cgbench.store import FrameBlock

FORCE_MAP: Final = "exact"
#: Of the constants of frozen protocols, whose bead mass and output are kept.
BASE_PROTOCOL: Final = "standard"


class SyntheticSettings(Frozen):
    """How large synthetic stores are; the same for every protein.

    Attributes:
        n_trajectories: Trajectories, half of them from the native structure.
        length: ps of each that are kept.
        skipped: ps before them, in which a trajectory forgets how it was started.
        interval: ps between frames.
        timestep: ps.
        friction: 1/ps; a low one, because chains fold sooner.
        n_microstates: Of the reference bundle.
        n_resamples: Bootstrap resamples of the reference bundle.
        seed: Of everything.
    """

    n_trajectories: int = pydantic.Field(default=32, ge=4)
    length: float = pydantic.Field(default=480.0, gt=0)
    skipped: float = pydantic.Field(default=80.0, ge=0)
    interval: float = pydantic.Field(default=0.8, gt=0)
    timestep: float = pydantic.Field(default=0.008, gt=0)
    friction: float = pydantic.Field(default=0.2, gt=0)
    n_microstates: int = pydantic.Field(default=100, ge=2)
    n_resamples: int = pydantic.Field(default=100, ge=1)
    seed: int = pydantic.Field(default=1, ge=0)

    def protocol(self, **changes: Any) -> Protocol:
        """Return how trajectories are made, also for scoring models against them."""
        standard = registry.protocol(BASE_PROTOCOL).model_dump()
        own = {
            "id": "synthetic",
            "description": "Of synthetic stores with known answers.",
            "n_replicas": self.n_trajectories,
            "timestep": self.timestep,
            "friction": self.friction,
            "length": self.skipped + self.length,
            "output_interval": self.interval,
            "model_msm_lag": 10 * self.interval,
        }
        return Protocol.model_validate(standard | own | changes)

    @property
    def analysis(self) -> AnalysisSettings:
        """Constants of the reference bundles."""
        values: dict[str, Any] = {
            "tica_lag_ps": 5 * self.interval,
            "tica_dimensions": 4,
            "tica_epsilon": 1.0e-6,
            "msm_lag_ps": 10 * self.interval,
            "model_msm_lag_ps": 10 * self.interval,
            "n_microstates": self.n_microstates,
            "n_macrostates": None,
            "seed": self.seed,
        }
        return AnalysisSettings(**values, source=dict.fromkeys(values, "chosen here"))

    @property
    def split(self) -> SplitSettings:
        """How frames are divided: whole trajectories, from both kinds of start alike."""
        return SplitSettings(
            unit="trajectory", train=0.5, val=0.125, test=0.375, gap_frames=0, seed=self.seed
        )


class SyntheticRecord(Frozen):
    """What a finished synthetic system is made from and what came of it.

    Attributes:
        system: Key of a system or variant.
        fingerprint: Of settings, native structure and energy.
        n_frames: Frames of the store.
        scale: ε of the Gō potential in kcal/mol.
        folded_population: Of the reference bundle.
        n_folding: Foldings seen in it.
        n_unfolding: Unfoldings seen in it.
        converged: Whether those are enough.
        seconds: Wall time of the simulation.
    """

    system: str
    fingerprint: str
    n_frames: int
    scale: float
    folded_population: float
    n_folding: int
    n_unfolding: int
    converged: bool
    seconds: float


class ExactFrames:
    """Frames in memory with the forces of a potential, as the writer of stores reads them."""

    force_maps = (FORCE_MAP,)

    def __init__(self, potential: NetworkPotential, types: torch.Tensor, frames: Any) -> None:
        self._potential = potential
        self._types = types
        self._frames = np.concatenate(frames)
        self.bead_types = types.numpy()
        self.trajectory_lengths = np.array([len(one) for one in frames], dtype=np.int64)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self._frames)

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self._types)

    def read(self, start: int, stop: int) -> FrameBlock:
        """Return frames with their forces, computed in double precision."""
        pos = self._frames[start:stop]
        forces = self._potential.chains(self._types, torch.from_numpy(pos).double()).forces
        return FrameBlock(
            coordinates=pos,
            forces={FORCE_MAP: forces.float().numpy()},
            valid=np.ones(len(pos), dtype=bool),
        )
