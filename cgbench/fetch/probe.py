"""What servers say of files, asked without fetching them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from cgbench.errors import CgbenchError, IntegrityError
from cgbench.fetch.http import (
    ChangedError,
    RefusedError,
    TransientError,
    client_options,
    open_range,
    proxy_errors,
    public_address,
)
from cgbench.fetch.patience import Backoff
from cgbench.fetch.settings import Settings
from cgbench.fetch.tasks import run_blocking
from cgbench.progress import Progress, silent

_DEFAULTS = Settings()


@dataclass(frozen=True)
class Probe:
    """What an address says of its file.

    Attributes:
        url: The address.
        size: Bytes; None where no length is announced.
        etag: Entity tag, if there is one.
        last_modified: Date, if there is one.
        ranges: Whether byte ranges are served.
    """

    url: str
    size: int | None
    etag: str | None
    last_modified: str | None
    ranges: bool


async def probe_once(client: httpx.AsyncClient, url: str, settings: Settings) -> Probe:
    """Ask for the first byte of a file: that also tells whether ranges are served.

    Raises:
        TransientError: The server may answer later.
        RefusedError: It does not have the file.
    """
    try:
        async with open_range(client, url, 0, 1, None, settings) as (answer, _):
            return Probe(url, answer.total, answer.etag, answer.last_modified, not answer.whole)
    except ChangedError:
        # No byte at all satisfies no range.
        return Probe(url, 0, None, None, ranges=True)


async def probe_first(
    client: httpx.AsyncClient, urls: Sequence[str], settings: Settings
) -> int | None:
    """Return the size that the first address that answers announces; None where none does."""
    for url in urls:
        try:
            return (await probe_once(client, url, settings)).size
        except (TransientError, RefusedError):
            continue
    return None


async def _probe(client: httpx.AsyncClient, url: str, settings: Settings) -> Probe:
    backoff = Backoff(settings)
    for failures in range(1, settings.attempts + 1):
        try:
            return await probe_once(client, url, settings)
        except RefusedError as error:
            raise IntegrityError(f"{public_address(url)}: not available", found=error) from error
        except TransientError as error:
            reason = error
        if failures < settings.attempts:
            await asyncio.sleep(backoff.delay(failures, reason.delay))
    raise IntegrityError(
        f"{public_address(url)}: not available",
        found=f"{reason}; given up after {settings.attempts} attempts",
        fix="try again later, or name a mirror",
    ) from reason


def probe(url: str, settings: Settings = _DEFAULTS) -> Probe:
    """Ask a server for the size and identity of a file.

    Raises:
        IntegrityError: It does not answer, or does not have the file.
    """
    result = probe_all([url], settings)[url]
    if isinstance(result, CgbenchError):
        raise result
    return result


def probe_all(
    urls: Sequence[str], settings: Settings = _DEFAULTS, progress: Progress = silent
) -> dict[str, Probe | CgbenchError]:
    """Ask about many files at once.

    Args:
        urls: Their addresses.
        settings: How many at once (jobs times connections), and how patiently.
        progress: Told about the number of answers, as task ``sizes``.

    Returns:
        By address the answer, or why there is none.
    """
    unique = list(dict.fromkeys(urls))
    results: dict[str, Probe | CgbenchError] = {}

    async def ask(client: httpx.AsyncClient, url: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                results[url] = await _probe(client, url, settings)
            except CgbenchError as error:
                results[url] = error
        progress("sizes", len(results), len(unique))

    async def work() -> None:
        slots = asyncio.Semaphore(settings.jobs * settings.connections)
        with proxy_errors():
            client = httpx.AsyncClient(**client_options(settings))
        async with client, asyncio.TaskGroup() as group:
            for url in unique:
                group.create_task(ask(client, url, slots))

    run_blocking(work)
    return {url: results[url] for url in unique}
