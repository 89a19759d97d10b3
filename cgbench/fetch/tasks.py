"""Running asynchronous work for callers that know nothing of it."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uncancelled(work: Awaitable[T]) -> T:
    """Await work that has to end before anything else happens, even when cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, so that nobody is told that it was not; being cancelled comes first.
            task.exception()
        raise


def run_blocking(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a loop of its own thread, and return its result.

    Callers may have a loop of their own that runs already, as notebooks do. When the caller is
    interrupted (Ctrl-C), the work is cancelled, and has cleaned up before the interruption goes
    on.
    """
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    started: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()

    async def main() -> T:
        task = asyncio.ensure_future(work())
        loop = asyncio.get_running_loop()
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await task

    def run() -> None:
        try:
            result.set_result(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            result.set_exception(error)

    thread = threading.Thread(target=run, name="cgbench-fetch", daemon=True)
    thread.start()
    try:
        return result.result()
    except BaseException:
        cancel = started.result()
        if thread.is_alive() and not result.done():
            cancel()
        thread.join()
        raise
