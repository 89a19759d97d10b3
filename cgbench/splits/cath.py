"""The files of the CATH classification: lists of domains, and where domains begin and end.

Formats: CATH List File (CLF) 2.0, one domain a line with its numbers of class, architecture,
topology and homologous superfamily; CATH Domall File (CDF) 2.0, one chain a line with the segments
of each of its domains. Both may be compressed with gzip. Lines that begin with ``#`` are comments.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cgbench.config import file_sha256
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.registry import Level

#: Numbers of a code that name a node of each level.
DEPTH: Final[dict[Level, int]] = {"C": 1, "A": 2, "T": 3, "H": 4}
#: Clusters of sequence identity in a list, by their column.
CLUSTERS: Final = {"S35": 5, "S60": 6, "S95": 7, "S100": 8}
_COLUMNS: Final = 12
#: PDB id, chain, and two digits that number the domain; 00 is a whole chain.
_NAME: Final = re.compile(r"[0-9][A-Za-z0-9]{3}[A-Za-z0-9][0-9]{2}")
_CHAIN: Final = re.compile(r"[0-9][A-Za-z0-9]{3}[A-Za-z0-9]")
#: Bytes of the largest list, unpacked; that of CATH 4.4 has 40 MB.
LARGEST: Final = 512 * 1024**2
#: Residues on either side of an interval of a segment: chain, number, insertion code.
_SEGMENT: Final = 6
_FRAGMENT: Final = 7


class Domain(NamedTuple):
    """One line of a list.

    Attributes:
        name: Seven characters, as ``1cukA03``.
        code: Numbers of class, architecture, topology and homologous superfamily.
        clusters: Numbers of the sequence clusters S35, S60, S95 and S100 within the superfamily.
        length: Residues.
    """

    name: str
    code: tuple[int, int, int, int]
    clusters: tuple[int, int, int, int]
    length: int

    @property
    def entry(self) -> str:
        """PDB id in small letters."""
        return self.name[:4].lower()

    @property
    def chain(self) -> str:
        """Chain within the entry; ``0`` stands for a blank one."""
        return self.name[4]

    @property
    def whole_chain(self) -> bool:
        """Whether the domain is a chain that was not divided."""
        return self.name[5:] == "00"

    def node(self, level: Level) -> tuple[int, ...]:
        """Return the node of the classification that the domain is in at a level."""
        return self.code[: DEPTH[level]]


class Segment(NamedTuple):
    """Residues from ``first`` to ``last`` of a chain, in the numbering of the entry's authors."""

    first: int
    first_insertion: str
    last: int
    last_insertion: str


def read_domains(path: Path) -> tuple[Domain, ...]:
    """Read a list of domains.

    Raises:
        UsageError: No such file, or too large.
        IntegrityError: It is damaged, a line cannot be parsed, or a domain occurs twice.
        ValidationError: It holds no domain.
    """
    found: dict[str, Domain] = {}
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != _COLUMNS or not _NAME.fullmatch(fields[0]):
            raise IntegrityError(
                f"{path}: line {number} is no line of a CATH list (CLF 2.0)",
                expected="a domain as 1oaiA00, ten whole numbers and a resolution",
                found=line[:80],
            )
        try:
            numbers = [int(field) for field in fields[1:11]]
            float(fields[11])
        except ValueError as error:
            raise IntegrityError(
                f"{path}: line {number} cannot be parsed", expected="numbers", found=line[:80]
            ) from error
        if min(numbers) < 1:
            raise IntegrityError(f"{path}: line {number} has a number below one", found=line[:80])
        name = fields[0][:4].lower() + fields[0][4:]
        if name in found:
            raise IntegrityError(f"{path}: line {number} repeats a domain", found=name)
        c, a, t, h, s35, s60, s95, s100, _, length = numbers
        found[name] = Domain(name, (c, a, t, h), (s35, s60, s95, s100), length)
    if not found:
        raise ValidationError(f"{path}: holds no domain", expected="a CATH list (CLF 2.0)")
    return tuple(found.values())


def read_boundaries(path: Path) -> dict[str, tuple[Segment, ...]]:
    """Read the segments of domains, by the domain's name.

    The one domain of a chain without fragments is known by both 00 and 01.

    Raises:
        UsageError: No such file, or too large.
        IntegrityError: It is damaged, or a line cannot be parsed.
    """
    found: dict[str, tuple[Segment, ...]] = {}
    for number, line in _lines(path):
        try:
            domains = _domains_of(line.split())
        except (ValueError, IndexError) as error:
            raise IntegrityError(
                f"{path}: line {number} is no line of a CATH domall file (CDF 2.0)",
                expected="chain, Dnn, Fnn, and segments as 'A 2 - A 156 -' after their number",
                found=line[:80],
            ) from error
        for name, segments in domains.items():
            if name in found:
                raise IntegrityError(f"{path}: line {number} repeats a domain", found=name)
            found[name] = segments
    return found


def list_hash(path: Path) -> str:
    """Return ``sha256:…`` of a file."""
    return f"sha256:{file_sha256(path)}"


def _domains_of(fields: list[str]) -> dict[str, tuple[Segment, ...]]:
    chain = fields[0]
    if not _CHAIN.fullmatch(chain):
        raise ValueError("no chain")
    chain = chain[:4].lower() + chain[4]
    n_domains, n_fragments = _counted(fields[1], "D"), _counted(fields[2], "F")
    place = 3
    found: dict[str, tuple[Segment, ...]] = {}
    for domain in range(1, n_domains + 1):
        n_segments = int(fields[place])
        if not 1 <= n_segments <= 1000:
            raise ValueError("no segments")
        place += 1
        segments = []
        for _ in range(n_segments):
            segments.append(_segment(fields[place : place + _SEGMENT], chain[4]))
            place += _SEGMENT
        found[f"{chain}{domain:02d}"] = tuple(segments)
    if len(fields) != place + n_fragments * _FRAGMENT:
        raise ValueError("not as many fields as segments and fragments")
    if n_domains == 1 and n_fragments == 0:
        found[f"{chain}00"] = found[f"{chain}01"]
    return found


def _counted(field: str, letter: str) -> int:
    if not re.fullmatch(rf"{letter}\d{{2,3}}", field):
        raise ValueError("no number of domains or fragments")
    return int(field[1:])


def _segment(fields: list[str], chain: str) -> Segment:
    first_chain, first, first_insertion, last_chain, last, last_insertion = fields
    if (first_chain, last_chain) != (chain, chain):
        raise ValueError("a segment of another chain")
    return Segment(int(first), _insertion(first_insertion), int(last), _insertion(last_insertion))


def _insertion(field: str) -> str:
    if len(field) != 1:
        raise ValueError("no insertion code")
    return "" if field == "-" else field


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are no comments, with their numbers."""
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file", fix="get the list from https://www.cathdb.info/download"
        )
    opener = gzip.open if path.suffix == ".gz" else open
    size = 0
    try:
        with opener(path, "rb") as handle:
            for number, raw in enumerate(iter(lambda: handle.readline(100_000), b""), start=1):
                size += len(raw)
                if size > LARGEST:
                    raise UsageError(f"{path}: too large", expected=f"at most {LARGEST} bytes")
                line = raw.decode("ascii").strip()
                if line and not line.startswith("#"):
                    yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: damaged", found=str(error)[:200]) from error
