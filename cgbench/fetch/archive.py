"""Unpacking archives from elsewhere: nothing in them is trusted, and nothing is written twice.

Members are read in one pass over the archive and written one by one, each under a temporary name
that is flushed and renamed, then noted in a journal in the target folder. An interrupted run goes
on after the last member that the journal holds. Only plain files and folders are accepted; their
names must stay below the target. Permissions, owners and times of the archive are ignored.
"""

import fcntl
import json
import os
import shutil
import time
import unicodedata
from pathlib import Path
from typing import IO, Any, Final

from pydantic import Field

from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError
from cgbench.fetch.members import DAMAGE, Member, members
from cgbench.fetch.space import disk_error
from cgbench.progress import Progress, silent

_BLOCK: Final = 1024 * 1024
#: Archives of a few bytes expand by large factors in all innocence.
_RATIO_FREE: Final = 16 * 1024 * 1024
_SECONDS_BETWEEN_REPORTS: Final = 0.2


class Limits(Frozen):
    """How much an archive may hold before it is taken for an attack.

    Attributes:
        members: Number of files and folders.
        total_bytes: Bytes of all members together.
        ratio: Bytes written for each byte of the archive; the first 16 MiB are free.
        depth: Folders within folders.
    """

    members: int = Field(default=500_000, ge=1)
    total_bytes: int = Field(default=2_000_000_000_000, ge=1)
    ratio: float = Field(default=200.0, gt=0)
    depth: int = Field(default=32, ge=1)


def extract(
    archive: Path, target: Path, *, limits: Limits | None = None, progress: Progress = silent
) -> list[Path]:
    """Unpack a tar (plain, gzip, bzip2 or xz) or zip archive into a folder.

    Args:
        archive: The archive; its first bytes tell what it is.
        target: Folder, made if need be. Files in it that are no members are left alone.
        limits: What is refused.
        progress: Called with bytes of the archive read.

    Returns:
        The files, in the order of the archive.

    Raises:
        UsageError: There is no such archive, the disk is too full or the folder cannot be
            written, or another process is unpacking it into the folder.
        IntegrityError: It is damaged, truncated or unsafe; members before that place are written.
    """
    if not archive.is_file():
        raise UsageError(f"{archive}: no such file")
    target.mkdir(parents=True, exist_ok=True)
    with _Journal(archive, target) as journal:
        if journal.complete:
            return [target / name for name in journal.members]
        work = _Extraction(archive, target, journal, limits or Limits(), progress)
        try:
            files = work.run()
        except DAMAGE as error:
            raise _damaged(archive, error) from error
        except OSError as error:
            # Decompressors report damage without a number, the file system with one.
            if error.errno is not None:
                raise disk_error(target, error) from error
            raise _damaged(archive, error) from error
        journal.finish()
    return files


