"""What an installed wheel holds, built as ``pip`` would but without index or isolation."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cgbench

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


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
