"""Registers reference bundles: from then on results scored against them have scores and ranks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cgbench import config, registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import read_reference
from cgbench.leaderboard.known import published_systems
from cgbench.progress import Progress, silent
from cgbench.registry import KnownReference
from cgbench.splits import read_split
from cgbench.store import find_reference

#: Where a clone of the repository keeps what is registered.
REGISTRY = Path("cgbench/registry/data/references.yaml")


@dataclass(frozen=True)
class Registered:
    """A reference as it is entered.

    Attributes:
        entry: What is entered.
        before: The fingerprint that it takes the place of; None where there was none.
        converged: Whether the reference is.
        file: Where it was written; None where it was not.
    """

    entry: KnownReference
    before: str | None
    converged: bool
    file: Path | None


def register_reference(
    system: str,
    *,
    file: Path | None = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> Registered:
    """Enter the bundle at hand, which is read as a whole and checked, and the splits beside it.

    An earlier bundle's fingerprint is kept as superseded, so that results of it say to be scored
    again instead of being taken for something unknown.

    Args:
        system: Registry key of a published protein; embedded samples need no entry.
        file: The registry's file in a clone of the repository; nothing is written if None.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: There is no bundle, the system is embedded, or the file is not the registry's.
        IntegrityError: The bundle is damaged.
        ValidationError: The bundle is of data with known answers, which test the harness alone.
    """
    if system not in published_systems():
        raise UsageError(
            f"{system}: only bundles of published proteins are registered",
            expected=", ".join(published_systems()),
            found=system,
        )
    path = find_reference(system, home)
    bundle = read_reference(path)
    if bundle.metadata.synthetic:
        raise ValidationError(f"{path}: of data with known answers, which test the harness alone")
    progress("reference", 1, 1)
    splits = {}
    for one in sorted((config.data_home(home) / "splits" / system).glob("*.json")):
        splits[one.stem] = read_split(one).fingerprint
    entries = _entries(file) if file is not None else list(registry.known_references())
    earlier = next((one for one in entries if one.system == system), None)
    superseded = () if earlier is None else earlier.superseded
    before = None
    if earlier is not None and earlier.fingerprint != bundle.fingerprint:
        before = earlier.fingerprint
        superseded = (*superseded, before)
    entry = KnownReference(
        system=system,
        version=path.parent.name,
        fingerprint=bundle.fingerprint,
        splits={**({} if earlier is None else earlier.splits), **splits},
        superseded=tuple(one for one in superseded if one != bundle.fingerprint),
    )
    if file is not None:
        _write(file, [*(one for one in entries if one.system != system), entry])
    return Registered(entry, before, bundle.converged, file)


def entry_text(entry: KnownReference) -> str:
    """Return an entry as the registry's file has it."""
    data: dict[str, Any] = entry.model_dump(mode="json")
    data["superseded"] = list(data["superseded"])
    return yaml.safe_dump([data], sort_keys=False, allow_unicode=True, width=100)


def _entries(file: Path) -> list[KnownReference]:
    data = config.read_data(file)
    found = data.get("references") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise UsageError(
            f"{file}: not the registry's file of references",
            expected=f"{REGISTRY} of a clone of the repository",
        )
    return [config.validate(KnownReference, one, file) for one in found]


def _write(file: Path, entries: list[KnownReference]) -> None:
    """Write entries in the order of the registry, below the words that the file begins with."""
    comment = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.startswith("#"):
            break
        comment.append(line)
    order = list(published_systems())
    body = "".join(
        entry_text(one) for one in sorted(entries, key=lambda one: order.index(one.system))
    )
    config.write_atomic(file, f"{''.join(comment)}references:\n{body}")
