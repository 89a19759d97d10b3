"""Every constant of the reference work's analysis, with its source for each protein."""

from functools import cache
from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry.loader import DATA, constants, protocol, read_data_file, system
from cgbench.registry.models import Source

PaperPart = Literal["simulation", "reference", "ensemble", "statistics", "figures"]

#: The protocol that simulates as the reference work did.
PAPER_PROTOCOL = "paper"
#: It, and the same at the lower temperatures; all of them are followed by its analysis.
PAPER_PROTOCOLS = (PAPER_PROTOCOL, "paper-300", "paper-250")


class PaperConstant(Frozen):
    """One constant of the analysis, for one system.

    Attributes:
        name: What it is called here.
        part: What it belongs to.
        value: The number or rule; null where it is found from the data.
        unit: Its unit; "1" for a pure number or a rule.
        source: Where it is from.
        reason: Why it was chosen here, or where the source states it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    part: PaperPart
    value: float | str | None
    unit: str
    source: Source
    reason: str | None = None

    @pydantic.model_validator(mode="after")
    def _explained(self) -> Self:
        if self.source == "chosen here" and not self.reason:
            raise ValueError(f"{self.name} was chosen here and does not say why")
        return self


class PaperConstants(Frozen):
    """All constants of the analysis of one system.

    Attributes:
        system: Registry key.
        version: Grows when any number changes.
        constants: In the order of tables.
    """

    system: str
    version: int = Field(ge=1)
    constants: tuple[PaperConstant, ...]

    @pydantic.model_validator(mode="after")
    def _unique(self) -> Self:
        names = [constant.name for constant in self.constants]
        if len(set(names)) != len(names):
            raise ValueError("a constant occurs twice")
        return self

    def __getitem__(self, name: str) -> PaperConstant:
        """Return a constant by its name.

        Raises:
            KeyError: There is none of that name.
        """
        for constant in self.constants:
            if constant.name == name:
                return constant
        raise KeyError(name)

    def number(self, name: str) -> float:
        """Return the value of a constant that is a number.

        Raises:
            ValueError: It is found from the data, or a rule in words.
        """
        value = self[name].value
        if not isinstance(value, float):
            raise ValueError(f"{name} is no number: {value}")
        return value

    def count(self, name: str) -> int:
        """Return the value of a constant that is a whole number."""
        return round(self.number(name))


@cache
def paper_constants(key: str) -> PaperConstants:
    """Return the constants of the reference work's analysis for one system.

    Raises:
        UsageError: There is no such system.
    """
    content = read_data_file("paper")
    found = system(key)
    records = []
    for entry in content["constants"]:
        own = entry.get("systems", {}).get(found.key, {})
        record = {name: value for name, value in entry.items() if name != "systems"}
        if "from" in own:
            record.pop("value", None)
            record.pop("source", None)
        records.append(_resolved(record | own, found.key))
    return validate(
        PaperConstants,
        {"system": found.key, "version": content["version"], "constants": records},
        f"{DATA / 'paper.yaml'}: {found.key}",
    )


def _resolved(record: dict[str, Any], key: str) -> dict[str, Any]:
    """Follow ``from`` to the place that holds the value."""
    if "from" not in record:
        return record
    place, field = record.pop("from").split(".")
    if place == "constants":
        return record | {"value": getattr(constants(), field)}
    if place == "analysis":
        analysis = system(key).analysis
        source = analysis.source[field]
        stated = record.pop("stated", None)
        reason = record.get("reason") if source == "chosen here" else stated
        return record | {
            "value": getattr(analysis, field),
            "source": source,
            "reason": reason,
        }
    chosen = protocol(PAPER_PROTOCOL)
    value = chosen.length_of(key) if field == "length" else getattr(chosen, field)
    return record | {"value": value, "source": chosen.source}
