"""``cgbench doctor``: whether this machine and this installation are fit."""

from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli.common import AsJson, Home, print_json, progress_bars

if TYPE_CHECKING:
    from cgbench.pipeline.doctor_finding import Diagnosis

_STYLES = {"ok": "green", "note": "", "warning": "yellow", "broken": "bold red"}


def doctor(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Leave out what takes seconds: imports and the speed of the disk."
        ),
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Look at packages, processor, graphics, compilers, disk and data, and say what to mend.

    Nothing is changed, and nothing is fetched. 'note': something optional is not there; 'warning':
    it works, but not as it could; 'broken' ends with exit code 4.
    """
    from cgbench.pipeline.doctor import diagnose, require_healthy

    with progress_bars() as progress:
        diagnosis = diagnose(home, quick=quick, progress=progress)
    if as_json:
        print_json(diagnosis.model_dump(mode="json"))
    else:
        _print(diagnosis)
    require_healthy(diagnosis)


def _print(diagnosis: "Diagnosis") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"cgbench {diagnosis.suite_version}", title_justify="left")
    for column in ("what", "state", "found"):
        table.add_column(column, overflow="fold")
    group = None
    for finding in diagnosis.findings:
        if finding.group != group and group is not None:
            table.add_section()
        group = finding.group
        # Names and messages of a machine are text, whatever brackets they hold.
        found = Text(finding.found)
        if finding.fix:
            found.append(f"\n→ {finding.fix}", style="italic")
        state = Text(finding.status, style=_STYLES[finding.status])
        table.add_row(Text(finding.name), state, found)
    Console().print(table)
