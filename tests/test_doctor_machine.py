"""The doctor's look at the machine: processors, matrix libraries, graphics, compilers."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cgbench.pipeline import doctor_devices, doctor_machine
from cgbench.pipeline.doctor_finding import Finding


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize(
    ("flags", "bits", "status"),
    [
        ("fpu sse2 avx avx2 avx512f", 512, "ok"),
        ("fpu sse2 avx avx2", 256, "ok"),
        ("fpu sse2 avx", 256, "warning"),
        ("fpu sse2", 128, "warning"),
        ("fpu", None, "ok"),
    ],
)
def test_vectors_of_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, bits: int | None, status: str
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"model name\t: Toy\nflags\t\t: {flags}\n")
    monkeypatch.setattr(doctor_machine, "_CPU_INFORMATION", path)
    found = by_name(doctor_machine.processor())["processor"]
    assert (found.facts["vector_bits"], found.status) == (bits, status)


def test_a_machine_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CPU_INFORMATION", "_LIMIT_OF_CORES", "_LIMIT_OF_MEMORY"):
        monkeypatch.setattr(doctor_machine, name, tmp_path / "absent")
    found = by_name(doctor_machine.processor())
    assert found["processor"].facts["vector_bits"] is None
    assert "limit of cores" not in found


def test_limits_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores, memory = tmp_path / "cpu.max", tmp_path / "memory.max"
    monkeypatch.setattr(doctor_machine, "_LIMIT_OF_CORES", cores)
    monkeypatch.setattr(doctor_machine, "_LIMIT_OF_MEMORY", memory)
    cores.write_text("50000 100000\n")
    memory.write_text("1000000000\n")
    found = by_name(doctor_machine.processor())
    assert found["limit of cores"].status == "warning"
    assert "OMP_NUM_THREADS=1" in (found["limit of cores"].fix or "")
    assert found["memory"].found == "1 GB"
    cores.write_text("max 100000\n")
    memory.write_text("max\n")
    assert "limit of cores" not in by_name(doctor_machine.processor())


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert by_name(doctor_machine.processor())["threads"].status == "warning"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert by_name(doctor_machine.processor())["threads"].status == "ok"


def test_a_matrix_library_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.linalg.blas

    assert by_name(doctor_machine.matrix_libraries())["matrix products"].status == "ok"
    wrong = np.zeros((128, 64), np.float32)
    monkeypatch.setattr(scipy.linalg.blas, "sgemm", lambda *_: wrong)
    found = by_name(doctor_machine.matrix_libraries())["matrix products"]
    assert (found.status, found.facts["wrong"]) == ("broken", ["scipy"])


def test_kernels_and_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    import threadpoolctl

    def pool(**changes: Any) -> dict[str, Any]:
        return {
            "user_api": "blas", "internal_api": "openblas", "filepath": "/x/scipy.libs/a.so",
            "architecture": "Haswell", "version": "1", "num_threads": 2, "prefix": "lib", **changes,
        }  # fmt: skip

    pools = [
        pool(),
        pool(user_api="openmp", prefix="libgomp"),
        pool(user_api="openmp", prefix="libiomp"),
    ]
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: pools)
    monkeypatch.setattr(doctor_machine, "vector_width", lambda: (512, "avx512f"))
    found = by_name(doctor_machine.matrix_libraries())
    assert found["OpenMP"].status == "warning"
    assert found["matrix library of scipy"].status == "note"
    assert "OPENBLAS_CORETYPE" in (found["matrix library of scipy"].fix or "")
    pools[:] = [pool(architecture="SkylakeX"), pool(user_api="openmp", prefix="libgomp")]
    found = by_name(doctor_machine.matrix_libraries())
    assert found["matrix library of scipy"].status == "ok"
    assert "OpenMP" not in found


# Graphics processors


def test_no_graphics_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor_devices, "_ask_driver", list)
    (found,) = doctor_devices.graphics()
    assert found.status == "note"


def test_a_graphics_processor_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor_devices, "_ask_driver", lambda: ["Toy GPU, 535.1, 80 GB"])
    monkeypatch.setattr(torch.version, "cuda", None)
    (found,) = doctor_devices.graphics()
    assert found.status == "warning"
    assert "without CUDA" in found.found

    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "init", too_old)
    (found,) = doctor_devices.graphics()
    assert "too old" in found.found


@pytest.mark.parametrize("reason", ["Triton kernels", "plain torch, because it is a toy"])
def test_a_graphics_processor_that_works_or_not(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    from cgbench.kernels.device import choice

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    properties = SimpleNamespace(name="Toy GPU", total_memory=80_000_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(doctor_devices, "_ask_driver", list)
    monkeypatch.setattr(choice, "choose_operations", lambda device: (None, reason))
    found = by_name(doctor_devices.graphics())
    # There is none here, so that the product on it fails.
    if not torch.backends.cuda.is_built():
        assert found["cuda:0"].status == "warning"
        assert "product fails" in found["cuda:0"].found
    assert found["triton"].status == ("ok" if reason == "Triton kernels" else "warning")


def test_what_the_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program.write_text("#!/bin/sh\necho 'Toy GPU, 535.1, 80 GB'\n")
    program.chmod(0o755)
    assert doctor_devices._ask_driver() == ["Toy GPU, 535.1, 80 GB"]
    program.write_text("#!/bin/sh\necho failed; exit 9\n")
    assert doctor_devices._ask_driver() == []


# Compilers


def test_the_compilers_here() -> None:
    assert by_name(doctor_devices.compilers())["numba"].status == "ok"


def test_no_compiler_of_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_devices.shutil, "which", lambda name: None)
    found = by_name(doctor_devices.compilers())["C++"]
    assert found.status == "note"
    assert "g++" in (found.fix or "")


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "c++"
    program.write_text("#!/bin/sh\necho 'probe.cpp:1: fatal error: Python.h: gone' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    found = by_name(doctor_devices.compilers())["C++"]
    assert found.status == "note"
    assert "Python.h: gone" in found.found


def test_a_numba_that_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    def broken(function: object) -> None:
        raise RuntimeError("LLVM is gone")

    with monkeypatch.context() as patch:
        patch.setattr(numba, "njit", broken)
        assert "LLVM is gone" in by_name(doctor_devices.compilers())["numba"].found
        patch.setattr(numba, "njit", lambda function: lambda x: x)
        assert by_name(doctor_devices.compilers())["numba"].status == "broken"
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert by_name(doctor_devices.compilers())["numba"].status == "warning"
