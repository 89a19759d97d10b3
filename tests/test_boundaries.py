"""Which array frame is which trajectory's: found again on real frames, or refused."""

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgbench.errors import ValidationError
from cgbench.ingest import TrajectorySource, match_trajectories
from cgbench.ingest.fingerprints import (
    COUNT,
    TOLERANCE,
    FrameSearch,
    agree,
    choose_pairs,
    fingerprints,
)
from cgbench.progress import silent
from tests.store_sources import ArraySource

SEQUENCE = "YYDPETGTWY"
N_FRAMES = 500


@pytest.fixture(scope="module")
def frames(chignolin_dir):
    """The sample's 105 trajectories (105, 500, 10, 3)."""
    coordinates = np.load(chignolin_dir / "chignolin_ca_coords.npy")
    return coordinates.reshape(105, N_FRAMES, 10, 3)


@pytest.fixture(scope="module")
def trajectories(frames, chignolin_dir, tmp_path_factory):
    """The same, as xtc files with a frame every picosecond."""
    folder = tmp_path_factory.mktemp("xtc")
    topology = mdtraj.load_topology(str(chignolin_dir / "native_ca.pdb"))
    files = []
    for number, values in enumerate(frames):
        files.append(folder / f"run{number}.xtc")
        times = np.arange(N_FRAMES, dtype=np.float64)
        mdtraj.Trajectory(values / 10, topology, time=times).save(str(files[-1]))
    return TrajectorySource(files, SEQUENCE)


class KnownFrames(ArraySource):
    """Trajectories in memory."""

    frame_interval = 1.0


@pytest.fixture(scope="module")
def known(trajectories):
    """What the xtc files hold, rounded as they round, read once."""
    values = trajectories.read(0, trajectories.n_frames).coordinates
    return KnownFrames(values, lengths=trajectories.trajectory_lengths)


def rotations(n, random):
    return np.linalg.qr(random.normal(size=(n, 3, 3)))[0]


def moved(values, seed=0):
    """Each frame turned and shifted, in single precision."""
    random = np.random.default_rng(seed)
    flat = values.reshape(-1, *values.shape[-2:]).astype(np.float64)
    flat = np.einsum("nij,nbj->nbi", rotations(len(flat), random), flat)
    return (flat + random.uniform(-50, 50, (len(flat), 1, 3))).astype(np.float32)


def test_a_shuffled_and_turned_set_is_found_whole(frames, trajectories):
    order = np.random.default_rng(1).permutation(105)
    found = match_trajectories(ArraySource(moved(frames[order])), trajectories)
    assert found.lengths.tolist() == [N_FRAMES] * 105
    assert found.trajectories.tolist() == order.tolist()
    assert not found.first_frames.any()
    assert (found.stride, found.frame_interval) == (1, 1.0)
    assert (found.fraction, found.n_unmatched, found.n_repeated) == (1.0, 0, 0)
    assert found.index()["lengths"] == [N_FRAMES] * 105


@pytest.mark.parametrize(("stride", "first"), [(10, 0), (10, 3), (7, 0), (499, 0)])
def test_the_stride_gives_the_frame_interval(frames, known, stride, first):
    order = np.random.default_rng(2).permutation(105)
    taken = frames[order, first::stride]
    found = match_trajectories(ArraySource(moved(taken)), known)
    assert (found.stride, found.frame_interval) == (stride, float(stride))
    assert found.lengths.tolist() == [taken.shape[1]] * 105
    assert found.trajectories.tolist() == order.tolist()
    assert set(found.first_frames.tolist()) == {first}
    assert found.fraction == 1.0


