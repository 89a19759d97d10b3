"""Fetching that is killed, interrupted, shared between processes, or out of disk."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_server import Fault, FaultServer
from toy_fetch import (
    QUICK,
    fetch_elsewhere,
    get,
    leftovers,
    random_bytes,
    request,
    sha256,
    wait_for,
    write_file,
)

from cgbench.errors import UsageError
from cgbench.fetch import DownloadLock, fetch
from cgbench.fetch import partial as partial_module
from cgbench.fetch.partial import partial_paths, read_journal

SIZE = 3_000_001
DATA = random_bytes(SIZE)
SLOW = Fault(rate=1e6, times=None)
PATIENT = QUICK.model_copy(update={"commit_seconds": 0.1})


@pytest.fixture
def server(tmp_path: Path):
    with FaultServer(write_file(tmp_path / "served", DATA)) as running:
        yield running


def _on_disk(home: Path) -> int:
    journal = read_journal(*partial_paths(home / "raw" / "a.npy"))
    return 0 if journal is None else journal[1].total


def _right(home: Path) -> bool:
    return (home / "raw" / "a.npy").read_bytes() == DATA and leftovers(home) == ["a.npy"]


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


@pytest.mark.parametrize("least", [65_536, 400_000, 2_500_000])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_anywhere_is_taken_up(
    server: FaultServer, tmp_path: Path, least: int, number: signal.Signals
) -> None:
    home = tmp_path / "home"
    server.script("a.npy", SLOW)
    process = fetch_elsewhere(home, server.url + "/a.npy", PATIENT)
    wait_for(lambda: _on_disk(home) >= least)
    process.send_signal(number)
    code, output = _finish(process)
    assert code == -number, output
    if number == signal.SIGINT:
        assert output.rstrip().endswith("KeyboardInterrupt")
        assert leftovers(home) == ["a.npy.partial", "a.npy.partial.journal"]
    kept = _on_disk(home)
    assert least <= kept < SIZE
    server.script("a.npy")
    server.forget()
    fetched = get(home, server.url + "/a.npy")
    assert _right(home)
    assert fetched.transferred == SIZE - kept == server.sent("a.npy")


def test_what_the_journal_says_is_what_the_file_holds(server: FaultServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.script("a.npy", SLOW)
    process = fetch_elsewhere(home, server.url + "/a.npy", PATIENT)
    wait_for(lambda: _on_disk(home) > 500_000)
    process.kill()
    _finish(process)
    data, journal = partial_paths(home / "raw" / "a.npy")
    found = read_journal(data, journal)
    assert found is not None
    content = data.read_bytes()
    for start, stop in found[1].spans:
        assert content[start:stop] == DATA[start:stop]
    # At most a chunk of each connection was not yet recorded.
    written = sum(a == b for a, b in zip(content, DATA, strict=False) if a)
    assert written - found[1].total <= PATIENT.connections * 2 * PATIENT.chunk_bytes


@pytest.mark.parametrize("step", ["fsync", "replace", "unlink"])
def test_killed_between_any_two_steps_of_finishing(
    server: FaultServer, tmp_path: Path, step: str
) -> None:
    home = tmp_path / "home"
    prelude = f"""
import os, pathlib
from cgbench.fetch.partial import Partial
original = Partial.finish
def finish(self, target):
    def die(*args, **options):
        os.kill(os.getpid(), 9)
    if {step!r} == "fsync":
        os.fsync = die
    else:
        setattr(pathlib.Path, {step!r}, die)
    original(self, target)
