"""The embedded viewer: fetched with npm, refused when it is not the expected one."""

import io
import shutil
import tarfile
from base64 import b64encode
from hashlib import sha256, sha512
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError
from cgbench.report import viewer

SCRIPT, LICENCE = b"window.$3Dmol = {};", b"A licence."


def package(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A package of the same layout, and its hashes in place of the real ones."""
    content = package({"package/build/3Dmol-min.js": SCRIPT, "package/LICENSE": LICENCE})
    integrity = "sha512-" + b64encode(sha512(content).digest()).decode()
    monkeypatch.setattr(viewer, "INTEGRITY", integrity)
    hashes = {"3Dmol-min.js": sha256(SCRIPT).hexdigest(), "LICENSE": sha256(LICENCE).hexdigest()}
    monkeypatch.setattr(viewer, "SHA256", hashes)
    path = tmp_path / "3dmol.tgz"
    path.write_bytes(content)
    return path


def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called npm, and little else, on the path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


def test_there_is_none_before_and_one_after(toy: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert viewer.read_viewer(home) is None
    folder = viewer.install_viewer(home, toy)
    assert sorted(path.name for path in folder.iterdir()) == ["3Dmol-min.js", "LICENSE"]
    assert viewer.read_viewer(home) == viewer.Viewer(SCRIPT.decode(), LICENCE.decode())
    # Twice is as good as once.
    assert viewer.install_viewer(home, toy) == folder


@pytest.mark.parametrize("name", ["3Dmol-min.js", "LICENSE"])
def test_changed_files_are_refused_at_every_use(toy: Path, tmp_path: Path, name: str) -> None:
    folder = viewer.install_viewer(tmp_path, toy)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="damaged"):
        viewer.read_viewer(tmp_path)
    viewer.install_viewer(tmp_path, toy)
    assert viewer.read_viewer(tmp_path) is not None
    (folder / name).unlink()
    assert viewer.read_viewer(tmp_path) is None


def test_another_package_is_refused(toy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(package({"package/build/3Dmol-min.js": b"alert(1)"}))
    with pytest.raises(IntegrityError, match="not the package"):
        viewer.install_viewer(tmp_path / "home", other)
    assert not (tmp_path / "home").exists()
    with pytest.raises(UsageError, match="no such file"):
        viewer.install_viewer(tmp_path / "home", tmp_path / "nothing.tgz")


def test_npm_fetches_it(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, f'test "$1 $2" = "pack 3dmol@{viewer.VERSION}" && cp {toy} .')
    assert viewer.read_viewer(tmp_path) is None
    viewer.install_viewer(tmp_path)
    assert viewer.read_viewer(tmp_path) is not None


@pytest.mark.parametrize("script", ["echo no registry >&2; exit 1", "exit 0"])
def test_npm_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    npm(tmp_path, monkeypatch, script)
    with pytest.raises(UsageError, match=r"npm pack 3dmol@.*--from"):
        viewer.install_viewer(tmp_path)
    if "registry" in script:
        with pytest.raises(UsageError, match="no registry"):
            viewer.install_viewer(tmp_path)


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("npm") is None
    with pytest.raises(UsageError, match="npm is not on this machine"):
        viewer.install_viewer(tmp_path)


def test_verbs(toy: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["--home", str(tmp_path / "home"), "--json"]
    assert '"installed": false' in runner.invoke(app, ["viewer", "show", *arguments]).output
    done = runner.invoke(app, ["viewer", "install", "--from", str(toy), *arguments])
    assert done.exit_code == 0
    assert '"installed": true' in runner.invoke(app, ["viewer", "show", *arguments]).output


def test_the_page_of_the_manual_names_the_version() -> None:
    page = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    assert f"npm pack 3dmol@{viewer.VERSION}" in page
    assert f"--from 3dmol-{viewer.VERSION}.tgz" in page
