"""Writes the site: an overview, a page for each model and protein, a comparison, the rules."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from cgbench import registry
from cgbench.config import Frozen, read_model, write_atomic, write_model
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.leaderboard.rows import Board, BoardRow
from cgbench.leaderboard.site import words
from cgbench.leaderboard.site.comparison import comparison_data
from cgbench.leaderboard.site.details import read_details, require_details
from cgbench.leaderboard.site.markup import Templates, viewer_file
from cgbench.leaderboard.site.model_pages import model_page, rows_of_models
from cgbench.leaderboard.site.protein_pages import (
    AtHand,
    at_hand,
    best_scores,
    picture,
    protein_page,
)
from cgbench.leaderboard.site.tables import (
    TrackTables,
    model_address,
    protein_address,
    role,
    track_tables,
)
from cgbench.leaderboard.text import MODEL_ID
from cgbench.progress import Progress, silent
from cgbench.report.embedding import embedded

#: Lists the files of a site, so that the next one removes what it does not write.
MANIFEST: Final = "site.json"


class _Manifest(Frozen):
    format: str = "cgbench-site"
    version: int = 1
    files: tuple[str, ...]


@dataclass(frozen=True)
class SiteOutcome:
    """What was written.

    Attributes:
        folder: The site.
        pages: Its pages, by address below the folder.
        models: Number of models with a page.
        proteins: Number of proteins with a page.
        figures: Models whose run folder was drawn.
        first_view_bytes: Size of the overview, which needs no other file.
    """

    folder: Path
    pages: tuple[str, ...]
    models: int
    proteins: int
    figures: tuple[str, ...]
    first_view_bytes: int


@dataclass(frozen=True)
class _Folders:
    """Where figures are drawn from, and the models that had some."""

    details: Path | None
    home: Path | None
    drawn: list[str]


def build_site(
    board: Board,
    out: Path,
    *,
    details: Path | None = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> SiteOutcome:
    """Write the site of a board; files of an earlier one that are not of this one are removed.

    Args:
        board: The ranked board.
        out: Folder of the site.
        details: Run folders of submitted results as ``<family>/<name>``, for figures.
        home: Data home, of reference bundles and native structures.
        progress: Told after every page.

    Raises:
        UsageError: ``out`` holds something that is not a site, or ``details`` is no folder.
        ValidationError: A model's name is not one.
        IntegrityError: A reference bundle is damaged.
    """
    require_details(details)
    models = rows_of_models(board)
    for model in models:
        if not MODEL_ID.fullmatch(model):
            raise ValidationError(
                f"{model}: no name of a model", expected="<family>/<name> of plain names"
            )
    earlier = _earlier(out)
    systems = {system.key: system for system in registry.systems()}
    found = {}
    for place, (key, system) in enumerate(systems.items()):
        found[key] = at_hand(system, home)
        progress("references", place + 1, len(systems))
    templates = Templates()
    drawn: list[str] = []
    written = []
    total = len(models) + len(systems) + 3
    first_view = 0
    for place, (name, content) in enumerate(
        _files(board, models, found, templates, _Folders(details, home, drawn), progress)
    ):
        path = out / name
        text = content.encode()
        write_atomic(path, content)
        written.append(name)
        if name == "index.html":
            first_view = len(text)
        progress("pages", min(place + 1, total), total)
    write_model(out / MANIFEST, _Manifest(files=tuple(sorted(written))))
    for name in sorted(set(earlier) - set(written)):
        (out / name).unlink(missing_ok=True)
    return SiteOutcome(
        folder=out,
        pages=tuple(sorted(name for name in written if name.endswith(".html"))),
        models=len(models),
        proteins=len(systems),
        figures=tuple(drawn),
        first_view_bytes=first_view,
    )


def _earlier(out: Path) -> tuple[str, ...]:
    """Return the files of the site that is there already, all of them inside its folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return ()
    try:
        manifest = read_model(_Manifest, out / MANIFEST)
    except CgbenchError as error:
        raise UsageError(
            f"{out}: holds something that is not a site",
            expected=f"a folder that is empty or has the {MANIFEST} of an earlier site",
            fix="choose another --out",
        ) from error
    root = out.resolve()
    return tuple(
        name
        for name in manifest.files
        if (out / name).resolve().is_relative_to(root)
        and Path(name).suffix in (".html", ".json", ".js")
    )


