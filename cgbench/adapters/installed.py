"""Which packages are here, told without importing them."""

import importlib.metadata
import importlib.util


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_importable(package: str) -> bool:
    """Tell whether Python finds a top-level package; nothing of it is run."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
