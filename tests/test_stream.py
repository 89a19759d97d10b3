"""From a server into a store: the same store as from files, whatever goes wrong on the way."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.fetch import Settings
from cgbench.ingest import RangeSource, preprocess_folder, preprocess_stream
from cgbench.ingest.stream import RemoteArray
from cgbench.ingest.stream_store import published_arrays
from cgbench.store import Layout, open_store, schema, verify_store
from cgbench.store.manifest import Journal
from tests.fault_server import Fault, FaultServer

SYSTEM = registry.system("chignolin")
SETTINGS = Settings(backoff=0.01, backoff_limit=0.05, stall_seconds=5.0, attempts=8, seed=1)
NAMES = {
    "coordinates": "chignolin_ca_coords.npy",
    "forces/slice": "chignolin_ca_forces.npy",
    "bead_types": "chignolin_ca_embeddings.npy",
}
N_FRAMES = 20_000
CHUNK_BYTES = 32_768
CHUNKS_PER_SHARD = 16


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of 4096 frames, so that a small set has several."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(schema, "CHUNKS_PER_SHARD", CHUNKS_PER_SHARD)
    assert Layout.standard(N_FRAMES, 10).shard == 4096


@pytest.fixture(scope="module")
def sample(chignolin_dir):
    arrays = {
        role: np.load(chignolin_dir / name, mmap_mode="r")[:N_FRAMES]
        for role, name in NAMES.items()
    }
    # Damaged frames must come through as they are, to the last bit of their payload.
    damaged = np.array(arrays["coordinates"])
    damaged[7, 3, 1] = np.float32(np.nan)
    damaged[4095] = 0.0
    damaged[-1, 0, 0] = np.frombuffer(b"\x01\x02\xc0\x7f", dtype="<f4")[0]
    return arrays | {"coordinates": damaged}


def write(folder, sample, convert=np.ascontiguousarray):
    folder.mkdir(parents=True, exist_ok=True)
    for role, values in sample.items():
        np.save(folder / NAMES[role], values if role == "bead_types" else convert(values))
    return folder


def files(server):
    """Where the files of a set on the server are."""
    return {
        role: file.model_copy(update={"url": f"{server.url}/{file.name}", "mirrors": ()})
        for role, file in published_arrays(SYSTEM).items()
    }


def stream(server, out, **options):
    return preprocess_stream(SYSTEM, out, files=files(server), settings=SETTINGS, **options)


def listing(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "convert",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda values: values.astype(">f4"),
        lambda values: values.astype("<f8"),
    ],
    ids=["float32", "fortran", "big-endian", "float64"],
)
def test_the_manifest_is_that_of_the_downloaded_files(tmp_path, sample, convert):
    raw = write(tmp_path / "raw", sample, convert)
    expected = preprocess_folder(SYSTEM, raw, tmp_path / "files.zarr")
    out = tmp_path / "streamed" / "chignolin.zarr"
    with FaultServer(raw) as server:
        found = stream(server, out, workers=3)
        sent = server.sent()
    assert found == expected
    assert (out / "manifest.json").read_bytes() == (
        tmp_path / "files.zarr" / "manifest.json"
    ).read_bytes()
    assert verify_store(out).ok
    assert listing(out.parent) == {out.name, f"{out.name}.stream.json"}
    size = sum(path.stat().st_size for path in raw.iterdir())
    # Numbers that the store holds bit for bit are fetched once; headers are looked at twice.
    once = convert(np.zeros((2, 2, 3), np.float32))
    passes = 1 if once.dtype.itemsize == 4 and not np.isfortran(once) else 2
    assert size * passes <= sent < size * passes + 4 * 65536 * 3


def test_the_worst_of_servers_only_costs_time(tmp_path, sample):
    raw = write(tmp_path / "raw", sample)
    expected = preprocess_folder(SYSTEM, raw, tmp_path / "files.zarr")
    with FaultServer(raw) as server:
        for name in NAMES.values():
            server.script(
                name,
                Fault(status=503, retry_after="0", times=2),
                Fault(drop_header=True),
                Fault(),
                Fault(drop_after=1000, times=3),
                Fault(times=2),
                Fault(drop_at=700_000, times=2),
                Fault(status=502),
                Fault(stall_after=2000, stall_seconds=0.01),
            )
        assert stream(server, tmp_path / "a.zarr", workers=2) == expected


PROGRAM = """
import sys
from pathlib import Path
from cgbench.store import schema
schema.CHUNK_BYTES = {chunk}
schema.CHUNKS_PER_SHARD = {shard}
from cgbench.fetch import Settings
from cgbench.ingest import preprocess_stream
from cgbench.ingest.stream_store import published_arrays
from cgbench import registry
system = registry.system("chignolin")
files = {{role: file.model_copy(update={{"url": sys.argv[1] + "/" + file.name, "mirrors": ()}})
          for role, file in published_arrays(system).items()}}
