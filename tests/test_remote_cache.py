"""Copies of remote files: fetched once, checked before use, never the wrong ones."""

import multiprocessing
import os
import shutil
import threading
import time

import numpy as np
import pytest
from fault_server import FaultServer
from store_sources import LAYOUT, metadata_of, random_source, write

import cgbench
from cgbench.errors import UsageError
from cgbench.store import Cache, open_store, write_store

QUICK = {"timeout": 5.0, "retries": 3, "backoff": 0.01}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "toy.zarr"
    write(path)
    return path


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "served/toy.zarr")
    return tmp_path / "served"


@pytest.fixture
def server(folder):
    with FaultServer(folder) as server:
        yield server


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "cache"


def open_cached(server, cache):
    return open_store(f"{server.url}/toy.zarr", cache=cache, storage_options=QUICK)


def copies(kept, name="c"):
    return sorted(path for path in kept.glob(f"*/*/**/{name}/**/*") if path.is_file())


def fetched(server):
    """Return how often files besides the manifest were asked for."""
    return server.count() - server.count("toy.zarr/manifest.json")


def test_a_second_reader_fetches_the_manifest_alone(server, kept):
    expected = random_source()
    first = open_cached(server, kept)
    assert np.array_equal(first.coordinates(), expected.coordinates)
    # Three shards and the array's metadata.
    assert fetched(server) == 4
    assert np.array_equal(first.coordinates(3, 20), expected.coordinates[3:20])
    assert fetched(server) == 4
    second = open_cached(server, kept)
    assert np.array_equal(second.coordinates(), expected.coordinates)
    assert fetched(server) == 4
    assert np.array_equal(second.forces(), expected.forces["optimal"])
    assert fetched(server) == 8
    assert [path.name.endswith(".partial") for path in copies(kept)] == [False] * 6
    assert second.fingerprint.removeprefix("sha256:") in {entry.name for entry in kept.iterdir()}
    view = cgbench.open(f"{server.url}/toy.zarr", cache=kept)
    assert np.array_equal(view.forces_optimal.values, expected.forces["optimal"])
    assert len(copies(kept)) == 6


def test_only_the_shards_that_are_read_are_fetched(server, kept):
    open_cached(server, kept).coordinates(16, 20)
    assert [path.parts[-5:] for path in copies(kept)] == [("coordinates", "c", "1", "0", "0")]


def test_true_is_a_folder_of_the_data_home(server, tmp_path):
    url = f"{server.url}/toy.zarr"
    open_store(url, tmp_path / "home", cache=True).coordinates()
    assert copies(tmp_path / "home" / "cache")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "link", "delete"])
def test_a_damaged_copy_is_fetched_again(server, kept, damage, tmp_path):
    expected = random_source().coordinates
    open_cached(server, kept).coordinates()
    copy = copies(kept)[1]
    content = copy.read_bytes()
    if damage == "flip":
        copy.write_bytes(content[:30] + bytes([content[30] ^ 1]) + content[31:])
    elif damage == "truncate":
        copy.write_bytes(content[:-1])
    elif damage == "empty":
        copy.write_bytes(b"")
    else:
        copy.rename(tmp_path / "elsewhere")
        if damage == "link":
            copy.symlink_to(tmp_path / "elsewhere")
    server.forget()
    again = open_cached(server, kept)
    assert np.array_equal(again.coordinates(), expected)
    assert fetched(server) == 1
    assert copy.read_bytes() == content
    assert not copy.is_symlink()


@pytest.mark.parametrize("pipeline", ["python", "zarrs"])
def test_damage_after_the_check_is_found_by_the_checksums(server, kept, pipeline):
    expected = random_source().coordinates
    opened = open_store(
        f"{server.url}/toy.zarr", cache=kept, storage_options=QUICK, pipeline=pipeline
    )
    opened.coordinates()
    for copy in copies(kept):
        with copy.open("r+b") as handle:
            handle.seek(30)
            handle.write(b"\xff\xff\xff")
    server.forget()
    assert np.array_equal(opened.coordinates(), expected)
    assert fetched(server) == 3


