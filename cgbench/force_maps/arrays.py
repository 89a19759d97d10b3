"""Plain arrays in an ``.npz`` beside a ``.json`` that holds its hash; never objects."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import file_sha256, write_atomic
from cgbench.errors import IntegrityError, UsageError

#: Far above any file of ours; what is larger is not read into memory.
_MAX_BYTES: Final = 512 * 1024**2


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays as a compressed ``.npz``, atomically; return the file's sha256.

    The same arrays give the same bytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
    write_atomic(path, buffer.getvalue())
    return file_sha256(path)


def read_arrays(
    path: Path, dtypes: Mapping[str, type[np.generic]], sha256: str
) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file that may come from anyone.

    Args:
        path: The ``.npz``.
        dtypes: Name and type of each array; there may be no others.
        sha256: Hash that the file must have.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It has another hash, is damaged or unsafe, or holds something else.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    digest = file_sha256(path)
    if digest != sha256:
        raise IntegrityError(
            f"{path}: not the file that {path.with_suffix('.json').name} describes",
            expected=sha256,
            found=digest,
        )
    try:
        arrays = _load(path, dtypes)
    except (
        ValueError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise IntegrityError(f"{path}: damaged or unsafe", found=error) from error
    for name, dtype in dtypes.items():
        if arrays[name].dtype != dtype:
            raise IntegrityError(
                f"{path}: {name} of another type", expected=dtype.__name__, found=arrays[name].dtype
            )
    return arrays


def _load(path: Path, dtypes: Mapping[str, type[np.generic]]) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        sizes = {item.filename: item.file_size for item in archive.infolist()}
    expected = {f"{name}.npy" for name in dtypes}
    if set(sizes) != expected or sum(sizes.values()) > _MAX_BYTES:
        raise IntegrityError(
            f"{path}: not the arrays that are expected",
            expected=f"{', '.join(sorted(expected))}, at most {_MAX_BYTES} bytes",
            found=", ".join(sorted(sizes)[:5]),
        )
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in dtypes}
