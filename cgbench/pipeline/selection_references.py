"""References that models are chosen by: of other trajectories than those of the evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from cgbench import config, registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import ReferenceBundle, read_reference, write_reference
from cgbench.evaluate.native import read_native
from cgbench.evaluate.reference_analysis import ReferenceInput
from cgbench.evaluate.reference_build import build_from_trajectories
from cgbench.evaluate.stored_trajectories import store_trajectories
from cgbench.pipeline.bundles import EVALUATION, VALIDATION
from cgbench.pipeline.references import reference_store
from cgbench.progress import Progress, silent
from cgbench.store import SystemStore, find_native, find_reference, open_store
from cgbench.train import SelectionSettings

#: Two trajectories whose first frames differ less than this in every distance of two beads, in Å,
#: are the same one; coordinates kept as 16-bit integers differ by a thousandth.
_SAME: Final = 0.01
#: Share of the trajectories where the settings name nothing.
_SHARE: Final = 0.2


@dataclass(frozen=True, eq=False)
class Target:
    """What candidates are simulated on and scored against.

    Attributes:
        system: The system that was trained on.
        simulated: Registry key of the system that is simulated: the same protein.
        bundle: The reference.
        described: Where it is from.
        evaluation: Bundle of the trajectories that are left for the evaluation; None where that has
            a reference of its own.
    """

    system: str
    simulated: str
    bundle: ReferenceBundle
    described: str
    evaluation: Path | None = None


def selection_targets(
    systems: Sequence[str],
    settings: SelectionSettings | None = None,
    home: Path | None = None,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> list[Target]:
    """Return a reference for each system, built where it is not there yet.

    Args:
        systems: Systems that candidates were trained on.
        settings: Where references come from; by default from a fifth of the trajectories.
        home: Data home.
        workers: Groups of frames that are worked on at a time where a bundle is built.
        progress: Told what is being done.

    Raises:
        UsageError: A reference or a store is not at hand, or has no known trajectories.
        ValidationError: The reference is of another protein, or of the data that are trained on or
            evaluated with.
    """
    chosen = settings or SelectionSettings()
    if chosen.reference_system is not None and len(systems) > 1:
        raise UsageError(
            "selection: reference_system is for one system",
            expected="selection.trajectories for several",
            found=", ".join(systems),
        )
    found = []
    for system in systems:
        other = chosen.reference_system
        if other is not None:
            found.append(_of_other_system(system, other, home))
        else:
            share = chosen.trajectories or _SHARE
            found.append(_of_share(system, share, chosen.seed, home, workers, progress))
    return found


def _of_other_system(system: str, other: str, home: Path | None) -> Target:
    bundle = read_reference(find_reference(other, home))
    store = open_store(system, home)
    if bundle.metadata.sequence != store.metadata.sequence:
        raise ValidationError(
            f"selection: {other} is not the protein {system}",
            expected=store.metadata.sequence,
            found=bundle.metadata.sequence,
        )
    if other == system or bundle.metadata.store_fingerprint == store.fingerprint:
        raise ValidationError(
            f"selection: the reference of {other} is of the trajectories that are trained on",
            fix="name a system with other trajectories, or set selection.trajectories to a share",
        )
    if shared := _shared_trajectories(store, open_store(other, home)):
        raise ValidationError(
            f"selection: {other} holds trajectories that {system} is trained on or evaluated with",
            expected="other trajectories of the same protein",
            found=f"{shared} of {store.n_trajectories} trajectories in both",
            fix="set selection.trajectories to a share instead",
        )
    return Target(system, other, bundle, f"reference bundle of {other}, other trajectories")


def _shared_trajectories(one: SystemStore, other: SystemStore) -> int:
    """Return how many trajectories of a store are in another too, wherever they lie in space."""
    first, second = (_first_distances(store) for store in (one, other))
    return int((cdist(first, second, metric="chebyshev").min(axis=1) < _SAME).sum())


def _first_distances(store: SystemStore) -> NDArray[np.float64]:
    """Return all distances of two beads in the first frame of each trajectory, in Å."""
    starts = np.asarray(store.trajectory_bounds, dtype=np.int64)[:, 0]
    coordinates = store.coordinates()
    return np.array([pdist(np.asarray(coordinates[start], np.float64)) for start in starts])


def chosen_trajectories(n: int, share: float, seed: int) -> NDArray[np.int64]:
    """Return the numbers of the trajectories that a selection may see, ascending.

    At least one, and at least one is left.

    Raises:
        ValidationError: There are fewer than two.
    """
    if n < 2:
        raise ValidationError(
            "selection: one trajectory cannot be shared between selection and evaluation",
            expected="two trajectories or more",
            found=n,
        )
    number = min(n - 1, max(1, round(share * n)))
    order = np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")
    return np.sort(order[:number]).astype(np.int64)


def _of_share(
    system: str,
    share: float,
    seed: int,
    home: Path | None,
    workers: int,
    progress: Progress,
) -> Target:
    store = reference_store(system, home)
    if not store.metadata.trajectories_known or store.metadata.frame_interval is None:
        raise UsageError(
            f"{store.path}: a share of the trajectories needs trajectories that are known",
            fix=f"cgbench preprocess {system} --from reference, or name selection.reference_system",
        )
    taken = chosen_trajectories(store.n_trajectories, share, seed)
    left = np.setdiff1d(np.arange(store.n_trajectories), taken)
    folder = config.data_home(home) / "references" / "selection" / f"{system}-{share:g}-{seed}"
    validation, evaluation = folder / VALIDATION, folder / EVALUATION
    bundle = _bundle(store, system, taken, validation, home, workers, progress)
    _bundle(store, system, left, evaluation, home, workers, progress)
    described = (
        f"{len(taken)} of {store.n_trajectories} trajectories of {system}, drawn with seed {seed}; "
        f"the other {len(left)} are {evaluation.relative_to(config.data_home(home))}"
    )
    return Target(system, system, bundle, described, evaluation)


def _bundle(
    store: SystemStore,
    system: str,
    trajectories: NDArray[np.int64],
    path: Path,
    home: Path | None,
    workers: int,
    progress: Progress,
) -> ReferenceBundle:
    """Return the bundle of some trajectories; what is there of the same is kept."""
    entry = registry.system(system)
    identity = config.fingerprint(
        {"store": store.fingerprint, "trajectories": trajectories.tolist()}
    )
    try:
        kept = read_reference(path)
        if kept.metadata.store_fingerprint == identity:
            return kept
    except (IntegrityError, UsageError):
        # Not there, or not whole: it is made anew.
        pass
    sequences: list[Any] = store_trajectories(store)
    bounds = np.asarray(store.trajectory_bounds, dtype=np.int64)
    valid = np.asarray(store.valid, dtype=bool)
    interval = store.metadata.frame_interval
    try:
        bundle = build_from_trajectories(
            ReferenceInput(
                system=entry,
                trajectories=[sequences[index] for index in trajectories],
                valid=np.concatenate([valid[start:stop] for start, stop in bounds[trajectories]]),
                native=read_native(find_native(system, home), entry.sequence),
                frame_interval=1.0 if interval is None else interval,
                store_fingerprint=identity,
                synthetic=store.metadata.synthetic,
            ),
            workers=workers,
            progress=lambda task, done, total: progress(f"{path.stem} {task}", done, total),
        )
    except CgbenchError as error:
        raise ValidationError(
            f"{system}: no reference can be built of {len(trajectories)} trajectories for the "
            f"{path.stem}",
            found=error.message,
            fix="choose another selection.trajectories, or selection.reference_system",
        ) from error
    write_reference(path, bundle, {"trajectories": trajectories.tolist(), "part": path.stem})
    return bundle
