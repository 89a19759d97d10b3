"""``cgbench leaderboard``: verify submissions, rank models, show the board."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli import leaderboard_register, leaderboard_site
from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars
from cgbench.errors import UsageError

if TYPE_CHECKING:
    from cgbench.leaderboard.rows import Board, BoardRow, Score
    from cgbench.leaderboard.verification import Recomputed

app = typer.Typer(help="Verify submissions, rank models, show the board.", no_args_is_help=True)
app.command("build")(leaderboard_site.build)
app.command("serve")(leaderboard_site.serve)
app.command("register")(leaderboard_register.register)

Folder = Annotated[Path, typer.Option("--board", help="The leaderboard folder.")]
#: Where re-simulated trajectories are kept unless a folder is named.
_WORK = Path("cgbench-runs") / "verification"


@app.command("verify")
def verify(
    submission: Annotated[Path, typer.Argument(help="A submission, or its name in --board.")],
    trajectories: Annotated[
        Path | None,
        typer.Option("--trajectories", help="Its trajectories.zarr, or the run folder."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Its model.pt, simulated again, or sampler.pt, drawn again."),
    ] = None,
    board: Folder = Path("leaderboard"),
    write: Annotated[
        str | None,
        typer.Option("--write", metavar="NAME", help="Record the level in the file, as NAME."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where new trajectories are kept, with --model.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads of the scoring (default: all).")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Compute a submission again and compare: from its trajectories, or from its model.

    Nothing of a submission is run: models that are programs are refused, whoever vouches for them.
    Without --trajectories and --model the file alone is checked. Exit code 4: it does not agree.
    """
    from cgbench.config import write_model
    from cgbench.leaderboard.board import read_records, read_submissions
    from cgbench.leaderboard.checking import check_submission
    from cgbench.leaderboard.files import read_submission
    from cgbench.leaderboard.verification import verify_model, verify_trajectories

    if trajectories is not None and model is not None:
        raise UsageError("give --trajectories or --model, not both")
    if write is not None and trajectories is None and model is None:
        raise UsageError("--write records a level: give --trajectories or --model")
    path = _submission_path(submission, board)
    found = read_submission(path)
    folder = _folder_of(path, board)
    records = read_records(folder)
    if found.model not in records:
        raise UsageError(
            f"{path}: the leaderboard folder has no record of {found.model}", fix="give --board"
        )
    others = [
        (one, records[key])
        for key, items in read_submissions(folder, records).items()
        for one in items
        if key != found.model
    ]
    remarks = check_submission(found, records[found.model], others)
    recomputed = None
    with progress_bars() as progress:
        if trajectories is not None:
            recomputed = verify_trajectories(
                found, trajectories, home=home, workers=workers, progress=progress
            )
        elif model is not None:
            work = (out or _WORK) / found.model.replace("/", "-")
            recomputed = verify_model(
                found, model, work, home=home, workers=workers, progress=progress
            )
    if write is not None and recomputed is not None:
        record = recomputed.record(found, write)
        write_model(path, found.model_copy(update={"verification": record}))
    _print_verification(found.model, found.level, remarks, recomputed, as_json)
    if recomputed is not None:
        recomputed.require(path)


