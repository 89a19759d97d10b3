"""Replica exchange: the acceptance formula, detailed balance, and the statistics."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from cgbench.errors import UsageError
from cgbench.generate.exchange import (
    Exchange,
    attempt,
    geometric_ladder,
    log_acceptance,
    round_trips,
    statistics,
)
from cgbench.generate.mbar import temperature_weights
from cgbench.units import thermal_energy


def test_acceptance_is_the_ratio_of_boltzmann_factors() -> None:
    cold, hot, low, high = 300.0, 400.0, -12.0, -7.5

    def boltzmann(energy: float, temperature: float) -> float:
        return float(np.exp(-energy / thermal_energy(temperature)))

    for at_cold, at_hot in ((low, high), (high, low)):
        before = boltzmann(at_cold, cold) * boltzmann(at_hot, hot)
        after = boltzmann(at_hot, cold) * boltzmann(at_cold, hot)
        found = np.exp(log_acceptance(at_cold, at_hot, cold, hot))
        assert found == pytest.approx(after / before, rel=1e-10)
    # The hot replica has the lower energy: swapping is always downhill.
    assert log_acceptance(high, low, cold, hot) > 0


def test_swaps_keep_detailed_balance() -> None:
    """Frequencies of swaps between two discrete replicas against the product distribution."""
    levels, ladder = np.array([0.0, 0.6]), (300.0, 500.0)
    generator = np.random.default_rng(5)
    weights = [np.exp(-levels / thermal_energy(t)) for t in ladder]
    product = np.outer(*(w / w.sum() for w in weights))
    n = 4000
    moved = np.zeros((2, 2))
    for cold, hot in itertools.product(range(2), repeat=2):
        energies = levels[[cold, hot]]
        swaps = sum(
            len(attempt(np.arange(2), energies, ladder, 0, generator).accepted) for _ in range(n)
        )
        moved[cold, hot] = swaps / n
    flow, back = product[1, 0] * moved[1, 0], product[0, 1] * moved[0, 1]
    assert moved[1, 0] == 1.0
    assert 0.1 < moved[0, 1] < 0.9
    error = product[0, 1] * np.sqrt(moved[0, 1] * (1 - moved[0, 1]) / n)
    assert abs(flow - back) < 4 * error


def test_harmonic_oscillators_stay_canonical() -> None:
    """Exact dynamics of oscillators: each temperature keeps its known distribution of energy."""
    n_degrees, ladder = 6, np.array([300.0, 350.0, 410.0, 480.0])
    generator = np.random.default_rng(11)
    scale = np.sqrt([thermal_energy(t) for t in ladder])
    states = np.arange(4)
    x = scale[states][:, None] * generator.normal(size=(4, n_degrees))
    n_frames, memory = 6000, 0.6
    recorded, energies = np.empty((4, n_frames), dtype=np.int64), np.empty((4, n_frames))
    exchanges = []
    for frame in range(n_frames):
        noise = scale[states][:, None] * generator.normal(size=x.shape)
        x = memory * x + np.sqrt(1 - memory**2) * noise
        recorded[:, frame], energies[:, frame] = states, 0.5 * (x**2).sum(axis=1)
        moved = attempt(states, energies[:, frame], ladder.tolist(), frame % 2, generator)
        # As with velocities, but here for all there is: positions are left as they are.
        states = moved.states
        exchanges.append(moved)
    for state, temperature in enumerate(ladder):
        found = energies[recorded == state] / thermal_energy(temperature)
        assert len(found) == n_frames
        # Energies in units of kT are gamma distributed with shape d/2; about 3 frames correlate.
        error = np.sqrt(0.5 * n_degrees / (n_frames / 4))
        assert abs(found.mean() - 0.5 * n_degrees) < 4 * error
        assert found.var() == pytest.approx(0.5 * n_degrees, rel=0.15)
    mixing = statistics(recorded, exchanges)
    assert all(0.4 < one < 0.95 for one in mixing.acceptance)
    assert sum(mixing.round_trips) > 50
    assert mixing.visited == (4, 4, 4, 4)
    counts = np.bincount(recorded.ravel())
    weights = temperature_weights(energies.ravel(), counts, ladder, 380.0)
    mean = float(weights @ energies.ravel())
    assert mean == pytest.approx(0.5 * n_degrees * thermal_energy(380.0), rel=0.03)


def test_pairs_take_turns_and_states_stay_a_permutation() -> None:
    generator = np.random.default_rng(0)
    states, ladder = np.array([2, 0, 3, 1, 4]), [300.0, 310.0, 320.0, 330.0, 340.0]
    for parity, pairs in ((0, (0, 2)), (1, (1, 3))):
        found = attempt(states, np.zeros(5), ladder, parity, generator)
        assert found.attempted == pairs
        assert found.accepted == pairs
        assert sorted(found.states.tolist()) == list(range(5))
        assert states.tolist() == [2, 0, 3, 1, 4]


@hypothesis.given(st.lists(st.integers(0, 3), max_size=40))
def test_round_trips_against_a_walk(path: list[int]) -> None:
    count, goal = 0, None
    for state in path:
        if state == 0:
            count += goal == "down"
            goal = "up"
        elif state == 3 and goal == "up":
            goal = "down"
    assert round_trips(np.array(path, dtype=np.int64), 4) == count


def test_statistics_without_attempts() -> None:
    nothing = Exchange(np.arange(3), (0,), ())
    found = statistics(np.array([[0, 0], [1, 1], [2, 2]]), [nothing, nothing])
    assert found.acceptance[0] == 0.0
    assert np.isnan(found.acceptance[1])
    assert found.round_trips == (0, 0, 0)


def test_ladders() -> None:
    found = geometric_ladder(4, 300.0, 450.0)
    assert found[0] == 300.0
    assert found[-1] == 450.0
    ratios = np.divide(found[1:], found[:-1])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)
    with pytest.raises(UsageError, match="ladder"):
        geometric_ladder(1, 300.0, 400.0)
    with pytest.raises(UsageError, match="ladder"):
        geometric_ladder(3, 400.0, 300.0)
