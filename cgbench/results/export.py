"""JSON schemas of the file formats, exported from the code that reads them."""

import json
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
