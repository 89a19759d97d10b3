"""The model: a sequence network, an energy, and the simulator between them."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from cgbench.errors import UsageError, ValidationError
from cgbench.nemo.energy import Energy
from cgbench.nemo.features import Profile, encode
from cgbench.nemo.internal import InternalCoordinates
from cgbench.nemo.sequence import Conditions, SequenceNetwork
from cgbench.nemo.settings import Integrator, NemoSettings
from cgbench.nemo.simulator import Dynamics, draw_noise, simulate

__all__ = ["Nemo", "NemoSettings"]


class Nemo(nn.Module):
    """A sampler of structures: initial internal coordinates, then unrolled Langevin dynamics.

    Args:
        settings: Its shape.
    """

    kind: ClassVar[str] = "nemo"

    def __init__(self, settings: NemoSettings) -> None:
        super().__init__()
        self.settings = settings
        self.sequence = SequenceNetwork(settings)
        self.energy = Energy(settings.energy)

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(one.numel() for one in self.parameters())

    def features(self, sequence: str, profile: Profile | None = None) -> Tensor:
        """Return the features of a chain (L, n_features), in the model's precision.

        Raises:
            ValidationError: The sequence cannot be used, or a profile is needed and missing.
        """
        if self.settings.features == "sequence":
            found = encode(sequence)
        elif profile is None:
            raise ValidationError(
                "NEMO: made for sequences with a profile",
                expected=f"a profile of {len(sequence)} residues",
                found="none",
                fix="give one with --profile, or take a model of the sequence alone",
            )
        else:
            found = encode(sequence, profile)
        return torch.from_numpy(found).to(self.sequence.embedding.weight)

    def conditions(self, sequence: str, profile: Profile | None = None) -> Conditions:
        """Return what a sequence decides.

        Raises:
            ValidationError: The sequence cannot be used, or a profile is needed and missing.
        """
        found: Conditions = self.sequence(self.features(sequence, profile))
        return found

    def initial(
        self, conditions: Conditions, n: int, generator: torch.Generator
    ) -> InternalCoordinates:
        """Return initial structures of n chains: normal about the mean, by internal coordinate."""
        mean, spread = conditions.mean.flat(), conditions.spread.flat()
        noise = torch.randn((n, mean.shape[1]), generator=generator).to(mean)
        return InternalCoordinates.from_flat(mean + spread * noise)

    def dynamics(
        self,
        conditions: Conditions,
        *,
        integrator: Integrator | None = None,
        damping: float = 1.0,
        temperature: float | None = None,
    ) -> Dynamics:
        """Return the dynamics of a chain.

        Args:
            conditions: What its sequence decides.
            integrator: That of the settings if None.
            damping: γ of back-propagation.
            temperature: In K; None for that of the training data.

        Raises:
            UsageError: A temperature is asked for of a model that has none, or not above zero.
        """
        own = self.settings.temperature
        if temperature is not None and not temperature > 0.0:
            raise UsageError("NEMO: temperature", expected="above 0 K", found=temperature)
        if temperature is not None and own is None:
            raise UsageError(
                "NEMO: trained on structures that have no temperature",
                found=f"{temperature:g} K",
                fix="leave the temperature away",
            )
        simulator = self.settings.simulator
        return Dynamics(
            energy=lambda x: self.energy(x, conditions.weights),
            variance=conditions.variance,
            step_size=conditions.step_size,
            integrator=integrator or simulator.integrator,
            largest_drift=simulator.largest_drift,
            damping=damping,
            inverse_temperature=1.0 if temperature is None or own is None else own / temperature,
        )

    def simulated_by(self, conditions: Conditions) -> tuple[Tensor, ...]:
        """Return every tensor that a step is made of, for checkpoints of simulations."""
        steered = [*conditions.weights, *conditions.variance, conditions.step_size]
        return (*self.energy.parameters(), *steered)

    @torch.no_grad()
    def draw(
        self,
        sequence: str,
        n: int,
        *,
        profile: Profile | None = None,
        temperature: float | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """Return structures (n, L, 3) in Å of a chain of L residues.

        A chain that diverges is not a number; the others are not touched by it.

        Args:
            sequence: One letter a residue.
            n: Number of structures.
            profile: Frequencies of amino acids in related sequences; None where there are none.
            temperature: In K; None for that of the training data. The energy is scaled by it; the
                initial structures are those of the training data at any temperature.
            generator: All randomness comes from it.

        Raises:
            UsageError: The model has no temperature.
            ValidationError: The sequence cannot be used, or a profile is needed and missing.
        """
        conditions = self.conditions(sequence, profile)
        dynamics = self.dynamics(conditions, temperature=temperature)
        z = self.initial(conditions, n, generator)
        n_steps = self.settings.simulator.n_steps
        noise = draw_noise(n, len(sequence), n_steps, generator, z.lengths)
        return simulate(dynamics, z, noise).x
