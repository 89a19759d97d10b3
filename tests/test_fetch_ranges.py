"""Reading ranges of a file on a server, asking for sizes, and the book-keeping of ranges."""

import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_server import Fault, FaultServer
from hypothesis import given
from hypothesis import strategies as st
from toy_fetch import HASTY, QUICK, SIZE, get, random_bytes, sha256, write_file

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.fetch import RangeReader, probe, probe_all
from cgbench.fetch.http import Identity, _retry_after
from cgbench.fetch.partial import Partial, Spans, partial_paths, read_journal
from cgbench.fetch.patience import Backoff

DATA = random_bytes()


@pytest.fixture
def server(tmp_path: Path):
    with FaultServer(write_file(tmp_path / "served", DATA)) as running:
        yield running


def _reader(server: FaultServer, *others: str) -> RangeReader:
    return RangeReader([server.url + "/a.npy", *others], QUICK)


def test_ranges_of_a_file(server: FaultServer) -> None:
    reader = _reader(server)
    assert reader.size == SIZE
    assert reader.url == server.url + "/a.npy"
    assert reader.identity == reader.identity != ""
    for start, stop in [(0, 1), (0, SIZE), (5, 5), (SIZE - 1, SIZE), (70_000, 270_000)]:
        assert reader.read(start, stop) == DATA[start:stop]
    for start, stop in [(-1, 5), (5, 4), (0, SIZE + 1)]:
        with pytest.raises(ValidationError, match="a range within"):
            reader.read(start, stop)
    reader.close()
    assert reader.read(1, 3) == DATA[1:3]


def test_a_local_file_is_read_alike(server: FaultServer) -> None:
    reader = RangeReader([(server.root / "a.npy").as_uri()])
    assert reader.size == SIZE
    assert reader.read(10, 300_000) == DATA[10:300_000]
    os.utime(server.root / "a.npy", (1e9, 1e9))
    with pytest.raises(IntegrityError, match="has changed"):
        reader.read(10, 20)


def test_many_threads_read_at_once(server: FaultServer) -> None:
    reader = _reader(server)
    starts = range(0, SIZE, 50_000)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: reader.read(start, min(start + 50_000, SIZE)), starts))
    assert b"".join(parts) == DATA


def _read_part(reader: RangeReader) -> bytes:
    return reader.read(100, 200)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same_content(server: FaultServer, method: str) -> None:
    reader = _reader(server)
    assert reader.read(0, 4) == DATA[:4]
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(_read_part, [reader]) == [DATA[100:200]]
    assert reader.read(4, 8) == DATA[4:8]


@pytest.mark.parametrize("before", [True, False])
def test_a_changed_file_is_an_error_also_in_copies(server: FaultServer, before: bool) -> None:
    reader = _reader(server)
    assert reader.size == SIZE
    copy = pickle.loads(pickle.dumps(reader)) if before else reader
    (server.root / "a.npy").write_bytes(random_bytes(seed=5))
    os.utime(server.root / "a.npy", (1e9, 1e9))
    with pytest.raises(IntegrityError, match="the file has changed"):
        copy.read(0, 10)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop_after=1000),
        Fault(drop_after=0, times=2),
        Fault(drop_header=True, times=2),
        Fault(status=503, retry_after="0", times=2),
    ],
)
def test_faults_that_pass(server: FaultServer, fault: Fault) -> None:
    reader = _reader(server)
    assert reader.size == SIZE
    server.forget()
    server.script("a.npy", fault)
    assert reader.read(100_000, 400_000) == DATA[100_000:400_000]
    # What came before the fault is not fetched again.
    assert server.sent() < 300_000 + 100


