"""The tutorials of docs/tutorials/ do what they say: every command, exit code and output shown.

A command that fails on purpose ends with ``# exit code N``. A ``text`` block right below commands
is what they print: its lines are found in their output, in that order, with other decimals and
hashes at most, because those differ between machines. A line of dots stands for any lines.
"""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from test_docs import ROOT, Block, blocks, commands, folder

from cgbench.cli.main import main

__all__ = ["folder"]

TUTORIALS = ROOT / "docs" / "tutorials"
#: In the order of the table of contents; each may go on from the folder of another.
ORDER = ("potential", "sampler", "training", "own-data", "submit")
GOES_ON = {"submit": "potential"}

_EXIT_CODE = re.compile(r"#\s*exit code (\d+)\s*$")
#: What may differ from day to day and between machines: dates, decimals, hashes, rules of tables.
_CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d|[-−+]?\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|\b[0-9a-f]{12,}\b|[━─]+"
)


def plain(line: str) -> str:
    """A line without what may differ from day to day and between machines."""
    return " ".join(_CHANGING.sub("0", line).split())


def expected_code(line: str) -> int:
    found = _EXIT_CODE.search(line)
    return int(found[1]) if found else 0


def run_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, tuple[str, str]]:
    """Run one command in this process as a shell would; return exit code, stdout and stderr."""
    capsys.readouterr()
    code = 0
    # Patterns are what the shell makes of them.
    found = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in arguments]
    arguments = [word for words in found for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    printed = capsys.readouterr()
    return code, (printed.out, printed.err)


def missing_lines(shown: str, *streams: str) -> list[str]:
    """Lines that a page shows and no stream has, each stream in its order."""
    left = [[plain(line) for line in stream.splitlines()] for stream in streams]
    lost = []
    for line in shown.splitlines():
        if line.strip() in ("", "…"):
            continue
        there = next((lines for lines in left if plain(line) in lines), None)
        if there is None:
            lost.append(line)
        else:
            del there[: there.index(plain(line)) + 1]
    return lost


def follow(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Do what a page says, from top to bottom, in the current folder."""
    known: dict[str, Any] = {}
    printed, end = ("", ""), -1
    for block in blocks(page):
        if block.language == "python":
            script = Path("block.py")
            script.write_text(block.text, encoding="utf-8")
            capsys.readouterr()
            made = runpy.run_path(str(script), init_globals=known)
            known = {name: value for name, value in made.items() if not name.startswith("__")}
            printed, end = (capsys.readouterr().out, ""), last_line(block)
        elif block.language == "console":
            printed, end = ("", ""), last_line(block)
            for line in block.text.splitlines():
                for command in commands(Block(page, block.line, "console", line)):
                    code, told = run_command(command, capsys)
                    assert code == expected_code(line), f"{block}: {line}\nexit {code}\n{told}"
                    printed = (printed[0] + told[0], printed[1] + told[1])
        elif block.language == "text" and block.line - end <= 2:
            lost = missing_lines(block.text, *printed)
            assert not lost, f"{block}: {lost}\n{''.join(printed)}"


def last_line(block: Block) -> int:
    """The line of a page on which a block ends."""
    return block.line + block.text.count("\n") + 1


@pytest.fixture(scope="module")
def followed() -> dict[str, Path]:
    """Folders of the tutorials that have been followed; pytest keeps them until the end."""
    return {}


@pytest.mark.parametrize("name", ORDER)
def test_a_newcomer_can_follow(
    name: str,
    followed: dict[str, Path],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    before = GOES_ON.get(name)
    if before is not None:
        if before not in followed:
            follow(TUTORIALS / f"{before}.md", capsys)
        else:
            monkeypatch.chdir(followed[before])
            monkeypatch.setenv("CGBENCH_HOME", str(followed[before] / "home"))
    follow(TUTORIALS / f"{name}.md", capsys)
    followed[name] = folder


def test_every_tutorial_is_followed_and_linked() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.md")} == set(ORDER)
    overview = (ROOT / "docs" / "journeys.md").read_text(encoding="utf-8")
    assert all(f"](tutorials/{name}.md)" in overview for name in ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_tutorial_has_commands_code_and_output(name: str) -> None:
    found = [block.language for block in blocks(TUTORIALS / f"{name}.md")]
    assert found.count("console") >= 3
    assert found.count("text") >= 2


def test_outputs_are_compared() -> None:
    printed = "frames  640\nrg_w1   0.31 [0.1, 0.5]\nresult: run/result.json\n"
    assert not missing_lines("frames 640\n…\nrg_w1 0.77 [0.2, 0.9]\n", printed)
    assert missing_lines("frames 641\n", printed) == ["frames 641"]
    assert missing_lines("rg_w1 0.31 [0.1, 0.5]\nframes 640\n", printed) == ["frames 640"]
    assert not missing_lines("frames 1\nnote: 2\n", "frames 1\n", "note: 2\n")
    assert expected_code("cgbench check a.pt  # exit code 4") == 4
