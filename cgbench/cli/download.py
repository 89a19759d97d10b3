"""``cgbench download``: published files, fetched, checked and unpacked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars
from cgbench.errors import CgbenchError, UsageError

if TYPE_CHECKING:
    from cgbench.cli.download_tables import Answer
    from cgbench.ingest.downloads import FileState, Outcome


def download(
    systems: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SYSTEM…|all]",
            help="Systems or mutants; 'all', 'mutants' or 'suite' (files of no single system).",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="setup, training, reference, native, cg, mutants or models; may be repeated "
            "(default: setup, native and training; all of them in lists).",
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List the files, offline, and fetch nothing.")
    ] = False,
    sizes: Annotated[
        bool, typer.Option("--sizes", help="Ask the servers for sizes, and fetch nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched, and from where.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", help="Files fetched at once (default: 3).", min=1, max=64),
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option("--connections", help="Connections of a file (default: 4).", min=1, max=64),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", help="Address tried first in place of the origin's host."),
    ] = None,
    unpack: Annotated[bool, typer.Option("--extract", help="Unpack archives, safely.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash files that are there again.")
    ] = False,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fetch published files, resumably and side by side, and check them bead for bead.

    Hashes that the registry does not pin are written to <home>/downloads.lock.json on the first
    download; another hash later is an error. Native structures are made from the entries of the
    Protein Data Bank. One file that fails does not stop the others; the exit code is that of the
    worst failure.
    """
    from cgbench import registry
    from cgbench.cli.download_tables import byte_bars, intention
    from cgbench.config import data_home
    from cgbench.fetch import Settings
    from cgbench.ingest import downloads

    looking = listing or sizes or dry_run
    if not looking and not systems and not kind:
        raise UsageError(
            "which systems?",
            expected="systems, or a --kind of files",
            fix="'cgbench download --list' shows all there is, 'cgbench download all' fetches the "
            "setup, native structures and training data of the twelve proteins (about 100 GB)",
        )
    kinds: Any = kind or (None if listing or sizes else downloads.DEFAULT_KINDS)
    names = systems or (None if listing or sizes else ["all"])
    files = registry.remote_files(names, kinds)
    if not files:
        raise UsageError(
            f"{', '.join(names or ())}: no files of kind {', '.join(kinds)}",
            fix="'cgbench download --list SYSTEM' shows what there is",
        )
    folder = data_home(home)
    settings = Settings()
    given = {"jobs": jobs or settings.jobs, "connections": connections or settings.connections}
    settings = settings.model_copy(update={**given, "verify": verify})
    states = downloads.file_states(files, folder)
    if looking:
        origins = [downloads.addresses(file, mirror)[0] for file in files] if dry_run else []
        answers: Sequence[Answer] = [None] * len(files)
        if sizes:
            with progress_bars() as progress:
                answers = downloads.ask_sizes(files, mirror, settings, progress)
        _show(states, answers, origins, as_json)
        if dry_run:
            console.print(intention(states, folder), soft_wrap=True, markup=False)
        return
    console.print(intention(states, folder), soft_wrap=True, markup=False)
    try:
        with byte_bars() as progress:
            outcomes = downloads.download(
                files,
                folder,
                mirror=mirror,
                settings=settings,
                unpack=unpack,
                force=force,
                progress=progress,
            )
    except KeyboardInterrupt:
        console.print("interrupted: what is on disk is kept; run the same command to continue")
        raise
    if as_json:
        records = [state.record() for state in downloads.file_states(files, folder)]
        for record, outcome in zip(records, outcomes, strict=True):
            record["error"] = None if outcome.error is None else outcome.error.message
        print_json(records)
    _tell(outcomes)
    if code := downloads.exit_code(outcomes):
        raise typer.Exit(code)


def _show(
    states: Sequence["FileState"],
    answers: Sequence["Answer"],
    origins: Sequence[str],
    as_json: bool,
) -> None:
    """Print what is known of files, and fetch nothing."""
    from cgbench.cli.download_tables import listing, notes, print_table

    if as_json:
        records: list[dict[str, Any]] = [state.record() for state in states]
        for record, state, answer in zip(records, states, answers, strict=True):
            if answer is not None:
                record["size"] = None
            if isinstance(answer, CgbenchError):
                record["error"] = answer.message
            elif answer is not None:
                # Exact or none: what the publisher prints is rounded.
                record["size"] = state.size if answer.size is None else answer.size
        print_json(records)
        return
    print_table(listing(states, answers, origins))
    for note in notes([state.file for state in states]):
        console.print(note, soft_wrap=True, markup=False)


def _tell(outcomes: Sequence["Outcome"]) -> None:
    """Print on stderr what was made, and a table of what failed."""
    from cgbench.cli.download_tables import failures, notes, summary

    for outcome in outcomes:
        for note in outcome.notes:
            console.print(f"{outcome.file.system}: {note}", soft_wrap=True, markup=False)
    for note in notes([outcome.file for outcome in outcomes]):
        console.print(note, soft_wrap=True, markup=False)
    console.print(summary(outcomes), soft_wrap=True)
    if any(outcome.error is not None for outcome in outcomes):
        console.print(failures(outcomes))
