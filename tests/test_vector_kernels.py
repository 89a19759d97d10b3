"""Products and loops over pairs in vectors of the processor, against plain loops and numpy."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cgbench.kernels import pair_vectors, pairs
from cgbench.kernels.compiled import aligned_copy
from cgbench.kernels.products import (
    add_product,
    add_transposed_product,
    multiply,
    packed,
    panel_width,
    tile_rows,
)
from cgbench.kernels.vectors import Host, host, host_of, lanes_of

Dtype = type[np.float32] | type[np.float64]
DTYPES: list[Dtype] = [np.float32, np.float64]
TOLERANCE: dict[Dtype, float] = {np.float32: 1e-6, np.float64: 1e-14}


def drawn(shape: tuple[int, ...], dtype: Dtype, seed: int = 0) -> NDArray[np.floating]:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def product(rows: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    out = np.full((len(rows), matrix.shape[1]), np.nan, rows.dtype)
    multiply(rows, packed(matrix), out)
    return out


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(0, 40),
    depth=st.integers(0, 40),
    width=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_products_of_any_shape(
    n_rows: int, depth: int, width: int, dtype: Dtype, seed: int
) -> None:
    rows, matrix = drawn((n_rows, depth), dtype, seed), drawn((depth, width), dtype, seed + 1)
    found = product(rows, matrix)
    exact = rows.astype(np.float64) @ matrix.astype(np.float64)
    # The bound of a sum of so many products.
    bound = np.abs(rows).astype(np.float64) @ np.abs(matrix).astype(np.float64)
    assert (np.abs(found - exact) <= (depth + 1) * np.finfo(dtype).eps * bound).all()
    # A row is the same wherever it is, and whatever else is computed.
    for row in range(0, n_rows, 3):
        np.testing.assert_array_equal(product(rows[row : row + 1], matrix)[0], found[row])
    added = found.copy()
    add_product(rows, packed(matrix), added)
    np.testing.assert_array_equal(added, found + found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_remainder_of_rows_and_columns(dtype: Dtype) -> None:
    matrix = drawn((128, 2 * panel_width(dtype) + 1), dtype)
    rows = drawn((2 * tile_rows() + 1, 128), dtype, 1)
    whole = product(rows, matrix)
    for n_rows in range(1, len(rows)):
        np.testing.assert_array_equal(product(rows[:n_rows], matrix), whole[:n_rows])
    for width in range(1, matrix.shape[1]):
        found = product(rows[:3], np.ascontiguousarray(matrix[:, :width]))
        np.testing.assert_array_equal(found, whole[:3, :width])


def test_rows_that_are_no_numbers_stay_alone() -> None:
    rows, matrix = drawn((13, 20), np.float32), drawn((20, 33), np.float32, 1)
    whole = product(rows, matrix)
    rows[4, 3], rows[9, 0] = np.nan, np.inf
    found = product(rows, matrix)
    others = np.setdiff1d(np.arange(13), [4, 9])
    np.testing.assert_array_equal(found[others], whole[others])
    assert np.isnan(found[4]).all()
    assert not np.isfinite(found[9]).any()


def test_nothing_outside_the_result_is_written() -> None:
    memory = np.full((12, 5), 7.0, np.float32)
    multiply(drawn((9, 4), np.float32), packed(drawn((4, 5), np.float32)), memory[:9])
    assert (memory[9:] == 7.0).all()
    assert (memory[:9] != 7.0).all()


@settings(max_examples=60, deadline=None)
@given(
    depth=st.integers(0, 40),
    height=st.integers(1, 40),
    width=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
)
def test_transposed_products_of_any_shape(
    depth: int, height: int, width: int, dtype: Dtype
) -> None:
    left, right = drawn((depth, height), dtype), drawn((depth, width), dtype, 1)
    memory = drawn((height + 1, width), dtype, 2)
    before = memory.astype(np.float64)
    add_transposed_product(left, right, memory[:height])
    exact = before[:height] + left.T.astype(np.float64) @ right.astype(np.float64)
    bound = np.abs(before[:height]) + np.abs(left.T).astype(float) @ np.abs(right).astype(float)
    assert (np.abs(memory[:height] - exact) <= (depth + 1) * np.finfo(dtype).eps * bound).all()
    np.testing.assert_array_equal(memory[height], before[height])


class Pairs:
    """Random pairs of beads with places in a table."""

    def __init__(self, n_beads: int, n_filters: int, dtype: Dtype, seed: int, share: float) -> None:
        generator = np.random.default_rng(seed)
        self.lanes = lanes_of(np.dtype(dtype).itemsize)
        width = -(-n_filters // self.lanes) * self.lanes
        start, second = [0], list[int]()
        for bead in range(n_beads):
            chosen = np.flatnonzero(generator.random(n_beads - bead - 1) < share) + bead + 1
            second += chosen.tolist()
            start.append(len(second))
        self.n = len(second)
        self.lists = np.array(start, np.int32), np.array(second, np.int32)
        self.place = generator.integers(0, 20, self.n).astype(np.int32)
        self.weights, self.table, self.sent, self.gradient = (
            aligned_copy(generator.normal(size=shape).astype(dtype))
            for shape in ((self.n, 8), (23, width), (n_beads, width), (n_beads, width))
        )
        self.start = generator.normal(size=self.n).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(
    n_beads=st.integers(1, 20),
    n_filters=st.integers(1, 150),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_pairs_are_those_of_the_plain_loops(
    n_beads: int, n_filters: int, dtype: Dtype, seed: int, share: float
) -> None:
    case = Pairs(n_beads, n_filters, dtype, seed, share)
    arguments = (case.place, case.weights, case.table, case.sent)

    def close(found: NDArray[Any], expected: NDArray[Any]) -> None:
        scale = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(found / scale, expected / scale, atol=30 * TOLERANCE[dtype])

    expected, found = np.empty_like(case.sent), np.full_like(case.sent, np.nan)
    pairs.send_messages(case.lists, *arguments, expected)
    pair_vectors.send_vectors(*case.lists, *arguments, found, case.lanes)
    close(found, expected)
    for senders in (True, False):
        slopes, sums = case.start.copy(), np.full(case.n, np.nan, dtype)
        partial = np.zeros((case.n, case.lanes), dtype)
        partial[:, 0] = case.start
        pulled = np.full_like(case.sent, np.nan)
        if senders:
            pairs.pull_back(case.lists, *arguments, case.gradient, slopes, expected)
            pair_vectors.pull_vectors(
                *case.lists, *arguments, case.gradient, partial, pulled, case.lanes
            )
            close(pulled, expected)
        else:
            pairs.pull_back(case.lists, *arguments, case.gradient, slopes, None)
            pair_vectors.slopes_of_vectors(
                *case.lists, *arguments, case.gradient, partial, case.lanes
            )
        pair_vectors.summed_slopes(partial, case.n, sums)
        close(sums, slopes)


@pytest.mark.parametrize(
    ("triple", "features", "expected"),
    [
        ("x86_64-unknown-linux-gnu", "+avx2,+avx512f,+fma", Host(64, 32, True)),
        ("x86_64-unknown-linux-gnu", "+avx,+avx2,-avx512f,+fma", Host(32, 16, True)),
        ("x86_64-unknown-linux-gnu", "+avx,-avx2,-fma", Host(16, 16, False)),
        ("x86_64-unknown-linux-gnu", "", Host(16, 16, False)),
        ("aarch64-unknown-linux-gnu", "+neon", Host(16, 32, True)),
        ("arm64-apple-darwin23.1.0", "", Host(16, 32, True)),
    ],
)
def test_what_a_processor_offers(triple: str, features: str, expected: Host) -> None:
    assert host_of(triple, features) == expected


def test_panels_fit_the_processor() -> None:
    assert panel_width(np.float32) == 2 * host().n_bytes // 4
    assert packed(drawn((3, 7, 5), np.float64)).shape == (3, 1, 7, panel_width(np.float64))


@pytest.mark.slow
@pytest.mark.parametrize("features", ["", "+avx,+avx2,+fma"])
def test_processors_with_shorter_vectors(tmp_path: Path, features: str) -> None:
    """Code for a lesser processor runs here, too; the cache keeps it apart from the host's."""
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    chosen = "products_of_any or remainder or no_numbers or outside or plain_loops"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen]
    subprocess.run([*command, __file__], env=environment, check=True)
