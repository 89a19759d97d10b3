"""Stores of several systems in one go: one that fails does not hide the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from cgbench import registry
from cgbench.config import data_home
from cgbench.errors import CgbenchError, UsageError
from cgbench.ingest.folder import preprocess_folder
from cgbench.ingest.preprocess import WriteOptions
from cgbench.ingest.recipe import read_recipe
from cgbench.ingest.recipe_store import preprocess_recipe
from cgbench.ingest.stream_store import preprocess_stream
from cgbench.ingest.trajectories import ARCHIVES, preprocess_trajectories
from cgbench.progress import Progress, silent
from cgbench.store import Manifest

#: The published training arrays, or the reference trajectories.
Origin = Literal["training", "reference"]


@dataclass(frozen=True)
class Inputs:
    """Where the frames of systems come from.

    Attributes:
        origin: Training arrays or reference trajectories.
        stream: Read arrays from the server instead of from files.
        raw: Folder of raw files, or of a recipe's; ``<home>/raw/<system>`` by default, and
            ``<home>/raw/<system>/reference`` for reference trajectories.
        mirror: Address that streaming tries before the origin.
        force_maps: Which maps to store; all that are found by default.
        boundaries: Reference trajectories, folders or archives, that say where the trajectories of
            training arrays begin.
    """

    origin: Origin = "training"
    stream: bool = False
    raw: Path | None = None
    mirror: str | None = None
    force_maps: tuple[str, ...] | None = None
    boundaries: tuple[Path, ...] = ()

    def check(self, n_stores: int, out: Path | None, recipe: Path | None) -> None:
        """Check that the inputs go together.

        Raises:
            UsageError: They do not.
        """
        if recipe is not None:
            inapplicable = {
                "--stream": self.stream,
                "--mirror": self.mirror is not None,
                "--from reference": self.origin == "reference",
                "--force-map": self.force_maps is not None,
                "--boundaries": bool(self.boundaries),
            }
            for name in [name for name, given in inapplicable.items() if given]:
                raise UsageError(f"--recipe and {name}", fix=f"say it in {recipe}")
        elif n_stores == 0:
            raise UsageError(
                "which systems?",
                expected="systems of the registry, or --recipe FILE",
                fix="'cgbench download --list' names the systems",
            )
        if n_stores > 1 and (out is not None or self.raw is not None):
            raise UsageError(
                "--out and --raw are for one store at a time",
                expected="one system",
                found=f"{n_stores} systems",
            )
        if self.mirror is not None and not self.stream:
            raise UsageError(
                "--mirror is for --stream", fix="'cgbench download' has one of its own"
            )
        if self.stream and (self.origin == "reference" or self.raw is not None):
            raise UsageError(
                "only published training arrays are streamed", fix="leave --stream out"
            )
        if self.boundaries and (self.stream or self.origin == "reference"):
            raise UsageError("--boundaries is for training arrays in files")


@dataclass(frozen=True)
class Outcome:
    """What became of one store: its manifest, or the error."""

    system: str
    path: Path
    manifest: Manifest | None
    error: CgbenchError | None

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "system": self.system,
            "store": str(self.path),
            "manifest": None if self.manifest is None else self.manifest.model_dump(mode="json"),
            "error": None if self.error is None else self.error.message,
        }


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the exit code of the worst failure, 0 where there is none."""
    return max((one.error.exit_code for one in outcomes if one.error is not None), default=0)


def preprocess_all(
    systems: Sequence[str],
    inputs: Inputs,
    *,
    home: Path | None = None,
    recipe: Path | None = None,
    out: Path | None = None,
    **options: Unpack[WriteOptions],
) -> list[Outcome]:
    """Make the stores of systems, one after the other, and of a recipe.

    Args:
        systems: Keys of the registry.
        inputs: Where frames come from.
        home: Data home.
        recipe: A user's own protein, by itself or after the systems.
        out: Folder of the store, where there is one; ``<home>/store/<system>.zarr`` by default.
        options: As for :func:`cgbench.ingest.preprocess_source`; ``progress`` is called with the
            system's name before each task.

    Raises:
        UsageError: A system is unknown, or inputs do not go together; nothing is written then.
    """
    names = [registry.system(name).key for name in dict.fromkeys(systems)]
    inputs.check(len(names) + (recipe is not None), out, recipe)
    recipes = {} if recipe is None else {read_recipe(recipe).key: recipe}
    progress = options.get("progress", silent)
    suffix = "-reference" if inputs.origin == "reference" else ""
    outcomes = []
    for name in [*names, *recipes]:
        path = out or data_home(home) / "store" / f"{name}{suffix}.zarr"
        options["progress"] = _named(name, progress)
        manifest, error = None, None
        try:
            if name in recipes:
                manifest = preprocess_recipe(recipes[name], home, path, raw=inputs.raw, **options)
            else:
                manifest = _one(name, inputs, path, data_home(home), options)
        except CgbenchError as failure:
            error = failure
        except OSError as failure:
            # A full disk or a folder that may not be written: a fact about the machine.
            if failure.errno is None:
                raise
            error = UsageError(
                f"{failure.filename or path}: {failure.strerror}",
                fix="check the path, its permissions and the free space; finished shards are kept",
            )
        outcomes.append(Outcome(name, path, manifest, error))
    return outcomes


def _named(name: str, progress: Progress) -> Progress:
    def told(task: str, done: float, total: float) -> None:
        progress(f"{name}: {task}", done, total)

    return told


def _one(name: str, inputs: Inputs, path: Path, home: Path, options: WriteOptions) -> Manifest:
    system = registry.system(name)
    raw = inputs.raw or home / "raw" / name
    if inputs.stream:
        return preprocess_stream(
            system,
            path,
            home=home,
            mirror=inputs.mirror,
            force_maps=inputs.force_maps,
            **options,
        )
    if inputs.origin == "reference":
        folder = inputs.raw or raw / "reference"
        if not folder.exists():
            raise UsageError(
                f"{folder}: no reference trajectories",
                fix=f"cgbench download {name} --kind reference",
            )
        found = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        archives = [file for file in found if file.name.lower().endswith(ARCHIVES)]
        return preprocess_trajectories(
            system, archives or [folder], path, force_maps=inputs.force_maps, **options
        )
    return preprocess_folder(
        system,
        raw,
        path,
        force_maps=inputs.force_maps,
        boundaries=inputs.boundaries or None,
        **options,
    )
