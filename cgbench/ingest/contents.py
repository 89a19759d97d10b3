"""What a published file must hold: looked at from its first bytes, and again when it is whole.

The first look spares the download of gigabytes that are of no use: an ``.npy`` header tells the
number of beads, and its size must be what the server announces. The second compares residues and
bead types with the registry's.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cgbench import registry
from cgbench.config import MAX_TEXT_BYTES, read_text
from cgbench.errors import IntegrityError, ValidationError
from cgbench.ingest.npy import parse_header, read_header
from cgbench.registry import RemoteFile

#: Record names with which a pdb file can begin.
_PDB_RECORDS: Final = (
    "HEADER", "OBSLTE", "TITLE", "SPLIT", "CAVEAT", "COMPND", "SOURCE", "KEYWDS", "EXPDTA",
    "AUTHOR", "REMARK", "CRYST1", "MODEL", "ATOM", "HETATM",
)  # fmt: skip
#: The first number of a frame of an xtc file, the second since files may exceed 2 GB per frame.
_XTC_MAGIC: Final = (1995, 2023)
_ARCHIVES: Final = {".gz": b"\x1f\x8b", ".zip": b"PK", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}
_FIX: Final = "the server sent something else; try again later, or another --mirror"

HeadCheck = Callable[[bytes, int | None], None]


def head_check(file: RemoteFile) -> HeadCheck:
    """Return the check of a file's first bytes and announced size, for its kind of content.

    The check raises IntegrityError for bytes that are no such file, and ValidationError for a file
    of other data than the registry's.
    """

    def check(head: bytes, size: int | None) -> None:
        if file.content.startswith("npy"):
            _check_npy(file, head, size)
        elif file.content == "xtc":
            _check_xtc(file, head)
        elif file.content == "archive":
            _check_archive(file, head)
        else:
            _check_text(file, head, size)

    return check


def check_contents(file: RemoteFile, path: Path) -> None:
    """Check a downloaded file against the registry; archives are checked when they are unpacked.

    Raises:
        IntegrityError: It is damaged.
        ValidationError: Beads, residues or types are not those of the system.
    """
    if file.content.startswith("npy"):
        read_header(path)
        if file.content == "npy-bead-types":
            _check_bead_types(file, path)
    elif file.content == "psf":
        residues = read_psf_residues(path)
        _check_count(file, len(residues))
        if file.kind == "setup":
            _check_residues(file, path, residues)
    elif file.content == "pdb" and file.n_beads is not None:
        lines = read_text(path).splitlines()
        _check_count(file, sum(line.startswith(("ATOM", "HETATM")) for line in lines))


def check_arrays_agree(files: Sequence[tuple[RemoteFile, Path]]) -> None:
    """Check that the arrays of frames of one system have the same number of frames.

    Raises:
        ValidationError: They do not.
    """
    frames = {
        file.name: read_header(path).shape[0]
        for file, path in files
        if file.content in ("npy-coordinates", "npy-forces")
    }
    if len(set(frames.values())) > 1:
        raise ValidationError(
            f"{files[0][0].system}: coordinates and forces have different numbers of frames",
            found=", ".join(f"{name}: {number}" for name, number in frames.items()),
            fix="the publisher changed one of them; fetch all again with --force",
        )


def read_psf_residues(path: Path) -> list[str]:
    """Return the residue name of each atom of a psf file.

    Raises:
        IntegrityError: It has no section of atoms, or the section is cut off.
    """
    lines = read_text(path).splitlines()
    first = next((number for number, line in enumerate(lines) if "!NATOM" in line), None)
    try:
        if first is None:
            raise ValueError("no !NATOM")
        count = int(lines[first].split()[0])
        rows = [line.split() for line in lines[first + 1 : first + 1 + count]]
        residues = [row[3] for row in rows]
        if len(residues) != count:
            raise ValueError(f"{len(residues)} of {count} atoms")
    except (ValueError, IndexError) as error:
        raise IntegrityError(f"{path}: not a psf file, or cut off", found=error) from error
    return residues


def _check_npy(file: RemoteFile, head: bytes, size: int | None) -> None:
    header = parse_header(head, size, file.url)
    shape: tuple[int, ...] = header.shape
    if file.content == "npy-bead-types":
        expected, kinds = f"({file.n_beads},)", "iu"
        fits = shape == (file.n_beads,)
    else:
        expected, kinds = f"(n_frames, {file.n_beads}, 3)", "f"
        fits = len(shape) == 3 and shape[0] > 0 and shape[1:] == (file.n_beads, 3)
    if not fits:
        raise ValidationError(
            f"{file.url}: not an array of {file.system}, {file.n_beads} beads",
            expected=expected,
            found=shape,
            fix="nothing of it was fetched; tell its publisher",
        )
    if header.dtype.kind not in kinds:
        raise ValidationError(
            f"{file.url}: numbers of the wrong kind",
            expected="integers" if kinds == "iu" else "floating-point numbers",
            found=header.dtype,
        )


def _check_xtc(file: RemoteFile, head: bytes) -> None:
    if len(head) < 8:
        raise IntegrityError(f"{file.url}: not an xtc file", found=f"{len(head)} bytes", fix=_FIX)
    magic, n_atoms = struct.unpack(">2i", head[:8])
    if magic not in _XTC_MAGIC:
        raise IntegrityError(f"{file.url}: not an xtc file", found=repr(head[:16]), fix=_FIX)
    _check_count(file, n_atoms)


def _check_archive(file: RemoteFile, head: bytes) -> None:
    magic = _ARCHIVES[Path(file.name).suffix]
    if not head.startswith(magic):
        raise IntegrityError(
            f"{file.url}: not an archive", expected=repr(magic), found=repr(head[:16]), fix=_FIX
        )


def _check_text(file: RemoteFile, head: bytes, size: int | None) -> None:
    if size is not None and size > MAX_TEXT_BYTES:
        raise IntegrityError(
            f"{file.url}: too large for a {file.content} file",
            expected=f"at most {MAX_TEXT_BYTES} bytes",
            found=size,
            fix=_FIX,
        )
    first = head.lstrip()[:80].split(b"\n")[0].decode("ascii", errors="replace").rstrip()
    sane = bool(first) and b"\0" not in head and not first.startswith("<")
    if file.content == "psf":
        sane = sane and first.startswith("PSF")
    elif file.content == "pdb":
        sane = sane and first.startswith(_PDB_RECORDS)
    if not sane:
        raise IntegrityError(
            f"{file.url}: not a {file.content} file", found=repr(first) or "no text", fix=_FIX
        )


def _check_count(file: RemoteFile, found: int) -> None:
    if file.n_beads is not None and found != file.n_beads:
        raise ValidationError(
            f"{file.url}: not the beads of {file.system}",
            expected=f"{file.n_beads} atoms",
            found=found,
            fix="tell its publisher",
        )


def _check_residues(file: RemoteFile, path: Path, residues: Sequence[str]) -> None:
    expected = registry.system(file.system).sequence
    found = registry.bead_vocabulary().sequence(residues)
    if found != expected:
        raise ValidationError(
            f"{path}: the residues are not those of {file.system}", expected=expected, found=found
        )


def _check_bead_types(file: RemoteFile, path: Path) -> None:
    expected = registry.system(file.system).bead_types
    shape = read_header(path).shape
    # A header that says more would be read into memory whole.
    found = np.load(path, allow_pickle=False).tolist() if shape == (len(expected),) else None
    if found != list(expected):
        raise ValidationError(
            f"{path}: the bead types are not those of {file.system}",
            expected=" ".join(map(str, expected)),
            found=f"shape {shape}" if found is None else " ".join(map(str, found)),
        )
