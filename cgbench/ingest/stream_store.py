"""From a server straight into a store, without raw files on disk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Unpack

from cgbench import registry
from cgbench.config import data_home, read_data, write_atomic
from cgbench.errors import UsageError
from cgbench.fetch import Settings
from cgbench.ingest.contents import head_check
from cgbench.ingest.downloads import addresses
from cgbench.ingest.hashing import HashedWhileWriting
from cgbench.ingest.npy import HEAD_BYTES
from cgbench.ingest.preprocess import (
    WriteOptions,
    check_against_registry,
    preprocess_source,
    recover,
    system_metadata,
)
from cgbench.ingest.stream import RangeSource, RemoteArray, check_unchanged
from cgbench.registry import RemoteFile, System
from cgbench.store import Manifest

_SLICE: Final = "slice"
_SUFFIXES: Final = {
    "npy-coordinates": "_ca_coords.npy",
    "npy-forces": "_ca_forces.npy",
    "npy-bead-types": "_ca_embeddings.npy",
}


def preprocess_stream(
    system: System,
    out: Path | None = None,
    *,
    home: Path | None = None,
    mirror: str | None = None,
    force_maps: Sequence[str] | None = None,
    settings: Settings | None = None,
    files: Mapping[str, RemoteFile] | None = None,
    **options: Unpack[WriteOptions],
) -> Manifest:
    """Make the store of a system from the byte ranges of its published arrays.

    The store is the one that the downloaded files give, with the same manifest; no raw file
    touches the disk. An interrupted run goes on with the first shard that is not finished, as
    long as the files on the server are the same, which ``<out>.stream.json`` remembers. Numbers of
    eight bytes are read a second time for the hashes of the files; 16-bit stores are read three
    times, for their scales as well.

    Args:
        system: The registry's entry.
        out: Folder of the store; ``<home>/store/<system>.zarr`` by default.
        home: Data home.
        mirror: Address tried before the origin (:func:`cgbench.ingest.downloads.addresses`).
        force_maps: Which maps to store; all that are published by default.
        settings: How to fetch.
        files: Where ``coordinates``, ``forces/<map>`` and ``bead_types`` are; by default as the
            registry says.
        options: As for :func:`cgbench.ingest.preprocess_source`.

    Raises:
        UsageError: The registry has no such files.
        IntegrityError: A file changed since the store was begun, cannot be read by ranges, is
            damaged, or is no array.
        ValidationError: The data are not of this system.
    """
    target = out or data_home(home) / "store" / f"{system.key}.zarr"
    chosen = _chosen(system, published_arrays(system) if files is None else files, force_maps)
    settings = settings or Settings()
    arrays = {}
    for role, file in chosen.items():
        array = RemoteArray(addresses(file, mirror), file.name, role, settings)
        head_check(file)(array.reader.read(0, min(HEAD_BYTES, array.size)), array.size)
        arrays[role] = array
    record = target.with_name(f"{target.name}.stream.json")
    recover(target)
    begun = target.exists() or target.with_name(f"{target.name}.partial").exists()
    if begun and record.is_file():
        known = read_data(record)
        check_unchanged(known if isinstance(known, dict) else {}, list(arrays.values()), target)
    source = RangeSource(
        arrays["coordinates"],
        {role.removeprefix("forces/"): array for role, array in arrays.items() if "/" in role},
        arrays["bead_types"],
        settings.connections,
    )
    check_against_registry(
        system, source, {role: array.reader.url for role, array in arrays.items()}
    )
    stamps = {role: dict(array.stamp()) for role, array in arrays.items()}
    write_atomic(record, json.dumps(stamps, indent=1, sort_keys=True) + "\n")
    try:
        return preprocess_source(
            source,
            system_metadata(system, source),
            target,
            raw=HashedWhileWriting(arrays),
            **options,
        )
    finally:
        source.close()
        for array in arrays.values():
            array.reader.close()


def published_arrays(system: System) -> dict[str, RemoteFile]:
    """Return the published arrays of a system by their role in its store.

    Raises:
        UsageError: The registry has none for it.
    """
    found: dict[str, RemoteFile] = {}
    for file in registry.remote_files([system.key], ["training"]):
        # Forces less those of a prior are published as well, and are not stored.
        if file.name == f"{system.key}{_SUFFIXES.get(file.content, '')}":
            role = {
                "npy-coordinates": "coordinates",
                "npy-forces": f"forces/{_SLICE}",
                "npy-bead-types": "bead_types",
            }[file.content]
            found[role] = file
    missing = {"coordinates", f"forces/{_SLICE}", "bead_types"} - set(found)
    if missing:
        raise UsageError(
            f"{system.key}: no published arrays to stream", found=f"no {', '.join(sorted(missing))}"
        )
    return {role: found[role] for role in ("coordinates", f"forces/{_SLICE}", "bead_types")}


def _chosen(
    system: System, files: Mapping[str, RemoteFile], force_maps: Sequence[str] | None
) -> dict[str, RemoteFile]:
    """Return the files to read in the order in which a store names them."""
    maps = [role.removeprefix("forces/") for role in files if role.startswith("forces/")]
    for name in force_maps or ():
        if name not in maps:
            raise UsageError(
                f"{system.key}: no forces of map {name} are published",
                expected=", ".join(maps),
                found=name,
            )
    wanted = maps if force_maps is None else list(dict.fromkeys(force_maps))
    order = ["coordinates", *(f"forces/{name}" for name in wanted), "bead_types"]
    return {role: files[role] for role in order}
