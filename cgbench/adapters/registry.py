"""All adapters: those of this package, those of others, and functions named by their user."""

import importlib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, Literal

from cgbench import config
from cgbench.adapters.base import Adapted, AdapterChoice, Request
from cgbench.adapters.functions import load_function
from cgbench.adapters.installed import is_importable, version_of
from cgbench.config import Frozen
from cgbench.errors import UsageError, ValidationError
from cgbench.models import Potential, load_program
from cgbench.results.adapter import AdapterIdentity

#: Entry points of other packages: a name, and a function that takes a path.
GROUP: Final = "cgbench.potentials"


@dataclass(frozen=True)
class _BuiltIn:
    reads: str
    runs: str
    module: str | None
    package: str | None
    distribution: str | None
    always_trust: bool


_BUILT_IN: Final = {
    "torchmdnet": _BuiltIn(
        reads="TorchMD-Net training checkpoints (.ckpt)",
        runs="nothing foreign for graph-network; the package torchmd-net for other models",
        module="cgbench.adapters.torchmdnet",
        package=None,
        distribution="torchmd-net",
        always_trust=False,
    ),
    "mlcg": _BuiltIn(
        reads="mlcg models saved whole",
        runs="code pickled in the file, and the package mlcg",
        module="cgbench.adapters.mlcg",
        package="mlcg",
        distribution="mlcg",
        always_trust=True,
    ),
    "ase": _BuiltIn(
        reads="whatever a function makes an ASE calculator of",
        runs="that function, and the package ase",
        module="cgbench.adapters.ase",
        package="ase",
        distribution="ase",
        always_trust=True,
    ),
    "program": _BuiltIn(
        reads="TorchScript and torch.export archives (also without --adapter)",
        runs="the program in the file",
        module=None,
        package=None,
        distribution="torch",
        always_trust=True,
    ),
}


class AdapterListing(Frozen):
    """One adapter, as ``cgbench adapters list`` shows it.

    Attributes:
        name: What ``--adapter`` takes.
        origin: Who brings it.
        reads: What it opens.
        runs: What is run when it opens something.
        needs_trust: When ``--trust`` has to be given.
        available: Whether what it needs is installed.
        version: Version of what it runs, where that is installed.
        note: What is wrong, if something is.
    """

    name: str
    origin: Literal["built-in", "entry point"]
    reads: str
    runs: str
    needs_trust: Literal["always", "for foreign models"]
    available: bool
    version: str | None
    note: str | None = None


def list_adapters() -> tuple[AdapterListing, ...]:
    """Return all adapters; nothing of other packages is imported, broken ones carry a note."""
    listed = [_listed(name, one) for name, one in _BUILT_IN.items()]
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    names = [point.name for point in points]
    for point in points:
        distribution = point.dist
        note = _problem(point, names.count(point.name) > 1)
        listed.append(
            AdapterListing(
                name=point.name,
                origin="entry point",
                reads="what its package says",
                runs=point.value,
                needs_trust="always",
                available=note is None,
                version=None
                if distribution is None
                else f"{distribution.name} {distribution.version}",
                note=note,
            )
        )
    return tuple(listed)


def _listed(name: str, one: _BuiltIn) -> AdapterListing:
    version = None if one.distribution is None else version_of(one.distribution)
    available = one.package is None or is_importable(one.package)
    note = None
    if name == "torchmdnet" and version is None:
        note = "torchmd-net is not installed: only graph-network can be opened"
    elif not available:
        note = f"{one.distribution} is not installed"
    return AdapterListing(
        name=name,
        origin="built-in",
        reads=one.reads,
        runs=one.runs,
        needs_trust="always" if one.always_trust else "for foreign models",
        available=available,
        version=None if version is None else f"{one.distribution} {version}",
        note=note,
    )


def _problem(point: EntryPoint, twice: bool) -> str | None:
    """Say why an entry point cannot be used, as far as that shows without importing it."""
    if point.name in _BUILT_IN:
        return "left out: an adapter of cgbench has the same name"
    if twice:
        return "left out: two packages bring an adapter of this name"
    module, _, attribute = point.value.partition(":")
    if not attribute:
        return f"left out: {point.value!r} names no function"
    if not is_importable(module.partition(".")[0]):
        return f"left out: Python does not find {module.partition('.')[0]}"
    return None


