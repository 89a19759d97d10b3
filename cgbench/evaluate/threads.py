"""Threads that share the work of an evaluation."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads, in which matrix products do not start threads of their own.

    Small products by several threads at once take many times as long when each of them starts as
    many threads again as there are cores.

    Args:
        workers: Number of threads.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        yield pool
