"""Fetching anew what is there, and what is told meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import Fault, FaultServer
from toy_fetch import QUICK, SIZE, get, leftovers, random_bytes, sha256, write_file

from cgbench.errors import IntegrityError
from cgbench.fetch import DownloadLock, Request, fetch, fetch_all

DATA = random_bytes()
HASH = sha256(DATA)
FORCED = QUICK.model_copy(update={"force": True})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    with FaultServer(write_file(tmp_path / "served", DATA)) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_force_fetches_anew_and_keeps_the_old_file_until_then(
    server: FaultServer, home: Path
) -> None:
    url = server.url + "/a.npy"
    get(home, url)
    other = random_bytes(seed=7)
    (server.root / "a.npy").write_bytes(other)
    target = home / "raw" / "a.npy"
    server.script("a.npy", Fault(drop_at=300_000, times=None))
    with pytest.raises(IntegrityError):
        get(home, url, settings=FORCED)
    assert target.read_bytes() == DATA
    assert DownloadLock(home).entries()["raw/a.npy"].sha256 == HASH
    # What the attempt brought is taken up by the same command, and removed by one without force.
    server.script("a.npy")
    server.forget()
    assert get(home, url, settings=FORCED).pinned == "first download"
    assert server.sent() < len(other)
    assert target.read_bytes() == other
    assert DownloadLock(home).entries()["raw/a.npy"].sha256 == sha256(other)


def test_what_a_forced_attempt_left_is_removed(server: FaultServer, home: Path) -> None:
    get(home, server.url + "/a.npy")
    server.script("a.npy", Fault(drop_at=300_000, times=None))
    with pytest.raises(IntegrityError):
        get(home, server.url + "/a.npy", settings=FORCED)
    assert "a.npy.partial" in leftovers(home)
    get(home, server.url + "/a.npy")
    assert leftovers(home) == ["a.npy"]


def test_bytes_of_earlier_runs_do_not_count_as_rate(server: FaultServer, home: Path) -> None:
    write_file(server.root, DATA, "b.npy")
    wanted = [
        Request(name, (f"{server.url}/{name}",), home / "raw" / name) for name in ("a.npy", "b.npy")
    ]
    fetch_all(wanted[:1], home, QUICK)
    server.script("b.npy", Fault(drop_at=500_000, times=None))
    one = QUICK.model_copy(update={"connections": 1})
    fetch_all(wanted, home, one)
    server.script("b.npy", Fault(rate=1e6, times=None))
    told: list[tuple[float, float]] = []
    fetch_all(wanted, home, one, lambda task, *amounts: told.append((task == "total", *amounts)))
    first = next(entry for entry in told if entry[0])
    assert first[1:] == (pytest.approx(SIZE + 500_000, abs=150_000), 2 * SIZE)


def test_waiting_for_another_attempt_is_told(server: FaultServer, home: Path) -> None:
    server.script("a.npy", Fault(status=503))
    told: list[str] = []
    wanted = Request("a.npy", (server.url + "/a.npy",), home / "raw" / "a.npy")
    fetch(wanted, DownloadLock(home), QUICK, lambda task, *_: told.append(task))
    assert any("503" in task and "next attempt" in task for task in told)
