"""Verification of a finished store: every byte of every file, every decoded value."""

from pathlib import Path

import numpy as np

from cgbench.config import Frozen, file_sha256, read_text
from cgbench.errors import CgbenchError
from cgbench.progress import Progress, silent
from cgbench.store.arrays import open_array
from cgbench.store.manifest import Manifest, ShardRecord, data_sha256, read_manifest
from cgbench.store.reader import expected_files, file_size, missing_shards
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


def verify_store(path: Path, progress: Progress = silent) -> VerificationReport:
    """Check every file of a store against its manifest, and every shard through the codec.

    A single changed byte in any file is found, the manifest's own included; so are missing and
    additional files.

    Args:
        path: The store's folder.
        progress: Called after each file.
    """
    if not path.is_dir():
        return _failed(path, [f"{path}: no such store"])
    if not (path / MANIFEST_NAME).is_file():
        return _failed(path, [f"{MANIFEST_NAME}: missing", *missing_shards(path)])
    try:
        manifest = read_manifest(path)
        text = read_text(path / MANIFEST_NAME)
    except CgbenchError as error:
        return _failed(path, [error.message])
    problems = []
    if text != manifest.text():
        problems.append(f"{MANIFEST_NAME}: changed outside its values")
    problems += _listing(path, manifest)
    sound = set()
    shards = {}
    files = expected_files(manifest)
    hashes = {name: record.sha256 for name, record in manifest.files.items()}
    hashes |= {shard.file: shard.file_sha256 for shard in manifest.shards}
    for done, (name, size) in enumerate(files.items()):
        progress("verify", done, len(files))
        found_size = file_size(path / name)
        if found_size is None:
            continue
        found = file_sha256(path / name)
        if name not in manifest.files:
            shards[name] = found
        if found_size != size or found != hashes[name]:
            problems.append(
                f"{name}: damaged ({found_size} of {size} bytes, sha256 {found[:12]}… instead of "
                f"{hashes[name][:12]}…)"
            )
        else:
            sound.add(name)
    # Decoding goes through the metadata files, so it says something only where these are sound.
    if set(manifest.files) <= sound:
        decoded = (_decode(path, shard) for shard in manifest.shards if shard.file in sound)
        problems += [problem for problem in decoded if problem]
    progress("verify", len(files), len(files))
    return VerificationReport(
        path=str(path),
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
