"""Checks of zarr metadata before zarr sees it: for files that may come from anyone.

Only plain numbers in bounded arrays pass. What zarr would otherwise follow at the word of a file
(object types, codecs that unpickle, links out of the folder, sizes beyond memory) is refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cgbench.config import read_data
from cgbench.errors import CgbenchError, IntegrityError, ValidationError
from cgbench.store.arrays import ZARR_METADATA, open_array

#: The largest array that is read as a whole: three times the longest simulation of a protocol.
MAX_ARRAY_BYTES: Final = 8 * 1024**3
#: A chunk is decoded at once.
MAX_CHUNK_BYTES: Final = 256 * 1024**2

_BLOSC_HEADER_BYTES: Final = 16
_CHECKSUM_BYTES: Final = 4

_CODECS: Final = frozenset({"bytes", "blosc", "zstd", "crc32c", "transpose", "sharding_indexed"})


@dataclass(frozen=True)
class ArrayInformation:
    """What the metadata of an array say: shape, type and the shape of its stored chunks."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]


def refuse_links(folder: Path) -> None:
    """Refuse a folder that contains symbolic links.

    Raises:
        IntegrityError: There is a link.
    """
    for entry in (folder, *folder.rglob("*")):
        if entry.is_symlink():
            raise IntegrityError(
                f"{entry}: a symbolic link", expected="plain files", found=entry.readlink()
            )


