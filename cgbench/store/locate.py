"""Where files are: an explicit path, else the data home, else the data embedded in the package.

A data home holds ``store/<system>.zarr``, ``references/<version>/<system>.zarr``,
``splits/<system>/<split>.json``, ``models/<name>/model.pt`` and ``native/<system>.pdb``. The
package's assets have the same layout, under their own names only: nothing embedded ever stands in
for a published system.
"""

import re
from pathlib import Path
from typing import Final

from cgbench.config import assets_home, data_home
from cgbench.errors import UsageError
from cgbench.registry import system as registry_system

REFERENCE_VERSION: Final = "v2"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def find_store(name: str | Path, home: Path | None = None) -> Path:
    """Return the folder of a store, given its system's name or its path.

    Raises:
        UsageError: It is nowhere; the message says which command gets it.
    """
    return _find(
        name, f"store/{name}.zarr", ".zarr", "store", f"cgbench preprocess {name}", home, str(name)
    )


def find_reference(name: str | Path, home: Path | None = None) -> Path:
    """Return the folder of a reference bundle, given its system's name or its path.

    Raises:
        UsageError: It is nowhere; the message says which command makes it.
    """
    return _find(
        name,
        f"references/{REFERENCE_VERSION}/{name}.zarr",
        ".zarr",
        "reference bundle",
        f"cgbench reference build {name}",
        home,
        str(name),
    )


def find_split(name: str, split_id: str | Path, home: Path | None = None) -> Path:
    """Return the file of a split of a system, given the split's id or its path.

    Raises:
        UsageError: It is nowhere; the message says which command makes it.
    """
    return _find(
        split_id,
        f"splits/{name}/{split_id}.json",
        ".json",
        f"split of {name}",
        f"cgbench splits make {name} --split {split_id}",
        home,
        name,
    )


def find_model(name: str | Path, home: Path | None = None) -> Path:
    """Return the file of a model, given its name or its path.

    Raises:
        UsageError: It is nowhere; the message says which command makes one.
    """
    return _find(
        name,
        f"models/{name}/model.pt",
        ".pt",
        "model",
        "give the path of a model.pt, or make one with 'cgbench train'",
        home,
        None,
    )


def find_native(name: str | Path, home: Path | None = None) -> Path:
    """Return the PDB file of a system's native structure, given its name or its path.

    Raises:
        UsageError: It is nowhere; the message says where to put it.
    """
    return _find(
        name,
        f"native/{name}.pdb",
        ".pdb",
        "native structure",
        f"put the Cα atoms of the native structure at {data_home(home) / f'native/{name}.pdb'}",
        home,
        str(name),
    )


def _is_path(name: str | Path, suffix: str) -> bool:
    """Return whether a path is meant: a name of ours has no suffix and no leading folder."""
    if isinstance(name, Path):
        return True
    return name.endswith(suffix) or name.startswith((".", "/", "~")) or "\\" in name


def _find(
    name: str | Path,
    relative: str,
    suffix: str,
    what: str,
    command: str,
    home: Path | None,
    system: str | None,
) -> Path:
    if _is_path(name, suffix):
        path = Path(name).expanduser()
        if not path.exists():
            raise UsageError(f"{path}: no such {what}")
        return path
    if not _NAME.fullmatch(str(name)):
        raise UsageError(
            f"{str(name)!r}: not a name of a {what}", expected="letters, digits, '.', '_' and '-'"
        )
    for folder in (data_home(home), assets_home()):
        if (folder / relative).exists():
            return folder / relative
    unfinished = data_home(home) / f"{relative}.partial"
    if unfinished.exists():
        # Named by its reader, which knows what is missing.
        return unfinished
    if system is not None:
        # An unknown name is told apart from data that is not here.
        registry_system(system)
    raise UsageError(
        f"{name}: no {what} here", found=f"nothing at {data_home(home) / relative}", fix=command
    )
