"""cgbench: data, baselines and one evaluation harness for coarse-grained protein potentials."""

from pathlib import Path
from typing import TYPE_CHECKING

from cgbench.version import __version__

if TYPE_CHECKING:
    import xarray

    from cgbench.models import NetworkPotential

__all__ = ["__version__", "load", "open"]


def open(name_or_path: str | Path, home: Path | None = None) -> "xarray.Dataset":  # noqa: A001
    """Open a store, local or embedded, as a labelled xarray Dataset with units.

    Args:
        name_or_path: A system's name, or a store's path.
        home: Data home; the default one if None.

    Raises:
        UsageError: There is no such store; the message says which command gets it.
        IntegrityError: The store is damaged or unfinished.
    """
    from cgbench import store

    return store.open(name_or_path, home)


def load(name_or_path: str | Path, home: Path | None = None) -> "NetworkPotential":
    """Load a model, local or shipped, from its ``model.pt``; nothing in it is executed.

    Args:
        name_or_path: A model's name, as ``torchmd-gn/chignolin-sample``, or a file.
        home: Data home; the default one if None.

    Raises:
        UsageError: There is no such model.
        IntegrityError: The file is damaged or unsafe.
    """
    from cgbench import models

    return models.load(name_or_path, home)