@app.command("check")
def check(
    board: Annotated[Path, typer.Argument(help="The leaderboard folder.")] = Path("leaderboard"),
    base: Annotated[
        Path | None, typer.Option("--base", help="The folder before a change, to compare with.")
    ] = None,
    maintainer: Annotated[
        bool,
        typer.Option("--maintainer", help="Let records of verification and reference rows change."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every file of a leaderboard folder, and what it changes of another."""
    from cgbench.leaderboard.pull_request import check_folder

    found = check_folder(board, base, maintainer=maintainer)
    if as_json:
        print_json({"models": found.models, "submissions": found.submissions, "added": found.added})
        return
    typer.echo(f"{board}: {found.models} models, {found.submissions} submissions, all in order")
    for key in found.added:
        typer.echo(f"new: {key}")


@app.command("rank")
def rank(
    board: Folder = Path("leaderboard"),
    track: Annotated[
        list[str] | None, typer.Option("--track", help="Tracks (default: all).")
    ] = None,
    references: Annotated[
        bool, typer.Option("--references/--no-references", help="Show reference rows as well.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Rank the models of a leaderboard folder: composite scores from frozen thresholds."""
    from cgbench.leaderboard.board import read_board
    from cgbench.leaderboard.records import TRACKS

    for one in track or []:
        if one not in TRACKS:
            raise UsageError(f"{one}: no such track", expected=", ".join(TRACKS), found=one)
    found = read_board(board)
    chosen = {
        name: tuple(row for row in rows if references or not row.reference)
        for name, rows in found.tracks.items()
        if not track or name in track
    }
    found = found.model_copy(update={"tracks": chosen})
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_board(found)


@app.command("references")
def references(
    board: Folder = Path("leaderboard"),
    system: Annotated[
        list[str] | None,
        typer.Option("--system", help="Systems (default: those whose reference is at hand)."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol", help="Protocol of the prior (default: demo for samples, else standard)."
        ),
    ] = None,
    rescored: Annotated[
        Path | None,
        typer.Option(
            "--rescored", help="Enter this result of 'cgbench evaluate --published cg' instead."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of simulation and resamples.")] = 1,
    out: Annotated[
        Path, typer.Option("--out", help="Where the prior's trajectories are kept.")
    ] = Path("cgbench-runs/references"),
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Compute the rows that models are read beside, and write them into a leaderboard folder."""
    from cgbench import registry
    from cgbench.leaderboard.references import add_rescored, compute_reference_rows
    from cgbench.store import find_reference

    if rescored is not None:
        entered = add_rescored(rescored, board)
        if as_json:
            print_json({"entered": entered})
        else:
            typer.echo(f"entered: {', '.join(entered) or 'nothing was scored'}")
        return
    keys = list(system or [])
    for entry in () if keys else registry.systems():
        try:
            find_reference(entry.key, home)
        except UsageError:
            continue
        keys.append(entry.key)
    written = {}
    with progress_bars() as progress:
        for key in keys:
            made = compute_reference_rows(
                key,
                board,
                protocol=protocol,
                seed=seed,
                work=out / key,
                home=home,
                progress=progress,
            )
            written[key] = {row.name: row.status for row in made.rows}
    if as_json:
        print_json(written)
        return
    for key, rows in written.items():
        typer.echo(f"{key}: {', '.join(f'{name} {status}' for name, status in rows.items())}")


def _submission_path(given: Path, board: Path) -> Path:
    """Return a submission's file: as given, or below the leaderboard folder."""
    if given.is_file() or given.is_symlink():
        return given
    inside = board / "submissions" / given
    named = inside.with_name(f"{inside.name}.json")
    if ".." not in given.parts and not given.is_absolute() and named.is_file():
        return named
    raise UsageError(
        f"{given}: no such submission",
        expected="a file, or FAMILY/NAME/DATE of one in --board",
        found=str(given),
    )


def _folder_of(path: Path, board: Path) -> Path:
    """Return the leaderboard folder that a submission lies in; the given one if in none."""
    parents = path.resolve().parents
    inside = len(parents) > 3 and parents[2].name == "submissions"
    return parents[3] if inside else board


def _print_verification(
    model: str,
    before: str,
    remarks: tuple[str, ...],
    recomputed: "Recomputed | None",
    as_json: bool,
) -> None:
    wrong = [] if recomputed is None else recomputed.disagreements
    level = before if recomputed is None or wrong else recomputed.level
    if as_json:
        compared = [] if recomputed is None else recomputed.differences
        finite = [one.ratio for one in compared if one.ratio != float("inf")]
        print_json(
            {
                "model": model,
                "level": level,
                "agrees": not wrong,
                "values": len(compared),
                "largest_difference": max(finite, default=None),
                "disagreements": [
                    {
                        "system": one.system,
                        "what": one.what,
                        "submitted": one.submitted,
                        "recomputed": one.recomputed,
                    }
                    for one in wrong
                ],
                "not_recomputed": [] if recomputed is None else recomputed.not_recomputed,
                "remarks": remarks,
            }
        )
        return
    for remark in remarks:
        console.print(f"note: {remark}", soft_wrap=True, markup=False)
    if recomputed is None:
        typer.echo(f"{model}: the file is in order; level {level}, nothing was computed again")
    elif not wrong:
        worst = max((one.ratio for one in recomputed.differences), default=0.0)
        typer.echo(
            f"{model}: {level}; {len(recomputed.differences)} values agree, the largest difference "
            f"is {100 * worst:.2g} % of its tolerance"
        )
        if recomputed.not_recomputed:
            typer.echo(f"not recomputed: {', '.join(recomputed.not_recomputed)}")


def _print_board(board: "Board") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = False
    for track, rows in board.tracks.items():
        if not any(not row.reference for row in rows):
            continue
        shown = True
        table = Table(title=track, box=None, header_style="bold", title_justify="left")
        for name in ("rank", "model", "score", "group", "ns/day", "level", "remarks"):
            table.add_column(name, overflow="fold")
        for row in rows:
            if row.reference and row.score is None:
                continue
            table.add_row(*(escape(cell) for cell in _cells(row)))
        Console().print(table)
    if not shown:
        typer.echo("no submissions yet")
    for note in board.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def _cells(row: "BoardRow") -> list[str]:
    speed = None if row.cost is None else row.cost.ns_per_day
    remark = ", ".join(row.flags) if row.rank is not None else row.unranked_reason or ""
    return [
        "" if row.rank is None else str(row.rank),
        row.title if row.reference else row.id,
        _score(row.score),
        row.group,
        "" if speed is None else f"{speed:.3g}",
        row.level or "",
        remark,
    ]


def _score(score: "Score | None") -> str:
    return "" if score is None else f"{score.value:.3f} [{score.lo:.3f}, {score.hi:.3f}]"
