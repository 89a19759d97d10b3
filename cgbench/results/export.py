"""JSON schemas of the file formats, exported from the code that reads them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from cgbench import config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a format, as a writer of such files sees it."""
    return {"$schema": DIALECT, **model.model_json_schema(mode="validation")}


def export_schemas(directory: Path, models: Mapping[str, type[pydantic.BaseModel]]) -> list[Path]:
    """Write ``<name>.schema.json`` for each model; the same code always writes the same bytes.

    Args:
        directory: Where to write; made if it is not there.
        models: Models by the name of their file.

    Returns:
        The files, in the order of the names.
    """
    written = []
    for name, model in sorted(models.items()):
        path = directory / f"{name}.schema.json"
        text = json.dumps(json_schema(model), indent=2, sort_keys=True, ensure_ascii=False)
        config.write_atomic(path, text + "\n")
        written.append(path)
    return written


def schemas_command(
    module: str, models: Mapping[str, type[pydantic.BaseModel]], arguments: list[str]
) -> int:
    """Write schemas to the folder that a command line names; return the exit code.

    Args:
        module: The module that is run, for the message on wrong usage.
        models: Models by the name of their file.
        arguments: What follows the module on the command line.
    """
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m {module} FOLDER\n")
        return 2
    for path in export_schemas(Path(arguments[0]), models):
        sys.stdout.write(f"{path}\n")
    return 0
