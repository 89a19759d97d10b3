"""Fixtures for the reference data, and the settings of property tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Machines share their cores, so how long an example takes says nothing.
hypothesis.settings.register_profile("default-cgbench", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default-cgbench")

# The servers of the tests are on this machine; a proxy that a machine is set up with is not.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), "127.0.0.1,localhost"]))


def _require(condition: bool, reason: str) -> None:
    if condition:
        return
    if os.environ.get("CGBENCH_TEST_STRICT") == "1":
        pytest.fail(f"{reason}, and CGBENCH_TEST_STRICT=1 requires it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of reference data that CGBENCH_TEST_DATA names."""
    name = os.environ.get("CGBENCH_TEST_DATA")
    _require(bool(name), "CGBENCH_TEST_DATA is not set")
    folder = Path(str(name))
    _require(folder.is_dir(), f"CGBENCH_TEST_DATA={folder} is no folder")
    return folder


@pytest.fixture(scope="session")
def published_dir(data_dir: Path) -> Path:
    """Topologies, native structures and start frames of the reference work."""
    folder = data_dir / "published"
    _require(folder.is_dir(), f"{folder} is no folder")
    return folder


@pytest.fixture(scope="session")
def chignolin_dir(data_dir: Path) -> Path:
    """The raw arrays that the embedded sample is made from."""
    folder = data_dir / "chignolin_implicit"
    _require(folder.is_dir(), f"{folder} is no folder")
    return folder


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    """Give torch back the threads that it had: results are the same for the same number only."""
    given = int(os.environ.get("OMP_NUM_THREADS", "0"))
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else given
    yield
    torch = sys.modules.get("torch")
    if torch is not None and before > 0 and torch.get_num_threads() != before:
        torch.set_num_threads(before)