class _Extraction:
    """One pass over an archive."""

    def __init__(
        self, archive: Path, target: Path, journal: "_Journal", limits: Limits, progress: Progress
    ) -> None:
        self.archive = archive
        self.target = target
        self.journal = journal
        self.limits = limits
        self.progress = progress
        self.archive_size = archive.stat().st_size
        self.written = 0
        self.reported = 0.0
        # Folded names of files (True) and folders (False), those that are implied too.
        own = (journal.path, journal.temporary)
        self.taken: dict[str, bool] = {path.name.casefold(): True for path in own}

    def run(self) -> list[Path]:
        """Write every member that is not there yet; return the files."""
        files = []
        for number, member in enumerate(members(self.archive), start=1):
            if number > self.limits.members:
                raise self.refused("too many members", f"at most {self.limits.members}", number)
            name = self.safe_name(member)
            path = self.target / name
            self.account(member, 0 if member.is_folder else member.size, ahead=True)
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
            else:
                if self.journal.members.get(name) == member.size and _size(path) == member.size:
                    self.written += member.size
                else:
                    self.write(member, path)
                    self.journal.add(name, member.size)
                files.append(path)
        self.report(self.archive_size)
        return files

    def write(self, member: Member, path: Path) -> None:
        """Write a member under a temporary name, and rename it when it is whole."""
        free = shutil.disk_usage(self.target).free
        if member.size > free:
            raise UsageError(
                f"{self.target}: no room for {member.name} of {self.archive.name}",
                expected=f"{member.size} bytes free",
                found=f"{free} bytes free",
                fix="free space and run the same command again: members written are kept",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(self.target.resolve()):
            raise UsageError(
                f"{path.parent}: a link that leads out of {self.target}",
                fix="remove the link, or unpack into another folder",
            )
        temporary = self.journal.temporary
        size = 0
        try:
            with member.open() as source, temporary.open("wb") as sink:
                while block := source.read(_BLOCK):
                    size += len(block)
                    self.account(member, len(block))
                    sink.write(block)
                    self.report(member.consumed())
                if size != member.size:
                    raise IntegrityError(
                        f"{self.archive}: {member.name} is cut off or longer than stated",
                        expected=f"{member.size} bytes",
                        found=f"{size} bytes",
                        fix="get the archive again",
                    )
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def report(self, done: int) -> None:
        """Tell how much of the archive was read, a few times a second and at the end."""
        now = time.monotonic()
        if done >= self.archive_size or now - self.reported > _SECONDS_BETWEEN_REPORTS:
            self.reported = now
            self.progress(f"unpacking {self.archive.name}", done, self.archive_size)

    def account(self, member: Member, size: int, *, ahead: bool = False) -> None:
        """Refuse what grows beyond the limits; ``ahead`` only looks at what is to come."""
        total = self.written + size
        if total > self.limits.total_bytes:
            raise self.refused(
                "expands to too much", f"at most {self.limits.total_bytes} bytes", f"{total} bytes"
            )
        if ahead:
            return
        self.written = total
        allowed = _RATIO_FREE + self.limits.ratio * max(1, member.consumed())
        if total > allowed:
            raise self.refused(
                f"expands suspiciously at {member.name} (a decompression bomb?)",
                f"at most {self.limits.ratio:g} times its size",
                f"{total} bytes from {member.consumed()}",
            )

    def safe_name(self, member: Member) -> str:
        """Return the path of a member below the target, with slashes.

        Raises:
            IntegrityError: It leads elsewhere, cannot be a file name everywhere, or is taken.
        """
        name = member.name
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise self.refused("a member would be written outside the folder", found=repr(name))
        if not parts and member.is_folder:
            return "."
        if (
            not parts
            or any(character in "\\:" or not character.isprintable() for character in name)
            or any(len(os.fsencode(part)) > 255 for part in parts)
        ):
            raise self.refused("a member has a name that is no file name", found=repr(name)[:300])
        if len(parts) > self.limits.depth:
            raise self.refused(
                "folders within folders", f"at most {self.limits.depth} deep", len(parts)
            )
        folded = [unicodedata.normalize("NFC", part).casefold() for part in parts]
        for depth in range(1, len(folded) + 1):
            key = "/".join(folded[:depth])
            is_file = depth == len(folded) and not member.is_folder
            # A folder may come twice, with or without an entry of its own.
            if key in self.taken and (is_file or self.taken[key]):
                raise self.refused("two members have the same name", found=repr(name))
            self.taken[key] = is_file
        return "/".join(parts)

    def refused(self, what: str, expected: object = None, found: object = None) -> IntegrityError:
        """Return the error of an unsafe archive."""
        return IntegrityError(
            f"{self.archive}: unsafe, {what}",
            expected=expected,
            found=found,
            fix="do not use this archive; tell its publisher",
        )


class _Journal:
    """Which members of an archive are written: a line of JSON each, after the archive's identity.

    Held by one process at a time. A journal of another archive, or of this one before it changed,
    is begun anew.
    """

    def __init__(self, archive: Path, target: Path) -> None:
        status = archive.stat()
        self.path = target / f".{archive.name}.journal"
        self.temporary = target / f".{archive.name}.member.partial"
        self.members: dict[str, int] = {}
        self.complete = False
        self._target = target
        self._identity = {
            "archive": archive.name, "size": status.st_size, "modified": status.st_mtime_ns
        }  # fmt: skip

    def __enter__(self) -> "_Journal":
        self._handle = self.path.open("a+b")
        try:
            _lock(self._handle, self.path)
            self._read()
        except BaseException:
            self._handle.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def _read(self) -> None:
        self._handle.seek(0)
        content = self._handle.read()
        # A line without its end was being written when the process was killed.
        whole = content[: content.rfind(b"\n") + 1]
        try:
            records = [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            records = []
        if not records or records[0] != self._identity:
            self._handle.truncate(0)
            self._append(self._identity)
            return
        self._handle.truncate(len(whole))
        for record in records[1:]:
            if "member" in record:
                self.members[record["member"]] = record["size"]
        there = all(_size(self._target / name) == size for name, size in self.members.items())
        self.complete = records[-1] == {"complete": len(self.members)} and there

    def add(self, name: str, size: int) -> None:
        """Note a member that is written."""
        self.members[name] = size
        self._append({"member": name, "size": size})

    def finish(self) -> None:
        """Note that all members are written."""
        self._append({"complete": len(self.members)})

    def _append(self, record: dict[str, Any]) -> None:
        self._handle.write(json.dumps(record).encode() + b"\n")
        self._handle.flush()


def _lock(handle: IO[bytes], path: Path) -> None:
    """Take the lock of an open file, which ends with the process however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"{path}: another process is unpacking this archive",
            fix="wait for it, or unpack into another folder",
        ) from error


def _size(path: Path) -> int | None:
    """Return the size of a plain file, None where there is none."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def _damaged(archive: Path, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"{archive}: truncated or damaged",
        found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
        fix="get the archive again; members that are unpacked are kept",
    )
