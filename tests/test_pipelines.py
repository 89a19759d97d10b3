"""Codecs and pipelines: the same numbers from each, and damage never read as numbers."""

import multiprocessing
import shutil

import numpy as np
import pytest
from store_sources import LAYOUT, metadata_of, random_source

from cgbench.errors import IntegrityError, UsageError
from cgbench.store import arrays, open_store, verify_store, write_store

CODECS = ("zstd", "lz4", "none")
RANGES = [(0, 40), (0, 16), (16, 32), (3, 37), (0, 8), (2, 5), (8, 16), (30, 40), (39, 40), (7, 7)]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codecs")
    source = random_source()
    return {
        codec: (
            folder / f"{codec}.zarr",
            write_store(
                folder / f"{codec}.zarr", source, metadata_of(source), layout=LAYOUT, codec=codec
            ),
        )
        for codec in CODECS
    }


def test_every_codec_gives_the_same_fingerprint_and_other_bytes(stores):
    assert len({manifest.fingerprint for _, manifest in stores.values()}) == 1
    assert len({manifest.shards[1].file_sha256 for _, manifest in stores.values()}) == 3
    for path, _ in stores.values():
        assert verify_store(path).problems == ()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("pipeline", ["python", "zarrs"])
def test_pipelines_return_the_same_bits(stores, codec, pipeline):
    opened = open_store(stores[codec][0], pipeline=pipeline)
    source = random_source()
    for start, stop in RANGES:
        assert np.array_equal(opened.coordinates(start, stop), source.coordinates[start:stop])
        assert np.array_equal(opened.forces(start, stop), source.forces["optimal"][start:stop])
    assert np.array_equal(opened.valid, source.valid)
    assert np.array_equal(opened.bead_types, source.bead_types)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("pipeline", ["python", "zarrs"])
def test_no_damaged_byte_is_read_as_a_number(stores, codec, pipeline, tmp_path):
    """zarrs skips checksums where it reads part of a shard: it must not be given such reads."""
    path = shutil.copytree(stores[codec][0], tmp_path / "toy.zarr")
    expected = random_source().coordinates
    shard = path / "coordinates/c/0/0/0"
    whole = shard.read_bytes()
    for position in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        shard.write_bytes(damaged)
        opened = open_store(path, pipeline=pipeline)
        found = 0
        for start, stop in ((0, 40), (0, 16), (0, 8), (8, 16), (2, 5), (3, 37)):
            try:
                values = opened.coordinates(start, stop)
            except IntegrityError:
                found += 1
            else:
                assert np.array_equal(values, expected[start:stop]), (position, start, stop)
        # At least the ranges that hold all of the shard.
        assert found >= 2, position
    shard.write_bytes(whole)
    assert np.array_equal(open_store(path, pipeline=pipeline).coordinates(), expected)


def test_the_faster_pipeline_reads_whole_shards_and_can_be_turned_off(stores, monkeypatch):
    path = stores["zstd"][0]

    def used(pipeline="auto"):
        opened = open_store(path, pipeline=pipeline)
        opened.coordinates(3, 37)
        return {key[1] for key in opened._arrays}

    assert used() == {"python", "zarrs"}
    assert used("python") == {"python"}
    monkeypatch.setenv("CGBENCH_ZARRS", "0")
    assert used() == {"python"}
    assert used("zarrs") == {"python", "zarrs"}
    monkeypatch.setattr(arrays.importlib.util, "find_spec", lambda name: None)
    assert used() == {"python"}
    with pytest.raises(UsageError, match=r"cgbench\[fast\]"):
        open_store(path, pipeline="zarrs")


def test_writing_stays_with_the_one_pipeline(stores):
    path = stores["zstd"][0]
    open_store(path, pipeline="zarrs").coordinates()
    for mode in ("r", "r+"):
        array = arrays.open_array(path / "coordinates", mode)
        assert type(array._async_array.codec_pipeline).__module__.startswith("zarr.")


def _total(opened, queue):
    queue.put(float(opened.coordinates().sum()))


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_started_after_reading_reads_too(stores, method):
    """The threads of zarrs are not forked along: a child that used them would hang."""
    opened = open_store(stores["zstd"][0], pipeline="zarrs")
    expected = float(opened.coordinates().sum())
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_total, args=(opened, queue))
    child.start()
    try:
        assert queue.get(timeout=50) == expected
        child.join(10)
        assert child.exitcode == 0
    finally:
        child.kill()
