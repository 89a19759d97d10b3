"""``cgbench submit``: a result for the leaderboard."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgbench.cli.common import AsJson, Force, console, print_json, progress_bars
from cgbench.errors import UsageError

if TYPE_CHECKING:
    from cgbench.leaderboard.submission import Submitted


def submit(
    result: Annotated[Path, typer.Argument(help="A result.json, or its run folder.")],
    trajectories: Annotated[
        list[str] | None,
        typer.Option(
            "--trajectories",
            help="The run folder or trajectories.zarr behind it, or their https address; or both.",
        ),
    ] = None,
    board: Annotated[
        Path, typer.Option("--board", help="The leaderboard folder of a clone of the repository.")
    ] = Path("leaderboard"),
    model: Annotated[
        str | None, typer.Option("--model", help="Identifier, FAMILY/NAME (default: its name).")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Name for people.")] = None,
    authors: Annotated[
        str | None, typer.Option("--authors", help="As 'A. Name (Institute); B. Name'.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What it is, in a few sentences.")
    ] = None,
    training_data: Annotated[
        str | None, typer.Option("--training-data", help="What it was trained on, in words.")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option("--track", help="What it is ranked among (default: what the result says)."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="potential, sampler or trajectories (default: by the result)."),
    ] = None,
    uses_native: Annotated[
        bool | None,
        typer.Option(
            "--uses-native/--no-uses-native",
            help="Whether native structures of scored proteins went into it.",
        ),
    ] = None,
    uses_pretrained: Annotated[
        str | None, typer.Option("--uses-pretrained", help="Pretrained weights that went into it.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence, as MIT.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where to read more, https.")] = None,
    code_url: Annotated[
        str | None, typer.Option("--code-url", help="Where its code or weights are, https.")
    ] = None,
    citation: Annotated[str | None, typer.Option("--citation", help="How to cite it.")] = None,
    contact: Annotated[str | None, typer.Option("--contact", help="How to reach you.")] = None,
    missing: Annotated[
        str | None,
        typer.Option("--missing", help="Why systems that count are not in the result."),
    ] = None,
    mutants: Annotated[
        Path | None, typer.Option("--mutants", help="mutants.json (default: beside the result).")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", help="Day of the submission (default: today).")
    ] = None,
    interactive: Annotated[
        bool | None,
        typer.Option("--ask/--no-ask", help="Ask for what is missing (default: in a terminal)."),
    ] = None,
    pull_request: Annotated[
        bool, typer.Option("--pr", help="Make the branch and the pull request with git and gh.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Check a result offline and write it into a leaderboard folder; say what to do next.

    Nothing leaves the machine unless --pr is given.
    """
    from cgbench.leaderboard.submission import SubmissionOptions, next_steps
    from cgbench.leaderboard.submission import submit as write

    answers: dict[str, Any] = {
        "model": model, "title": title, "authors": authors, "description": description,
        "training_data": training_data, "track": track, "kind": kind, "licence": licence,
        "uses_native_structure": uses_native, "uses_pretrained": uses_pretrained, "url": url,
        "code_url": code_url, "citation": citation, "contact": contact,
    }  # fmt: skip
    local, address = _places(trajectories or [])
    if interactive or (interactive is None and not as_json and _terminal()):
        answers |= _asked(result, board, answers)
    with progress_bars() as progress:
        done = write(
            result,
            board,
            SubmissionOptions(
                answers=answers,
                trajectories=local,
                trajectories_url=address,
                mutants=mutants,
                missing=missing,
                date=_day(date),
            ),
            force=force,
            progress=progress,
        )
    steps = next_steps(done, board)
    opened = None
    if pull_request:
        from cgbench.leaderboard.publish import open_pull_request

        opened = open_pull_request(done, board)
    _tell(done, steps, opened, as_json)


def _tell(done: "Submitted", steps: list[str], opened: str | None, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "model": done.submission.model,
                "track": done.record.track,
                "submission": str(done.submission_path),
                "record": str(done.record_path),
                "new_model": done.new_model,
                "remarks": done.remarks,
                "next": steps,
                "pull_request": opened,
            }
        )
        return
    typer.echo(f"submission: {done.submission_path}")
    typer.echo(f"model:      {done.record_path}")
    for remark in done.remarks:
        console.print(f"note: {remark}", soft_wrap=True, markup=False)
    if opened is not None:
        typer.echo(f"pull request: {opened}")
        return
    typer.echo("next, in a clone of the repository:")
    for step in steps:
        typer.echo(f"  {step}")


def _places(given: list[str]) -> tuple[Path | None, str | None]:
    """Return the folder and the address among what was given."""
    addresses = [one for one in given if "://" in one]
    folders = [one for one in given if "://" not in one]
    if len(addresses) > 1 or len(folders) > 1:
        raise UsageError(
            "--trajectories: give a folder, an address, or one of each", found=", ".join(given)
        )
    return Path(folders[0]) if folders else None, addresses[0] if addresses else None


def _day(text: str | None) -> datetime.date | None:
    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError("--date: not a day", expected="YYYY-MM-DD", found=text[:50]) from error


def _terminal() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stderr.isatty()


def _asked(result: Path, board: Path, answers: dict[str, Any]) -> dict[str, Any]:
    """Ask for what the record of the model needs and was not given."""
    from cgbench.leaderboard.board import read_records
    from cgbench.leaderboard.files import read_strict_result
    from cgbench.leaderboard.submission import OPTIONAL, QUESTIONS, suggested

    file = result / "result.json" if result.is_dir() else result
    suggestions = suggested(read_strict_result(file))
    records = read_records(board)
    found: dict[str, Any] = {}
    for name, question in QUESTIONS.items():
        known = answers.get(name)
        if known is None and name != "model":
            record = records.get(str(found.get("model") or answers.get("model")))
            known = None if record is None else getattr(record, name)
        if known is not None:
            continue
        default = suggestions.get(name, "" if name in OPTIONAL else None)
        if name == "uses_native_structure":
            found[name] = typer.confirm(question, err=True)
        else:
            found[name] = typer.prompt(question, default=default, err=True) or None
    return found
