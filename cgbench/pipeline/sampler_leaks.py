"""Whether a sampler was trained on what it is tested on: frames of stores, or single structures."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from cgbench import registry
from cgbench.models import PotentialSpec
from cgbench.pipeline.leak_rules import sequence_of
from cgbench.pipeline.leaks import check_leaks, track
from cgbench.results import Leak, Track
from cgbench.samplers import SamplerSpec, TrainedOnStructures
from cgbench.splits import sequence_identities

#: Sequences that are compared at once; results of as many systems are kept.
_SYSTEMS_KEPT = 64


def sampler_leak(
    spec: SamplerSpec, system: str, *, asked: Track | None = None, home: Path | None = None
) -> tuple[Track, Leak]:
    """Return the track that a sampler is on when it is tested on a system, and what was found.

    ``leave-one-out`` where nothing like the protein is among what it says that it was trained on;
    else ``sampler``. Frames of stores overlap as those of potentials do. A single structure of the
    protein, or of one like it by the registry's rule, is an overlap on either track: it is what
    models of the sequence are compared with.

    Args:
        spec: What the sampler says of itself.
        system: Registry key.
        asked: The track that was asked for by name.
        home: Data home.
    """
    known = PotentialSpec(name=spec.name, trained_on=spec.trained_on)
    left_out = not spec.trained_on or track(known, system, home=home) == "leave-one-out"
    if spec.structures is None:
        left_out = left_out and bool(spec.trained_on)
        chosen: Track = asked or ("leave-one-out" if left_out else "sampler")
        found = check_leaks(known, system, asked=chosen, home=home)
        return chosen, _said(found, asked)
    overlap, checked = _of_structures(spec.structures, system, home)
    if checked is None:
        return asked or "sampler", Leak(status="unchecked", reason=overlap)
    chosen = asked or ("leave-one-out" if left_out and overlap is None else "sampler")
    found = Leak(status="none")
    if spec.trained_on:
        found = check_leaks(known, system, asked=chosen, home=home)
    overlaps = (*found.overlaps, *(() if overlap is None else (overlap,)))
    merged = found.model_copy(
        update={
            "status": "refused" if overlaps else "none",
            "overlaps": overlaps,
            "checked": found.checked | {"structures": checked},
        }
    )
    return chosen, _said(merged, asked)


def _said(found: Leak, asked: Track | None) -> Leak:
    """Return overlaps as marked, unless a track was claimed."""
    if found.status == "refused" and asked is None:
        return found.model_copy(update={"status": "marked"})
    return found


def _of_structures(
    structures: TrainedOnStructures, system: str, home: Path | None
) -> tuple[str | None, str | None]:
    """Return how single structures overlap with a protein, and what was compared.

    Where nothing can be compared, the reason and None.
    """
    named = (
        f"trained on {structures.n_domains:,} single structures ({structures.split_fingerprint})"
    )
    own = sequence_of(system, None, home)
    if own is None:
        return f"{named}; the sequence of {system} is not known", None
    if not structures.sequences:
        return f"{named} whose sequences are not stated", None
    identities = _identities(own, structures.sequences)
    threshold = registry.sequence_identity().threshold
    closest = f"the closest {100 * float(identities.max()):.0f} % identical with {system}"
    checked = (
        f"{len(identities):,} sequences ({structures.sequences_sha256}) of the split "
        f"{structures.split_fingerprint}; {closest}"
    )
    like = int((identities > threshold).sum())
    if not like:
        return None, checked
    return (
        f"trained on single structures of {like:,} of {len(identities):,} sequences that are more "
        f"than {100 * threshold:g} % identical with that of {system}, {closest}"
    ), checked


@lru_cache(maxsize=_SYSTEMS_KEPT)
def _identities(own: str, sequences: tuple[str, ...]) -> np.ndarray:
    return sequence_identities(own, sequences)
