"""Requests for byte ranges, and what may be believed of the answers."""

import asyncio
import contextlib
import datetime
import email.utils
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from cgbench.config import Frozen
from cgbench.errors import UsageError
from cgbench.fetch.file_transport import FileTransport
from cgbench.fetch.settings import Settings
from cgbench.version import __version__

_MAX_REDIRECTS: Final = 10
_LAST_PORT: Final = 65535
#: The server may well answer properly a little later.
_TRANSIENT: Final = frozenset({202, 408, 425, 429, 500, 502, 503, 504})
# Without going back over comments: a page of nothing else would take for ever.
_PAGE: Final = re.compile(
    rb"\s*+(?><!--.*?-->\s*+)*+<(!doctype\s+html|html|head|body)\b", re.I | re.S
)
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#]*@")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class TransientError(Exception):
    """An attempt that failed in a way that another may not; ``delay`` if the server named one."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class RefusedError(Exception):
    """An address whose answer is final, and not the file."""


class ChangedError(Exception):
    """The file at an address is not the one of which parts are there."""


class Identity(Frozen):
    """By what a file on a server is known to be the same one later.

    Attributes:
        url: Its address.
        size: Bytes.
        etag: The server's name of this content, if it gives one.
        last_modified: The server's date of this content, if it gives one.
    """

    url: str
    size: int
    etag: str | None
    last_modified: str | None

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may carry: a strong entity tag, else the date; ASCII both."""
        strong = self.etag is not None and not self.etag.startswith("W/")
        carried = self.etag if strong else self.last_modified
        return carried if carried is not None and carried.isascii() else None

    def contradicts(self, other: "Identity") -> bool:
        """Return whether size, tag or date, where both have them, differ."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return self.size != other.size or any(
            None not in pair and len({*pair}) > 1 for pair in pairs
        )

    def vouches_for(self, other: "Identity") -> bool:
        """Return whether tag or date say that two addresses hold the same content."""
        shared = (self.etag is not None and self.etag == other.etag) or (
            self.last_modified is not None and self.last_modified == other.last_modified
        )
        return shared and not self.contradicts(other)


@dataclass(frozen=True)
class Answer:
    """A response that brings bytes ``start:stop`` of a file.

    Attributes:
        start: First byte.
        stop: Byte after the last; None where no length is announced.
        total: Size of the whole file; None where it is not announced.
        whole: Whether the range was ignored and the whole file is sent.
        delimited: Whether the end of a body without a length can be told from a lost connection.
        etag: Entity tag.
        last_modified: Date.
    """

    start: int
    stop: int | None
    total: int | None
    whole: bool
    delimited: bool
    etag: str | None
    last_modified: str | None

    def identity(self, url: str, size: int) -> Identity:
        """Return the identity of the file, with its size as it came to be known."""
        return Identity(url=url, size=size, etag=self.etag, last_modified=self.last_modified)


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of an httpx client, synchronous or not.

    Proxies come from the environment (``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``).
    """
    return {
        # Compressed transfers have ranges of their own, and may decompress to anything.
        "headers": {"Accept-Encoding": "identity", "User-Agent": f"cgbench/{__version__}"},
        "timeout": httpx.Timeout(
            settings.stall_seconds, connect=settings.connect_timeout, pool=None
        ),
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=64),
        # With its host as well: NO_PROXY=localhost is a rule for all schemes, and would come first.
        "mounts": dict.fromkeys(("file://", "file://localhost"), FileTransport()),
    }


@contextlib.contextmanager
def proxy_errors() -> Iterator[None]:
    """Say in one sentence which setting keeps a client from being made.

    Raises:
        UsageError: The proxies named by the environment cannot be used.
    """
    try:
        yield
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise UsageError(
            "the proxy settings of the environment cannot be used",
            found=error,
            fix="set HTTP_PROXY and HTTPS_PROXY to http://host:port, or unset ALL_PROXY",
        ) from error


