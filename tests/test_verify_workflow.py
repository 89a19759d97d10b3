"""The workflow that checks pull requests runs nothing of theirs and holds no secrets."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PATH = ROOT / ".github" / "workflows" / "verify-submission.yml"
WORKFLOW = yaml.safe_load(PATH.read_text(encoding="utf-8"))
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
SCRIPTS = "\n".join(step["run"] for step in STEPS)


def test_it_can_only_read_and_has_no_secrets() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in WORKFLOW["jobs"].values())
    text = PATH.read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "github.token" not in text
    assert "cache" not in "".join(step.get("uses", "") for step in STEPS)


def test_the_base_branch_decides_what_runs() -> None:
    # "on" is read as a truth value by YAML 1.1.
    assert list(WORKFLOW[True]) == ["pull_request_target"]
    assert not any("uses" in step for step in STEPS)
    assert "pip install --quiet ./code" in SCRIPTS
    assert not re.search(r"(pip|python3?|bash|sh|source) [^\n]*proposed", SCRIPTS)


def test_no_text_of_a_pull_request_becomes_part_of_a_script() -> None:
    assert "${{" not in SCRIPTS
    allowed = {
        "github.server_url", "github.repository", "github.event.pull_request.number",
        "github.event.pull_request.base.sha", "github.event.pull_request.head.sha",
    }  # fmt: skip
    used = set(re.findall(r"\$\{\{ (\S+) \}\}", PATH.read_text(encoding="utf-8")))
    assert used == allowed


def test_words_of_a_pull_request_are_no_commands_to_the_runner() -> None:
    """A runner takes lines that begin with two colons for commands until it is told not to."""
    for step in STEPS:
        if "proposed/leaderboard" in step["run"].replace("../proposed", ""):
            lines = step["run"].splitlines()
            stop = next(i for i, line in enumerate(lines) if "::stop-commands::" in line)
            assert stop < next(i for i, line in enumerate(lines) if "cgbench" in line)
    assert SCRIPTS.count("::stop-commands::") == 2


def test_what_is_checked_is_what_the_run_is_shown_for() -> None:
    assert 'test "$(git rev-parse proposed^2)" = "$HEAD"' in SCRIPTS
    assert "core.symlinks false" in SCRIPTS
    assert "recurseSubmodules false" in SCRIPTS


def test_names_that_are_no_data_are_refused_by_its_pattern() -> None:
    pattern = re.search(r"'(\^leaderboard/[^']+)'", SCRIPTS)
    assert pattern is not None
    good = ["leaderboard/models/toy/one.yml", "leaderboard/submissions/toy/one/2026-01-10.json"]
    bad = [
        "cgbench/cli/main.py", "leaderboard/README.md", "leaderboard/models/toy/one.py",
        ".github/workflows/x.yml", "leaderboard/models/x\ny.yml", "pyproject.toml",
        "leaderboard/reference_rows/chignolin.json",
    ]  # fmt: skip
    assert all(re.search(pattern[1], name) for name in good)
    assert not any(all(re.search(pattern[1], line) for line in name.split("\n")) for name in bad)
