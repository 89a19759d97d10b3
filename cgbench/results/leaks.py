"""What a result says of data that a model was both trained and tested on."""

from typing import Final, Literal, get_args

import pydantic

from cgbench.config import Frozen
from cgbench.results.fields import Name, Text

#: What a model may have been trained on to be tested on a protein.
Track = Literal["protein-specific", "multi-protein", "leave-one-out", "mutants", "sampler"]
TRACKS: Final[tuple[str, ...]] = get_args(Track)


class Leak(Frozen):
    """The check for data on both sides of one system's test.

    Attributes:
        status: ``none``; ``marked``: there are overlaps, or what could be one, and the result
            stands with them beside it; ``refused``: the same where the track was asked for by name,
            so that there is no result; ``unchecked``: it is not stated what the model was trained
            on.
        overlaps: What was found, one sentence each.
        reason: Why the check could not be made; None where it was.
        checked: What was compared, by what it is: training data, prior, force map.
    """

    status: Literal["none", "marked", "refused", "unchecked"]
    overlaps: tuple[Text, ...] = pydantic.Field(default=(), max_length=100)
    reason: Text | None = None
    checked: dict[Name, Text] = pydantic.Field(default_factory=dict, max_length=1000)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Leak":
        if (self.status in ("marked", "refused")) != bool(self.overlaps):
            raise ValueError("overlaps are named where there are some, and only there")
        if (self.status == "unchecked") != (self.reason is not None):
            raise ValueError("what is unchecked says why, and only it")
        return self

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a reader of the result must know; empty where nothing was found."""
        if self.status == "unchecked":
            return (f"not checked for data leaks: {self.reason}",)
        return tuple(f"data leak: {overlap}" for overlap in self.overlaps)
