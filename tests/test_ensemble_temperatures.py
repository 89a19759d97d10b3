"""Samples of several temperatures: MBAR weights, against known populations and in failure."""

from pathlib import Path

import numpy as np
import pytest
from toy_ensembles import SEQUENCE, SYSTEM
from toy_reference import COIL, NATIVE

from cgbench.errors import SimulationError, ValidationError
from cgbench.evaluate.ensemble_files import read_ensemble
from cgbench.evaluate.reweighting import reweighted
from cgbench.store import TrajectoryAttributes, TrajectorySet, write_trajectories
from cgbench.units import thermal_energy

#: A two-state chain: the folded state has less energy, the stretched one is more often there.
GAP, DEGENERACY = -3.0, 40.0
LADDER = np.array([310.0, 350.0, 400.0, 460.0])


def population(temperature: float) -> float:
    """Boltzmann population of the folded state."""
    folded = np.exp(-GAP / thermal_energy(temperature))
    return float(folded / (folded + DEGENERACY))


def ladder_samples(n_each: int = 4000, seed: int = 0):
    random = np.random.default_rng(seed)
    temperatures = np.repeat(LADDER, n_each)
    folded = random.random(len(temperatures)) < [population(t) for t in temperatures]
    # Energies within a state vary as well, with a Boltzmann distribution of a few harmonic modes.
    spread = random.gamma(2.0, [thermal_energy(t) for t in temperatures])
    energies = np.where(folded, GAP, 0.0) + spread
    frames = np.where(folded[:, None, None], NATIVE, COIL).astype(np.float32)
    return frames, temperatures, energies, folded


@pytest.mark.parametrize("target", [310.0, 350.0, 375.0, 460.0])
def test_populations_at_any_temperature_of_the_ladder(target: float) -> None:
    frames, temperatures, energies, folded = ladder_samples()
    found = reweighted(temperatures, energies, target, "toy")
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.weights[folded].sum() == pytest.approx(population(target), abs=0.015)
    assert found.ladder == tuple(LADDER)
    assert found.effective < len(frames)


def test_an_npz_of_replica_exchange_is_weighted_to_the_reference(tmp_path: Path) -> None:
    frames, temperatures, energies, folded = ladder_samples()
    np.savez(tmp_path / "a.npz", coordinates=frames, temperature=temperatures, energy=energies)
    ensemble = read_ensemble(tmp_path / "a.npz", SYSTEM)
    weights = np.concatenate(ensemble.weights)
    stretched = np.linalg.norm(np.concatenate(ensemble.trajectories)[:, -1], axis=1) > 20.0
    assert weights[~stretched].sum() == pytest.approx(population(350.0), abs=0.015)
    (note,) = [note for note in ensemble.notes if "MBAR" in note]
    assert "4 temperatures from 310 to 460 K" in note
    assert "effective frames" in note
    # Blocks, which are resampled, hold all temperatures alike.
    for part in ensemble.weights:
        assert part.sum() == pytest.approx(1.0 / len(ensemble.weights), rel=0.35)
    assert not ensemble.time_ordered
    assert folded.any()


def test_one_number_a_trajectory(tmp_path: Path) -> None:
    frames, _, energies, _ = ladder_samples()
    np.savez(
        tmp_path / "a.npz",
        trajectories=frames.reshape(4, 4000, 10, 3),
        temperature=LADDER,
        energy=energies.reshape(4, 4000),
        frame_interval_ps=1.0,
    )
    ensemble = read_ensemble(tmp_path / "a.npz", SYSTEM)
    # In time order, so the start of each was dropped before it was weighted.
    assert ensemble.lengths.tolist() == [3600] * 4
    assert not ensemble.time_ordered
    stretched = np.concatenate(ensemble.trajectories)[:, -1, 0] > 20.0
    weights = np.concatenate(ensemble.weights)
    assert weights[~stretched].sum() == pytest.approx(population(350.0), abs=0.015)


