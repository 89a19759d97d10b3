"""MBAR against exact free energies, other solvers and exact averages."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.generate.mbar import (
    demultiplex,
    effective_sample_size,
    ladder_energies,
    solve_mbar,
    temperature_weights,
)
from cgbench.units import thermal_energy

FloatArray = NDArray[np.float64]
LADDER = [300.0, 340.0, 385.0, 436.0]


def oscillators(
    stiffness: list[float], centres: list[float], counts: list[int], seed: int
) -> FloatArray:
    """Reduced energies of exact samples of harmonic oscillators."""
    generator = np.random.default_rng(seed)
    samples = [
        generator.normal(centre, 1 / np.sqrt(k), n)
        for k, centre, n in zip(stiffness, centres, counts, strict=True)
    ]
    x = np.concatenate(samples)
    return 0.5 * np.array(stiffness)[:, None] * (x - np.array(centres)[:, None]) ** 2


def plain_iteration(energies: FloatArray, counts: list[int], n: int = 20_000) -> FloatArray:
    """Self-consistent iteration as the equation reads, nothing else."""
    f = np.zeros(len(counts))
    numbers = np.array(counts, dtype=np.float64)
    for _ in range(n):
        denominators = (numbers[:, None] * np.exp(f[:, None] - energies)).sum(axis=0)
        f = -np.log((np.exp(-energies) / denominators).sum(axis=1))
        f -= f[0]
    return f


def test_free_energies_of_oscillators() -> None:
    stiffness, centres = [1.0, 3.0, 8.0, 20.0], [0.0, 0.7, 1.2, 1.5]
    counts = [4000, 3000, 5000, 2000]
    exact = 0.5 * np.log(np.array(stiffness) / stiffness[0])
    errors = []
    for seed in range(20):
        energies = oscillators(stiffness, centres, counts, seed)
        solution = solve_mbar(energies, counts)
        assert solution.residual < 1e-8
        errors.append(solution.free_energies - exact)
    spread = np.std(errors, axis=0, ddof=1)[1:]
    assert (spread < 0.05).all()
    # The mean over independent repeats is exact within its own standard error.
    assert (np.abs(np.mean(errors, axis=0)[1:]) < 4 * spread / np.sqrt(20)).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), n_states=st.integers(1, 4))
def test_other_solvers_agree(seed: int, n_states: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(5, 60, n_states).tolist()
    stiffness = generator.uniform(0.5, 2.0, n_states).tolist()
    centres = generator.uniform(-0.8, 0.8, n_states).tolist()
    energies = oscillators(stiffness, centres, counts, seed)
    found = solve_mbar(energies, counts, tolerance=1e-11).free_energies
    np.testing.assert_allclose(found, plain_iteration(energies, counts, 3000), atol=1e-8)

    def objective(rest: FloatArray) -> float:
        f = np.concatenate([[0.0], rest])
        terms = np.log(counts)[:, None] + f[:, None] - energies
        return float(np.logaddexp.reduce(terms, axis=0).sum() - np.dot(counts, f))

    if n_states > 1:
        best = scipy.optimize.minimize(objective, np.zeros(n_states - 1), tol=1e-12)
        np.testing.assert_allclose(found[1:], best.x, atol=1e-4)


def test_two_states_are_bennett_s_ratio() -> None:
    counts = [700, 300]
    energies = oscillators([1.0, 2.0], [0.0, 1.0], counts, 4)
    work = energies[1] - energies[0]
    shift = np.log(counts[1] / counts[0])

    def imbalance(f: float) -> float:
        forward = 1 / (1 + np.exp(work[: counts[0]] - f - shift))
        backward = 1 / (1 + np.exp(-work[counts[0] :] + f + shift))
        return float(forward.sum() - backward.sum())

    bennett = scipy.optimize.brentq(imbalance, -10, 10, xtol=1e-12)
    assert solve_mbar(energies, counts).free_energies[1] == pytest.approx(bennett, abs=1e-7)


def test_blocks_constants_and_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [50, 60, 40]
    energies = oscillators([1.0, 2.0, 3.0], [0.0, 0.5, 1.0], counts, 1)
    whole = solve_mbar(energies, counts).free_energies
    # A constant for every frame, as large as the energy of a box of water.
    moved = solve_mbar(energies + 1e5 + np.arange(150), counts).free_energies
    np.testing.assert_allclose(moved, whole, atol=1e-6)
    order = np.random.default_rng(0).permutation(150)
    np.testing.assert_allclose(solve_mbar(energies[:, order], counts).free_energies, whole)
    monkeypatch.setattr("cgbench.generate.mbar._BLOCK_NUMBERS", 3 * 7)
    np.testing.assert_allclose(solve_mbar(energies, counts).free_energies, whole, atol=1e-10)


def test_a_state_without_frames() -> None:
    energies = oscillators([1.0, 2.0, 4.0], [0.0, 0.3, 0.2], [3000, 0, 3000], 2)
    solution = solve_mbar(energies, [3000, 0, 3000])
    without = solve_mbar(energies[[0, 2]], [3000, 3000])
    np.testing.assert_allclose(solution.free_energies[[0, 2]], without.free_energies, atol=1e-7)
    assert solution.free_energies[1] == pytest.approx(0.5 * np.log(2), abs=0.05)
    log_weights, free_energy = solution.log_weights(energies[1])
    assert np.exp(log_weights).sum() == pytest.approx(1)
    assert free_energy == pytest.approx(solution.free_energies[1], abs=1e-10)


def test_sums_of_weights_are_those_of_the_counts() -> None:
    counts = [300, 200, 400]
    energies = oscillators([1.0, 2.0, 3.0], [0.0, 0.5, 1.0], counts, 1)
    solution = solve_mbar(energies, counts)
    weights = np.array([np.exp(solution.log_weights(row)[0]) for row in energies])
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(counts @ weights, 1, rtol=1e-7)


def ladder_samples(n: int, seed: int, dimensions: int = 8) -> tuple[FloatArray, list[int]]:
    """Energies of exact samples of a harmonic molecule at each temperature."""
    generator = np.random.default_rng(seed)
    counts = [n, 2 * n, n, n // 2]
    parts = [
        0.5 * thermal_energy(t) * generator.chisquare(dimensions, m)
        for t, m in zip(LADDER, counts, strict=True)
    ]
    return np.concatenate(parts), counts


@pytest.mark.parametrize("temperature", [300.0, 320.0, 350.0, 436.0])
def test_averages_at_any_temperature(temperature: float) -> None:
    exact = 4 * thermal_energy(temperature)
    errors = []
    for seed in range(16):
        energies, counts = ladder_samples(1000, seed)
        weights = temperature_weights(energies - 5000.0, counts, LADDER, temperature)
        assert weights.sum() == pytest.approx(1)
        errors.append(weights @ energies - exact)
    error = np.std(errors, ddof=1) / 4
    assert error < 0.02 * exact
    assert abs(np.mean(errors)) < 4 * error


def test_frames_of_other_temperatures_add_information() -> None:
    energies, counts = ladder_samples(1000, 0)
    weights = temperature_weights(energies, counts, LADDER, 340.0)
    assert 2000 < effective_sample_size(weights) < 4500


def test_one_temperature_gives_even_weights() -> None:
    energies = np.random.default_rng(0).normal(size=50)
    np.testing.assert_allclose(temperature_weights(energies, [50], [350.0], 350.0), 1 / 50)


@pytest.mark.parametrize("distance", [6.0, 10.0, 1000.0])
def test_states_that_do_not_overlap(distance: float) -> None:
    counts = [50, 50, 50]
    energies = oscillators([1.0, 1.0, 1.0], [0.0, 0.5, distance + 0.5], counts, 0)
    with pytest.raises(SimulationError, match="do not overlap"):
        solve_mbar(energies, counts, max_iterations=5000)


def test_overlap_is_that_of_the_matrix() -> None:
    counts = [400, 300, 500]
    energies = oscillators([1.0, 2.0, 3.0], [0.0, 0.5, 1.0], counts, 1)
    solution = solve_mbar(energies, counts)
    weights = np.array([np.exp(solution.log_weights(row)[0]) for row in energies])
    matrix = weights @ weights.T * counts
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    second = np.sort(np.linalg.eigvals(matrix).real)[-2]
    assert solution.overlap == pytest.approx(1 - second)
    alike = solve_mbar(np.zeros((2, 10)), [5, 5])
    assert alike.overlap == pytest.approx(1)


def test_giving_up() -> None:
    counts = [50, 50]
    energies = oscillators([1.0, 1.0], [0.0, 2.0], counts, 0)
    with pytest.raises(SimulationError, match="did not converge"):
        solve_mbar(energies, counts, max_iterations=1)


@pytest.mark.parametrize(
    ("energies", "counts", "message"),
    [
        (np.zeros((2, 4)), [2, 1], "counts"),
        (np.zeros((2, 4)), [5, -1], "counts"),
        (np.zeros((2, 4)), [2.5, 1.5], "counts"),
        (np.zeros((2, 4)), [4], "shapes"),
        (np.zeros(4), [4], "shapes"),
        (np.zeros((1, 0)), [0], "shapes"),
        (np.full((1, 4), np.inf), [4], "not finite"),
    ],
)
def test_what_cannot_be_solved(energies: FloatArray, counts: list[int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        solve_mbar(energies, counts)


def test_errors_of_weights_and_ladders() -> None:
    solution = solve_mbar(np.zeros((1, 4)), [4])
    with pytest.raises(ValidationError, match="wrong shape"):
        solution.log_weights(np.zeros(3))
    with pytest.raises(ValidationError, match="not finite"):
        solution.log_weights(np.full(4, np.nan))
    with pytest.raises(UsageError, match="above 0 K"):
        ladder_energies([1.0], [300.0, 0.0])
    with pytest.raises(ValidationError, match="wrong shapes"):
        ladder_energies([[1.0]], [300.0])


class TestEffectiveSampleSize:
    def test_known_values(self) -> None:
        assert effective_sample_size(np.ones(7)) == pytest.approx(7)
        assert effective_sample_size([0, 0, 3]) == pytest.approx(1)
        assert effective_sample_size([1, 1, 2]) == pytest.approx(16 / 6)

    @given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=20))
    def test_between_one_and_all(self, weights: list[float]) -> None:
        assert 1 - 1e-9 <= effective_sample_size(weights) <= len(weights) * (1 + 1e-9)

    @pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [np.nan], [np.inf]])
    def test_errors(self, weights: list[float]) -> None:
        with pytest.raises(ValidationError, match="weights"):
            effective_sample_size(weights)


class TestDemultiplex:
    @given(seed=st.integers(0, 1000), n=st.integers(1, 5), n_frames=st.integers(0, 6))
    def test_every_frame_is_where_its_temperature_is(
        self, seed: int, n: int, n_frames: int
    ) -> None:
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(n, n_frames, 2, 3))
        states = np.empty((n, n_frames), dtype=np.int64)
        for frame in range(n_frames):
            states[:, frame] = generator.permutation(n)
        found = demultiplex(values, states)
        for replica in range(n):
            for frame in range(n_frames):
                expected = values[replica, frame]
                np.testing.assert_array_equal(found[states[replica, frame], frame], expected)

    def test_errors(self) -> None:
        with pytest.raises(ValidationError, match="do not fit"):
            demultiplex(np.zeros((2, 3)), np.zeros((2, 4), dtype=int))
        with pytest.raises(ValidationError, match="frame 1"):
            demultiplex(np.zeros((2, 2)), np.array([[0, 1], [1, 1]]))
