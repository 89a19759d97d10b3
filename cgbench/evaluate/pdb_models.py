"""Structures of a pdb file: the Cα atoms of every model, read line by line.

Columns follow the format description of the wwPDB, version 3.30. Only Cα atoms are kept, so that
files of all atoms and many models fit into memory.
"""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate.sequence_match import UNKNOWN, Chain, residue_letters

_LARGEST: Final = 8 * 1024**3


@dataclass(frozen=True, eq=False)
class PdbModels:
    """Models of one file.

    Attributes:
        path: The file.
        coordinates: (n_models, n_alpha_carbons, 3) float32 in Å.
        chains: The chains of the first model; their atoms count the Cα atoms.
    """

    path: Path
    coordinates: NDArray[np.float32]
    chains: tuple[Chain, ...]


def read_pdb_models(path: Path) -> PdbModels:
    """Read all models of a pdb file.

    Raises:
        UsageError: No such file, or too large for a text format.
        IntegrityError: A line cannot be parsed, or the file is cut off within a model.
        ValidationError: No Cα atom, or models differ in their atoms.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size > _LARGEST:
        raise UsageError(
            f"{path}: too large for a text format",
            expected=f"at most {_LARGEST} bytes",
            found=size,
            fix="convert it to xtc",
        )
    reader = _Reader(path)
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            reader.take(number, line)
    return reader.finish()


class _Reader:
    """What was read so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = array("f")
        self.residues: list[tuple[int, bytes, bytes]] = []
        self.n_models = 0
        self.in_model = False
        self.count = 0
        self.ends = 0
        self.last: bytes | None = None
        self.letters = {key.encode(): one for key, one in residue_letters().items()}

    def take(self, number: int, line: bytes) -> None:
        """Take one line."""
        record = line[:6].rstrip()
        if record in (b"ATOM", b"HETATM"):
            if line[12:16].strip() == b"CA" and _is_carbon(line):
                self._atom(number, line)
        elif record == b"MODEL":
            if self.in_model or self.count:
                self._end_model(number)
            self.in_model = True
        elif record == b"ENDMDL":
            self._end_model(number)
        elif record == b"TER":
            self.ends += 1

    def _atom(self, number: int, line: bytes) -> None:
        # Alternate locations of a residue follow one another; the first is taken.
        residue = line[21:27]
        if self.last is not None and self.last == line[17:27] and line[16:17] not in b" A":
            return
        self.last = line[17:27]
        try:
            place = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
        except ValueError as error:
            raise IntegrityError(
                f"{self.path}: line {number} cannot be parsed",
                expected="coordinates in columns 31 to 54",
                found=line.decode("ascii", errors="replace").rstrip()[:80],
            ) from error
        self.values.extend(place)
        self.count += 1
        if self.n_models == 0:
            chain = residue[:1].strip() or line[72:76].strip()
            self.residues.append((self.ends, chain, line[17:20].strip()))

    def _end_model(self, number: int) -> None:
        if self.count != len(self.residues) or not self.count:
            raise ValidationError(
                f"{self.path}: the model that ends at line {number} has other atoms than the first",
                expected=f"{len(self.residues) or 'at least one'} Cα atoms",
                found=self.count,
            )
        self.n_models += 1
        self.in_model = False
        self.count = 0
        self.ends = 0
        self.last = None

    def finish(self) -> PdbModels:
        """Return the models after the last line."""
        if self.in_model:
            raise IntegrityError(
                f"{self.path}: cut off within model {self.n_models + 1}",
                expected="an ENDMDL record",
                fix="get the file again",
            )
        if self.n_models == 0 and self.count:
            self._end_model(0)
        if not self.n_models:
            raise ValidationError(f"{self.path}: holds no Cα atom", fix="is it a pdb file?")
        coordinates = np.frombuffer(self.values, dtype=np.float32)
        return PdbModels(
            path=self.path,
            coordinates=coordinates.reshape(self.n_models, len(self.residues), 3),
            chains=self._chains(),
        )

    def _chains(self) -> tuple[Chain, ...]:
        places: dict[tuple[int, bytes], list[int]] = {}
        for index, (ends, chain, _) in enumerate(self.residues):
            places.setdefault((ends, chain), []).append(index)
        return tuple(
            Chain(
                label=f"chain {chain.decode('ascii', errors='replace') or number + 1}",
                sequence="".join(
                    self.letters.get(self.residues[index][2], UNKNOWN) for index in indices
                ),
                atoms=np.array(indices, dtype=np.int64),
            )
            for number, ((_, chain), indices) in enumerate(places.items())
        )


def _is_carbon(line: bytes) -> bool:
    """Tell a Cα from a calcium ion, which is named CA as well."""
    return line[17:20].strip() not in (b"CA", b"CAL") and line[76:78].strip() != b"CA"
