"""The verb and what is behind it: several systems, boundaries, precision, what stays unknown."""

import fcntl
import hashlib
import json

import mdtraj
import numpy as np
import pytest
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import ForceErrors, build_reference
from cgbench.evaluate.values import force_values
from cgbench.ingest import preprocess_folder
from cgbench.ingest.batch import Inputs, exit_code, preprocess_all
from cgbench.ingest.hashing import HashedWhileWriting, LocalFile
from cgbench.ingest.npy import NpySource
from cgbench.progress import silent
from cgbench.splits import check_split, make_block_split
from cgbench.store import open_store, verify_store

SYSTEM = registry.system("chignolin")
N_TRAJECTORIES, N_FRAMES = 30, 60


@pytest.fixture(scope="module")
def frames():
    """Real frames of the sample, as trajectories (30, 60, 10, 3) in Å."""
    store = open_store("chignolin-sample")
    length = len(store.valid) // store.n_trajectories
    starts = range(0, N_TRAJECTORIES * length, length)
    return np.stack([store.coordinates(start, start + N_FRAMES) for start in starts])


def write_raw(folder, coordinates, name="chignolin"):
    """Write a folder as it is published: no trajectory index."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(2)
    np.save(folder / f"{name}_ca_coords.npy", coordinates)
    forces = random.normal(0, 20, coordinates.shape).astype(np.float32)
    np.save(folder / f"{name}_ca_forces.npy", forces)
    np.save(folder / f"{name}_ca_embeddings.npy", np.array(SYSTEM.bead_types))
    return folder


@pytest.fixture
def home(tmp_path, frames):
    """A data home with the published arrays of chignolin: every second frame."""
    flat = frames[:, ::2].reshape(-1, 10, 3)
    write_raw(tmp_path / "home/raw/chignolin", flat)
    return tmp_path / "home"


def write_reference(folder, frames, interval=100.0):
    """Write trajectories as xtc files."""
    folder.mkdir(parents=True)
    chain = mdtraj.Topology()
    first = chain.add_chain()
    for _ in range(10):
        residue = chain.add_residue("ALA", first)
        chain.add_atom("CA", mdtraj.element.carbon, residue)
    for number, values in enumerate(frames):
        times = interval * np.arange(len(values))
        trajectory = mdtraj.Trajectory(values / 10, chain, time=times)
        trajectory.save(str(folder / f"run{number}.xtc"))
    return folder


def make(home, **options):
    target = home / "store/chignolin.zarr"
    return preprocess_folder(SYSTEM, home / "raw/chignolin", target, **options)


def test_published_arrays_alone_leave_time_unknown(home):
    metadata = make(home).metadata
    assert not metadata.trajectories_known
    assert metadata.frame_interval is None
    assert (metadata.frame_interval_source, metadata.boundaries_source) == (None, None)
    assert "100 ps apart is the publisher's statement, and is not verified" in metadata.description
    assert "--kind reference" in metadata.description


def test_the_reference_at_hand_tells_boundaries_and_interval(home, frames):
    write_reference(home / "raw/chignolin/reference", frames)
    manifest = make(home)
    metadata = manifest.metadata
    assert metadata.trajectories_known
    # Every second frame of trajectories with a frame every 100 ps.
    assert (metadata.frame_interval, metadata.frame_interval_source) == (200.0, "verified")
    assert metadata.boundaries_source == "archive"
    assert metadata.description is None
    bounds = open_store(home / "store/chignolin.zarr").trajectory_bounds
    assert np.diff(bounds).ravel().tolist() == [N_FRAMES // 2] * N_TRAJECTORIES
    # What was found is kept, and not looked for again.
    (home / "raw/chignolin/reference").rename(home / "elsewhere")
    assert make(home) == manifest
    # Asked for again, it is found again, and changes nothing.
    assert make(home, boundaries=[home / "elsewhere"]) == manifest


def test_a_reference_that_does_not_match(home, frames):
    other = write_reference(home / "raw/chignolin/reference", frames[:3])
    metadata = make(home).metadata
    assert not metadata.trajectories_known
    assert "at hand do not tell it" in metadata.description
    with pytest.raises(ValidationError, match="not those of the trajectories"):
        make(home, boundaries=[other])
    assert not (home / "raw/chignolin/trajectories.json").exists()


def test_an_index_of_ones_own_is_not_overwritten(home, frames):
    other = write_reference(home / "reference", frames)
    index = home / "raw/chignolin/trajectories.json"
    index.write_text(json.dumps({"lengths": [900]}))
    with pytest.raises(UsageError, match="says already where"):
        make(home, boundaries=[other])
    assert json.loads(index.read_text()) == {"lengths": [900]}
    # The index says nothing of time beyond the order.
    metadata = make(home).metadata
    assert (metadata.trajectories_known, metadata.boundaries_source) == (True, None)


def test_a_reference_folder_without_trajectories_is_no_obstacle(home):
    (home / "raw/chignolin/reference").mkdir()
    (home / "raw/chignolin/reference/half.tar.gz.part").write_bytes(b"half")
    metadata = make(home).metadata
    assert not metadata.trajectories_known
    assert "no trajectories" in metadata.description
    with pytest.raises(UsageError, match="no trajectories"):
        make(home, boundaries=[home / "raw/chignolin/reference"])


@pytest.mark.parametrize("interval", [0, -1.0, "100", True, float("inf"), float("nan")])
def test_a_damaged_index_of_ours_is_refused(home, interval):
    told = {"lengths": [900], "boundaries_source": "archive", "frame_interval_ps": interval}
    (home / "raw/chignolin/trajectories.json").write_text(json.dumps(told))
    with pytest.raises(ValidationError, match="frame_interval_ps"):
        make(home)


def test_stores_without_boundaries_downstream(home):
    make(home)
    store = open_store(home / "store/chignolin.zarr")
    settings = SYSTEM.split.model_copy(update={"gap_frames": 20})
    split = make_block_split(store, settings)
    check_split(split, store)
    # Frames of one trajectory may be in two parts only where a gap is between them.
    parts = {name: np.sort(split.frames(name)) for name in ("train", "val", "test")}
    owner = np.full(store.n_frames, "", dtype=object)
    for name, numbers in parts.items():
        owner[numbers] = name
    for name, numbers in parts.items():
        near = np.unique(np.clip(numbers[:, None] + np.arange(-20, 21), 0, store.n_frames - 1))
        assert set(owner[near]) <= {name, ""}
    with pytest.raises(ValidationError, match="too few trajectories"):
        make_block_split(store, settings.model_copy(update={"unit": "trajectory"}))


def test_no_reference_and_no_trajectory_bootstrap_without_boundaries(home):
    make(home)
    store = open_store(home / "store/chignolin.zarr")
    with pytest.raises(ValidationError, match="needs trajectories") as caught:
        build_reference(store, SYSTEM, home=home)
    assert "without trajectory index" in str(caught.value.found)
    one = ForceErrors("slice", np.array([0]), np.array([4.0]), np.array([3.0]), np.array([2]))
    for value in force_values(one, 0, 50).values():
        assert value.value is not None
        assert (value.lo, value.hi) == (None, None)


def test_several_systems_one_of_which_fails(home):
    write_raw(home / "raw/trpcage", np.ones((5, 20, 3), np.float32), "trpcage")
    outcomes = preprocess_all(["trpcage", "chignolin", "bba", "chignolin"], Inputs(), home=home)
    assert [outcome.system for outcome in outcomes] == ["trpcage", "chignolin", "bba"]
    errors = [type(outcome.error) for outcome in outcomes]
    assert errors == [ValidationError, type(None), UsageError]
    assert exit_code(outcomes) == 4
    assert verify_store(home / "store/chignolin.zarr").ok


def test_a_full_disk_is_an_error_of_one_system(home, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cgbench.store.shard_file.os.write", full)
    (outcome,) = preprocess_all(["chignolin"], Inputs(), home=home)
    assert "No space left" in outcome.error.message
    assert "finished shards are kept" in outcome.error.message


def invoke(*arguments):
    return CliRunner().invoke(app, ["preprocess", *map(str, arguments)])


def test_the_verb_prints_screening_and_every_store(home, frames):
    values = np.load(home / "raw/chignolin/chignolin_ca_coords.npy")
    values[3] = 0
    np.save(home / "raw/chignolin/chignolin_ca_coords.npy", values)
    done = invoke("chignolin", "--home", home, "--codec", "none", "--workers", "1")
    assert done.exit_code == 0, done.stderr
    assert "1 all zero" in done.stderr
    assert "900" in done.stderr
    done = invoke("chignolin", "bba", "--home", home, "--codec", "none", "--json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)
    assert [entry["system"] for entry in told] == ["chignolin", "bba"]
    assert told[0]["manifest"]["n_valid"] == 899
    assert "no such folder" in told[1]["error"]


def test_sixteen_bits_by_the_verb(home, frames):
    done = invoke("chignolin", "--home", home, "--precision", "int16")
    assert done.exit_code == 0, done.stderr
    store = open_store(home / "store/chignolin.zarr")
    bound = store.metadata.quantisation.bounds["coordinates"]
    exact = frames[:, ::2].reshape(-1, 10, 3).astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    assert 0 < np.abs(store.coordinates() - exact).max() <= bound * 1.001
    assert verify_store(store.path).ok
    # Of the same numbers, another precision is another store.
    assert invoke("chignolin", "--home", home).exit_code == 0
    assert open_store(store.path).metadata.quantisation is None


def test_reference_trajectories_by_the_verb(home, frames):
    write_reference(home / "raw/chignolin/reference", frames)
    done = invoke("chignolin", "--from", "reference", "--home", home)
    assert done.exit_code == 0, done.stderr
    metadata = open_store(home / "store/chignolin-reference.zarr").metadata
    assert (metadata.system, metadata.boundaries_source) == ("chignolin", "files")
    assert (metadata.frame_interval, metadata.frame_interval_source) == (100.0, "verified")
    refused = invoke("chignolin", "--from", "reference", "--home", home, "--force-map", "slice")
    assert refused.exit_code == 4
    assert "no forces of map slice" in refused.stderr


@pytest.mark.parametrize("file", ["coordinates/c/0/0/0", "coordinates/zarr.json", "manifest.json"])
def test_a_damaged_store_is_made_again(home, file):
    manifest = make(home)
    path = home / "store/chignolin.zarr" / file
    content = path.read_bytes()
    path.write_bytes(content[:90] + bytes([content[90] ^ 1]) + content[91:])
    assert make(home) == manifest
    assert path.read_bytes() == content
    assert verify_store(home / "store/chignolin.zarr").ok


@pytest.mark.parametrize("name", ["chignolin.zarr", "chignolin.zarr.partial"])
def test_what_is_no_store_is_neither_replaced_nor_removed(home, name):
    folder = home / "store" / name
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="is no store, and is neither"):
        make(home)
    assert (folder / "thesis.txt").read_text() == "the only copy"


def test_leftovers_of_killed_runs_are_no_obstacle(home):
    manifest = make(home)
    store = home / "store/chignolin.zarr"
    # Killed while the earlier store was removed, and in the first moments of a write.
    (home / "store/chignolin.zarr.previous").mkdir()
    (home / "store/chignolin.zarr.previous/manifest.json").write_text("{}")
    (home / "store/chignolin.zarr.partial").mkdir()
    (home / "store/chignolin.zarr.partial/.journal.jsonl.x.partial").write_text("")
    make(home, codec="none")
    assert [entry.name for entry in store.parent.iterdir()] == [store.name]
    assert open_store(store).fingerprint == manifest.fingerprint


def test_two_processes_do_not_make_one_store_at_a_time(home):
    make(home)
    with (home / "store/.chignolin.zarr.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is making this store"):
            make(home)
    # A lock file whose owner is gone holds nobody up.
    make(home)
    assert not (home / "store/.chignolin.zarr.lock").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "which systems"),
        (("chignolin", "bba", "--out", "a"), "one store at a time"),
        (("chignolin", "bba", "--raw", "a"), "one store at a time"),
        (("chignolin", "--mirror", "http://127.0.0.1"), "--mirror is for --stream"),
        (("chignolin", "--stream", "--from", "reference"), "only published training arrays"),
        (("chignolin", "--stream", "--raw", "a"), "only published training arrays"),
        (("chignolin", "--stream", "--boundaries", "a"), "--boundaries is for"),
        (("--recipe", "a.yaml", "--stream"), "--recipe and --stream"),
        (("--recipe", "a.yaml", "--force-map", "slice"), "--recipe and --force-map"),
        (("--recipe", "a.yaml"), "no such file"),
    ],
)
def test_options_that_do_not_go_together(arguments, word):
    with pytest.raises(UsageError, match=word):
        CliRunner().invoke(app, ["preprocess", *arguments], catch_exceptions=False)


def test_a_raw_file_that_changes_meanwhile_is_an_error(home, monkeypatch):
    read = NpySource.read

    def touch(self, start, stop):
        path = home / "raw/chignolin/chignolin_ca_forces.npy"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return read(self, start, stop)

    monkeypatch.setattr(NpySource, "read", touch)
    with pytest.raises(IntegrityError, match="changed while the store was made"):
        make(home)
    assert not (home / "store/chignolin.zarr").exists()


def test_hashing_follows_the_writer(tmp_path):
    content = np.random.default_rng(0).bytes(5_000_000)
    (tmp_path / "a").write_bytes(content)
    seen = []

    class Watched(LocalFile):
        def content(self, store, wait):
            def waited(fraction):
                wait(fraction)
                seen.append(fraction)

            return super().content(store, waited)

    files = HashedWhileWriting({"a": Watched(tmp_path / "a")})
    files.written(tmp_path, 0.5)
    while not seen or max(seen) < 0.4:
        pass
    assert max(seen) <= 0.5
    (hashed,) = files.hashed(tmp_path, silent)
    files.close()
    assert hashed.sha256 == hashlib.sha256(content).hexdigest()
    assert max(seen) == 1.0
    # Without anybody who writes, closing ends the threads.
    idle = HashedWhileWriting.of_paths({"a": tmp_path / "a"})
    idle.written(tmp_path, 0.1)
    idle.close()
