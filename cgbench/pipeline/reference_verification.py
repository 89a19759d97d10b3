"""Verifying reference bundles: content, store, settings, and building them again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.evaluate import ReferenceBundle, read_reference
from cgbench.evaluate.reference_build import build_reference
from cgbench.pipeline.references import current_settings, reference_store
from cgbench.progress import Progress, silent
from cgbench.store import find_reference, open_store
from cgbench.store.scheduling import Scheduler

#: Largest differences of a rebuilt bundle that another processor's rounding explains.
_EIGENVALUE_ROUNDING: Final = 1e-5
_POPULATION_ROUNDING: Final = 0.02


@dataclass(frozen=True)
class Verification:
    """What verifying one bundle found.

    Attributes:
        system: What was asked for.
        path: The bundle; None where there is none.
        fingerprint: Of its content; None where it is damaged.
        store: ``same``, ``other`` data now, or ``absent``.
        settings: ``same``, ``other`` settings in the registry now, or ``unknown`` without store.
        rebuilt: None unless asked for; ``identical``, or ``equal within rounding``.
        differences: Largest differences of a rebuilt bundle.
        error: What is wrong.
    """

    system: str
    path: Path | None
    fingerprint: str | None = None
    store: str = "absent"
    settings: str = "unknown"
    rebuilt: str | None = None
    differences: dict[str, float] | None = None
    error: CgbenchError | None = None

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "system": self.system,
            "reference": None if self.path is None else str(self.path),
            "intact": self.fingerprint is not None,
            "fingerprint": self.fingerprint,
            "store": self.store,
            "settings": self.settings,
            "rebuilt": self.rebuilt,
            "differences": self.differences,
            "error": None if self.error is None else self.error.message,
        }


def verify_reference(
    name: str,
    *,
    home: Path | None = None,
    store: Path | None = None,
    rebuild: bool = False,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    progress: Progress = silent,
) -> Verification:
    """Check a bundle's content against its fingerprint, its store and the registry.

    Args:
        name: A system, or a bundle's path.
        home: Data home.
        store: The store it was built from, where that is not in the data home.
        rebuild: Build it again from the store, and compare.
        scheduler: Who builds it again.
        workers: Groups of frames worked on at a time.
        progress: Told how far the building is.
    """
    path: Path | None = None
    try:
        path = find_reference(name, home)
        bundle = read_reference(path)
    except CgbenchError as error:
        return Verification(name, path, error=error)
    found: dict[str, Any] = {"system": name, "path": path, "fingerprint": bundle.fingerprint}
    try:
        system = registry.system(bundle.system)
        opened = reference_store(system.key, home) if store is None else open_store(store)
    except UsageError as error:
        return Verification(**found, error=error if rebuild or store is not None else None)
    try:
        same = opened.fingerprint == bundle.store_fingerprint
        found["store"] = "same" if same else "other"
        now = current_settings(system, opened, home)
        if same:
            found["settings"] = "same" if now == bundle.metadata.settings_fingerprint else "other"
        if not rebuild:
            return Verification(**found)
        if not same:
            raise IntegrityError(
                f"{path}: not built from the frames of {opened.path}",
                expected=bundle.store_fingerprint,
                found=opened.fingerprint,
                fix=f"cgbench reference build {system.key} builds it from these",
            )
        again = build_reference(
            opened,
            system,
            seed=bundle.metadata.seed,
            n_resamples=bundle.metadata.n_resamples,
            home=home,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )
        found["differences"] = bundle_differences(bundle, again)
        found["rebuilt"] = _same_bundle(bundle, again, found["differences"], path)
    except CgbenchError as error:
        return Verification(**found, error=error)
    return Verification(**found)


def bundle_differences(first: ReferenceBundle, second: ReferenceBundle) -> dict[str, float]:
    """Return the largest differences of two bundles of the same frames.

    Raises:
        IntegrityError: They are not of equally many frames and components.
    """
    _largest(first.observables.microstate, second.observables.microstate)
    populations = [bundle.metadata.folded_population.value for bundle in (first, second)]
    eigenvalues = _largest(first.tica.eigenvalues, second.tica.eigenvalues)
    same = first.observables.microstate == second.observables.microstate
    return {
        "eigenvalues": eigenvalues,
        "tics": _largest(first.observables.tics, second.observables.tics),
        "rmsd": _largest(first.observables.rmsd, second.observables.rmsd),
        "q": _largest(first.observables.q, second.observables.q),
        "folded_population": abs(populations[0] - populations[1]),
        "frames_in_another_microstate": float(1.0 - np.mean(same)),
    }


def _largest(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    if first.shape != second.shape:
        raise IntegrityError(
            "building the bundle again gives arrays of another size",
            expected=first.shape,
            found=second.shape,
        )
    return float(np.abs(first.astype(np.float64) - second).max(initial=0.0))


def _same_bundle(
    bundle: ReferenceBundle, again: ReferenceBundle, differences: dict[str, float], path: Path
) -> str:
    if bundle.fingerprint == again.fingerprint:
        return "identical"
    if (
        differences["eigenvalues"] <= _EIGENVALUE_ROUNDING
        and differences["folded_population"] <= _POPULATION_ROUNDING
    ):
        return "equal within rounding"
    raise IntegrityError(
        f"{path}: building it again gives something else",
        expected=bundle.fingerprint,
        found=", ".join(f"{name} differ by {value:.3g}" for name, value in differences.items()),
        fix="'cgbench reference build --force' replaces it",
    )
