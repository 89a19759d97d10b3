"""Progress of several files and of all of them together."""

import time
from typing import Final

from cgbench.progress import Progress

_INTERVAL_SECONDS: Final = 0.25
TOTAL: Final = "total"


class Meter:
    """Passes on how far files are, a few times a second.

    Args:
        progress: Who listens.
        total: Whether a task ``total`` sums up all files.
    """

    def __init__(self, progress: Progress, *, total: bool) -> None:
        self._progress = progress
        self._with_total = total
        self._files: dict[str, tuple[int, int]] = {}
        self._told: dict[str, float] = {}

    def expect(self, key: str, there: int, size: int) -> None:
        """Count a file beforehand, so that bytes of earlier runs do not make the rate of all."""
        self._files[key] = (there, size)

    def update(self, key: str, done: int, size: int, note: str = "") -> None:
        """Say how many bytes of a file are there."""
        self._files[key] = (done, size)
        if note:
            self._told.pop(key, None)
        self._tell(key, f"{key} ({note})" if note else key, done, size)
        if self._with_total:
            done = sum(done for done, _ in self._files.values())
            size = sum(size for _, size in self._files.values())
            self._tell(TOTAL, TOTAL, done, size)

    def note(self, key: str, note: str) -> None:
        """Say what holds a file up."""
        self.update(key, *self._files.get(key, (0, 0)), note)

    def _tell(self, identity: str, task: str, done: int, size: int) -> None:
        now = time.monotonic()
        if done >= size > 0 or now - self._told.get(identity, -1.0) >= _INTERVAL_SECONDS:
            self._told[identity] = now
            self._progress(task, float(done), float(max(size, done)))
