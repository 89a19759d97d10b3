"""How long work tells its caller how far it is, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """Called with the name of a task, how much of it is done, and how much there is."""

    def __call__(self, task: str, done: float, total: float) -> None:
        """Report progress; called at most a few times a second."""


def silent(task: str, done: float, total: float) -> None:
    """Listen to nothing: the default of every library function."""
