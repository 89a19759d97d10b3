"""A file that is being fetched: its bytes so far, and a journal of which ones are on disk."""

import bisect
import glob
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pydantic

from cgbench.config import Frozen, canonical_json, write_atomic
from cgbench.fetch.http import Identity

Span = tuple[int, int]


class Spans:
    """A set of half-open ranges, kept sorted and merged."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.spans: list[Span] = []
        for start, stop in spans:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Add a range; it may overlap others."""
        if start >= stop:
            return
        first = bisect.bisect_left(self.spans, start, key=lambda span: span[1])
        last = bisect.bisect_right(self.spans, stop, key=lambda span: span[0])
        if first < last:
            start = min(start, self.spans[first][0])
            stop = max(stop, self.spans[last - 1][1])
        self.spans[first:last] = [(start, stop)]

    @property
    def total(self) -> int:
        """Numbers in the set."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def prefix(self) -> int:
        """The first number from 0 on that is not in the set."""
        return self.spans[0][1] if self.spans and self.spans[0][0] == 0 else 0

    def reach(self, start: int) -> int:
        """The first number from ``start`` on that is not in the set."""
        gap = next(iter(self.gaps(start, start + 1)), None)
        if gap is not None:
            return start
        return next(last for first, last in self.spans if first <= start < last)

    def gaps(self, start: int, stop: int) -> list[Span]:
        """Return the parts of ``start:stop`` that are not in the set."""
        edges = [start, *(edge for span in self.spans for edge in span), stop]
        pairs = (
            (max(start, first), min(stop, last))
            for first, last in zip(edges[::2], edges[1::2], strict=True)
        )
        return [(first, last) for first, last in pairs if first < last]


class _Header(Frozen):
    """The first line of a journal: the file of which parts are there."""

    format: Literal["cgbench-download-journal"] = "cgbench-download-journal"
    version: Literal[1] = 1
    identity: Identity


class Partial:
    """The bytes of an unfinished file, ``<target>.partial``, and their journal.

    The journal, ``<target>.partial.journal``, names the ranges whose bytes are on disk: a range
    is recorded after its bytes are flushed. Whatever happens to the process, what the journal
    says holds. The file is sparse: it grows as bytes arrive, in any order.

    Args:
        target: The finished file's path.
    """

    def __init__(self, target: Path) -> None:
        self.path, self._journal = partial_paths(target)
        self.identity: Identity | None = None
        self.spans = Spans()
        #: Whether parts came from an earlier run or from another address.
        self.mixed = False
        #: Counts the contents that were discarded.
        self.generation = 0
        self._lock = threading.Lock()
        self._file: int | None = None
        self._load()

    def _load(self) -> None:
        """Read the journal; one that cannot be read, or whose data are gone, counts as none."""
        found = read_journal(self.path, self._journal)
        if found is None:
            return
        self.identity, self.spans = found
        self.mixed = self.spans.total > 0

    @property
    def size(self) -> int | None:
        """Bytes of the finished file, once they are known."""
        return None if self.identity is None else self.identity.size

    @property
    def complete(self) -> bool:
        """Whether every byte is on disk."""
        return self.identity is not None and self.spans.prefix == self.identity.size

    def begin(self, identity: Identity, *, keep: bool) -> None:
        """Open the file for the content of an address, with or without the parts that are there.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        self.mixed = keep and self.spans.total > 0
        if not keep:
            self.discard()
        self.identity = identity
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.open()
        lines = [canonical_json(_Header(identity=identity)), *map(json.dumps, self.spans.spans)]
        write_atomic(self._journal, "\n".join(lines) + "\n")

    def open(self) -> None:
        """Open the data file, making it where there is none."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @property
    def _descriptor(self) -> int:
        if self._file is None:
            raise ValueError(f"{self.path}: not open")
        return self._file

    def begins_with(self, head: bytes) -> bool:
        """Return whether what is on disk of a file's first bytes is the same as these."""
        length = min(self.spans.prefix, len(head))
        if length == 0:
            return True
        with self.path.open("rb") as handle:
            return handle.read(length) == head[:length]

    def write(self, position: int, block: bytes) -> None:
        """Write bytes at a position; they count once they are committed.

        Raises:
            OSError: The disk is full.
        """
        view = memoryview(block)
        while view:
            written = os.pwrite(self._descriptor, view, position)
            view, position = view[written:], position + written

    def commit(self, start: int, stop: int) -> None:
        """Flush written bytes to disk, then record them; safe to call from several threads.

        Raises:
            OSError: The disk is full; nothing is recorded then.
        """
        os.fsync(self._descriptor)
        with self._lock:
            with self._journal.open("ab") as handle:
                # The line before may have been cut off by a crash or a full disk.
                handle.write(b"\n" + json.dumps([start, stop]).encode() + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
            self.spans.add(start, stop)

    def close(self) -> None:
        """Close the file; both files stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def discard(self) -> None:
        """Remove what is there: it belongs to another content."""
        self.close()
        # Data without a journal mean nothing; a journal without its data would lie.
        self._journal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.identity, self.spans, self.mixed = None, Spans(), False
        self.generation += 1

    def finish(self, target: Path) -> None:
        """Give the complete file its name."""
        os.fsync(self._descriptor)
        self.close()
        self.path.replace(target)
        flush_folder(target.parent)
        self._journal.unlink(missing_ok=True)
        # Temporary files of journals that a killed process was about to begin.
        for stray in target.parent.glob(f".{glob.escape(self._journal.name)}.*.partial"):
            stray.unlink(missing_ok=True)


def partial_paths(target: Path) -> tuple[Path, Path]:
    """Return where the bytes of an unfinished file and their journal are."""
    data = target.with_name(f"{target.name}.partial")
    return data, data.with_name(f"{data.name}.journal")


def read_journal(data: Path, journal: Path) -> tuple[Identity, Spans] | None:
    """Return what a journal says is on disk; None where there is none that can be used.

    A line torn by a crash does not count.
    """
    try:
        length = data.stat().st_size
        lines = journal.read_bytes().split(b"\n")
        header = _Header.model_validate_json(lines[0])
    except (OSError, pydantic.ValidationError):
        return None
    spans = Spans()
    for line in lines[1:]:
        span = _parse_span(line)
        if span is None:
            continue
        if not 0 <= span[0] < span[1] <= min(length, header.identity.size):
            return None
        spans.add(*span)
    return header.identity, spans


def _parse_span(line: bytes) -> Span | None:
    try:
        start, stop = json.loads(line)
        return int(start), int(stop)
    except (ValueError, TypeError):
        return None


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
