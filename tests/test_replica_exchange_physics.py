"""Replica exchange against exact results: energies, acceptance, populations and crossings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from toy_simulation import KEY, SEQUENCE, toy_protocol

from cgbench import registry
from cgbench.evaluate import Ensemble
from cgbench.models import ChainResult
from cgbench.simulation import SimulationOutcome, SystemInput, simulate
from cgbench.store import TrajectorySet, read_trajectories
from cgbench.units import thermal_energy

N_BONDS = len(SEQUENCE) - 1
#: kcal/mol/Å²; the widest fluctuations leave bonds of 3.8 Å whole.
STIFFNESS = 30.0
FRAMES = 1000


class BondVectors:
    """U = Σ ½ k |b − c|² over bond vectors b, each with its own c of 3.8 Å along y.

    Quadratic in all 27 coordinates that matter, so that U/(k_B·T) has a Γ(27/2) distribution, and
    BAOAB samples it without any error of the time step.

    Args:
        barrier: Of a double well that the x component of the first bond has instead, in kcal/mol:
            h ((x/w)² − 1)² + s x with w = 1.2 Å; None for no such well.
        slope: s in kcal/mol/Å.
    """

    WIDTH = 1.2

    def __init__(self, barrier: float | None = None, slope: float = 0.0) -> None:
        self.barrier = barrier
        self.slope = slope

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        apart = pos[:, 1:] - pos[:, :-1]
        apart[:, :, 1] -= 3.8
        pull = STIFFNESS * apart
        energy = 0.5 * STIFFNESS * apart.square()
        if self.barrier is not None:
            x = apart[:, 0, 0]
            inside = (x / self.WIDTH).square() - 1
            energy[:, 0, 0] = self.barrier * inside.square() + self.slope * x
            pull[:, 0, 0] = 4 * self.barrier * inside * x / self.WIDTH**2 + self.slope
        forces = torch.zeros_like(pos)
        forces[:, :-1] += pull
        forces[:, 1:] -= pull
        total = energy.sum(dim=(1, 2))
        return ChainResult(network_energy=0.25 * total, prior_energy=0.75 * total, forces=forces)

    def in_the_right_well(self, temperature: float) -> float:
        """Exact probability of x > 0 of the first bond."""
        x = np.linspace(-4.0, 4.0, 20_001)
        energy = self.barrier * ((x / self.WIDTH) ** 2 - 1) ** 2 + self.slope * x
        density = np.exp(-energy / thermal_energy(temperature))
        return float(density[x > 0].sum() / density.sum())


def chain(x: float = 0.0) -> SystemInput:
    """A straight chain along y whose first bond starts with an x component."""
    start = torch.zeros(1, len(SEQUENCE), 3)
    start[0, :, 1] = 3.8 * torch.arange(len(SEQUENCE))
    start[0, 1:, 0] = x
    types = torch.tensor(registry.bead_vocabulary().types(SEQUENCE))
    return SystemInput(key=KEY, bead_types=types, starts=start, sequence=SEQUENCE)


def run(
    potential: BondVectors,
    out: Path,
    *,
    ladder: tuple[float, ...] | None,
    start: float = 0.0,
    frames: int = FRAMES,
    n_replicas: int = 32,
    seed: int = 1,
) -> tuple[TrajectorySet, SimulationOutcome]:
    protocol = toy_protocol(
        n_replicas=n_replicas,
        timestep=0.01,
        friction=5.0,
        output_interval=0.2,
        length=0.2 * frames,
        ladder=None
        if ladder is None
        else {"temperatures": ladder, "interval": 0.1, "source": "chosen here"},
    )
    outcome = simulate(
        potential,
        chain(start),
        protocol,
        seed=seed,
        out=out,
        dtype=torch.float64,
        model_hash="toy",
    )
    return read_trajectories(out, KEY), outcome


def energies_of(frames: TrajectorySet) -> np.ndarray:
    assert frames.network_energy is not None
    assert frames.prior_energy is not None
    return np.array(frames.network_energy) + np.array(frames.prior_energy)


HARMONIC = (350.0, 400.0, 460.0, 530.0)


@pytest.fixture(scope="module")
def harmonic(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrajectorySet, SimulationOutcome]:
    out = tmp_path_factory.mktemp("harmonic") / "trajectories.zarr"
    return run(BondVectors(), out, ladder=HARMONIC)


def test_energies_at_every_temperature_are_canonical(
    harmonic: tuple[TrajectorySet, SimulationOutcome],
) -> None:
    frames, _ = harmonic
    energies = energies_of(frames)[:, 50:]
    temperatures = np.array(frames.temperatures)[:, 50:]
    exact = scipy.stats.gamma(1.5 * N_BONDS)
    for temperature in HARMONIC:
        reduced = energies[temperatures == temperature] / thermal_energy(temperature)
        # Frames 1 ps apart have forgotten each other, hence a fifth of them for the error.
        error = exact.std() / np.sqrt(len(reduced) / 5)
        assert abs(reduced.mean() - exact.mean()) < 4 * error
        assert reduced.std() == pytest.approx(exact.std(), rel=4 / np.sqrt(2 * len(reduced) / 5))
        thinned = np.where(temperatures == temperature, energies, np.nan)[:, ::5].ravel()
        thinned = thinned[np.isfinite(thinned)] / thermal_energy(temperature)
        assert scipy.stats.kstest(thinned, exact.cdf).pvalue > 1e-4


def test_acceptance_is_the_exact_one(harmonic: tuple[TrajectorySet, SimulationOutcome]) -> None:
    """E min(1, e^…) = 2 P(U_cold > U_hot), and a ratio of Γ variates has a beta distribution."""
    _, outcome = harmonic
    assert outcome.exchange is not None
    shape = 1.5 * N_BONDS
    for pair, (tried, found) in enumerate(
        zip(outcome.exchange.attempts, outcome.exchange.acceptance, strict=True)
    ):
        cold, hot = HARMONIC[pair : pair + 2]
        exact = 2 * scipy.stats.beta(shape, shape).sf(hot / (cold + hot))
        assert tried == 8 * 1000
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / (tried / 5)))
    assert min(outcome.exchange.round_trips) > 5


@pytest.mark.parametrize("target", [350.0, 430.0])
def test_weighted_frames_have_the_exact_populations(
    harmonic: tuple[TrajectorySet, SimulationOutcome], target: float
) -> None:
    ensemble = Ensemble.from_trajectory_set(replace(harmonic[0], temperature=target))
    assert not ensemble.time_ordered
    assert ensemble.n_trajectories == 32
    assert any("MBAR" in note for note in ensemble.notes)
    weights = np.concatenate(ensemble.weights)
    first = (
        np.concatenate(ensemble.trajectories)[:, 1] - np.concatenate(ensemble.trajectories)[:, 0]
    )
    spread = np.sqrt(thermal_energy(target) / STIFFNESS)
    effective = weights.sum() ** 2 / (weights**2).sum() / 5
    for axis, centre in ((0, 0.0), (1, 3.8), (2, 0.0)):
        exact = scipy.stats.norm.sf(1.0)
        found = weights[first[:, axis] > centre + spread].sum()
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / effective))
        variance = (weights * (first[:, axis] - centre) ** 2).sum()
        assert variance == pytest.approx(spread**2, rel=4 * np.sqrt(2 / effective))


def crossings(frames: TrajectorySet) -> int:
    """Return how often continuous replicas went from the bottom of one well to the other's."""
    found = 0
    for positions in frames.coordinates:
        x = positions[:, 1, 0] - positions[:, 0, 0]
        wells = np.sign(x[np.abs(x) > 0.8 * BondVectors.WIDTH])
        found += int((np.diff(wells) != 0).sum())
    return found


