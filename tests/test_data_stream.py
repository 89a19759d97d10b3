"""Streaming: bytes read without zarr, threads that end, and processes that fork."""

import gc
import itertools
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fault_server import FaultServer
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from toy_store import RULE, ToySource, make_home, metadata

from cgbench.data import BlockShuffleLoader, FrameBatch, ProteinForcesDataset
from cgbench.data.chunks import ChunkReader
from cgbench.errors import IntegrityError, UsageError
from cgbench.priors import BondTerm, PriorParameters
from cgbench.splits import Split, make_block_split
from cgbench.store import Layout, SystemStore, open_store, write_store
from cgbench.store.quantise import choose_quantisation

LAYOUT = Layout(chunk=128, chunks_per_shard=8)


def write(folder: Path, codec: Any, quantised: bool = False) -> SystemStore:
    source = ToySource()
    described = metadata()
    if quantised:
        described = described.model_copy(update={"quantisation": choose_quantisation(source)})
    path = folder / f"{codec}-{quantised}.zarr"
    write_store(path, source, described, layout=LAYOUT, codec=codec)
    return open_store(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def stores(folder: Path) -> dict[tuple[str, bool], SystemStore]:
    kinds = [("zstd", False), ("lz4", False), ("none", False), ("none", True), ("lz4", True)]
    return {kind: write(folder, *kind) for kind in kinds}


@pytest.fixture(scope="module")
def store(stores: dict[tuple[str, bool], SystemStore]) -> SystemStore:
    return stores["none", False]


@pytest.fixture(scope="module")
def split(store: SystemStore) -> Split:
    return make_block_split(store, RULE)


@pytest.fixture
def dataset(store: SystemStore, split: Split) -> ProteinForcesDataset:
    return ProteinForcesDataset(store, "train", split)


def same(first: FrameBatch, second: FrameBatch) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("pos", "forces", "frame")
    )


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("cgbench-read")]


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    yield
    if readers():
        gc.collect()
    deadline = time.monotonic() + 20
    while readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not readers()


@hypothesis_settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_chunks_are_what_zarr_reads(
    stores: dict[tuple[str, bool], SystemStore], data: st.DataObject
) -> None:
    store = stores[data.draw(st.sampled_from(sorted(stores)))]
    start = data.draw(st.integers(0, store.n_frames - 1))
    stop = data.draw(st.integers(start + 1, store.n_frames))
    for name in ("coordinates", "forces/slice"):
        reader = ChunkReader.open(store.path / name)
        assert reader is not None
        quantised = store.metadata.quantisation is not None
        out = np.zeros((stop - start, 6, 3), dtype=np.int16 if quantised else np.float32)
        reader.read_into(start, stop, out)
        if quantised:
            expected = store.encoded(name, start, stop)[0]
        elif name == "coordinates":
            expected = store.coordinates(start, stop)
        else:
            expected = store.forces(start, stop, "slice")
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_damage_is_noticed(tmp_path: Path, codec: str) -> None:
    store = write(tmp_path, codec)
    split = make_block_split(store, RULE)
    shard = store.path / "forces/optimal/c/3/0/0"
    sound = shard.read_bytes()
    changed = bytearray(sound)
    changed[2000] ^= 16
    index = bytearray(sound)
    index[-30] ^= 1
    for content in (bytes(changed), bytes(index), sound[:-500], sound[:10]):
        shard.write_bytes(content)
        loader = BlockShuffleLoader(
            ProteinForcesDataset(store, "train", split), mode="stream", block_frames=256
        )
        with pytest.raises(IntegrityError, match="forces/optimal: frames"):
            list(loader)
    shard.unlink()
    with pytest.raises(IntegrityError, match="forces/optimal"):
        ProteinForcesDataset(store, "train", split).load()


