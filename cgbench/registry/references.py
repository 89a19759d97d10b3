"""Which reference bundles and splits of the published proteins the leaderboard knows."""

from functools import cache
from typing import Final

from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry import loader

_FINGERPRINT: Final = r"^sha256:[0-9a-f]{64}$"


class KnownReference(Frozen):
    """What results of a system are scored against.

    Attributes:
        system: Registry key.
        version: Version of the bundle's format.
        fingerprint: Of the bundle.
        splits: Fingerprint of each split, by id.
        superseded: Fingerprints of earlier bundles, whose results are not comparable any more.
    """

    system: str
    version: str
    fingerprint: str = Field(pattern=_FINGERPRINT)
    splits: dict[str, str] = Field(default_factory=dict)
    superseded: tuple[str, ...] = ()


@cache
def known_references() -> tuple[KnownReference, ...]:
    """Return the references that the registry names; those of embedded systems are not among them.

    What the package embeds needs no entry: the package itself says what it is.
    """
    origin = loader.DATA / "references.yaml"
    records = loader.read_data_file("references")["references"]
    return tuple(validate(KnownReference, record, origin) for record in records)
