"""Figures and structures of a model's page, from the run folder of its result."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate import ReferenceBundle, Scored
from cgbench.leaderboard.records import fingerprint_of
from cgbench.leaderboard.rows import BoardRow
from cgbench.leaderboard.site import plots
from cgbench.leaderboard.site.markup import strict_svg
from cgbench.leaderboard.site.protein_pages import AtHand, Figure
from cgbench.leaderboard.site.structures import StructureFile, structure_file
from cgbench.pipeline.beside import kept_rows
from cgbench.pipeline.content import system_section
from cgbench.pipeline.results import ScoredRun, read_run
from cgbench.progress import Progress, silent
from cgbench.report import SystemSection
from cgbench.report.groups import figure_groups
from cgbench.results import Result

#: What is said of figures that are not of the submitted frames.
REPEATED: Final = "Drawn from a repetition: the same model, protocol and seeds, simulated again."
#: Groups that a reader opens: trajectories are large and say little at a glance.
_FOLDED: Final = ("Trajectories",)


@dataclass(frozen=True)
class Group:
    """Figures under one heading."""

    title: str
    figures: Sequence[Figure]
    folded: bool
    packed: bool


@dataclass(frozen=True)
class Detail:
    """What is drawn of a model on one system."""

    system: str
    title: str
    headline: str
    structures: StructureFile | None
    groups: Sequence[Group]


@dataclass(frozen=True)
class Details:
    """What is drawn of a model, and why not all of it is."""

    shown: Sequence[Detail] = ()
    note: str = ""


def read_details(
    row: BoardRow,
    folder: Path | None,
    at_hand: dict[str, AtHand],
    home: Path | None = None,
    progress: Progress = silent,
) -> Details:
    """Return the figures of a row, drawn from ``folder/<family>/<name>``.

    The run folder is that of the result that was submitted, or, which the page says, of the same
    model simulated again under the same protocol and seeds. It is drawn over the very reference
    that it was scored against. Reference rows that the run folder does not keep yet are computed.

    Args:
        row: A model's row.
        folder: Folder of run folders; None for none.
        at_hand: Reference bundles by system.
        home: Data home.
        progress: Told about reference rows that are computed.
    """
    if folder is None or row.submission is None:
        return Details()
    place = folder / row.id
    if not (place / "result.json").is_file():
        return Details(note="No figures: its run folder was not at hand when this page was made.")
    try:
        run = read_run(place)
    except CgbenchError:
        return Details(note="No figures: its run folder cannot be read.")
    same = fingerprint_of(run.result) == row.submission.result_fingerprint
    if not same and not _repeats(run.result, row.submission.result):
        return Details(note="No figures: the run folder at hand is that of another result.")
    found = _drawn(row.id, run, place, at_hand, home, progress)
    if same or not found.shown:
        return found
    return replace(found, note=f"{REPEATED} {found.note}".strip())


def _repeats(run: Result, submitted: Result) -> bool:
    """Return whether a run is that of the same model under the same protocol and seeds."""
    return (
        submitted.model.hash is not None
        and run.model.hash == submitted.model.hash
        and run.protocol == submitted.protocol
        and run.seeds == submitted.seeds
    )


def _drawn(
    model: str,
    run: ScoredRun,
    place: Path,
    at_hand: dict[str, AtHand],
    home: Path | None,
    progress: Progress,
) -> Details:
    shown: list[Detail] = []
    for key in run.scored:
        bundle = at_hand[key].bundle if key in at_hand else None
        if bundle is None or run.result.reference.fingerprints.get(key) != bundle.fingerprint:
            continue
        row = run.scored[key]
        beside = kept_rows(
            bundle, row.seed, row.result.n_frames, place, home=home, progress=progress
        )
        shown.append(_detail([row, *beside], bundle, len(shown), model))
    missing = len(run.scored) - len(shown)
    note = f"{missing} systems are not drawn: their reference is not at hand." if missing else ""
    return Details(shown, note)


def _detail(rows: Sequence[Scored], bundle: ReferenceBundle, place: int, model: str) -> Detail:
    section = system_section(rows, bundle)
    groups = [
        Group(
            group.title,
            [
                Figure(one.key, one.title, one.alt, one.caption, strict_svg(one.svg))
                for one in group.figures
                if one.svg is not None
            ],
            group.folded or group.title in _FOLDED,
            group.packed,
        )
        for group in figure_groups(section, place)
    ]
    return Detail(
        system=bundle.system,
        title=section.title,
        headline=section.verdicts[0].headline if section.verdicts else "",
        structures=_structures(section, bundle, model),
        groups=groups,
    )


def _structures(
    section: SystemSection, bundle: ReferenceBundle, model: str
) -> StructureFile | None:
    if section.structures is None:
        return None
    texts = {}
    for state, (label, _) in zip(section.macrostates, section.structures.macrostates, strict=False):
        shares = [
            f"{name} {share:.2f}" for name, share in state.populations.items() if share is not None
        ]
        told = [f"population {state.reference_population:.2f} in the reference", *shares]
        texts[label] = ", ".join(told)
    return structure_file(
        f"structures/models/{model}/{bundle.system}.js",
        f"{model} on {bundle.system}",
        section.structures,
        plots.chain(bundle.native),
        names=[row.name for row in section.rows if row.kind == "model"],
        texts=texts,
    )


def require_details(folder: Path | None) -> None:
    """Refuse a folder of run folders that is not there.

    Raises:
        UsageError: It is not.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder",
            expected="run folders as <family>/<name>, with result.json and what is drawn",
        )
