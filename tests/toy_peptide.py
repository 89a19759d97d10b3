"""A peptide of four residues and settings that simulate it in a moment."""

from pathlib import Path
from typing import Any

from cgbench.generate.campaign import Source
from cgbench.generate.records import Machine
from cgbench.generate.settings import DynamicsSettings, GenerationSettings, SystemSettings
from cgbench.generate.structures import from_sequence

SEQUENCE = "AGSA"
ONE_THREAD = Machine(platform="CPU", threads=1)


def settings(**changes: Any) -> GenerationSettings:
    values: dict[str, Any] = {
        "name": "peptide",
        "sequence": SEQUENCE,
        "dynamics": DynamicsSettings(frame_interval=0.02),
        "trajectory_length": 0.1,
        "trajectories_per_round": 4,
        "n_clusters": 5,
        "coil_length": 0.04,
        "seed": 3,
    }
    return GenerationSettings(**(values | changes))


def source(*, native: bool = True) -> Source:
    chain = from_sequence(SEQUENCE, SystemSettings(), seed=1)
    return Source(chain, chain.positions if native else None)


def frames(out: Path) -> dict[str, bytes]:
    """The contents of all finished trajectories."""
    return {path.name: path.read_bytes() for path in sorted((out / "all_atom").glob("*.npz"))}
