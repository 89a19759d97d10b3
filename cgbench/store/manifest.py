"""The manifest of a finished store and the journal of one that is being written."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cgbench.config import Frozen, canonical_json, fingerprint, read_text, validate, write_atomic
from cgbench.errors import IntegrityError, ValidationError
from cgbench.store.schema import JOURNAL_NAME, MANIFEST_NAME, Layout, StoreMetadata


class ShardRecord(Frozen):
    """One shard file: which frames it holds and what it hashes to.

    ``file_sha256`` is over the bytes on disk; ``data_sha256`` over the decoded values of
    ``start:stop`` in C order, little endian.
    """

    array: str
    index: int
    start: int
    stop: int
    file: str
    size: int
    file_sha256: str
    data_sha256: str


class FileRecord(Frozen):
    """One metadata file of the store."""

    size: int
    sha256: str


class ArrayRecord(Frozen):
    """Shape and type of one array."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Manifest(Frozen):
    """Everything that a store holds, with hashes.

    ``fingerprint`` is over the metadata, the layout and the decoded data, not over compressed
    bytes: another version of the compressor gives the same fingerprint. ``plan`` identifies what
    was asked to be written.
    """

    format: Literal["cgbench-store-manifest"] = "cgbench-store-manifest"
    version: Literal[1] = 1
    fingerprint: str
    plan: str
    metadata: StoreMetadata
    n_frames: int
    n_beads: int
    n_trajectories: int
    n_valid: int
    screening: dict[str, int]
    layout: Layout
    arrays: tuple[ArrayRecord, ...]
    shards: tuple[ShardRecord, ...]
    files: dict[str, FileRecord]

    def content_fingerprint(self) -> str:
        """Return the fingerprint that the content should have."""
        content = self.model_dump(mode="json", exclude={"fingerprint", "files"})
        for shard in content["shards"]:
            del shard["size"], shard["file_sha256"]
        return fingerprint(content)

    def text(self) -> str:
        """Return the one text of this manifest: a changed byte shows even in white space."""
        data = json.loads(canonical_json(self))
        return json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"


class UnitRecord(Frozen):
    """One finished unit of writing: the same shard of every array along ``frame``."""

    index: int
    start: int
    stop: int
    n_valid: int
    screening: dict[str, int]
    shards: tuple[ShardRecord, ...]


class JournalHeader(Frozen):
    """The first line of a journal: what is being written."""

    format: Literal["cgbench-store-journal"] = "cgbench-store-journal"
    version: Literal[1] = 1
    plan: str
    n_units: int
    n_frames: int
    shard: int


class Journal:
    """An append-only file of finished units; a line torn by a crash does not count.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME

    def read(self) -> tuple[JournalHeader, dict[int, UnitRecord]] | None:
        """Return the header and the finished units, or None where there is no usable journal."""
        if not self.path.is_file():
            return None
        lines = [line for line in self.path.read_bytes().split(b"\n")[:-1] if line]
        if not lines:
            return None
        header = validate(JournalHeader, _parse(lines[0], self.path), self.path)
        units = {}
        for line in lines[1:]:
            unit = validate(UnitRecord, _parse(line, self.path), self.path)
            units[unit.index] = unit
        return header, units

    def start(self, header: JournalHeader) -> None:
        """Begin a journal, atomically."""
        write_atomic(self.path, canonical_json(header) + "\n")

    def restart(self) -> None:
        """Drop a torn last line, so that the next line starts on its own."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomic(self.path, whole)

    def append(self, unit: UnitRecord) -> None:
        """Record a finished unit; on return it is on disk."""
        with self.path.open("ab") as handle:
            handle.write(canonical_json(unit).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())


def _parse(line: bytes, origin: Path) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{origin}: damaged journal",
            found=error,
            fix=f"remove the unfinished store {origin.parent} and write it again",
        ) from error


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished store and check its fingerprint.

    Raises:
        IntegrityError: It cannot be parsed, is of another version, or does not hash to what it
            says.
    """
    path = folder / MANIFEST_NAME
    return parse_manifest(read_text(path), path)


def parse_manifest(text: str, origin: object) -> Manifest:
    """Parse a manifest and check its fingerprint, and that no shard of any array is left out.

    Args:
        text: The manifest, which anyone may have written.
        origin: What errors name, a path or an address.

    Raises:
        IntegrityError: It cannot be parsed, is of another version, does not hash to what it says,
            or its shards are not those of its arrays.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{origin}: cannot be parsed", found=error) from error
    expected = (Manifest.model_fields["format"].default, Manifest.model_fields["version"].default)
    version = (data.get("format"), data.get("version")) if isinstance(data, dict) else None
    if version != expected:
        raise IntegrityError(
            f"{origin}: not a manifest of this version",
            expected=expected,
            found=repr(version)[:80],
            fix="use the version of cgbench that wrote the store, or make the store again",
        )
    try:
        manifest = validate(Manifest, data, origin)
    except ValidationError as error:
        raise IntegrityError(f"{origin}: damaged", found=error.found) from error
    found = manifest.content_fingerprint()
    if found != manifest.fingerprint:
        raise IntegrityError(
            f"{origin}: the manifest does not match its fingerprint",
            expected=manifest.fingerprint,
            found=found,
        )
    _check_shards(manifest, origin)
    return manifest


def _check_shards(manifest: Manifest, origin: object) -> None:
    """Check that the shards of each array follow each other from its first row to its last.

    zarr reads fill values where a shard is left out.
    """
    arrays = {array.name: array for array in manifest.arrays}
    ends = dict.fromkeys(arrays, 0)
    numbers = dict.fromkeys(arrays, 0)
    for shard in manifest.shards:
        name = shard.array
        tail = "/0" * (len(arrays[name].shape) - 1) if name in arrays else ""
        if (
            name not in arrays
            or shard.file != f"{name}/c/{numbers[name]}{tail}"
            or not ends[name] == shard.start < shard.stop
        ):
            raise IntegrityError(
                f"{origin}: damaged", found=f"shard {shard.file!r:.80} of array {name!r:.80}"
            )
        ends[name], numbers[name] = shard.stop, numbers[name] + 1
    for name, array in arrays.items():
        if array.shape[:1] != (ends[name],):
            raise IntegrityError(
                f"{origin}: damaged",
                expected=f"shards of {name} for shape {array.shape}",
                found=f"shards of its first {ends[name]}",
            )


def data_sha256(values: np.ndarray[Any, np.dtype[Any]]) -> str:
    """Return the hexadecimal sha256 over values in C order, little endian."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).view(np.uint8).data).hexdigest()
