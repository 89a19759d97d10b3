"""Reference bundles of several systems in one go: one that fails does not hide the others."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cgbench import registry
from cgbench.config import data_home, write_atomic
from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.evaluate import ReferenceBundle, read_reference, write_reference
from cgbench.evaluate.native import read_native
from cgbench.evaluate.reference_analysis import AnalysedSystem
from cgbench.evaluate.reference_build import build_reference
from cgbench.evaluate.reference_settings import settings_fingerprint
from cgbench.ingest.recipe import Recipe, read_recipe
from cgbench.pipeline.describe import reference_summary
from cgbench.progress import Progress, silent
from cgbench.registry import AnalysisSettings
from cgbench.registry.models import Source
from cgbench.store import (
    REFERENCE_VERSION,
    SystemStore,
    find_native,
    open_store,
)
from cgbench.store.scheduling import Scheduler

#: Stores of reference trajectories beside those of the published training arrays.
_SUFFIX: Final = "-reference"


@dataclass(frozen=True)
class Outcome:
    """What became of one bundle.

    Attributes:
        system: Registry key.
        path: Where the bundle is.
        status: ``built``, ``kept`` because it is of the same data and settings, or ``failed``.
        bundle: The bundle; None where it failed.
        figures: Files that were drawn.
        error: Why it failed.
    """

    system: str
    path: Path
    status: str
    bundle: ReferenceBundle | None = None
    figures: tuple[Path, ...] = ()
    error: CgbenchError | None = None

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        summary = {} if self.bundle is None else reference_summary(self.bundle)
        return {
            "system": self.system,
            "reference": str(self.path),
            "status": self.status,
            "figures": [str(path) for path in self.figures],
            "error": None if self.error is None else self.error.message,
            **summary,
        }


def exit_code(errors: Sequence[CgbenchError | None]) -> int:
    """Return the exit code of the worst failure, 0 where there is none."""
    return max((error.exit_code for error in errors if error is not None), default=0)


def reference_store(system: str, home: Path | None = None) -> SystemStore:
    """Open the store that a system's reference is built from.

    That is the store of its reference trajectories where there is one
    (``cgbench preprocess SYSTEM --from reference``), else the system's own.

    Raises:
        UsageError: There is none.
    """
    separate = data_home(home) / "store" / f"{system}{_SUFFIX}.zarr"
    return open_store(separate if separate.exists() else system, home)


@dataclass(frozen=True)
class OwnSystem:
    """A user's own protein, as a bundle is built of it.

    Attributes:
        key: Name of the system.
        sequence: One letter for each bead.
        temperature: Temperature of the simulation in K.
        analysis: Constants of the slow coordinates and the Markov state model.
    """

    key: str
    sequence: str
    temperature: float
    analysis: AnalysisSettings


def own_system(recipe: Recipe, store: SystemStore) -> OwnSystem:
    """Return the protein of a recipe, with the sequence that its store has.

    Raises:
        UsageError: The recipe names no analysis, or no native structure.
    """
    if recipe.analysis is None or recipe.native is None:
        missing = "analysis" if recipe.analysis is None else "native"
        raise UsageError(
            f"{recipe.key}: the recipe has no {missing}, which a reference bundle needs",
            fix="name analysis (tica_lag_ps and msm_lag_ps at least) and native in the recipe, and "
            "preprocess it again",
        )
    settings = recipe.analysis.model_dump()
    source: dict[str, Source] = dict.fromkeys(settings, "chosen here")
    analysis = AnalysisSettings(**settings, source=source)
    return OwnSystem(recipe.key, store.metadata.sequence, recipe.temperature, analysis)


def build_references(
    systems: Sequence[str],
    *,
    home: Path | None = None,
    recipe: Path | None = None,
    store: Path | None = None,
    out: Path | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    force: bool = False,
    figures: Path | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """Build the bundles of systems, one after the other, each by all workers.

    Args:
        systems: Keys of the registry.
        home: Data home.
        recipe: A user's own protein, by itself or after the systems; it has an ``analysis``.
        store: Store of the one system, where it is not in the data home.
        out: Bundle of the one system; ``<home>/references/<version>/<system>.zarr`` by default.
        scheduler: As :func:`cgbench.evaluate.build_reference`.
        workers: As there.
        force: Build also where a bundle of the same data and settings is there.
        figures: Folder for figures of the diagnostics.
        progress: Called with the system's name before each task.

    Raises:
        UsageError: No system, an unknown one, or several where one is meant; nothing is built then.
    """
    names = [registry.system(name).key for name in dict.fromkeys(systems)]
    own = None if recipe is None else read_recipe(recipe)
    names += [] if own is None else [own.key]
    if not names:
        raise UsageError("which systems?", expected="systems of the registry, or --recipe FILE")
    if len(names) > 1 and (out is not None or store is not None):
        raise UsageError(
            "--out and --store are for one system at a time",
            expected="one system",
            found=f"{len(names)} systems",
        )
    outcomes = []
    for name in names:
        target = out or data_home(home) / "references" / REFERENCE_VERSION / f"{name}.zarr"

        def listen(task: str, done: float, total: float, name: str = name) -> None:
            progress(f"{name} {task}", done, total)

        try:
            opened = reference_store(name, home) if store is None else open_store(store)
            entry: AnalysedSystem = (
                own_system(own, opened)
                if own is not None and name == own.key
                else registry.system(name)
            )
            status, bundle = _build(entry, opened, target, home, scheduler, workers, force, listen)
            drawn = draw_figures(bundle, figures) if figures is not None else ()
            outcomes.append(Outcome(name, target, status, bundle, drawn))
        except CgbenchError as error:
            outcomes.append(Outcome(name, target, "failed", error=error))
    return outcomes


def _build(
    system: AnalysedSystem,
    store: SystemStore,
    target: Path,
    home: Path | None,
    scheduler: Scheduler,
    workers: int,
    force: bool,
    progress: Progress,
) -> tuple[str, ReferenceBundle]:
    kept = None if force else _unchanged(system, store, target, home)
    if kept is not None:
        return "kept", kept
    stages = _Stages(progress)
    start = time.perf_counter()
    bundle = build_reference(
        store, system, home=home, scheduler=scheduler, workers=workers, progress=stages
    )
    seconds = time.perf_counter() - start
    write_reference(
        target,
        bundle,
        {
            "seconds": round(seconds, 3),
            "stages_seconds": {name: round(value, 3) for name, value in stages.seconds.items()},
            "scheduler": scheduler if isinstance(scheduler, str) else "distributed.Client",
            "workers": workers,
            "store": store.path.name if isinstance(store.path, Path) else str(store.path),
        },
    )
    return "built", bundle


class _Stages:
    """Adds up the time that goes by until each task is told of."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._last = time.perf_counter()

    def __call__(self, task: str, done: float, total: float) -> None:
        now = time.perf_counter()
        self.seconds[task] = self.seconds.get(task, 0.0) + now - self._last
        self._last = now
        self._progress(task, done, total)


