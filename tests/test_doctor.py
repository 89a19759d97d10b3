"""The doctor: every check finds what it is for, and no check ends the others."""

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import ValidationError
from cgbench.pipeline import doctor, doctor_files, doctor_packages
from cgbench.pipeline.doctor_finding import Diagnosis, Finding, in_words
from cgbench.pipeline.doctor_imports import try_imports

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def asks_for(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    found = [Requirement(text) for text in texts]
    monkeypatch.setattr(doctor_packages, "requirements", lambda extra=None: found)


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    monkeypatch.setattr(doctor_packages, "_version", versions.get)


# Everything together


def test_here_nothing_is_broken(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["doctor", "--quick", "--json", "--home", str(tmp_path / "home")]
    )
    assert done.exit_code == 0, done.output
    told = Diagnosis.model_validate_json(done.stdout)
    assert told.healthy
    groups = {finding.group for finding in told.findings}
    assert groups == {
        "packages", "extras", "processor", "graphics", "compilers", "disk", "data",
    }  # fmt: skip
    names = by_name(told.findings)
    assert {"torch", "numpy", "numba", "C++", "matrix products", "embedded sample"} <= set(names)
    assert not (tmp_path / "home").exists()
    for finding in told.findings:
        assert finding.status == "ok" or finding.fix or finding.status == "note", finding


def test_what_is_broken_ends_with_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding(group="disk", name="data home", status="broken", found="[full]", fix="do this")
    diagnosis = Diagnosis(suite_version="0", healthy=False, findings=(bad,))
    monkeypatch.setattr(doctor, "diagnose", lambda *_, **__: diagnosis)
    done = CliRunner().invoke(app, ["doctor"])
    assert isinstance(done.exception, ValidationError)
    assert done.exception.exit_code == 4
    assert "[full]" in done.stdout
    assert "do this" in str(done.exception)
    machine = CliRunner().invoke(app, ["doctor", "--json"])
    assert json.loads(machine.stdout)["healthy"] is False


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(doctor.doctor_machine, "processor", failing)
    monkeypatch.setattr(doctor.doctor_packages, "packages", lambda imported: ())
    found = doctor.diagnose(tmp_path, quick=True)
    assert not found.healthy
    (broken,) = found.broken
    assert "no such thing" in broken.found
    assert by_name(found.findings)["embedded sample"].status == "ok"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (7.28e10, "72.8 GB")]
)
def test_sizes_in_words(size: float, text: str) -> None:
    assert in_words(size) == text


# Packages


def test_the_requirements_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list(PROJECT["dependencies"])
    for extra, wanted in PROJECT["optional-dependencies"].items():
        for one in map(Requirement, wanted):
            also = f"({one.marker}) and " if one.marker else ""
            one.marker = None
            texts.append(f"{one}; {also}extra == '{extra}'")
    monkeypatch.setattr(doctor_packages.importlib.metadata, "requires", lambda name: texts)
    found = {str(one) for one in doctor_packages.requirements()}
    assert found == {str(Requirement(text)) for text in PROJECT["dependencies"]}
    # An extra that names others has theirs, and not those of the package itself.
    names = {one.name for one in doctor_packages.requirements("test")}
    assert {"openmm", "s3fs", "pytest"} <= names
    assert not {"torch", "cgbench"} & names


def test_every_extra_is_explained_here_and_in_the_docs() -> None:
    assert set(doctor_packages.EXTRAS) == set(PROJECT["optional-dependencies"])
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    for extra, purpose in doctor_packages.EXTRAS.items():
        assert f"| `{extra}` | {purpose}" in page


def test_python_below_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_packages.platform, "python_version", lambda: "3.8.1")
    found = by_name(doctor_packages.python())["python"]
    assert found.status == "broken"
    assert "3.11" in (found.fix or "")


def test_an_installation_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_packages, "__version__", "99.0")
    assert by_name(doctor_packages.python())["cgbench"].status == "warning"


def test_a_checkout_that_asks_for_more_than_when_it_was_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [*PROJECT["dependencies"], "sphinx>=7; extra == 'docs'"]
    monkeypatch.setattr(doctor_packages.importlib.metadata, "requires", lambda name: known)
    assert by_name(doctor_packages.python())["cgbench"].status == "ok"
    del known[3]
    found = by_name(doctor_packages.python())["cgbench"]
    assert found.status == "warning"
    assert "pyproject.toml" in found.found


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("no-such-thing>=1", "not installed"), ("numpy>=99", ">=99 is needed"), ("numpy>=1", None)],
)
def test_a_package_that_is_missing_or_old(
    monkeypatch: pytest.MonkeyPatch, wanted: str, expected: str | None
) -> None:
    asks_for(monkeypatch, wanted)
    (found,) = doctor_packages.packages(imported=False)
    assert found.status == ("ok" if expected is None else "broken")
    assert expected is None or expected in found.found
    assert expected is None or "pip install" in (found.fix or "")


