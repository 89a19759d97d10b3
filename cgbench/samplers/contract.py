"""What a sampler is: a model that draws structures of a chain from its sequence, without dynamics.

A sampler gives an :class:`~cgbench.evaluate.Ensemble` without time order, so that it is scored by
the same metrics as simulations; kinetic metrics read ``n/a``.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Protocol, Self

import pydantic
import torch
from torch import Tensor

from cgbench.config import Frozen
from cgbench.config import fingerprint as content_fingerprint
from cgbench.evaluate import Ensemble
from cgbench.models import TrainedOn
from cgbench.nemo.features import LONGEST, Profile

_Sequence = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z]+$", max_length=LONGEST)]


def sequences_hash(sequences: Sequence[str]) -> str:
    """Return ``sha256:…`` of a set of sequences, whatever their order and number of copies."""
    return content_fingerprint(sorted(set(sequences)))


class TrainedOnStructures(Frozen):
    """A set of single structures that a sampler was trained on.

    Attributes:
        split_fingerprint: ``sha256:…`` of the structures' split.
        part: Part of the split.
        level: Level of the classification at which test domains are new; None for none.
        n_domains: Structures of the part.
        sequences: Every sequence that was trained on or validated with, once, in alphabetical
            order: what evaluated proteins are compared with. In the file alone, not in results;
            empty where they are not stated.
        sequences_sha256: Names them; None where they are not stated.
    """

    split_fingerprint: str
    part: str = "train"
    level: str | None = None
    n_domains: int = pydantic.Field(ge=1)
    sequences: tuple[_Sequence, ...] = ()
    sequences_sha256: str | None = None

    @pydantic.model_validator(mode="after")
    def _named(self) -> Self:
        if not self.sequences:
            return self
        if list(self.sequences) != sorted(set(self.sequences)):
            raise ValueError("sequences: each once, in alphabetical order")
        if self.sequences_sha256 != sequences_hash(self.sequences):
            raise ValueError("sequences_sha256: not that of the sequences")
        return self

    @classmethod
    def of(cls, split_fingerprint: str, sequences: Iterable[str], n_domains: int) -> Self:
        """Return the record of structures with these sequences, trained on or validated with."""
        known = tuple(sorted(set(sequences)))
        return cls(
            split_fingerprint=split_fingerprint,
            n_domains=n_domains,
            sequences=known,
            sequences_sha256=sequences_hash(known),
        )


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

    def recorded(self) -> dict[str, Any]:
        """Return what results carry: everything but the sequences themselves, as plain data."""
        return self.model_dump(mode="json", exclude={"structures": {"sequences"}})


class Sampler(Protocol):
    """Anything that draws structures of a system."""

    @property
    def spec(self) -> SamplerSpec:
        """What the sampler says of itself."""

    def sample(self, system: str, n: int, *, temperature: float | None, seed: int) -> Ensemble:
        """Draw structures.

        The same arguments give the same structures, and the first ones are the same however many
        are drawn. Nothing global is used or changed, as the random generators of NumPy and torch.

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