def current_settings(
    system: AnalysedSystem, store: SystemStore, home: Path | None = None
) -> str | None:
    """Return the fingerprint that a bundle built now would have of its data and settings.

    None where the store does not say its frame interval.
    """
    interval = store.metadata.frame_interval
    if interval is None:
        return None
    native = read_native(find_native(system.key, home), system.sequence)
    return settings_fingerprint(system, store.fingerprint, native, interval)


def _unchanged(
    system: AnalysedSystem, store: SystemStore, target: Path, home: Path | None
) -> ReferenceBundle | None:
    """Return the bundle that is there, if it is whole and of the same data and settings."""
    if not target.exists():
        return None
    try:
        bundle = read_reference(target)
    except IntegrityError:
        # Damaged, or of another version: it is replaced once the new one is complete.
        return None
    same = bundle.metadata.settings_fingerprint == current_settings(system, store, home)
    return bundle if same else None


def draw_figures(bundle: ReferenceBundle, folder: Path) -> tuple[Path, ...]:
    """Write the figures of a bundle's diagnostics as SVG and PNG; return the files."""
    from cgbench.report.diagnostics import diagnostic_figures

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in diagnostic_figures(bundle):
        for suffix, content in (("svg", figure.svg), ("png", figure.png)):
            path = folder / f"{bundle.system}-{figure.name}.{suffix}"
            write_atomic(path, content)
            written.append(path)
    return tuple(written)
