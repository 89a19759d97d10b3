"""Brings one file from one address, over several connections, until every byte is on disk."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import httpx

from cgbench.errors import CgbenchError
from cgbench.fetch.http import (
    Answer,
    ChangedError,
    Identity,
    RefusedError,
    TransientError,
    open_range,
    refuse_page,
)
from cgbench.fetch.partial import Partial, Span
from cgbench.fetch.patience import Backoff, Patience, Speed
from cgbench.fetch.settings import MEBIBYTE, Request, Settings
from cgbench.fetch.tasks import uncancelled

#: Bytes that are looked at before the rest is fetched.
HEAD_BYTES: Final = 64 * 1024
#: A body without an announced length is taken up to this size, held in memory.
UNSIZED_BYTES: Final = 64 * MEBIBYTE
#: Chunks of one request: enough that the time between requests does not matter.
_SEGMENT_CHUNKS: Final = 4
_MAX_CHANGES: Final = 3


class _RangesIgnoredError(Exception):
    """The server sends the whole file whatever range is asked for."""


@dataclass
class Transfer:
    """The fetching of one file.

    Attributes:
        client: An open client.
        request: What to fetch.
        partial: Where it goes.
        settings: How.
        size: Bytes that the file must have, where known.
        pinned: Whether the finished file is compared with a known hash, so that parts from
            several addresses may be joined.
        backoff: Waiting times.
        report: Called with the bytes that are there and the file's size.
        tell: Called with what holds the file up.
        check_space: Called with the bytes to come before they come; raises if the disk is full.
        received: Bytes that came over the wire.
    """

    client: httpx.AsyncClient
    request: Request
    partial: Partial
    settings: Settings
    size: int | None
    pinned: bool
    backoff: Backoff
    report: Callable[[int, int], None]
    tell: Callable[[str], None]
    check_space: Callable[[int], None]
    received: int = 0
    _pending: int = 0
    _single: bool = False

    async def run(self, url: str) -> None:
        """Complete the file from an address; on return every byte is on disk.

        Raises:
            RefusedError: The address does not have the file, or does not bring it.
            UsageError: The disk has no room.
            OSError: The disk is full after all.
        """
        self._single = False
        patience = self._patience()
        opened = self._reopen(url)
        changes = 0
        while not (opened and self.partial.complete):
            try:
                if opened and self.partial.identity is not None:
                    await self._bulk(self.partial.identity)
                else:
                    await self._open(url)
                    opened = True
            except _RangesIgnoredError:
                self._single = True
            except ChangedError as error:
                opened = False
                changes += 1
                if changes > _MAX_CHANGES:
                    raise RefusedError(f"changes while it is fetched ({error})") from error
            except TransientError as error:
                opened = self._reopen(url)
                await patience.wait(error)

    def _patience(self) -> Patience:
        return Patience(self.settings, self.backoff, lambda: self.partial.spans.total, self.tell)

    def _reopen(self, url: str) -> bool:
        """Go on with what is on disk, if it is from this address and the head is there."""
        identity = self.partial.identity
        if identity is None or identity.url != url or self._wrong_size(identity.size):
            return False
        if self.partial.spans.prefix < min(HEAD_BYTES, identity.size):
            return False
        anonymous = identity.etag is None and identity.last_modified is None
        if anonymous and not self.partial.complete:
            # Only a look at the head can tell whether the server still has the same content.
            return False
        self.partial.open()
        with self.partial.path.open("rb") as handle:
            head = handle.read(min(HEAD_BYTES, identity.size))
        try:
            self._check(head, identity.size)
        except RefusedError:
            # Perhaps the server has mended it by now.
            self.partial.discard()
            return False
        self.check_space(identity.size - self.partial.spans.total)
        return True

    def _wrong_size(self, size: int) -> bool:
        return self.size is not None and self.size != size

    def _check(self, head: bytes, size: int) -> None:
        refuse_page(head)
        if self.request.check_head is None:
            return
        try:
            self.request.check_head(head, size)
        except CgbenchError as error:
            raise RefusedError(error.message) from error

    async def _open(self, url: str) -> None:
        """Fetch and check the head; where ranges are ignored, the rest in the same response."""
        settings = self.settings
        try:
            async with open_range(self.client, url, 0, HEAD_BYTES, None, settings) as (
                answer,
                blocks,
            ):
                head, size = await self._head(answer, blocks)
                identity = answer.identity(url, size)
                self._check(head[:HEAD_BYTES], size)
                keep = self._may_keep(identity) and self.partial.begins_with(head)
                self.check_space(size - (self.partial.spans.total if keep else 0))
                self.partial.begin(identity, keep=keep)
                self.partial.write(0, head)
                await uncancelled(asyncio.to_thread(self.partial.commit, 0, len(head)))
                if answer.whole:
                    self._single = True
                    await self._receive(blocks, len(head), size)
        except ChangedError as error:
            raise RefusedError("an empty file (no bytes at all)") from error

    async def _head(self, answer: Answer, blocks: AsyncIterator[bytes]) -> tuple[bytes, int]:
        """Return the first bytes of a file and its size."""
        size = self.size if answer.total is None else answer.total
        if size is None and not answer.delimited:
            raise RefusedError("no length announced, so a truncated body could not be told")
        if size is not None and self._wrong_size(size):
            raise RefusedError(f"{size} bytes announced, {self.size} expected")
        if size == 0:
            raise RefusedError("an empty file (no bytes at all)")
        wanted = UNSIZED_BYTES + 1 if size is None else min(HEAD_BYTES, size)
        head = bytearray()
        speed = Speed(self.settings)
        async for block in blocks:
            head += block
            self.received += len(block)
            # What was asked for is read to its end, so that the connection can be used again.
            if len(head) >= wanted and (answer.whole or len(head) > wanted):
                break
            speed.saw(len(block))
        if size is None:
            if not 0 < len(head) < wanted:
                raise RefusedError(f"no length announced, and {len(head)} bytes or more came")
            return bytes(head), len(head)
        if len(head) < wanted:
            raise TransientError(f"the body ends after {len(head)} of {size} bytes")
        if len(head) > size:
            raise RefusedError(f"more than the {size} bytes expected")
        return bytes(head), size

    def _may_keep(self, identity: Identity) -> bool:
        """Return whether what is on disk belongs to the file at an address."""
        old = self.partial.identity
        if old is None or old.size != identity.size:
            return False
        if old.url == identity.url:
            return not identity.contradicts(old)
        return self.pinned or identity.vouches_for(old)

    async def _bulk(self, identity: Identity) -> None:
        """Fetch what is missing, each connection taking the next segment when it is done."""
        gaps = self.partial.spans.gaps(0, identity.size)
        segments = [(gaps[0][0], identity.size)] if self._single else self._segments(gaps)
        queue = deque(segments)
        workers = min(self.settings.connections, len(segments))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(identity, queue))
        except ExceptionGroup as errors:
            # What ends the transfer comes before what another attempt may mend.
            ranks = (CgbenchError, OSError, ChangedError, _RangesIgnoredError, RefusedError)
            raise min(
                errors.exceptions,
                key=lambda error: [*(isinstance(error, kind) for kind in ranks), True].index(True),
            ) from None

    def _segments(self, gaps: list[Span]) -> list[Span]:
        """Split what is missing into requests, in order, for all connections to have work."""
        chunk = self.settings.chunk_bytes
        missing = sum(stop - start for start, stop in gaps)
        share = -(-missing // self.settings.connections)
        length = max(min(share, _SEGMENT_CHUNKS * chunk), chunk // 8, 1)
        return [
            (first, min(first + length, stop))
            for start, stop in gaps
            for first in range(start, stop, length)
        ]

    async def _work(self, identity: Identity, queue: deque[Span]) -> None:
        spans = self.partial.spans
        patience = self._patience()
        while queue:
            start, stop = queue.popleft()
            while (start := min(spans.reach(start), stop)) < stop:
                try:
                    await self._segment(identity, start, stop)
                except TransientError as error:
                    await patience.wait(error)

    async def _segment(self, identity: Identity, start: int, stop: int) -> None:
        async with open_range(self.client, identity.url, start, stop, identity, self.settings) as (
            answer,
            blocks,
        ):
            size = identity.size if answer.total is None else answer.total
            if answer.identity(identity.url, size).contradicts(identity):
                raise ChangedError("size, ETag or Last-Modified differ")
            if answer.whole and not self._single:
                raise _RangesIgnoredError
            await self._receive(blocks, answer.start, size if answer.stop is None else answer.stop)

    async def _receive(self, blocks: AsyncIterator[bytes], position: int, stop: int) -> None:
        """Write a body that begins at a position; whatever ends it, what came is recorded."""
        partial, settings = self.partial, self.settings
        committed, pending = position, 0
        commit_time = time.monotonic()
        speed = Speed(settings)
        try:
            async for block in blocks:
                self.received += len(block)
                if position + len(block) > stop:
                    raise RefusedError("more bytes than announced")
                # Bytes that are recorded are not touched: they may have been hashed already.
                for first, last in partial.spans.gaps(position, position + len(block)):
                    partial.write(first, block[first - position : last - position])
                    pending += last - first
                    self._pending += last - first
                position += len(block)
                speed.saw(len(block))
                self.report(partial.spans.total + self._pending, partial.size or 0)
                due = time.monotonic() - commit_time >= settings.commit_seconds
                if due or position - committed >= settings.chunk_bytes:
                    began = time.monotonic()
                    await uncancelled(asyncio.to_thread(partial.commit, committed, position))
                    self._pending -= pending
                    committed, pending, commit_time = position, 0, time.monotonic()
                    speed.leave_out(commit_time - began)
        finally:
            self._pending -= pending
            if position > committed:
                partial.commit(committed, position)
        if position < stop:
            raise TransientError(f"the body ends at byte {position} of {stop}")
