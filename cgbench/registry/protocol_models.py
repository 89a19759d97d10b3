"""How models are simulated: the frozen protocols, and the temperatures of replica exchange."""

import itertools
from typing import Any, Literal, Self

import pydantic
from pydantic import Field, SerializerFunctionWrapHandler

from cgbench.config import Frozen
from cgbench.registry.models import Source


class TemperatureLadder(Frozen):
    """Temperatures that replicas exchange, after Sugita and Okamoto (1999).

    Attributes:
        temperatures: In K, ascending. Replicas r·n to r·n + n − 1, with n temperatures, make one
            ladder and start at them in this order.
        interval: Time between attempts to exchange in ps; neighbours that begin at even and at odd
            temperatures take turns.
        source: Where the numbers are from.
    """

    temperatures: tuple[float, ...] = Field(min_length=2)
    interval: float = Field(gt=0)
    source: Source

    @pydantic.model_validator(mode="after")
    def _ascending(self) -> Self:
        pairs = itertools.pairwise((0.0, *self.temperatures))
        if not all(low < high for low, high in pairs):
            raise ValueError(f"temperatures {self.temperatures} do not ascend from above 0 K")
        return self

    @property
    def n_temperatures(self) -> int:
        """Number of temperatures, which is that of the replicas of one ladder."""
        return len(self.temperatures)


class Protocol(Frozen):
    """A frozen way of simulating a model.

    Attributes:
        id: Name of the protocol.
        version: Grows when any number changes.
        description: What it is for.
        n_replicas: Number of replicas.
        timestep: Integration step in ps.
        friction: Friction of the Langevin thermostat in 1/ps.
        temperature: Temperature in K; with a ladder the one that frames are weighted to.
        length: Length of each replica in ps.
        output_interval: Time between frames in ps.
        start: How the start frames are chosen.
        drop_fraction: Fraction at the start of each trajectory that is not analysed.
        bead_mass: Mass of every bead in amu. Another than the registry's constant, which is the
            reference work's, is said in results: it changes times, not populations.
        lengths_per_system: Lengths in ps of the systems that differ from ``length``.
        model_msm_lag: Lag in ps of the Markov state model that weights the ensemble.
        source: Where the numbers are from.
        ladder: Temperatures that replicas exchange; None where all stay at ``temperature``.
    """

    id: str
    version: int = Field(ge=1)
    description: str
    n_replicas: int = Field(ge=1)
    timestep: float = Field(gt=0)
    friction: float = Field(gt=0)
    temperature: float = Field(gt=0)
    length: float = Field(gt=0)
    output_interval: float = Field(gt=0)
    start: Literal["k-centres", "native"]
    drop_fraction: float = Field(ge=0, lt=1)
    bead_mass: float = Field(gt=0)
    lengths_per_system: dict[str, float] | None
    model_msm_lag: float = Field(gt=0)
    source: Source
    ladder: TemperatureLadder | None = None

    @pydantic.model_validator(mode="after")
    def _whole_numbers(self) -> Self:
        _whole(self.output_interval, self.timestep, "output_interval", "timestep")
        for length in (self.length, *(self.lengths_per_system or {}).values()):
            _whole(length, self.output_interval, "length", "output_interval")
        if self.ladder is not None:
            _whole(self.ladder.interval, self.timestep, "interval", "timestep")
        return self

    @pydantic.model_validator(mode="after")
    def _whole_ladders(self) -> Self:
        if self.ladder is None:
            return self
        lowest, *_, highest = self.ladder.temperatures
        if self.n_replicas % self.ladder.n_temperatures:
            raise ValueError(
                f"{self.n_replicas} replicas are no whole ladders of "
                f"{self.ladder.n_temperatures} temperatures"
            )
        if not lowest <= self.temperature <= highest:
            raise ValueError(f"{self.temperature} K is not between the temperatures of the ladder")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_what_is_not_there(self, standard: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Protocols without a ladder keep the fingerprints of the runs that were made under them.
        fields: dict[str, Any] = standard(self)
        if fields.get("ladder", 0) is None:
            del fields["ladder"]
        return fields

    @property
    def steps_per_output(self) -> int:
        """Number of integration steps between frames."""
        return round(self.output_interval / self.timestep)

    @property
    def steps_per_exchange(self) -> int | None:
        """Number of integration steps between attempts to exchange; None without a ladder."""
        return None if self.ladder is None else round(self.ladder.interval / self.timestep)

    def length_of(self, system_key: str) -> float:
        """Return the length of each replica of a system in ps."""
        return (self.lengths_per_system or {}).get(system_key, self.length)

    def n_steps(self, system_key: str) -> int:
        """Return the number of integration steps of each replica of a system."""
        return self.n_frames(system_key) * self.steps_per_output

    def n_frames(self, system_key: str) -> int:
        """Return the number of frames of each replica of a system, without the start frame."""
        return round(self.length_of(system_key) / self.output_interval)


def _whole(dividend: float, divisor: float, dividend_name: str, divisor_name: str) -> None:
    ratio = dividend / divisor
    if abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise ValueError(f"{dividend_name} {dividend} is no multiple of {divisor_name} {divisor}")
