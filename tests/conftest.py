"""Fixtures for the reference data, settings of property tests, and the order of files."""

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

#: Files of half a minute and more, the longest first. Two workers take files in this order, so that
#: neither is left with a long one when the other has nothing to do.
_LONGEST = (
    "test_tutorials.py",
    "test_demo.py",
    "test_known_answer.py",
    "test_docs.py",
    "test_data_stream.py",
    "test_site_browser.py",
    "test_report_browser.py",
    "test_fused.py",
    "test_fused_training.py",
    "test_device.py",
    "test_fused_dynamics.py",
    "test_train_processes.py",
    "test_train.py",
    "test_evaluate_runs.py",
    "test_fuzz.py",
    "test_selection.py",
    "test_verification.py",
    "test_generate_run.py",
    "test_download_process.py",
    "test_paper_figures.py",
    "test_remote_store.py",
    "test_reference_verbs.py",
    "test_prior_row.py",
    "test_novelty.py",
    "test_sweep.py",
    "test_cli.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; within a file nothing moves."""
    place = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


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
