"""Whether the packed coordinates of xtc frames can be unpacked without leaving their memory.

The library that unpacks xtc frames trusts them: a single wrong byte can make it read or write
outside its buffers and end the whole process. The structure of the packing is followed here first,
for many frames at a time, without computing coordinates: each group is one position in full, a
bit that tells whether five bits on the following run come, and a run of up to eight positions
relative to it, whose width in bits grows or shrinks by one from group to group.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import IntegrityError

#: Where a frame's smallest and largest integers, width of relative positions, number of packed
#: bytes and the packed bytes themselves are.
_NUMBERS: Final = 60
_PACKED: Final = 92
#: Widths of relative positions for which the format has a size.
_LEAST_WIDTH, _LARGEST_WIDTH = 9, 72
#: Ranges wider than 24 bits are packed one by one, others all three as one number.
_TOGETHER: Final = 0xFFFFFF
#: The library's buffer, in four-byte words for each number, with three words in front.
_WORDS_PER_NUMBER: Final = 1.2
_FRAMES_AT_ONCE: Final = 4096


def check_packing(
    path: Path, offsets: NDArray[np.int64], frames: Sequence[int], n_atoms: int
) -> None:
    """Check frames of an xtc file with compressed coordinates (ten atoms or more).

    Args:
        path: The file.
        offsets: Where each of its frames begins.
        frames: Frames to check.
        n_atoms: Atoms of each frame.

    Raises:
        IntegrityError: A frame cannot be unpacked; the message names it.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for first in range(0, len(frames), _FRAMES_AT_ONCE):
        chosen = np.asarray(frames[first : first + _FRAMES_AT_ONCE], dtype=np.int64)
        sound = _follow(data, offsets[chosen], n_atoms)
        if not sound.all():
            frame = int(chosen[~sound][0])
            raise IntegrityError(
                f"{path}: frame {frame}, which begins at byte {int(offsets[frame])}, is damaged",
                expected=f"packed coordinates of {n_atoms} atoms",
                fix="get the file again",
            )


def _follow(
    data: np.ndarray[Any, np.dtype[np.uint8]], begins: NDArray[np.int64], n_atoms: int
) -> NDArray[np.bool_]:
    """Return which frames have a packing that ends where it should."""
    raw = data[begins[:, None] + np.arange(_NUMBERS, _PACKED)]
    numbers = raw.view(">i4").astype(np.int64)
    sizes = numbers[:, 3:6] - numbers[:, 0:3] + 1
    width, n_bits = numbers[:, 6].copy(), 8 * numbers[:, 7]
    room = 4 * (int(3 * n_atoms * _WORDS_PER_NUMBER) - 3)
    sound: NDArray[np.bool_] = (sizes >= 1).all(axis=1)
    sound &= (numbers[:, 7] > 0) & (numbers[:, 7] <= room)
    sound &= (width >= _LEAST_WIDTH) & (width <= _LARGEST_WIDTH)
    full = np.array([_bits(row) for row in sizes.tolist()], dtype=np.int64)
    # A frame that is found wrong follows its own last place from then on, and stays wrong.
    place = np.zeros(len(begins), dtype=np.int64)
    atoms = np.zeros(len(begins), dtype=np.int64)
    run = np.zeros(len(begins), dtype=np.int64)
    going = sound.copy()
    while going.any():
        active = np.flatnonzero(going)
        at = place[active] + full[active]
        told = _read(data, begins[active], at, n_bits[active])
        flag = told >= 32
        value = told % 32
        change = np.where(flag, value % 3 - 1, 0)
        run[active] = np.where(flag, value // 3, run[active])
        at += np.where(flag, 6, 1) + run[active] * width[active]
        place[active] = at
        atoms[active] += 1 + run[active]
        width[active] += change
        good = (at <= n_bits[active]) & (atoms[active] <= n_atoms)
        good &= (width[active] >= _LEAST_WIDTH) & (width[active] <= _LARGEST_WIDTH)
        finished = atoms[active] == n_atoms
        sound[active] = good & (~finished | (n_bits[active] - at < 8))
        going[active] = good & ~finished
    return sound


def _bits(sizes: Sequence[int]) -> int:
    """Return how many bits a position in full takes."""
    if min(sizes) < 1:
        return 0
    if max(sizes) > _TOGETHER:
        return sum(size.bit_length() for size in sizes)
    return math.prod(sizes).bit_length()


def _read(
    data: np.ndarray[Any, np.dtype[np.uint8]],
    begins: NDArray[np.int64],
    at: NDArray[np.int64],
    n_bits: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the six bits at a place of each frame; places outside count as zeros."""
    byte = np.minimum(at, n_bits - 1) // 8
    first = data[begins + _PACKED + byte].astype(np.int64)
    # A frame is padded, but the last one of a file need not be.
    following = np.minimum(begins + _PACKED + byte + 1, len(data) - 1)
    window = (first << 8) | data[following]
    return np.where(at < n_bits, (window >> (10 - at % 8)) & 63, 0)
