"""What a sampler is: a model that draws structures of a chain from its sequence, without dynamics.

A sampler gives an :class:`~cgbench.evaluate.Ensemble` without time order, so that it is scored by
the same metrics as simulations; kinetic metrics read ``n/a``.
"""

from typing import Any, Literal, Protocol

import pydantic
import torch
from torch import Tensor

from cgbench.config import Frozen
from cgbench.evaluate import Ensemble
from cgbench.models import TrainedOn
from cgbench.nemo.features import Profile


class TrainedOnStructures(Frozen):
    """A set of single structures that a sampler was trained on.

    Attributes:
        split_fingerprint: ``sha256:…`` of the structures' split.
        part: Part of the split.
        level: Level of the classification at which test domains are new; None for none.
        n_domains: Structures of the part.
    """

    split_fingerprint: str
    part: str = "train"
    level: str | None = None
    n_domains: int = pydantic.Field(ge=1)


class SamplerSpec(Frozen):
    """What a sampler says of itself; stored in ``sampler.pt`` and carried by every result.

    Attributes:
        name: Name, as ``recurrent/chignolin``.
        version: Version of these weights.
        bead_vocabulary: Numbering of the bead types.
        trained_on: Training data, system by system.
        structures: Single structures that were trained on, or None.
        temperature: Temperature in K of the data that were trained on; None where they have none.
        n_steps: Unrolled steps of a simulator; None for samplers without one.
        licence: Licence of the weights (SPDX identifier), None if not stated.
        description: One paragraph.
        seeds: Random seeds of the training.
        training_cost_s: Wall time of the training in seconds.
        n_parameters: Number of weights.
    """

    name: str = pydantic.Field(min_length=1, max_length=200)
    version: str = pydantic.Field(default="1", min_length=1, max_length=50)
    bead_vocabulary: Literal["majewski-2023"] = "majewski-2023"
    trained_on: tuple[TrainedOn, ...] = ()
    structures: TrainedOnStructures | None = None
    temperature: float | None = pydantic.Field(default=None, gt=0, allow_inf_nan=False)
    n_steps: int | None = pydantic.Field(default=None, ge=1)
    licence: str | None = None
    description: str = pydantic.Field(default="", max_length=20_000)
    seeds: tuple[int, ...] = ()
    training_cost_s: float | None = pydantic.Field(default=None, ge=0, allow_inf_nan=False)
    n_parameters: int | None = pydantic.Field(default=None, ge=0)


class Sampler(Protocol):
    """Anything that draws structures of a system."""

    @property
    def spec(self) -> SamplerSpec:
        """What the sampler says of itself."""

    def sample(self, system: str, n: int, *, temperature: float | None, seed: int) -> Ensemble:
        """Draw structures.

        The same arguments give the same structures.

        Args:
            system: Registry key of a system or variant.
            n: Number of structures.
            temperature: In K; None for that of the training data.
            seed: Seed of the draws.

        Returns:
            Samples without time order: ``frame_interval`` is None.
        """


class SamplerNetwork(Protocol):
    """The network of a ``sampler.pt``: a ``torch.nn.Module`` that draws from a sequence.

    Attributes:
        kind: What the file calls it.
        settings: Shape of the network; its JSON is in the file.
    """

    kind: Any

    @property
    def settings(self) -> Frozen:
        """Shape of the network."""

    def draw(
        self,
        sequence: str,
        n: int,
        *,
        profile: Profile | None,
        temperature: float | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Return structures (n, N, 3) in Å of a chain of N residues.

        Args:
            sequence: One letter a residue.
            n: Number of structures.
            profile: Frequencies (N, 20) of amino acids in related sequences, in the order of
                ``AMINO_ACIDS``; None where there are none.
            temperature: In K; None for that of the training data.
            generator: All randomness comes from it.

        Raises:
            ValidationError: The sequence is too short or not of the vocabulary, or the network
                needs a profile and has none.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""
