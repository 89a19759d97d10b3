"""Who writes a store, and what happens to it meanwhile, does not show in what is written."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_sources import LAYOUT, CountingSource, metadata_of, random_source

from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.grouped import in_order
from cgbench.store import Layout, open_store, scheduling, verify_store, write_store, writer
from cgbench.store.plan import WritePlan
from cgbench.store.scheduling import run_units
from cgbench.store.shards import UnitWriter, trajectory_index


@pytest.fixture
def expected(tmp_path):
    """The manifest that one thread writes."""
    source = random_source()
    return write_store(tmp_path / "one.zarr", source, metadata_of(source), layout=LAYOUT)


@pytest.fixture(scope="module")
def cluster():
    """A dask cluster of two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def make(path, source, **options):
    return write_store(path, source, metadata_of(source), layout=LAYOUT, **options)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_threads(tmp_path, expected, workers):
    source = CountingSource(random_source(), tmp_path / "log")
    assert make(tmp_path / "a.zarr", source, workers=workers) == expected
    assert sorted(source.reads) == [0, 8, 16, 24, 32]


def test_processes_and_the_death_of_one(tmp_path, expected):
    source = CountingSource(random_source(), tmp_path / "log", kill_at=16)
    assert make(tmp_path / "a.zarr", source, scheduler="processes", workers=2) == expected
    assert (tmp_path / "log.killed").exists()
    assert verify_store(tmp_path / "a.zarr").ok
    # Nothing of the process that died is left beside the store.
    assert not [entry for entry in tmp_path.iterdir() if entry.name.endswith(".partial")]


class Deadly:
    """A unit of work that always kills its process."""

    def __call__(self, unit):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_unit_that_kills_every_process_is_given_up():
    with pytest.raises(UsageError, match=r"(?s)died 3 times while shard 0.*shards are kept"):
        list(run_units(Deadly(), [0], "processes", 1))


class Endless:
    """A unit of work that says who does it, and goes on for long."""

    def __init__(self, path):
        self.path = path

    def __call__(self, unit):
        self.path.write_text(str(os.getpid()))
        time.sleep(300)


def alive(pid):
    """Whether a process is there and no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_workers_end_with_a_run_that_is_killed(tmp_path):
    told = tmp_path / "worker"
    code = (
        "import sys; from pathlib import Path\n"
        "from test_store_schedulers import Endless, run_units\n"
        "list(run_units(Endless(Path(sys.argv[1])), [0], 'processes'))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(told)], env=os.environ | {"PYTHONPATH": path}
    )
    try:
        until = time.monotonic() + 120
        while not (told.exists() and told.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        worker = int(told.read_text())
    finally:
        run.kill()
        run.wait()
    until = time.monotonic() + 60
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.05)
    gone = not alive(worker)
    if not gone:
        os.kill(worker, signal.SIGKILL)
    assert gone


class Broken(ThreadPoolExecutor):
    """A pool one of whose processes has died since it was last looked at."""

    def submit(self, *_, **__):
        raise BrokenProcessPool


def test_a_death_between_two_units_is_one_like_others():
    pools = [Broken(1), ThreadPoolExecutor(1)]
    done = scheduling._in_pool(str, [0, 1], lambda: pools.pop(0), 1, "unit", "")
    assert list(done) == ["0", "1"]
    assert not pools


def test_what_keeps_nothing_does_not_say_that_shards_are_kept():
    """As in the building of reference bundles, whose units are groups of frames."""
    with pytest.raises(UsageError, match="died 3 times while group 0") as caught:
        list(in_order(Deadly(), 1, "processes", 1))
    assert "shard" not in str(caught.value)
    assert "kept" not in str(caught.value)


def test_a_cluster_and_the_death_of_a_worker(tmp_path, expected, cluster):
    from distributed import Client

    source = CountingSource(random_source(), tmp_path / "log", kill_at=24)
    with Client(cluster) as client:
        assert make(tmp_path / "a.zarr", source, scheduler=client, workers=2) == expected
    assert (tmp_path / "log.killed").exists()
    assert verify_store(tmp_path / "a.zarr").ok


def test_the_address_of_a_scheduler(tmp_path, expected, cluster):
    address = cluster.scheduler_address
    assert make(tmp_path / "a.zarr", random_source(), scheduler=address) == expected


def _slowly(unit):
    time.sleep(0.3)
    return unit


def test_a_scheduler_that_goes_away_meanwhile():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    )
    try:
        units = run_units(_slowly, range(20), cluster.scheduler_address)
        next(units)
        cluster.close()
        with pytest.raises(UsageError, match="scheduler no longer answers"):
            list(units)
    finally:
        cluster.close()


def test_an_error_on_a_cluster_is_the_error_itself(tmp_path, cluster):
    source = random_source()
    source.forces["slice"] = source.forces["slice"][:20]
    with pytest.raises(ValidationError, match="slice from frame"):
        make(tmp_path / "a.zarr", source, scheduler=cluster.scheduler_address)


@pytest.mark.parametrize(
    ("scheduler", "word"),
    [("dask", "unknown scheduler"), ("tcp://127.0.0.1:9", "no dask scheduler answers")],
)
def test_a_scheduler_that_is_not_there(tmp_path, scheduler, word, monkeypatch):
    monkeypatch.setattr("cgbench.store.scheduling.CONNECT_TIMEOUT", "1s")
    with pytest.raises(UsageError, match=word):
        make(tmp_path / "a.zarr", random_source(), scheduler=scheduler)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_units_under_way_are_bounded(scheduler, tmp_path):
    task = Traced(tmp_path)
    done = list(run_units(task, range(9), scheduler, 3))
    assert sorted(number for number, _ in done) == list(range(9))
    assert 1 <= max(together for _, together in done) <= 3


def test_workers_are_limited_by_memory(monkeypatch):
    source = random_source()
    plan = WritePlan.of(source, metadata_of(source), layout=LAYOUT)
    # Coordinates, two maps, and one array more while it is written.
    unit = 16 * 10 * 12 * 4
    monkeypatch.setattr(writer, "MEMORY_BYTES", 3 * unit)
    assert [writer._under_way(plan, "threads", workers) for workers in (1, 3, 8)] == [1, 3, 3]
    assert writer._under_way(plan, "processes", 8) == 1
    assert writer._under_way(plan, "tcp://127.0.0.1:1", 8) == 8


class Traced:
    """A unit of work that says how many run at the same time."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, unit):
        mark = self.folder / str(unit)
        mark.touch()
        together = len(list(self.folder.iterdir()))
        time.sleep(0.02)
        mark.unlink()
        return unit, together


