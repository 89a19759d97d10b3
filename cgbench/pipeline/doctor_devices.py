"""The doctor's look at graphics processors and compilers."""

import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cgbench.pipeline.doctor_finding import Finding, in_words, last_line

#: Seconds that a program that is asked for its version, or compiles ten lines, may take.
_PROGRAM_TIMEOUT: Final = 60.0

#: What torch's compiler writes needs the same: threads of OpenMP and the headers of Python.
_PROBE: Final = """
#include <Python.h>
#include <omp.h>
extern "C" int probe() {
  int sum = 0;
  #pragma omp parallel for reduction(+ : sum)
  for (int i = 0; i < 10; ++i) sum += i;
  return sum;
}
"""


def graphics() -> Iterator[Finding]:
    """Look at graphics processors: the driver's, torch's, and Triton's view of them."""
    import torch

    told = _ask_driver()
    build = torch.version.cuda
    usable = torch.cuda.is_available()
    facts: dict[str, Any] = {"driver": told, "cuda_of_torch": build, "usable": usable}
    if not told and not usable:
        yield Finding(
            group="graphics",
            name="graphics processor",
            status="note",
            found="none that a driver of NVIDIA tells of; everything runs on the processor",
            facts=facts,
        )
        return
    if not usable:
        why = "torch is built without CUDA" if build is None else _why_unusable()
        yield Finding(
            group="graphics",
            name="graphics processor",
            status="warning",
            found=f"{'; '.join(told)}; but torch cannot use it: {why}",
            fix="install a build of torch for the CUDA version that the driver supports",
            facts=facts,
        )
        return
    for index in range(torch.cuda.device_count()):
        yield _device(torch.device("cuda", index), told)
    yield _triton(torch.device("cuda", 0))


def _device(device: Any, told: Sequence[str]) -> Finding:
    import torch

    properties = torch.cuda.get_device_properties(device)
    facts: dict[str, Any] = {"memory_bytes": properties.total_memory, "driver": list(told)}
    name = f"{properties.name}, {in_words(properties.total_memory)}, CUDA {torch.version.cuda}"
    try:
        ones = torch.ones(256, 256, device=device)
        right = bool(torch.equal(ones @ ones, torch.full_like(ones, 256.0)))
    except Exception as error:  # noqa: BLE001 - whatever ails a driver, the other checks go on
        right, facts["error"] = False, last_line(error)
    return Finding(
        group="graphics",
        name=str(device),
        status="ok" if right else "warning",
        found=name if right else f"{name}; a product fails: {facts.get('error', 'wrong numbers')}",
        fix=None if right else "use another device, or a build of torch that supports this one",
        facts=facts,
    )


def _triton(device: Any) -> Finding:
    from cgbench.kernels.device.choice import choose_operations

    _, reason = choose_operations(device)
    fine = reason == "Triton kernels"
    return Finding(
        group="graphics",
        name="triton",
        status="ok" if fine else "warning",
        found=reason,
        fix=None if fine else "pip install 'cgbench[gpu]', and a C compiler",
        facts={"installed": find_spec("triton") is not None},
    )


def compilers() -> Iterator[Finding]:
    """Look at compilers: the one of C++ that torch calls, and numba's."""
    named = os.environ.get("CXX")
    path = next(filter(None, map(shutil.which, filter(None, (named, "g++", "clang++", "c++")))), "")
    error = _compile(path) if path else "none found"
    yield Finding(
        group="compilers",
        name="C++",
        status="ok" if error is None else "note",
        found=_first_line([path, "--version"]) or path if error is None else f"{path} {error}",
        fix=None
        if error is None
        else "only training with 'engine: compiled' needs it: install g++ and the headers of "
        "Python (python3-dev)",
        facts={"path": path or None, "error": error},
    )
    yield _numba()


def _numba() -> Finding:
    facts: dict[str, Any] = {}
    try:
        import numba

        settings: Any = numba.config
        facts = {"numba": numba.__version__, "llvmlite": version("llvmlite")}
        disabled = bool(settings.DISABLE_JIT)
        right = numba.njit(lambda x: x + 1)(1) == 2
        error = None if right else "a compiled function gives a wrong number"
    except Exception as problem:  # noqa: BLE001 - whatever ails a compiler is what is asked for
        disabled, error = False, last_line(problem)
    broken = error is not None
    release = facts.get("numba", "")
    return Finding(
        group="compilers",
        name="numba",
        status="broken" if broken else "warning" if disabled else "ok",
        found=f"{release} {error}".strip() if broken else release + ", switched off" * disabled,
        fix="pip install --force-reinstall numba llvmlite"
        if broken
        else "unset NUMBA_DISABLE_JIT: loops are a hundred times as slow without it"
        if disabled
        else None,
        facts=facts,
    )


def _compile(compiler: str) -> str | None:
    """Compile a small library; return what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(_PROBE, encoding="utf-8")
        headers = sysconfig.get_path("include")
        library = str(source.with_suffix(".so"))
        options = ["-shared", "-fPIC", "-fopenmp", f"-I{headers}", str(source), "-o", library]
        try:
            done = _run([compiler, *options])
        except (OSError, subprocess.SubprocessError) as error:
            return last_line(error)
        problems = [line for line in done.stderr.splitlines() if "error" in line]
        return None if done.returncode == 0 else last_line((problems or [done.stderr])[0])


def _ask_driver() -> list[str]:
    """Return what the driver of NVIDIA tells of each device: name, driver, memory."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = _run([program, *query])
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] * (
        not done.returncode
    )


def _why_unusable() -> str:
    import torch

    cuda: Any = torch.cuda
    try:
        cuda.init()
    except (RuntimeError, AssertionError) as error:
        return last_line(error)
    return "no device is visible (CUDA_VISIBLE_DEVICES)"


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - a program that was found on the search path
        command, capture_output=True, text=True, timeout=_PROGRAM_TIMEOUT, check=False
    )


def _first_line(command: Sequence[str]) -> str:
    try:
        return next(iter(_run(command).stdout.splitlines()), "")
    except (OSError, subprocess.SubprocessError):
        return ""
