"""What a model was fitted to or chosen by, and how that overlaps with what it is tested on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgbench import registry
from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate import ReferenceBundle
from cgbench.models import NOT_STATED, PotentialSpec
from cgbench.pipeline.bundles import References, bundle_trajectories, selection_bundle
from cgbench.pipeline.evaluate_system import CANONICAL_SPLIT
from cgbench.pipeline.left_out import local_stores
from cgbench.priors import PriorParameters
from cgbench.splits import Relation, Split, read_split, relation
from cgbench.store import find_split


@dataclass(frozen=True)
class FittedTo:
    """Data that a part of a model was fitted to.

    Attributes:
        what: The part of the model, for sentences.
        system: Whose data.
        sequence: Its sequence, if known.
        split_id: The split.
        split_fingerprint: Its fingerprint.
        store_fingerprint: That of the store.
        part: Part of the split.
    """

    what: str
    system: str
    sequence: str | None
    split_id: str | None
    split_fingerprint: str | None
    store_fingerprint: str | None
    part: str


def fitted_to(
    spec: PotentialSpec, prior: PriorParameters | None, home: Path | None
) -> list[FittedTo]:
    """Return the data that network and prior were fitted to."""
    found = [
        FittedTo(
            "trained on",
            item.system,
            sequence_of(item.system, prior, home),
            None if item.split_id == NOT_STATED else item.split_id,
            item.split_fingerprint,
            item.store_fingerprint,
            item.part,
        )
        for item in spec.trained_on
    ]
    record = None if prior is None else prior.transferable
    found += [
        FittedTo(
            "prior fitted on",
            origin.system,
            origin.sequence,
            origin.split_id,
            origin.split_fingerprint,
            origin.store_fingerprint,
            origin.part,
        )
        for origin in (() if record is None else record.fitted_on)
    ]
    return found


def sequence_of(system: str, prior: PriorParameters | None, home: Path | None) -> str | None:
    """Return the sequence of a system from wherever it is known, or None."""
    known: dict[str, str | None] = {one.key: one.sequence for one in registry.systems()}
    known |= {one.key: one.sequence for one in registry.mutants()}
    if (sequence := known.get(system)) is not None:
        return sequence
    for origin in (
        () if prior is None or prior.transferable is None else prior.transferable.fitted_on
    ):
        if origin.system == system:
            return origin.sequence
    store = local_stores(home).get(system)
    return None if store is None else store.metadata.sequence


def related(
    left_out: str, own: str | None, system: str, sequence: str | None, home: Path | None
) -> Relation | None:
    """Return how training data relate to the tested protein; None where that cannot be told."""
    if system == left_out:
        return Relation(left_out, system, "itself", 1.0)
    try:
        return relation(left_out, system, sequence or sequence_of(system, None, home), own=own)
    except UsageError:
        return None


def shared_trajectories(
    data: FittedTo, system: str, own: str | None, home: Path | None
) -> str | None:
    """Return how training data overlap with the test part of a system, if they do."""
    if data.system != system:
        if own is not None and data.sequence == own:
            return (
                f"{data.what} {data.system}, other data of the same sequence: whether they share "
                f"trajectories with those of {system} cannot be told"
            )
        return None
    if data.split_id is None:
        return (
            f"{data.what} {data.system}, on frames that are not stated: whether the test part is "
            "among them cannot be told"
        )
    if data.part != "train":
        return f"{data.what} part {data.part!r} of {data.split_id}"
    try:
        tested = read_split(find_split(system, CANONICAL_SPLIT, home))
    except UsageError:
        # Without the canonical split no test trajectories are looked at.
        return None
    if data.split_fingerprint == tested.fingerprint:
        return None
    where = f"{data.what} split {data.split_id}"
    if data.store_fingerprint != tested.store_fingerprint:
        return f"{where} of another version of the data than {CANONICAL_SPLIT} here is of"
    trained = _split_of(data, home)
    if trained is None:
        return f"{where}, which is not at hand: what it shares with the test part cannot be told"
    test = tested.frames("test")
    both = int(np.isin(test, trained.frames(data.part), assume_unique=True).sum())
    if not both:
        return None
    return (
        f"{where}: {both:,} of the {len(test):,} test frames of {CANONICAL_SPLIT} were trained on"
    )


def _split_of(data: FittedTo, home: Path | None) -> Split | None:
    """Return the split that data are of, where it is at hand."""
    if data.split_id is None:
        return None
    try:
        found = read_split(find_split(data.system, data.split_id, home))
    except CgbenchError:
        return None
    return found if found.fingerprint == data.split_fingerprint else None


def chosen_by(
    spec: PotentialSpec, system: str, own: str | None, left_out: bool, references: References
) -> list[str]:
    """Return how the choice among several models overlaps with the test on a system.

    Args:
        spec: What the model says of itself.
        system: The system that it is tested on.
        own: Its sequence.
        left_out: Whether nothing of the protein may have been seen.
        references: What it is tested against.
    """
    if spec.selected_by is None:
        return []
    found = []
    how = f"chosen among {spec.best_of_n or 'several'} by {spec.selected_by.metric} on"
    for key, fingerprint in spec.selected_by.references.items():
        kin = related(system, own, key, None, references.home)
        if kin is None or not kin.excluded:
            continue
        if left_out:
            found.append(f"{how} {key}: {kin.reason}")
        elif (overlap := _same_reference(system, own, fingerprint, references)) is not None:
            found.append(f"{how} {overlap}")
    return found


def _same_reference(
    system: str, own: str | None, fingerprint: str, references: References
) -> str | None:
    """Return how a reference that a model was chosen by is one that it is tested against."""
    home, tested = references.home, _reference(references, system)
    if tested is None:
        return None
    if tested.fingerprint == fingerprint:
        return f"the reference of {system}, against which it is tested"
    for other in registry.systems():
        if other.key == system or other.sequence != own:
            continue
        bundle = _reference(References(home=home), other.key)
        if bundle is not None and bundle.fingerprint == fingerprint:
            return (
                f"the reference of {other.key}, other data of the same sequence: whether they "
                f"share trajectories with those of {system} cannot be told"
            )
    store = local_stores(home).get(system)
    if store is None:
        return None
    if tested.store_fingerprint == store.fingerprint:
        return f"trajectories of {system}; the reference here is of all of them, those included"
    path = references.path(system)
    left = bundle_trajectories(path, store.fingerprint)
    if left is None:
        return None
    seen_path = selection_bundle(fingerprint, path, home)
    seen = None if seen_path is None else bundle_trajectories(seen_path, store.fingerprint)
    if seen is None:
        return (
            f"trajectories of {system} that are not known here: whether the {len(left)} of the "
            "reference are among them cannot be told"
        )
    if both := len(seen & left):
        return f"trajectories of {system}: {both} of the {len(left)} of the reference"
    return None


def _reference(references: References, system: str) -> ReferenceBundle | None:
    try:
        return references.bundle(system)
    except CgbenchError:
        return None
