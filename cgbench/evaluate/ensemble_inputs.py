"""Which files an ensemble is in: one file, a folder, a pattern, or a ``trajectories.zarr``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cgbench.errors import UsageError

Kind = Literal["zarr", "trajectories", "pdb", "npz", "npy"]

#: Formats of trajectories, one file each; a folder of pdb files counts where there is no other.
TRAJECTORY_SUFFIXES: Final = (".xtc", ".trr", ".dcd", ".nc", ".ncdf", ".netcdf", ".h5", ".hdf5")
FORMATS: Final = "xtc, trr, dcd, netcdf, h5, pdb, npz, npy, or trajectories.zarr"
_MAGIC: Final = frozenset("*?[")


@dataclass(frozen=True)
class Inputs:
    """Files of one format that are an ensemble.

    Attributes:
        path: What was named.
        kind: The format.
        files: The files in natural order; for zarr its folder.
    """

    path: Path
    kind: Kind
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What to call the ensemble."""
        inside = self.files[0]
        if self.kind == "zarr":
            return inside.resolve().parent.name or inside.stem
        if len(self.files) == 1 and not self.path.is_dir():
            return inside.stem
        return (inside if _MAGIC & set(str(self.path)) else self.path / "x").resolve().parent.name


def find_inputs(path: Path, ignore: Sequence[Path] = ()) -> Inputs:
    """Find the files of an ensemble.

    Args:
        path: A file, a ``trajectories.zarr``, a run folder that holds one, any folder of files of
            one format, or a pattern as ``runs/*.xtc``.
        ignore: Files that are something else, as a topology or weights.

    Raises:
        UsageError: Nothing there, no file of a known format, or files of several formats.
    """
    if path.is_dir():
        for folder in (path / "trajectories.zarr", path):
            if (folder / "zarr.json").is_file():
                return Inputs(path, "zarr", (folder,))
        found = [file for file in path.rglob("*") if not file.name.startswith(".")]
    elif path.is_file():
        return Inputs(path, _one_kind(path, [path]), (path,))
    elif _MAGIC & set(str(path)):
        found = list(_matching(path))
    else:
        raise UsageError(f"{path}: no such file or folder", expected=FORMATS)
    ignored = {one.resolve() for one in ignore}
    files = [
        file
        for file in found
        if _kind(file) is not None and file.is_file() and file.resolve() not in ignored
    ]
    kind = _one_kind(path, files)
    return Inputs(path, kind, _ordered(file for file in files if _kind(file) == kind))


def _matching(pattern: Path) -> Iterable[Path]:
    """Return the paths that fit a pattern."""
    parts = pattern.expanduser().parts
    first = next(index for index, part in enumerate(parts) if _MAGIC & set(part))
    return Path(*parts[:first]).glob("/".join(parts[first:]))


def _ordered(files: Iterable[Path]) -> tuple[Path, ...]:
    from cgbench.ingest.topology import natural_order

    return tuple(sorted(files, key=natural_order))


def _kind(path: Path) -> Kind | None:
    suffix = path.suffix.lower()
    if suffix in TRAJECTORY_SUFFIXES:
        return "trajectories"
    kinds: dict[str, Kind] = {".pdb": "pdb", ".ent": "pdb", ".npz": "npz", ".npy": "npy"}
    return kinds.get(suffix)


def _one_kind(path: Path, files: Sequence[Path]) -> Kind:
    kinds = {kind for file in files if (kind := _kind(file)) is not None}
    # Beside trajectories, pdb files are their topologies.
    if len(kinds) > 1:
        kinds.discard("pdb")
    if len(kinds) != 1:
        raise UsageError(
            f"{path}: {'structures of several formats' if kinds else 'no structures'}",
            expected=f"files of one of {FORMATS}",
            found=", ".join(sorted(kinds)) or path.suffix or "none",
            fix="name the files by a pattern" if kinds else None,
        )
    return kinds.pop()
