"""``trajectories.zarr``: appended, interrupted, resumed, cut back, and read as written."""

import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store import (
    TrajectoryAttributes,
    TrajectorySet,
    TrajectoryWriter,
    read_trajectories,
    stored_systems,
    trajectory_writer,
    write_trajectories,
)

SEQUENCE = "YYDP"
ATTRIBUTES = TrajectoryAttributes(
    sequence=SEQUENCE,
    temperature=350.0,
    frame_interval=0.1,
    protocol="smoke",
    model_hash="sha256:12",
    seeds={"noise": 3},
)
N_REPLICAS = 3


def frames(n_frames, seed=0):
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(n_frames, N_REPLICAS, len(SEQUENCE), 3)).astype(np.float32),
        random.normal(size=(n_frames, N_REPLICAS)).astype(np.float32),
        random.normal(size=(n_frames, N_REPLICAS)).astype(np.float32),
    )


def open_writer(path, n_frames, *, resume=False, attributes=ATTRIBUTES, system="toy"):
    return TrajectoryWriter(
        path,
        system,
        n_replicas=N_REPLICAS,
        n_beads=len(SEQUENCE),
        n_output_frames=n_frames,
        attributes=attributes,
        resume=resume,
    )


def simulate(path, n_frames, system="toy"):
    data = frames(n_frames)
    writer = open_writer(path, n_frames, system=system)
    writer.append(*data)
    writer.finish(np.full(N_REPLICAS, n_frames), "ok")
    return data


def assert_holds(found, data, n_frames):
    """Check that a set holds the first frames of what was appended."""
    for replica in range(N_REPLICAS):
        for parts, values in zip(
            (found.coordinates, found.network_energy, found.prior_energy), data, strict=True
        ):
            assert len(parts[replica]) == n_frames
            assert np.array_equal(parts[replica], values[:n_frames, replica])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(trajectory_writer, "_CHUNK", 4)
    monkeypatch.setattr(trajectory_writer, "_SERIES_CHUNK", 6)


class WriterMachine(RuleBasedStateMachine):
    """A simulation that appends, checkpoints, dies, resumes and cuts back, in any order."""

    @initialize(n_frames=st.sampled_from([3, 11, 12, 23, 24]))
    def start(self, n_frames):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "trajectories.zarr"
        self.n_frames = n_frames
        self.saved = (trajectory_writer._CHUNK, trajectory_writer._SERIES_CHUNK)
        trajectory_writer._CHUNK, trajectory_writer._SERIES_CHUNK = 4, 6
        self.expected = tuple(values[:0] for values in frames(1))
        self.writer = open_writer(self.path, n_frames)
        self.seed = 0

    @rule(share=st.floats(0, 1))
    def append(self, share):
        room = self.n_frames - self.writer.frames_appended
        self.seed += 1
        new = frames(round(room * share), self.seed)
        self.writer.append(*new)
        self.expected = tuple(np.concatenate(pair) for pair in zip(self.expected, new, strict=True))

    @rule()
    def flush(self):
        self.writer.flush()
        assert self.writer.frames_written == self.writer.frames_appended

    @precondition(lambda self: self.writer.frames_appended)
    @rule(share=st.floats(0, 1))
    def cut_back(self, share):
        kept = round(self.writer.frames_appended * share)
        self.writer.truncate(kept)
        self.expected = tuple(values[:kept] for values in self.expected)

    @rule()
    def die_and_resume(self):
        on_disk = self.writer.frames_written
        self.writer = open_writer(self.path, self.n_frames, resume=True)
        assert self.writer.frames_written == on_disk
        self.expected = tuple(values[:on_disk] for values in self.expected)

    @invariant()
    def what_is_on_disk_is_a_prefix(self):
        assert len(self.expected[0]) == self.writer.frames_appended
        # A chunk at most is in memory.
        assert self.writer.frames_appended - self.writer.frames_written < 4
        found = read_trajectories(self.path)
        assert not found.complete
        assert_holds(found, self.expected, self.writer.frames_written)

    def teardown(self):
        done = self.writer.frames_appended
        self.writer.finish(np.full(N_REPLICAS, done), "ok")
        found = read_trajectories(self.path)
        assert found.complete
        for parts in (found.coordinates, found.network_energy, found.prior_energy):
            assert all(np.isnan(part[done:]).all() for part in parts)
            assert all(len(part) == self.n_frames for part in parts)
        assert found.alive_until.tolist() == [done] * N_REPLICAS
        for replica, part in enumerate(found.coordinates):
            assert np.array_equal(part[:done], self.expected[0][:, replica])
        trajectory_writer._CHUNK, trajectory_writer._SERIES_CHUNK = self.saved
        shutil.rmtree(self.folder)


