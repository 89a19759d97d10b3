"""The integrator against exact results, and the random streams bit by bit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg

from cgbench.errors import ValidationError
from cgbench.simulation.langevin import (
    Baoab,
    LangevinSettings,
    ReplicaState,
    kinetic_temperature,
    thermal_speed,
)
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams

TEMPERATURE = 350.0
MASS = 12.0
# Written out again, so that a wrong constant in the package cannot hide: R in kcal/mol/K and
# 1 kcal/mol in amu Å²/ps².
KT = 8.31446261815324 / 4184.0 * TEMPERATURE
KCAL = 418.4

Forces = Callable[[torch.Tensor], torch.Tensor]


def spring_constant(omega: float) -> float:
    """Return k of U = k x²/2 in kcal/mol/Å² for a frequency in 1/ps."""
    return MASS * omega**2 / KCAL


def step_matrix(frequency_step: float, friction_step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear map and the noise vector of one step for a harmonic well.

    Read off the integrator by feeding it unit vectors, in units of √(kT/k) and √(kT/m).
    """
    timestep = 0.01
    k = spring_constant(frequency_step / timestep)
    length, speed = math.sqrt(KT / k), math.sqrt(KT * KCAL / MASS)
    state = ReplicaState(
        positions=torch.tensor([[[length, 0, 0]]], dtype=torch.float64),
        velocities=torch.tensor([[[0, speed, 0]]], dtype=torch.float64),
        forces=torch.tensor([[[-k * length, 0, 0]]], dtype=torch.float64),
    )
    noise = torch.tensor([[[0, 0, 1]]], dtype=torch.float64)
    constants = LangevinSettings(timestep, friction_step / timestep, TEMPERATURE, MASS)
    Baoab(constants, state.positions).step(state, noise, lambda x: -k * x)
    result = np.stack([state.positions.numpy()[0, 0] / length, state.velocities[0, 0] / speed])
    return result[:, :2], result[:, 2]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 1.95), st.floats(0.001, 20.0))
def test_harmonic_stationary_distribution_is_exact(
    frequency_step: float, friction_step: float
) -> None:
    # A linear stochastic map has a Gaussian stationary distribution whose covariance solves the
    # discrete Lyapunov equation: no sampling error at all.
    matrix, noise = step_matrix(frequency_step, friction_step)
    covariance = linalg.solve_discrete_lyapunov(matrix, np.outer(noise, noise))
    assert covariance[0, 0] == pytest.approx(1.0, rel=1e-6)
    assert covariance[1, 1] == pytest.approx(1 - frequency_step**2 / 4, rel=1e-6)
    assert covariance[0, 1] == pytest.approx(0.0, abs=1e-6)


def test_a_step_beyond_the_stability_limit_is_unstable() -> None:
    inside, _ = step_matrix(1.99, 0.1)
    outside, _ = step_matrix(2.01, 0.1)
    assert np.abs(np.linalg.eigvals(inside)).max() < 1
    assert np.abs(np.linalg.eigvals(outside)).max() > 1


class Averages:
    """Mean and standard error from oscillators that are independent of one another.

    The time average of each oscillator is one sample, so correlation in time needs no estimate:
    the effective sample size is the number of oscillators, or more.
    """

    def __init__(self, n: int) -> None:
        self._sum = np.zeros(n)
        self._count = 0

    def add(self, values: torch.Tensor) -> None:
        self._sum += values.numpy().ravel().astype(np.float64)
        self._count += 1

    def estimate(self) -> tuple[float, float]:
        means = self._sum / self._count
        return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))


def agrees(found: tuple[float, float], exact: float, largest_error: float) -> bool:
    """Whether an estimate is within 4 standard errors, which must be small enough to tell."""
    mean, error = found
    assert error < largest_error * abs(exact), f"the test is too weak: {error} of {exact}"
    return abs(mean - exact) < 4 * error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frequency_step", [0.1, 0.5, 1.0, 1.5])
