"""Steps of Langevin dynamics of a block of replicas as one compiled function, forces included.

The steps are those of ``cgbench.simulation.dynamics``, bitwise: products and sums of the integrator
are rounded one by one, as tensors do it. The forces alone are the same function with no step asked
for, so that both are the same machine code.
"""

from typing import Any, NamedTuple

import numpy as np

from cgbench.kernels.compiled import compiled_as_written
from cgbench.kernels.network import network_block
from cgbench.kernels.prior import prior_block


class Replicas(NamedTuple):
    """State of R replicas, changed in place; positions, velocities and forces of one precision.

    Attributes:
        positions: (R, N, 3) in Å.
        velocities: (R, N, 3) in Å/ps.
        forces: (R, N, 3) in kcal/mol/Å.
        alive: (R,) bool; the others are held still.
        spread: (R,) of the noise in the velocities, in Å/ps.
        network_energy: (R,) float64 in kcal/mol.
        prior_energy: (R,) float64 in kcal/mol.
    """

    positions: Any
    velocities: Any
    forces: Any
    alive: Any
    spread: Any
    network_energy: Any
    prior_energy: Any


def part_of(replicas: Replicas, part: slice) -> Replicas:
    """Return some of the replicas, in the same memory."""
    return Replicas(*(array[part] for array in replicas))


@compiled_as_written
def _finite(values: Any) -> bool:
    for i in range(values.shape[0]):
        for c in range(3):
            if not np.isfinite(values[i, c]):
                return False
    return True


@compiled_as_written
def _before_forces(replicas: Any, constants: Any, normals: Any, previous: Any) -> None:
    """Do B, A, O and A; what then is not finite goes back and is held still."""
    kick, drift, decay = constants[0], constants[1], constants[2]
    for r in range(replicas.alive.shape[0]):
        if not replicas.alive[r]:
            continue
        x, v, f = replicas.positions[r], replicas.velocities[r], replicas.forces[r]
        noise, spread = normals[r], replicas.spread[r]
        for i in range(x.shape[0]):
            for c in range(3):
                previous[i, c] = x[i, c]
        for i in range(x.shape[0]):
            for c in range(3):
                speed = v[i, c] + f[i, c] * kick
                place = x[i, c] + speed * drift
                speed = speed * decay + noise[i, c] * spread
                v[i, c] = speed
                x[i, c] = place + speed * drift
        if not _finite(x):
            replicas.alive[r] = False
            for i in range(x.shape[0]):
                for c in range(3):
                    x[i, c] = previous[i, c]
                    v[i, c] = 0


@compiled_as_written
def _after_forces(replicas: Any, constants: Any) -> None:
    """Do the last B; replicas whose forces are not finite are held still."""
    kick = constants[0]
    for r in range(replicas.alive.shape[0]):
        v, f = replicas.velocities[r], replicas.forces[r]
        if replicas.alive[r] and _finite(f):
            for i in range(v.shape[0]):
                for c in range(3):
                    v[i, c] += f[i, c] * kick
        else:
            replicas.alive[r] = False
            for i in range(v.shape[0]):
                for c in range(3):
                    v[i, c] = 0
                    f[i, c] = 0


@compiled_as_written
def advance_block(
    n_steps: int,
    replicas: Any,
    constants: Any,
    noise: Any,
    place: Any,
    network: Any,
    prior: Any,
    rational: Any,
    work: Any,
    scratch: Any,
) -> None:
    """Do steps of a block of replicas, or only fill its energies and forces.

    A replica with a position that is not a number has energies and forces that are not.

    Args:
        n_steps: Steps to do; 0 for the forces alone.
        replicas: :class:`Replicas` of the block.
        constants: (3,) velocity by force of half a step, half the time step in ps, and what
            friction leaves of a velocity.
        noise: (n, n_replicas, N, 3) standard normals of steps, of more replicas than the block's.
        place: The first step in ``noise``, and the first replica of the block.
        network: ``NetworkArrays``, or None.
        prior: ``PriorTables``, or None.
        rational: Constants of :func:`cgbench.kernels.activation.rational`.
        work: ``Workspace`` for at least so many replicas, or None without a network.
        scratch: (20, N) of the same precision.
    """
    positions, forces = replicas.positions, replicas.forces
    n_replicas, n_beads, _ = positions.shape
    within, first = place
    previous = scratch.reshape(-1)[: 3 * n_beads].reshape(n_beads, 3)
    for step in range(max(n_steps, 1)):
        if n_steps > 0:
            normals = noise[within + step, first : first + n_replicas]
            _before_forces(replicas, constants, normals, previous)
        forces[:] = 0
        if network is not None:
            rows = forces.reshape(n_replicas * n_beads, 3)
            network_block(positions, network, rational, work, replicas.network_energy, rows)
        if prior is not None:
            prior_block(positions, prior, scratch, replicas.prior_energy, forces)
        for r in range(n_replicas):
            if not _finite(positions[r]):
                forces[r] = np.nan
                replicas.network_energy[r] = np.nan
                replicas.prior_energy[r] = np.nan
        if n_steps > 0:
            _after_forces(replicas, constants)
