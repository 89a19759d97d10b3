"""Imports tried in a process of their own: a broken library may end it."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from cgbench.pipeline.doctor_finding import last_line

#: Seconds that the imports of all packages may take, on a slow file system too.
_IMPORT_TIMEOUT: Final = 300.0

# Importing may end a process (an instruction that the processor lacks, a broken library), so that
# it is done in a process of its own, which says before each import what comes next.
_CHILD: Final = """
import importlib, json, sys, time
said = sys.stdout
sys.stdout = sys.stderr
def say(**facts):
    said.write("@" + json.dumps(facts) + "\\n")
    said.flush()
for name in sys.argv[1:]:
    say(module=name, state="begun")
    start = time.perf_counter()
    try:
        importlib.import_module(name)
    except BaseException as error:
        say(module=name, state="failed", error=f"{type(error).__name__}: {error}")
    else:
        say(module=name, state="done", seconds=time.perf_counter() - start)
"""


class Import(NamedTuple):
    """How the import of a module went: seconds, or what went wrong."""

    seconds: float | None
    error: str | None


def try_imports(modules: Sequence[str]) -> dict[str, Import]:
    """Import modules in a process of their own, one after another.

    Returns:
        How each went; where one ends the process, those after it go on in another one.
    """
    outcome: dict[str, Import] = {}
    limit = time.monotonic() + _IMPORT_TIMEOUT
    left = list(modules)
    while left:
        ended = _import_in_child(left, max(1.0, limit - time.monotonic()), outcome)
        for name in left:
            if name not in outcome:
                # Only the first that was not finished is at fault; of the others nothing is known.
                outcome[name] = Import(None, ended)
                break
        left = [name for name in left if name not in outcome]
    return outcome


def _import_in_child(names: Sequence[str], seconds: float, outcome: dict[str, Import]) -> str:
    """Enter how imports went; return how the process ended."""
    command = [sys.executable, "-P", "-c", _CHILD, *names]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            done = subprocess.run(  # noqa: S603 - this Python, and names of installed packages
                command, stdout=output, stderr=subprocess.DEVNULL, timeout=seconds, check=False
            )
            status = _ending(done.returncode)
        except subprocess.TimeoutExpired:
            status = "not imported within the time limit"
        output.seek(0)
        lines = output.read().splitlines()
    for line in lines:
        if not line.startswith("@"):
            continue
        facts = json.loads(line[1:])
        if facts["state"] == "done":
            outcome[facts["module"]] = Import(float(facts["seconds"]), None)
        elif facts["state"] == "failed":
            outcome[facts["module"]] = Import(None, last_line(facts["error"]))
    return status


def _ending(code: int) -> str:
    if code < 0:
        return f"the import ended the process: {signal.Signals(-code).name}"
    return f"the import ended the process with code {code}"
