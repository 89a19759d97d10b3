"""Profiles of evolutionary frequencies, read from files."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import file_sha256
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.nemo.features import AMINO_ACIDS, Profile, check_profile

#: Bytes of the largest profile file.
_LARGEST_FILE: Final = 16 * 1024**2


def read_profile(path: Path, sequence: str) -> Profile:
    """Read a profile: a ``.npy`` of (N, 20) numbers, or text with 20 numbers a line.

    Columns are in the order of ``AMINO_ACIDS``. Lines of text may begin with the residue's letter,
    which is then compared; ``#`` begins a comment.

    Raises:
        UsageError: No such file, or too large.
        IntegrityError: It cannot be parsed.
        ValidationError: It is of another sequence, or holds no frequencies.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file", expected="a .npy or text file of frequencies")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise UsageError(
            f"{path}: too large for a profile", expected=f"{_LARGEST_FILE} bytes", found=size
        )
    found = _read_npy(path) if path.suffix == ".npy" else _read_text(path, sequence)
    check_profile(found, len(sequence), str(path))
    return np.asarray(found, dtype=np.float32)


def profile_hash(path: Path) -> str:
    """Return ``sha256:…`` of a profile file."""
    return f"sha256:{file_sha256(path)}"


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise IntegrityError(f"{path}: no array of numbers", found=str(error)[:200]) from error
    return found


def _read_text(path: Path, sequence: str) -> NDArray[Any]:
    rows: list[list[float]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path}: not text", found=str(error)[:200]) from error
    for number, line in enumerate(lines, start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) == len(AMINO_ACIDS) + 1:
            letter = fields.pop(0)
            place = len(rows)
            if place >= len(sequence) or letter != sequence[place]:
                raise ValidationError(
                    f"{path}: line {number} is of another residue",
                    expected=sequence[place] if place < len(sequence) else "the end",
                    found=letter[:20],
                )
        if len(fields) != len(AMINO_ACIDS):
            raise IntegrityError(
                f"{path}: line {number} cannot be parsed",
                expected="20 numbers, perhaps after the residue's letter",
                found=f"{len(fields)} fields",
            )
        try:
            rows.append([float(field) for field in fields])
        except ValueError as error:
            raise IntegrityError(
                f"{path}: line {number} cannot be parsed", found=line[:80]
            ) from error
    if not rows:
        raise IntegrityError(f"{path}: holds no frequencies")
    return np.array(rows)