TestWriter = WriterMachine.TestCase
TestWriter.settings = settings(max_examples=8, stateful_step_count=10, deadline=None)


@given(n_frames=st.integers(1, 130_000), target=st.sampled_from([256, 8192]))
def test_chunks_divide_a_trajectory_where_they_can(n_frames, target):
    chunk = trajectory_writer.segment_chunk(n_frames, target)
    assert 1 <= chunk <= target
    near = [size for size in range(target // 4 + 1, target + 1) if n_frames % size == 0]
    if n_frames <= target:
        assert chunk == n_frames
    else:
        assert chunk == max(near, default=target)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_trajectories as t
from cgbench.store import trajectory_writer as w, trajectories as g
w._CHUNK, w._SERIES_CHUNK = 4, 6
moment, count = sys.argv[2], [0]
def die_after(function, calls):
    def wrapped(*arguments, **named):
        result = function(*arguments, **named)
        count[0] += 1
        if count[0] == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped
if moment == "creating":
    g.create_array = die_after(g.create_array, 3)
elif moment == "data written, not counted":
    w.flush_to_disk = die_after(w.flush_to_disk, 20)
elif moment == "counted":
    w.write_attributes = die_after(w.write_attributes, 2)
elif moment == "finishing":
    w.close_group = die_after(lambda *arguments: None, 1)
t.simulate(Path(sys.argv[1]), 23)
"""


@pytest.mark.parametrize(
    ("moment", "on_disk"),
    [("creating", 0), ("data written, not counted", 4), ("counted", 8), ("finishing", 23)],
)
def test_a_killed_simulation_goes_on(tmp_path, small_chunks, moment, on_disk):
    path = tmp_path / "trajectories.zarr"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, path, moment, Path(__file__).parent],
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    data = frames(23)
    if moment == "creating":
        assert stored_systems(path) == ()
    else:
        found = read_trajectories(path)
        assert found.complete == (moment == "finishing")
        assert_holds(found, data, on_disk)
    writer = open_writer(path, 23, resume=True)
    assert writer.frames_written == on_disk
    writer.append(*(values[on_disk:] for values in data))
    writer.finish(np.full(N_REPLICAS, 23), "ok")
    assert_holds(read_trajectories(path), data, 23)
    assert sorted(entry.name for entry in path.iterdir()) == ["toy", "zarr.json"]


def test_frames_that_were_never_simulated_are_lost_not_missing(tmp_path, small_chunks):
    data = frames(9)
    writer = open_writer(tmp_path / "t.zarr", 20)
    writer.append(*data)
    with pytest.raises(ValidationError, match="alive_until"):
        writer.finish(np.array([3, 20, 2]), "failed")
    writer.finish(np.array([3, 9, 2]), "failed")
    found = read_trajectories(tmp_path / "t.zarr")
    assert found.status == "failed"
    assert [len(part) for part in found.coordinates] == [20] * N_REPLICAS
    assert np.array_equal(found.coordinates[2][:9], data[0][:, 2])
    assert np.isnan(found.coordinates[2][9:]).all()
    assert found.alive_until.tolist() == [3, 9, 2]


def test_another_simulation_is_not_continued(tmp_path):
    path = tmp_path / "t.zarr"
    open_writer(path, 20)
    for change in ({"seeds": {"noise": 4}}, {"model_hash": None}, {"temperature": 300.0}):
        other = ATTRIBUTES.model_copy(update=change)
        with pytest.raises(UsageError, match="another simulation"):
            open_writer(path, 20, resume=True, attributes=other)
    with pytest.raises(UsageError, match="n_output_frames"):
        open_writer(path, 21, resume=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        open_writer(tmp_path / "letters", 20)
    with pytest.raises(UsageError, match="not a name"):
        open_writer(path, 20, system="../toy")


def test_frames_of_wrong_shape_or_number_are_refused(tmp_path):
    writer = open_writer(tmp_path / "t.zarr", 5)
    coordinates, network, prior = frames(3)
    with pytest.raises(ValidationError, match="new frames"):
        writer.append(coordinates[:, :2], network, prior)
    with pytest.raises(ValidationError, match="new frames"):
        writer.append(coordinates, network[:2], prior)
    writer.append(coordinates, network, prior)
    with pytest.raises(ValidationError, match="too many frames"):
        writer.append(coordinates, network, prior)
    with pytest.raises(ValidationError, match="cut back"):
        writer.truncate(4)
    with pytest.raises(ValidationError, match="beads"):
        open_writer(tmp_path / "u.zarr", 0)


def test_systems_live_side_by_side(tmp_path):
    path = tmp_path / "t.zarr"
    first = simulate(path, 4, "toy")
    simulate(path, 6, "other")
    assert stored_systems(path) == ("other", "toy")
    open_writer(path, 6, system="third")
    assert {name for name, _ in zarr.open_group(path, mode="r").groups()} == {
        "other",
        "third",
        "toy",
    }
    assert_holds(read_trajectories(path, "toy"), first, 4)
    assert len(read_trajectories(path, "other").coordinates[0]) == 6
    with pytest.raises(UsageError, match="which system"):
        read_trajectories(path)
    with pytest.raises(UsageError, match="no system lambda"):
        read_trajectories(path, "lambda")
    with pytest.raises(UsageError, match="no such trajectories"):
        stored_systems(tmp_path / "nothing")
    simulate(path, 5, "toy")
    assert len(read_trajectories(path, "toy").coordinates[0]) == 5


def test_labelled_views(tmp_path):
    import xarray

    path = tmp_path / "t.zarr"
    data = simulate(path, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_zarr(path, group="toy")
        tree = xarray.open_datatree(path, engine="zarr")
    assert dataset.coordinates.dims == ("frame", "bead", "xyz")
    assert dataset.coordinates.attrs["units"] == "angstrom"
    assert dataset.network_energy.attrs["units"] == "kcal/mol"
    assert dataset.attrs["frame_interval_ps"] == 0.1
    assert dataset.attrs["temperature_K"] == 350.0
    assert {"trajectory", "frame_in_trajectory"} <= set(dataset.coords)
    chosen = tree["toy"].to_dataset()
    chosen = chosen.isel(frame=(chosen.trajectory == 1).values)
    assert np.array_equal(chosen.prior_energy.values, data[2][:, 1])


@st.composite
def ensembles(draw):
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 1000)))

    def series(dtype):
        if not draw(st.booleans()):
            return None
        return [random.normal(size=n).astype(dtype) for n in lengths]

    interval = draw(st.none() | st.floats(1e-3, 1e3))
    temperature = draw(st.floats(1, 1e3))
    return TrajectorySet(
        system="toy",
        coordinates=[random.normal(size=(n, len(SEQUENCE), 3)).astype(np.float32) for n in lengths],
        network_energy=series(np.float32),
        prior_energy=series(np.float32),
        weights=series(np.float64),
        alive_until=np.array([draw(st.integers(0, n)) for n in lengths]),
        frame_interval=interval,
        temperature=temperature,
        attributes=ATTRIBUTES.model_copy(
            update={"frame_interval": interval, "temperature": temperature}
        ),
    )


@settings(max_examples=10)
@given(ensemble=ensembles())
def test_ensembles_survive_the_file(ensemble, tmp_path_factory):
    path = tmp_path_factory.mktemp("set") / "t.zarr"
    write_trajectories(path, ensemble)
    found = read_trajectories(path, "toy")
    for name in ("coordinates", "network_energy", "prior_energy", "weights"):
        expected, values = getattr(ensemble, name), getattr(found, name)
        assert (expected is None) == (values is None)
        for left, right in zip(expected or [], values or [], strict=True):
            assert left.dtype == right.dtype
            assert np.array_equal(left, right)
    assert np.array_equal(found.alive_until, ensemble.alive_until)
    assert found.attributes == ensemble.attributes
    assert (found.frame_interval, found.temperature, found.sequence) == (
        ensemble.frame_interval,
        ensemble.temperature,
        SEQUENCE,
    )


def test_ensembles_that_disagree_with_themselves_are_not_written(tmp_path):
    path = tmp_path / "t.zarr"
    simulate(path, 6)
    good = read_trajectories(path)
    for change, word in (
        ({"coordinates": [part[:, :3] for part in good.coordinates]}, "shape of trajectory 0"),
        ({"network_energy": good.network_energy[:2]}, "network_energy"),
        ({"alive_until": good.alive_until[:2]}, "alive_until"),
        ({"coordinates": [part[:0] for part in good.coordinates]}, "empty trajectory"),
    ):
        bad = TrajectorySet(**(vars(good) | change))
        with pytest.raises(ValidationError, match=word):
            write_trajectories(path, bad)
    assert np.array_equal(read_trajectories(path).coordinates[1], good.coordinates[1])


def test_missing_and_damaged_chunks_are_errors_not_numbers(tmp_path, small_chunks):
    path = tmp_path / "t.zarr"
    simulate(path, 12)
    chunk = path / "toy/coordinates/c.4.0.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_trajectories(path)
    chunk.unlink()
    with pytest.raises(IntegrityError, match="1 of 9 chunks are missing"):
        read_trajectories(path)