def test_what_is_laid_out_otherwise_is_left_to_zarr(
    tmp_path: Path, split: Split, store: SystemStore
) -> None:
    copy = write(tmp_path, "none")
    path = copy.path / "coordinates" / "zarr.json"
    text = path.read_text()
    for old, new in (
        ('"sharding_indexed"', '"other"'),
        ('"little"', '"big"'),
        ('"float32"', '"float64"'),
        ('"end"', '"start"'),
        ('"codecs"', '"coders"'),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        assert ChunkReader.open(copy.path / "coordinates") is None
    path.write_text(text[:50])
    assert ChunkReader.open(copy.path / "coordinates") is None
    for direct in (True, False):
        dataset = ProteinForcesDataset(store, "train", split, direct=direct)
        loaded = pickle.loads(pickle.dumps(dataset)).load()
        assert torch.equal(loaded.pos, torch.from_numpy(store.coordinates()[dataset.frames]))


PRIOR = PriorParameters(
    bonds={key: BondTerm(k=100.0, r0=3.8) for key in ("4-4", "4-5", "5-8", "8-6", "6-13")},
    repulsion=dict.fromkeys((4, 5, 6, 8, 13), 50.0),
    source="test",
)


@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("kind", [("none", True), ("lz4", True), ("zstd", False)])
def test_streams_give_what_memory_holds(
    stores: dict[tuple[str, bool], SystemStore], kind: tuple[str, bool], prior: Any
) -> None:
    store = stores[kind]
    split = make_block_split(store, RULE)
    held = ProteinForcesDataset(store, "train", split, prior=prior)
    tensors = held.load()
    if prior is None:
        assert torch.equal(tensors.pos, torch.from_numpy(store.coordinates()[held.frames]))
        assert torch.equal(tensors.forces, torch.from_numpy(store.forces()[held.frames]))
    row = np.zeros(store.n_frames, dtype=np.int64)
    row[held.frames] = np.arange(len(held))
    for dataset, shuffle in itertools.product((held, held[::-7]), (True, False)):
        fresh = ProteinForcesDataset(store, "train", split, prior=prior)[
            row[dataset.frames].tolist()
        ]
        loader = BlockShuffleLoader(fresh, 50, mode="stream", block_frames=200, shuffle=shuffle)
        seen = []
        for batch in loader:
            rows = torch.from_numpy(row[batch.frame])
            assert torch.equal(batch.pos, tensors.pos[rows])
            assert torch.equal(batch.forces, tensors.forces[rows])
            assert batch.pos.dtype == batch.forces.dtype == torch.float32
            seen += batch.frame.tolist()
        assert (sorted(seen) if shuffle else seen) == (
            sorted(dataset.frames) if shuffle else dataset.frames.tolist()
        )


def test_a_store_on_a_server_streams_the_same(
    stores: dict[tuple[str, bool], SystemStore], folder: Path
) -> None:
    with FaultServer(folder) as server:
        for kind in (("zstd", False), ("lz4", True)):
            local = stores[kind]
            remote = open_store(f"{server.url}/{local.path.name}")
            split = make_block_split(local, RULE)
            loaders = [
                BlockShuffleLoader(
                    ProteinForcesDataset(store, "val", split), 50, mode="stream", threads=3
                )
                for store in (local, remote)
            ]
            for one, other in zip(*loaders, strict=True):
                assert same(one, other)


def stream(dataset: ProteinForcesDataset, **arguments: Any) -> BlockShuffleLoader:
    return BlockShuffleLoader(
        dataset, 32, **{"mode": "stream", "block_frames": 64, "threads": 3, **arguments}
    )


def test_a_closed_iteration_gives_nothing(dataset: ProteinForcesDataset) -> None:
    frames = stream(dataset)._sequence.begin(0, len(dataset))
    frames.take(10)
    frames.close()
    frames.close()
    with pytest.raises(UsageError, match="no frames are left"):
        frames.take(len(dataset))


def test_threads_end_with_the_iteration(dataset: ProteinForcesDataset) -> None:
    for _ in stream(dataset):
        assert len(readers()) >= 1
        break
    gc.collect()
    assert not readers()

    def failing() -> None:
        for batch in stream(dataset):
            raise ZeroDivisionError(len(batch))

    with pytest.raises(ZeroDivisionError):
        failing()
    gc.collect()
    assert not readers()
    batches = iter(stream(dataset))
    next(batches)
    cycle: list[Any] = [batches]
    cycle.append(cycle)
    del batches, cycle
    gc.collect()
    assert not readers()
    first, second = iter(stream(dataset)), iter(stream(dataset))
    for one, other in itertools.islice(zip(first, second, strict=True), 20):
        assert torch.equal(one.pos, other.pos)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_while_reading_comes_out_where_batches_are_taken(
    dataset: ProteinForcesDataset, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    original, calls = ProteinForcesDataset.read_into, itertools.count()

    def failing(self: ProteinForcesDataset, *arguments: Any) -> None:
        if next(calls) == 20:
            raise IntegrityError("the disk is gone")
        original(self, *arguments)

    monkeypatch.setattr(ProteinForcesDataset, "read_into", failing)
    loader = stream(dataset, threads=threads)
    lengths: list[int] = []
    with pytest.raises(IntegrityError, match="the disk is gone"):
        lengths.extend(map(len, loader))
    assert sum(lengths) < 20 * 64
    assert not readers()
    # Nothing is stuck: the next iteration reads everything.
    assert sum(map(len, loader)) == len(dataset)


def run(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that would hang if threads or locks were lost in a fork or at the end."""
    head = """
        import os, sys
        from pathlib import Path
        import torch
        from torch.utils.data import DataLoader
        from cgbench.data import BlockShuffleLoader, ProteinForcesDataset
        def dataset(**arguments):
            return ProteinForcesDataset("toy", "train", home=Path(sys.argv[1]), **arguments)
        def stream(data):
            return BlockShuffleLoader(data, 32, mode="stream", block_frames=64, threads=2)
        """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), home],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"), ToySource())


def test_the_interpreter_ends_in_the_middle_of_an_iteration(home: Path) -> None:
    code = """
        data = dataset()
        batches = iter(stream(data))
        next(batches)
        for batch in stream(data):
            sys.exit(7)
        """
    done = run(code, home)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_forked_processes_read_or_refuse(home: Path) -> None:
    code = """
        data = dataset()
        batches = iter(stream(data))
        first = next(batches)
        loader = DataLoader(data, batch_size=64, num_workers=2, multiprocessing_context="fork",
                            collate_fn=lambda items: [item.frame for item in items])
        assert sum(loader, []) == data.frames.tolist()
        pid = os.fork()
        if pid == 0:
            try:
                list(batches)
            except Exception as error:
                print(type(error).__name__, "forkserver" in str(error), flush=True)
            del batches
            os._exit(0 if sum(map(len, stream(data))) == len(data) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert sum(map(len, batches)) == len(data) - len(first)
        """
    done = run(code, home)
    assert (done.returncode, done.stdout) == (0, "UsageError True\n"), done.stderr


def test_zarr_is_not_waited_for_in_forked_processes(home: Path) -> None:
    code = """
        data = dataset(direct=False)
        assert data[0].frame == data.frames[0]
        if (pid := os.fork()) == 0:
            try:
                data[1]
            except Exception as error:
                print("forked from one that had read" in str(error), "forkserver" in str(error),
                      flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        data.load()
        loader = DataLoader(data, batch_size=64, num_workers=2, multiprocessing_context="fork",
                            collate_fn=len)
        assert sum(loader) == len(data)
        """
    done = run(code, home)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


@pytest.mark.parametrize("mode", [pytest.param("memory", marks=pytest.mark.slow), "stream"])
def test_workers_share_the_batches(dataset: ProteinForcesDataset, mode: Any) -> None:
    loader = stream(dataset, mode=mode)
    expected = [batch.frame.tolist() for batch in loader]
    workers = DataLoader(
        loader, batch_size=None, num_workers=2, multiprocessing_context="forkserver"
    )
    found = [batch.frame.tolist() for batch in workers]
    assert len(found) == len(workers) == len(expected)
    assert sorted(found) == sorted(expected)


@pytest.mark.gpu
def test_batches_in_page_locked_memory(dataset: ProteinForcesDataset) -> None:
    for mode in ("memory", "stream"):
        batch = next(iter(stream(dataset, mode=mode, pin_memory=True)))
        assert batch.pos.is_pinned()
        assert same(batch.to("cuda", non_blocking=True).to("cpu"), batch)
