"""What ``cgbench download`` tells: bars of bytes, tables of files, of answers and of failures."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from cgbench.cli.common import console as messages
from cgbench.errors import CgbenchError
from cgbench.fetch import Probe
from cgbench.ingest.downloads import FileState, Outcome
from cgbench.progress import Progress as Listener
from cgbench.registry import RemoteFile

#: A file's size on its server, or why it is not known; None where nobody was asked.
Answer: TypeAlias = Probe | CgbenchError | None


@contextlib.contextmanager
def byte_bars() -> Iterator[Listener]:
    """Show bytes, rate and time to go of each unfinished file, and of all together, on stderr."""
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=messages,
        refresh_per_second=4,
    )
    known: dict[str, TaskID] = {}

    def listen(task: str, done: float, total: float) -> None:
        identity = task.partition(" (")[0]
        if identity not in known:
            known[identity] = bars.add_task(task, total=None)
        finished = 0 < total <= done and identity != "total"
        bars.update(
            known[identity],
            description=task,
            completed=done,
            total=total or None,
            visible=not finished,
        )

    with bars:
        yield listen


def size_text(size: float) -> str:
    """Return a number of bytes in the largest decimal unit, with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def listing(
    states: Sequence[FileState], answers: Sequence[Answer], origins: Sequence[str]
) -> Table:
    """Return the table of files: sizes, hashes, what is here, and a line of totals.

    Args:
        states: What is known of the files.
        answers: What the server said, one for each file.
        origins: The first address of each file; empty to leave that column out.
    """
    table = Table(show_footer=True, footer_style="bold")
    here = sum(state.is_local for state in states)
    table.add_column("system", footer="total", overflow="fold")
    table.add_column("kind")
    table.add_column("file", footer=f"{len(states)} files", overflow="fold")
    table.add_column("size", footer=total_text(states, answers), justify="right")
    table.add_column("hash", footer=f"{sum(state.pinned for state in states)} pinned")
    table.add_column("here", footer=f"{here} here")
    if origins:
        table.add_column("from", overflow="fold")
    for number, (state, answer) in enumerate(zip(states, answers, strict=True)):
        cells = [
            state.file.system,
            state.file.kind,
            state.file.name + ("*" if state.file.note else ""),
            _size_cell(state, answer),
            "pinned" if state.pinned else "locked" if state.sha256 else "not pinned",
            "yes" if state.is_local else "",
        ]
        table.add_row(*map(_plain, (*cells, *origins[number : number + 1])))
    return table


def known_size(state: FileState, answer: Answer) -> int | None:
    """Return the best known size of a file in bytes, None where it is unknown or in doubt."""
    if isinstance(answer, Probe) and answer.size is not None:
        return answer.size
    return state.file.approximate_size if state.size is None else state.size


def total_text(states: Sequence[FileState], answers: Sequence[Answer]) -> str:
    """Return the sum of the sizes that are known, and how many are not."""
    sizes = [known_size(*pair) for pair in zip(states, answers, strict=True)]
    unknown = sizes.count(None)
    text = size_text(sum(size for size in sizes if size is not None))
    return text + (f" + {unknown} unknown" if unknown else "")


def intention(states: Sequence[FileState], home: Path) -> str:
    """Return what is about to be fetched, and how much room there is for it."""
    missing = [state for state in states if not state.is_local]
    exists = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    free = size_text(shutil.disk_usage(exists).free)
    return (
        f"{len(states)} files, {len(states) - len(missing)} of them here; to fetch: "
        f"{total_text(missing, [None] * len(missing))}; free at {home}: {free}"
    )


def failures(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of what failed, and why."""
    table = Table(title="failed", title_justify="left", title_style="bold red")
    table.add_column("file", overflow="fold")
    table.add_column("why", overflow="fold")
    for outcome in outcomes:
        if outcome.error is not None:
            table.add_row(str(outcome.file.path), _plain(outcome.error.message))
    return table


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many files are there, and what their hashes were compared with."""
    hashes = [one.fetched.pinned for one in outcomes if one.fetched is not None]
    over_the_wire = sum(one.fetched.transferred for one in outcomes if one.fetched is not None)
    counts = {
        "as the registry pins them": hashes.count("registry"),
        "as on first download": hashes.count("lock"),
        "not pinned, their hashes now in downloads.lock.json": hashes.count("first download"),
    }
    parts = [f"{number} {words}" for words, number in counts.items() if number]
    return f"{len(hashes)} files, {size_text(over_the_wire)} fetched: {', '.join(parts) or 'none'}"


def notes(files: Sequence[RemoteFile]) -> list[str]:
    """Return the known errors of the published list that concern the files."""
    return [f"* {file.name}: {file.note}" for file in files if file.note is not None]


def print_table(table: Table) -> None:
    """Print a table on stdout, as wide as it needs to be where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, 160))
    console.print(table)


def _plain(text: str) -> str:
    """Return text in which servers and files have a say without markup and control characters."""
    return escape("".join(one if one.isprintable() or one == "\n" else "?" for one in text))


def _size_cell(state: FileState, answer: Answer) -> str:
    if isinstance(answer, CgbenchError):
        reason = answer.found if answer.found is not None else answer.what
        return f"no answer: {reason}"
    if isinstance(answer, Probe) and answer.size is not None:
        return size_text(answer.size)
    if state.size is not None:
        return size_text(state.size)
    if state.file.stated_size is None:
        return "unknown" if answer is None else "not told"
    return f"stated {state.file.stated_size}" + ("?" if state.file.size_doubtful else "")
