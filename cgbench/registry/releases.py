"""Releases of other packages that must not be installed."""

from functools import cache

from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry import loader


class BadRelease(Frozen):
    """Releases of a package that are known to do harm.

    Attributes:
        package: Name of the distribution.
        versions: The releases.
        reason: What is wrong with them.
        advisory: Identifier of the advisory.
        source: Where its makers say so.
    """

    package: str
    versions: tuple[str, ...] = Field(min_length=1)
    reason: str
    advisory: str
    source: str


@cache
def bad_releases() -> tuple[BadRelease, ...]:
    """Return all releases that must not be installed."""
    origin = loader.DATA / "releases.yaml"
    records = loader.read_data_file("releases")["releases"]
    return tuple(validate(BadRelease, record, origin) for record in records)
