"""The doctor's look at Python and the packages: versions, imports, bad releases, extras."""

import importlib.metadata
import platform
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from cgbench.pipeline.doctor_finding import Finding
from cgbench.pipeline.doctor_imports import Import, try_imports
from cgbench.registry import bad_releases
from cgbench.version import __version__

DISTRIBUTION: Final = "cgbench"

#: What each extra is for, as the table of extras says it.
EXTRAS: Final = {
    "adapters": "models of TorchMD-Net and ASE",
    "bench": "the benchmarks",
    "cloud": "stores by https and S3",
    "cluster": "preprocessing on a cluster",
    "docs": "building these pages",
    "fast": "faster reading of stores",
    "generate": "all-atom molecular dynamics",
    "gpu": "Triton kernels on graphics processors",
    "test": "the tests",
}


def requirements(extra: str | None = None) -> list[Requirement]:
    """Return what the package, or one of its extras, asks for on this machine.

    An extra that names other extras has their requirements too.

    Raises:
        importlib.metadata.PackageNotFoundError: The package is not installed.
    """
    found: dict[str, Requirement] = {}
    texts = importlib.metadata.requires(DISTRIBUTION) or []
    waiting, seen = [extra], {extra}
    while waiting:
        current = waiting.pop()
        for text in texts:
            one = Requirement(text)
            named = one.marker is not None and "extra" in str(one.marker)
            if named == (current is None):
                continue
            if one.marker is not None and not one.marker.evaluate({"extra": current or ""}):
                continue
            if canonicalize_name(one.name) == DISTRIBUTION:
                waiting.extend(sorted(one.extras - seen))
                seen |= one.extras
            else:
                found[canonicalize_name(one.name)] = one
    return [found[name] for name in sorted(found)]


def python() -> Iterator[Finding]:
    """Look at Python and at this package."""
    found = platform.python_version()
    facts = {"version": found, "implementation": platform.python_implementation()}
    facts |= {"executable": sys.executable, "platform": platform.platform(terse=True)}
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            group="packages",
            name=DISTRIBUTION,
            status="broken",
            found=f"{__version__}, not installed: Python only found its folder",
            fix="pip install . in the folder that has pyproject.toml",
        )
        return
    asked = metadata["Requires-Python"] or ""
    fits = SpecifierSet(asked).contains(found, prereleases=True)
    yield Finding(
        group="packages",
        name="python",
        status="ok" if fits else "broken",
        found=f"{found}, {platform.platform(terse=True)}",
        fix=None if fits else f"use Python {asked}",
        facts=dict(facts),
    )
    same = metadata["Version"] == __version__
    stale = same and _is_stale()
    found = __version__ if same else f"{__version__}, installed as {metadata['Version']}"
    yield Finding(
        group="packages",
        name=DISTRIBUTION,
        status="ok" if same and not stale else "warning",
        found=f"{found}, with another list of packages than pyproject.toml has" * stale or found,
        fix="install it again, so that what it asks for is known" if stale or not same else None,
        facts={"version": __version__, "installed_as": metadata["Version"]},
    )


