"""Structures of domains: cut out of PDB or mmCIF files in a folder, by chain and residue ranges."""

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError
from cgbench.ingest.mmcif import chains_of_mmcif
from cgbench.ingest.native import Residue, chains_of
from cgbench.progress import Progress, silent
from cgbench.splits.cath import Domain, Segment
from cgbench.splits.cath_structures import Structure

#: Endings of files that are read, with or without ``.gz``.
_CIF: Final = (".cif", ".mmcif")
_PDB: Final = (".pdb", ".ent", "")
_ENTRY: Final = re.compile(r"(?:pdb)?([0-9][a-z0-9]{3})")
#: A domain that was cut out already is called by its name.
_DOMAIN: Final = re.compile(r"([0-9][a-z0-9]{3})([A-Za-z0-9]\d\d)")
#: Bytes of the largest entry that is read, unpacked.
_LARGEST: Final = 1024**3
#: Shorter domains have no TM-score.
SHORTEST: Final = 28

Reasons = dict[str, str]


def find_files(folder: Path) -> dict[str, Path]:
    """Return the structure files below a folder, by PDB id or name of a domain.

    Known are ``1abc.pdb``, ``pdb1abc.ent``, ``1abc.cif`` and ``1abcA01``, each also with ``.gz``.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.name.removesuffix(".gz")
        stem, suffix = Path(name).stem, Path(name).suffix
        if suffix not in (*_CIF, *_PDB) or not path.is_file():
            continue
        if (domain := _DOMAIN.fullmatch(stem[:4].lower() + stem[4:])) is not None:
            found.setdefault(domain.group(0), path)
        elif suffix and (entry := _ENTRY.fullmatch(stem.lower())) is not None:
            found.setdefault(entry.group(1), path)
    return found


def read_domains_of(
    folder: Path,
    domains: Sequence[Domain],
    boundaries: Mapping[str, Sequence[Segment]],
    *,
    shortest: int = SHORTEST,
    progress: Progress = silent,
) -> tuple[list[Structure], Reasons]:
    """Cut domains out of the files of a folder.

    Args:
        folder: Where PDB or mmCIF files are.
        domains: What to cut out.
        boundaries: Segments of the domains that are not whole chains.
        shortest: Least number of residues.
        progress: Told of domains done.

    Returns:
        The structures that could be made, and for each other domain why not.
    """
    files = find_files(folder)
    structures: list[Structure] = []
    reasons: Reasons = {}
    read: tuple[Path, dict[str, list[Residue]]] | None = None
    # Domains of an entry follow one another, so that its file is read once.
    for number, domain in enumerate(sorted(domains)):
        progress("read domains", number, len(domains))
        own = files.get(domain.name)
        path = own or files.get(domain.entry)
        if path is None:
            reasons[domain.name] = "no file of the entry"
            continue
        try:
            if read is None or read[0] != path:
                read = (path, read_chains(path))
        except CgbenchError:
            reasons[domain.name] = "the file of the entry cannot be read"
            continue
        found = _cut(domain, read[1], None if own else boundaries.get(domain.name), own is not None)
        if isinstance(found, str):
            reasons[domain.name] = found
        elif found.n_residues < shortest:
            reasons[domain.name] = f"shorter than {shortest} residues"
        elif "?" in found.sequence:
            reasons[domain.name] = "a residue that is no amino acid"
        else:
            structures.append(found)
    progress("read domains", len(domains), len(domains))
    return structures, reasons


def read_chains(path: Path) -> dict[str, list[Residue]]:
    """Return the residues of each chain of the first model of a PDB or mmCIF file.

    Raises:
        IntegrityError: It is damaged, too large, or cannot be parsed.
        ValidationError: It has no Cα atom.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as handle:
            raw = handle.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{path}: damaged", found=str(error)[:200]) from error
    if len(raw) > _LARGEST:
        raise IntegrityError(f"{path}: too large", expected=f"at most {_LARGEST} bytes")
    text = raw.decode("utf-8", errors="replace")
    if Path(path.name.removesuffix(".gz")).suffix in _CIF:
        return chains_of_mmcif(path, text)
    return chains_of(path, text, 1)


def _cut(
    domain: Domain,
    chains: Mapping[str, Sequence[Residue]],
    segments: Sequence[Segment] | None,
    cut_already: bool,
) -> Structure | str:
    """Return a domain of an entry, or why there is none."""
    chain = chains.get(domain.chain)
    if chain is None and domain.chain == "0":
        chain = chains.get(" ")
    if chain is None and cut_already and len(chains) == 1:
        chain = next(iter(chains.values()))
    if chain is None:
        return "no such chain in the entry"
    if segments is None and not (domain.whole_chain or cut_already):
        return "no boundaries of the domain"
    parts = [list(chain)]
    if segments is not None and not domain.whole_chain:
        parts = [_within(chain, segment) for segment in segments]
    if not all(parts):
        return "a segment without residues in the entry"
    residues = [residue for part in parts for residue in part]
    if len({(one.number, one.insertion) for one in residues}) != len(residues):
        return "segments that overlap"
    coordinates = np.array([one.position for one in residues], dtype=np.float32)
    return Structure(
        name=domain.name,
        sequence="".join(one.letter for one in residues),
        coordinates=coordinates,
        intact=_intact(coordinates, [len(part) for part in parts]),
    )


def _within(chain: Sequence[Residue], segment: Segment) -> list[Residue]:
    """Return the residues of a segment; where an end was not observed, those with numbers between.

    Insertion codes order by place in the file where both ends are there, as numbering may run
    backwards in rare entries.
    """
    places = {(one.number, one.insertion): place for place, one in enumerate(chain)}
    first = places.get((segment.first, segment.first_insertion))
    last = places.get((segment.last, segment.last_insertion))
    if first is not None and last is not None:
        return list(chain[first : last + 1])
    return [one for one in chain if segment.first <= one.number <= segment.last]


def _intact(coordinates: NDArray[np.float32], lengths: Sequence[int]) -> NDArray[np.bool_]:
    """Return which neighbours are bonded: as close as a bond is, and of one segment."""
    limits = registry.constants()
    bonds = np.linalg.norm(np.diff(coordinates.astype(np.float64), axis=0), axis=1)
    intact: NDArray[np.bool_] = (bonds >= limits.bond_minimum) & (bonds <= limits.bond_maximum)
    intact[np.cumsum(lengths)[:-1] - 1] = False
    return intact
