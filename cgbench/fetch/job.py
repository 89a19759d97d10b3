"""One file: is it there, who fetches it, and is it what it should be."""

import asyncio
import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from cgbench.config import file_sha256
from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.fetch.hashing import FollowingHash
from cgbench.fetch.http import RefusedError, public_address
from cgbench.fetch.lock import DownloadLock, LockEntry, hold, lock_path
from cgbench.fetch.meter import Meter
from cgbench.fetch.partial import Partial, partial_paths, read_journal
from cgbench.fetch.patience import Backoff
from cgbench.fetch.probe import probe_first
from cgbench.fetch.settings import Fetched, Pinned, Request, Settings
from cgbench.fetch.space import check_space, disk_error
from cgbench.fetch.transfer import HEAD_BYTES, Transfer


@dataclass
class Job:
    """One file to be fetched.

    Attributes:
        client: An open client.
        request: What to fetch.
        lock: Hashes of what was fetched before.
        settings: How to fetch it.
        meter: Told about the file's bytes.
        number: Tells apart the waits of the files of one call.
    """

    client: httpx.AsyncClient
    request: Request
    lock: DownloadLock
    settings: Settings
    meter: Meter
    number: int

    def _entry(self) -> LockEntry | None:
        return None if self.settings.force else self.lock.get(self.request.key)

    async def missing_bytes(self) -> int:
        """Return how many bytes are still to come; 0 where no address tells."""
        request = self.request
        if request.target.exists() and not self.settings.force:
            here = request.target.stat().st_size
            self.meter.expect(request.key, here, here)
            return 0
        journal = read_journal(*partial_paths(request.target))
        size = request.size
        if size is None and journal is not None:
            size = journal[0].size
        if size is None:
            size = await probe_first(self.client, request.urls, self.settings)
        if size is None:
            return 0
        there = 0 if journal is None else min(journal[1].total, size)
        self.meter.expect(request.key, there, size)
        return size - there

    async def run(self) -> Fetched:
        """Have the file, whole and verified."""
        request = self.request
        begin = time.monotonic()
        try:
            # A file that is there and known needs no lock, so that reading homes can be shared.
            fetched = await self._present(begin, locked=False)
            if fetched is None:
                async with hold(request.target, self._waiting):
                    fetched = await self._present(begin, locked=True)
                    if fetched is None:
                        fetched = await self._fetch(begin)
        except OSError as error:
            raise disk_error(request.target, error) from error
        self.meter.update(request.key, fetched.size, fetched.size)
        return fetched

    def _waiting(self, owner: str) -> None:
        self.meter.note(self.request.key, f"waiting for {owner}")

    def _expected(self, entry: LockEntry | None) -> tuple[str | None, Pinned]:
        if self.request.sha256 is not None:
            return self.request.sha256.lower(), "registry"
        if entry is not None:
            return entry.sha256, "lock"
        return None, "first download"

    async def _present(self, begin: float, *, locked: bool) -> Fetched | None:
        """Return the file if it is there already.

        Raises:
            IntegrityError: Something else is there.
        """
        request, path = self.request, self.request.target
        if self.settings.force or not path.exists():
            return None
        if not path.is_file():
            raise UsageError(f"{path}: is no file, and is in the way of one")
        entry = self._entry()
        expected, pinned = self._expected(entry)
        status = path.stat()
        trusted = entry is not None and (entry.size, entry.mtime_ns, entry.sha256) == (
            status.st_size,
            status.st_mtime_ns,
            expected,
        )
        remains = partial_paths(path)
        if not locked and (
            not trusted or any(file.exists() for file in (*remains, lock_path(path)))
        ):
            return None
        # A run that was killed at the very end may have left its journal, one with force both.
        for file in remains:
            file.unlink(missing_ok=True)
        if trusted and not self.settings.verify and entry is not None:
            return self._fetched(entry, pinned, begin, 0)
        if not locked:
            return None
        if expected is None:
            await self._check_unknown(status.st_size)
        self.meter.note(request.key, "checking")
        found = await asyncio.to_thread(file_sha256, path)
        if expected is not None and found != expected:
            raise self._mismatch(expected, found, pinned, path)
        entry = self._record(entry, found, request.urls[0], status.st_size, status.st_mtime_ns)
        return self._fetched(entry, pinned, begin, 0)

    async def _check_unknown(self, size: int) -> None:
        """Accept a file that somebody put there, of which no hash is known, by size and head."""
        request = self.request
        announced = request.size
        if announced is None:
            announced = await probe_first(self.client, request.urls, self.settings)
        if announced != size:
            raise IntegrityError(
                f"{request.target}: there already, and not known to be the published file",
                expected="its size from the server" if announced is None else f"{announced} bytes",
                found=f"{size} bytes",
                fix="remove or move it, and run the same command again",
            )
        if request.check_head is not None:
            with request.target.open("rb") as handle:
                request.check_head(handle.read(HEAD_BYTES), size)

    async def _fetch(self, begin: float) -> Fetched:
        request = self.request
        entry = self._entry()
        expected, pinned = self._expected(entry)
        size = request.size
        if size is None and entry is not None and entry.sha256 == expected:
            size = entry.size
        partial = Partial(request.target)
        transfer = Transfer(
            client=self.client,
            request=request,
            partial=partial,
            settings=self.settings,
            size=size,
            pinned=expected is not None,
            backoff=Backoff(self.settings, self.number),
            report=lambda done, size: self.meter.update(request.key, done, size),
            tell=lambda note: self.meter.note(request.key, note),
            check_space=lambda size: check_space(
                {request.target: size}, self.settings.reserve_bytes
            ),
        )
        following = FollowingHash(partial)
        follower = asyncio.create_task(following.follow())
        try:
            sha256, url = await self._try_addresses(transfer, following, expected, pinned)
            status = partial.path.stat()
            # With force: between the next two steps the old file would have the new one's hash.
            request.target.unlink(missing_ok=True)
            # Recorded first: a file that is there always has its hash in the lock file.
            entry = self._record(entry, sha256, url, status.st_size, status.st_mtime_ns, partial)
            partial.finish(request.target)
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            partial.close()
        return self._fetched(entry, pinned, begin, transfer.received)

    async def _try_addresses(
        self, transfer: Transfer, following: FollowingHash, expected: str | None, pinned: Pinned
    ) -> tuple[str, str]:
        """Return the hash of the file, and the address that had it."""
        reasons: list[str] = []
        failure: CgbenchError | None = None
        for url in self.request.urls:
            try:
                return await self._try(url, transfer, following, expected, pinned), url
            except RefusedError as error:
                reasons.append(f"{public_address(url)}: {error}")
                if failure is None and isinstance(error.__cause__, CgbenchError):
                    failure = error.__cause__
        if failure is not None:
            raise failure
        fix = "run the same command again: what is on disk is kept"
        raise IntegrityError(
            f"{self.request.key}: could not be fetched",
            found="; ".join(reasons),
            fix=self._accept(fix) if pinned == "lock" else fix,
        )

    async def _try(
        self,
        url: str,
        transfer: Transfer,
        following: FollowingHash,
        expected: str | None,
        pinned: Pinned,
    ) -> str:
        """Return the hash of the file that an address brought."""
        for last in (False, True):
            await transfer.run(url)
            found = await following.hexdigest()
            if expected in (None, found):
                return found
            # Parts of different origin may not belong together; that is not held against the
            # address, which gets a second chance from the first byte on.
            mixed = transfer.partial.mixed
            transfer.partial.discard()
            if last or not mixed:
                break
        raise RefusedError(f"sha256 {found}") from self._mismatch(
            expected, found, pinned, public_address(url)
        )

    def _accept(self, fix: str) -> str:
        return (
            f"{fix}; if the published file has changed, remove {self.request.key!r} from "
            f"{self.lock.path} to accept the new one"
        )

    def _mismatch(
        self, expected: str | None, found: str, pinned: Pinned, where: object
    ) -> IntegrityError:
        origin = {"registry": "the registry", "lock": "the first download"}
        fix = "remove the damaged file and run the same command again"
        if not isinstance(where, Path):
            fix = "run the same command again, or try a mirror; nothing of it was kept"
        return IntegrityError(
            f"{where}: not the content that is expected of {self.request.key}",
            expected=f"sha256 {expected} ({origin.get(pinned, pinned)})",
            found=f"sha256 {found}",
            fix=self._accept(fix) if pinned == "lock" else fix,
        )

    def _record(
        self,
        entry: LockEntry | None,
        sha256: str,
        url: str,
        size: int,
        mtime_ns: int,
        partial: Partial | None = None,
    ) -> LockEntry:
        """Write what is known of the file into the lock file, if that is new."""
        identity = None if partial is None else partial.identity
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        new = LockEntry(
            url=public_address(url),
            size=size,
            sha256=sha256,
            etag=None if identity is None else identity.etag,
            last_modified=None if identity is None else identity.last_modified,
            first_seen=now,
            mtime_ns=mtime_ns,
        )
        if entry is not None and entry.sha256 == sha256:
            new = new.model_copy(update={"first_seen": entry.first_seen})
            if identity is None:
                new = entry.model_copy(update={"mtime_ns": mtime_ns})
        if new != entry:
            self.lock.record(self.request.key, new)
        return new

    def _fetched(self, entry: LockEntry, pinned: Pinned, begin: float, received: int) -> Fetched:
        return Fetched(
            key=self.request.key,
            path=self.request.target,
            size=entry.size,
            sha256=entry.sha256,
            pinned=pinned,
            url=entry.url,
            seconds=time.monotonic() - begin,
            transferred=received,
        )
