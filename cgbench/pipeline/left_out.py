"""What leaving a protein out leaves out: every system, variant and store at hand, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cgbench import registry
from cgbench.config import assets_home, data_home
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.splits import Relation, check_split, read_split, relations
from cgbench.store import SystemStore, find_split, open_store


@dataclass(frozen=True)
class Surveyed:
    """One system when a protein is left out.

    Attributes:
        relation: How it relates to the left-out protein.
        split: Its file of the split; None where there is none.
        problem: What is wrong with that file; None where nothing is, or there is no file.
    """

    relation: Relation
    split: Path | None
    problem: str | None

    def described(self) -> dict[str, object]:
        """Return plain data for machines."""
        return {
            "system": self.relation.system,
            "excluded": self.relation.excluded,
            "kind": self.relation.kind,
            "identity": self.relation.identity,
            "reason": self.relation.reason,
            "split": None if self.split is None else str(self.split),
            "problem": self.problem,
        }


def left_out_of(split_id: str) -> str | None:
    """Return the protein that a split of the registry leaves out, if it does.

    Raises:
        UsageError: The registry has no split of that name.
    """
    return registry.split(split_id).left_out


def local_stores(home: Path | None = None) -> dict[str, SystemStore]:
    """Return the stores at hand, embedded ones included, by system; damaged ones are left out."""
    found = {}
    for folder in (assets_home(), data_home(home)):
        for path in sorted((folder / "store").glob("*.zarr")):
            try:
                store = open_store(path)
            except (CgbenchError, OSError):
                continue
            found[store.metadata.system] = store
    return found


def survey(left_out: str, home: Path | None = None) -> tuple[Surveyed, ...]:
    """Return every system and variant of the registry and every store at hand.

    Where a file of the split is at hand it is checked against its store.

    Args:
        left_out: Registry key of a published protein.
        home: Data home.

    Raises:
        UsageError: There is no such protein.
    """
    stores = local_stores(home)
    sequences = {system: store.metadata.sequence for system, store in stores.items()}
    return tuple(_surveyed(found, stores, home) for found in relations(left_out, sequences))


def _surveyed(found: Relation, stores: Mapping[str, SystemStore], home: Path | None) -> Surveyed:
    try:
        path = find_split(found.system, f"lopo-{found.left_out}", home)
    except UsageError:
        return Surveyed(found, None, None)
    try:
        split = read_split(path)
        if found.system in stores:
            check_split(split, stores[found.system])
        elif found.excluded and len(split.frames("train")):
            raise ValidationError(f"{path}: {found.system} must not be trained on: {found.reason}")
    except (IntegrityError, ValidationError) as error:
        return Surveyed(found, path, error.message)
    return Surveyed(found, path, None)


def require_valid(rows: tuple[Surveyed, ...]) -> None:
    """Raise where a file of the split is wrong.

    Raises:
        ValidationError: One is; the message names all of them.
    """
    wrong = [row for row in rows if row.problem is not None]
    if wrong:
        raise ValidationError(
            f"lopo-{wrong[0].relation.left_out}: {len(wrong)} split(s) are not valid",
            found="\n".join(str(row.problem) for row in wrong)[:4000],
            fix="; ".join(
                f"cgbench splits make {row.relation.system} --split lopo-{row.relation.left_out}"
                for row in wrong
            ),
        )