def test_sampled_harmonic_well(frequency_step: float, dtype: torch.dtype) -> None:
    n_beads, n_steps, timestep, friction = 2000, 500, 0.01, 20.0
    k = spring_constant(frequency_step / timestep)
    constants = LangevinSettings(timestep, friction, TEMPERATURE, MASS)
    streams = ReplicaStreams(11, [0], n_beads, dtype=dtype)
    start = ReplicaStreams(12, [0], n_beads, dtype=dtype).initial() * math.sqrt(KT / k)
    velocities = streams.initial() * thermal_speed(TEMPERATURE, MASS)
    state = ReplicaState(start, velocities, -k * start)
    integrator = Baoab(constants, start)
    squares, end_of_step, after_noise = (Averages(3 * n_beads) for _ in range(3))
    for step in range(n_steps):
        integrator.before_forces(state, streams.noise(step))
        in_between = state.velocities.square()
        state.forces.copy_(-k * state.positions)
        integrator.after_forces(state)
        if step >= 50:
            squares.add(state.positions.square())
            end_of_step.add(state.velocities.square())
            after_noise.add(in_between)
    speed = KT * KCAL / MASS
    assert agrees(squares.estimate(), KT / k, 0.02)
    assert agrees(end_of_step.estimate(), speed * (1 - frequency_step**2 / 4), 0.02)
    assert agrees(after_noise.estimate(), speed, 0.02)


def test_double_well_against_quadrature() -> None:
    # U = h (x² − 1)² per component with a barrier of 2 kT, crossed many times by each of them.
    height = 2 * KT

    def energy(x: float) -> float:
        return height * (x * x - 1) ** 2

    def expectation(observable: Callable[[float], float]) -> float:
        top, _ = integrate.quad(lambda x: observable(x) * math.exp(-energy(x) / KT), -4, 4)
        bottom, _ = integrate.quad(lambda x: math.exp(-energy(x) / KT), -4, 4)
        return float(top / bottom)

    n_beads, n_steps = 1000, 2500
    constants = LangevinSettings(0.005, 5.0, TEMPERATURE, MASS)
    streams = ReplicaStreams(5, [0], n_beads, dtype=torch.float64)
    positions = torch.ones((1, n_beads, 3), dtype=torch.float64)
    positions[:, ::2] = -1.0
    forces: Forces = lambda x: -4 * height * x * (x.square() - 1)  # noqa: E731
    state = ReplicaState(
        positions, streams.initial() * thermal_speed(TEMPERATURE, MASS), forces(positions)
    )
    integrator = Baoab(constants, positions)
    observables: list[tuple[Callable[[torch.Tensor], torch.Tensor], float]] = [
        (lambda x: x.square(), expectation(lambda x: x * x)),
        (lambda x: x.pow(4), expectation(lambda x: x**4)),
        (lambda x: (x.abs() < 0.5).double(), 2 * quadrature_mass(energy, -4, 4, 0.0, 0.5)),
    ]
    averages = [Averages(3 * n_beads) for _ in observables]
    side = Averages(3 * n_beads)
    for step in range(n_steps):
        integrator.step(state, streams.noise(step), forces)
        if step >= 300:
            side.add((state.positions > 0).double())
            for average, (observable, _) in zip(averages, observables, strict=True):
                average.add(observable(state.positions))
    for average, (_, exact) in zip(averages, observables, strict=True):
        assert agrees(average.estimate(), exact, 0.02)
    assert agrees(side.estimate(), 0.5, 0.02)


def quadrature_mass(
    energy: Callable[[float], float], low: float, high: float, start: float, stop: float
) -> float:
    """Return the Boltzmann mass between two positions."""
    part, _ = integrate.quad(lambda x: math.exp(-energy(x) / KT), start, stop)
    whole, _ = integrate.quad(lambda x: math.exp(-energy(x) / KT), low, high)
    return float(part / whole)


def bond_forces(positions: torch.Tensor) -> torch.Tensor:
    """Return forces of U = Σ 50 (r − 3.8)² along the chain, element by element."""
    difference = positions[:, 1:] - positions[:, :-1]
    length = difference.square().sum(dim=2, keepdim=True).sqrt()
    pull = 100.0 * (length - 3.8) * difference / length
    forces = torch.zeros_like(positions)
    forces[:, :-1] += pull
    forces[:, 1:] -= pull
    return forces


def bond_energy(state: ReplicaState) -> float:
    """Return potential plus kinetic energy in kcal/mol."""
    length = (state.positions[:, 1:] - state.positions[:, :-1]).square().sum(dim=2).sqrt()
    kinetic = 0.5 * MASS * state.velocities.square().sum() / KCAL
    return float(50.0 * (length - 3.8).square().sum() + kinetic)


