"""Training data that a user states of a model which says nothing of them itself."""

from collections.abc import Sequence
from pathlib import Path

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.models import TrainedOn
from cgbench.pipeline.programs import AnyPotential
from cgbench.splits import read_split
from cgbench.store import find_split


def state_training(
    potential: AnyPotential, stated: Sequence[str], home: Path | None = None
) -> None:
    """Let a potential say what its user says that it was trained on.

    Default systems and the check for leaks then work as for models of ours; that it is the user's
    word is recorded with it.

    Args:
        potential: A model of another program, converted or adapted; its ``spec`` is replaced.
        stated: ``SYSTEM`` where the training frames are not known, or ``SYSTEM:SPLIT`` where they
            are the training part of a split that is at hand.
        home: Data home, of the splits.

    Raises:
        UsageError: A system or split is unknown or not at hand, or the model says itself what it
            was trained on.
    """
    if not stated:
        return
    spec = potential.spec
    if spec.trained_on:
        raise UsageError(
            f"--trained-on: {spec.name} says itself what it was trained on",
            found=", ".join(item.system for item in spec.trained_on),
            fix="leave --trained-on away",
        )
    given = tuple(_stated(text, home) for text in stated)
    systems = [item.system for item in given]
    if len(set(systems)) < len(systems):
        raise UsageError("--trained-on: a system twice", found=", ".join(systems))
    potential.spec = spec.model_copy(update={"trained_on": given})


def _stated(text: str, home: Path | None) -> TrainedOn:
    key, colon, split_id = text.partition(":")
    system = registry.system(key).key
    if not colon:
        return TrainedOn.without_split(system)
    split = read_split(find_split(system, split_id, home))
    return TrainedOn(
        system=system,
        split_id=split.id,
        split_fingerprint=split.fingerprint,
        store_fingerprint=split.store_fingerprint,
        stated=True,
    )
