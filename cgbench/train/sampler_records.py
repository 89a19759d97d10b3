"""How the training of a sampler ended."""

import pydantic

from cgbench.config import Frozen


class SamplerOutcome(Frozen):
    """What a finished run of a sampler says of itself (``training.json``).

    Attributes:
        fingerprint: Of configuration and data.
        steps: Training steps, or epochs where the sampler is trained in epochs.
        best_step: The one whose weights were kept.
        validation_loss: What chose it, on the validation part.
        validation_unit: What that is, with its unit.
        terms: Parts of the loss at that step, by name.
        floor: The same parts for training frames in place of samples: what a perfect sampler of
            the training data would have; empty where that has no meaning.
        seconds: Wall time.
        n_parameters: Number of weights.
        systems: Validation loss by system.
    """

    fingerprint: str
    steps: int
    best_step: int
    validation_loss: float
    validation_unit: str
    terms: dict[str, float] = pydantic.Field(default_factory=dict)
    floor: dict[str, float] = pydantic.Field(default_factory=dict)
    seconds: float
    n_parameters: int
    systems: dict[str, float] = pydantic.Field(default_factory=dict)
