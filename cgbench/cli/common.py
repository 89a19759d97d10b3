"""What every verb shares: options, progress bars and printing."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from cgbench.errors import ValidationError
from cgbench.progress import Progress as Listener

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Data home (default: CGBENCH_HOME, else the user data folder)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines on stdout.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; fail if out of date.")]
Force = Annotated[bool, typer.Option("--force", help="Redo what is there already.")]

#: Progress and messages go to stderr, so that stdout stays clean for ``--json`` and pipes.
console = Console(stderr=True, highlight=False)


class _TaskColumn(TextColumn):
    """What is done, cut off where the terminal has no room: numbers and times stay whole."""

    def __init__(self) -> None:
        super().__init__("{task.description}", table_column=Column())

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


@contextlib.contextmanager
def progress_bars() -> Iterator[Listener]:
    """Show one bar per task on stderr; the task's text up to a bracket is its identity."""
    bars = Progress(
        _TaskColumn(),
        BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
        TextColumn("{task.percentage:>4.0f} %"),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        console=console,
        refresh_per_second=4,
    )
    known: dict[str, TaskID] = {}

    def listen(task: str, done: float, total: float) -> None:
        identity = task.partition(" (")[0]
        if identity not in known:
            known[identity] = bars.add_task(task, total=total)
        bars.update(known[identity], description=task, completed=done, total=total)

    with bars:
        yield listen


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, default=str, allow_nan=False))


def tell_changed(changed: list[Path], check: bool, as_json: bool, command: str) -> None:
    """Print which generated files were written, or fail over those that are out of date.

    Raises:
        ValidationError: Nothing was to be changed, and some files are out of date.
    """
    if as_json:
        print_json({"changed": [str(path) for path in changed], "written": not check})
    elif not check:
        for path in changed:
            console.print(f"written: {path}", soft_wrap=True)
    if check and changed:
        raise ValidationError(
            f"{len(changed)} files are not what they are generated from",
            found=", ".join(str(path) for path in changed),
            fix=command,
        )