def chain(n_replicas: int, n_beads: int, dtype: torch.dtype = torch.float64) -> ReplicaState:
    """Return straight chains with thermal velocities, the same for a replica in any batch."""
    positions = torch.zeros((n_replicas, n_beads, 3), dtype=dtype)
    positions[:, :, 0] = 3.8 * torch.arange(n_beads)
    velocities = ReplicaStreams(3, range(n_replicas), n_beads, dtype=dtype).initial()
    return ReplicaState(
        positions, velocities * thermal_speed(TEMPERATURE, MASS), bond_forces(positions)
    )


def test_energy_is_conserved_without_friction() -> None:
    deviations = []
    for timestep in (0.002, 0.001):
        state = chain(2, 6)
        integrator = Baoab(LangevinSettings(timestep, 0.0, TEMPERATURE, MASS), state.positions)
        noise = torch.full_like(state.positions, 1e6)  # Must not matter: its amplitude is zero.
        energies = [bond_energy(state)]
        for _ in range(round(4.0 / timestep)):
            integrator.step(state, noise, bond_forces)
            energies.append(bond_energy(state))
        relative = np.array(energies) / energies[0] - 1
        half = len(relative) // 2
        assert abs(relative[half:].mean() - relative[:half].mean()) < 5e-5
        deviations.append(np.abs(relative).max())
    assert deviations[0] < 0.01
    # Second order: half the step, a quarter of the error.
    assert deviations[0] / deviations[1] == pytest.approx(4, rel=0.3)


def test_small_friction_approaches_the_frictionless_path() -> None:
    paths = []
    for friction in (0.0, 1e-12):
        state = chain(1, 6)
        integrator = Baoab(LangevinSettings(0.002, friction, TEMPERATURE, MASS), state.positions)
        streams = ReplicaStreams(1, [0], 6, dtype=torch.float64)
        for step in range(200):
            integrator.step(state, streams.noise(step), bond_forces)
        paths.append(state.positions)
    assert not torch.equal(paths[0], paths[1])
    assert torch.allclose(paths[0], paths[1], atol=1e-4)


def test_step_against_numpy() -> None:
    """The five substeps, written out once more without torch."""
    timestep, friction = 0.004, 1.0
    state = chain(3, 5)
    x, v = state.positions.numpy().copy(), state.velocities.numpy().copy()
    integrator = Baoab(LangevinSettings(timestep, friction, TEMPERATURE, MASS), state.positions)
    streams = ReplicaStreams(8, range(3), 5, dtype=torch.float64)

    def acceleration(x: np.ndarray) -> np.ndarray:
        return bond_forces(torch.from_numpy(x)).numpy() * KCAL / MASS

    for step in range(50):
        noise = streams.noise(step).clone()
        integrator.step(state, noise, bond_forces)
        v = v + timestep / 2 * acceleration(x)
        x = x + timestep / 2 * v
        v = math.exp(-friction * timestep) * v + (
            math.sqrt(1 - math.exp(-2 * friction * timestep))
            * math.sqrt(KT * KCAL / MASS)
            * noise.numpy()
        )
        x = x + timestep / 2 * v
        v = v + timestep / 2 * acceleration(x)
    np.testing.assert_allclose(state.positions.numpy(), x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state.velocities.numpy(), v, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_integrator_does_not_depend_on_the_batch(dtype: torch.dtype) -> None:
    # Odd sizes leave elements over at the end of vectorised loops.
    def advance(replicas: list[int]) -> torch.Tensor:
        whole = chain(13, 7, dtype)
        state = ReplicaState(*(field[replicas].clone() for field in vars(whole).values()))
        integrator = Baoab(LangevinSettings(0.004, 1.0, TEMPERATURE, MASS), state.positions)
        streams = ReplicaStreams(4, replicas, 7, dtype=dtype)
        for step in range(100):
            integrator.step(state, streams.noise(step), lambda x: -10.0 * x)
        return state.positions

    together = advance(list(range(13)))
    for replicas in ([0], [12], [5, 2], [1, 2, 3, 4, 5, 6, 7]):
        assert torch.equal(advance(replicas), together[replicas])


def test_one_force_evaluation_a_step_and_nothing_new_in_memory() -> None:
    state = chain(2, 4)
    addresses = [field.data_ptr() for field in vars(state).values()]
    calls = []

    def forces(positions: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return bond_forces(positions)

    integrator = Baoab(LangevinSettings(0.004, 1.0, TEMPERATURE, MASS), state.positions)
    for _ in range(10):
        integrator.step(state, torch.zeros_like(state.positions), forces)
    assert len(calls) == 10
    assert [field.data_ptr() for field in vars(state).values()] == addresses


def test_initial_velocities_have_the_temperature() -> None:
    velocities = ReplicaStreams(0, range(4), 20_000, dtype=torch.float64).initial()
    velocities *= thermal_speed(TEMPERATURE, MASS)
    # The relative standard error of a mean of n squared normals is √(2/n).
    expected = pytest.approx(TEMPERATURE, rel=4 * math.sqrt(2 / 60_000))
    assert kinetic_temperature(velocities, MASS).tolist() == [expected] * 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestep", 0.0),
        ("timestep", math.nan),
        ("friction", -1.0),
        ("mass", 0.0),
        ("temperature", -1.0),
        ("temperature", math.inf),
    ],
)
def test_constants_out_of_range_are_refused(name: str, value: float) -> None:
    constants = {"timestep": 0.004, "friction": 1.0, "temperature": 350.0, "mass": 12.0}
    with pytest.raises(ValidationError, match=name):
        LangevinSettings(**{**constants, name: value})


