"""Damage to a finished store: each kind is found, named, and never read as numbers."""

import json
import shutil

import numpy as np
import pytest
from fault_server import FaultServer
from store_sources import write

from cgbench.errors import IntegrityError
from cgbench.store import open_store, verify_store
from cgbench.store.manifest import Manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "toy.zarr"
    write(path)
    return path


@pytest.fixture
def damaged(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "toy.zarr")


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def files(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_a_flipped_bit_is_found_in_every_file(damaged):
    assert verify_store(damaged).ok
    assert {"zarr.json", "manifest.json", "0"} <= {file.name for file in files(damaged)}
    for file in files(damaged):
        name = file.relative_to(damaged).as_posix()
        size = file.stat().st_size
        for position in {0, size // 2, size - 1}:
            bit = position % 8
            flip(file, position, bit)
            problems = verify_store(damaged).problems
            assert any(name in problem for problem in problems), (name, position)
            flip(file, position, bit)
    assert verify_store(damaged).ok


def test_any_changed_byte_of_the_manifest_is_found(damaged):
    manifest = damaged / "manifest.json"
    size = manifest.stat().st_size
    for position in np.random.default_rng(3).choice(size, 100, replace=False).tolist():
        flip(manifest, position, position % 8)
        assert not verify_store(damaged).ok, position
        flip(manifest, position, position % 8)
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b"\n ", b"\n\t", 1))
    assert verify_store(damaged).problems == ("manifest.json: changed outside its values",)


def test_missing_additional_and_linked_files_are_named(damaged):
    (damaged / "coordinates/c/1/0/0").unlink()
    (damaged / "forces/notes.txt").write_text("hello")
    outside = damaged.parent / "elsewhere"
    (damaged / "valid/c/0").rename(outside)
    (damaged / "valid/c/0").symlink_to(outside)
    problems = "\n".join(verify_store(damaged).problems)
    assert "coordinates/c/1/0/0: missing" in problems
    assert "valid/c/0: missing (a link)" in problems
    assert "forces/notes.txt: does not belong" in problems
    with pytest.raises(IntegrityError, match=r"coordinates/c/1/0/0 \(missing\)"):
        open_store(damaged)


def test_a_truncated_shard_is_named_when_the_store_is_opened(damaged):
    shard = damaged / "forces/optimal/c/2/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="forces/optimal/c/2/0/0"):
        open_store(damaged)


def test_a_damaged_chunk_raises_when_it_is_read(damaged):
    opened = open_store(damaged)
    expected = opened.coordinates(16, 32)
    flip(damaged / "coordinates/c/0/0/0", 40)
    opened = open_store(damaged)
    with pytest.raises(IntegrityError, match="--verify"):
        opened.coordinates(0, 8)
    assert np.array_equal(opened.coordinates(16, 32), expected)


def test_other_values_under_the_same_file_hash_are_found(damaged):
    """A manifest that was made to fit the files still has to fit the decoded values."""
    manifest = damaged / "manifest.json"
    data = json.loads(manifest.read_text())
    shards = {shard["file"]: shard for shard in data["shards"]}
    first, second = shards["forces/slice/c/0/0/0"], shards["forces/optimal/c/0/0/0"]
    swapped = (damaged / second["file"]).read_bytes()
    (damaged / first["file"]).write_bytes(swapped)
    first["file_sha256"], first["size"] = second["file_sha256"], second["size"]
    manifest.write_text(json.dumps(data, sort_keys=True, indent=1) + "\n")
    assert verify_store(damaged).problems == (
        "forces/slice/c/0/0/0: decodes to other values than were written",
    )


def test_a_store_of_another_version_says_so(damaged):
    manifest = damaged / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(IntegrityError, match="not a manifest of this version"):
        open_store(damaged)
    manifest.write_text("[]")
    with pytest.raises(IntegrityError, match="not a manifest of this version"):
        open_store(damaged)


def test_a_manifest_with_an_unknown_field_is_damaged(damaged):
    manifest = damaged / "manifest.json"
    data = json.loads(manifest.read_text()) | {"colour": "red"}
    manifest.write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match="damaged"):
        open_store(damaged)


def test_a_folder_that_is_no_store(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(IntegrityError, match="neither a manifest nor a journal"):
        open_store(tmp_path / "empty.zarr")
    assert verify_store(tmp_path / "nothing.zarr").problems[0].endswith("no such store")


def _shard(data, **changes):
    data["shards"][1] = data["shards"][1] | changes


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["shards"].pop(),
        lambda data: data["shards"].pop(1),
        lambda data: data["shards"].insert(1, data["shards"][1]),
        lambda data: _shard(data, array="../../elsewhere"),
        lambda data: _shard(data, file="coordinates/c/7/0/0"),
        lambda data: _shard(data, stop=10**15),
        lambda data: _shard(data, start=5),
        lambda data: data["arrays"][1].update(shape=[10**15, 10, 3]),
    ],
)
def test_manifests_whose_shards_are_not_those_of_the_arrays(tmp_path, change):
    write(tmp_path / "toy.zarr")
    place = tmp_path / "toy.zarr/manifest.json"
    data = json.loads(place.read_text())
    change(data)
    # The one who changes it can make the fingerprint fit.
    data["fingerprint"] = Manifest.model_validate(data).content_fingerprint()
    place.write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match="damaged"):
        open_store(tmp_path / "toy.zarr")
    with FaultServer(tmp_path) as server, pytest.raises(IntegrityError, match="damaged"):
        open_store(f"{server.url}/toy.zarr")
