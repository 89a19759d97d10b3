"""The conda recipe, the image and the workflow say the same as pyproject.toml."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import cgbench
from cgbench import registry

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
RECIPE: dict[str, Any] = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "conda" / "environment.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

#: Where the channel calls a package otherwise; matplotlib-base is matplotlib without windows.
CONDA_NAMES = {
    "torch": "pytorch",
    "torch-geometric": "pytorch_geometric",
    "matplotlib": "matplotlib-base",
}


def conda(requirements: Iterable[str]) -> dict[str, SpecifierSet]:
    pairs = (text.partition(" ")[::2] for text in requirements)
    return {name: SpecifierSet(versions) for name, versions in pairs}


def wanted(requirements: Iterable[str]) -> dict[str, SpecifierSet]:
    parsed = [Requirement(text) for text in requirements]
    return {CONDA_NAMES.get(one.name, one.name): one.specifier for one in parsed}


# Conda


def test_the_recipe_has_the_version_and_the_summary() -> None:
    assert RECIPE["context"]["version"] == cgbench.__version__
    assert RECIPE["package"] == {"name": "cgbench", "version": "${{ version }}"}
    assert RECIPE["about"]["license"] == PROJECT["license"]
    assert RECIPE["about"]["summary"] == PROJECT["description"]
    assert (ROOT / RECIPE["about"]["license_file"]).is_file()
    (entry,) = RECIPE["build"]["python"]["entry_points"]
    name, _, target = entry.partition(" = ")
    assert PROJECT["scripts"] == {name: target}


def test_the_recipe_requires_what_the_project_requires() -> None:
    run = conda(RECIPE["requirements"]["run"])
    assert run.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert run == wanted(PROJECT["dependencies"])
    host = conda(RECIPE["requirements"]["host"])
    assert wanted(SETTINGS["build-system"]["requires"]).items() <= host.items()


def test_the_environment_is_that_of_the_recipe() -> None:
    assert ENVIRONMENT["dependencies"] == RECIPE["requirements"]["run"]


@pytest.mark.parametrize("release", registry.bad_releases(), ids=lambda one: one.package)
def test_conda_never_takes_a_release_that_must_not_be_installed(
    release: registry.BadRelease,
) -> None:
    versions = conda(RECIPE["requirements"]["run"])[release.package]
    assert [one for one in release.versions if versions.contains(one)] == []


# The image


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, with lines that go on put together."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(maxsplit=1) for line in whole.splitlines() if line.strip())
    return [(name, rest[0] if rest else "") for name, *rest in pairs]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for name, value in instructions():
        if name == "FROM":
            found[value.split(" AS ")[1]] = []
        found[list(found)[-1]].append((name, value))
    return found


def test_every_instruction_is_one_that_docker_knows() -> None:
    known = {
        "ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "LABEL", "ENV", "VOLUME",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert {name for name, _ in instructions()} <= known
    assert list(stages()) == ["", "wheel", "environment", "run"]


def test_the_image_has_the_python_that_is_tested() -> None:
    (version,) = (value for name, value in stages()[""] if name == "ARG")
    assert version == f"PYTHON_VERSION={PROJECT['requires-python'].removeprefix('>=')}"
    assert 'f"Programming Language :: Python :: 3.11"'.strip('f"') in PROJECT["classifiers"]


def test_the_image_is_for_processors_unless_asked() -> None:
    arguments = dict(
        value.split("=")
        for name, value in stages()["environment"]
        if name == "ARG" and "=" in value
    )
    assert arguments["DEVICE"] == "cpu"
    assert "pytorch-${DEVICE}" in DOCKERFILE
    assert "CONDA_OVERRIDE_CUDA" in DOCKERFILE


def test_what_the_image_copies_exists_and_gets_there() -> None:
    kept = [
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert all((ROOT / name).exists() for name in kept)
    # What hatchling reads, and what the wheel holds.
    assert {"pyproject.toml", PROJECT["readme"], "LICENSE", "cgbench"} <= set(kept)
    names = set(stages())
    for name, value in instructions():
        if name != "COPY":
            continue
        parts = value.split()
        if parts[0].startswith("--from="):
            assert parts[0].removeprefix("--from=") in names
        elif parts[0] != ".":
            assert parts[0] in kept
            assert (ROOT / parts[0]).is_file()


def test_the_image_runs_the_command_as_nobody_special() -> None:
    last = stages()["run"]
    names = [name for name, _ in last]
    told = dict(last)
    assert told["ENTRYPOINT"] == '["cgbench"]'
    assert set(PROJECT["scripts"]) == {"cgbench"}
    assert told["USER"] == "cgbench"
    # Nothing is installed or started after the rights are given up.
    assert "RUN" not in names[names.index("USER") :]
    for variable in ("CGBENCH_HOME", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert f"{variable}=/data" in told["ENV"]


# Workflows


def workflow() -> dict[Any, Any]:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    found: dict[Any, Any] = yaml.safe_load(text)
    return found


def test_the_workflow_runs_what_everybody_runs() -> None:
    jobs = workflow()["jobs"]
    commands = {name: [step["run"] for step in job["steps"]] for name, job in jobs.items()}
    assert commands["checks"][-1] == "cd code && bash .ci/run"
    assert commands["dependencies"][-1] == "cd code && bash .ci/audit"
    assert all(job["container"].startswith("python:3.11-") for job in jobs.values())


def test_the_workflow_trusts_nobody() -> None:
    found = workflow()
    assert found["permissions"] == {"contents": "read"}
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "uses:" not in text
    assert "secrets" not in text.split("name: ci", 1)[1]
    # YAML reads 'on' as true.
    assert {"push", "pull_request", "schedule"} == set(found[True])
    for job in found["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step["run"]


@pytest.mark.parametrize("name", ["run", "audit"])
def test_scripts_stop_at_the_first_failure(name: str) -> None:
    path = ROOT / ".ci" / name
    assert path.stat().st_mode & 0o111
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")


def test_an_audit_without_data_is_no_clean_one() -> None:
    assert 'pip-audit" --strict' in (ROOT / ".ci" / "audit").read_text(encoding="utf-8")
