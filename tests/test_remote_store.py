"""Remote stores over HTTP: the same numbers, few bytes, and no fault read as numbers."""

import hashlib
import json
import multiprocessing
import pickle
import shutil
import threading

import numpy as np
import pytest
from fault_server import Fault, FaultServer
from store_sources import LAYOUT, metadata_of, random_source, write
from toy_store import RULE, ToySource, make_home
from typer.testing import CliRunner

import cgbench
from cgbench.errors import IntegrityError, UsageError
from cgbench.store import open_store, verify_store, write_store
from cgbench.store.manifest import Manifest

QUICK = {"timeout": 5.0, "retries": 3, "backoff": 0.01}
SHARD = "toy.zarr/coordinates/c/1/0/0"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "toy.zarr"
    write(path)
    return path


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "toy.zarr")
    return tmp_path


@pytest.fixture
def server(folder):
    with FaultServer(folder) as server:
        yield server


@pytest.fixture
def local(folder):
    return open_store(folder / "toy.zarr")


def open_remote(server, **options):
    options.setdefault("storage_options", QUICK)
    return open_store(f"{server.url}/toy.zarr", **options)


def test_everything_is_as_in_the_local_store(server, local):
    remote = open_remote(server)
    assert remote.manifest == local.manifest
    assert np.array_equal(remote.coordinates(), local.coordinates())
    for start, stop in ((0, 1), (7, 9), (15, 33), (39, 40), (5, 5)):
        assert np.array_equal(remote.coordinates(start, stop), local.coordinates(start, stop))
        for name in ("slice", "optimal"):
            assert np.array_equal(remote.forces(start, stop, name), local.forces(start, stop, name))
    for name in ("valid", "bead_types", "trajectory", "frame_in_trajectory", "trajectory_bounds"):
        assert np.array_equal(getattr(remote, name), getattr(local, name))
    dataset, expected = cgbench.open(f"{server.url}/toy.zarr"), local.dataset()
    assert dataset.attrs == expected.attrs
    for name in (*expected.data_vars, *expected.coords):
        assert np.array_equal(dataset[name].values, expected[name].values)
        assert dataset[name].attrs == expected[name].attrs
        assert dataset[name].dtype == expected[name].dtype


def test_the_manifest_comes_first_and_a_range_reads_only_its_chunks(server, local):
    remote = open_remote(server)
    assert {record.path for record in server.requests} == {"toy.zarr/manifest.json"}
    server.forget()
    remote.coordinates(16, 24)
    shard = server.root / SHARD
    assert server.sent(SHARD) < shard.stat().st_size
    ranges = [record.range for record in server.requests if record.path == SHARD]
    # The index at the end, and one of the two chunks.
    assert len(ranges) == 2
    server.forget()
    remote.coordinates(24, 32)
    # The index is kept.
    assert server.count() == 1


def test_a_quantised_store(tmp_path):
    from cgbench.store import choose_quantisation

    source = random_source()
    write(tmp_path / "toy.zarr", source, quantisation=choose_quantisation(source))
    local = open_store(tmp_path / "toy.zarr")
    with FaultServer(tmp_path) as server:
        remote = open_remote(server)
        assert np.array_equal(remote.coordinates(), local.coordinates(), equal_nan=True)
        counts, scale = remote.encoded("forces/slice", 3, 30)
        assert counts.dtype == np.int16
        assert scale == local.metadata.quantisation.scales["forces/slice"]
        values = cgbench.open(f"{server.url}/toy.zarr").forces_slice
        assert values.dtype == np.float32
        assert np.array_equal(values.values, local.forces(force_map="slice"), equal_nan=True)
        assert verify_store(remote).problems == ()


def test_a_handle_is_small_travels_and_hides_its_secrets(server, local):
    secret = {**QUICK, "headers": {"Authorization": "Bearer top-secret"}, "auth": ("me", "hush")}
    remote = open_remote(server, storage_options=secret)
    for shown in (repr(remote), str(remote.path), repr(remote.path), repr(vars(remote))):
        assert "secret" not in shown
        assert "hush" not in shown
    remote.coordinates()
    again = pickle.loads(pickle.dumps(remote))
    server.forget()
    assert np.array_equal(again.coordinates(), local.coordinates())
    # The manifest travels along; credentials do too.
    assert not server.count("toy.zarr/manifest.json")
    assert {record.headers["authorization"] for record in server.requests}
    for url in ("http://me:hush@127.0.0.1/toy.zarr", "http://127.0.0.1/toy.zarr?key=hush"):
        with pytest.raises(UsageError) as error:
            open_store(url)
        assert "hush" not in error.value.message
        assert "storage_options" in error.value.message


