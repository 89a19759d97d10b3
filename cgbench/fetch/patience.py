"""When to try again, and when to give up."""

import asyncio
import time
from collections.abc import Callable

import numpy as np

from cgbench.fetch.http import RefusedError, TransientError
from cgbench.fetch.settings import Settings


class Backoff:
    """Waiting times between attempts: doubled each time, with jitter, at the server's wish longer.

    Args:
        settings: First and longest time, and the seed.
        stream: Tells apart the waits of several files of one seed.
    """

    def __init__(self, settings: Settings, stream: int = 0) -> None:
        self._settings = settings
        self._random = np.random.default_rng(
            np.random.SeedSequence(settings.seed, spawn_key=(stream,))
        )

    def delay(self, failures: int, wish: float | None) -> float:
        """Return seconds to wait after so many failures in a row (at least 1)."""
        longest = min(
            self._settings.backoff * 2.0 ** min(failures - 1, 32), self._settings.backoff_limit
        )
        # Half of it at random, so that clients that failed together do not return together.
        delay = longest * (0.5 + 0.5 * float(self._random.random()))
        return max(delay, wish or 0.0)


class Speed:
    """Notices a connection that stays open but brings next to nothing.

    Args:
        settings: The window, and the bytes that have to arrive in it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since = time.monotonic()
        self._bytes = 0

    def leave_out(self, seconds: float) -> None:
        """Do not count time in which nothing was asked of the connection."""
        self._since += seconds

    def saw(self, count: int) -> None:
        """Count bytes that arrived.

        Raises:
            TransientError: They are too few for the time that has passed.
        """
        self._bytes += count
        elapsed = time.monotonic() - self._since
        if elapsed >= self._settings.stall_seconds:
            if self._bytes < self._settings.stall_bytes:
                raise TransientError(f"stalled ({self._bytes} bytes in {elapsed:.0f} s)")
            self._since, self._bytes = time.monotonic(), 0


class Patience:
    """Decides how long to wait after a failed attempt, and when to give up.

    Args:
        settings: Number of attempts and what counts as progress.
        backoff: Waiting times.
        done: Bytes that are there.
        tell: Called with what is waited for.
    """

    def __init__(
        self,
        settings: Settings,
        backoff: Backoff,
        done: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._backoff = backoff
        self._done = done
        self._mark = done()
        self._failures = 0

    async def wait(self, error: TransientError) -> None:
        """Wait before the next attempt.

        Raises:
            RefusedError: There were too many attempts in a row that brought nothing.
        """
        done = self._done()
        moved = done - self._mark >= self._settings.stall_bytes
        self._mark = done
        self._failures = 1 if moved else self._failures + 1
        if self._failures >= self._settings.attempts:
            raise RefusedError(f"{error}; given up after {self._failures} attempts") from error
        delay = self._backoff.delay(self._failures, error.delay)
        self._tell(f"{error}; next attempt in {delay:.0f} s")
        await asyncio.sleep(delay)
