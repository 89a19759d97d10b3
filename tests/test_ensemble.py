"""Ensembles: validation, bad frames, dropping the start, samples without order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_reference import COIL, NATIVE

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import Ensemble

SYSTEM = "chignolin-sample"


def chain(n_frames, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.1, size=(n_frames, 10, 3))
    return (NATIVE + noise).astype(np.float32)


def broken(frames, index, how):
    frames = frames.copy()
    match how:
        case "stretched":
            frames[index, 5:] += [20.0, 0.0, 0.0]
        case "collapsed":
            frames[index, 4] = frames[index, 3] + 0.5
        case "nan":
            frames[index, 2, 1] = np.nan
        case "infinite":
            frames[index, 2, 1] = np.inf
    return frames


@pytest.mark.parametrize("how", ["stretched", "collapsed", "nan", "infinite"])
def test_the_first_bad_frame_ends_a_trajectory(how):
    ensemble = Ensemble.from_arrays(
        SYSTEM, [chain(20), broken(chain(20), 7, how)], frame_interval=0.1
    )
    assert ensemble.alive_until.tolist() == [20, 7]
    assert ensemble.time_ordered
    assert (ensemble.n_trajectories, ensemble.n_frames) == (2, 40)


def test_what_the_maker_says_can_only_shorten():
    arrays = [chain(20), broken(chain(20), 7, "nan")]
    ensemble = Ensemble.from_arrays(SYSTEM, arrays, frame_interval=0.1, alive_until=[5, 20])
    assert ensemble.alive_until.tolist() == [5, 7]


def test_bad_samples_go_to_the_end_with_all_that_belongs_to_them():
    frames = broken(broken(chain(6), 1, "nan"), 4, "stretched")
    numbers = np.arange(6.0)
    ensemble = Ensemble.from_arrays(
        SYSTEM, [frames], weights=[numbers], network_energy=[numbers], prior_energy=[-numbers]
    )
    assert not ensemble.time_ordered
    assert ensemble.alive_until.tolist() == [4]
    order = [0, 2, 3, 5, 1, 4]
    assert ensemble.weights[0].tolist() == order
    assert ensemble.network_energy[0].tolist() == order
    assert (-ensemble.prior_energy[0]).tolist() == order
    np.testing.assert_array_equal(ensemble.trajectories[0], frames[order])


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    fraction=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]),
    data=st.data(),
)
def test_dropping_the_start(lengths, fraction, data):
    alive = [data.draw(st.integers(0, length)) for length in lengths]
    energy = [np.arange(length, dtype=np.float32) for length in lengths]
    ensemble = Ensemble.from_arrays(
        SYSTEM,
        [chain(length) for length in lengths],
        frame_interval=0.1,
        alive_until=np.array(alive),
        network_energy=energy,
    )
    kept = ensemble.kept(fraction)
    for index, length in enumerate(lengths):
        dropped = int(length * fraction + 1e-9)
        assert kept.lengths[index] == length - dropped
        assert kept.alive_until[index] == max(0, alive[index] - dropped)
        assert kept.network_energy[index].tolist() == list(range(dropped, length))
    assert ensemble.lengths.tolist() == lengths


def test_samples_have_no_start_to_drop():
    ensemble = Ensemble.from_arrays(SYSTEM, [chain(20)])
    assert ensemble.kept(0.5) is ensemble
    with pytest.raises(ValidationError, match="out of range"):
        ensemble.kept(1.0)


def test_from_a_stored_set():
    from cgbench.store import TrajectorySet

    stored = TrajectorySet(
        system=SYSTEM,
        coordinates=[chain(10), chain(12)],
        network_energy=[np.zeros(10, np.float32), np.zeros(12, np.float32)],
        prior_energy=None,
        weights=None,
        alive_until=np.array([10, 3]),
        frame_interval=0.1,
        temperature=350.0,
        attributes={},
    )
    ensemble = Ensemble.from_trajectory_set(stored, name="m")
    assert ensemble.name == "m"
    assert ensemble.alive_until.tolist() == [10, 3]
    assert ensemble.prior_energy is None
    assert [len(part) for part in ensemble.network_energy] == [10, 12]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"trajectories": [np.zeros((5, 9, 3))]}, "trajectory 0 has the wrong shape"),
        ({"trajectories": [np.zeros((5, 10))]}, "wrong shape"),
        ({"trajectories": [np.full((5, 10, 3), "x")]}, "holds no numbers"),
        ({"trajectories": [chain(5) / 10.0]}, "nanometres"),
        ({"frame_interval": 0.0}, "frame interval"),
        ({"frame_interval": np.nan}, "frame interval"),
        ({"weights": [np.ones(4)]}, "wrong shape"),
        ({"weights": []}, "do not fit"),
        ({"weights": [np.array([1, 1, 1, 1, np.nan])]}, "1 not finite"),
        ({"weights": [np.array([1.0, 1, 1, 1, -1])]}, "1 negative"),
        ({"weights": [np.zeros(5)]}, "cannot be used"),
        ({"weights": [np.ones(5)], "frame_interval": 0.1}, "own Markov state model"),
        ({"alive_until": [6]}, "alive_until"),
        ({"alive_until": [-1]}, "alive_until"),
        ({"alive_until": [1.5]}, "alive_until"),
        ({"alive_until": [1, 2]}, "alive_until"),
        ({"network_energy": [np.ones(7)]}, "wrong shape"),
    ],
)
def test_wrong_input_is_named(arguments, word):
    given_arguments = {"trajectories": [chain(5)], "name": "mine"} | arguments
    trajectories = given_arguments.pop("trajectories")
    with pytest.raises(ValidationError, match=word) as error:
        Ensemble.from_arrays(SYSTEM, trajectories, **given_arguments)
    assert "mine" in str(error.value)


def test_unknown_systems_and_other_chain_lengths():
    with pytest.raises(UsageError):
        Ensemble.from_arrays("chignolinn", [chain(5)])
    assert registry.system(SYSTEM).n_beads == 10
    longer = np.concatenate([COIL, COIL[:1] + np.array([33.0, 0.0, 0.0])])[None]
    assert Ensemble.from_arrays(SYSTEM, [longer], n_beads=11).n_frames == 1
