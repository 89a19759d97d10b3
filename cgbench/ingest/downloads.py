"""From a selection of published files to files at hand: fetched, checked, unpacked, reported."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from cgbench import registry
from cgbench.errors import CgbenchError, UsageError
from cgbench.fetch import (
    DownloadLock,
    Fetched,
    LockEntry,
    Probe,
    Request,
    Settings,
    extract,
    fetch_all,
    probe_all,
)
from cgbench.fetch.space import disk_error
from cgbench.ingest.contents import check_arrays_agree, check_contents, head_check
from cgbench.ingest.native import extract_native, is_ours, write_native
from cgbench.ingest.variants import extract_variant, write_variant
from cgbench.progress import Progress, silent
from cgbench.registry import FileKind, RemoteFile

#: What training and evaluating on a system needs.
DEFAULT_KINDS: Final[tuple[FileKind, ...]] = ("setup", "native", "training")
_ASKING: Final = {"attempts": 2, "connect_timeout": 10.0}
_ARCHIVE_SUFFIXES: Final = (".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".zip")


@dataclass(frozen=True)
class FileState:
    """What is known of a published file without asking anybody.

    Attributes:
        file: The file.
        target: Where it goes.
        size: Bytes, from the registry or from its first download.
        sha256: Hash, from the registry or from its first download.
        is_local: Whether it is there, of that size.
    """

    file: RemoteFile
    target: Path
    size: int | None
    sha256: str | None
    is_local: bool

    @property
    def pinned(self) -> bool:
        """Whether the registry states its hash."""
        return self.file.sha256 is not None

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "system": self.file.system,
            "kind": self.file.kind,
            "name": self.file.name,
            "url": self.file.url,
            "size": self.size,
            "sha256": self.sha256,
            "pinned": self.pinned,
            "local": self.is_local,
        }


@dataclass
class Outcome:
    """What became of a file.

    Attributes:
        file: The file.
        fetched: Where and what it is, once it is there.
        error: Why it is not there, or not what it should be.
        notes: What was made of it, and what a user should know.
    """

    file: RemoteFile
    fetched: Fetched | None = None
    error: CgbenchError | None = None
    notes: list[str] = field(default_factory=list)


def file_states(files: Sequence[RemoteFile], home: Path) -> list[FileState]:
    """Return what is known of files offline, from the registry, the lock file and the disk.

    Raises:
        IntegrityError: The lock file is damaged.
    """
    entries = DownloadLock(home).entries()
    return [_state(file, home, entries.get(str(file.path))) for file in files]


def _state(file: RemoteFile, home: Path, entry: LockEntry | None) -> FileState:
    target = home / file.path
    size = file.size if file.size is not None or entry is None else entry.size
    there = target.is_file() and (size is None or target.stat().st_size == size)
    sha256 = file.sha256 if file.sha256 is not None or entry is None else entry.sha256
    return FileState(file=file, target=target, size=size, sha256=sha256, is_local=there)


def addresses(file: RemoteFile, mirror: str | None = None) -> tuple[str, ...]:
    """Return the addresses of a file in the order in which they are tried.

    Args:
        file: The file.
        mirror: An address that takes the place of the origin's scheme and host and is tried
            first: ``http``, ``https`` or ``file``, with or without a path of its own.

    Raises:
        UsageError: The mirror is no such address.
    """
    origin = (file.url, *file.mirrors)
    if mirror is None:
        return origin
    try:
        parts = urlsplit(mirror)
        on_server = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise UsageError(f"{mirror}: not the address of a mirror", found=error) from error
    if not (on_server or parts.scheme == "file") or parts.query or parts.fragment:
        raise UsageError(
            f"{mirror}: not the address of a mirror",
            expected="http://…, https://… or file:///…",
            found=parts.scheme or "no scheme",
        )
    return (mirror.rstrip("/") + urlsplit(file.url).path, *origin)


def requests(files: Sequence[RemoteFile], home: Path, mirror: str | None = None) -> list[Request]:
    """Return what to fetch, with the check of each file's first bytes."""
    return [
        Request(
            key=str(file.path),
            urls=addresses(file, mirror),
            target=home / file.path,
            size=file.size,
            sha256=file.sha256,
            check_head=head_check(file),
        )
        for file in files
    ]


