"""What a run of a simulation is made from, and where its files lie."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from cgbench import config, registry
from cgbench.models import Potential
from cgbench.simulation.checkpoint import RunRecord, SimulationOutcome
from cgbench.simulation.engines import Engine
from cgbench.simulation.potentials import ChainPotential
from cgbench.simulation.system import SystemInput


@dataclass(frozen=True)
class Plan:
    """Everything that a run is made from; the arguments are those of ``simulate``."""

    potential: Potential | ChainPotential
    system: SystemInput
    protocol: registry.Protocol
    seed: int
    out: Path
    dtype: torch.dtype
    replicas: tuple[int, ...]
    model_hash: str
    engine: Engine

    @cached_property
    def inputs(self) -> dict[str, str | int | list[int]]:
        """What determines the trajectories."""
        return {
            "system": self.system.fingerprint,
            "protocol": config.fingerprint(self.protocol),
            "model": self.model_hash,
            "seed": self.seed,
            "dtype": str(self.dtype),
            "replicas": list(self.replicas),
            "engine": self.engine.name,
        }

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:`` over the inputs."""
        return config.fingerprint(self.inputs)

    @property
    def record_path(self) -> Path:
        """Where the record of the run lies, beside its trajectories."""
        return self.out.with_name(f"{self.out.stem}.{self.system.key}.run.json")

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint lies until the run is finished."""
        return self.out.with_name(f"{self.out.stem}.{self.system.key}.checkpoint.npz")

    def record(self, outcome: SimulationOutcome | None) -> RunRecord:
        """Return the record of the run, unfinished where there is no outcome."""
        return RunRecord(fingerprint=self.fingerprint, inputs=self.inputs, outcome=outcome)

    @property
    def n_frames(self) -> int:
        """Frames of each replica."""
        return self.protocol.n_frames(self.system.key)
