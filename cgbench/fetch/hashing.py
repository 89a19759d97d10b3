"""The hash of a file that is still growing."""

import asyncio
import hashlib

from cgbench.fetch.partial import Partial
from cgbench.fetch.settings import MEBIBYTE
from cgbench.fetch.tasks import uncancelled

_BLOCK = 8 * MEBIBYTE
_POLL_SECONDS = 0.1


class FollowingHash:
    """Hashes a file in order while it is fetched in any order.

    It reads behind the first gap, where bytes are on disk and mostly still in memory, so that
    little is left to hash when the last byte has come.

    Args:
        partial: The file.
    """

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._lock = asyncio.Lock()
        self._restart()

    def _restart(self) -> None:
        self._generation = self._partial.generation
        self._digest = hashlib.sha256()
        self._position = 0

    async def follow(self) -> None:
        """Keep up with the file until cancelled."""
        while True:
            await self._catch_up()
            await asyncio.sleep(_POLL_SECONDS)

    async def hexdigest(self) -> str:
        """Return the hash of the file, which must be complete."""
        await self._catch_up()
        return self._digest.hexdigest()

    async def _catch_up(self) -> None:
        async with self._lock:
            while True:
                if self._generation != self._partial.generation:
                    self._restart()
                stop = min(self._partial.spans.prefix, self._position + _BLOCK)
                if stop <= self._position:
                    return
                await uncancelled(asyncio.to_thread(self._update, stop))

    def _update(self, stop: int) -> None:
        try:
            with self._partial.path.open("rb") as handle:
                handle.seek(self._position)
                block = handle.read(stop - self._position)
        except FileNotFoundError:
            # It may have been discarded while this thread was about to start.
            if self._generation != self._partial.generation:
                return
            raise
        if not block:
            raise OSError(f"{self._partial.path}: shorter than what was written to it")
        self._digest.update(block)
        self._position += len(block)
