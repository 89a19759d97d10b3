"""The floor of a simulation: matrix products and nothing else, at the rate the machine has them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from cgbench.kernels.compiled import aligned_copy, compiled
from cgbench.kernels.products import multiply, packed

Clock = Literal["wall", "processor"]

#: Products of 128 × 128 for each bead: eleven forward and twelve back.
PRODUCTS, WIDTH = 23, 128
FLOOR_ROWS = (160, 320, 640, 1280, 2560)
_SEED = 1


class MatrixRates(NamedTuple):
    """GFLOP/s of matrix products, of the library and of our own."""

    library: float
    own: float

    @property
    def best(self) -> float:
        """The better one, which is that of the floor."""
        return max(self.library, self.own)


def seconds_of(clock: Clock) -> float:
    """Return seconds on a clock."""
    return time.perf_counter() if clock == "wall" else time.process_time()


@compiled
def _library(rows: Any, matrix: Any, out: Any, n: int) -> None:
    for _ in range(n):
        np.dot(rows, matrix, out)


@compiled
def _own(rows: Any, panels: Any, out: Any, n: int) -> None:
    for _ in range(n):
        multiply(rows, panels, out)


def matrix_rates(threads: int, clock: Clock) -> MatrixRates:
    """Return GFLOP/s of rows times a matrix of 128 × 128, of all threads; the best number of rows.

    Of the library that scipy brings and of the products that the compiled loops use.
    """
    return MatrixRates(
        library=_rate(_library, lambda matrix: matrix, threads, clock),
        own=_rate(_own, packed, threads, clock),
    )


def _rate(
    products: Callable[..., None], prepared: Callable[[Any], Any], threads: int, clock: Clock
) -> float:
    generator = np.random.default_rng(_SEED)
    matrix = prepared(generator.normal(size=(WIDTH, WIDTH)).astype(np.float32))
    best = 0.0
    with (
        ThreadpoolController().limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(threads) as pool,
    ):
        for n_rows in FLOOR_ROWS:
            sets = [
                aligned_copy(generator.normal(size=(n_rows, WIDTH)), np.float32)
                for _ in range(threads)
            ]
            outs = [aligned_copy(rows) for rows in sets]
            n = max(1, 100_000 // n_rows)
            for _ in range(6):
                began = seconds_of(clock)
                jobs = [
                    pool.submit(products, a, matrix, c, n) for a, c in zip(sets, outs, strict=True)
                ]
                for job in jobs:
                    job.result()
                taken = seconds_of(clock) - began
                best = max(best, threads * n * 2e-9 * n_rows * WIDTH * WIDTH / taken)
    return best


def matrix_kernels() -> str:
    """Return for which processor the library of matrix products has kernels in use."""
    libraries = ThreadpoolController().select(user_api="blas").info()
    return ", ".join(sorted({str(one.get("architecture")) for one in libraries}))


def floor_seconds(n_beads: int, gigaflops: float) -> float:
    """Return the seconds of a step if there were nothing but dense layers at full speed."""
    return PRODUCTS * 2e-9 * WIDTH * WIDTH * n_beads / gigaflops
