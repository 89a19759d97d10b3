"""The model zoo: which weights a name stands for, by their hash, and where they are."""

from functools import cache
from typing import Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry.loader import DATA, choose, read_data_file


class Choice(Frozen):
    """How weights were chosen among several, where their file is older than its word for that.

    Attributes:
        best_of_n: Of how many runs they are the best.
        metric: What was compared.
        protocol: How the runs were simulated.
        systems: Whose references the simulations were scored against.
        source: Where that is told.
    """

    best_of_n: int = Field(ge=2)
    metric: str
    protocol: str
    systems: tuple[str, ...] = Field(min_length=1)
    source: str


class ZooModel(Frozen):
    """Weights with a name.

    Attributes:
        name: The name; its folder below ``baselines/`` holds configuration, card and results.
        hash: ``sha256:…`` of the content, as :func:`cgbench.models.model_hash` gives it.
        shipped: Whether the weights come with the package.
        urls: Where else they are, in the order in which addresses are tried.
        size: Bytes of the file at these addresses.
        sha256: Hash of the file at these addresses.
        superseded_by: The name that took its place, if one did; the weights stay available.
        choice: How they were chosen among several; None where there was no choice, or where the
            file says it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*$")
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    shipped: bool = False
    urls: tuple[str, ...] = ()
    size: int | None = Field(default=None, ge=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    superseded_by: str | None = None
    choice: Choice | None = None

    @pydantic.model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.shipped and not self.urls:
            raise ValueError("weights that are not shipped need an address")
        if self.urls and (self.sha256 is None or self.size is None):
            raise ValueError("an address needs the size and the hash of the file behind it")
        return self


def zoo() -> tuple[ZooModel, ...]:
    """Return all models of the zoo."""
    return tuple(_models().values())


def zoo_model(name: str) -> ZooModel:
    """Return a model of the zoo by its name.

    Raises:
        UsageError: There is no such model; the message names the closest names.
    """
    return choose(_models(), name, "model of the zoo")


@cache
def _models() -> dict[str, ZooModel]:
    records = read_data_file("models")["models"]
    entries = [validate(ZooModel, record, f"{DATA}: {record['name']}") for record in records]
    return {entry.name: entry for entry in entries}