def test_what_is_under_way_when_a_unit_fails_is_kept(tmp_path):
    source = CountingSource(random_source(), tmp_path / "log", slow=0.02)
    read = source.read

    def fail(start, stop):
        if start == 0:
            raise OSError(28, "No space left on device")
        return read(start, stop)

    source.read = fail
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "a.zarr", source, workers=2)
    assert len((tmp_path / "a.zarr/journal.jsonl").read_bytes().splitlines()) == 2
    again = CountingSource(random_source(), tmp_path / "again")
    make(tmp_path / "a.zarr", again)
    assert again.reads == [0, 8, 32]


def test_twins_of_a_unit_do_no_harm(tmp_path, expected):
    source = random_source()
    make(tmp_path / "a.zarr", source)
    before = (tmp_path / "a.zarr/manifest.json").read_bytes()
    # A worker that was believed dead finishes after the store.
    write = UnitWriter(tmp_path / "a.zarr", source, LAYOUT)
    assert write(1).shards == expected.shards[7:13]
    assert (tmp_path / "a.zarr/manifest.json").read_bytes() == before
    assert verify_store(tmp_path / "a.zarr").ok
    late = UnitWriter(tmp_path / "gone.zarr", source, LAYOUT)
    with pytest.raises(FileNotFoundError):
        late(0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "one.zarr"]


@settings(max_examples=50)
@given(
    lengths=st.none() | st.lists(st.integers(1, 9), min_size=1, max_size=20),
    n_frames=st.integers(1, 60),
    data=st.data(),
)
def test_the_trajectory_index_of_a_range(lengths, n_frames, data):
    n_frames = sum(lengths) if lengths else n_frames
    start = data.draw(st.integers(0, n_frames))
    stop = data.draw(st.integers(start, n_frames))
    whole = [(k, i) for k, n in enumerate(lengths or [n_frames]) for i in range(n)]
    found = trajectory_index(None if lengths is None else np.array(lengths), start, stop)
    assert list(zip(*(values.tolist() for values in found), strict=True)) == whole[start:stop]
    assert {values.dtype for values in found} == {np.dtype(np.int32)}


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_the_codec_does_not_change_the_content(tmp_path, expected, codec):
    path = tmp_path / "a.zarr"
    assert make(path, random_source(), codec=codec).fingerprint == expected.fingerprint
    assert np.array_equal(open_store(path).coordinates(), random_source().coordinates)
    assert verify_store(path).ok
    other = "none" if codec != "none" else "zstd"
    with pytest.raises(UsageError, match="other content"):
        make(path, random_source(), codec=other)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["processes", "cluster"])
def test_every_worker_dies_once(tmp_path, scheduler, cluster):
    """Half a minute: each unit kills whoever writes it first."""
    source = random_source(lengths=(37, 45, 80))
    layout = Layout(chunk=8, chunks_per_shard=2)
    expected = write_store(tmp_path / "a.zarr", source, metadata_of(source), layout=layout)
    deadly = KillsEachOnce(source, tmp_path / "log")
    chosen = cluster.scheduler_address if scheduler == "cluster" else scheduler
    found = write_store(
        tmp_path / "b.zarr", deadly, metadata_of(source), layout=layout, scheduler=chosen, workers=1
    )
    assert found == expected
    assert verify_store(tmp_path / "b.zarr").ok


class KillsEachOnce(CountingSource):
    """Frames whose first reader dies, at every shard."""

    def read(self, start, stop):
        marker = Path(f"{self.log}.{start // 16}")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(start, stop)
