"""Rows that models are read beside: noise floor, prior only, native constant, ideal chain, and the
numbers of the reference work."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.errors import IntegrityError, ValidationError
from cgbench.leaderboard.files import read_reference_rows
from cgbench.leaderboard.known import PUBLISHED, known_reference, published_systems
from cgbench.leaderboard.model_rows import system_cell
from cgbench.leaderboard.records import ReferenceRow, ReferenceRows
from cgbench.leaderboard.rows import BoardRow, SystemCell
from cgbench.leaderboard.scoring import mean_score

#: Names of the rows in the order of tables, each with a title and what it tells.
ROWS: Final[Mapping[str, tuple[str, str]]] = {
    "md_split_half": (
        "Noise floor",
        "Halves of the reference's own trajectories against each other: below it nothing can be "
        "told.",
    ),
    "start_frames": (
        "Start frames",
        "The frames that simulations start from, held still: what is given away before the first "
        "step.",
    ),
    "prior_only": (
        "Prior only",
        "The prior of a baseline simulated without its network: what a network has to add to.",
    ),
    "native_constant": ("Native constant", "The native structure alone, repeated."),
    "ideal_chain": (
        "Ideal chain",
        "A freely jointed chain with the reference's bond lengths, which knows nothing of the "
        "protein.",
    ),
    "published_trajectories": (
        "Reference work, re-scored",
        "The published trajectories of the reference work's own models, scored here.",
    ),
}
#: Commands that compute what is not there.
_COMMANDS: Final = {
    "published_trajectories": "cgbench evaluate --published cg, then cgbench leaderboard "
    "references --rescored RESULT"
}
FOLDER: Final = "reference_rows"


def read_all_reference_rows(folder: Path) -> dict[str, ReferenceRows]:
    """Return the reference rows of a leaderboard folder, by system.

    Raises:
        IntegrityError: A file is damaged, or of another system than its name says.
        ValidationError: A field is wrong, or a system is unknown.
    """
    found = {}
    known = {entry.key for entry in registry.systems()}
    for path in sorted((folder / FOLDER).glob("*")):
        if path.name == ".gitkeep":
            continue
        rows = read_reference_rows(path)
        if path.name != f"{rows.system}.json":
            raise IntegrityError(f"{path}: of another system", found=rows.system)
        if rows.system not in known:
            raise ValidationError(f"{path}: no protein of this suite", found=rows.system)
        found[rows.system] = rows
    return found


def is_current(rows: ReferenceRows) -> bool:
    """Return whether rows were scored against the reference that the leaderboard knows."""
    known = known_reference(rows.system)
    versions = {spec.id: spec.version for spec in registry.metrics()}
    same = all(versions.get(key) == version for key, version in rows.metrics_versions.items())
    return same and (known is None or known.fingerprint == rows.reference)


def targets_of(folder: Path) -> dict[str, dict[str, float]]:
    """Return the reference's own values by system and metric, as the reference rows have them.

    They take the place of the targets that a result states, which its sender could have changed.
    """
    targets: dict[str, dict[str, float]] = {}
    for system, rows in read_all_reference_rows(folder).items():
        if not is_current(rows):
            continue
        found: dict[str, float] = {}
        for row in rows.rows:
            for metric, value in (row.result.metrics if row.result is not None else {}).items():
                # A row of fewer frames may lack a value; all that have one agree.
                if value.target is not None and row.name != "published_trajectories":
                    found.setdefault(metric, value.target)
        targets[system] = found
    return targets


def board_references(folder: Path) -> tuple[BoardRow, ...]:
    """Return the reference rows of the published proteins, then those of the embedded samples."""
    stored = read_all_reference_rows(folder)
    groups = [(PUBLISHED, published_systems())]
    groups += [(entry.key, (entry.key,)) for entry in registry.systems() if entry.embedded]
    rows: list[BoardRow] = []
    for group, systems in groups:
        for name in ROWS:
            if name == "published_trajectories" and group != PUBLISHED:
                continue
            rows.append(_row(name, group, systems, stored))
    return (*rows, *_published())


def _row(
    name: str, group: str, systems: Sequence[str], stored: Mapping[str, ReferenceRows]
) -> BoardRow:
    title, description = ROWS[name]
    cells = {key: _cell(name, key, stored.get(key)) for key in systems}
    whole = all(cell.status == "ok" and cell.composite is not None for cell in cells.values())
    composites = [cell.composite for cell in cells.values() if cell.composite is not None]
    return BoardRow(
        id=name,
        title=title,
        reference=True,
        group=group,
        unranked_reason="a reference row",
        score=mean_score(composites) if whole else None,
        systems=cells,
        notes=tuple(
            f"{key}: {cell.status}, {cell.reason}"
            for key, cell in cells.items()
            if cell.status != "ok"
        ),
        description=description,
    )


def _cell(name: str, system: str, rows: ReferenceRows | None) -> SystemCell:
    command = _COMMANDS.get(name, f"cgbench leaderboard references --system {system}")
    if rows is None:
        return SystemCell(
            system=system, status="not yet run", reason=f"nobody has run '{command}' here yet"
        )
    if not is_current(rows):
        return SystemCell(
            system=system,
            status="not yet run",
            reason=f"scored by earlier versions: run '{command}' again",
        )
    row = next((one for one in rows.rows if one.name == name), None)
    if row is None or row.result is None:
        reason = None if row is None else row.reason
        return SystemCell(
            system=system, status="not yet run", reason=reason or f"'{command}' computes it"
        )
    cell = system_cell(row.result, True, {})
    return cell.model_copy(update={"notes": (row.description, *cell.notes)})


def _published() -> list[BoardRow]:
    """Return the published numbers of the reference work, a row for each label."""
    facts = defaultdict(list)
    for fact in registry.published_facts():
        facts[fact.label].append(fact)
    return [
        BoardRow(
            id=f"published-{index + 1}",
            title=f"Reference work: {label}",
            reference=True,
            group=PUBLISHED,
            unranked_reason="published, not re-scored",
            facts=tuple(items),
            notes=("published, not re-scored",),
            description="Numbers that the reference work states, with their source. They were not "
            "scored by this suite and are not comparable with its metrics.",
        )
        for index, (label, items) in enumerate(facts.items())
    ]


def missing_row(name: str, reason: str) -> ReferenceRow:
    """Return a row that was not computed, with the reason."""
    title, description = ROWS[name]
    return ReferenceRow(
        name=name, title=title, description=description, status="not yet run", reason=reason
    )
