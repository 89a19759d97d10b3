"""Each fault of a server: the right bytes in the end, or a clear error and nothing passed off."""

import os
from pathlib import Path

import pytest
from fault_server import PAGE, Fault, FaultServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_fetch import HASTY, QUICK, SIZE, get, leftovers, random_bytes, sha256, write_file

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.fetch import DownloadLock, Request, fetch
from cgbench.fetch import space as space_module
from cgbench.fetch import transfer as transfer_module
from cgbench.fetch.partial import partial_paths, read_journal

DATA = random_bytes()
HEAD = 64 * 1024
ONE = QUICK.model_copy(update={"connections": 1})


@pytest.fixture
def server(tmp_path: Path):
    with FaultServer(write_file(tmp_path / "served", DATA)) as running:
        yield running


def _right(home: Path) -> bool:
    return (home / "raw" / "a.npy").read_bytes() == DATA and leftovers(home) == ["a.npy"]


OFFSETS = [0, 1, 127, 128, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD, 3 * HEAD + 5, SIZE - 2, SIZE - 1]


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("offset", OFFSETS)
def test_a_drop_at_any_byte_is_mended_within_the_run(
    server: FaultServer, tmp_path: Path, offset: int, connections: int
) -> None:
    server.script("a.npy", *[Fault(drop_at=offset)] * 20)
    chosen = QUICK.model_copy(update={"connections": connections, "attempts": 30})
    fetched = get(tmp_path / "home", server.url + "/a.npy", settings=chosen)
    assert fetched.sha256 == sha256(DATA)
    assert _right(tmp_path / "home")


@given(offset=st.integers(0, SIZE - 1), connections=st.integers(1, 5), ranges=st.booleans())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_that_fails_at_any_byte_is_taken_up_by_the_next(
    server: FaultServer,
    tmp_path_factory: pytest.TempPathFactory,
    offset: int,
    connections: int,
    ranges: bool,
) -> None:
    home = tmp_path_factory.mktemp("home")
    chosen = QUICK.model_copy(update={"connections": connections, "attempts": 1})
    server.script("a.npy", Fault(drop_at=offset, times=None, no_ranges=not ranges))
    with pytest.raises(IntegrityError, match="could not be fetched"):
        get(home, server.url + "/a.npy", settings=chosen)
    journal = read_journal(*partial_paths(home / "raw" / "a.npy"))
    on_disk = 0 if journal is None else journal[1].total
    # All that came before the drop is kept, up to the check of the head.
    assert on_disk >= (0 if offset < HEAD else HEAD)
    if connections == 1 or not ranges:
        assert on_disk == (0 if offset < HEAD else offset)
    server.script("a.npy")
    server.forget()
    fetched = get(home, server.url + "/a.npy", settings=chosen)
    assert _right(home)
    assert fetched.transferred == SIZE - on_disk == server.sent("a.npy")