Partial.finish = finish
"""
    process = fetch_elsewhere(home, server.url + "/a.npy", prelude=prelude)
    assert _finish(process)[0] == -signal.SIGKILL
    server.forget()
    assert get(home, server.url + "/a.npy").sha256 == sha256(DATA)
    assert server.count() == 0
    assert (home / "raw" / "a.npy").read_bytes() == DATA
    assert leftovers(home) == ["a.npy"]


def test_two_processes_share_one_download(server: FaultServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.script("a.npy", Fault(rate=1.5e6, times=None))
    processes = [fetch_elsewhere(home, server.url + "/a.npy", PATIENT) for _ in range(2)]
    results = [_finish(process) for process in processes]
    assert [code for code, _ in results] == [0, 0], results
    assert _right(home)
    assert server.sent("a.npy") == SIZE
    done = sorted(int(text.rpartition("done ")[2].split()[0]) for _, text in results)
    assert done == [0, SIZE]
    waited = next(text for _, text in results if "done 0 " in text)
    assert "raw/a.npy (waiting for process " in waited


def test_a_lock_of_a_killed_process_is_free(server: FaultServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.script("a.npy", Fault(stall_after=100_000, times=None, no_ranges=True))
    process = fetch_elsewhere(home, server.url + "/a.npy", PATIENT)
    wait_for(lambda: server.sent("a.npy") >= 100_000)
    assert json.loads((home / "raw" / "a.npy.lock").read_text())["process"] == process.pid
    process.kill()
    _finish(process)
    # As if it had been killed while it wrote the beginning of its journal.
    (home / "raw" / ".a.npy.partial.journal.x.partial").write_bytes(b"")
    server.script("a.npy")
    get(home, server.url + "/a.npy")
    assert _right(home)


def test_the_second_takes_over_when_the_first_is_killed(
    server: FaultServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    server.script("a.npy", SLOW)
    first = fetch_elsewhere(home, server.url + "/a.npy", PATIENT)
    wait_for(lambda: _on_disk(home) > 200_000)
    waiting = threading.Event()

    def listen(task: str, done: float, total: float) -> None:
        if f"waiting for process {first.pid} on " in task:
            waiting.set()

    with ThreadPoolExecutor(1) as pool:
        lock = DownloadLock(home)
        second = pool.submit(fetch, request(home, server.url + "/a.npy"), lock, QUICK, listen)
        assert waiting.wait(20)
        first.kill()
        _finish(first)
        server.script("a.npy")
        assert 0 < second.result(60).transferred < SIZE - 200_000 + 1
    assert _right(home)


def test_the_lock_file_survives_many_writers(tmp_path: Path) -> None:
    names = [f"{number}.npy" for number in range(12)]
    folder = tmp_path / "served"
    for number, name in enumerate(names):
        write_file(folder, random_bytes(1000, seed=number), name)
    home = tmp_path / "home"
    with FaultServer(folder) as server, ThreadPoolExecutor(6) as pool:
        wanted = [request(home / name, f"{server.url}/{name}") for name in names]
        lock = DownloadLock(home)
        keyed = [type(one)(str(n), one.urls, one.target) for n, one in enumerate(wanted)]
        list(pool.map(lambda one: fetch(one, lock, QUICK), keyed))
    assert sorted(lock.entries()) == sorted(map(str, range(12)))


LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""


@pytest.mark.parametrize("no_ranges", [True, False])
def test_a_disk_that_fills_up_keeps_what_came(
    server: FaultServer, tmp_path: Path, no_ranges: bool
) -> None:
    home = tmp_path / "home"
    server.script("a.npy", Fault(no_ranges=no_ranges, times=None))
    one = QUICK.model_copy(update={"connections": 1})
    code, output = _finish(fetch_elsewhere(home, server.url + "/a.npy", one, prelude=LIMIT))
    assert code == 1
    assert "UsageError" in output
    assert "disk is full" in output
    assert _on_disk(home) > 900_000
    kept = _on_disk(home)
    server.script("a.npy")
    assert get(home, server.url + "/a.npy").transferred == SIZE - kept
    assert _right(home)


FULL = """
import os, subprocess, sys
from pathlib import Path
from cgbench.errors import UsageError
from cgbench.fetch import DownloadLock, Request, Settings, fetch, space
home, url, settings = Path(sys.argv[1]), sys.argv[2], Settings.model_validate_json(sys.argv[3])
mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home)]
if subprocess.run(mount, capture_output=True).returncode:
    sys.exit(77)
real, space.free_bytes = space.free_bytes, lambda _: 10**12
request = Request("a", (url,), home / "a.npy")
try:
    fetch(request, DownloadLock(home), settings)
except UsageError as error:
    print(error)
space.free_bytes = real
try:
    fetch(request, DownloadLock(home), settings)
except UsageError as error:
    print(error)
subprocess.run(["mount", "-o", "remount,size=8m", str(home)], check=True)
print("then", fetch(request, DownloadLock(home), settings))
"""


def test_a_real_disk_that_is_too_small(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    arguments = [str(tmp_path / "home"), server.url + "/a.npy", QUICK.model_dump_json()]
    result = subprocess.run(
        [unshare, "--user", "--map-root-user", "--mount", sys.executable, "-c", FULL, *arguments],
        capture_output=True,
        text=True,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("no file system may be mounted here")
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.index("disk is full"), result.stdout.index("not enough disk")
    assert first < second < result.stdout.index("then Fetched(key='a'")
    assert sha256(DATA) in result.stdout
    assert server.sent() < SIZE + 1_500_000


def test_a_flush_that_fails_is_not_recorded(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(partial_module.os, "fsync", fsync)
    with pytest.raises(UsageError, match="disk is full"):
        get(home, server.url + "/a.npy")
    monkeypatch.undo()
    kept = _on_disk(home)
    assert 0 < kept < SIZE
    assert get(home, server.url + "/a.npy").transferred == SIZE - kept
    assert _right(home)


def test_inside_a_running_loop(server: FaultServer, tmp_path: Path) -> None:
    async def notebook() -> int:
        return get(tmp_path / "home", server.url + "/a.npy").size

    assert asyncio.run(notebook()) == SIZE
