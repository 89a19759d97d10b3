"""Sets of single structures: the Cα atoms of domains in one file of plain arrays."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import write_atomic
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.splits.cath_split import StructureSplit, read_structure_split

#: Files of a folder that holds a split and its structures.
SPLIT_FILE: Final = "split.json"
STRUCTURES_FILE: Final = "structures.npz"
#: Bytes of the largest set; 100,000 domains of 150 residues have 200 MB.
_LARGEST: Final = 4 * 1024**3
_ARRAYS: Final = {
    "names": "S",
    "sequences": "S",
    "lengths": "i",
    "coordinates": "f",
    "intact": "b",
}


@dataclass(frozen=True, eq=False)
class Structure:
    """One domain.

    Attributes:
        name: As in the list of domains.
        sequence: One letter a residue.
        coordinates: (n_residues, 3) float32 in Å.
        intact: (n_residues − 1,) whether neighbours in the sequence are bonded: no residue is
            missing between them, and they are of one segment.
    """

    name: str
    sequence: str
    coordinates: NDArray[np.float32]
    intact: NDArray[np.bool_]

    @property
    def n_residues(self) -> int:
        """Number of residues."""
        return len(self.sequence)


class StructureSet:
    """Structures by name.

    Args:
        structures: What is in it, in any order.

    Raises:
        ValidationError: Two have one name, or arrays of one disagree.
    """

    def __init__(self, structures: Sequence[Structure]) -> None:
        self._structures = {one.name: one for one in sorted(structures, key=lambda one: one.name)}
        if len(self._structures) != len(structures):
            raise ValidationError("structures: two have the same name")
        for one in structures:
            n = one.n_residues
            good = one.coordinates.shape == (n, 3) and one.intact.shape == (max(n - 1, 0),)
            if not n or not good or not np.isfinite(one.coordinates).all():
                raise ValidationError(
                    f"structure {one.name}: arrays do not fit its sequence, or are not finite",
                    expected=f"({n}, 3) finite coordinates in Å, ({max(n - 1, 0)},) bonds",
                    found=f"{one.coordinates.shape}, {one.intact.shape}",
                )

    def __len__(self) -> int:
        return len(self._structures)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self._structures.values())

    def __getitem__(self, name: str) -> Structure:
        """Return a structure.

        Raises:
            UsageError: There is none of that name.
        """
        if name not in self._structures:
            raise UsageError(f"structures: none is called {name!r}")
        return self._structures[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in alphabetical order."""
        return tuple(self._structures)

    @property
    def fingerprint(self) -> str:
        """Hash over names, sequences, coordinates and bonds."""
        digest = hashlib.sha256(b"cgbench-structures 1\n")
        for one in self:
            digest.update(f"{one.name} {one.sequence}\n".encode())
            digest.update(np.ascontiguousarray(one.coordinates, dtype="<f4").tobytes())
            digest.update(np.ascontiguousarray(one.intact, dtype=np.uint8).tobytes())
        return "sha256:" + digest.hexdigest()


def write_structures(path: Path, structures: StructureSet) -> None:
    """Write a set, atomically; the same set always gives the same arrays."""
    buffer = io.BytesIO()
    none = np.zeros((0, 3), dtype=np.float32)
    np.savez_compressed(
        buffer,
        names=np.array([one.name.encode() for one in structures], dtype=np.bytes_),
        sequences=np.array("".join(one.sequence for one in structures).encode()),
        lengths=np.array([one.n_residues for one in structures], dtype=np.int64),
        coordinates=np.concatenate([none, *(one.coordinates for one in structures)]),
        # One for each residue, so that all arrays have the same rows; the last of a chain is False.
        intact=np.concatenate(
            [np.zeros(0, dtype=np.bool_), *(np.append(one.intact, False) for one in structures)]
        ),
    )
    write_atomic(path, buffer.getvalue())


def read_structures(path: Path) -> StructureSet:
    """Read a set; nothing in it is unpickled.

    Raises:
        UsageError: No such file.
        IntegrityError: It is damaged, too large, or holds other arrays.
        ValidationError: Its arrays disagree.
    """
    found = _arrays(path)
    lengths = found["lengths"]
    text = found["sequences"].item() if found["sequences"].ndim == 0 else b""
    total = len(found["coordinates"])
    good = (
        lengths.ndim == 1
        and len(lengths) == len(found["names"])
        and bool((lengths > 0).all())
        and int(lengths.sum()) == total == len(text) == len(found["intact"])
        and found["coordinates"].shape == (total, 3)
    )
    if not good:
        raise ValidationError(f"{path}: arrays of structures that do not fit one another")
    ends = np.cumsum(lengths)
    try:
        names = [name.decode("ascii") for name in found["names"].tolist()]
        sequence = text.decode("ascii")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path}: names that are no plain text") from error
    return StructureSet(
        [
            Structure(
                name=name,
                sequence=sequence[end - n : end],
                coordinates=found["coordinates"][end - n : end].astype(np.float32),
                intact=found["intact"][end - n : end - 1].astype(np.bool_),
            )
            for name, end, n in zip(names, ends.tolist(), lengths.tolist(), strict=True)
        ]
    )


def open_structures(folder: Path) -> tuple[StructureSplit, StructureSet]:
    """Read a folder of ``cgbench splits make --cath`` and check that its two files belong together.

    Raises:
        UsageError: A file is not there.
        IntegrityError: A file is damaged.
        ValidationError: The split is not one, or the structures are those of another.
    """
    if not (folder / SPLIT_FILE).is_file():
        raise UsageError(
            f"{folder}: no split of structures",
            expected=f"a folder with {SPLIT_FILE} and {STRUCTURES_FILE}",
            fix="cgbench splits make --cath LIST --structures FOLDER --out FOLDER",
        )
    split = read_structure_split(folder / SPLIT_FILE)
    structures = read_structures(folder / STRUCTURES_FILE)
    if structures.fingerprint != split.structures:
        raise ValidationError(
            f"{folder / STRUCTURES_FILE}: not the structures of {SPLIT_FILE}",
            expected=split.structures,
            found=structures.fingerprint,
            fix="make the split again",
        )
    if missing := sorted(set(split.codes) ^ set(structures.names)):
        raise ValidationError(
            f"{folder}: split and structures are of other domains", found=", ".join(missing[:5])
        )
    return split, structures


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {one.filename: one.file_size for one in archive.infolist()}
        if set(sizes) != {f"{name}.npy" for name in _ARRAYS} or sum(sizes.values()) > _LARGEST:
            raise IntegrityError(
                f"{path}: not a set of structures",
                expected=f"{', '.join(_ARRAYS)}, at most {_LARGEST} bytes",
                found=f"{', '.join(sorted(sizes)[:10])}, {sum(sizes.values())} bytes",
            )
        with np.load(path, allow_pickle=False) as content:
            found = {name: np.asarray(content[name]) for name in _ARRAYS}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, KeyError) as error:
        raise IntegrityError(f"{path}: damaged", found=str(error)[:200]) from error
    for name, kind in _ARRAYS.items():
        if found[name].dtype.kind != kind:
            raise IntegrityError(
                f"{path}: array {name} is of the wrong type", expected=kind, found=found[name].dtype
            )
    return found
