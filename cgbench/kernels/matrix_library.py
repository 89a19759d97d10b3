"""Which kernels the library of matrix products takes on processors that it does not know.

OpenBLAS, which comes with numpy and scipy, picks its kernels by the model of the processor, and takes
those of 2013 for a model that is newer than itself. On AMD's Zen 5 that halves the speed of matrix
products. The library lets the environment decide, when it is loaded.
"""

import os
from pathlib import Path
from typing import Final

_VARIABLE: Final = "OPENBLAS_CORETYPE"
#: Kernels for 512-bit vectors; what the library takes for Zen 4 by itself.
_WIDE: Final = "SKYLAKEX"
_PROCESSORS: Final = Path("/proc/cpuinfo")


def name_processor(processors: Path = _PROCESSORS) -> None:
    """Have libraries that are loaded from now on use 512-bit vectors on AMD processors with them.

    Nothing is changed where the variable is set, whatever to, or the system is another one.

    Args:
        processors: The system's description of the processors.
    """
    if _VARIABLE in os.environ:
        return
    try:
        with processors.open(encoding="ascii", errors="replace") as lines:
            # One processor's entry says it.
            entry = "".join(lines.readline() for _ in range(40))
    except OSError:
        return
    fields = dict(line.split(":", 1) for line in entry.splitlines() if ":" in line)
    values = {key.strip(): value.split() for key, value in reversed(fields.items())}
    if values.get("vendor_id") == ["AuthenticAMD"] and "avx512f" in values.get("flags", []):
        os.environ[_VARIABLE] = _WIDE
