"""Weights by name: found in the data home or the package, and never others than the name's."""

from pathlib import Path

from cgbench.errors import IntegrityError
from cgbench.models.files import model_hash
from cgbench.registry import zoo
from cgbench.store import find_model


def find_weights(name_or_path: str | Path, home: Path | None = None) -> Path:
    """Return the file of a model; that of a name of the zoo holds the weights of that name.

    Args:
        name_or_path: A file, or a name as ``torchmd-gn/chignolin-sample``, looked for in the data
            home and then in the package.
        home: Data home; the default one if None.

    Raises:
        UsageError: Neither a file nor a known name.
        IntegrityError: The file is damaged or unsafe, or holds other weights than the zoo's.
    """
    path = find_model(name_or_path, home)
    for entry in zoo():
        if entry.name == str(name_or_path):
            require_hash(path, entry.name, entry.hash)
    return path


def require_hash(path: Path, name: str, expected: str) -> None:
    """Compare the content of a file with the hash that the zoo states for a name.

    Raises:
        IntegrityError: It is not that content, or the file is damaged or unsafe.
    """
    found = model_hash(path)
    if found != expected:
        raise IntegrityError(
            f"{path}: not the weights of {name}",
            expected=expected,
            found=found,
            fix=f"remove the file, or give your own model another name; 'cgbench models get "
            f"{name}' brings the zoo's",
        )
