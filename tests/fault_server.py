"""A loopback HTTP/1.1 server over a folder, with scripted faults and a log of what it sent.

::

    with FaultServer(folder) as server:
        server.script("a.npy", Fault(status=503, retry_after="0", times=2), Fault(drop_at=1000))
        fetch(server.url + "/a.npy")
        assert server.count("a.npy") == 4
        assert server.sent("a.npy") < 2 * size

The server answers GET and HEAD, single byte ranges (206 and 416), ``If-Range`` and ``If-Match``,
and sends ETag (of size and modification time), Last-Modified and Accept-Ranges. Files may be
changed or added in the folder while it runs.

The faults of a path are used in order: each for ``times`` GET requests (HEAD too where ``head``
is set), then the next, then none. ``times=None`` is for ever. The recipes::

    Fault(drop_after=n)                    connection closed after n bytes of the body
    Fault(drop_at=n)                       closed before byte n of the file, in a response with it
    Fault(drop_header=True)                closed in the middle of the header
    Fault(stall_header=True)               a header without end, a byte every stall_seconds
    Fault(stall_after=n, stall_seconds=s)  n bytes, then one byte every s seconds (slow loris)
    Fault(rate=r)                          r bytes a second
    Fault(status=503, retry_after="1")     an error status
    Fault(announce=5)                      Content-Length (and the total of a range) 5 too large
    Fault(no_length=True)                  no Content-Length; the body ends with the connection
    Fault(chunked=True)                    chunked, without a length and without ranges
    Fault(no_ranges=True)                  Range is ignored: 200 and the whole file
    Fault(shift_range=5)                   206 with a range 5 bytes later than was asked for
    Fault(corrupt_at=n)                    byte n of the file inverted
    Fault(content=b"...", etag='"new"')    another file than before
    Fault(html=True)                       200 with an HTML page
    Fault(status=202, content=b"")         202 without a body; status=200 for a 0-byte body
    Fault(status=302, headers={"Location": url})
"""

import email.utils
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>No data</body></html>\n"
BLOCK = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """How some responses differ from the right one; see the module's docstring."""

    times: int | None = 1
    head: bool = False
    drop_after: int | None = None
    drop_at: int | None = None
    drop_header: bool = False
    stall_header: bool = False
    stall_after: int | None = None
    stall_seconds: float = 0.2
    rate: float | None = None
    status: int | None = None
    retry_after: str | None = None
    announce: int = 0
    no_length: bool = False
    chunked: bool = False
    no_ranges: bool = False
    shift_range: int = 0
    corrupt_at: int | None = None
    content: bytes | None = None
    etag: str | None = None
    html: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Record:
    """One request: what was asked for and what was sent. ``start:stop`` is of the file."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    start: int = 0
    stop: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        """The request's Range header."""
        return self.headers.get("range")