@contextlib.contextmanager
def _named_failures() -> Iterator[None]:
    """Sort what httpx raises into what may pass and what will not."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TransientError(f"no answer in time ({type(error).__name__})") from error
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
        raise TransientError(f"connection lost ({str(error) or type(error).__name__})") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RefusedError(f"{str(error) or type(error).__name__}") from error


def public_address(url: str) -> str:
    """Return an address without the name and password that it may hold."""
    return _CREDENTIALS.sub("", url)


def _address(url: str) -> str:
    # Without a host an address counts as relative, and loses its scheme.
    return url.replace("file:///", "file://localhost/", 1) if url.startswith("file:///") else url


def _range_headers(start: int, stop: int, identity: Identity | None) -> dict[str, str]:
    headers = {"Range": f"bytes={start}-{stop - 1}"}
    if identity is not None and identity.validator is not None:
        headers["If-Range"] = identity.validator
    return headers


def _check_port(request: httpx.Request) -> None:
    # httpx takes any number, and what sockets say of it is no error of the network.
    if (request.url.port or 0) > _LAST_PORT:
        raise RefusedError(f"no port {request.url.port}")


def _redirected(response: httpx.Response) -> httpx.Request | None:
    """Return the request that a redirection asks for, if it is one that may be followed."""
    following = response.next_request
    if following is None:
        return None
    old, new = response.request.url.scheme, following.url.scheme
    if new != old and (old, new) != ("http", "https"):
        raise RefusedError(f"redirects from {old} to {new}, which is not followed")
    return following


async def _headers_in_time(
    client: httpx.AsyncClient, request: httpx.Request, settings: Settings
) -> httpx.Response:
    """Send a request; httpx alone would wait as long as a byte of the header comes now and then."""
    limit = settings.connect_timeout + settings.stall_seconds
    try:
        async with asyncio.timeout(limit):
            return await client.send(request, stream=True)
    except TimeoutError as error:
        raise TransientError(f"no answer in {limit:g} s") from error


@contextlib.asynccontextmanager
async def open_range(
    client: httpx.AsyncClient,
    url: str,
    start: int,
    stop: int,
    identity: Identity | None,
    settings: Settings,
) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
    """Ask for bytes ``start:stop``; if they are still those of ``identity``, where one is given.

    Raises:
        TransientError: The attempt may succeed later.
        RefusedError: The address does not have the file.
        ChangedError: It has fewer bytes than ``start``.
    """
    with _named_failures():
        request = client.build_request(
            "GET", _address(url), headers=_range_headers(start, stop, identity)
        )
        for _ in range(_MAX_REDIRECTS):
            _check_port(request)
            response = await _headers_in_time(client, request, settings)
            try:
                following = _redirected(response)
                if following is None:
                    yield read_answer(response, start, stop, settings), response.aiter_raw()
                    return
            finally:
                await response.aclose()
            request = following
    raise RefusedError("redirects without end")


@contextlib.contextmanager
def open_range_blocking(
    client: httpx.Client,
    url: str,
    start: int,
    stop: int,
    identity: Identity | None,
    settings: Settings,
) -> Iterator[tuple[Answer, Iterator[bytes]]]:
    """Do the same as ``open_range`` without an event loop."""
    with _named_failures():
        request = client.build_request(
            "GET", _address(url), headers=_range_headers(start, stop, identity)
        )
        for _ in range(_MAX_REDIRECTS):
            _check_port(request)
            response = client.send(request, stream=True)
            try:
                following = _redirected(response)
                if following is None:
                    yield read_answer(response, start, stop, settings), response.iter_raw()
                    return
            finally:
                response.close()
            request = following
    raise RefusedError("redirects without end")


def read_answer(response: httpx.Response, start: int, stop: int, settings: Settings) -> Answer:
    """Return what a response to a request for ``start:stop`` brings.

    Raises:
        TransientError: The status says that another attempt may succeed.
        RefusedError: The response is no part of a file.
        ChangedError: The file has fewer bytes than ``start``.
    """
    headers = response.headers
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code == 416:
        raise ChangedError(f"{status}: fewer than {start + 1} bytes")
    if response.status_code in _TRANSIENT:
        raise TransientError(status, _retry_after(headers.get("Retry-After"), settings))
    if response.status_code not in (200, 206):
        raise RefusedError(status)
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml", "multipart/byteranges"):
        raise RefusedError(f"{status} with {kind} instead of the file")
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise RefusedError(f"content encoded as {headers['Content-Encoding']}, unasked")
    validators = (headers.get("ETag"), headers.get("Last-Modified"))
    if response.status_code == 200:
        length = headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() else None
        chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        return Answer(0, total, total, True, chunked, *validators)
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        raise RefusedError(f"{status} without a usable Content-Range")
    first, last, size = (int(group) for group in match.groups())
    if first != start or not first <= last < min(stop, size):
        raise RefusedError(f"bytes {first}-{last}/{size} for a request of {start}-{stop - 1}")
    return Answer(first, last + 1, size, False, False, *validators)


def refuse_page(head: bytes) -> None:
    """Refuse a body that begins like an HTML page, whatever type it claims.

    Raises:
        RefusedError: It does.
    """
    if _PAGE.match(head[:4096].removeprefix(b"\xef\xbb\xbf")):
        raise RefusedError("an HTML page instead of the file")


def _retry_after(text: str | None, settings: Settings) -> float | None:
    """Return the seconds that a server asks to wait.

    Raises:
        RefusedError: They are more than the settings allow.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        delay = float(text)
    else:
        try:
            date = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        delay = max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
    if delay > settings.retry_after_limit:
        raise RefusedError(f"asks to come back in {delay:.0f} s")
    return delay
