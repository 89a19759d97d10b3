"""Langevin dynamics of batched replicas by the BAOAB splitting.

One step of length Δt, from B. Leimkuhler and C. Matthews, "Robust and efficient configurational
molecular sampling via Langevin dynamics", J. Chem. Phys. 138, 174102 (2013), whose exact partial
flows B (kick), A (drift) and O (friction and noise) are joined in the order B A O A B:

    B  v ← v + (Δt/2) F(x)/m
    A  x ← x + (Δt/2) v
    O  v ← e^(−γΔt) v + √(1 − e^(−2γΔt)) √(k_B T/m) ξ
    A  x ← x + (Δt/2) v
    B  v ← v + (Δt/2) F(x)/m

with one force evaluation, before the last B. O is the exact solution of the Ornstein-Uhlenbeck
process. For a harmonic well of frequency ω the end-of-step ⟨x²⟩ is exact for every ωΔt < 2, the
end-of-step kinetic temperature is T(1 − (ωΔt)²/4), and after O it is T.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.units import BOLTZMANN, KCAL_PER_MOL, thermal_energy


@dataclass(frozen=True)
class LangevinSettings:
    """Constants of the dynamics.

    Args:
        timestep: Δt in ps.
        friction: γ in 1/ps; 0 turns noise and friction off (velocity Verlet).
        temperature: T in K.
        mass: Mass of every bead in amu.

    Raises:
        ValidationError: A constant is not positive (friction and temperature may be zero) or not
            finite.
    """

    timestep: float
    friction: float
    temperature: float
    mass: float

    def __post_init__(self) -> None:
        for name, value, zero_allowed in (
            ("timestep", self.timestep, False),
            ("friction", self.friction, True),
            ("temperature", self.temperature, True),
            ("mass", self.mass, False),
        ):
            if not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
                raise ValidationError(
                    f"Langevin dynamics: {name} is out of range",
                    expected="finite and not negative" if zero_allowed else "finite and positive",
                    found=value,
                )


@dataclass
class ReplicaState:
    """Positions (Å), velocities (Å/ps) and forces (kcal/mol/Å) of all replicas, (R, N, 3) each.

    The forces belong to the positions. The integrator changes all three in place.
    """

    positions: torch.Tensor
    velocities: torch.Tensor
    forces: torch.Tensor


class Baoab:
    """The BAOAB integrator for tensors of one shape.

    Products and sums are rounded separately, each element by itself. A fused multiply-add rounds
    once instead of twice, and whether the elements left over at the end of a vectorised loop get
    one is up to the build of torch; with it a replica's path could depend on its place in the
    batch. So the integrator is bitwise independent of the batch; whether a whole run is depends
    on the potential's matrix products, which are in compiled loops.

    Args:
        settings: Constants of the dynamics.
        like: A tensor (R, N, 3) of the shape, dtype and device to work on.
    """

    def __init__(self, settings: LangevinSettings, like: torch.Tensor) -> None:
        self.settings = settings
        self._kick = 0.5 * settings.timestep * KCAL_PER_MOL / settings.mass
        self._drift = 0.5 * settings.timestep
        self._decay = math.exp(-settings.friction * settings.timestep)
        # 1 − e^(−2γΔt), without the cancellation at small γΔt.
        fluctuation = -math.expm1(-2.0 * settings.friction * settings.timestep)
        self._fluctuation = math.sqrt(fluctuation)
        self._noise: float | torch.Tensor = self._fluctuation * thermal_speed(
            settings.temperature, settings.mass
        )
        self._scratch = torch.empty_like(like)

    def set_temperatures(self, temperatures: NDArray[np.float64]) -> None:
        """Give each replica a temperature of its own.

        Args:
            temperatures: (R,) in K.
        """
        noise = [
            self._fluctuation * thermal_speed(temperature, self.settings.mass)
            for temperature in temperatures.tolist()
        ]
        self._noise = torch.tensor(noise, dtype=torch.float64).to(self._scratch)[:, None, None]

    @property
    def constants(self) -> tuple[float, float, float]:
        """Velocity by force of half a step, half the time step in ps, and what friction leaves."""
        return self._kick, self._drift, self._decay

    @property
    def spread(self) -> torch.Tensor:
        """Spread (R,) of the noise in the velocities of each replica, in Å/ps."""
        spread = torch.empty_like(self._scratch[:, 0, 0])
        if isinstance(self._noise, torch.Tensor):
            return spread.copy_(self._noise[:, 0, 0])
        return spread.fill_(self._noise)

    def before_forces(self, state: ReplicaState, noise: torch.Tensor) -> None:
        """Do B, A, O and A: positions are those of the end of the step, forces are still old.

        Args:
            state: Changed in place.
            noise: Standard normals (R, N, 3).
        """
        torch.mul(state.forces, self._kick, out=self._scratch)
        state.velocities.add_(self._scratch)
        torch.mul(state.velocities, self._drift, out=self._scratch)
        state.positions.add_(self._scratch)
        torch.mul(noise, self._noise, out=self._scratch)
        state.velocities.mul_(self._decay).add_(self._scratch)
        torch.mul(state.velocities, self._drift, out=self._scratch)
        state.positions.add_(self._scratch)

    def after_forces(self, state: ReplicaState) -> None:
        """Do the last B with the forces at the new positions."""
        torch.mul(state.forces, self._kick, out=self._scratch)
        state.velocities.add_(self._scratch)

    def step(
        self,
        state: ReplicaState,
        noise: torch.Tensor,
        forces: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        """Do one whole step in place, with one force evaluation.

        Args:
            state: Changed in place.
            noise: Standard normals (R, N, 3).
            forces: Positions (R, N, 3) in Å to forces of the same shape in kcal/mol/Å.
        """
        self.before_forces(state, noise)
        state.forces.copy_(forces(state.positions))
        self.after_forces(state)


def thermal_speed(temperature: float, mass: float) -> float:
    """Return √(k_B T/m), the spread of each velocity component, in Å/ps."""
    return math.sqrt(thermal_energy(temperature) * KCAL_PER_MOL / mass)


def kinetic_temperature(velocities: torch.Tensor, mass: float) -> torch.Tensor:
    """Return the kinetic temperature of each replica, m⟨v²⟩/k_B over all 3N components.

    Args:
        velocities: (R, N, 3) in Å/ps.
        mass: Mass of every bead in amu.

    Returns:
        Temperatures (R,) in K.
    """
    return velocities.square().mean(dim=(1, 2)) * (mass / (KCAL_PER_MOL * BOLTZMANN))