def load_adapted(choice: AdapterChoice, path: Path, *, trust: bool, name: str | None) -> Adapted:
    """Open a model through an adapter.

    Args:
        choice: Name and options.
        path: The model.
        trust: Whether code that is not of this package may be run.
        name: What the potential is called; what its file says if None.

    Raises:
        UsageError: No such adapter, model or option, or something that is not trusted.
        IntegrityError: The file is damaged or unsafe.
        ValidationError: The model cannot be used; the message says what was expected.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such model")
    request = Request(path, dict(choice.options), trust, name)
    if choice.name == "program":
        return _program(request)
    if choice.name in _BUILT_IN:
        one = _BUILT_IN[choice.name]
        if one.package is not None and not is_importable(one.package):
            request.require_trust(one.runs)
            raise UsageError(
                f"--adapter {choice.name}: the package {one.distribution} is not installed",
                fix="pip install 'cgbench[adapters]'; mlcg is installed from its repository",
            )
        adapted: Adapted = importlib.import_module(str(one.module)).load(request)
        return adapted
    if ":" in choice.name:
        return load_function(choice.name, request)
    return _entry_point(choice.name, request)


def load(
    name: str,
    path: Path | str,
    options: dict[str, str] | None = None,
    *,
    trust: bool = False,
    potential_name: str | None = None,
) -> Potential:
    """Open a model of another program.

    Args:
        name: ``torchmdnet``, ``mlcg``, ``ase``, ``program``, the name of an entry point of the
            group ``cgbench.potentials``, or ``package.module:function``.
        path: The model.
        options: Options of the adapter, as text; see its documentation.
        trust: Whether code that is not of this package may be run.
        potential_name: What the potential is called.

    Raises:
        UsageError: No such adapter, model or option, or something that is not trusted.
        IntegrityError: The file is damaged or unsafe.
        ValidationError: The model cannot be used; the message says what was expected.
    """
    choice = AdapterChoice(name, options or {})
    return load_adapted(choice, Path(path), trust=trust, name=potential_name).potential


def adapted_hash(path: Path, choice: AdapterChoice, identity: AdapterIdentity) -> str:
    """Return ``sha256:…`` of a model and of everything that decides what its adapter makes of it.

    That is the file, or all files of a folder; the adapter with its version and options; the
    content of files that options name; and the versions of the packages that are run.
    """
    named = {key: Path(value).expanduser() for key, value in choice.options.items()}
    options = {
        # Where a value names a file, its content is what makes the model another one.
        key: config.file_sha256(named[key]) if named[key].is_file() else value
        for key, value in choice.options.items()
    }
    inside = [] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    content = {
        "file": config.file_sha256(path) if path.is_file() else None,
        "files": [[one.relative_to(path).as_posix(), config.file_sha256(one)] for one in inside],
        "adapter": [identity.name, identity.version],
        "runs": list(identity.runs),
        "options": options,
    }
    return config.fingerprint(content)


def _program(request: Request) -> Adapted:
    request.known()
    request.require_trust("the program in it (TorchScript or torch.export)")
    version = version_of("torch") or "not stated"
    identity = AdapterIdentity(
        name="program",
        version="1",
        origin="built-in",
        foreign_code=True,
        runs=("the program in the file", f"torch {version}"),
    )
    return Adapted(load_program(request.path, trust=True, name=request.name), identity)


def _entry_point(name: str, request: Request) -> Adapted:
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    if not points:
        known = ", ".join(sorted({*_BUILT_IN, *(p.name for p in entry_points(group=GROUP))}))
        raise UsageError(
            f"--adapter {name}: no such adapter",
            expected=f"{known}, or package.module:function",
            fix="see 'cgbench adapters list'",
        )
    if problem := _problem(points[0], len(points) > 1):
        raise ValidationError(f"--adapter {name}: {problem}", found=points[0].value)
    brought = points[0].dist
    return load_function(
        points[0].value,
        request,
        name=name,
        origin="entry point",
        distribution=None if brought is None else brought.name,
        version=None if brought is None else brought.version,
    )
