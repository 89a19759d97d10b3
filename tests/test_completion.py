"""Completion in the shell: verbs, options and names, and the script that a shell loads."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli import completion
from cgbench.cli.main import app

PROGRAM = "from cgbench.cli import main; main()"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CGBENCH_HOME", str(tmp_path))
    return tmp_path


def completed(line: str) -> list[str]:
    """Return what bash would be offered at the end of a line."""
    words = line.split()
    position = len(words) if line.endswith(" ") else len(words) - 1
    environment = {
        "_CGBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(position),
    }
    done = CliRunner().invoke(app, [], prog_name="cgbench", env=environment)
    return done.output.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cgbench doc", ["doctor"]),
        ("cgbench leaderboard ver", ["verify"]),
        ("cgbench info chignolin-s", ["chignolin-sample", "chignolin-sample-v2"]),
        ("cgbench download tr", ["trpcage"]),
        ("cgbench simulate model.pt --system lam", ["lambda"]),
        ("cgbench simulate model.pt --protocol sm", ["smoke"]),
        ("cgbench mutants model.pt --system lambda-1", ["lambda-1LLI"]),
        ("cgbench splits make villin --split block", ["block-v1"]),
        ("cgbench models get torchmd-gn/chignolin-sample-v", ["torchmd-gn/chignolin-sample-v2"]),
        ("cgbench check no-such", []),
        # Files, which the shell itself offers.
        ("cgbench submit ", []),
        ("cgbench leaderboard verify x --model torchmd", []),
    ],
)
def test_completion(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


def test_what_the_data_home_holds_is_offered(home: Path) -> None:
    (home / "store" / "my-protein.zarr").mkdir(parents=True)
    (home / "models" / "mine" / "first").mkdir(parents=True)
    (home / "models" / "mine" / "first" / "model.pt").touch()
    assert completed("cgbench info my") == ["my-protein"]
    assert completed("cgbench evaluate mi") == ["mine/first"]


def test_all_names_are_offered() -> None:
    assert set(completed("cgbench info ")) == {system.key for system in registry.systems()}
    assert set(completed("cgbench evaluate --protocol ")) == {
        one.id for one in registry.protocols()
    }
    assert len(completed("cgbench mutants m --system ")) == len(registry.mutants())


def test_every_parameter_that_takes_a_system_completes() -> None:
    verbs = dict(completion._verbs(app))
    assert {"info", "models get", "leaderboard verify"} <= set(verbs)
    for verb, function in verbs.items():
        for name, parameter in inspect.signature(function).parameters.items():
            for information in completion._information(parameter.annotation):
                if name in ("system", "systems", "protocol", "model", "split"):
                    assert information.autocompletion is not None, (verb, name)


def test_an_own_completion_is_kept() -> None:
    own = typer.Typer()

    def mine(incomplete: str) -> list[tuple[str, str]]:
        return [("mine", "")]

    from typing import Annotated

    @own.command("toy")
    def toy(system: Annotated[str, typer.Argument(autocompletion=mine)]) -> None:
        """Do nothing."""

    completion.complete_names(own)
    (information,) = completion._information(inspect.signature(toy).parameters["system"].annotation)
    assert information.autocompletion is mine


def test_completion_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from cgbench.cli import completion as c\n"
        "c.complete_systems(''), c.complete_models(''), c.complete_protocols('')\n"
        "print(sorted({'torch', 'zarr', 'scipy', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bash_loads_the_script_and_completes(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    program = tmp_path / "bin" / "cgbench"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    program.chmod(0o755)
    script = (
        "export _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1\n"
        "cgbench --show-completion bash > s || exit\n"
        "source ./s\ncomplete -p cgbench\n"
        "COMP_WORDS=(cgbench info chignolin-sample-)\nCOMP_CWORD=2\n"
        '_cgbench_completion cgbench\necho "${COMPREPLY[@]}"\n'
    )
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script], cwd=tmp_path, env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded, offered = done.stdout.splitlines()
    assert loaded == "complete -o default -F _cgbench_completion cgbench"
    assert offered == "chignolin-sample-v2"
