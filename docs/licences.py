"""The licences of everything that is installed with cgbench, as a table or as a check.

python docs/licences.py [--extra NAME]... [--check]

What is listed is what cgbench needs, directly or through others, in the environment of the Python
that runs this. With --check the exit code is 1 if one of them is not known to allow free use.
"""

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: What licences that allow free use call themselves, in the order in which they are looked for.
PERMISSIVE = (
    ("Apache-2.0", r"apache"),
    ("BSD", r"\bbsd\b|0bsd|new bsd|3-clause|2-clause"),
    ("MIT", r"\bmit\b|expat"),
    ("MPL-2.0", r"mpl|mozilla"),
    ("PSF-2.0", r"psf|python software foundation|python-2"),
    ("ISC", r"\bisc\b"),
    ("HPND", r"hpnd|historical permission"),
    ("Unlicense", r"unlicense|public domain|cc0"),
    ("Zlib", r"\bzlib\b"),
)

#: Weak copyleft: a library of its own may be used by any program.
WEAK = (("LGPL", r"lgpl|lesser general public"),)

#: Not among what is installed with the package; tests may use such programs as oracles.
REFUSED = (
    ("AGPL", r"agpl|affero"),
    ("GPL", r"(?<!l)gpl|(?<!lesser )general public licen[sc]e"),
    ("non-commercial", r"non-?commercial|academic|research (only|use)|by-nc"),
    ("proprietary", r"proprietary|all rights reserved|other/proprietary"),
)


class Entry(NamedTuple):
    """One installed package: name, version, kind of licence, and what its metadata say."""

    name: str
    version: str
    kind: str
    stated: str

    @property
    def allowed(self) -> bool:
        """Whether it may be installed with the package."""
        return self.kind in {name for name, _ in (*PERMISSIVE, *WEAK)}


def closure(extras: Iterable[str] = (), root: str = "cgbench") -> list[str]:
    """Return the names of all installed packages that one needs, directly or through others."""
    seen: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        known = seen.get(name)
        if known is not None and wanted <= known:
            continue
        seen[name] = (known or set()) | wanted
        try:
            texts = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [
            (canonicalize_name(one.name), frozenset(one.extras))
            for one in map(Requirement, texts)
            if one.marker is None
            or any(one.marker.evaluate({"extra": extra}) for extra in ("", *seen[name]))
        ]
    return sorted(name for name in seen if name != root)


def kind_of(stated: str) -> str:
    """Return the kind of licence that a statement names, or ``unknown``.

    Of alternatives ('GPL or MIT') one that allows free use is enough; of a conjunction no part may
    be refused.
    """
    text = stated.lower()
    for choice in re.split(r"\bor\b(?! later)", text):
        if any(re.search(pattern, choice) for _, pattern in REFUSED):
            continue
        for name, pattern in (*PERMISSIVE, *WEAK):
            if re.search(pattern, choice):
                return name
    return next((name for name, pattern in REFUSED if re.search(pattern, text)), "unknown")


def stated_licence(distribution: importlib.metadata.Distribution) -> str:
    """Return what a package says of its licence: expression, classifiers, text, file."""
    metadata = distribution.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or []
        if value.startswith("License :: ") and not value.endswith("OSI Approved")
    ]
    lines = [line.strip() for line in (metadata.get("License") or "").splitlines() if line.strip()]
    if classifiers or lines:
        return ", ".join(classifiers) or lines[0]
    for name in metadata.get_all("License-File") or []:
        text = distribution.read_text(f"licenses/{name}") or distribution.read_text(name) or ""
        title = [line.strip() for line in text.splitlines() if line.strip()][:2]
        if title and kind_of(", ".join(title)) != "unknown":
            return ", ".join(title)
    return ""


def entries(extras: Iterable[str] = ()) -> list[Entry]:
    """Return one entry for each package that is installed with cgbench."""
    found = []
    for name in closure(extras):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        stated = stated_licence(distribution)
        found.append(Entry(name, distribution.version, kind_of(stated), stated))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or what is refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", action="append", default=[], help="an extra; may be repeated")
    parser.add_argument("--check", action="store_true", help="fail over what is not allowed")
    options = parser.parse_args(arguments)
    found = entries(options.extra)
    if options.check:
        refused = [entry for entry in found if not entry.allowed]
        for entry in refused:
            print(f"{entry.name} {entry.version}: {entry.kind} ({entry.stated or 'not stated'})")
        print(f"{len(found)} packages, {len(refused)} whose licence is not known to allow free use")
        return 1 if refused or not found else 0
    print("| package | version | licence | as stated |\n|---|---|---|---|")
    for entry in found:
        stated = entry.stated.replace("|", r"\|")
        print(f"| {entry.name} | {entry.version} | {entry.kind} | {stated} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
