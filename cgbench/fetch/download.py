"""Fetches files, verifies them, and says what their bytes were compared with."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx

from cgbench.errors import CgbenchError, UsageError
from cgbench.fetch.http import client_options, proxy_errors
from cgbench.fetch.job import Job
from cgbench.fetch.lock import DownloadLock
from cgbench.fetch.meter import Meter
from cgbench.fetch.settings import Fetched, Request, Settings
from cgbench.fetch.space import check_space
from cgbench.fetch.tasks import run_blocking
from cgbench.progress import Progress, silent

_DEFAULTS = Settings()


def fetch(
    request: Request,
    lock: DownloadLock,
    settings: Settings = _DEFAULTS,
    progress: Progress = silent,
) -> Fetched:
    """Fetch one file, or complete one whose fetching was interrupted, and verify it.

    A file that is there is not fetched again: it is trusted if size and modification time are
    those of the lock file, else hashed. Bytes that are on disk from an earlier attempt are kept
    if the server still has the same content (ETag, Last-Modified and size). Of several processes
    that want the same file one fetches it and the others wait for it.

    Args:
        request: What to fetch.
        lock: Hashes of what was fetched before; the file's own is added.
        settings: How to fetch it.
        progress: Told about the file's bytes, under its key; called from another thread.

    Returns:
        Where it is, its hash and what that was compared with.

    Raises:
        IntegrityError: No address has the file, or what came or was there is not the file.
        UsageError: The disk has no room, or the request is wrong.
        CgbenchError: The request's own check refuses the file.
    """
    _check_requests([request])
    meter = Meter(progress, total=False)

    async def work() -> Fetched:
        async with _client(settings) as client:
            return await Job(client, request, lock, settings, meter, 0).run()

    return run_blocking(work)


def fetch_all(
    requests: Sequence[Request],
    home: Path,
    settings: Settings = _DEFAULTS,
    progress: Progress = silent,
) -> tuple[list[Fetched], dict[str, CgbenchError]]:
    """Fetch several files at once; what fails does not keep the others from being fetched.

    Args:
        requests: What to fetch.
        home: The data home, for its lock file.
        settings: How to fetch it.
        progress: Told about each file's bytes, under its key, and about all under ``total``;
            called from another thread.

    Returns:
        What is there, in the order of the requests, and by key why the rest is not.

    Raises:
        UsageError: The disk has no room for all files together, or two requests are for the same
            file. Nothing is fetched then.
    """
    _check_requests(requests)
    lock = DownloadLock(home)
    meter = Meter(progress, total=True)
    errors: dict[str, CgbenchError] = {}

    async def attempt(job: Job, slots: asyncio.Semaphore) -> Fetched | None:
        async with slots:
            try:
                return await job.run()
            except CgbenchError as error:
                errors[job.request.key] = error
                return None

    async def work() -> list[Fetched]:
        async with _client(settings) as client:
            jobs = [
                Job(client, request, lock, settings, meter, number)
                for number, request in enumerate(requests)
            ]
            await _check_all_space(jobs, settings)
            slots = asyncio.Semaphore(settings.jobs)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(attempt(job, slots)) for job in jobs]
            results = [task.result() for task in tasks]
            return [result for result in results if result is not None]

    fetched = run_blocking(work)
    return fetched, {
        request.key: errors[request.key] for request in requests if request.key in errors
    }


def _client(settings: Settings) -> httpx.AsyncClient:
    with proxy_errors():
        return httpx.AsyncClient(**client_options(settings))


def _check_requests(requests: Sequence[Request]) -> None:
    for request in requests:
        if not request.urls:
            raise UsageError(f"{request.key}: no address to fetch it from")
        for url in request.urls:
            if url.partition("://")[0].lower() not in ("http", "https", "file"):
                raise UsageError(f"{request.key}: {url}", expected="http://, https:// or file://")
    for what in ("key", "target"):
        seen = [getattr(request, what) for request in requests]
        twice = {str(value) for value in seen if seen.count(value) > 1}
        if twice:
            raise UsageError(f"several requests for {', '.join(sorted(twice))}")


async def _check_all_space(jobs: Sequence[Job], settings: Settings) -> None:
    """Ask for sizes that are not known, and refuse a batch that does not fit on the disk."""
    slots = asyncio.Semaphore(settings.jobs * settings.connections)

    async def missing(job: Job) -> int:
        async with slots:
            return await job.missing_bytes()

    sizes = await asyncio.gather(*(missing(job) for job in jobs))
    needs = {job.request.target: size for job, size in zip(jobs, sizes, strict=True)}
    check_space(needs, settings.reserve_bytes)
