"""Temperature replica exchange: the moves and their statistics, for any kind of replica.

Sugita and Okamoto, Chem. Phys. Lett. 314, 141, 1999: replicas at neighbouring temperatures swap
them with probability min(1, exp((β_i − β_j)(E_i − E_j))), which leaves the product of their
canonical distributions unchanged; velocities are scaled by √(T_new/T_old).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError
from cgbench.units import thermal_energy

IntArray = NDArray[np.int64]
DoubleArray = NDArray[np.float64]


@dataclass(frozen=True)
class Exchange:
    """One round of attempts.

    Attributes:
        states: (n_replicas,) number of the temperature of each replica afterwards.
        attempted: Lower temperatures of the pairs that were tried.
        accepted: Those of the pairs that swapped.
    """

    states: IntArray
    attempted: tuple[int, ...]
    accepted: tuple[int, ...]


@dataclass(frozen=True)
class ExchangeStatistics:
    """How well a ladder mixes.

    Attributes:
        acceptance: (n_temperatures − 1,) accepted share of the attempts of each neighbouring pair;
            NaN without attempts.
        round_trips: (n_replicas,) journeys of each replica from the lowest temperature to the
            highest and back.
        visited: (n_replicas,) number of temperatures that each replica has been at.
    """

    acceptance: tuple[float, ...]
    round_trips: tuple[int, ...]
    visited: tuple[int, ...]


def geometric_ladder(n_temperatures: int, lowest: float, highest: float) -> tuple[float, ...]:
    """Return temperatures with a constant ratio, rounded to 0.01 K.

    Raises:
        UsageError: There are fewer than two, or they do not ascend.
    """
    if n_temperatures < 2 or not 0 < lowest < highest:
        raise UsageError(
            "temperature ladder",
            expected="a number of at least 2, and a lowest below a highest temperature",
            found=f"{n_temperatures} from {lowest:g} to {highest:g} K",
        )
    return tuple(round(float(t), 2) for t in np.geomspace(lowest, highest, n_temperatures))


def log_acceptance(
    energy: float, other_energy: float, temperature: float, other_temperature: float
) -> float:
    """Return the logarithm of the ratio that decides whether two replicas swap temperatures.

    Args:
        energy: Potential energy of one replica in kcal/mol.
        other_energy: That of the other.
        temperature: Temperature of the one in K.
        other_temperature: That of the other.
    """
    beta, other_beta = 1.0 / thermal_energy(temperature), 1.0 / thermal_energy(other_temperature)
    return (beta - other_beta) * (energy - other_energy)


def attempt(
    states: IntArray,
    energies: DoubleArray,
    ladder: Sequence[float],
    parity: int,
    generator: np.random.Generator,
) -> Exchange:
    """Try to swap the temperatures of neighbouring pairs.

    Args:
        states: (n_replicas,) number of the temperature of each replica, a permutation.
        energies: (n_replicas,) potential energies in kcal/mol.
        ladder: (n_replicas,) ascending temperatures in K.
        parity: 0 tries the pairs that begin at even temperatures, 1 those at odd ones.
        generator: A random number is drawn for every pair, whether needed or not.
    """
    replica_at = np.argsort(states)
    after = states.copy()
    attempted = tuple(range(parity, len(ladder) - 1, 2))
    accepted = []
    for lower in attempted:
        cold, hot = replica_at[lower], replica_at[lower + 1]
        ratio = log_acceptance(
            float(energies[cold]), float(energies[hot]), ladder[lower], ladder[lower + 1]
        )
        if np.log(1.0 - generator.random()) < ratio:
            after[cold], after[hot] = lower + 1, lower
            accepted.append(lower)
    return Exchange(after, attempted, tuple(accepted))


def statistics(states: IntArray, exchanges: Sequence[Exchange]) -> ExchangeStatistics:
    """Summarise how replicas moved.

    Args:
        states: (n_replicas, n_frames) number of the temperature of each replica at each frame.
        exchanges: All rounds of attempts.
    """
    n_states = len(states)
    attempted, accepted = np.zeros(n_states - 1), np.zeros(n_states - 1)
    for one in exchanges:
        attempted[list(one.attempted)] += 1
        accepted[list(one.accepted)] += 1
    with np.errstate(invalid="ignore"):
        acceptance = accepted / attempted
    return ExchangeStatistics(
        acceptance=tuple(acceptance.tolist()),
        round_trips=tuple(round_trips(row, n_states) for row in states),
        visited=tuple(len(np.unique(row)) for row in states),
    )


def round_trips(states: IntArray, n_states: int) -> int:
    """Return how often a replica went from the lowest temperature to the highest and back.

    Args:
        states: (n_frames,) number of its temperature at each frame.
        n_states: Number of temperatures.
    """
    ends = states[(states == 0) | (states == n_states - 1)]
    turns = ends[np.flatnonzero(np.diff(ends, prepend=-1))] if len(ends) else ends
    # What comes before the first visit to the lowest temperature is no part of a journey.
    first = np.flatnonzero(turns == 0)
    return int((len(turns) - first[0] - 1) // 2) if len(first) else 0
