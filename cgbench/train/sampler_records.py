"""How the training of a sampler ended."""

from collections.abc import Sequence
from typing import Self

import pydantic

from cgbench.config import Frozen


class SamplerOutcome(Frozen):
    """What a finished run of a sampler says of itself (``training.json``).

    Attributes:
        fingerprint: Of configuration and data.
        steps: Training steps, or epochs where the sampler is trained in epochs.
        best_step: The one whose weights were kept; the last one without a validation loss.
        validation_loss: What chose it, on the validation part; None where there is none.
        validation_unit: What that is, with its unit.
        validation_reason: Why there is no validation loss; None where there is one.
        unvalidated: Systems that were trained on and have no validation part. They are in no mean,
            and are not validated on what was trained on.
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
    validation_loss: float | None
    validation_unit: str
    validation_reason: str | None = None
    unvalidated: tuple[str, ...] = ()
    terms: dict[str, float] = pydantic.Field(default_factory=dict)
    floor: dict[str, float] = pydantic.Field(default_factory=dict)
    seconds: float
    n_parameters: int
    systems: dict[str, float] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _told(self) -> Self:
        if (self.validation_loss is None) == (self.validation_reason is None):
            raise ValueError("a validation loss, or the reason why there is none")
        return self


def no_validation(names: Sequence[str]) -> str:
    """Return why a run has no validation loss.

    Args:
        names: What was trained on: systems of stores; empty for domains.
    """
    if not names:
        return "the split of structures has no validation domain; the last weights were kept"
    return (
        f"no validation part in the split of {', '.join(names[:12])}"
        f"{' and others' if len(names) > 12 else ''}; the last weights were kept"
    )
