"""Writes docs/format-fields-*.md, the fields of the JSON and YAML formats, from their models.

    python docs/format_tables.py

Types and defaults are those of the code. Meanings are the docstrings' own, or those of
docs/format_meanings.yaml where a class describes its fields in running text.
"""

import inspect
import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, Final, Literal, Union

import pydantic
import yaml

from cgbench.leaderboard.schemas import FORMATS as BOARD_FORMATS
from cgbench.pipeline.schemas import FORMATS

HERE: Final = Path(__file__).parent
MEANINGS: Final = HERE / "format_meanings.yaml"

#: For each page its title, and schema, title and place of every format on it.
PAGES: Final = {
    "data": (
        "data",
        (
            ("store-manifest", "Store", "`manifest.json` of a store"),
            ("split", "Split", "`<split>.json`"),
            ("reference-metadata", "Reference bundle", "attribute `metadata` of a bundle"),
            ("force-map", "Force map", "`<map>.json` beside its `.npz`"),
            ("recipe", "Recipe", "`<key>.yaml` of data of one's own"),
        ),
    ),
    "models": (
        "models and runs",
        (
            ("prior-parameters", "Prior", "`prior.json`, and `prior` in `model.pt`"),
            ("potential-spec", "Model", "`spec` in `model.pt` and in results"),
            ("training-config", "Training configuration", "`config.yaml`"),
            ("training-outcome", "Training", "`training.json`"),
            ("trajectory-attributes", "Ensemble", "attributes of a group of `trajectories.zarr`"),
            ("simulation-record", "Simulation", "`trajectories.<system>.run.json`"),
            ("conformance-report", "Conformance report", "`check/<system>.json`"),
        ),
    ),
    "results": (
        "results",
        (
            ("result", "Result", "`result.json`"),
            ("provenance", "Provenance", "`provenance.json`, and part of results"),
            ("scored-row", "Scored row", "`scored/<system>.json`"),
        ),
    ),
    "board": (
        "comparisons and submissions",
        (
            ("run-comparison", "Comparison", "what `cgbench compare A B --out FILE` writes"),
            ("mutants-outcome", "Mutants", "`mutants.json`"),
            ("submission", "Submission", "`submissions/<family>/<name>/<date>.json`"),
            ("model-record", "Model record", "`models/<family>/<name>.yml`"),
        ),
    ),
}
_HEAD: Final = """# Fields: {title}

Written from the code by `python docs/format_tables.py`. How the files hang together, and the
arrays, are described in [formats](formats.md). A field without a default must be there. Unknown
fields are refused.
"""
_SIMPLE: Final = {
    str: "text", float: "number", int: "integer", bool: "true or false", type(None): "null",
    Any: "anything", pydantic.JsonValue: "anything",
}  # fmt: skip


def described(model: type[pydantic.BaseModel], extra: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the meaning of every field of a model.

    Raises:
        ValueError: A field is described nowhere, or here and in the docstring.
    """
    found: dict[str, str] = {}
    if "format" in model.model_fields:
        found |= {"format": "name of the format", "version": "version of the format"}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        if section := re.search(r"^Attributes:\n((?: +.*\n?|\n)*)", text, re.MULTILINE):
            entries = re.findall(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", section[1], re.MULTILINE)
            found |= {name: " ".join(meaning.split()) for name, meaning in entries}
    mine = extra.get(model.__name__, {})
    if twice := {*mine} & {*found}:
        raise ValueError(f"{model.__name__}: described twice: {sorted(twice)}")
    found |= mine
    if lost := [name for name in model.model_fields if name not in found]:
        raise ValueError(f"{model.__name__}: described nowhere: {lost}")
    if old := {*mine} - {*model.model_fields}:
        raise ValueError(f"{model.__name__}: no such fields: {sorted(old)}")
    return found


def kind(annotation: Any) -> str:
    """Return the type of a field in words."""
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if isinstance(annotation, typing.TypeAliasType if sys.version_info >= (3, 12) else ()):
        return kind(annotation.__value__)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind(inner[0])
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind(one) for one in inner))
    if origin in (tuple, list, frozenset, set):
        if origin is tuple and len(inner) > 1 and inner[-1] is not Ellipsis:
            return f"{len(inner)} × {kind(inner[0])}"
        return f"list of {kind(inner[0])}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, typing.Mapping):
        return f"{kind(inner[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation.__name__
    return getattr(annotation, "__name__", str(annotation))


def parts(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """Return the models that a field consists of."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in parts(inner)]


def whole(model: type[pydantic.BaseModel]) -> list[type[pydantic.BaseModel]]:
    """Return a model and all models inside it, outermost first."""
    found = [model]
    for one in found:
        for field in one.model_fields.values():
            found += [part for part in parts(field.annotation) if part not in found]
    return found


def shown(value: Any) -> str:
    """Return a default as it is written in JSON."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def table(model: type[pydantic.BaseModel], extra: dict[str, dict[str, str]]) -> str:
    """Return the fields of a model as a table of Markdown."""
    meanings = described(model, extra)
    rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        default = ""
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            default = "its own" if isinstance(value, pydantic.BaseModel) else shown(value)
        meaning = meanings[name].rstrip(".").replace("|", "\\|").replace("``", "`")
        meaning = re.sub(r"\bNone\b", "null", meaning[:1].upper() + meaning[1:])
        rows.append(f"| `{name}` | {kind(field.annotation)} | {default} | {meaning} |")
    return "\n".join(rows)


def pages() -> dict[Path, str]:
    """Return the text of every page by its path.

    Raises:
        ValueError: A field is described nowhere, or twice.
    """
    extra: dict[str, dict[str, str]] = yaml.safe_load(MEANINGS.read_text(encoding="utf-8"))
    formats = {**FORMATS, **BOARD_FORMATS}
    found, shown = {}, set[str]()
    for name, (title, sections) in PAGES.items():
        blocks = [_HEAD.format(title=title)]
        for schema, heading, place in sections:
            blocks.append(f"## {heading}\n\n{place}; schema `{schema}`.\n")
            for model in whole(formats[schema]):
                if model.__name__ not in shown:
                    shown.add(model.__name__)
                    blocks.append(f"### {model.__name__}\n\n{table(model, extra)}\n")
        found[HERE / f"format-fields-{name}.md"] = "\n".join(blocks)
    if unknown := extra.keys() - shown:
        raise ValueError(f"{MEANINGS.name}: no such formats: {sorted(unknown)}")
    return found


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
