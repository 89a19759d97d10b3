"""The reference bundle of the embedded sample: what it says, and that it fits its store."""

import numpy as np
import pytest
from toy_reference import NATIVE

from cgbench import registry
from cgbench.config import assets_home
from cgbench.evaluate import geometry
from cgbench.evaluate.msm import fit_markov_model
from cgbench.evaluate.reference import build_reference, frame_weights, read_reference
from cgbench.evaluate.stored_trajectories import store_trajectories
from cgbench.evaluate.weights import count_transitions
from cgbench.store import open_store


@pytest.fixture(scope="module")
def sample():
    return read_reference(assets_home() / "references" / "v2" / "chignolin-sample.zarr")


@pytest.fixture(scope="module")
def sample_store():
    return open_store(assets_home() / "store" / "chignolin-sample.zarr")


def test_trajectories_of_a_store_are_its_frames(sample_store, monkeypatch):
    monkeypatch.setattr("cgbench.evaluate.stored_trajectories._READ_BYTES", 120 * 700)
    flat = sample_store.coordinates()
    trajectories = store_trajectories(sample_store)
    assert len(trajectories) == 105
    first = 0
    for index, trajectory in enumerate(trajectories[:5] + trajectories[-2:]):
        first = 500 * (index if index < 5 else index + 98)
        assert len(trajectory) == 500
        np.testing.assert_array_equal(trajectory[0:200], flat[first : first + 200])
        np.testing.assert_array_equal(trajectory[150:900], flat[first + 150 : first + 500])
    assert len(trajectories[0][500:600]) == 0


def test_one_connected_set_of_the_sample_holds_folded_and_coil_frames(sample, sample_store):
    observables = sample.observables
    kinds = np.array(sample_store.metadata.start_kind)
    frame = np.concatenate([np.arange(500)] * 105)
    coil = (kinds[observables.trajectory] == "coil") & (frame == 0)
    folded = observables.q >= sample.metadata.basins.folded_q
    assert coil.sum() == 17
    assert folded.sum() > 1000
    for lag in (5, 10, 20):
        counts = count_transitions(
            observables.microstate,
            observables.trajectory,
            sample.n_microstates,
            observables.n_trajectories,
            lag,
            observables.alive,
        )
        populations = counts.populations.sum(axis=0)
        model = fit_markov_model(counts.total(np.ones(105)), populations, lag)
        assert np.isin(observables.microstate[coil | folded], model.states).all()
        # Connected in the sense of the model: probability flows from any state to any other.
        reached = np.linalg.matrix_power(model.transition_matrix, 200)
        assert (reached > 0).all()
    assert (frame_weights(sample)[coil] > 0).all()


def test_the_sample_says_how_little_is_known(sample):
    metadata = sample.metadata
    population = metadata.folded_population
    assert 0.10 < population.value < 0.25
    assert population.lo < 0.10
    assert population.hi > 0.25
    assert metadata.n_folding < 10
    assert metadata.n_unfolding < 10
    assert metadata.converged is False
    assert metadata.converged == registry.system("chignolin-sample").converged
    assert metadata.fraction_outside == 0.0
    assert metadata.weights_status == "ok"
    assert metadata.n_resamples == registry.constants().n_resamples
    assert "still grows with the lag" in metadata.timescale_statement
    assert metadata.analysis == registry.system("chignolin-sample").analysis
    assert 0.8 < metadata.handedness_bound < 1.0


def test_the_sample_is_small_and_its_start_frames_are_spread(sample, sample_store):
    path = assets_home() / "references" / "v2" / "chignolin-sample.zarr"
    assert sum(file.stat().st_size for file in path.rglob("*")) < 5_000_000
    assert sample.store_fingerprint == sample_store.fingerprint
    assert len(sample.start_frames) == 32
    flat = sample_store.coordinates()
    np.testing.assert_array_equal(sample.start_coordinates, flat[sample.start_frames])
    rmsd = geometry.rmsd(sample.start_coordinates, sample.native)
    assert rmsd[0] < 0.5
    assert (sample.observables.q[sample.start_frames] < 0.3).sum() >= 5
    assert np.median(rmsd) > 3.0


def test_the_sample_is_what_the_store_gives(sample, sample_store):
    """Built again; other processors may round the projection's last digits differently."""
    again = build_reference(sample_store, registry.system("chignolin-sample"), n_resamples=2)
    np.testing.assert_allclose(again.tica.eigenvalues, sample.tica.eigenvalues, rtol=1e-6)
    np.testing.assert_allclose(again.observables.tics, sample.observables.tics, atol=1e-4)
    np.testing.assert_allclose(again.centres, sample.centres, atol=0.05)
    assert (again.observables.microstate == sample.observables.microstate).mean() > 0.99
    np.testing.assert_allclose(again.observables.q, sample.observables.q, atol=1e-5)
    np.testing.assert_allclose(again.native, sample.native)
    assert again.metadata.folded_population.value == pytest.approx(
        sample.metadata.folded_population.value, abs=0.01
    )
    assert np.abs(NATIVE - sample.native).max() < 0.01