def test_a_stored_ensemble_with_temperatures(tmp_path: Path) -> None:
    frames, temperatures, energies, _ = ladder_samples(500)
    parts = [slice(start, start + 500) for start in range(0, 2000, 500)]
    path = tmp_path / "trajectories.zarr"
    write_trajectories(
        path,
        TrajectorySet(
            system=SYSTEM,
            coordinates=[frames[part] for part in parts],
            network_energy=[energies[part].astype(np.float32) - 1.0 for part in parts],
            prior_energy=[np.ones(500, np.float32) for _ in parts],
            weights=None,
            alive_until=np.full(4, 500),
            frame_interval=None,
            temperature=350.0,
            attributes=TrajectoryAttributes(
                sequence=SEQUENCE, temperature=350.0, frame_interval=None
            ),
            temperatures=[temperatures[part] for part in parts],
        ),
    )
    ensemble = read_ensemble(path, SYSTEM)
    expected = reweighted(temperatures, energies, 350.0, "toy").weights
    np.testing.assert_allclose(np.concatenate(ensemble.weights), expected, rtol=1e-4)


def test_temperatures_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    frames, *_ = ladder_samples(50)
    temperatures = np.repeat([300.0, 600.0], 100)
    energies = np.where(temperatures < 400.0, -500.0, 500.0) + np.linspace(0.0, 1.0, 200)
    np.savez(tmp_path / "a.npz", coordinates=frames, temperature=temperatures, energy=energies)
    with pytest.raises(SimulationError, match="cannot be combined") as raised:
        read_ensemble(tmp_path / "a.npz", SYSTEM)
    assert "2 temperatures from 300 to 600 K" in str(raised.value.found)


def test_a_target_out_of_reach_is_refused() -> None:
    random = np.random.default_rng(1)
    energies = random.normal(0.0, 40.0, 500)
    with pytest.raises(ValidationError, match="too little of it is left at 350 K"):
        reweighted(np.full(500, 900.0), energies, 350.0, "hot")


def test_one_other_temperature(tmp_path: Path) -> None:
    frames, *_ = ladder_samples(50)
    path = tmp_path / "a.npz"
    np.savez(path, coordinates=frames, temperature=300.0)
    ensemble = read_ensemble(path, SYSTEM)
    assert ensemble.weights is None
    assert any("Sampled at 300 K" in note for note in ensemble.notes)
    np.savez(path, coordinates=frames, temperature=360.0, energy=np.linspace(0.0, 2.0, 200))
    weighted = read_ensemble(path, SYSTEM)
    assert np.concatenate(weighted.weights).std() > 0
    np.savez(path, coordinates=frames, temperature=350.0, energy=np.linspace(0.0, 2.0, 200))
    assert read_ensemble(path, SYSTEM).weights is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": None}, "no energies to combine them by"),
        ({"weights": np.ones(200)}, "weights beside temperatures"),
        ({"temperature": np.full(200, -1.0)}, "temperatures cannot be used"),
        ({"energy": np.full(200, np.nan)}, "no frame has a finite energy"),
        ({"temperature": 300.0 + np.arange(200) % 2 * np.nan}, "temperatures cannot be used"),
        ({"temperature": np.linspace(300, 400, 200)[:7]}, "not one number for each frame"),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path: Path, changes, message: str) -> None:
    frames, temperatures, energies, _ = ladder_samples(50)
    arrays = {"coordinates": frames, "temperature": temperatures, "energy": energies} | changes
    np.savez(tmp_path / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ValidationError, match=message):
        read_ensemble(tmp_path / "a.npz", SYSTEM)


def test_lost_frames_keep_their_share() -> None:
    _, temperatures, energies, _ = ladder_samples(200)
    energies[::10] = np.nan
    found = reweighted(temperatures, energies, 350.0, "toy")
    assert found.weights[::10].sum() == pytest.approx(0.1, abs=1e-6)


def test_thermostats_not_momentary_temperatures() -> None:
    with pytest.raises(ValidationError, match="too many temperatures"):
        reweighted(np.linspace(300.0, 400.0, 1000), np.zeros(1000), 350.0, "toy")
