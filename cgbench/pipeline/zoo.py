"""The model zoo as a user sees it: what there is, where it is, and how to get it."""

import shutil
from pathlib import Path
from typing import Literal

from cgbench import registry
from cgbench.config import Frozen, assets_home, data_home, read_text
from cgbench.errors import CgbenchError, UsageError
from cgbench.fetch import Request, Settings, fetch_all
from cgbench.models import PotentialSpec, load_model, model_hash
from cgbench.models.zoo import find_weights, require_hash
from cgbench.progress import Progress, silent
from cgbench.registry import ZooModel

#: ``zoo``: the weights that the registry names; ``own``: a model of the data home's.
Origin = Literal["zoo", "own"]
Place = Literal["shipped", "data home", "not here"]


class ModelEntry(Frozen):
    """A model that can be loaded by name.

    Attributes:
        name: Its name.
        origin: Whether the zoo states its hash, or it is one of the user's own.
        place: Where its weights are.
        path: The file; None where it is not here.
        hash: ``sha256:…`` of its content.
        superseded_by: The name that took its place.
        spec: What it says of itself; None where it is not here or cannot be read.
        problem: Why it cannot be read, and what to do.
    """

    name: str
    origin: Origin
    place: Place
    path: str | None = None
    hash: str | None = None
    superseded_by: str | None = None
    spec: PotentialSpec | None = None
    problem: str | None = None


def list_models(home: Path | None = None) -> list[ModelEntry]:
    """Return the zoo's models, and then those of the data home that have a name of their own."""
    entries = [_zoo_entry(model, home) for model in registry.zoo()]
    known = {entry.name for entry in entries}
    folder = data_home(home) / "models"
    for path in sorted(folder.glob("**/model.pt")):
        name = path.parent.relative_to(folder).as_posix()
        if name not in known:
            entries.append(_described(name, "own", "data home", path, None, None))
    return entries


def get_model(
    name: str,
    home: Path | None = None,
    *,
    out: Path | None = None,
    force: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> ModelEntry:
    """Bring a model of the zoo here and verify it; one that is here is not fetched again.

    Args:
        name: A name of the zoo.
        home: Data home; the default one if None.
        out: A file to copy the weights to.
        force: Whether a file in the way, of other content, is replaced.
        settings: How to fetch.
        progress: Told about the bytes.

    Raises:
        UsageError: No such model, or a file in the way.
        IntegrityError: What is here, or came, is not the model.
    """
    model = registry.zoo_model(name)
    target = data_home(home) / "models" / name / "model.pt"
    if force and target.is_file() and (model.shipped or model.urls):
        target.unlink()
    if not model.shipped and not target.is_file():
        request = Request(
            f"models/{name}/model.pt", model.urls, target, size=model.size, sha256=model.sha256
        )
        _, errors = fetch_all([request], data_home(home), settings or Settings(), progress)
        for error in errors.values():
            raise error
    path = find_weights(name, home)
    require_hash(path, name, model.hash)
    if out is not None:
        if out.exists() and not force:
            raise UsageError(f"{out}: there already", fix="choose another file, or give --force")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out)
    return _zoo_entry(model, home)


def model_card(name: str, home: Path | None = None) -> str | None:
    """Return the card of a model that is here, as Markdown; None where it has none.

    Args:
        name: A name that ``list_models`` shows.
        home: Data home; the default one if None.

    Raises:
        UsageError: No such model, or it is not here.
        IntegrityError: What is here is not the model of that name.
    """
    path = find_weights(name, home).with_name("README.md")
    if not path.is_file():
        # Weights of the zoo that were fetched are those of the card of the package, if it has one.
        path = assets_home() / "models" / name / "README.md"
    return read_text(path) if path.is_file() else None


def _zoo_entry(model: ZooModel, home: Path | None) -> ModelEntry:
    places: tuple[tuple[Place, Path], ...] = (
        ("data home", data_home(home) / "models" / model.name / "model.pt"),
        ("shipped", assets_home() / "models" / model.name / "model.pt"),
    )
    for place, path in places:
        if path.is_file():
            return _described(model.name, "zoo", place, path, model.hash, model.superseded_by)
    return ModelEntry(
        name=model.name, origin="zoo", place="not here", hash=model.hash,
        superseded_by=model.superseded_by,
    )  # fmt: skip


def _described(
    name: str, origin: Origin, place: Place, path: Path, expected: str | None, later: str | None
) -> ModelEntry:
    spec, found, problem = None, expected, None
    try:
        found = model_hash(path)
        if expected is not None:
            require_hash(path, name, expected)
        spec = load_model(path).spec
    except CgbenchError as error:
        problem = error.message
    return ModelEntry(
        name=name, origin=origin, place=place, path=str(path), hash=found, superseded_by=later,
        spec=spec, problem=problem,
    )  # fmt: skip
