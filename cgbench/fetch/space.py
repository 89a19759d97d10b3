"""Whether the disk has room for what is to come."""

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cgbench.errors import UsageError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def existing_folder(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """Return the bytes that may be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


def check_space(needs: Mapping[Path, int], reserve: int) -> None:
    """Refuse files for which the disk has no room.

    Args:
        needs: Bytes that are still to be written for each file.
        reserve: Bytes to leave free.

    Raises:
        UsageError: They do not fit.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for path, size in needs.items():
        folder = existing_folder(path)
        device = folder.stat().st_dev
        disks[device] = (folder, disks.get(device, (folder, 0))[1] + size)
    for folder, size in disks.values():
        free = free_bytes(folder)
        if size > 0 and size + reserve > free:
            raise UsageError(
                f"{folder}: not enough disk space",
                expected=f"{size + reserve:,} bytes free ({size:,} to fetch, {reserve:,} to spare)",
                found=f"{free:,} bytes free",
                fix="free space, fetch fewer files, or name a data home on another disk (--home)",
            )


def disk_error(path: Path, error: OSError) -> UsageError:
    """Return the error that tells the user what keeps a file from being written."""
    if error.errno in _FULL:
        return UsageError(
            f"{path}: the disk is full, or files may not become so large",
            found=error.strerror,
            fix="free space and run the same command again: what is on disk is kept",
        )
    return UsageError(f"{path}: cannot be written", found=error)
