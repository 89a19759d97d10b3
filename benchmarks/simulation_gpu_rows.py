"""What ``benchmarks/simulation_gpu.py`` writes."""

import pydantic
from simulation_cases import CASES

from cgbench import provenance
from cgbench.config import Frozen

#: Replicas of the curve; the peer is measured at the first.
REPLICAS = (32, 128, 512, 2048, 8192)
#: Frames of a batch and beads of a frame.
BATCHES = {"chignolin": (256, 10), "lambda": (64, 80)}


class SimulationRow(Frozen):
    """Steps a second of all replicas together; ``floor_ratio`` is our time over the floor's.

    ``status`` is ``ok``, ``not yet run``, or why there are no figures.
    """

    case: str
    n_beads: int
    n_replicas: int
    status: str
    engine: str | None = None
    ours: float | None = None
    replica_steps: float | None = None
    peer: dict[str, float] = pydantic.Field(default_factory=dict)
    peer_failed: dict[str, str] = pydantic.Field(default_factory=dict)
    ratio: float | None = None
    force_difference: float | None = None
    floor_ratio: float | None = None
    peak_megabytes: float | None = None


class TrainingRow(Frozen):
    """Optimiser steps a second of one of our ways and of the peer."""

    case: str
    frames: int
    n_beads: int
    path: str
    status: str
    ours: float | None = None
    peer: float | None = None
    ratio: float | None = None


class Results(Frozen):
    """What ``simulation_gpu.json`` holds; ``device`` is None where nothing was measured."""

    device: str | None
    triton: str | None
    matrix_gigaflops: float | None
    simulations: tuple[SimulationRow, ...]
    training: tuple[TrainingRow, ...]
    peer_versions: dict[str, str]
    provenance: provenance.Provenance


def not_run() -> Results:
    """Return the rows that a run would have."""
    beads = dict(zip(CASES, (10, 56, 80), strict=True))
    return Results(
        device=None,
        triton=None,
        matrix_gigaflops=None,
        simulations=tuple(
            SimulationRow(case=name, n_beads=n_beads, n_replicas=n, status="not yet run")
            for name, n_beads in beads.items()
            for n in REPLICAS
        ),
        training=tuple(
            TrainingRow(case=name, frames=f, n_beads=n, path=path, status="not yet run")
            for name, (f, n) in BATCHES.items()
            for path in ("torch", "torch tables", "compiled")
        ),
        peer_versions={},
        provenance=provenance.collect(),
    )
