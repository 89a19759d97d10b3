"""``cgbench validate``: is a file what it says it is?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cgbench.cli.common import AsJson, console, print_json, progress_bars


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Stores, ensembles, reference bundles, models, results, splits, priors, "
            "submissions, run folders, configurations."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Check files of any format of this suite; nothing in them is run.

    Exit code of the first that is wrong: 2 no known format, 3 damaged or unsafe, 4 wrong content.
    """
    from cgbench.errors import CgbenchError
    from cgbench.leaderboard.validate import validate as check

    errors: list[CgbenchError] = []
    records: list[dict[str, Any]] = []
    with progress_bars() as progress:
        for path in files:
            try:
                found = check(path, progress)
            except CgbenchError as error:
                errors.append(error)
                records.append({"path": str(path), "valid": False, "error": error.message})
                continue
            records.append(found.record())
    if as_json:
        print_json(records[0] if len(files) == 1 else records)
    else:
        for record in records:
            if record["valid"]:
                typer.echo(f"{record['path']}: a valid {record['kind']}")
            elif len(files) > 1:
                console.print(record["error"], soft_wrap=True, markup=False, style="red")
    if errors:
        raise errors[0]
