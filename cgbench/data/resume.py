"""Where a loader stands within an epoch, and what makes two loaders the same."""

from typing import Any

from cgbench.errors import UsageError, ValidationError


class Position:
    """Epoch and batch of a loader: what is being given out, and where the next iteration begins.

    Args:
        epoch: The first epoch.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = 0
        self.batch = 0
        self._next = 0
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; another than before begins at its first batch.

        Raises:
            UsageError: The number is negative.
        """
        if epoch < 0:
            raise UsageError("loader: epoch", expected="at least 0", found=epoch)
        if epoch != self.epoch:
            self.epoch = epoch
            self.batch = self._next = 0

    def begin(self) -> int:
        """Return the batch that an iteration begins with: the first but once after ``load``."""
        self.batch, self._next = self._next, 0
        return self.batch

    def state(self, identity: dict[str, Any], batches: int) -> dict[str, Any]:
        """Return plain numbers and words from which ``load`` finds the place again."""
        return {**identity, "batches": batches, "epoch": self.epoch, "batch": self.batch}

    def load(self, state: dict[str, Any], identity: dict[str, Any], batches: int) -> None:
        """Go to the place that a state says.

        Between epochs it may have come from a loader with, say, another number of ranks.

        Raises:
            ValidationError: Within an epoch, the state belongs to another order of frames.
        """
        epoch, batch, whole = (int(state[name]) for name in ("epoch", "batch", "batches"))
        if batch in (0, whole):
            batch = batches if batch else 0
        else:
            for name, expected in {**identity, "batches": batches}.items():
                if state.get(name) != expected:
                    raise ValidationError(
                        f"loader: the state belongs to another order of frames: {name}",
                        expected=expected,
                        found=state.get(name),
                        fix="resume with the loader's old settings, or from the end of an epoch",
                    )
        self.set_epoch(epoch)
        self.batch = self._next = batch
