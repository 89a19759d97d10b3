"""Files of a web server, read by byte ranges.

Through httpx, a core dependency, and not through fsspec: a range is accepted only as a 206 with the
right ``Content-Range``, and never more bytes are read than were asked for.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, TypeVar
from urllib.parse import quote

import httpx
import pydantic

from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError
from cgbench.store.transport import RemoteState, missing, refused, unreachable, wrong_size

#: A response slower than this, in bytes a second, is given up.
LEAST_RATE: Final = 16 * 1024
LONGEST_WAIT: Final = 30.0
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

T = TypeVar("T")


class HttpOptions(Frozen):
    """Storage options of ``http://`` and ``https://`` addresses.

    Attributes:
        headers: Headers sent with every request; redirections are then not followed.
        auth: User and password.
        timeout: Seconds without a byte after which a request is given up.
        retries: How often a failed request is repeated.
        backoff: Seconds before the first repetition; twice as long before each further one.
        verify: Whether certificates are checked, or the file of those to trust.
    """

    headers: dict[str, str] = pydantic.Field(default={}, repr=False)
    auth: tuple[str, str] | None = pydantic.Field(default=None, repr=False)
    timeout: float = pydantic.Field(default=30.0, gt=0)
    retries: int = pydantic.Field(default=4, ge=0)
    backoff: float = pydantic.Field(default=0.5, ge=0)
    verify: bool | str = True


class _TransientError(Exception):
    """Worth another try."""


class _NoRangesError(IntegrityError):
    """The server ignores byte ranges."""


class HttpTransport:
    """Files of a web server.

    Args:
        url: Address of the folder.
        options: How to talk to the server.
    """

    def __init__(self, url: str, options: HttpOptions) -> None:
        self._url = url
        self._options = options
        self._client = httpx.Client(
            headers={"Accept-Encoding": "identity", **options.headers},
            auth=options.auth,
            timeout=options.timeout,
            verify=options.verify,
            follow_redirects=not options.headers,
        )

    def state(self, name: str) -> RemoteState:
        """Return size and identity of a file."""
        url = self._address(name)

        def ask() -> RemoteState:
            response = self._client.head(url)
            _check_status(response, url)
            size = response.headers.get("content-length", "")
            if not size.isdigit():
                raise IntegrityError(f"{url}: the server does not say how large the file is")
            fields = (response.headers.get(field) for field in ("etag", "last-modified"))
            return RemoteState(int(size), next((field for field in fields if field), None))

        return self._repeat(url, ask)

    def read(self, name: str, start: int, stop: int, size: int) -> bytes:
        """Return bytes ``start:stop`` of a file that must have ``size`` bytes.

        Raises:
            IntegrityError: The file is missing or has another size, or the server sends other
                bytes than were asked for.
            UsageError: The server refuses access or does not answer.
        """
        return self._repeat(
            self._address(name), lambda: b"".join(self._body(name, start, stop, size))
        )

    def fetch(self, name: str, size: int, target: BinaryIO) -> None:
        """Write a whole file, which must have ``size`` bytes, to an empty local one.

        A body that breaks off is continued where it ended. Servers without byte ranges will do.
        """
        url = self._address(name)

        def copy() -> None:
            start = target.tell()
            if start == size:
                return
            try:
                for block in self._body(name, start, size, size):
                    target.write(block)
            except _NoRangesError:
                # What arrived before cannot be continued.
                target.seek(0)
                target.truncate()
                for block in self._body(name, 0, size, size):
                    target.write(block)

        self._repeat(url, copy)

    def _address(self, name: str) -> str:
        return f"{self._url}/{quote(name)}"

    def _body(self, name: str, start: int, stop: int, size: int) -> Iterator[bytes]:
        url = self._address(name)
        wanted = {} if (start, stop) == (0, size) else {"Range": f"bytes={start}-{stop - 1}"}
        last = time.monotonic() + self._options.timeout + (stop - start) / LEAST_RATE
        received = 0
        with self._client.stream("GET", url, headers=wanted) as response:
            _check_status(response, url)
            _check_range(response, url, start, stop, size)
            for block in response.iter_raw():
                received += len(block)
                if received > stop - start:
                    raise wrong_size(url, stop - start, f"more than {stop - start}")
                yield block
                if received < stop - start and time.monotonic() > last:
                    raise _TransientError(f"{received} of {stop - start} bytes in too long a time")
        if received != stop - start:
            raise _TransientError(f"{received} of {stop - start} bytes arrived")

    def _repeat(self, url: str, ask: Callable[[], T]) -> T:
        for attempt in itertools.count():
            try:
                return ask()
            except (_TransientError, httpx.TransportError) as error:
                if attempt == self._options.retries:
                    raise unreachable(url, str(error) or type(error).__name__) from error
            time.sleep(min(self._options.backoff * 2**attempt, LONGEST_WAIT))
        raise AssertionError  # the loop has no end


def _check_status(response: httpx.Response, url: str) -> None:
    status = response.status_code
    found = f"HTTP status {status}"
    if status in (200, 206):
        if response.headers.get("content-encoding", "identity") != "identity":
            raise IntegrityError(f"{url}: the server sends it recoded", found=found)
        return
    if status in TRANSIENT:
        raise _TransientError(found)
    if status in (401, 403, 407):
        raise refused(url, found)
    if status in (404, 410):
        raise missing(url, found)
    if status == 416:
        raise IntegrityError(
            f"{url}: not the file that the manifest names",
            found="it is shorter",
            fix="open the store again; if this stays, the copy on the server is damaged",
        )
    if response.is_redirect:
        raise UsageError(
            f"{url}: redirected; headers of yours are not sent to other places",
            found=response.headers.get("location"),
            fix="give the address it is redirected to",
        )
    raise IntegrityError(f"{url}: the server does not send it", found=found)


def _check_range(response: httpx.Response, url: str, start: int, stop: int, size: int) -> None:
    """Check that a response says that it is what was asked for."""
    if response.status_code == 206:
        expected = f"bytes {start}-{stop - 1}/{size}"
        found = response.headers.get("content-range")
        if found != expected:
            raise IntegrityError(
                f"{url}: not the bytes that were asked for, or the file has changed",
                expected=expected,
                found=found,
                fix="open the store again; if this stays, the copy on the server is damaged",
            )
    elif (start, stop) != (0, size):
        raise _NoRangesError(
            f"{url}: the server does not serve byte ranges",
            fix="open the store with cache=True: whole files are then fetched once",
        )
    elif (length := response.headers.get("content-length")) is not None and length != str(size):
        raise wrong_size(url, size, length)