@settings(max_examples=8)
@given(data=st.data())
def test_any_cutting_of_trajectories_is_found(data, frames, known):
    stride = data.draw(st.integers(1, 20))
    chosen = data.draw(st.lists(st.integers(0, 104), min_size=3, max_size=30, unique=True))
    lengths, first, parts = [], [], []
    for number in chosen:
        start = data.draw(st.integers(0, N_FRAMES - 3 * stride - 1))
        longest = -(-(N_FRAMES - start) // stride)
        # Two frames in a row could be a coincidence before the stride is known.
        n_frames = data.draw(st.integers(3, longest))
        parts.append(frames[number, start::stride][:n_frames])
        lengths.append(n_frames)
        first.append(start)
    found = match_trajectories(ArraySource(moved(np.concatenate(parts))), known)
    assert found.stride == stride
    assert found.trajectories.tolist() == chosen
    assert found.lengths.tolist() == lengths
    assert found.first_frames.tolist() == first


def test_a_few_strange_frames_are_tolerated_and_counted(frames, known):
    values = moved(frames[:60])
    random = np.random.default_rng(3)
    strange = [0, 777, 778, 1500, 29_999]
    values[strange] = random.normal(0, 8, (len(strange), 10, 3))
    values[777] = np.nan
    found = match_trajectories(ArraySource(values), known)
    assert found.n_unmatched == len(strange)
    assert found.fraction == pytest.approx(1 - 5 / 30_000)
    # Within a trajectory they change nothing; at its ends they stand alone.
    assert found.lengths.tolist() == [1, 499, 500, 500, 1, 499, *[500] * 55, 499, 1]
    assert found.trajectories.tolist()[:5] == [-1, 0, 1, 2, -1]
    assert found.first_frames.tolist()[:6] == [-1, 1, 0, 0, -1, 1]


def test_too_many_strange_frames_are_refused_with_figures(frames, known):
    values = moved(frames[:60])
    values[1000:1031] += np.random.default_rng(4).normal(0, 0.5, (31, 10, 3)).astype(np.float32)
    with pytest.raises(ValidationError, match="not those of the trajectories") as caught:
        match_trajectories(ArraySource(values), known)
    assert "99.9 % of 30000" in str(caught.value.expected)
    assert "31 not found" in str(caught.value.found)


@pytest.mark.parametrize("case", ["other trajectories", "nanometres", "noise"])
def test_frames_of_something_else_are_refused(frames, known, case):
    values = moved(frames[:50])
    if case == "nanometres":
        values = values / 10
    elif case == "noise":
        values = values + np.random.default_rng(5).normal(0, 0.1, values.shape).astype(np.float32)
    some = known
    if case == "other trajectories":
        some = KnownFrames(known.coordinates[60 * N_FRAMES :], lengths=[N_FRAMES] * 45)
    with pytest.raises(ValidationError, match="not those of the trajectories"):
        match_trajectories(ArraySource(values), some)


def test_a_trajectory_that_is_part_of_another_is_ambiguous(frames, trajectories, tmp_path):
    paths = [file.path for file in trajectories.files[:20]]
    with mdtraj.open(str(paths[3])) as handle:
        xyz, times, steps, _ = handle.read()
    copy = tmp_path / "part.xtc"
    with mdtraj.open(str(copy), "w") as handle:
        handle.write(xyz[100:], time=times[100:], step=steps[100:])
    source = TrajectorySource([*paths, copy], SEQUENCE)
    found = match_trajectories(ArraySource(moved(frames[:20])), source)
    # The whole one explains more frames.
    assert found.trajectories.tolist() == list(range(20))
    values = np.concatenate([frames[3, 100:], frames[0], frames[1]])
    with pytest.raises(ValidationError, match="several places") as caught:
        match_trajectories(ArraySource(moved(values)), source)
    assert "400" in str(caught.value.found)


def test_a_trajectory_stored_twice_is_one(frames, trajectories):
    paths = [file.path for file in trajectories.files[:10]]
    source = TrajectorySource([*paths, paths[4]], SEQUENCE)
    found = match_trajectories(ArraySource(moved(frames[:10])), source)
    assert found.trajectories.tolist() == list(range(10))
    again = match_trajectories(ArraySource(moved(frames[[4, 4, 2]])), source)
    assert again.trajectories.tolist() == [4, 10, 2]
    assert (again.n_repeated, again.lengths.tolist()) == (0, [500] * 3)
    thrice = match_trajectories(ArraySource(moved(frames[[4, 4, 4]])), source)
    assert thrice.n_repeated == 500


def test_different_strides_are_refused(frames, known):
    values = np.concatenate([frames[0, ::10], frames[1, ::10], frames[2, ::5]])
    with pytest.raises(ValidationError, match="different strides") as caught:
        match_trajectories(ArraySource(moved(values)), known)
    assert "every 5 " in str(caught.value.found)


def test_frames_in_random_order_are_refused(frames, known):
    order = np.random.default_rng(6).permutation(52_500)[:9000]
    values = moved(frames).reshape(-1, 10, 3)[order]
    with pytest.raises(ValidationError, match="order of the trajectories"):
        match_trajectories(ArraySource(values), known)


def test_sets_of_different_beads_are_refused(frames, known):
    with pytest.raises(ValidationError, match="numbers of beads"):
        match_trajectories(ArraySource(frames[0][:, :9]), known)
    with pytest.raises(ValidationError, match="without boundaries"):
        match_trajectories(ArraySource(frames[0]), ArraySource(frames[0]))
    with pytest.raises(ValidationError, match="at least 4 beads"):
        choose_pairs(3)


@pytest.mark.parametrize("n_beads", [4, 5, 10, 20, 80])
def test_pairs_are_distinct_and_begin_with_the_ends(n_beads):
    pairs = choose_pairs(n_beads)
    assert (pairs.first[0], pairs.second[0]) == (0, n_beads - 1)
    assert (pairs.first < pairs.second).all()
    assert len(set(zip(pairs.first, pairs.second, strict=True))) == len(pairs.first) <= 12


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), n_beads=st.integers(4, 30))
def test_rounded_and_turned_frames_always_agree(seed, n_beads):
    random = np.random.default_rng(seed)
    exact = random.normal(0, 8, (20, n_beads, 3)).astype(np.float32)
    # What xtc keeps: each coordinate to 0.01 Å, here always the worst way.
    direction = random.choice([-0.5, 0.5], exact.shape) * COUNT * 0.999
    rounded = (exact + direction).astype(np.float32)
    pairs = choose_pairs(n_beads)
    first = fingerprints(ArraySource(moved(exact, seed)), pairs, "", silent)
    second = fingerprints(ArraySource(rounded), pairs, "", silent)
    assert agree(first, second).all()
    search = FrameSearch(second)
    for row, wanted in enumerate(first):
        brute = np.abs(second.astype(int) - wanted.astype(int)).max(axis=1) <= TOLERANCE
        assert search.find(wanted).tolist() == np.flatnonzero(brute).tolist()
        assert row in search.find(wanted)