def read_group_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a zarr v3 group.

    Raises:
        IntegrityError: The folder holds no zarr v3 group.
    """
    return dict(_mapping(_metadata(folder, "group").get("attributes")))


def check_array(
    folder: Path, dtypes: Sequence[str], n_dimensions: int, max_bytes: int = MAX_ARRAY_BYTES
) -> ArrayInformation:
    """Check the metadata of an array and return what they say.

    Args:
        folder: The array's folder.
        dtypes: Names of the types that are accepted.
        n_dimensions: Number of dimensions that is accepted.
        max_bytes: Largest size of the whole array.

    Raises:
        IntegrityError: No zarr v3 array, or one that could do harm.
        ValidationError: Another type or number of dimensions.
    """
    return check_array_metadata(_metadata(folder, "array"), folder, dtypes, n_dimensions, max_bytes)


def check_array_metadata(
    data: Mapping[str, Any],
    folder: object,
    dtypes: Sequence[str],
    n_dimensions: int,
    max_bytes: int = MAX_ARRAY_BYTES,
) -> ArrayInformation:
    """Check the content of an array's ``zarr.json``; ``folder`` names it in messages.

    Arguments and errors are those of ``check_array``.
    """
    dtype = data.get("data_type")
    if dtype not in dtypes:
        raise ValidationError(
            f"{folder}: wrong data type", expected=" or ".join(dtypes), found=repr(dtype)[:80]
        )
    shape = _lengths(data.get("shape"), folder, "shape", least=0)
    if len(shape) != n_dimensions:
        raise ValidationError(
            f"{folder}: wrong number of dimensions", expected=n_dimensions, found=shape
        )
    grid = _mapping(data.get("chunk_grid"))
    chunk = _lengths(
        _mapping(grid.get("configuration")).get("chunk_shape"), folder, "chunk shape", least=1
    )
    encoding = _mapping(data.get("chunk_key_encoding"))
    separator = _mapping(encoding.get("configuration")).get("separator", "/")
    if (
        grid.get("name") != "regular"
        or encoding.get("name") != "default"
        or separator not in ("/", ".")
    ):
        raise IntegrityError(f"{folder}: not a regular grid of chunks", found=repr(grid)[:80])
    if len(chunk) != len(shape):
        raise IntegrityError(
            f"{folder}: chunks of other dimensions", expected=len(shape), found=chunk
        )
    itemsize = np.dtype(dtype).itemsize
    for what, lengths, bound in (
        ("array", shape, max_bytes),
        ("chunk", chunk, MAX_CHUNK_BYTES),
    ):
        if math.prod(lengths) * itemsize > bound:
            raise IntegrityError(
                f"{folder}: the {what} is too large",
                expected=f"at most {bound} bytes",
                found=f"{math.prod(lengths) * itemsize} bytes, shape {lengths}",
            )
    if data.get("storage_transformers"):
        raise IntegrityError(f"{folder}: storage transformers are not accepted")
    _check_codecs(data.get("codecs"), folder)
    return ArrayInformation(shape, np.dtype(dtype), chunk)


def check_packed_chunks(folder: Path) -> None:
    """Check that every chunk of an array that is not sharded is as long as blosc takes it to be.

    The decoder reads as many bytes as the head of a chunk says, and writes as many as it says:
    beyond the end of both, where the head is wrong. A chunk that was cut off ends the process.

    Args:
        folder: An array's folder.

    Raises:
        IntegrityError: A chunk is cut off, or is of another size than the array's chunks.
    """
    data = _metadata(folder, "array")
    codecs = [_mapping(codec).get("name") for codec in data.get("codecs") or ()]
    if "blosc" not in codecs:
        return
    grid = _mapping(_mapping(data.get("chunk_grid")).get("configuration"))
    lengths = _lengths(grid.get("chunk_shape"), folder, "chunk shape", least=1)
    expected = math.prod(lengths) * np.dtype(str(data.get("data_type"))).itemsize
    tail = _CHECKSUM_BYTES if codecs[-1] == "crc32c" else 0
    for chunk in sorted(folder.rglob("*")):
        if chunk.name == ZARR_METADATA or not chunk.is_file():
            continue
        with chunk.open("rb") as file:
            head = file.read(_BLOSC_HEADER_BYTES)
        sizes = int.from_bytes(head[4:8], "little"), int.from_bytes(head[12:16], "little")
        if sizes != (expected, chunk.stat().st_size - tail):
            raise IntegrityError(
                f"{chunk}: cut off or damaged",
                expected=f"{expected} bytes packed into {chunk.stat().st_size - tail}",
                found=f"{sizes[0]} packed into {sizes[1]}",
            )


def read_array(folder: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """Read an array whose metadata were checked.

    Raises:
        IntegrityError: A chunk cannot be decoded.
    """
    check_packed_chunks(folder)
    try:
        return np.asarray(open_array(folder)[...])
    except CgbenchError:
        raise
    # Damaged metadata surface as whatever zarr stumbles over first.
    except Exception as error:
        raise IntegrityError(
            f"{folder}: cannot be read", found=f"{type(error).__name__}: {error}"
        ) from error


def _metadata(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / ZARR_METADATA
    if not path.is_file():
        raise IntegrityError(f"{folder}: no zarr {kind}", expected=f"a file {ZARR_METADATA}")
    data = read_data(path)
    if not isinstance(data, dict) or (data.get("zarr_format"), data.get("node_type")) != (3, kind):
        raise IntegrityError(f"{path}: not the metadata of a zarr v3 {kind}")
    return data


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _lengths(value: Any, folder: object, what: str, *, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int and n >= least for n in value):
        raise IntegrityError(f"{folder}: {what} is damaged", found=repr(value)[:80])
    return tuple(value)


def _check_codecs(codecs: Any, folder: object) -> None:
    if not isinstance(codecs, list) or not codecs:
        raise IntegrityError(f"{folder}: no list of codecs", found=repr(codecs)[:80])
    for codec in codecs:
        name = _mapping(codec).get("name")
        if not isinstance(name, str) or name not in _CODECS:
            raise IntegrityError(
                f"{folder}: a codec that is not accepted",
                expected=", ".join(sorted(_CODECS)),
                found=repr(name)[:80],
            )
        if name == "sharding_indexed":
            configuration = _mapping(_mapping(codec).get("configuration"))
            _check_codecs(configuration.get("codecs"), folder)
            _check_codecs(configuration.get("index_codecs"), folder)
