"""OpenMM and its companions: imported where they are used, with a clear error where missing."""

import importlib
from typing import Any, Final

from cgbench.errors import UsageError

_INSTALL: Final = "pip install 'cgbench[generate]'"


def require(module: str) -> Any:
    """Import a module of the extra ``generate``.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"all-atom simulations need {module.partition('.')[0]}", found=error, fix=_INSTALL
        ) from error


def platform(name: str | None) -> Any:
    """Return an OpenMM platform by its name in any case; the fastest there is for None.

    Raises:
        UsageError: OpenMM has no such platform here.
    """
    openmm = require("openmm")
    known = [
        openmm.Platform.getPlatform(index) for index in range(openmm.Platform.getNumPlatforms())
    ]
    if name is None:
        return max(known, key=lambda one: one.getSpeed())
    for one in known:
        if one.getName().lower() == name.lower():
            return one
    raise UsageError(
        f"{name}: OpenMM has no such platform here",
        expected=", ".join(one.getName() for one in known),
        found=name,
        fix="CUDA needs pip install 'openmm[cuda12]' and a driver"
        if "cuda" in name.lower()
        else None,
    )
