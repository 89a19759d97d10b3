"""What a sweep over hyper-parameters is: a base configuration and the values that are tried."""

import itertools
import math
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pydantic

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.train.config import Name, SelectionSettings
from cgbench.train.kinds import AnyConfig, as_config, set_value

#: A grid of more points is a mistake rather than a plan.
_MOST_POINTS = 100_000


class SweepConfig(Frozen):
    """A sweep, as its YAML file says.

    Attributes:
        name: Name of the sweep; its models are ``<name>/<run>``.
        description: One paragraph.
        base: Path of a training configuration, relative to the sweep's file, or its settings.
        parameters: For each key of the configuration, as ``network.num_layers``, the values.
        search: ``grid`` tries every combination, ``random`` some of them, none twice.
        n_runs: How many ``random`` tries.
        seed: Of the choice of ``random``.
        select: Whether models are simulated and scored; else only validation losses are compared.
        selection: How; by default as the base configuration says.
    """

    kind: Literal["sweep"] = "sweep"
    name: Name
    description: str = ""
    base: str | dict[str, Any]
    parameters: dict[str, tuple[pydantic.JsonValue, ...]] = pydantic.Field(min_length=1)
    search: Literal["grid", "random"] = "grid"
    n_runs: int | None = pydantic.Field(default=None, ge=1)
    seed: int = pydantic.Field(default=1, ge=0)
    select: bool = True
    selection: SelectionSettings | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        empty = [key for key, values in self.parameters.items() if not values]
        if empty:
            raise ValueError(f"parameters: no value of {', '.join(empty)}")
        if (self.search == "random") != (self.n_runs is not None):
            raise ValueError("search: random, and only it, needs n_runs")
        if self.n_points > _MOST_POINTS:
            raise ValueError(f"parameters: {self.n_points} combinations, at most {_MOST_POINTS}")
        return self

    @property
    def n_points(self) -> int:
        """Number of combinations of all values."""
        return math.prod(len(values) for values in self.parameters.values())

    def points(self) -> list[dict[str, pydantic.JsonValue]]:
        """Return the combinations that are tried, in the order of the grid."""
        every = [
            dict(zip(self.parameters, values, strict=True))
            for values in itertools.product(*self.parameters.values())
        ]
        if self.n_runs is None or self.n_runs >= len(every):
            return every
        # numpy promises its raw streams to stay what they are, not what it makes of them.
        order = np.argsort(np.random.PCG64(self.seed).random_raw(len(every)), kind="stable")
        return [every[index] for index in sorted(order[: self.n_runs].tolist())]


class SweepPoint(Frozen):
    """One combination.

    Attributes:
        number: From 1, in the order of the grid.
        run: Name of its folder, by what is trained.
        parameters: Values by key.
        settings: The whole configuration; None where there is none of these values.
        reason: Why not.
    """

    number: int
    run: str
    parameters: dict[str, pydantic.JsonValue]
    settings: dict[str, Any] | None = None
    reason: str | None = None

    def configuration(self) -> AnyConfig:
        """Return the configuration, validated again."""
        return as_config(self.settings or {}, f"run {self.run}")


def read_sweep(path: Path) -> SweepConfig:
    """Read a sweep.

    Raises:
        UsageError: The file does not exist.
        ValidationError: A key is unknown, or a value is of the wrong type or range.
    """
    return config.read_model(SweepConfig, path)


def sweep_points(sweep: SweepConfig, folder: Path) -> list[SweepPoint]:
    """Return the combinations with their configurations.

    A combination that is no configuration (a lower cutoff above the upper one, say) keeps its place
    with the reason.

    Args:
        sweep: The sweep.
        folder: Where the path of its base begins.

    Raises:
        UsageError: The base does not exist.
        ValidationError: The base, or every combination, is no configuration.
    """
    base: Any = sweep.base
    if isinstance(base, str):
        base = config.read_data(folder / base)
    if not isinstance(base, dict):
        raise UsageError(f"{sweep.name}: base is not a mapping of settings")
    as_config({**base, "name": f"{sweep.name}/base"}, f"{sweep.name}: base")
    found, errors = [], []
    for number, values in enumerate(sweep.points(), start=1):
        data: dict[str, Any] = config.parse_yaml(config.canonical_json(base), sweep.name)
        data.pop("selection", None)
        try:
            for key, value in values.items():
                set_value(data, key, value, f"{sweep.name}: parameters")
            identity = config.fingerprint({**data, "name": sweep.name})
            run = identity.removeprefix("sha256:")[:12]
            data["name"] = f"{sweep.name}/{run}"
            settings = as_config(data, f"{sweep.name}: run {number}")
        except CgbenchError as error:
            errors.append(error)
            found.append(
                SweepPoint(
                    number=number, run=f"invalid-{number}", parameters=values, reason=error.message
                )
            )
            continue
        found.append(
            SweepPoint(
                number=number,
                run=run,
                parameters=values,
                settings=settings.model_dump(mode="json"),
            )
        )
    if len(errors) == len(found):
        raise ValidationError(
            f"{sweep.name}: no combination is a configuration", found=errors[0].message
        )
    return found
