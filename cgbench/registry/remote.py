"""Every file that can be fetched: where it is, what it holds, and what is known of its bytes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.errors import UsageError
from cgbench.registry import loader
from cgbench.registry.models import System
from cgbench.registry.mutant_models import Mutant

FileKind = Literal["setup", "training", "reference", "native", "cg", "mutants", "models"]
FileContent = Literal[
    "npy-coordinates", "npy-forces", "npy-bead-types", "npy", "xtc", "psf", "pdb", "yaml", "archive"
]

FILE_KINDS: Final[tuple[FileKind, ...]] = get_args(FileKind)
#: Stands for the files that belong to no single system.
SUITE: Final = "suite"

_ORIGIN: Final = loader.DATA / "remote_files.yaml"
_SIZE = re.compile(r"([0-9]+(?:[.,][0-9]+)?) ?GB")


class RemoteFile(Frozen):
    """A file on a server.

    Attributes:
        system: Key of a system or a mutant, or ``suite`` for files of no single system.
        kind: What it is for.
        name: Its name, unique among the files of its system and kind.
        url: Where its publisher keeps it.
        mirrors: Other addresses of the same content.
        size: Bytes, where exactly known.
        stated_size: The size as its publisher prints it.
        size_doubtful: Whether the printed size cannot be right, or not for this file alone.
        sha256: Hexadecimal hash, where the registry pins the file.
        content: What is in it.
        n_beads: Number of beads, where it holds those of a system and nothing else.
        note: A known error of the published list, and what was made of it.
    """

    system: str
    kind: FileKind
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    url: str = Field(pattern=r"^https?://")
    mirrors: tuple[str, ...] = ()
    size: int | None = Field(default=None, ge=1)
    stated_size: str | None = None
    size_doubtful: bool = False
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    content: FileContent
    n_beads: int | None = None
    note: str | None = None

    @property
    def path(self) -> PurePosixPath:
        """Where it lies below the data home."""
        folder = PurePosixPath("raw") / self.system
        return folder / self.name if self.kind == "training" else folder / self.kind / self.name

    @property
    def approximate_size(self) -> int | None:
        """Bytes, exactly or as printed; None where neither is known or the print is in doubt."""
        if self.size is not None or self.stated_size is None or self.size_doubtful:
            return self.size
        found = _SIZE.fullmatch(self.stated_size)
        return None if found is None else round(float(found[1].replace(",", ".")) * 1e9)


class _Rule(Frozen):
    each: Literal["system", "mutant", "suite"]
    only: tuple[str, ...] | None = None
    kind: FileKind
    content: FileContent
    beads: bool = False
    name: str | None = None
    url: str
    mirrors: tuple[str, ...] = ()


class _Part(Frozen):
    archive: str
    stated_size: str
    size_doubtful: bool = False
    note: str | None = None


class _Archives(Frozen):
    base: str
    parts: dict[str, tuple[_Part, ...]]


class _Pin(Frozen):
    size: int
    sha256: str


class _RemoteData(Frozen):
    bases: dict[str, str]
    rules: tuple[_Rule, ...]
    reference_archives: _Archives
    pins: dict[str, _Pin]


def remote_files(
    systems: Sequence[str] | None = None, kinds: Sequence[FileKind] | None = None
) -> tuple[RemoteFile, ...]:
    """Return the files that can be fetched, system by system in the registry's order.

    Args:
        systems: Keys of systems and mutants, ``suite``, ``mutants`` for all mutants, or ``all``
            for the systems, the suite's own files and, of the kind ``mutants``, the mutants'.
            Everything by default. The suite's setup files, which every system needs, come with
            the setup of any system.
        kinds: Kinds of files; all by default.

    Raises:
        UsageError: There is no such system or kind; the message names the closest.
    """
    wanted = set(FILE_KINDS) if kinds is None else {_kind(kind) for kind in kinds}
    files = _all_files()
    if systems is not None:
        keys = _keys(systems)
        files = tuple(file for file in files if file.kind in keys.get(file.system, ()))
    return tuple(file for file in files if file.kind in wanted)


def _kind(name: str) -> str:
    return loader.choose({kind: kind for kind in FILE_KINDS}, name, "kind of files")


def _keys(names: Sequence[str]) -> dict[str, set[str]]:
    """Return which kinds of files of which keys are meant by the names."""
    published = {one.key: one for one in loader.systems() if one.published_key is not None}
    mutants = {one.key: one for one in loader.mutants()}
    known = {name: name for name in (*published, *mutants, SUITE, "mutants", "all")}
    other = {str(one.published_key): key for key, one in published.items()}
    other |= {one.pdb_id: key for key, one in mutants.items()}
    keys: dict[str, set[str]] = {}
    for name in names:
        made_here = {one.key: one for one in loader.systems() if one.published_key is None}
        if name in made_here:
            raise UsageError(
                f"{name}: comes with the package and is fetched from nowhere",
                expected=", ".join(published),
            )
        chosen = loader.choose(known, name, "system with files to fetch", lambda: other)
        everything: set[str] = set(FILE_KINDS)
        if chosen == "all":
            keys |= dict.fromkeys((*published, SUITE), everything)
            for key in mutants:
                keys[key] = keys.get(key, set()) | {"mutants"}
        elif chosen == "mutants":
            keys |= dict.fromkeys(mutants, everything)
        else:
            keys[chosen] = everything
            if chosen in published:
                keys[SUITE] = keys.get(SUITE, set()) | {"setup"}
    return keys


@cache
def _all_files() -> tuple[RemoteFile, ...]:
    data = validate(_RemoteData, loader.read_data_file("remote_files"), _ORIGIN)
    systems = [one for one in loader.systems() if one.published_key is not None]
    files = [file for rule in data.rules for file in _expanded(rule, data, systems)]
    files += _reference_archives(data)
    order = [one.key for one in systems] + [one.key for one in loader.mutants()] + [SUITE]
    rank = {key: number for number, key in enumerate(order)}
    return tuple(sorted(files, key=lambda file: (rank[file.system], FILE_KINDS.index(file.kind))))


def _reference_archives(data: _RemoteData) -> Iterator[RemoteFile]:
    for key, parts in data.reference_archives.parts.items():
        for part in parts:
            url = _filled(data.reference_archives.base, data.bases | {"archive": part.archive})
            yield RemoteFile(
                system=key,
                kind="reference",
                url=url,
                name=_last_segment(url),
                stated_size=part.stated_size,
                size_doubtful=part.size_doubtful,
                content="archive",
                note=part.note,
            )


def _expanded(rule: _Rule, data: _RemoteData, systems: Sequence[System]) -> Iterator[RemoteFile]:
    """Yield the files of a rule."""
    entries: dict[str, Sequence[System | Mutant | None]] = {
        "system": systems,
        "mutant": loader.mutants(),
        "suite": (None,),
    }
    for entry in entries[rule.each]:
        key = SUITE if entry is None else entry.key
        if rule.only is not None and key not in rule.only:
            continue
        values = data.bases | _values(entry)
        url = _filled(rule.url, values)
        name = _last_segment(url) if rule.name is None else _filled(rule.name, values)
        pin = data.pins.get(name) if rule.kind == "setup" else None
        yield RemoteFile(
            system=key,
            kind=rule.kind,
            name=name,
            url=url,
            mirrors=tuple(_filled(mirror, values) for mirror in rule.mirrors),
            size=None if pin is None else pin.size,
            sha256=None if pin is None else pin.sha256,
            content=rule.content,
            # The published list does not say how many beads a mutant has.
            n_beads=len(entry.sequence) if rule.beads and entry and entry.sequence else None,
        )


def _values(entry: System | Mutant | None) -> dict[str, str]:
    """Return what the templates of an entry's addresses are filled in with."""
    if entry is None:
        return {}
    pdb_id = str(entry.pdb_id if isinstance(entry, Mutant) else entry.native.pdb_id)
    own = (
        {"parent": entry.parent}
        if isinstance(entry, Mutant)
        else {"published_key": str(entry.published_key)}
    )
    return own | {"system": entry.key, "pdb_id": pdb_id, "pdb_id_lower": pdb_id.lower()}


def _filled(template: str, values: Mapping[str, Any]) -> str:
    return template.format_map(values)


def _last_segment(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]
