"""Verification of a finished store: every byte of every file, every decoded value."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cgbench.config import Frozen, file_sha256, read_text
from cgbench.errors import CgbenchError
from cgbench.progress import Progress, silent
from cgbench.store.arrays import open_array
from cgbench.store.local import expected_files, file_size, missing_shards
from cgbench.store.manifest import Manifest, ShardRecord, data_sha256, read_manifest
from cgbench.store.reader import SystemStore
from cgbench.store.remote import RemoteFolder
from cgbench.store.schema import MANIFEST_NAME


class VerificationReport(Frozen):
    """What a verification found. ``shards`` holds the sha256 of each shard file as it is now."""

    path: str
    fingerprint: str | None
    problems: tuple[str, ...]
    shards: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_store(
    store: Path | RemoteFolder | SystemStore, progress: Progress = silent
) -> VerificationReport:
    """Check every file of a store against its manifest, and every shard through the codec.

    A single changed byte in any file is found, the manifest's own included; so are missing and
    additional files. Of a remote store every file is fetched, to a temporary folder and not to the
    cache, and additional files are not found.

    Args:
        store: The store's folder, on this machine or on a server, or the open store.
        progress: Called after each file.
    """
    place = store.path if isinstance(store, SystemStore) else store
    if isinstance(place, RemoteFolder):
        return _verify_remote(place, progress)
    path = place
    if not path.is_dir():
        return _failed(path, [f"{path}: no such store"])
    if not (path / MANIFEST_NAME).is_file():
        return _failed(path, [f"{MANIFEST_NAME}: missing", *missing_shards(path)])
    try:
        manifest = read_manifest(path)
        text = read_text(path / MANIFEST_NAME)
    except CgbenchError as error:
        return _failed(path, [error.message])
    problems = _listing(path, manifest)
    return _compare(path, manifest, text, problems, lambda name: path / name, progress)


def _verify_remote(folder: RemoteFolder, progress: Progress) -> VerificationReport:
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cgbench-verify-") as name:
        copies = Path(name)

        def fetch(file: str) -> Path:
            copy = copies / file
            for shard in copies.glob("**/c/**/*"):
                # One shard at a time is on disk.
                if shard.is_file():
                    shard.unlink()
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                with copy.open("w+b") as handle:
                    folder.fetch(file, handle)
                if file in folder.manifest.files:
                    folder.metadata(file)
            except CgbenchError as error:
                copy.unlink()
                problems.append(error.message)
            return copy

        return _compare(
            copies, folder.manifest, folder.manifest_text, problems, fetch, progress, str(folder)
        )


def _compare(
    path: Path,
    manifest: Manifest,
    text: str,
    problems: list[str],
    get: Callable[[str], Path],
    progress: Progress,
    name_of_store: str | None = None,
) -> VerificationReport:
    """Compare all files with the manifest, one after the other; ``get`` returns their paths."""
    if text != manifest.text():
        problems.append(f"{MANIFEST_NAME}: changed outside its values")
    shards = {}
    files = expected_files(manifest)
    hashes = {name: record.sha256 for name, record in manifest.files.items()}
    hashes |= {shard.file: shard.file_sha256 for shard in manifest.shards}
    records = {shard.file: shard for shard in manifest.shards}
    # Decoding goes through the metadata files, which come first: it says something only where
    # these are sound.
    decoding = True
    for done, (name, size) in enumerate(files.items()):
        progress("verify", done, len(files))
        copy = get(name)
        found_size = file_size(copy)
        sound = False
        if found_size is not None:
            found = file_sha256(copy)
            if name in records:
                shards[name] = found
            sound = found_size == size and found == hashes[name]
            if not sound:
                problems.append(
                    f"{name}: damaged ({found_size} of {size} bytes, sha256 {found[:12]}… instead "
                    f"of {hashes[name][:12]}…)"
                )
        if name not in records:
            decoding = decoding and sound
        elif sound and decoding and (problem := _decode(path, records[name])):
            problems.append(problem)
    progress("verify", len(files), len(files))
    return VerificationReport(
        path=name_of_store or str(path),
        fingerprint=manifest.fingerprint,
        problems=tuple(problems),
        shards=dict(sorted(shards.items())),
    )


def _failed(path: Path, problems: list[str]) -> VerificationReport:
    return VerificationReport(path=str(path), fingerprint=None, problems=tuple(problems), shards={})


def _listing(path: Path, manifest: Manifest) -> list[str]:
    expected = set(expected_files(manifest))
    found = {
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_symlink() or not file.is_dir()
    }
    missing = [
        f"{name}: missing{' (a link)' if (path / name).is_symlink() else ''}"
        for name in sorted(expected)
        if file_size(path / name) is None
    ]
    additional = sorted(found - expected - {MANIFEST_NAME})
    return missing + [f"{name}: does not belong to the store" for name in additional]


def _decode(path: Path, shard: ShardRecord) -> str | None:
    try:
        values = np.asarray(open_array(path / shard.array)[shard.start : shard.stop])
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError) as error:
        return f"{shard.file}: cannot be decoded ({error})"
    if data_sha256(values) != shard.data_sha256:
        return f"{shard.file}: decodes to other values than were written"
    return None
