"""The doctor's look at the processor: its vectors, its limits and its matrix libraries."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cgbench.pipeline.doctor_finding import Finding, in_words
from cgbench.provenance import hardware

#: What the processor says of itself, its flag for vectors of a width, and the width in bits.
_CPU_INFORMATION: Final = Path("/proc/cpuinfo")
_WIDTHS: Final = {"avx512f": 512, "avx2": 256, "avx": 256, "asimd": 128, "sse2": 128}

#: Limits that a container or a batch system sets.
_LIMIT_OF_CORES: Final = Path("/sys/fs/cgroup/cpu.max")
_LIMIT_OF_MEMORY: Final = Path("/sys/fs/cgroup/memory.max")

_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

#: Kernels of OpenBLAS for vectors of 512 bits.
_WIDE_KERNELS: Final = frozenset({"SkylakeX", "Cooperlake", "Sapphirerapids"})


def processor() -> Iterator[Finding]:
    """Look at the processor: cores, what limits them, memory, width of its vectors."""
    machine = hardware()
    bits, flag = vector_width()
    yield Finding(
        group="processor",
        name="processor",
        status="warning" if flag in ("sse2", "avx") else "ok",
        found=f"{machine.processor}, {machine.cores} cores, "
        + (f"vectors of {bits} bits ({flag})" if bits else "width of vectors unknown"),
        fix="simulations are several times as fast with vectors of 256 bits (AVX2); a virtual "
        "machine can hide them"
        if flag in ("sse2", "avx")
        else None,
        facts={"cores": machine.cores, "vector_bits": bits, "instructions": flag},
    )
    quota = _quota_of_cores()
    if quota is not None and quota < machine.cores:
        yield Finding(
            group="processor",
            name="limit of cores",
            status="warning",
            found=f"{machine.cores} cores are visible, and time of {quota:g} is given",
            fix=f"set OMP_NUM_THREADS={max(1, int(quota))}: more threads than that wait in turns",
            facts={"quota": quota},
        )
    memory, limit = machine.memory_bytes, _limit_of_memory()
    usable = min((size for size in (memory, limit) if size is not None), default=None)
    yield Finding(
        group="processor",
        name="memory",
        status="ok",
        found="unknown" if usable is None else in_words(usable),
        facts={"bytes": memory, "limit_bytes": limit},
    )
    wanted = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    above = [f"{name}={value}" for name, value in wanted.items() if _above(value, machine.cores)]
    yield Finding(
        group="processor",
        name="threads",
        status="warning" if above else "ok",
        found=", ".join(f"{name}={value}" for name, value in wanted.items())
        or f"not set: up to {machine.cores}",
        fix=f"there are {machine.cores} cores: threads beyond them make it slower"
        if above
        else None,
        facts=dict(wanted),
    )


def vector_width() -> tuple[int | None, str | None]:
    """Return the width in bits of the processor's vectors and the flag that says so."""
    try:
        text = _CPU_INFORMATION.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, None
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return next(((bits, flag) for flag, bits in _WIDTHS.items() if flag in flags), (None, None))


def matrix_libraries() -> Iterator[Finding]:
    """Look at the libraries of matrix products: which, with which kernels, and whether right."""
    import numpy as np
    import scipy.linalg.blas
    import torch
    from threadpoolctl import threadpool_info

    pools = threadpool_info()
    bits, _ = vector_width()
    for pool in pools:
        if pool["user_api"] != "blas":
            continue
        kernels = pool.get("architecture")
        narrow = pool["internal_api"] == "openblas" and bits == 512 and kernels not in _WIDE_KERNELS
        owner = "scipy" if "scipy.libs" in pool["filepath"] else "numpy"
        yield Finding(
            group="processor",
            name=f"matrix library of {owner}",
            status="note" if narrow else "ok",
            found=f"{pool['internal_api']} {pool['version']}, kernels {kernels or 'unknown'}, "
            f"{pool['num_threads']} threads",
            fix="OPENBLAS_CORETYPE=SkylakeX takes kernels for the 512-bit vectors that this "
            "processor has; products may be faster with them"
            if narrow
            else None,
            facts={"kernels": kernels, "version": pool["version"], "threads": pool["num_threads"]},
        )
    backends: Any = torch.backends
    mkl, onednn = bool(backends.mkl.is_available()), bool(backends.mkldnn.is_available())
    capability = str(backends.cpu.get_cpu_capability())
    yield Finding(
        group="processor",
        name="matrix library of torch",
        status="ok",
        found=f"{'MKL' if mkl else 'another than MKL'}, oneDNN {'on' if onednn else 'off'}, "
        f"{capability}, {torch.get_num_threads()} threads",
        facts={"mkl": mkl, "capability": capability, "threads": torch.get_num_threads()},
    )
    runtimes = sorted({pool["prefix"] for pool in pools if pool["user_api"] == "openmp"})
    if len(runtimes) > 1:
        yield Finding(
            group="processor",
            name="OpenMP",
            status="warning",
            found=f"{' and '.join(runtimes)} in one process",
            fix="packages of two sources do not mix well: install torch, numpy and scipy from one",
            facts={"runtimes": list(runtimes)},
        )
    # Whole numbers of this size multiply without rounding, in every order.
    left = np.arange(128 * 96, dtype=np.float32).reshape(128, 96) % 17 - 8
    right = np.arange(96 * 64, dtype=np.float32).reshape(96, 64) % 13 - 6
    exact = left.astype(np.int64) @ right.astype(np.int64)
    products = {
        "numpy": left @ right,
        "scipy": scipy.linalg.blas.sgemm(1.0, left, right),
        "torch": (torch.from_numpy(left) @ torch.from_numpy(right)).numpy(),
    }
    wrong = [name for name, product in products.items() if not np.array_equal(product, exact)]
    yield Finding(
        group="processor",
        name="matrix products",
        status="broken" if wrong else "ok",
        found=f"wrong in {', '.join(wrong)}" if wrong else "right",
        fix="try other kernels (OPENBLAS_CORETYPE=Haswell), and install the package again"
        if wrong
        else None,
        facts={"wrong": list(wrong)},
    )


def _quota_of_cores() -> float | None:
    """Return how many cores' time the container is given; None if that is not limited."""
    try:
        quota, period = _LIMIT_OF_CORES.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _limit_of_memory() -> int | None:
    try:
        return int(_LIMIT_OF_MEMORY.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _above(value: str, cores: int) -> bool:
    return value.isdigit() and int(value) > cores
