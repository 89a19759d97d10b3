"""The largest time step at which a potential keeps its chains whole."""

from collections.abc import Sequence
from typing import Final

import torch

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.models import Potential
from cgbench.progress import Progress, silent
from cgbench.simulation.dynamics import intact
from cgbench.simulation.engines import choose_engine
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.potentials import ChainPotential, device_of
from cgbench.simulation.streams import ReplicaStreams
from cgbench.simulation.system import SystemInput

#: Time steps that are tried, in ps.
TIMESTEPS: Final[tuple[float, ...]] = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.010, 0.015)


def largest_stable_step(
    potential: Potential | ChainPotential,
    system: SystemInput,
    protocol: registry.Protocol,
    *,
    seed: int,
    length: float = 4.0,
    timesteps: Sequence[float] = TIMESTEPS,
    n_replicas: int = 8,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> float | None:
    """Return the largest time step in ps at which all replicas live, or None if there is none.

    Time steps are tried from the smallest; the first at which a replica fails ends the search, so
    a step that survives by luck above an unstable one does not count.

    Args:
        potential: The potential.
        system: The chain and its start frames.
        protocol: Its friction, temperature, mass and output interval (for the bond check) are used.
        seed: Seed of the replicas' streams.
        length: How long every replica must live, in ps.
        timesteps: Time steps to try, in ps.
        n_replicas: Number of replicas, from the first start frames.
        dtype: Precision of the dynamics.
        progress: Called for each time step.

    Raises:
        UsageError: A time step is longer than the output interval or the length.
    """
    if not timesteps or max(timesteps) > min(length, protocol.output_interval):
        raise UsageError(
            "largest stable step: time steps must be shorter than the output interval",
            expected=f"up to {min(length, protocol.output_interval)} ps",
            found=list(timesteps),
        )
    device = device_of(potential)
    engine = choose_engine(potential, system.bead_types, dtype, n_replicas=n_replicas)
    replicas = range(n_replicas)
    starts = system.starts.to(device=device, dtype=dtype)
    starts = starts[torch.arange(n_replicas, device=device) % len(starts)]
    bonds = registry.constants()
    largest = None
    for done, timestep in enumerate(sorted(timesteps)):
        progress(f"time step of {system.key}", done, len(timesteps))
        dynamics = engine.dynamics(
            LangevinSettings(timestep, protocol.friction, protocol.temperature, protocol.bead_mass),
            ReplicaStreams(seed, replicas, system.n_beads, dtype=dtype, device=device),
            starts,
        )
        steps_per_check = max(1, round(protocol.output_interval / timestep))
        while dynamics.step * timestep < length and bool(dynamics.alive.all()):
            dynamics.advance(steps_per_check)
            whole = intact(dynamics.state.positions, bonds.bond_minimum, bonds.bond_maximum)
            dynamics.fail(~whole)
        if not bool(dynamics.alive.all()):
            break
        largest = timestep
    progress(f"time step of {system.key}", len(timesteps), len(timesteps))
    return largest