def test_a_stalled_connection_is_given_up(server: FaultServer) -> None:
    reader = RangeReader([server.url + "/a.npy"], HASTY)
    server.script("a.npy", Fault(), Fault(stall_after=2000, stall_seconds=0.03))
    assert reader.read(100_000, 400_000) == DATA[100_000:400_000]
    assert server.sent() < 300_000 + 100
    server.script("a.npy", Fault(stall_after=0, stall_seconds=0.03, times=None))
    reader.settings = HASTY.model_copy(update={"attempts": 2})
    with pytest.raises(IntegrityError, match=r"stalled|no answer in time"):
        reader.read(0, 5000)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(no_ranges=True, times=None), "ranges are not served"),
        (Fault(shift_range=3, times=None), "for a request of"),
        (Fault(drop_after=0, times=None), "given up after 3 attempts"),
        (Fault(html=True, times=None), "text/html"),
        (Fault(status=404, times=None), "404"),
        (Fault(announce=4, times=None), "has changed"),
        (Fault(content=DATA[:50], times=None), "has changed"),
    ],
)
def test_faults_that_stay(server: FaultServer, fault: Fault, reason: str) -> None:
    reader = _reader(server)
    assert reader.size == SIZE
    server.script("a.npy", fault)
    with pytest.raises(IntegrityError, match=reason):
        reader.read(1000, 2000)


def test_a_server_without_ranges_is_refused_at_once(server: FaultServer) -> None:
    server.script("a.npy", Fault(no_ranges=True, times=None))
    with pytest.raises(IntegrityError, match="cannot be read by byte ranges"):
        _ = _reader(server).size
    server.script("a.npy", Fault(content=b"", times=None))
    with pytest.raises(IntegrityError, match="an empty file"):
        _ = _reader(server).size
    with pytest.raises(UsageError):
        RangeReader([])


@pytest.mark.parametrize("same", [True, False])
def test_a_mirror_stands_in_only_for_the_same_content(
    server: FaultServer, tmp_path: Path, same: bool
) -> None:
    folder = write_file(tmp_path / "mirror", DATA)
    os.utime(server.root / "a.npy", (1e9, 1e9))
    os.utime(folder / "a.npy", (1e9, 1e9 if same else 2e9))
    with FaultServer(folder) as mirror:
        reader = _reader(server, mirror.url + "/a.npy")
        assert reader.read(0, 100) == DATA[:100]
        server.script("a.npy", Fault(drop_after=0, times=None))
        if same:
            assert reader.read(0, 9000) == DATA[:9000]
        else:
            with pytest.raises(IntegrityError, match=r"given up.*has changed"):
                reader.read(0, 9000)


def test_probing(server: FaultServer) -> None:
    found = probe(server.url + "/a.npy", QUICK)
    assert (found.size, found.ranges) == (SIZE, True)
    assert found.etag is not None
    assert found.last_modified is not None
    server.script("a.npy", Fault(status=503, times=1), Fault(no_ranges=True))
    assert not probe(server.url + "/a.npy", QUICK).ranges
    server.script("a.npy", Fault(content=b""))
    assert probe(server.url + "/a.npy", QUICK).size == 0
    told = []
    urls = [server.url + "/a.npy", server.url + "/none", "http://127.0.0.1:9/x"]
    answers = probe_all(urls, QUICK, lambda *state: told.append(state))
    assert list(answers) == urls
    assert [isinstance(answer, IntegrityError) for answer in answers.values()] == [0, 1, 1]
    assert told[-1] == ("sizes", 3, 3)


def test_retry_after_as_a_date_or_nonsense() -> None:
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT", QUICK) == 0
    assert _retry_after("soon", QUICK) is None
    assert _retry_after(None, QUICK) is None


def test_waits_grow_within_bounds_and_repeat_with_a_seed() -> None:
    settings = QUICK.model_copy(update={"backoff": 1.0, "backoff_limit": 60.0})
    waits = [Backoff(settings).delay(failures, None) for failures in (1, 2, 3, 7, 500)]
    for wait, longest in zip(waits, (1, 2, 4, 60, 60), strict=True):
        assert longest / 2 <= wait <= longest
    assert Backoff(settings).delay(1, 30.0) == 30.0
    first, again, other = (Backoff(settings, stream).delay(1, None) for stream in (0, 0, 1))
    assert first == again != other


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)


