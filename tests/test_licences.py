"""The licences of what is installed with the package."""

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "docs" / "licences.py"


@pytest.fixture(scope="module")
def licences() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ("MIT", "MIT"),
        ("BSD-3-Clause AND MIT", "BSD"),
        ("Apache Software License", "Apache-2.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE, Version 3", "LGPL"),
        ("LGPL-2.1-or-later", "LGPL"),
        ("GPL-3.0-only OR MIT", "MIT"),
        ("GPL-3.0-or-later", "GPL"),
        ("MIT AND GPL-3.0-only", "GPL"),
        ("GNU General Public License v3 (GPLv3)", "GPL"),
        ("AGPL-3.0", "AGPL"),
        ("Academic use only", "non-commercial"),
        ("CC-BY-NC-4.0", "non-commercial"),
        ("Other/Proprietary License", "proprietary"),
        ("", "unknown"),
        ("LicenseRef-Own", "unknown"),
    ],
)
def test_kinds(licences: dict[str, Any], stated: str, kind: str) -> None:
    assert licences["kind_of"](stated) == kind
    allowed = licences["Entry"]("a", "1", kind, stated).allowed
    assert allowed == (kind in ("MIT", "BSD", "Apache-2.0", "LGPL"))


def test_everything_that_is_installed_allows_free_use(
    licences: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert licences["main"](["--check"]) == 0, capsys.readouterr().out
    found = {entry.name: entry for entry in licences["entries"]()}
    assert {"numpy", "torch", "deeptime", "mdtraj"} <= set(found)
    weak = {name for name, entry in found.items() if entry.kind == "LGPL"}
    page = (SCRIPT.parent / "security.md").read_text(encoding="utf-8")
    assert weak == {"deeptime", "mdtraj"}
    assert all(name in page for name in weak)


def test_a_licence_that_is_not_allowed_fails(
    licences: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = licences["Entry"]("toy", "1.0", "GPL", "GPL-3.0-only")
    namespace = licences["main"].__globals__
    kept = namespace["entries"]
    namespace["entries"] = lambda extras: [entry]
    try:
        assert licences["main"](["--check"]) == 1
        namespace["entries"] = lambda extras: []
        assert licences["main"](["--check"]) == 1
    finally:
        namespace["entries"] = kept
    assert "toy 1.0: GPL" in capsys.readouterr().out


def test_packages_of_extras_are_followed(licences: dict[str, Any]) -> None:
    assert "openmm" not in licences["closure"]()
    assert "openmm" in licences["closure"](["generate"])
    assert "openmm" in licences["closure"](["test"])
