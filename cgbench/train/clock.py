"""How long a run takes, over all of its resumptions: on the clock, and on processors."""

import time
from pathlib import Path
from typing import Any

import lightning

from cgbench import config
from cgbench.train.processes import total
from cgbench.train.records import RunState


class Clock:
    """Counts the time of a run from where earlier processes left it.

    Args:
        state: What the run folder says of the time before this process.
    """

    def __init__(self, state: RunState) -> None:
        self._before = state
        self._wall = time.monotonic()
        self._processor = time.process_time()

    def now(self, processor: float | None = None) -> RunState:
        """Return the state of the run with the time until now.

        Args:
            processor: Processor time in s since this clock was made, of all processes of the run;
                that of this process if None.
        """
        before = self._before
        spent = self.processor() if processor is None else processor
        return before.model_copy(
            update={
                "seconds": before.seconds + time.monotonic() - self._wall,
                "cpu_seconds": None if before.cpu_seconds is None else before.cpu_seconds + spent,
            }
        )

    def processor(self) -> float:
        """Return the processor time in s, all threads together, since this clock was made."""
        return time.process_time() - self._processor


class KeepTime(lightning.Callback):
    """Writes the time with every checkpoint, so that it outlives a process that is killed.

    Args:
        clock: The run's.
        path: ``run.json``.
    """

    def __init__(self, clock: Clock, path: Path) -> None:
        self.clock = clock
        self.path = path

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> None:
        """Write the time until now, of all processes: all of them save together."""
        state = self.clock.now(total(self.clock.processor()))
        if trainer.is_global_zero:
            config.write_model(self.path, state)
