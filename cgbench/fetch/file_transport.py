"""``file://`` addresses behind the interface of HTTP, so that there is one way to fetch."""

import email.utils
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx

_BLOCK: Final = 1024**2
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


class FileTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers requests for ranges of local files as a server would."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        return _answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        return _answer(request)


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Bytes ``start:stop`` of a file, opened when they are read."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._path = path
        self._start = start
        self._stop = stop

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as handle:
                handle.seek(self._start)
                left = self._stop - self._start
                while left and (block := handle.read(min(_BLOCK, left))):
                    left -= len(block)
                    yield block
        except OSError as error:
            raise httpx.ReadError(f"{self._path}: {error.strerror}") from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self:
            yield block


def _answer(request: httpx.Request) -> httpx.Response:
    path = Path(request.url.path)
    if request.url.host not in ("", "localhost"):
        return httpx.Response(403, request=request)
    if not path.is_file():
        return httpx.Response(404, request=request)
    status = path.stat()
    size = status.st_size
    headers = {
        "ETag": f'"{status.st_mtime_ns:x}-{size:x}"',
        "Last-Modified": email.utils.formatdate(status.st_mtime, usegmt=True),
    }
    start, stop, code = 0, size, 200
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is not None and request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
        start, stop, code = int(match[1]), min(size, int(match[2]) + 1), 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if start >= stop:
            return httpx.Response(416, request=request)
    headers["Content-Length"] = str(stop - start)
    return httpx.Response(code, headers=headers, stream=_Body(path, start, stop), request=request)