def _files(
    board: Board,
    models: Mapping[str, list[BoardRow]],
    found: dict[str, AtHand],
    templates: Templates,
    folders: _Folders,
    progress: Progress,
) -> Iterator[tuple[str, str]]:
    """Yield name and content of every file of the site, the overview first."""
    systems = {system.key: system for system in registry.systems()}
    yield "index.html", templates.render("index", "index.html", overview(board, models, found))
    yield "metrics.html", templates.render("metrics", "metrics.html", _rules(board))
    data = Markup(embedded(comparison_data(board)))  # noqa: S704
    yield "compare.html", templates.render("compare", "compare.html", {"board": data})
    yield "board.json", _plain(board)
    yield viewer_file()
    for key, system in systems.items():
        where = protein_address(key)
        page = protein_page(system, board, found[key])
        yield where, templates.render("protein", where, page)
        if page["structures"] is not None:
            yield page["structures"].address, page["structures"].script
    for model, rows in models.items():
        shown = model_page(rows, board, models, set(systems))
        if shown is None:
            continue
        detail = read_details(rows[0], folders.details, found, folders.home, progress)
        if detail.shown:
            folders.drawn.append(model)
        where = model_address(model)
        context = {**shown, "details": detail.shown, "detail_note": detail.note}
        yield where, templates.render("model", where, context)
        for one in detail.shown:
            if one.structures is not None:
                yield one.structures.address, one.structures.script
        submission = rows[0].submission
        if submission is not None:
            yield f"models/{model}.json", submission.model_dump_json(indent=1)


def _plain(board: Board) -> str:
    """Return the board without the submissions, which have files of their own."""
    data = board.model_dump(mode="json")
    for rows in data["tracks"].values():
        for row in rows:
            if row.pop("submission") is not None:
                row["result"] = f"models/{row['id']}.json"
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def overview(
    board: Board, models: Mapping[str, list[BoardRow]], found: Mapping[str, AtHand]
) -> dict[str, Any]:
    """Return what the first page shows.

    Args:
        board: The board.
        models: Rows of each model.
        found: What is at hand of each protein.
    """
    tracks = track_tables(board)
    proteins = []
    for system in registry.systems():
        number, best = best_scores(board, system.key)
        proteins.append(
            {
                "key": system.key,
                "name": system.name,
                "n_beads": system.n_beads,
                "n_models": number,
                "best": words.score(best),
                "picture": picture(found[system.key], system),
            }
        )
    return {
        "tracks": tracks,
        "counts": _counts(models, proteins),
        "best": _first(tracks),
        "notes": board.notes,
        "proteins": proteins,
    }


def _counts(models: Mapping[str, list[BoardRow]], proteins: list[dict[str, Any]]) -> str:
    def some(number: int, word: str) -> str:
        return f"{number or 'no'} {word}{'' if number == 1 else 's'}"

    checked = sum(
        any(row.level in ("trajectories_checked", "reproduced") for row in rows)
        for rows in models.values()
    )
    text = (
        f"{some(len(models), 'model')}, {checked or 'none'} recomputed by others, on "
        f"{some(len(proteins), 'protein')}"
    )
    return text[0].upper() + text[1:]


def _first(tracks: list[TrackTables]) -> list[dict[str, str]]:
    """Return the leader of each track's first group; where several lead, how many more."""
    found = []
    for track in tracks:
        group = next((one for one in track.groups if one.ranked), None)
        if group is None:
            continue
        leaders = [line for line in group.lines if line.row.rank == 1]
        more = "" if len(leaders) < 2 else f" and {len(leaders) - 1} tied"
        found.append(
            {
                "track": track.title,
                "href": leaders[0].href,
                "title": f"{leaders[0].row.title}{more}",
                "score": words.score(leaders[0].row.score),
            }
        )
    return found


def _rules(board: Board) -> dict[str, Any]:
    beside: dict[str, BoardRow] = {}
    for rows in board.tracks.values():
        for row in rows:
            if row.reference:
                beside.setdefault(row.id, row)
    return {
        "notes": board.notes,
        "track_facts": list(words.TRACK_TEXTS.values()),
        "counting": board.scored_metrics,
        "uncounted": board.uncounted,
        "reference_facts": sorted(beside.values(), key=lambda row: (role(row), row.id)),
        "specs": registry.metrics(),
    }
