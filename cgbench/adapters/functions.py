"""Functions of other code that make potentials: ``package.module:function`` and entry points."""

import contextlib
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from cgbench.adapters.base import Adapted, AdaptedPotential, Request
from cgbench.adapters.parts import said_of
from cgbench.errors import CgbenchError, ValidationError
from cgbench.models import NetworkPotential, Potential, PotentialSpec, ProgramPotential
from cgbench.results.adapter import AdapterIdentity

#: What a function must be and give, for messages.
_EXPECTED = "function(path) that returns a potential: (bead_types, pos, batch) → (energy, forces)"


def load_function(
    target: str,
    request: Request,
    *,
    name: str | None = None,
    origin: Literal["entry point", "function"] = "function",
    distribution: str | None = None,
    version: str | None = None,
) -> Adapted:
    """Call ``package.module:function`` with the path of a model, where it is trusted.

    All options go to the function, as text, by their names.

    Args:
        target: The function.
        request: Model, options and trust.
        name: Name of the adapter, if it is not the function's.
        origin: Where the function comes from.
        distribution: The distribution that brings it; found by the name of its package if None.
        version: Its version.

    Raises:
        UsageError: It is not trusted, or there is no such function.
        ValidationError: It fails, or returns something else than a potential.
    """
    found = distribution or _distribution(target)
    version = version or _version(found)
    brought = f" of {found} {version}" if found and version else ""
    made = call_function(target, request, _EXPECTED, f"the function {target}{brought}")
    identity = AdapterIdentity(
        name=name or target,
        version=version or "not stated",
        origin=origin,
        foreign_code=True,
        runs=(f"{target}{brought}"[:200],),
        options=request.recorded(),
    )
    return Adapted(_potential(target, made, request, identity), identity)


def call_function(target: str, request: Request, expected: str, runs: str | None = None) -> Any:
    """Return what ``package.module:function`` makes of a path and options, where it is trusted.

    Args:
        target: The function.
        request: Path, options and trust.
        expected: What the function must be and give, for messages.
        runs: What is run, for the question whether it is trusted; the function if None.

    Raises:
        UsageError: It is not trusted.
        ValidationError: There is no such function, or it fails.
    """
    request.require_trust(runs or f"the function {target}")
    function = import_function(target)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return function(request.path, **request.options)
    except CgbenchError:
        raise
    # Foreign code may raise anything; the caller is told which function it was.
    except Exception as error:
        raise ValidationError(
            f"{target}: failed on {request.path}", expected=expected, found=told(error)
        ) from error


def import_function(target: str) -> Callable[..., Any]:
    """Return ``package.module:function``; importing it runs its module.

    Modules are looked for where Python does, and last in the current folder.

    Raises:
        ValidationError: It is not of that form, cannot be imported, or is no function.
    """
    module_name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise ValidationError(
            f"{target!r}: not the name of a function", expected="package.module:function"
        )
    try:
        with _current_folder(), contextlib.redirect_stdout(sys.stderr):
            function: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            function = getattr(function, part)
    except Exception as error:
        raise ValidationError(
            f"{target}: cannot be imported",
            expected="a function that Python finds",
            found=told(error),
            fix="install its package, or run cgbench in the folder that holds it",
        ) from error
    if not callable(function):
        raise ValidationError(
            f"{target}: not a function", expected=_EXPECTED, found=type(function).__name__
        )
    return function  # type: ignore[no-any-return]


def told(error: BaseException) -> str:
    """Return an exception in one printable line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(letter for letter in text if letter.isprintable())[:300]


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    """Let Python look in the current folder, after everything that is installed."""
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _potential(target: str, made: Any, request: Request, identity: AdapterIdentity) -> Potential:
    """Return what a function made as a potential."""
    if isinstance(made, NetworkPotential | ProgramPotential):
        return made
    if not callable(made):
        raise ValidationError(
            f"{target}: does not return a potential", expected=_EXPECTED, found=type(made).__name__
        )
    spec = getattr(made, "spec", None)
    if not isinstance(spec, PotentialSpec):
        spec = said_of(request.path, request.name)
    elif request.name is not None:
        spec = spec.model_copy(update={"name": request.name})
    return AdaptedPotential(made, spec, identity, cutoffs=_cutoffs(made))


def _cutoffs(made: Any) -> tuple[float, ...] | None:
    try:
        return tuple(float(cutoff) for cutoff in made.cutoffs)
    except (AttributeError, TypeError, ValueError):
        return None


def _distribution(target: str) -> str | None:
    package = target.partition(":")[0].partition(".")[0]
    found = importlib.metadata.packages_distributions().get(package)
    return found[0] if found else None


def _version(distribution: str | None) -> str | None:
    if distribution is None:
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
