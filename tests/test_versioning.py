"""The page on versions says what the code says."""

import re
import typing
from pathlib import Path
from typing import Any

import pydantic

import cgbench
from cgbench import registry
from cgbench.data.order import MEMORY_ORDER, STREAM_ORDER
from cgbench.evaluate import reference_file
from cgbench.models import files as model_files
from cgbench.results.schema import RESULT_VERSION, Result
from cgbench.store import schema, trajectory_schema
from cgbench.store.locate import REFERENCE_VERSION

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "versioning.md").read_text(encoding="utf-8")


def table(first: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first heading this is, by their first cell."""
    start = PAGE.index(f"| {first} |")
    lines = PAGE[start:].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def joined(versions: set[int]) -> str:
    return " or ".join(str(one) for one in sorted(versions))


def test_versions_of_what_is_computed() -> None:
    now = {name: cells[0] for name, cells in table("what").items()}
    assert now["the suite"] == cgbench.__version__
    own = {spec.version for spec in registry.metrics() if ":" not in spec.id}
    assert now["each metric"] == joined(own)
    assert now["each protocol"] == joined({protocol.version for protocol in registry.protocols()})
    assert now["reference bundles"] == REFERENCE_VERSION


def test_versions_of_files() -> None:
    now = {name: cells[0] for name, cells in table("format").items()}
    assert now == {
        "store": schema.SCHEMA_VERSION,
        "simulated ensembles": trajectory_schema.SCHEMA_VERSION,
        "reference bundle": reference_file.VERSION,
        "model": joined(set(range(1, model_files.VERSION + 1))),
        "result": str(RESULT_VERSION),
        "order of training frames": f"{STREAM_ORDER}, {MEMORY_ORDER}",
    }


def test_formats_call_themselves_what_the_page_calls_them() -> None:
    cells = {name: cells[1] for name, cells in table("format").items()}
    assert schema.FORMAT in cells["store"]
    assert trajectory_schema.FORMAT in cells["simulated ensembles"]
    assert reference_file.FORMAT in cells["reference bundle"]
    assert model_files.FORMAT in cells["model"]
    assert str(Result.model_fields["format"].default) in cells["result"]


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:cgbench|conda|\.ci|docs)/[\w./-]+)`", PAGE):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"`(cgbench\.[\w.]+)`", PAGE):
        module, _, attribute = name.rpartition(".")
        namespace = __import__(module, fromlist=[attribute])
        assert hasattr(namespace, attribute), name


def inner(annotation: Any) -> type[pydantic.BaseModel] | None:
    """Return the model of a field, which may also be none."""
    for one in (annotation, *typing.get_args(annotation)):
        if isinstance(one, type) and issubclass(one, pydantic.BaseModel):
            return one
    return None


def test_places_in_a_result() -> None:
    named = {
        name for cells in table("what").values() for name in re.findall(r"`([\w.]+)`", cells[-1])
    }
    assert len(named) >= 5
    for name in named:
        model: type[pydantic.BaseModel] | None = Result
        for part in name.split("."):
            assert model is not None, name
            assert part in model.model_fields, name
            model = inner(model.model_fields[part].annotation)