@given(spans, st.integers(0, 40), st.integers(0, 40))
def test_spans_are_sets_of_numbers(ranges: list[tuple[int, int]], start: int, stop: int) -> None:
    found = Spans(ranges)
    numbers = {number for first, last in ranges for number in range(first, last)}
    assert {number for first, last in found.spans for number in range(first, last)} == numbers
    assert found.total == len(numbers)
    edges = [edge for span in found.spans for edge in span]
    assert edges == sorted(set(edges))
    assert found.prefix == next(n for n in range(42) if n not in numbers)
    assert found.reach(start) == next(n for n in range(start, 42) if n not in numbers)
    gaps = found.gaps(start, stop)
    assert [n for a, b in gaps for n in range(a, b)] == sorted({*range(start, stop)} - numbers)


IDENTITY = Identity(url="http://x/a", size=100, etag='"1"', last_modified=None)


def _partial(folder: Path) -> Partial:
    partial = Partial(folder / "a")
    partial.begin(IDENTITY, keep=True)
    return partial


@pytest.mark.parametrize("torn", [b"[50, 9", b"\x00" * 40, b"\n\n", b'{"a": 1}', b"[1]"])
def test_a_torn_line_of_a_journal_does_not_count(tmp_path: Path, torn: bytes) -> None:
    partial = _partial(tmp_path)
    partial.write(0, b"x" * 100)
    partial.commit(0, 10)
    data, journal = partial_paths(tmp_path / "a")
    with journal.open("ab") as handle:
        handle.write(torn)
    # What comes after it does.
    partial.commit(20, 30)
    partial.close()
    assert read_journal(data, journal) is not None
    assert Partial(tmp_path / "a").spans.spans == [(0, 10), (20, 30)]


def test_bytes_are_flushed_before_they_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = _partial(tmp_path)
    data, journal = partial_paths(tmp_path / "a")
    partial.write(0, b"x" * 50)
    before, flushed = journal.read_bytes(), []

    def fsync(descriptor: int) -> None:
        flushed.append(os.path.samestat(os.fstat(descriptor), data.stat()))
        if flushed[-1]:
            assert journal.read_bytes() == before
        if len(flushed) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    partial.commit(0, 10)
    assert flushed == [True, False]
    before = journal.read_bytes()
    with pytest.raises(OSError, match="No space"):
        partial.commit(20, 30)
    assert journal.read_bytes() == before
    assert partial.spans.spans == [(0, 10)]


@pytest.mark.parametrize("damage", ["no data", "short data", "beyond", "header", "empty"])
def test_a_journal_that_lies_counts_as_none(tmp_path: Path, damage: str) -> None:
    partial = _partial(tmp_path)
    partial.write(0, b"x" * 100)
    partial.commit(0, 100 if damage != "beyond" else 200)
    partial.close()
    data, journal = partial_paths(tmp_path / "a")
    if damage == "no data":
        data.unlink()
    elif damage == "short data":
        os.truncate(data, 50)
    elif damage == "header":
        journal.write_bytes(journal.read_bytes()[3:])
    elif damage == "empty":
        journal.write_bytes(b"")
    assert Partial(tmp_path / "a").identity is None
    assert Partial(tmp_path / "a").spans.total == 0


def test_a_journal_with_a_lie_costs_a_new_download(server: FaultServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server.script("a.npy", Fault(drop_at=400_000, times=None))
    with pytest.raises(IntegrityError):
        get(home, server.url + "/a.npy")
    data, journal = partial_paths(home / "raw" / "a.npy")
    journal.write_text(journal.read_text() + json.dumps([0, SIZE + 5]) + "\n")
    server.script("a.npy")
    assert get(home, server.url + "/a.npy").sha256 == sha256(DATA)
    assert not data.exists()
    assert not journal.exists()
