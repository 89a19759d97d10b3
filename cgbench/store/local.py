"""A store's folder on this machine: its manifest, its files, and what an unfinished one lacks."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cgbench.config import file_sha256
from cgbench.errors import IntegrityError, UsageError
from cgbench.store.manifest import Journal, Manifest, read_manifest
from cgbench.store.schema import MANIFEST_NAME


def open_manifest(path: Path) -> Manifest:
    """Return the manifest of a finished store of which no file is missing or truncated.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: It is no store, unfinished, or files are missing.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such store")
    if not (path / MANIFEST_NAME).is_file():
        raise IntegrityError(
            f"{path}: the store is not finished",
            found="; ".join(missing_shards(path)) or "neither a manifest nor a journal",
            fix="run the command that made it again (cgbench preprocess): finished shards are kept",
        )
    manifest = read_manifest(path)
    # A missing file reads as fill values, without an error.
    wrong = [
        f"{file} ({'missing' if size is None else f'{size} instead of {expected} bytes'})"
        for file, expected in expected_files(manifest).items()
        if (size := file_size(path / file)) != expected
    ]
    if wrong:
        raise IntegrityError(
            f"{path}: {len(wrong)} files are missing or truncated",
            found=", ".join(wrong[:5]),
            fix="run the command that made the store again (cgbench preprocess), in a new folder",
        )
    return manifest


def expected_files(manifest: Manifest) -> dict[str, int]:
    """Return every file of a finished store, besides the manifest, with its size in bytes."""
    return {name: record.size for name, record in manifest.files.items()} | {
        shard.file: shard.size for shard in manifest.shards
    }


def are_intact(path: Path, hashes: Mapping[str, str]) -> bool:
    """Return whether all files of a store, given by their names, have the sha256 they should."""

    def intact(name: str) -> bool:
        return file_size(path / name) is not None and file_sha256(path / name) == hashes[name]

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return all(pool.map(intact, hashes))


def file_size(path: Path) -> int | None:
    """Return the size of a plain file, or None where there is none (links do not count)."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def missing_shards(path: Path) -> list[str]:
    """Return one line for each shard that an unfinished store still lacks."""
    contents = Journal(path).read()
    if contents is None:
        return []
    header, done = contents
    return [
        f"shard {index} of {header.n_units} (frames {index * header.shard} to "
        f"{min((index + 1) * header.shard, header.n_frames)}) is missing"
        for index in range(header.n_units)
        if index not in done
    ]