def test_a_barrier_is_crossed_sooner_than_without_exchange(tmp_path: Path) -> None:
    """All replicas start in the less likely well, behind a barrier of nine k_B·T."""
    potential = BondVectors(barrier=6.0, slope=-0.3)
    exact = potential.in_the_right_well(350.0)
    ladder = (350.0, 400.0, 458.0, 525.0, 600.0, 687.0, 786.0, 900.0)
    populations, crossed, evaluations = [], [], []
    for temperatures in (None, ladder):
        frames, outcome = run(
            potential,
            tmp_path / f"{len(populations)}" / "trajectories.zarr",
            ladder=temperatures,
            start=-BondVectors.WIDTH,
        )
        assert outcome.alive_until == (FRAMES,) * 32
        evaluations.append(outcome.energy_evaluations)
        crossed.append(crossings(frames))
        ensemble = Ensemble.from_trajectory_set(frames).kept(0.1)
        every = np.concatenate(ensemble.trajectories)
        weights = np.ones(len(every))
        if ensemble.weights is not None:
            weights = np.concatenate(ensemble.weights)
        populations.append(np.average(every[:, 1, 0] > every[:, 0, 0], weights=weights))
    assert evaluations[0] == evaluations[1]
    assert crossed[1] > 5 * max(crossed[0], 1)
    plain, exchange = populations
    assert exchange == pytest.approx(exact, abs=0.08)
    assert plain < exact - 0.2
