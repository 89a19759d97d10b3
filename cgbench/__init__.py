"""cgbench: data, baselines and one evaluation harness for coarse-grained protein potentials."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgbench.version import __version__

if TYPE_CHECKING:
    import xarray

    from cgbench.models import NetworkPotential
    from cgbench.store import Cache

__all__ = ["__version__", "load", "open"]


def open(  # noqa: A001
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    cache: "Cache | Path | bool | None" = None,
    storage_options: Mapping[str, Any] | None = None,
) -> "xarray.Dataset":
    """Open a store, local, embedded or remote, as a labelled xarray Dataset with units.

    Args:
        name_or_path: A system's name, a store's path, or its address (``https://``, ``http://``,
            ``s3://``).
        home: Data home; the default one if None.
        cache: For addresses: True, a folder, or a ``cgbench.store.Cache``, to keep whole files
            once they were fetched.
        storage_options: For addresses: credentials and the like.

    Raises:
        UsageError: There is no such store, or no access to it; the message says what to do.
        IntegrityError: The store is damaged or unfinished.
    """
    from cgbench import store

    return store.open(name_or_path, home, cache=cache, storage_options=storage_options)


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
