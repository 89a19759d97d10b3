"""JSON schemas of leaderboard files: ``python -m cgbench.leaderboard.schemas FOLDER``."""

import sys
from collections.abc import Mapping
from typing import Final

import pydantic

from cgbench.leaderboard.records import ModelRecord, ReferenceRows, Submission
from cgbench.leaderboard.rows import Board
from cgbench.results import schemas_command

#: The model that reads each format, by the name of its schema.
FORMATS: Final[Mapping[str, type[pydantic.BaseModel]]] = {
    "board": Board,
    "model-record": ModelRecord,
    "reference-rows": ReferenceRows,
    "submission": Submission,
}


def main(arguments: list[str]) -> int:
    """Write the schemas to the folder named on the command line; return the exit code."""
    return schemas_command("cgbench.leaderboard.schemas", FORMATS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
