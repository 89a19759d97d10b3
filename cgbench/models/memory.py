"""How the C library treats freed memory, which decides much of the speed of training on a CPU."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Let the process keep large blocks of memory that it frees, for the next use.

    By default glibc returns temporaries of some megabytes to the system and asks for them again a
    moment later, in every step; keeping them makes a training step of chains up to 1.8 times
    faster. The process then holds on to its peak memory.

    Returns:
        Whether the setting was made; other C libraries than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(_M_MMAP_MAX, 0))
