"""Fetching when nothing goes wrong, and everything around it: hashes, mirrors, batches."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from fault_server import Fault, FaultServer
from toy_fetch import QUICK, SIZE, get, leftovers, random_bytes, request, sha256, write_file

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.fetch import DownloadLock, RangeReader, Request, Settings, fetch, fetch_all
from cgbench.fetch import space as space_module

DATA = random_bytes()
HASH = sha256(DATA)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server(tmp_path: Path):
    with FaultServer(write_file(tmp_path / "served", DATA)) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _target(home: Path) -> Path:
    return home / "raw" / "a.npy"


@pytest.mark.parametrize("size", [1, 2, 65_535, 65_536, 65_537, 65_538, 200_000, SIZE])
@pytest.mark.parametrize("connections", [1, 3])
def test_every_byte_comes_once(tmp_path: Path, home: Path, size: int, connections: int) -> None:
    folder = write_file(tmp_path / "served", DATA[:size])
    chosen = QUICK.model_copy(update={"connections": connections, "chunk_bytes": 30_000})
    with FaultServer(folder) as server:
        fetched = get(home, server.url + "/a.npy", settings=chosen)
        assert server.sent("a.npy") == size == fetched.transferred
    assert _target(home).read_bytes() == DATA[:size]
    assert (fetched.size, fetched.sha256) == (size, sha256(DATA[:size]))
    assert leftovers(home) == ["a.npy"]


def test_several_connections_work_at_once(server: FaultServer, home: Path) -> None:
    server.script("a.npy", Fault(), Fault(rate=3e5, times=None))
    get(home, server.url + "/a.npy")
    starts = {record.start for record in server.requests}
    assert {0, 65_536} < starts
    assert len(starts) >= 5
    assert max(starts) > SIZE // 2


def test_the_first_hash_is_kept_and_later_ones_compared(server: FaultServer, home: Path) -> None:
    first = get(home, server.url + "/a.npy")
    assert (first.pinned, first.sha256, first.path) == ("first download", HASH, _target(home))
    entry = DownloadLock(home).get("raw/a.npy")
    assert entry is not None
    assert (entry.sha256, entry.size, entry.url) == (HASH, SIZE, server.url + "/a.npy")
    assert entry.etag is not None
    assert entry.last_modified is not None
    server.forget()
    again = get(home, server.url + "/a.npy")
    assert (again.pinned, again.transferred, server.requests) == ("lock", 0, [])
    _target(home).unlink()
    assert get(home, server.url + "/a.npy").pinned == "lock"
    assert get(home, server.url + "/a.npy", sha=HASH.upper()).pinned == "registry"


def test_another_content_later_names_both_hashes(server: FaultServer, home: Path) -> None:
    get(home, server.url + "/a.npy")
    _target(home).unlink()
    other = random_bytes(seed=3)
    (server.root / "a.npy").write_bytes(other)
    with pytest.raises(IntegrityError) as caught:
        get(home, server.url + "/a.npy")
    assert HASH in str(caught.value.expected)
    assert "first download" in str(caught.value.expected)
    assert sha256(other) in str(caught.value.found)
    assert "downloads.lock.json" in str(caught.value.fix)
    assert leftovers(home) == []
    # Another size is seen before the bulk is fetched.
    (server.root / "a.npy").write_bytes(other + b"x")
    with pytest.raises(IntegrityError, match=f"{SIZE + 1} bytes announced, {SIZE} expected"):
        get(home, server.url + "/a.npy")


def test_a_registry_hash_outranks_the_lock(server: FaultServer, home: Path) -> None:
    get(home, server.url + "/a.npy")
    with pytest.raises(IntegrityError, match="the registry"):
        get(home, server.url + "/a.npy", sha="0" * 64)
    assert _target(home).read_bytes() == DATA


@pytest.mark.parametrize("verify", [False, True])
def test_a_damaged_target_is_noticed(server: FaultServer, home: Path, verify: bool) -> None:
    get(home, server.url + "/a.npy")
    status = _target(home).stat()
    damaged = bytearray(DATA)
    damaged[5] ^= 1
    _target(home).write_bytes(damaged)
    if verify:
        # Size and time say nothing is wrong: only hashing tells.
        os.utime(_target(home), ns=(status.st_atime_ns, status.st_mtime_ns))
        assert get(home, server.url + "/a.npy").transferred == 0
    with pytest.raises(IntegrityError) as caught:
        get(home, server.url + "/a.npy", settings=QUICK.model_copy(update={"verify": verify}))
    assert HASH in str(caught.value.expected)
    assert sha256(bytes(damaged)) in str(caught.value.found)


def test_a_touched_target_is_hashed_once(server: FaultServer, home: Path) -> None:
    get(home, server.url + "/a.npy")
    os.utime(_target(home), (1e9, 1e9))
    assert get(home, server.url + "/a.npy").transferred == 0
    entry = DownloadLock(home).get("raw/a.npy")
    assert entry is not None
    assert entry.mtime_ns == int(1e18)


def test_a_file_that_somebody_put_there(server: FaultServer, home: Path) -> None:
    write_file(home, b"")
    write_file(home / "raw", DATA)
    assert get(home, server.url + "/a.npy").pinned == "first download"
    assert server.sent("a.npy") <= 1
    (home / "downloads.lock.json").unlink()
    write_file(home / "raw", DATA[:-1])
    with pytest.raises(IntegrityError, match="not known to be the published file"):
        get(home, server.url + "/a.npy")
    assert _target(home).read_bytes() == DATA[:-1]


def test_the_head_check_sees_files_that_are_there_or_half_there(
    server: FaultServer, home: Path
) -> None:
    def check(head: bytes, size: int | None) -> None:
        if head != DATA[:65_536] or size != SIZE:
            raise ValidationError("a.npy: wrong shape")

    server.script("a.npy", Fault(drop_at=300_000, times=None))
    with pytest.raises(IntegrityError):
        get(home, server.url + "/a.npy")
    (home / "raw" / "a.npy.partial").open("r+b").write(b"x")
    server.script("a.npy")
    checked = dataclasses.replace(request(home, server.url + "/a.npy"), check_head=check)
    fetch(checked, DownloadLock(home), QUICK)
    assert _target(home).read_bytes() == DATA


@pytest.mark.parametrize("first", ["dead", "404", "drops", "html", "corrupt", "other size"])
def test_mirrors_are_tried_in_order(tmp_path: Path, home: Path, first: str) -> None:
    faults = {
        "404": Fault(status=404, times=None),
        "drops": Fault(drop_at=300_000, times=None),
        "html": Fault(html=True, times=None),
        "corrupt": Fault(corrupt_at=8, times=None),
        "other size": Fault(announce=3, times=None),
        "dead": Fault(drop_header=True, times=None),
    }
    folder = write_file(tmp_path / "served", DATA)
    with FaultServer(folder, {"a.npy": [faults[first]]}) as origin, FaultServer(folder) as mirror:
        urls = (origin.url + "/a.npy", mirror.url + "/a.npy")
        fetched = get(home, *urls, size=SIZE, sha=HASH)
        assert fetched.url == urls[1]
        if first == "drops":
            # A pinned hash allows to go on with what the origin sent.
            assert mirror.sent() + 200_000 < SIZE
    assert _target(home).read_bytes() == DATA
    assert leftovers(home) == ["a.npy"]


@pytest.mark.parametrize("same", [True, False])
def test_parts_of_two_addresses_are_joined_only_if_they_are_the_same(
    tmp_path: Path, home: Path, same: bool
) -> None:
    folders = [write_file(tmp_path / "one", DATA), write_file(tmp_path / "two", DATA)]
    os.utime(folders[0] / "a.npy", (1e9, 1e9))
    os.utime(folders[1] / "a.npy", (1e9, 1e9 if same else 1.1e9))
    drop = {"a.npy": [Fault(drop_at=300_000, times=None)]}
    with FaultServer(folders[0], drop) as origin, FaultServer(folders[1]) as mirror:
        get(home, origin.url + "/a.npy", mirror.url + "/a.npy")
        assert (mirror.sent() < SIZE) == same
    assert _target(home).read_bytes() == DATA


def test_all_addresses_fail_and_all_reasons_are_told(tmp_path: Path, home: Path) -> None:
    folder = write_file(tmp_path / "served", DATA)
    pages = {"a.npy": [Fault(html=True, times=None)]}
    with FaultServer(folder, pages) as server, pytest.raises(IntegrityError) as caught:
        get(home, server.url + "/b.npy", server.url + "/a.npy", "http://127.0.0.1:9/a.npy")
    message = str(caught.value)
    assert "b.npy: 404 Not Found" in message
    assert "text/html instead of the file" in message
    assert "connection lost" in message


def test_file_addresses(tmp_path: Path, home: Path) -> None:
    folder = write_file(tmp_path / "with space %20", DATA)
    url = (folder / "a.npy").as_uri()
    assert get(home, url).sha256 == HASH
    for wrong in (folder.as_uri(), (folder / "b").as_uri(), "file://elsewhere/etc/hosts"):
        with pytest.raises(IntegrityError):
            get(tmp_path / "other", wrong)


@pytest.mark.parametrize("hosts", ["localhost", "*"])
def test_file_addresses_whatever_goes_without_proxy(
    tmp_path: Path, home: Path, hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", hosts)
    monkeypatch.setenv("no_proxy", hosts)
    url = (write_file(tmp_path / "served", DATA) / "a.npy").as_uri()
    assert get(home, url).sha256 == HASH
    assert RangeReader([url]).read(5, 10) == DATA[5:10]


def test_passwords_of_addresses_are_told_nobody(server: FaultServer, home: Path) -> None:
    url = server.url.replace("//", "//user:secret@") + "/a.npy"
    assert get(home, url).url == server.url + "/a.npy"
    assert "authorization" in server.requests[0].headers
    assert "secret" not in (home / "downloads.lock.json").read_text()
    with pytest.raises(IntegrityError) as caught:
        get(home / "other", url.replace("a.npy", "none.npy"))
    assert "secret" not in str(caught.value)


def test_proxies_of_the_environment_are_used(
    server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert get(home, "http://data.invalid/a.npy").sha256 == HASH
    assert server.requests[0].headers["host"] == "data.invalid"
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
    with pytest.raises(UsageError, match="proxy settings"):
        get(home / "other", "http://data.invalid/a.npy")


def test_redirections_are_followed(server: FaultServer, home: Path) -> None:
    server.script("old.npy", Fault(status=302, headers={"Location": "/a.npy"}, times=None))
    assert get(home, server.url + "/old.npy").sha256 == HASH


def test_a_batch_goes_on_after_a_failure(tmp_path: Path, home: Path) -> None:
    files = {f"{number}.npy": random_bytes(150_000, seed=number) for number in range(5)}
    for name, data in files.items():
        write_file(tmp_path / "served", data, name)
    told: dict[str, list[tuple[float, float]]] = {}

    def listen(task: str, done: float, total: float) -> None:
        told.setdefault(task, []).append((done, total))

    with FaultServer(tmp_path / "served", {"2.npy": [Fault(html=True, times=None)]}) as server:
        wanted = [
            Request(name, (f"{server.url}/{name}",), home / "raw" / name, size=150_000)
            for name in [*files, "missing.npy"]
        ]
        fetched, errors = fetch_all(wanted, home, QUICK, listen)
    assert [one.key for one in fetched] == ["0.npy", "1.npy", "3.npy", "4.npy"]
    assert all(one.path.read_bytes() == files[one.key] for one in fetched)
    assert list(errors) == ["2.npy", "missing.npy"]
    assert "text/html" in str(errors["2.npy"])
    assert told["0.npy"][-1] == (150_000, 150_000)
    assert told["total"][0][1] == 6 * 150_000
    assert max(done for done, _ in told["total"]) <= 6 * 150_000


@pytest.mark.parametrize("known", [True, False])
def test_a_batch_that_does_not_fit_is_refused_as_a_whole(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    for name in ("1.npy", "2.npy"):
        write_file(tmp_path / "served", DATA, name)
    with FaultServer(tmp_path / "served") as server:
        wanted = [
            Request(name, (f"{server.url}/{name}",), home / name, size=SIZE if known else None)
            for name in ("1.npy", "2.npy")
        ]
        # Half of the first file is there already.
        server.script("1.npy", Fault(), Fault(drop_at=300_000, times=None))
        with pytest.raises(IntegrityError):
            fetch(wanted[0], DownloadLock(home), QUICK.model_copy(update={"connections": 1}))
        server.script("1.npy")
        server.forget()
        monkeypatch.setattr(space_module, "free_bytes", lambda _: 2 * SIZE - 300_001)
        with pytest.raises(UsageError, match="not enough disk space"):
            fetch_all(wanted, home, QUICK)
        assert server.sent() <= (0 if known else 2)
        monkeypatch.setattr(space_module, "free_bytes", lambda _: 2 * SIZE - 300_000)
        fetched, errors = fetch_all(wanted, home, QUICK)
        assert (len(fetched), errors) == (2, {})
        assert server.sent() <= 2 * SIZE - 300_000 + 2


def test_wrong_requests(home: Path) -> None:
    one = Request("a", ("http://x/a",), home / "a")
    for wanted in (
        [one, dataclasses.replace(one, target=home / "b")],
        [one, dataclasses.replace(one, key="b")],
        [dataclasses.replace(one, urls=())],
        [dataclasses.replace(one, urls=("ftp://x/a",))],
    ):
        with pytest.raises(UsageError):
            fetch_all(wanted, home)
    (home / "a").mkdir(parents=True)
    with pytest.raises(UsageError, match="is no file"):
        fetch(one, DownloadLock(home))


def test_a_home_that_cannot_be_written(server: FaultServer, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        get(home, server.url + "/a.npy")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "x"}', json.dumps({"version": 2})])
def test_a_damaged_lock_file_is_an_error(server: FaultServer, home: Path, content: str) -> None:
    home.mkdir()
    (home / "downloads.lock.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"downloads\.lock\.json: damaged"):
        get(home, server.url + "/a.npy")


def test_settings_are_checked() -> None:
    for wrong in ({"jobs": 0}, {"connections": 0}, {"attempts": 0}, {"chunk_bytes": 0}):
        with pytest.raises(ValueError, match="greater than or equal"):
            Settings(**wrong)
