"""Force maps as files: plain arrays in an ``.npz`` and the rest in a ``.json`` beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field

from cgbench.config import Frozen, read_model, write_model
from cgbench.errors import IntegrityError, UsageError
from cgbench.force_maps.arrays import read_arrays, write_arrays
from cgbench.force_maps.maps import FitRecord, ForceMap

_FORMAT: Final = "cgbench-force-map"
_DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "weights": np.float64,
    "sites": np.int64,
    "groups": np.int64,
}


class ForceMapFile(Frozen):
    """What the ``.json`` beside the arrays says.

    Attributes:
        format: Name of this format.
        version: Version of this format.
        name: Name of the map.
        n_beads: Number of beads.
        n_atoms: Number of atoms.
        consistent: Whether atoms joined by constraints have the same weight.
        fit: What the weights were fitted on, None for a map that is not fitted.
        arrays_sha256: Hash of the ``.npz``.
    """

    format: Literal["cgbench-force-map"] = _FORMAT
    version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=100)
    n_beads: int = Field(ge=1)
    n_atoms: int = Field(ge=1)
    consistent: bool
    fit: FitRecord | None
    arrays_sha256: str


def write_force_map(path: Path, force_map: ForceMap) -> None:
    """Write a map as ``path`` (``.npz``) and the ``.json`` of the same name.

    Raises:
        UsageError: The path does not end in ``.npz``.
    """
    _check_suffix(path)
    arrays = {name: getattr(force_map, name) for name in _DTYPES}
    write_model(
        path.with_suffix(".json"),
        ForceMapFile(
            name=force_map.name,
            n_beads=force_map.n_beads,
            n_atoms=force_map.n_atoms,
            consistent=force_map.consistent,
            fit=force_map.fit,
            arrays_sha256=write_arrays(path, arrays),
        ),
    )


def read_force_map(path: Path) -> ForceMap:
    """Read a map that ``write_force_map`` wrote; nothing in the files is executed.

    Raises:
        UsageError: A file is missing, or the path does not end in ``.npz``.
        IntegrityError: A file is damaged, unsafe, or not the one that the other describes.
        ValidationError: The arrays are no force map.
    """
    _check_suffix(path)
    record = read_model(ForceMapFile, path.with_suffix(".json"))
    arrays = read_arrays(path, _DTYPES, record.arrays_sha256)
    force_map = ForceMap(
        record.name, arrays["weights"], arrays["sites"], arrays["groups"], record.fit
    )
    found = (force_map.n_beads, force_map.n_atoms, force_map.consistent)
    expected = (record.n_beads, record.n_atoms, record.consistent)
    if found != expected:
        raise IntegrityError(
            f"{path}: beads, atoms or consistency are not as described",
            expected=expected,
            found=found,
        )
    return force_map


def _check_suffix(path: Path) -> None:
    if path.suffix != ".npz":
        raise UsageError(f"{path}: not the name of a force map", expected="a name ending in .npz")
