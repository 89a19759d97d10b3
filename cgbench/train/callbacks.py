"""What happens beside the optimisation: progress, checkpoints, a limit on the time, and Ctrl-C."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from cgbench.progress import Progress


class ReportProgress(lightning.Callback):
    """Tells a Progress how many batches of how many are done, with the last validation loss."""

    def __init__(self, progress: Progress, maximum_minutes: float | None) -> None:
        self.progress = progress
        self.limit = None if maximum_minutes is None else maximum_minutes * 60.0
        self.started = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Report, as a share of the epochs or of the time limit, whichever ends first."""
        if batch_index % 5:
            return
        batches = trainer.num_training_batches
        done = (trainer.current_epoch + (batch_index + 1) / batches) / trainer.max_epochs
        if self.limit is not None:
            done = max(done, (time.monotonic() - self.started) / self.limit)
        loss = trainer.callback_metrics.get("val_loss")
        text = f"epoch {trainer.current_epoch + 1}"
        if loss is not None:
            text += f", validation loss {float(loss):.3f}"
        self.progress(f"train ({text})", min(done, 1.0), 1.0)


class WithinEpochs(ModelCheckpoint):
    """Checkpoints at intervals of time, for epochs that take hours."""

    def on_train_batch_end(self, trainer: Any, *args: Any, **options: Any) -> None:
        """Save if it is time to, but not after an epoch's last batch.

        Validation comes next, which a run resumed there would pass over, and then the epoch's own
        checkpoint.
        """
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, *args, **options)


class TimeLimit(lightning.Callback):
    """Stops after the epoch in which a run's time, over all its resumptions, is used up."""

    def __init__(self, minutes: float) -> None:
        self.limit = minutes * 60.0
        self.used = 0.0
        self.mark = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Start the clock."""
        self.mark = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Count the time, for a checkpoint that is written within the epoch."""
        self._count()

    def _count(self) -> None:
        now = time.monotonic()
        self.used += now - self.mark
        self.mark = now

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Stop the trainer when the limit is reached."""
        self._count()
        # Processes end together: their clocks differ, and one that went on would wait for ever.
        over = self.used >= self.limit
        if trainer.strategy.reduce_boolean_decision(over, all=False):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the time used so far, so that a resumed run does not start over."""
        return {"used": self.used}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the time used before the interruption."""
        self.used = float(state_dict["used"])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C come out of a Lightning trainer as what it is.

    Lightning turns it into ``SystemExit`` with code 1 and ignores Ctrl-C from then on.

    Raises:
        KeyboardInterrupt: The training was interrupted.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