def test_a_header_cut_short(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", Fault(drop_header=True, times=2))
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")


@pytest.mark.parametrize("after", [0, 10, HEAD, HEAD + 1000])
def test_a_stalled_connection_is_given_up_and_its_bytes_kept(
    server: FaultServer, tmp_path: Path, after: int
) -> None:
    fault = Fault(stall_after=after, stall_seconds=0.05, no_ranges=True)
    server.script("a.npy", fault)
    chosen = HASTY.model_copy(update={"connections": 1})
    get(tmp_path / "home", server.url + "/a.npy", settings=chosen)
    assert _right(tmp_path / "home")
    assert server.sent("a.npy") < SIZE + after + 1000


def test_a_header_without_end_is_given_up(server: FaultServer, tmp_path: Path) -> None:
    chosen = HASTY.model_copy(update={"connect_timeout": 0.1})
    server.script("a.npy", Fault(stall_header=True, stall_seconds=0.05))
    get(tmp_path / "home", server.url + "/a.npy", settings=chosen)
    assert _right(tmp_path / "home")


def test_comments_without_a_page_are_looked_at_only_once(
    server: FaultServer, tmp_path: Path
) -> None:
    content = b"<!---->" * 580 + DATA
    server.script("a.npy", Fault(content=content, times=None))
    assert get(tmp_path / "home", server.url + "/a.npy").sha256 == sha256(content)


def test_a_tag_that_no_header_can_carry_back(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", Fault(content=DATA, etag='"\xe9"', times=None))
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")


def test_a_server_that_only_stalls_is_given_up(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", Fault(stall_after=HEAD, stall_seconds=0.05, times=None, no_ranges=True))
    chosen = HASTY.model_copy(update={"connections": 1, "attempts": 3})
    with pytest.raises(IntegrityError, match=r"stalled|no answer in time") as caught:
        get(tmp_path / "home", server.url + "/a.npy", settings=chosen)
    assert "given up after 3 attempts" in str(caught.value)
    assert leftovers(tmp_path / "home") == ["a.npy.partial", "a.npy.partial.journal"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_errors_that_pass(server: FaultServer, tmp_path: Path, status: int) -> None:
    server.script("a.npy", Fault(status=status, retry_after="0", times=2))
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")
    assert server.requests[2].status == 206


def test_errors_in_the_middle_that_pass(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", Fault(), Fault(status=503, times=2), Fault(), Fault(status=503, times=2))
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")
    assert server.sent("a.npy") == SIZE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=404, times=None), "404"),
        (Fault(status=403, times=None), "403"),
        (Fault(status=503, times=None), "503.*given up after 3"),
        (Fault(status=503, retry_after="86400", times=None), "come back in 86400 s"),
        (Fault(status=202, content=b"", times=None), "202"),
        (Fault(status=204, content=b"", times=None), "204"),
        (Fault(status=200, content=b"", times=None), "no bytes at all"),
        (Fault(content=b"", times=None), "no bytes at all"),
        (Fault(html=True, times=None), "text/html"),
        (Fault(content=PAGE * 100, times=None), "HTML page"),
        (Fault(content=b"<!---->" * 580 + b"<html>", times=None), "HTML page"),
        (Fault(content=b"\xef\xbb\xbf  <!-- x --><HTML lang=en>" + DATA, times=None), "HTML page"),
        (Fault(no_length=True, no_ranges=True, times=None), "no length announced"),
        (Fault(shift_range=5, times=None), "for a request of"),
        (Fault(headers={"Content-Encoding": "gzip"}, times=None), "encoded as gzip"),
        (Fault(announce=10, no_ranges=True, times=None), "received 700001 bytes, expected 700011"),
        (Fault(status=302, headers={"Location": "file:///etc/passwd"}, times=None), "http to file"),
        (Fault(status=302, headers={"Location": "/a.npy"}, times=None), "redirects without end"),
        (Fault(status=302, headers={"Location": "http://127.0.0.1:99999/"}, times=None), "no port"),
    ],
)
def test_answers_that_are_no_file_are_refused(
    server: FaultServer, tmp_path: Path, fault: Fault, reason: str
) -> None:
    server.script("a.npy", fault)
    with pytest.raises(IntegrityError, match=reason):
        get(tmp_path / "home", server.url + "/a.npy")
    assert not (tmp_path / "home" / "raw" / "a.npy").exists()
    assert not (tmp_path / "home" / "downloads.lock.json").exists()
    server.script("a.npy")
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")


def test_another_range_than_was_asked_for_is_refused(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", Fault(), Fault(shift_range=-5, times=None))
    with pytest.raises(IntegrityError, match="for a request of"):
        get(tmp_path / "home", server.url + "/a.npy")
    server.script("a.npy")
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")


@pytest.mark.parametrize("announce", [7, -7])
@pytest.mark.parametrize("no_ranges", [True, False])
def test_a_length_that_differs_from_the_known_one_is_refused_at_once(
    server: FaultServer, tmp_path: Path, announce: int, no_ranges: bool
) -> None:
    server.script("a.npy", Fault(announce=announce, no_ranges=no_ranges, times=None))
    with pytest.raises(IntegrityError, match=f"{SIZE + announce} bytes announced, {SIZE} expected"):
        get(tmp_path / "home", server.url + "/a.npy", size=SIZE)
    assert server.count("a.npy") == 1


def test_no_length_announced_but_known(server: FaultServer, tmp_path: Path) -> None:
    faults = (Fault(no_length=True, no_ranges=True, drop_at=HEAD + 99), Fault(no_length=True))
    server.script("a.npy", *faults)
    get(tmp_path / "home", server.url + "/a.npy", size=SIZE)
    assert _right(tmp_path / "home")


@pytest.mark.parametrize("drop", [None, 0, 1000, HEAD, SIZE - 1])
def test_a_chunked_body_tells_its_own_end(
    server: FaultServer, tmp_path: Path, drop: int | None
) -> None:
    server.script("a.npy", Fault(chunked=True, drop_at=drop), Fault(chunked=True))
    assert get(tmp_path / "home", server.url + "/a.npy").size == SIZE
    assert _right(tmp_path / "home")
    assert server.count("a.npy") == (1 if drop is None else 2)


def test_a_chunked_body_without_end_is_refused(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_module, "UNSIZED_BYTES", 100_000)
    server.script("a.npy", Fault(chunked=True, times=None))
    with pytest.raises(IntegrityError, match="no length announced"):
        get(tmp_path / "home", server.url + "/a.npy")
    # With a known size it need not be held in memory.
    get(tmp_path / "home", server.url + "/a.npy", size=SIZE)
    assert _right(tmp_path / "home")


@pytest.mark.parametrize("validators", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
def test_a_file_that_changed_between_runs_is_fetched_anew(
    tmp_path: Path, validators: tuple[bool, bool], size: int
) -> None:
    home, folder = tmp_path / "home", write_file(tmp_path / "served", DATA)
    etag, last_modified = validators
    with FaultServer(folder, etag=etag, last_modified=last_modified) as server:
        server.script("a.npy", Fault(drop_at=400_000, times=None))
        with pytest.raises(IntegrityError):
            get(home, server.url + "/a.npy", settings=ONE)
        new = random_bytes(size, seed=1)
        write_file(folder, new)
        os.utime(folder / "a.npy", (1e9, 1e9))
        server.script("a.npy")
        get(home, server.url + "/a.npy", settings=ONE)
    assert (home / "raw" / "a.npy").read_bytes() == new
    assert leftovers(home) == ["a.npy"]


def test_a_server_without_etag_and_date_is_resumed_by_size_and_head(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", write_file(tmp_path / "served", DATA)
    with FaultServer(folder, etag=False, last_modified=False) as server:
        server.script("a.npy", Fault(drop_at=400_000, times=None))
        with pytest.raises(IntegrityError):
            get(home, server.url + "/a.npy", settings=ONE)
        server.script("a.npy")
        assert get(home, server.url + "/a.npy", settings=ONE).transferred == SIZE - 400_000 + HEAD
    assert _right(home)


def test_a_file_that_changes_during_a_run_is_fetched_anew(
    server: FaultServer, tmp_path: Path
) -> None:
    old = random_bytes(seed=2)
    # The head and some segments are of the old file, and If-Range does the rest.
    server.script("a.npy", Fault(content=old, etag='"old"', times=3))
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")


def test_a_file_that_never_stops_changing_is_an_error(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", *[Fault(content=DATA, etag=f'"{number}"') for number in range(60)])
    with pytest.raises(IntegrityError, match="changes while it is fetched"):
        get(tmp_path / "home", server.url + "/a.npy")


@pytest.mark.parametrize("connections", [1, 4])
def test_a_server_without_ranges_sends_the_file_once(
    server: FaultServer, tmp_path: Path, connections: int
) -> None:
    server.script("a.npy", Fault(no_ranges=True, times=None))
    chosen = QUICK.model_copy(update={"connections": connections})
    fetched = get(tmp_path / "home", server.url + "/a.npy", settings=chosen)
    assert _right(tmp_path / "home")
    assert server.count("a.npy") == 1
    assert fetched.transferred == SIZE


def test_ranges_ignored_later_on(server: FaultServer, tmp_path: Path) -> None:
    server.script("a.npy", Fault(), Fault(), Fault(no_ranges=True, times=None))
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")


@pytest.mark.parametrize("place", [0, HEAD, 500_000, SIZE - 1])
def test_a_corrupted_byte_is_found_by_a_pinned_hash(
    server: FaultServer, tmp_path: Path, place: int
) -> None:
    home = tmp_path / "home"
    server.script("a.npy", Fault(corrupt_at=place, times=None))
    damaged = bytearray(DATA)
    damaged[place] ^= 0xFF
    with pytest.raises(IntegrityError) as caught:
        get(home, server.url + "/a.npy", sha=sha256(DATA))
    assert sha256(DATA) in str(caught.value)
    assert sha256(bytes(damaged)) in str(caught.value)
    assert leftovers(home) == []
    server.script("a.npy")
    assert get(home, server.url + "/a.npy", sha=sha256(DATA)).pinned == "registry"
    assert _right(home)


def test_a_corrupted_byte_of_an_earlier_run_is_mended(server: FaultServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.script("a.npy", Fault(corrupt_at=70_000, drop_at=300_000, times=None))
    with pytest.raises(IntegrityError):
        get(home, server.url + "/a.npy", settings=ONE, sha=sha256(DATA))
    server.script("a.npy")
    get(home, server.url + "/a.npy", settings=ONE, sha=sha256(DATA))
    assert _right(home)


def test_the_head_is_checked_before_the_bulk(server: FaultServer, tmp_path: Path) -> None:
    seen = []

    def check(head: bytes, size: int | None) -> None:
        seen.append((head, size))
        raise ValidationError("a.npy: 35 beads", expected=10, found=35)

    home = tmp_path / "home"
    wanted = Request("a", (server.url + "/a.npy",), home / "raw" / "a.npy", check_head=check)
    with pytest.raises(ValidationError, match="35 beads"):
        fetch(wanted, DownloadLock(home), QUICK)
    assert seen == [(DATA[:HEAD], SIZE)]
    assert server.sent("a.npy") == HEAD
    assert leftovers(home) == []


def test_a_full_disk_is_noticed_before_the_bulk(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_module, "free_bytes", lambda _: SIZE - 1)
    with pytest.raises(UsageError, match="not enough disk space"):
        get(tmp_path / "home", server.url + "/a.npy")
    assert server.sent("a.npy") == HEAD
    monkeypatch.undo()
    get(tmp_path / "home", server.url + "/a.npy")
    assert _right(tmp_path / "home")
