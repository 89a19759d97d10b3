"""Temperatures that replicas exchange during a simulation.

Y. Sugita and Y. Okamoto, "Replica-exchange molecular dynamics method for protein folding", Chem.
Phys. Lett. 314, 141 (1999): neighbours of a ladder swap their temperatures with probability
min(1, exp[(β_i − β_j)(U_i − U_j)]), and velocities are scaled by √(T_new/T_old). Replicas stay
continuous; what moves is the temperature.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.generate.exchange import attempt
from cgbench.registry import Protocol, TemperatureLadder
from cgbench.simulation.streams import exchange_numbers

IntArray = NDArray[np.int64]

#: Where a replica is on its journey from the lowest temperature to the highest and back.
_NOT_BEGUN: Final[int] = 0
_UPWARDS: Final[int] = 1
_DOWNWARDS: Final[int] = 2


class ExchangeOutcome(Frozen):
    """How well the temperatures of a simulation mixed.

    Attributes:
        temperatures: In K, ascending.
        attempts: Of each pair of neighbours, summed over the ladders.
        acceptance: Accepted share of them; None where there were none.
        round_trips: Journeys of each replica from the lowest temperature to the highest and back.
    """

    temperatures: tuple[float, ...]
    attempts: tuple[int, ...]
    acceptance: tuple[float | None, ...]
    round_trips: tuple[int, ...]

    def described(self) -> str:
        """Return a line for people."""
        known = [share for share in self.acceptance if share is not None]
        between = f"{min(known):.0%} to {max(known):.0%}" if known else "none"
        return (
            f"Replica exchange: {len(self.temperatures)} temperatures from "
            f"{self.temperatures[0]:g} to {self.temperatures[-1]:g} K, acceptance {between}, "
            f"{sum(self.round_trips)} round trips."
        )


@dataclass(frozen=True)
class ExchangeState:
    """Everything that changes during replica exchange, as arrays for a checkpoint.

    Attributes:
        rungs: (R,) number of the temperature of each replica.
        attempted: (n_temperatures − 1,) attempts of each pair of neighbours.
        accepted: Those that were accepted.
        journeys: (R,) where each replica is on its way up and down the ladder.
        round_trips: (R,) journeys that are done.
    """

    rungs: IntArray
    attempted: IntArray
    accepted: IntArray
    journeys: IntArray
    round_trips: IntArray


class TemperatureExchange:
    """The ladders of a batch of replicas.

    Args:
        ladder: Their temperatures.
        seed: Seed of the whole ensemble.
        replicas: Global index of each replica of the batch, in whole ladders.
        state: Where an interrupted run goes on; at the start if None.

    Raises:
        ValidationError: A ladder is not whole, or its replicas are not in order.
    """

    def __init__(
        self,
        ladder: TemperatureLadder,
        seed: int,
        replicas: tuple[int, ...],
        state: ExchangeState | None = None,
    ) -> None:
        n = ladder.n_temperatures
        whole = np.resize(np.asarray(replicas), (-(-len(replicas) // n), n))
        if len(replicas) % n or not (
            (whole[:, 0] % n == 0).all() and (np.diff(whole, axis=1) == 1).all()
        ):
            raise ValidationError(
                "replica exchange: replicas of one ladder must be simulated together",
                expected=f"whole ladders of {n} replicas, each in order",
                found=list(replicas),
            )
        self._temperatures = np.array(ladder.temperatures)
        self._seed = seed
        self._first: list[int] = whole[:, 0].tolist()
        if state is None:
            rungs = np.tile(np.arange(n), len(whole))
            zeros = np.zeros(n - 1, dtype=np.int64)
            begun = np.where(rungs == 0, _UPWARDS, _NOT_BEGUN)
            state = ExchangeState(rungs, zeros, zeros.copy(), begun, np.zeros_like(rungs))
        self._state = state

    @property
    def temperatures(self) -> NDArray[np.float64]:
        """(R,) temperature of each replica in K."""
        return self._temperatures[self._state.rungs]

    def snapshot(self) -> ExchangeState:
        """Return a copy of the state."""
        return ExchangeState(*(values.copy() for values in vars(self._state).values()))

    def attempt(
        self, number: int, energies: NDArray[np.float64], able: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Try to exchange the temperatures of every second pair of neighbours.

        Args:
            number: Of the attempt, from 0. Even ones try the pairs that begin at the lowest, the
                third and so on; odd ones the others.
            energies: (R,) potential energies in kcal/mol.
            able: (R,) replicas that may exchange; the others keep their temperatures.

        Returns:
            (R,) temperatures in K afterwards.
        """
        state, n = self._state, len(self._temperatures)
        # No comparison with NaN is true, so such a pair is never accepted.
        usable = np.where(able, energies, np.nan)
        for ladder, first in enumerate(self._first):
            own = slice(ladder * n, (ladder + 1) * n)
            before = state.rungs[own]
            tried = attempt(
                before,
                usable[own],
                self._temperatures.tolist(),
                number % 2,
                exchange_numbers(self._seed, first, number),
            )
            standing = np.isfinite(usable[own])[np.argsort(before)]
            for lower in tried.attempted:
                state.attempted[lower] += standing[lower] and standing[lower + 1]
            state.accepted[list(tried.accepted)] += 1
            state.rungs[own] = tried.states
        at_the_top = (state.rungs == n - 1) & (state.journeys == _UPWARDS)
        state.journeys[at_the_top] = _DOWNWARDS
        at_the_bottom = state.rungs == 0
        state.round_trips[at_the_bottom & (state.journeys == _DOWNWARDS)] += 1
        state.journeys[at_the_bottom] = _UPWARDS
        return self.temperatures

    def outcome(self) -> ExchangeOutcome:
        """Return how well the temperatures mixed."""
        state = self._state
        return ExchangeOutcome(
            temperatures=tuple(self._temperatures.tolist()),
            attempts=tuple(state.attempted.tolist()),
            acceptance=tuple(
                done / tried if tried else None
                for done, tried in zip(
                    state.accepted.tolist(), state.attempted.tolist(), strict=True
                )
            ),
            round_trips=tuple(state.round_trips.tolist()),
        )


def exchange_of(
    protocol: Protocol, seed: int, replicas: tuple[int, ...], state: ExchangeState | None = None
) -> TemperatureExchange | None:
    """Return the exchange that a protocol asks for; None where temperatures are constant.

    Raises:
        ValidationError: As :class:`TemperatureExchange`.
    """
    if protocol.ladder is None:
        return None
    return TemperatureExchange(protocol.ladder, seed, replicas, state)