def test_threads_share_a_handle(server, local):
    remote = open_remote(server)
    expected = local.forces()
    wrong = []

    def read(seed):
        random = np.random.default_rng(seed)
        for _ in range(10):
            start, stop = np.sort(random.integers(0, 41, 2)).tolist()
            if not np.array_equal(remote.forces(start, stop), expected[start:stop]):
                wrong.append((start, stop))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=503, times=2)],
        [Fault(drop_header=True)],
        [Fault(drop_after=0)],
        [Fault(drop_after=100)],
        [Fault(status=429), Fault(drop_after=1)],
        [Fault(stall_after=10, stall_seconds=2.0)],
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_passing_faults_are_overcome(server, local, faults, cached, tmp_path):
    options = {**QUICK, "timeout": 0.5}
    cache = tmp_path / "cache" if cached else None
    server.script("toy.zarr/manifest.json", *faults)
    remote = open_remote(server, storage_options=options, cache=cache)
    for file in ("toy.zarr/coordinates/zarr.json", SHARD):
        server.script(file, *faults)
    assert np.array_equal(remote.coordinates(), local.coordinates())


@pytest.mark.parametrize(
    ("fault", "kind", "word"),
    [
        (Fault(status=404, times=None), IntegrityError, "missing on the server"),
        (Fault(status=500, times=None), UsageError, "does not answer"),
        (Fault(status=403, times=None), UsageError, "refuses access"),
        (Fault(status=418, times=None), IntegrityError, "does not send it"),
        (Fault(html=True, times=None), IntegrityError, "byte ranges|not the file"),
        (Fault(shift_range=5, times=None), IntegrityError, "not the bytes"),
        (Fault(announce=7, times=None), IntegrityError, "has changed"),
        (Fault(content=b"other", times=None), IntegrityError, "not the"),
        (Fault(no_ranges=True, times=None), IntegrityError, "cache=True"),
        (Fault(drop_after=3, times=None), UsageError, "does not answer"),
    ],
)
def test_lasting_faults_of_a_shard_are_errors(server, fault, kind, word):
    remote = open_remote(server)
    server.script(SHARD, fault)
    with pytest.raises(kind, match=word):
        remote.coordinates(18, 22)
    server.script(SHARD)
    remote.coordinates(18, 22)


def test_redirections_are_followed_without_headers_of_the_users(server, local):
    target = f"{server.url}/{SHARD}"
    move = Fault(status=302, headers={"Location": target}, times=None)
    server.script(SHARD.replace("/1/", "/0/"), move)
    remote = open_remote(server)
    # Followed; the size tells that it is another file.
    with pytest.raises(IntegrityError):
        remote.coordinates(0, 40)
    secret = open_remote(server, storage_options={**QUICK, "headers": {"X-Key": "top-secret"}})
    with pytest.raises(UsageError, match="redirected") as error:
        secret.coordinates(0, 4)
    assert target in error.value.message


def test_recoded_bodies_are_refused(server):
    remote = open_remote(server)
    server.script(SHARD, Fault(headers={"Content-Encoding": "gzip"}, times=None))
    with pytest.raises(IntegrityError, match="recoded"):
        remote.coordinates(16, 20)


def _send_sum(opened, queue):
    queue.put(float(opened.coordinates().astype(np.float64).sum()))


def test_a_forked_process_makes_connections_of_its_own(server, local):
    remote = open_remote(server)
    expected = float(remote.coordinates().astype(np.float64).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_send_sum, args=(remote, queue))
    child.start()
    try:
        assert queue.get(timeout=50) == expected
    finally:
        child.kill()


@pytest.mark.parametrize("position", [20, 900, -3])
def test_a_corrupted_remote_byte_is_an_error(server, folder, position, tmp_path):
    remote = open_remote(server)
    size = (folder / SHARD).stat().st_size
    server.script(SHARD, Fault(corrupt_at=position % size, times=None))
    with pytest.raises(IntegrityError):
        remote.coordinates(16, 32)
    assert any(SHARD.partition("/")[2] in line for line in verify_store(remote).problems)
    cached = open_remote(server, cache=tmp_path / "cache")
    with pytest.raises(IntegrityError, match="not what the manifest says"):
        cached.coordinates(16, 32)
    server.script(SHARD)
    cached.coordinates(16, 32)
    assert verify_store(remote).problems == ()


def test_a_missing_shard_is_an_error_and_not_fill_values(server, folder):
    remote = open_remote(server)
    (folder / SHARD).unlink()
    with pytest.raises(IntegrityError, match="missing on the server"):
        remote.coordinates()
    with pytest.raises(IntegrityError, match="missing on the server"):
        remote.dataset().coordinates[16:20].compute()
    assert len(verify_store(remote).problems) == 1