def test_copies_of_another_compression_are_kept_apart(server, folder, kept):
    first = open_cached(server, kept)
    first.coordinates()
    (folder / "toy.zarr").rename(folder / "old.zarr")
    source = random_source()
    write_store(folder / "toy.zarr", source, metadata_of(source), layout=LAYOUT, codec="none")
    second = open_cached(server, kept)
    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.coordinates(), source.coordinates)
    assert np.array_equal(first.coordinates(), source.coordinates)
    assert len(copies(kept)) == 6


def test_a_bounded_cache_keeps_what_was_used_last(server, kept):
    expected = random_source()
    opened = open_cached(server, kept)
    sizes = {shard.file: shard.size for shard in opened.manifest.shards}
    room = sum(sizes[f"coordinates/c/{k}/0/0"] for k in range(3))
    bounded = open_cached(server, Cache(folder=kept, max_bytes=room))
    bounded.coordinates()
    assert len(copies(kept)) == 3
    now = time.time()
    for age, name in ((50, "1"), (40, "0"), (30, "2")):
        (copy,) = kept.glob(f"*/*/coordinates/c/{name}/0/0")
        os.utime(copy, (now - age, now - age))
    bounded.coordinates(16, 17)
    bounded.forces(32, 40)
    # Shard 0 was the least recently used.
    assert {"/".join(path.parts[-4:-2]) for path in kept.glob("*/*/coordinates/c/*/0/0")} == {
        "c/1",
        "c/2",
    }
    # More than fits, at once.
    assert np.array_equal(bounded.forces(), expected.forces["optimal"])
    assert np.array_equal(bounded.coordinates(), expected.coordinates)
    assert sum(path.stat().st_size for path in copies(kept)) <= room
    with pytest.raises(UsageError, match="too small"):
        open_cached(server, Cache(folder=kept / "tiny", max_bytes=100)).coordinates()


def test_what_is_no_copy_is_not_removed_to_make_room(server, kept):
    other = kept / "store/own.zarr/coordinates/c/0/0/0"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"the only copy")
    size = max(shard.size for shard in open_cached(server, None).manifest.shards)
    open_cached(server, Cache(folder=kept, max_bytes=size)).coordinates()
    assert other.read_bytes() == b"the only copy"


def test_threads_that_compete_for_a_small_cache_read_right_numbers(server, kept):
    expected = random_source()
    opened = open_cached(server, kept)
    largest = max(shard.size for shard in opened.manifest.shards)
    handles = [open_cached(server, Cache(folder=kept, max_bytes=largest + 10)) for _ in range(2)]
    wrong = []

    def read(seed):
        random = np.random.default_rng(seed)
        for _ in range(6):
            start, stop = np.sort(random.integers(0, 41, 2)).tolist()
            values = handles[seed % 2].forces(start, stop)
            if not np.array_equal(values, expected.forces["optimal"][start:stop]):
                wrong.append((start, stop))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def _read_all(opened, queue):
    queue.put(float(opened.coordinates().astype(np.float64).sum()))


def test_processes_fetch_a_file_once(server, kept):
    opened = open_cached(server, kept)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_read_all, args=(opened, queue)) for _ in range(3)]
    for child in children:
        child.start()
    found = {queue.get(timeout=60) for _ in children}
    for child in children:
        child.join(20)
    assert found == {float(random_source().coordinates.astype(np.float64).sum())}
    assert fetched(server) == 4


def test_what_killed_processes_left_is_removed(server, kept):
    open_cached(server, kept).coordinates()
    copy = copies(kept)[0]
    old, fresh = (copy.parent / f".0.{name}.partial" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    copy.unlink()
    open_cached(server, kept).coordinates()
    assert not old.exists()
    assert fresh.exists()


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="cache cannot be used"):
        open_cached(server, tmp_path / "file").coordinates()