def noise_of(replicas: list[int], steps: list[int], n_beads: int = 3, **options: object) -> list:
    streams = ReplicaStreams(7, replicas, n_beads, **options)  # type: ignore[arg-type]
    return [streams.noise(step).clone() for step in steps]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, 3 * STEPS_PER_BLOCK), min_size=1, max_size=5),
)
def test_stream_is_a_function_of_seed_replica_and_step(
    replicas: list[int], steps: list[int]
) -> None:
    together = noise_of(replicas, steps)
    for place, replica in enumerate(replicas):
        # Alone, and with the steps in another order as after a restart.
        alone = noise_of([replica], steps[::-1])[::-1]
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[place])


def test_stream_against_a_generator_set_up_by_hand() -> None:
    seed, replica, step, n_beads = 7, 5, 2 * STEPS_PER_BLOCK + 9, 4
    key = np.random.SeedSequence(seed, spawn_key=(replica,)).generate_state(2, np.uint64)
    # The block of steps is the third of the counter's four words.
    philox = np.random.Philox(key=key, counter=2 * 2**128)
    expected = np.random.Generator(philox).standard_normal((STEPS_PER_BLOCK, n_beads, 3))[9]
    found = ReplicaStreams(seed, [replica], n_beads, dtype=torch.float64).noise(step)[0]
    np.testing.assert_array_equal(found.numpy(), expected)


def test_precisions_share_their_noise() -> None:
    single = noise_of([0, 4], [70], dtype=torch.float32)[0]
    double = noise_of([0, 4], [70], dtype=torch.float64)[0]
    assert single.dtype is torch.float32
    assert torch.equal(single, double.to(torch.float32))


def test_streams_are_standard_normal_and_independent() -> None:
    n_beads, n_steps = 50, 400
    streams = ReplicaStreams(1, range(6), n_beads, dtype=torch.float64)
    noise = torch.stack([streams.noise(step).clone() for step in range(n_steps)]).numpy()
    values = noise.transpose(1, 0, 2, 3).reshape(6, -1)
    n = values.shape[1]
    assert np.abs(values.mean(axis=1)).max() < 4.5 / math.sqrt(n)
    assert np.abs(values.var(axis=1) - 1).max() < 4.5 * math.sqrt(2 / n)
    assert np.abs((values**4).mean(axis=1) - 3).max() < 4.5 * math.sqrt(96 / n)
    between = np.corrcoef(np.vstack([values, streams_of_other_seed(n_beads, n_steps)]))
    assert np.abs(between - np.eye(7)).max() < 4.5 / math.sqrt(n)
    lagged = (noise[1:] * noise[:-1]).mean()
    assert abs(lagged) < 4.5 / math.sqrt(noise[1:].size)
    initial = streams.initial().numpy()
    assert not np.isin(initial, noise).any()


def streams_of_other_seed(n_beads: int, n_steps: int) -> np.ndarray:
    """Return the noise of replica 0 under another seed, flat."""
    streams = ReplicaStreams(2, [0], n_beads, dtype=torch.float64)
    return np.stack([streams.noise(step)[0].numpy().copy() for step in range(n_steps)]).ravel()


def test_wrong_streams_are_refused() -> None:
    with pytest.raises(ValidationError, match="negative"):
        ReplicaStreams(-1, [0], 3)
    with pytest.raises(ValidationError, match="negative"):
        ReplicaStreams(1, [0, -2], 3)
    with pytest.raises(ValidationError, match="dtype"):
        ReplicaStreams(1, [0], 3, dtype=torch.float16)