def test_imports_that_raise_end_the_process_or_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raises.py").write_text("raise OSError('libgone.so: cannot open')")
    (tmp_path / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    (tmp_path / "leaves.py").write_text("import os\nos._exit(3)")
    (tmp_path / "chatty.py").write_text("print('@{')\nprint('@{}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = try_imports(["json", "raises", "dies", "chatty", "leaves", "string"])
    assert {name for name, one in found.items() if one.error is None} == {
        "json",
        "chatty",
        "string",
    }
    assert "libgone.so" in (found["raises"].error or "")
    assert "SIGILL" in (found["dies"].error or "")
    assert "code 3" in (found["leaves"].error or "")


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    asks_for(monkeypatch, "numpy>=1")
    broken = {"numpy": doctor_packages.Import(None, "OSError: libgone.so")}
    monkeypatch.setattr(doctor_packages, "try_imports", lambda modules: broken)
    (found,) = doctor_packages.packages()
    assert found.status == "broken"
    assert "libgone.so" in found.found


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_a_compromised_release_is_reported_and_never_imported(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    asks_for(monkeypatch, "lightning>=2.5", "numpy>=1")
    installed(monkeypatch, lightning=version, numpy="2.0")
    tried: list[str] = []
    monkeypatch.setattr(doctor_packages, "try_imports", lambda modules: tried.extend(modules) or {})
    list(doctor_packages.packages())
    assert tried == ["numpy"]
    (found,) = doctor_packages.releases()
    assert (found.status, found.name) == ("broken", f"lightning {version}")
    assert "stolen" in (found.fix or "")


def test_other_releases_are_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, lightning="2.6.4")
    (found,) = doctor_packages.releases()
    assert found.status == "ok"


def test_bad_releases_cannot_be_installed_with_the_package() -> None:
    wanted = {one.name: one for one in map(Requirement, PROJECT["dependencies"])}
    assert registry.bad_releases()
    for release in registry.bad_releases():
        for version in release.versions:
            assert not wanted[release.package].specifier.contains(version), (release, version)


def test_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    asks_for(monkeypatch, "openmm>=8", "pdbfixer>=1")
    installed(monkeypatch, openmm="8.1", pdbfixer="1.9")
    assert by_name(doctor_packages.extras())["generate"].status == "ok"
    installed(monkeypatch, openmm="8.1")
    found = by_name(doctor_packages.extras())["generate"]
    assert (found.status, found.facts["missing"]) == ("note", ["pdbfixer"])
    assert "pip install 'cgbench[generate]'" in (found.fix or "")
    installed(monkeypatch, openmm="7.0", pdbfixer="1.9")
    found = by_name(doctor_packages.extras())["generate"]
    assert (found.status, found.facts["wrong"]) == ("warning", ["openmm 7.0"])


# Disk and data


def test_a_data_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    found = by_name(doctor_files.disk(tmp_path / "home"))
    assert found["data home"].status == "broken"
    assert "speed" not in found


def test_a_disk_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor_files.tempfile, "TemporaryFile", refused)
    for findings in (doctor_files.disk(tmp_path), doctor_files.temporary()):
        broken = [finding for finding in findings if finding.status == "broken"]
        assert [("Read-only" in finding.found, bool(finding.fix)) for finding in broken] == [
            (True, True)
        ]
    assert {finding.status for finding in doctor_files.caches()} == {"warning"}


def test_a_disk_that_is_full_or_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(doctor_files, "_MOUNTS", mounts)
    monkeypatch.setattr(doctor_files, "free_bytes", lambda folder: 1000)
    found = by_name(doctor_files.disk(tmp_path))
    assert found["room"].status == "warning"
    assert "nfs4" in found["file system"].found
    assert "speed" not in found


def test_the_speed_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_files, "_TRIAL_BYTES", doctor_files.MEBIBYTE)
    found = by_name(doctor_files.disk(tmp_path))["speed"]
    assert found.status == "ok"
    assert int(str(found.facts["read_bytes_per_s"])) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_data_home_and_what_is_damaged_in_it(tmp_path: Path) -> None:
    (tmp_path / "store" / "toy.zarr").mkdir(parents=True)
    (tmp_path / "models" / "a" / "b").mkdir(parents=True)
    (tmp_path / "models" / "a" / "b" / "model.pt").write_bytes(b"12345")
    found = by_name(doctor_files.home_contents(tmp_path))
    assert found["store"].status == "warning"
    assert found["store"].facts["damaged"] == ["toy.zarr"]
    assert found["models"].facts["names"] == ["a/b/model.pt"]
    assert found["models"].facts["bytes"] == 5
    assert found["raw"].status == "note"


def test_a_package_without_its_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_files.config, "assets_home", lambda: tmp_path)
    (found,) = doctor_files.sample()
    assert found.status == "broken"