def _is_stale() -> bool:
    """Tell whether this is a checkout that asks for other packages than when it was installed."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if not project.is_file():
        return False
    settings = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    if settings.get("name") != DISTRIBUTION:
        return False
    asked = {str(Requirement(text)) for text in settings["dependencies"]}
    known = map(Requirement, importlib.metadata.requires(DISTRIBUTION) or [])
    return asked != {str(one) for one in known if one.marker is None}


def packages(*, imported: bool = True) -> Iterator[Finding]:
    """Look at the packages that are always needed.

    Args:
        imported: Whether they are imported too, in a process of their own.
    """
    try:
        needed = requirements()
    except importlib.metadata.PackageNotFoundError:
        return
    bad = _bad_versions()
    states = [(one, _version(one.name)) for one in needed]
    modules = {
        one.name: _module(one.name)
        for one, version in states
        if version is not None and (canonicalize_name(one.name), version) not in bad
    }
    outcome = try_imports([name for name in modules.values() if name]) if imported else {}
    for one, version in states:
        module = modules.get(one.name)
        yield _judge(one, version, outcome.get(module) if module else None)


def releases() -> Iterator[Finding]:
    """Look for installed releases that are known to do harm; nothing of them is imported."""
    found = {name: version for (name, version) in _bad_versions() if _version(name) == version}
    for release in bad_releases():
        version = found.get(canonicalize_name(release.package))
        if version is not None:
            yield Finding(
                group="packages",
                name=f"{release.package} {version}",
                status="broken",
                found=f"{release.reason} ({release.advisory})",
                fix=f"pip uninstall {release.package}; take what this machine could read, such as "
                "tokens and keys, as stolen; then install cgbench again",
                facts={"advisory": release.advisory, "source": release.source},
            )
    if not found:
        known = sum(len(release.versions) for release in bad_releases())
        yield Finding(
            group="packages",
            name="bad releases",
            status="ok",
            found=f"none of the {known} that are known is installed",
            facts={"known": known},
        )


def extras() -> Iterator[Finding]:
    """Look at the optional extras: what is installed, what is missing, how to get it."""
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return
    for extra in sorted(metadata.get_all("Provides-Extra") or []):
        states = [(one, _version(one.name)) for one in requirements(extra)]
        missing = [one.name for one, version in states if version is None]
        wrong = [
            f"{one.name} {version}"
            for one, version in states
            if version is not None and not one.specifier.contains(version, prereleases=True)
        ]
        present = [f"{one.name} {version}" for one, version in states if version is not None]
        told = [
            ", ".join(present) if not missing and not wrong else "",
            f"missing: {', '.join(missing)}" if missing else "",
            f"of another version than asked for: {', '.join(wrong)}" if wrong else "",
        ]
        yield Finding(
            group="extras",
            name=extra,
            status="warning" if wrong else "note" if missing else "ok",
            found="; ".join(filter(None, told)) or "nothing to install on this machine",
            fix=f"for {EXTRAS.get(extra, extra)}: pip install 'cgbench[{extra}]'"
            if missing or wrong
            else None,
            facts={"missing": list(missing), "wrong": list(wrong), "installed": list(present)},
        )


def _judge(one: Requirement, version: str | None, outcome: Import | None) -> Finding:
    """Return what is to be said of a package that is needed."""
    wanted = str(one.specifier) or "any version"
    fix = f"pip install '{one.name}{one.specifier}'"
    error = None if outcome is None else outcome.error
    if version is None:
        status, found = "broken", f"not installed; {wanted} is needed"
    elif error is not None:
        status, found = "broken", f"{version} cannot be imported: {error}"
        fix = f"pip install --force-reinstall '{one.name}{one.specifier}'"
    elif not one.specifier.contains(version, prereleases=True):
        status, found = "broken", f"{version}; {wanted} is needed"
    else:
        status, found = "ok", version
    return Finding.model_validate(
        {
            "group": "packages",
            "name": one.name,
            "status": status,
            "found": found,
            "fix": fix if status == "broken" else None,
            "facts": {
                "version": version,
                "wanted": str(one.specifier),
                "import_seconds": None if outcome is None else outcome.seconds,
            },
        }
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _module(name: str) -> str | None:
    """Return the module that a distribution is imported by, the one most like its name."""
    files: Iterable[importlib.metadata.PackagePath] = importlib.metadata.files(name) or []
    tops = {
        path.parts[0]
        for path in files
        if len(path.parts) == 2 and path.name == "__init__.py" and path.parts[0].isidentifier()
    }
    plain = canonicalize_name(name).replace("-", "_")
    tops = {top for top in tops if not top.startswith("_")}
    if plain in tops or not tops:
        return plain if plain in tops else None
    return min(tops, key=lambda top: (top.lower() not in plain, top))


def _bad_versions() -> set[tuple[str, str]]:
    return {
        (canonicalize_name(release.package), version)
        for release in bad_releases()
        for version in release.versions
    }