def ask_sizes(
    files: Sequence[RemoteFile],
    mirror: str | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> list[Probe | CgbenchError]:
    """Ask the servers for the size of each file, several at once.

    Returns:
        The answer for each file, or why there is none.
    """
    # Of a server that is down many files would be waited for.
    chosen = (settings or Settings()).model_copy(update=_ASKING)
    asked = [addresses(file, mirror) for file in files]
    answers: dict[str, Probe | CgbenchError] = {}
    for turn in range(max(map(len, asked), default=0)):
        # Other addresses of a file only matter where all before them failed.
        open_questions = [
            urls[turn]
            for urls in asked
            if turn < len(urls) and not any(_known(answers.get(url)) for url in urls[:turn])
        ]
        answers |= probe_all(open_questions, chosen, progress)
    return [
        next((answers[url] for url in urls if _known(answers.get(url))), answers[urls[0]])
        for urls in asked
    ]


def _known(answer: Probe | CgbenchError | None) -> bool:
    return isinstance(answer, Probe)


def download(
    files: Sequence[RemoteFile],
    home: Path,
    *,
    mirror: str | None = None,
    settings: Settings | None = None,
    unpack: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> list[Outcome]:
    """Fetch files, check them against the registry, and make native structures.

    A native structure goes to ``<home>/native/<system>.pdb``, the members of an archive to a
    folder beside it. One file that fails does not keep others from being fetched.

    Args:
        files: What to fetch.
        home: The data home.
        mirror: Address tried before the origin, see ``addresses``.
        settings: How to fetch.
        unpack: Whether archives are unpacked.
        force: Whether files are fetched although they are there, and count as first downloads.
        progress: Called with bytes done, per file and in total.

    Returns:
        One outcome for each file, in order; errors are in them.

    Raises:
        UsageError: The mirror is no address.
    """
    wanted = requests(files, home, mirror)
    chosen = (settings or Settings()).model_copy(update={"force": force})
    fetched, errors = fetch_all(wanted, home, chosen, progress)
    there = {one.key: one for one in fetched}
    outcomes = {
        file.path: Outcome(file, there.get(str(file.path)), errors.get(str(file.path)))
        for file in files
    }
    for outcome in outcomes.values():
        if outcome.error is None and outcome.fetched is not None:
            try:
                _finish(outcome, outcome.fetched.path, home, unpack, force, progress)
            except CgbenchError as error:
                outcome.error = error
            except OSError as error:
                outcome.error = disk_error(home, error)
    _compare_arrays(outcomes, home)
    return list(outcomes.values())


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the exit code of the worst failure, 0 where there is none."""
    return max((one.error.exit_code for one in outcomes if one.error is not None), default=0)


def _finish(
    outcome: Outcome, path: Path, home: Path, unpack: bool, force: bool, progress: Progress
) -> None:
    file = outcome.file
    check_contents(file, path)
    if file.kind == "native" and file.content == "pdb":
        outcome.notes += _make_native(file, path, home, force)
    if unpack and file.content == "archive":
        folder = path.with_name(_stem(file.name))
        members = extract(path, folder, progress=progress)
        outcome.notes.append(f"{len(members)} files unpacked into {folder}")


def _make_native(file: RemoteFile, entry_path: Path, home: Path, force: bool) -> list[str]:
    """Write the native structure of a system or mutant; return what to tell about it."""
    mutants = {one.key: one for one in registry.mutants()}
    target = home / "native" / f"{file.system}.pdb"
    kept = f"{target} is your own and was kept; --force replaces it"
    keep = target.is_file() and not is_ours(target) and not force
    if file.system in mutants:
        found = extract_variant(entry_path, mutants[file.system])
        variant = found.variant
        notes = [
            f"native structure: {found.beads.summary}",
            f"sequence read from the entry: {variant.sequence}, mutations of {variant.parent}: "
            f"{', '.join(variant.mutations) or 'none'}",
        ]
        built = len(variant.sequence) - (variant.scored_beads[1] - variant.scored_beads[0])
        if built:
            notes.append(f"{built} residues at the ends are not in the entry and were built on")
        if keep:
            return [*notes, kept]
        write_variant(target.parent, found)
        return notes
    beads = extract_native(entry_path, registry.system(file.system))
    notes = [f"native structure: {beads.summary}"]
    if keep:
        return [*notes, kept]
    write_native(target, beads)
    return notes


def _compare_arrays(outcomes: dict[PurePosixPath, Outcome], home: Path) -> None:
    """Compare the numbers of frames of the arrays of each system."""
    good: dict[str, list[Outcome]] = {}
    for outcome in outcomes.values():
        if outcome.error is None and outcome.file.kind == "training":
            good.setdefault(outcome.file.system, []).append(outcome)
    for several in good.values():
        try:
            check_arrays_agree([(one.file, home / one.file.path) for one in several])
        except CgbenchError as error:
            for one in several:
                one.error = error


def _stem(name: str) -> str:
    suffix = next(suffix for suffix in _ARCHIVE_SUFFIXES if name.endswith(suffix))
    return name.removesuffix(suffix)