preprocess_stream(system, Path(sys.argv[2]), files=files,
                  settings=Settings(backoff=0.01, seed=1))
"""


def kill_after_shards(server, out, n_shards):
    """Stream in another process and kill it when some shards are in its journal."""
    journal = Journal(out.with_name(f"{out.name}.partial"))
    command = [
        sys.executable,
        "-c",
        PROGRAM.format(chunk=CHUNK_BYTES, shard=CHUNKS_PER_SHARD),
        server.url,
        str(out),
    ]
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        contents = journal.read() if journal.path.is_file() else None
        if contents is not None and len(contents[1]) >= n_shards:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    contents = journal.read()
    assert contents is not None
    return contents[1]


def test_a_killed_stream_goes_on_and_fetches_no_finished_shard_again(tmp_path, sample):
    raw = write(tmp_path / "raw", sample)
    expected = preprocess_folder(SYSTEM, raw, tmp_path / "files.zarr")
    out = tmp_path / "streamed" / "chignolin.zarr"
    with FaultServer(raw) as server:
        # A slow server, or the other process would be done before it is killed.
        for name in NAMES.values():
            server.script(name, Fault(rate=500_000.0, times=None))
        done = kill_after_shards(server, out, 2)
        assert 2 <= len(done) < 5
        assert not list(out.parent.rglob("*.npy"))
        for name in NAMES.values():
            server.script(name)
        server.forget()
        assert stream(server, out) == expected
        for name in (NAMES["coordinates"], NAMES["forces/slice"]):
            # The header, which is looked at by its first 64 KiB, and then what is missing.
            ranges = [(one.start, one.stop) for one in server.requests if one.path == name]
            for unit in done.values():
                first, last = (128 + 120 * frame for frame in (unit.start, unit.stop))
                again = [r for r in ranges if r[0] < last and r[1] > max(first, 65536)]
                assert not again
            missing = N_FRAMES - sum(unit.stop - unit.start for unit in done.values())
            assert server.sent(name) < missing * 120 + 4 * 65536
    assert listing(out.parent) == {out.name, f"{out.name}.stream.json"}


def test_a_file_that_changed_meanwhile_is_refused(tmp_path, sample):
    raw = write(tmp_path / "raw", sample)
    out = tmp_path / "streamed" / "chignolin.zarr"
    with FaultServer(raw) as server:
        for name in NAMES.values():
            server.script(name, Fault(rate=500_000.0, times=None))
        done = kill_after_shards(server, out, 1)
        server.script(NAMES["bead_types"])
        path = raw / NAMES["forces/slice"]
        np.save(path, np.load(path)[::-1])
        for name in NAMES.values():
            server.script(name)
        with pytest.raises(IntegrityError, match="changed on the server") as caught:
            stream(server, out)
        assert NAMES["forces/slice"] in caught.value.what
        assert "remove" in str(caught.value.fix)
        # What is there is left alone until somebody decides.
        contents = Journal(out.with_name(f"{out.name}.partial")).read()
        assert contents is not None
        assert contents[1] == done


def test_a_file_that_changes_on_the_way_stops_the_stream(tmp_path, sample):
    raw = write(tmp_path / "raw", sample)
    other = (raw / NAMES["coordinates"]).read_bytes()
    with FaultServer(raw) as server:
        server.script(
            NAMES["coordinates"],
            Fault(times=4),
            Fault(content=other, etag='"new"', times=None),
        )
        with pytest.raises(IntegrityError, match="changed"):
            stream(server, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_finished_store_is_not_fetched_again(tmp_path, sample):
    raw = write(tmp_path / "raw", sample)
    with FaultServer(raw) as server:
        first = stream(server, tmp_path / "a.zarr")
        server.forget()
        assert stream(server, tmp_path / "a.zarr") == first
        assert server.sent() < 6 * 65536
        path = raw / NAMES["coordinates"]
        np.save(path, np.load(path) + 1)
        with pytest.raises(IntegrityError, match="changed on the server"):
            stream(server, tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(no_ranges=True, times=None), IntegrityError),
        (Fault(html=True, times=None), IntegrityError),
        (Fault(status=404, times=None), IntegrityError),
        (Fault(content=b"", times=None), IntegrityError),
        (Fault(content=b"x" * 5000, times=None), IntegrityError),
        (Fault(shift_range=5, times=None), IntegrityError),
        (Fault(announce=7, times=None), IntegrityError),
    ],
)
def test_what_is_no_array_by_ranges_is_refused(tmp_path, sample, fault, kind):
    raw = write(tmp_path / "raw", sample)
    with FaultServer(raw) as server:
        server.script(NAMES["coordinates"], fault)
        with pytest.raises(kind, match="chignolin_ca_coords"):
            stream(server, tmp_path / "out" / "a.zarr")
    assert not (tmp_path / "out").exists()


def test_data_of_another_protein_are_refused_by_their_header(tmp_path, sample):
    wrong = {
        "coordinates": sample["coordinates"][:, :9],
        "forces/slice": sample["forces/slice"][:-1],
        "bead_types": sample["bead_types"][::-1],
    }
    for role, values in wrong.items():
        raw = write(tmp_path / role.replace("/", "_"), sample | {role: values})
        with FaultServer(raw) as server:
            with pytest.raises(ValidationError):
                stream(server, tmp_path / "a.zarr")
            assert server.sent() < 6 * 65536
    np.save(raw / NAMES["bead_types"], np.array([{}], dtype=object))
    with FaultServer(raw) as server, pytest.raises(IntegrityError, match="pickle"):
        stream(server, tmp_path / "a.zarr")


def test_the_registry_and_a_mirror_say_where_the_files_are(tmp_path, sample):
    folder = tmp_path / "mirror" / "protein_thermodynamics_data" / "training_data"
    write(folder, sample)
    home = tmp_path / "home"
    with FaultServer(tmp_path / "mirror") as server:
        preprocess_stream(SYSTEM, home=home, mirror=server.url, settings=SETTINGS)
    store = open_store("chignolin", home)
    assert np.array_equal(
        store.coordinates().view(np.uint32), sample["coordinates"].view(np.uint32)
    )
    assert (store.metadata.trajectories_known, store.metadata.frame_interval) == (False, None)
    assert not (home / "raw").exists()
    assert json.loads((home / "store" / "chignolin.zarr.stream.json").read_text())
    with pytest.raises(UsageError, match="no forces of map optimal"):
        preprocess_stream(SYSTEM, home=home, mirror="http://127.0.0.1:9", force_maps=["optimal"])


def test_a_source_can_be_pickled_and_read_in_any_order(tmp_path, sample):
    raw = write(tmp_path / "raw", sample)
    with FaultServer(raw) as server:
        arrays = {
            role: RemoteArray([file.url], file.name, role, SETTINGS)
            for role, file in files(server).items()
        }
        source = RangeSource(
            arrays["coordinates"], {"slice": arrays["forces/slice"]}, arrays["bead_types"]
        )
        source.read(0, 100)
        source = pickle.loads(pickle.dumps(source))
        random = np.random.default_rng(1)
        starts = random.integers(0, N_FRAMES - 3000, 40)
        ranges = [(int(start), int(start) + int(random.integers(1, 3000))) for start in starts]
        with ThreadPoolExecutor(4) as pool:
            blocks = list(pool.map(lambda one: source.read(*one), ranges))
        source.close()
    for (start, stop), block in zip(ranges, blocks, strict=True):
        coordinates = sample["coordinates"][start:stop]
        assert np.array_equal(block.coordinates.view(np.uint32), coordinates.view(np.uint32))
        assert np.array_equal(block.forces["slice"], sample["forces/slice"][start:stop])
        assert block.valid.sum() == len(block.valid) - sum(
            start <= frame < stop for frame in (7, 4095, N_FRAMES - 1)
        )
