"""Reading parts of a file that stays on its server."""

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.fetch.http import (
    Answer,
    ChangedError,
    Identity,
    RefusedError,
    TransientError,
    client_options,
    open_range_blocking,
    proxy_errors,
    public_address,
)
from cgbench.fetch.patience import Backoff, Speed
from cgbench.fetch.settings import Settings

_DEFAULTS = Settings()


class RangeReader:
    """Reads byte ranges of one file over HTTP (or of a ``file://`` address).

    The file is identified when it is first asked for: from then on, also in copies that were
    pickled, every answer has to be of the same size, ETag and Last-Modified. Threads may read at
    once; a process that was forked or got a pickled reader opens connections of its own.

    Args:
        urls: Addresses of the file, tried in order. Once it is identified, others are used only
            if they name the same content by ETag or Last-Modified.
        settings: Timeouts and retries.

    Raises:
        UsageError: There is no address.
    """

    def __init__(self, urls: Sequence[str], settings: Settings = _DEFAULTS) -> None:
        if not urls:
            raise UsageError("range reader: no address to read from")
        self.urls = tuple(urls)
        self.settings = settings
        self._known: Identity | None = None
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"urls": self.urls, "settings": self.settings, "_known": self._known}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @property
    def url(self) -> str:
        """The address at which the file was identified."""
        return self._identify().url

    @property
    def size(self) -> int:
        """Bytes of the file.

        Raises:
            IntegrityError: No address has the file, or byte ranges of it.
        """
        return self._identify().size

    @property
    def identity(self) -> str:
        """What tells this content from others: ETag, else Last-Modified, else the size.

        Raises:
            IntegrityError: No address has the file, or byte ranges of it.
        """
        known = self._identify()
        return known.etag or known.last_modified or str(known.size)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``start:stop``.

        Raises:
            ValidationError: The range is not within the file.
            IntegrityError: The file has changed, ranges are not served, or no address brings
                the bytes after all attempts.
        """
        known = self._identify()
        if not 0 <= start <= stop <= known.size:
            raise ValidationError(
                f"{public_address(known.url)}: bytes {start}:{stop}",
                expected=f"a range within {known.size} bytes",
            )
        buffer = bytearray()
        if start == stop:
            return b""
        reasons = []
        # The address that is known to have it comes first.
        for url in dict.fromkeys((known.url, *self.urls)):
            try:
                self._fill(buffer, url, start, stop, known)
                return bytes(buffer)
            except RefusedError as error:
                reasons.append(f"{public_address(url)}: {error}")
        raise IntegrityError(
            f"{public_address(known.url)}: bytes {start}:{stop} cannot be read",
            found="; ".join(reasons),
            fix="try again; what was made from it so far is kept",
        )

    def close(self) -> None:
        """Close all connections; the next reading opens new ones."""
        with self._lock:
            if self._client is not None and self._process == os.getpid():
                self._client.close()
            self._client = None

    def _connections(self) -> httpx.Client:
        with self._lock:
            if self._client is None or self._process != os.getpid():
                with proxy_errors():
                    self._client = httpx.Client(**client_options(self.settings))
                self._process = os.getpid()
            return self._client

    def _identify(self) -> Identity:
        if self._known is not None:
            return self._known
        reasons = []
        for url in self.urls:
            buffer = bytearray()
            try:
                known = self._fill(buffer, url, 0, 1, None)
            except RefusedError as error:
                reasons.append(f"{public_address(url)}: {error}")
                continue
            with self._lock:
                # Threads that asked at once have to agree on one.
                self._known = self._known or known
                return self._known
        raise IntegrityError(
            f"{public_address(self.urls[0])}: cannot be read by byte ranges",
            found="; ".join(reasons),
        )

    def _fill(
        self, buffer: bytearray, url: str, start: int, stop: int, known: Identity | None
    ) -> Identity:
        """Append the rest of ``start:stop`` to what is in the buffer already."""
        backoff = Backoff(self.settings)
        failures = 0
        while True:
            before = len(buffer)
            try:
                return self._attempt(buffer, url, start, stop, known)
            except ChangedError as error:
                what = "an empty file" if known is None else "the file has changed"
                raise RefusedError(f"{what} ({error})") from error
            except TransientError as error:
                moved = len(buffer) - before >= self.settings.stall_bytes
                failures = 1 if moved else failures + 1
                if failures >= self.settings.attempts:
                    raise RefusedError(f"{error}; given up after {failures} attempts") from error
                time.sleep(backoff.delay(failures, error.delay))

    def _attempt(
        self, buffer: bytearray, url: str, start: int, stop: int, known: Identity | None
    ) -> Identity:
        settings = self.settings
        first = start + len(buffer)
        same = known if known is not None and known.url == url else None
        with open_range_blocking(self._connections(), url, first, stop, same, settings) as (
            answer,
            blocks,
        ):
            identity = _checked(answer, url, known)
            speed, arrived = Speed(settings), 0
            for block in blocks:
                if first + arrived + len(block) > stop:
                    raise RefusedError("more bytes than asked for")
                buffer += block
                arrived += len(block)
                speed.saw(len(block))
        if first + arrived < stop:
            raise TransientError(f"the body ends at byte {first + arrived} of {stop}")
        return identity


def _checked(answer: Answer, url: str, known: Identity | None) -> Identity:
    """Return the identity of the file behind an answer, if it is the known one."""
    if answer.total is None:
        raise RefusedError("no length announced")
    identity = answer.identity(url, answer.total)
    if known is not None:
        if identity.contradicts(known):
            raise ChangedError("size, ETag or Last-Modified differ")
        if url != known.url and not identity.vouches_for(known):
            raise RefusedError("nothing shows that it is the same content")
    if answer.whole:
        raise RefusedError("byte ranges are not served")
    return identity
