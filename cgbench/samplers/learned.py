"""Samplers that are a trained network: sequence in, ensemble of Cα structures out."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.evaluate import Ensemble
from cgbench.evaluate.raw_ensemble import SAMPLE_BLOCKS
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.nemo.features import Profile
from cgbench.samplers.contract import SamplerSpec

#: Structures that are drawn together, which bounds memory.
BATCH: Final = 64


def blocks(coordinates: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return samples as blocks of neighbours, which are what is resampled for intervals."""
    return np.array_split(coordinates, min(SAMPLE_BLOCKS, len(coordinates)))


class LearnedSampler:
    """A network with what it says of itself.

    Args:
        network: A :class:`~cgbench.samplers.SamplerNetwork`.
        spec: What it says of itself.
        profiles: Profile (N, 20) of each system that has one, by registry key.
    """

    def __init__(
        self, network: Any, spec: SamplerSpec, profiles: dict[str, Profile] | None = None
    ) -> None:
        self.network = network
        self.spec = spec
        self.profiles = dict(profiles or {})

    def sample(self, system: str, n: int, *, temperature: float | None, seed: int) -> Ensemble:
        """Draw structures of a system; see :class:`~cgbench.samplers.Sampler`.

        Raises:
            UsageError: The system is unknown, or no structure is asked for.
            ValidationError: The network cannot take the sequence.
            SimulationError: No structure could be drawn that is finite.
        """
        sequence = sequence_of(system)
        coordinates = self.structures(
            sequence, n, profile=self.profiles.get(system), temperature=temperature, seed=seed
        )
        return Ensemble.from_arrays(
            system,
            blocks(coordinates),
            name=self.spec.name,
            notes=self.notes(temperature),
            n_beads=len(sequence),
        )

    def structures(
        self,
        sequence: str,
        n: int,
        *,
        profile: Profile | None = None,
        temperature: float | None = None,
        seed: int,
    ) -> NDArray[np.float32]:
        """Draw structures (n, N, 3) in Å of any sequence.

        They come in batches of ``BATCH`` with a random stream each, so that the first ones are the
        same however many are drawn, and an interrupted run can go on at a batch.

        Raises:
            UsageError: No structure is asked for.
            ValidationError: The network cannot take the sequence or gives the wrong shape.
            SimulationError: No structure is finite.
        """
        if n < 1:
            raise UsageError(f"{self.spec.name}: nothing to draw", expected="n ≥ 1", found=n)
        parts = []
        for batch, start in enumerate(range(0, n, BATCH)):
            generator = torch.Generator().manual_seed(_stream(seed, batch))
            # A whole batch is drawn always, so that its numbers do not depend on n.
            drawn = self.network.draw(
                sequence,
                BATCH,
                profile=profile,
                temperature=temperature,
                generator=generator,
            )
            if tuple(drawn.shape) != (BATCH, len(sequence), 3):
                raise ValidationError(
                    f"{self.spec.name}: drew structures of the wrong shape",
                    expected=(BATCH, len(sequence), 3),
                    found=tuple(drawn.shape),
                )
            parts.append(drawn.detach().float().cpu().numpy()[: n - start])
        coordinates = np.concatenate(parts)
        if not np.isfinite(coordinates).all(axis=(1, 2)).any():
            raise SimulationError(
                f"{self.spec.name}: no structure of {n} is finite",
                fix="the sampler diverges on this sequence: train it on, or take an earlier state",
            )
        return coordinates

    def notes(self, temperature: float | None) -> tuple[str, ...]:
        """Return what a reader of scores has to know of the temperature."""
        own = self.spec.temperature
        if temperature is None or own is None or abs(own - temperature) < 0.5:
            return ()
        return (f"Drawn for {temperature:g} K by a sampler that was trained on data of {own:g} K.",)


def _stream(seed: int, batch: int) -> int:
    """Return the seed of a batch's random stream."""
    return int(np.random.SeedSequence([seed, batch]).generate_state(1, np.uint64)[0] >> 1)
