"""Machine code on disk, written by several processes at once and read after its source changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from cgbench.kernels import code_cache
from cgbench.kernels.code_cache import KeyedCacheFile

SOURCE = """
import sys
import numpy as np
from cgbench.kernels.compiled import compiled

def made(add):
    @compiled
    def function(x):
        return x + 1 if add else x - 1
    return function

up, down = made(True), made(False)
for word in sys.argv[1:]:
    print((up if word == "up" else down)(np.float64(3)))
print(sum(up.stats.cache_hits.values()) + sum(down.stats.cache_hits.values()))
"""


def run(folder: Path, *words: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, str(folder / "loops.py"), *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [float(line) for line in done.stdout.split()]


def test_code_of_the_disk_is_used_until_any_file_beside_it_changes(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(SOURCE)
    assert run(tmp_path, "up", "down") == [4.0, 2.0, 0]
    assert run(tmp_path, "up", "down") == [4.0, 2.0, 2]
    (tmp_path / "callee.py").write_text("")
    assert run(tmp_path, "up", "down") == [4.0, 2.0, 0]
    assert run(tmp_path, "down", "up") == [2.0, 4.0, 2]


def test_processes_that_write_at_once_never_take_each_other_s_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cache() -> KeyedCacheFile:
        return KeyedCacheFile(str(tmp_path), "loops.function-1", "stamp")

    one, other = cache(), cache()
    # Both have looked into the index before either writes: it is empty for both.
    seen = [{}, {}]
    with monkeypatch.context() as patch:
        patch.setattr(KeyedCacheFile, "_load_index", lambda self: dict(seen.pop()))
        one.save("float32", "code of float32")
        other.save("float64", "code of float64")
    # What was written first is lost from the index, but nothing is taken for something else.
    assert cache().load("float64") == "code of float64"
    assert cache().load("float32") is None
    cache().save("float32", "code of float32")
    assert (cache().load("float32"), cache().load("float64")) == (
        "code of float32",
        "code of float64",
    )


def test_a_function_that_keeps_nothing_is_left_alone() -> None:
    import numba

    function = numba.njit(lambda x: x)
    before = function._cache
    code_cache.keep_apart(function)
    assert function._cache is before