class FaultServer:
    """Serves a folder on a free port of 127.0.0.1, in threads of this process.

    Args:
        root: The folder.
        faults: Faults per path, as ``script`` takes them.
        etag: Whether ETag is sent.
        last_modified: Whether Last-Modified is sent.
    """

    def __init__(
        self,
        root: Path,
        faults: Mapping[str, tuple[Fault, ...] | list[Fault]] | None = None,
        *,
        etag: bool = True,
        last_modified: bool = True,
    ) -> None:
        self.root = root
        self.etag = etag
        self.last_modified = last_modified
        self.requests: list[Record] = []
        self.stopped = threading.Event()
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        self._used: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        for path, some in (faults or {}).items():
            self.script(path, *some)
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def script(self, path: str, *faults: Fault) -> None:
        """Replace the faults of a path that are still to come (none: it answers properly)."""
        with self._lock:
            self._faults[_name(path)] = list(faults)
            self._used[_name(path)] = 0

    def count(self, path: str | None = None, method: str = "GET") -> int:
        """Return the number of requests so far (of all paths where none is given)."""
        return len(self._records(path, method))

    def sent(self, path: str | None = None) -> int:
        """Return the number of body bytes written so far (of all paths where none is given)."""
        return sum(record.sent for record in self._records(path, "GET"))

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self.requests.clear()

    def _records(self, path: str | None, method: str) -> list[Record]:
        with self._lock:
            return [
                record
                for record in self.requests
                if record.method == method and (path is None or record.path == _name(path))
            ]

    def next_fault(self, record: Record) -> Fault:
        """Log a request and return its fault."""
        with self._lock:
            self.requests.append(record)
            faults = self._faults[record.path]
            if not faults or (record.method == "HEAD" and not faults[0].head):
                return Fault()
            fault = faults[0]
            self._used[record.path] += 1
            if fault.times is not None and self._used[record.path] >= fault.times:
                faults.pop(0)
                self._used[record.path] = 0
            return fault

    def __enter__(self) -> "FaultServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _name(path: str) -> str:
    return unquote(urlsplit(path).path).strip("/")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Threads end with their connections, which clients may keep open.
    block_on_close = False
    request_queue_size = 128
    owner: FaultServer

    def handle_error(self, *_: object) -> None:
        """Keep quiet about clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        record = Record(self.command, _name(self.path), headers)
        fault = owner.next_fault(record)
        if fault.drop_header:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            self._close()
            return
        if fault.stall_header:
            self._stall_header(fault)
            return
        file = owner.root / record.path
        known = file.is_file() and file.resolve().is_relative_to(owner.root.resolve())
        if fault.html or fault.status or (fault.content is None and not known):
            self._page(record, fault)
            return
        if fault.content is not None:
            size, modified = len(fault.content), time.time()
            tag = fault.etag or '"scripted"'
        else:
            status = file.stat()
            size, modified = status.st_size, status.st_mtime
            tag = f'"{status.st_mtime_ns:x}-{size:x}"'
        fields = {"Content-Type": "application/octet-stream", **fault.headers}
        date = email.utils.formatdate(modified, usegmt=True)
        if owner.etag:
            fields["ETag"] = tag
        if owner.last_modified:
            fields["Last-Modified"] = date
        ranges = not (fault.no_ranges or fault.chunked)
        if ranges:
            fields["Accept-Ranges"] = "bytes"
        if headers.get("if-match", tag) not in (tag, "*"):
            self._head(record, 412, {**fields, "Content-Length": "0"})
            return
        wanted = None
        if ranges and headers.get("if-range", tag) in (tag, date):
            wanted = _parse_range(headers.get("range"), size)
        start, stop = (0, size) if wanted is None else wanted
        if start >= stop and wanted is not None:
            fields |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
            self._head(record, 416, fields)
            return
        record.start, record.stop = start, stop
        if wanted is not None:
            shift = fault.shift_range
            fields["Content-Range"] = (
                f"bytes {start + shift}-{stop - 1 + shift}/{size + fault.announce}"
            )
        if fault.chunked:
            fields["Transfer-Encoding"] = "chunked"
        elif fault.no_length:
            fields["Connection"] = "close"
        else:
            fields["Content-Length"] = str(stop - start + (fault.announce if not wanted else 0))
        self._head(record, 200 if wanted is None else 206, fields)
        if self.command == "GET":
            self._body(record, fault, file, start, stop)

    def _stall_header(self, fault: Fault) -> None:
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
            while not self.server.owner.stopped.wait(fault.stall_seconds):
                self.wfile.write(b"x")
        except OSError:
            # The client had enough of it.
            self.close_connection = True

    def _page(self, record: Record, fault: Fault) -> None:
        """Send what is no file: an error, a page, a redirection, nothing."""
        body = PAGE if fault.html else (fault.content or b"")
        fields = {
            "Content-Type": "text/html; charset=utf-8" if fault.html else "text/plain",
            "Content-Length": str(len(body)),
            **fault.headers,
        }
        if fault.retry_after is not None:
            fields["Retry-After"] = fault.retry_after
        self._head(record, fault.status or (200 if fault.html else 404), fields)
        if self.command == "GET" and body:
            record.sent = len(body)
            self.wfile.write(body)

    def _head(self, record: Record, status: int, fields: Mapping[str, str]) -> None:
        record.status = status
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, record: Record, fault: Fault, file: Path, start: int, stop: int) -> None:
        end = stop
        if fault.drop_after is not None:
            end = min(end, start + fault.drop_after)
        if fault.drop_at is not None and start <= fault.drop_at < stop:
            end = fault.drop_at
        stall = stop if fault.stall_after is None else start + fault.stall_after
        block = BLOCK if fault.rate is None else min(BLOCK, max(1, int(fault.rate / 50)))
        position = start
        stopped = self.server.owner.stopped
        try:
            while position < end:
                slow = position >= stall
                size = 1 if slow else min(block, end - position)
                if position < stall:
                    size = min(size, stall - position)
                elif stopped.wait(fault.stall_seconds):
                    break
                data = bytearray(self._read(fault, file, position, size))
                if fault.corrupt_at is not None and 0 <= fault.corrupt_at - position < len(data):
                    data[fault.corrupt_at - position] ^= 0xFF
                # Counted first, so that a client that has a byte finds it in the log.
                position += len(data)
                record.sent = position - start
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if fault.chunked else data)
                if fault.rate is not None and stopped.wait(len(data) / fault.rate):
                    break
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        if position < stop or fault.no_length or fault.announce:
            self._close()
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _read(self, fault: Fault, file: Path, position: int, size: int) -> bytes:
        if fault.content is not None:
            return fault.content[position : position + size]
        with file.open("rb") as handle:
            handle.seek(position)
            return handle.read(size)

    def _close(self) -> None:
        """End the connection so that what was sent still arrives."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)


def _parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Return the half-open range of a header, None for the whole file; empty if beyond the end."""
    if text is None or not text.startswith("bytes=") or "," in text:
        return None
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
