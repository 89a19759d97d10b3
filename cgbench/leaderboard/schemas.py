"""JSON schemas of leaderboard files: ``python -m cgbench.leaderboard.schemas FOLDER``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pydantic

from cgbench.leaderboard.records import ModelRecord, ReferenceRows, Submission
from cgbench.leaderboard.rows import Board
from cgbench.results import export_schemas

#: The model that reads each format, by the name of its schema.
FORMATS: Final[Mapping[str, type[pydantic.BaseModel]]] = {
    "board": Board,
    "model-record": ModelRecord,
    "reference-rows": ReferenceRows,
    "submission": Submission,
}


def main(arguments: list[str]) -> int:
    """Write the schemas to the folder named on the command line; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m cgbench.leaderboard.schemas FOLDER\n")
        return 2
    for path in export_schemas(Path(arguments[0]), FORMATS):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
