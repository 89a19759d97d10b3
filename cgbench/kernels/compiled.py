"""How loops are compiled, so that all of them keep the same promises.

A compiled function releases the interpreter's lock, so that threads run it side by side, and
never starts threads itself: nothing depends on how many there are. Sums may be reordered, which
lets the compiler use vector instructions; that numbers may be infinite or not a number it has to
respect. Machine code is kept on disk from one run to the next, where there is a place for it.

Functions with such freedom are inlined into those that call them. Left to itself the compiler calls
the larger ones, and then the process that compiles binds such a call to the function's own machine
code, but one that reads the code from disk to the caller's copy, optimised once more: last bits
would differ.

Importing this module takes half a second: import it inside functions.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cgbench.kernels.code_cache import keep_apart

Function = TypeVar("Function", bound=Callable[..., Any])

#: Bytes of a line of the processor's cache.
_LINE: Final = 64

_RELAXED: Final = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Function) -> Function:
    """Compile a function of numbers and arrays at its first call with these types."""
    return _compiled(function, _RELAXED)


def compiled_as_written(function: Function) -> Function:
    """Compile a function whose sums and products are rounded one by one, in the order written.

    However often it is optimised, its bits are the same; so it may be called instead of inlined.
    """
    return _compiled(function, False)


def _compiled(function: Function, fastmath: Any) -> Function:
    def decorator(*, cache: bool) -> Any:
        return numba.njit(
            cache=cache,
            nogil=True,
            fastmath=fastmath,
            error_model="numpy",
            forceinline=bool(fastmath),
        )

    result: Function
    try:
        result = decorator(cache=True)(function)
        keep_apart(result)
    except RuntimeError:
        # Neither the package's folder nor the user's can be written: compiled in every process.
        result = decorator(cache=False)(function)
    return result


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array whose memory starts with a line of the cache; its values are arbitrary.

    The widest vectors are as long as a line. Where rows are whole lines, none of them then lies
    across two: loops over rows are half as fast again.
    """
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def aligned_copy(array: NDArray[Any], dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return a copy in rows whose memory starts with a line of the cache."""
    copy = aligned(array.shape, dtype or array.dtype)
    copy[...] = array
    return copy