def test_another_store_in_the_same_place_is_an_error(server, folder, tmp_path):
    source = random_source()
    other = random_source()
    other.coordinates += 1
    for name, frames in (("one", source), ("two", other)):
        write_store(
            folder / f"{name}.zarr", frames, metadata_of(frames), layout=LAYOUT, codec="none"
        )
    (folder / "toy.zarr").rename(folder / "old.zarr")
    (folder / "one.zarr").rename(folder / "toy.zarr")
    remote = open_remote(server)
    remote.coordinates(0, 4)
    (folder / "toy.zarr").rename(folder / "one.zarr")
    (folder / "two.zarr").rename(folder / "toy.zarr")
    # Sizes and checksums of chunks fit; the manifest does not.
    with pytest.raises(IntegrityError, match="has changed since it was opened"):
        remote.coordinates(16, 20)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data | {"version": 2}, "not a manifest of this version"),
        (lambda data: data | {"n_valid": 3}, "fingerprint"),
        (lambda data: [data], "not a manifest"),
        (lambda data: data | {"files": {"../../evil": {"size": 1, "sha256": "0"}}}, "cannot have"),
        (lambda data: data | {"files": {"/etc/x": {"size": 1, "sha256": "0"}}}, "cannot have"),
        (lambda data: data | {"files": {"a/..": {"size": 1, "sha256": "0"}}}, "cannot have"),
        (lambda data: data | {"files": {"a": {"size": 2**40, "sha256": "0"}}}, "cannot have"),
    ],
)
def test_manifests_that_cannot_be_trusted(server, folder, change, word):
    manifest = folder / "toy.zarr/manifest.json"
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    with pytest.raises(IntegrityError, match=word):
        open_remote(server)


def test_a_manifest_that_is_too_large_is_not_fetched(server, monkeypatch):
    monkeypatch.setattr("cgbench.store.remote.MAX_TEXT_BYTES", 1000)
    with pytest.raises(IntegrityError, match="no manifest"):
        open_remote(server)
    assert server.sent() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"data_type": "float64"},
        {"shape": [40, 10, 4]},
        {"codecs": [{"name": "numcodecs.pickle"}]},
        {"node_type": "something"},
        {"storage_transformers": [{"name": "evil"}]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**30, 10, 3]}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 10, 3]}}},
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_metadata_that_could_do_harm_are_refused(server, folder, change, cached, tmp_path):
    path = folder / "toy.zarr/coordinates/zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    # The one who changes files can make the manifest fit.
    place = folder / "toy.zarr/manifest.json"
    data = json.loads(place.read_text())
    content = path.read_bytes()
    data["files"]["coordinates/zarr.json"] = {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    place.write_text(Manifest.model_validate(data).text())
    remote = open_remote(server, cache=tmp_path / "cache" if cached else None)
    with pytest.raises(cgbench.errors.CgbenchError):
        remote.coordinates(0, 4)
    with pytest.raises(cgbench.errors.CgbenchError):
        remote.dataset()
    assert verify_store(remote).problems


def test_names_that_are_no_address(tmp_path):
    for url in ("ftp://example.org/toy.zarr", "gs://bucket/toy.zarr", "http:///toy.zarr"):
        with pytest.raises(UsageError, match="not an address"):
            open_store(url)
    with pytest.raises(UsageError, match="are for addresses"):
        open_store("chignolin-sample", cache=True)
    with pytest.raises(UsageError, match="storage options of"):
        open_store("http://127.0.0.1:9/toy.zarr", storage_options={"colour": "red"})
    with pytest.raises(UsageError, match="does not answer"):
        open_store("http://127.0.0.1:9/toy.zarr", storage_options={"retries": 0})
    with FaultServer(tmp_path) as server, pytest.raises(IntegrityError, match="missing on the"):
        open_remote(server)


def test_info_describes_and_verifies_a_remote_store(server, local):
    from cgbench.cli.main import app

    run = CliRunner()
    answer = run.invoke(app, ["info", f"{server.url}/toy.zarr", "--json", "--verify"])
    assert answer.exit_code == 0, answer.output
    shown = json.loads(answer.stdout)
    assert shown["path"] == f"{server.url}/toy.zarr"
    assert shown["fingerprint"] == local.fingerprint
    assert run.invoke(app, ["info", f"{server.url}/toy.zarr"]).exit_code == 0
    server.script(SHARD, Fault(corrupt_at=7, times=None))
    answer = run.invoke(app, ["info", f"{server.url}/toy.zarr", "--verify"])
    assert isinstance(answer.exception, IntegrityError)


def test_a_dataset_and_its_workers_read_a_remote_store(tmp_path):
    import torch

    from cgbench.data import ProteinForcesDataset
    from cgbench.splits import make_block_split

    home = make_home(tmp_path, ToySource())
    local = open_store("toy", home)
    split = make_block_split(local, RULE)
    expected = ProteinForcesDataset(local, "val", split)
    with FaultServer(home / "store") as server:
        dataset = ProteinForcesDataset(open_remote(server), "val", split)
        assert np.array_equal(dataset.frames, expected.frames)
        rows = np.arange(0, len(expected), 7)
        assert torch.equal(dataset.read(rows).forces, expected.read(rows).forces)
        loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=64,
            num_workers=1,
            multiprocessing_context="spawn",
            collate_fn=_forces,
        )
        found = torch.cat([forces for forces, _ in zip(loader, range(3), strict=False)])
        assert torch.equal(found, expected.read(np.arange(192)).forces)


def _forces(items):
    import torch

    return torch.stack([item.forces for item in items])
