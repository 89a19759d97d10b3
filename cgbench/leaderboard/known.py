"""What the leaderboard knows: reference bundles and splits, and which systems count on a track."""

import json
from functools import cache

from cgbench import registry
from cgbench.config import assets_home
from cgbench.registry import KnownReference
from cgbench.results import Result, Track
from cgbench.splits import read_split

#: Rows over the twelve published proteins, or the eleven variants.
PUBLISHED = "published"


def known_reference(system: str) -> KnownReference | None:
    """Return what results of a system are scored against; None where no bundle is known."""
    return _known().get(system)


@cache
def _known() -> dict[str, KnownReference]:
    found = {one.system: one for one in registry.known_references()}
    for entry in registry.systems():
        versions = sorted((assets_home() / "references").glob(f"*/{entry.key}.zarr"))
        if not entry.embedded or not versions:
            continue
        # The package's own files; their content is verified whenever they are read as a whole.
        content = json.loads((versions[-1] / "zarr.json").read_text(encoding="utf-8"))
        splits = sorted((assets_home() / "splits" / entry.key).glob("*.json"))
        found[entry.key] = KnownReference(
            system=entry.key,
            version=versions[-1].parent.name,
            fingerprint=content["attributes"]["fingerprint"],
            splits={path.stem: read_split(path).fingerprint for path in splits},
        )
    return found


def unregistered_systems(result: Result) -> tuple[str, ...]:
    """Return the systems of a result whose reference nobody has registered yet.

    What they were scored against is named by its fingerprint and known to their authors alone: a
    reference made of a model's own frames would score it best.

    Args:
        result: The result; variants have no reference of their own.
    """
    if result.track == "mutants":
        return ()
    scored = [item.system for item in result.systems if item.status != "missing"]
    return tuple(key for key in scored if known_reference(key) is None)


def published_systems() -> tuple[str, ...]:
    """Return the keys of the twelve published proteins."""
    return tuple(entry.key for entry in registry.systems() if not entry.embedded)


def counting_systems(result: Result, track: Track) -> tuple[str, ...]:
    """Return the systems whose mean is the score of a row; those it lacks score 0.

    On the tracks of models that claim all proteins, these are the twelve published proteins, or
    the variants. A protein-specific model counts on what it was trained on, a leave-one-out model
    on what it was not, as far as its result has it. A result of embedded samples alone counts on
    those: it is no statement about the published proteins and is ranked apart.

    Args:
        result: What is ranked.
        track: The track of its model.
    """
    if track == "mutants":
        return tuple(entry.key for entry in registry.mutants())
    present = [item.system for item in result.systems]
    published = [key for key in published_systems() if key in present]
    if not published:
        return tuple(present)
    if track in ("multi-protein", "sampler"):
        return published_systems()
    trained = trained_systems(result)
    inside = [key for key in published if (key in trained) == (track == "protein-specific")]
    return tuple(inside or published)


def trained_systems(result: Result) -> tuple[str, ...]:
    """Return the systems that a model says it was trained on."""
    data = (result.model.spec or {}).get("trained_on")
    if not isinstance(data, list):
        return ()
    named = [item.get("system") for item in data if isinstance(item, dict)]
    return tuple(dict.fromkeys(one for one in named if isinstance(one, str)))


def group_of(result: Result, track: Track) -> str:
    """Return what a row is ranked within: the systems that count, and how they were simulated."""
    systems = counting_systems(result, track)
    whole = set(systems) == set(published_systems()) or track == "mutants"
    named = PUBLISHED if whole else ", ".join(sorted(systems))
    protocol = result.protocol
    how = "samples" if protocol is None else f"{protocol.id}@{protocol.version}"
    return f"{named} · {how}"
