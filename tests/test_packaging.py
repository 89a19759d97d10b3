"""What an installed wheel holds, built as ``pip`` would but without index or isolation."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import parse_email
from packaging.requirements import Requirement

import cgbench

ROOT = Path(__file__).parent.parent

#: Bytes of the wheel, and of what is in the source distribution, in all and below tests/.
MAXIMUM_WHEEL = 60_000_000
MAXIMUM_SOURCES = 120_000_000
MAXIMUM_TESTS = 10_000_000


def built(kind: str, folder: Path) -> Path:
    """Return the file that CI has built, where CGBENCH_TEST_DIST names its folder, or build it."""
    pattern = {"wheel": "*.whl", "sdist": "*.tar.gz"}[kind]
    there = os.environ.get("CGBENCH_TEST_DIST")
    if there is None:
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (found,) = Path(there or folder).glob(pattern)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes of the files of the source distribution, by name without its folder."""
    path = built("sdist", tmp_path_factory.mktemp("sdist"))
    assert path.name == f"cgbench-{cgbench.__version__}.tar.gz"
    with tarfile.open(path) as archive:
        entries = archive.getmembers()
    assert all(entry.isfile() for entry in entries)
    folders = {entry.name.partition("/")[0] for entry in entries}
    assert folders == {f"cgbench-{cgbench.__version__}"}
    return {entry.name.partition("/")[2]: entry.size for entry in entries}


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_name_carries_the_version(wheel: Path) -> None:
    assert wheel.name == f"cgbench-{cgbench.__version__}-py3-none-any.whl"


def test_every_file_of_the_package_is_in_the_wheel(names: set[str]) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cgbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".partial"
    }
    assert {name for name in names if name.startswith("cgbench/")} == files


@pytest.mark.parametrize(
    "name",
    [
        "cgbench/py.typed",
        "cgbench/assets/store/chignolin-sample.zarr/manifest.json",
        "cgbench/assets/references/v2/chignolin-sample.zarr/zarr.json",
        "cgbench/assets/splits/chignolin-sample/block-v1.json",
        "cgbench/assets/native/chignolin-sample.pdb",
        "cgbench/assets/models/torchmd-gn/chignolin-sample/model.pt",
        "cgbench/assets/configs/demo-network.yaml",
        "cgbench/registry/data/systems.yaml",
        "cgbench/report/web/page.html.jinja",
    ],
)
def test_data_that_the_code_reads_are_in_the_wheel(names: set[str], name: str) -> None:
    assert name in names


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"cgbench", f"cgbench-{cgbench.__version__}.dist-info"}


def test_neither_file_is_large(wheel: Path, members: dict[str, int]) -> None:
    assert wheel.stat().st_size < MAXIMUM_WHEEL
    assert sum(members.values()) < MAXIMUM_SOURCES
    tests = {name: size for name, size in members.items() if name.startswith("tests/")}
    assert sum(tests.values()) < MAXIMUM_TESTS, sorted(tests, key=lambda name: -tests[name])[:5]


def test_the_sources_hold_what_a_checkout_does(members: dict[str, int], names: set[str]) -> None:
    assert {name for name in names if name.startswith("cgbench/")} <= set(members)
    for folder in ("tests", "docs", "baselines", "leaderboard", "benchmarks", "conda", ".ci"):
        assert any(name.startswith(f"{folder}/") for name in members), folder
    for name in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile", "tests/conftest.py"):
        assert name in members
    assert not [name for name in members if "__pycache__" in name or name.endswith(".pyc")]


def test_metadata_ask_for_what_the_project_asks_for(wheel: Path) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = f"cgbench-{cgbench.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata, unknown = parse_email(archive.read(f"{folder}/METADATA"))
    assert unknown == {}
    assert metadata["requires_python"] == settings["requires-python"]
    assert set(metadata["provides_extra"]) == set(settings["optional-dependencies"])
    needed = {str(Requirement(text)) for text in settings["dependencies"]}
    stated = [Requirement(text) for text in metadata["requires_dist"]]
    assert {str(one) for one in stated if one.marker is None} == needed
    assert metadata["description"].startswith("# cgbench")
    assert metadata["description_content_type"] == "text/markdown"


def test_metadata_name_command_and_licence(wheel: Path) -> None:
    folder = f"cgbench-{cgbench.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        assert "cgbench = cgbench.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
        metadata = archive.read(f"{folder}/METADATA").decode()
        assert archive.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: MIT" in metadata
    assert "moleculekit" not in metadata.lower()


def test_no_dependency_has_a_licence_for_academic_use_only() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = settings["optional-dependencies"].values()
    wanted = [*settings["dependencies"], *(item for extra in extras for item in extra)]
    assert [
        item for item in wanted if "moleculekit" in item.lower() or "htmd" in item.lower()
    ] == []


def test_the_unpacked_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys, cgbench\n"
        "from cgbench.store import find_model\n"
        "assert cgbench.__file__.startswith(sys.argv[1]), cgbench.__file__\n"
        "frames = cgbench.open('chignolin-sample')\n"
        "print(frames.sizes['frame'], find_model('torchmd-gn/chignolin-sample').is_file())"
    )
    environment = os.environ | {"PYTHONPATH": str(site), "CGBENCH_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["52500", "True"]
