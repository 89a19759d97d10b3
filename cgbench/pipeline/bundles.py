"""The reference bundles that an evaluation scores against: those of the data home, or of a folder.

A selection by a share of the trajectories keeps two bundles, ``validation.zarr`` of those that a
model was chosen by and ``evaluation.zarr`` of all others; see
:mod:`cgbench.pipeline.selection_references`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import zarr

from cgbench import config, registry
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.evaluate import ReferenceBundle, read_reference
from cgbench.store import find_reference

#: Bundles of a selection, of the trajectories that are left and of those that it saw.
EVALUATION: Final = "evaluation.zarr"
VALIDATION: Final = "validation.zarr"


@dataclass(frozen=True)
class References:
    """Where references are looked for.

    Attributes:
        folder: Folder named by the user: one with ``<system>.zarr``, that of a selection, the one
            above several of those, or a bundle itself. None for the data home, and the references
            of the package. Nothing is taken from the home where a folder is named.
        home: Data home.
    """

    folder: Path | None = None
    home: Path | None = None

    def path(self, system: str) -> Path:
        """Return the bundle of a system.

        Raises:
            UsageError: There is none, or more than one.
        """
        if self.folder is None:
            return find_reference(system, self.home)
        folder = self.folder.expanduser()
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder of reference bundles")
        if folder.suffix == ".zarr":
            return folder
        named, chosen = folder / f"{system}.zarr", folder / EVALUATION
        if named.is_dir():
            return named
        if chosen.is_dir():
            return chosen
        below = sorted(folder.glob(f"{system}-*/{EVALUATION}"))
        # A key may begin another one: chignolin-sample and chignolin-sample-v2.
        below = [path for path in below if _of_selection(path.parent.name) == system]
        if len(below) == 1:
            return below[0]
        raise UsageError(
            f"{folder}: {'several references' if below else 'no reference'} of {system}",
            expected=f"{system}.zarr, {EVALUATION} or one {system}-…/{EVALUATION} there",
            found=", ".join(path.parent.name for path in below)
            or ", ".join(sorted(path.name for path in folder.glob("*.zarr"))[:20])
            or "no bundle",
            fix="name the folder with the bundle, or leave --references away",
        )

    def bundle(self, system: str) -> ReferenceBundle:
        """Read the bundle of a system.

        Raises:
            UsageError: It is not there.
            IntegrityError: It is damaged.
            ValidationError: A folder was named, and the bundle is of another system.
        """
        path = self.path(system)
        bundle = read_reference(path)
        if self.folder is not None:
            sequence = registry.system(system).sequence
            if (bundle.system, bundle.sequence) != (system, sequence):
                raise ValidationError(
                    f"{path}: not a reference of {system}",
                    expected=f"{system}, {sequence}",
                    found=f"{bundle.system}, {bundle.sequence}",
                    fix="name a folder with its reference, or the systems with --system",
                )
        return bundle

    def told(self, bundle: ReferenceBundle) -> list[str]:
        """Return what a reader of scores must know of a reference that is not the usual one."""
        if self.folder is None:
            return []
        facts = bundle.metadata
        return [
            "Scored against a reference that was named and not the one that other models are "
            f"scored against: {bundle.fingerprint[:19]}…, of {facts.n_trajectories} trajectories "
            f"and {facts.n_frames:,} frames."
        ]


def _of_selection(name: str) -> str:
    """Return the system of a folder ``<system>-<share>-<seed>``."""
    return name.rsplit("-", 2)[0]


def bundle_trajectories(path: Path, store_fingerprint: str) -> frozenset[int] | None:
    """Return which trajectories of a store a bundle is of, where it says so and that is proven.

    Args:
        path: A bundle that :func:`cgbench.evaluate.read_reference` has read.
        store_fingerprint: The store whose trajectories are numbered.
    """
    try:
        attributes = zarr.open_group(path, mode="r").attrs
        listed = dict(attributes["build"])["trajectories"]  # type: ignore[arg-type]
        known = dict(attributes["metadata"])["store_fingerprint"]  # type: ignore[arg-type]
        numbers = np.asarray(listed, dtype=np.int64).reshape(-1).tolist()
    except (KeyError, TypeError, ValueError, OSError, OverflowError):
        return None
    # The list is no part of what the bundle's fingerprint is over, this is.
    own = config.fingerprint({"store": store_fingerprint, "trajectories": numbers})
    return frozenset(numbers) if own == known else None


def selection_bundle(fingerprint: str, tested: Path | None, home: Path | None) -> Path | None:
    """Return the bundle that a model was chosen by, where it is at hand.

    Args:
        fingerprint: That of the bundle, as the model says.
        tested: The bundle that it is tested against, beside which it may lie.
        home: Data home, whose selections are looked through.
    """
    places = [] if tested is None else [tested.parent / VALIDATION]
    folder = config.data_home(home) / "references" / "selection"
    places += sorted(folder.glob(f"*/{VALIDATION}"))
    for place in places:
        try:
            if read_reference(place).fingerprint == fingerprint:
                return place
        except CgbenchError:
            continue
    return None
