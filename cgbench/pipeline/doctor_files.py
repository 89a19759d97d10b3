"""The doctor's look at the disk, the caches, the data home and what the package brings."""

import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cgbench import config
from cgbench.errors import CgbenchError
from cgbench.fetch.settings import MEBIBYTE, Settings
from cgbench.fetch.space import existing_folder, free_bytes
from cgbench.pipeline.doctor_finding import Finding, in_words, last_line

#: What the speed of the disk is measured with.
_TRIAL_BYTES: Final = 64 * MEBIBYTE

_MOUNTS: Final = Path("/proc/self/mounts")

#: File systems of other machines, where locks and small files are slow.
_REMOTE: Final = ("nfs", "lustre", "cifs", "smb", "fuse.sshfs", "beegfs", "gpfs", "ceph", "9p")

#: Folders of a data home, and what one thing of each looks like.
_CONTENTS: Final = {
    "raw": "*",
    "store": "*.zarr",
    "references": "*/*.zarr",
    "splits": "*/*.json",
    "models": "**/model.pt",
    "native": "*.pdb",
}

_PARTIAL: Final = ".partial"


def _folder_of_torch() -> str:
    return str(Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}"))


#: Caches of compilers that are used now and then: whose, the variable that moves it, its place.
_FOLDERS_OF_CACHES: Final = (
    ("torch", "TORCHINDUCTOR_CACHE_DIR", _folder_of_torch),
    ("Triton", "TRITON_CACHE_DIR", lambda: str(Path.home() / ".triton" / "cache")),
)

SAMPLE: Final = "chignolin-sample"


def disk(home: Path | None = None, *, speed: bool = True) -> Iterator[Finding]:
    """Look at the disk of the data home: can it be written, its room, its speed.

    Args:
        home: Data home; the default as everywhere.
        speed: Whether 64 MiB are written and read to see how fast that goes.
    """
    folder = config.data_home(home)
    there = folder if folder.is_dir() else existing_folder(folder)
    told = str(folder) + ("" if folder.is_dir() else " (not made yet)")
    facts: dict[str, Any] = {"path": str(folder), "exists": folder.is_dir()}
    if folder.exists() and not folder.is_dir():
        error: str | None = f"{folder} is a file"
    else:
        error = _why_not_writable(there)
    yield Finding(
        group="disk",
        name="data home",
        status="ok" if error is None else "broken",
        found=told if error is None else f"{told} cannot be written: {error}",
        fix=None if error is None else "name another folder: --home, or CGBENCH_HOME",
        facts=facts,
    )
    free, reserve = free_bytes(there), Settings().reserve_bytes + _TRIAL_BYTES
    kind = _file_system(there)
    yield Finding(
        group="disk",
        name="room",
        status="ok" if free >= reserve else "warning",
        found=f"{in_words(free)} free" + (f" on {kind}" if kind else ""),
        fix=None if free >= reserve else "free space, or name a data home on another disk",
        facts={"free_bytes": free, "file_system": kind},
    )
    if kind is not None and kind.startswith(_REMOTE):
        yield Finding(
            group="disk",
            name="file system",
            status="note",
            found=f"{kind} is of another machine",
            fix="keep stores that are trained on on a disk of this machine, where there is one",
        )
    if speed and error is None and free >= reserve:
        yield _speed(there)


def _speed(folder: Path) -> Finding:
    """Write and read a file, past the memory that the system keeps of it."""
    block = os.urandom(MEBIBYTE)
    n_blocks = _TRIAL_BYTES // MEBIBYTE
    with tempfile.TemporaryFile(dir=folder) as trial:
        start = time.perf_counter()
        for _ in range(n_blocks):
            trial.write(block)
        trial.flush()
        os.fsync(trial.fileno())
        written = _TRIAL_BYTES / (time.perf_counter() - start)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(trial.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        trial.seek(0)
        start = time.perf_counter()
        same = all(trial.read(MEBIBYTE) == block for _ in range(n_blocks))
        read = _TRIAL_BYTES / (time.perf_counter() - start)
    return Finding(
        group="disk",
        name="speed",
        status="ok" if same else "broken",
        found=f"written at {in_words(written)}/s, read at {in_words(read)}/s"
        if same
        else "what was read is not what was written",
        fix=None if same else "use another disk, and have this one looked at",
        facts={"write_bytes_per_s": round(written), "read_bytes_per_s": round(read)},
    )


def temporary() -> Iterator[Finding]:
    """Look at the folder for temporary files, where archives are checked and code is compiled."""
    folder = Path(tempfile.gettempdir())
    error = _why_not_writable(folder)
    yield Finding(
        group="disk",
        name="temporary files",
        status="ok" if error is None else "broken",
        found=f"{folder}, {in_words(free_bytes(folder))} free"
        if error is None
        else f"{folder} cannot be written: {error}",
        fix=None if error is None else "name a folder that can be: TMPDIR",
        facts={"path": str(folder)},
    )


def caches() -> Iterator[Finding]:
    """Look at where compiled code is kept from one run to the next."""
    from cgbench.kernels.native_pairs import native_pairs

    # None: numba found no folder that it may write, and compiles anew in every process.
    chosen: str | None = native_pairs.stats.cache_path  # type: ignore[attr-defined]
    error = "no folder" if chosen is None else _why_not_writable(existing_folder(Path(chosen, "x")))
    yield Finding(
        group="disk",
        name="cache of numba",
        status="ok" if error is None else "warning",
        found=str(chosen) if error is None else f"{chosen or 'none'} cannot be written: {error}",
        fix=None
        if error is None
        else "NUMBA_CACHE_DIR=FOLDER: without it loops are compiled in every process, a minute "
        "each time",
        facts={"path": chosen},
    )
    for name, variable, default in _FOLDERS_OF_CACHES:
        folder = Path(os.environ.get(variable) or default())
        error = _why_not_writable(existing_folder(folder / "x"))
        yield Finding(
            group="disk",
            name=f"cache of {name}",
            status="ok" if error is None else "warning",
            found=str(folder) if error is None else f"{folder} cannot be written: {error}",
            fix=None if error is None else f"{variable}=FOLDER",
            facts={"path": str(folder)},
        )


def home_contents(home: Path | None = None) -> Iterator[Finding]:
    """Look at what the data home holds, and whether stores and references there open."""
    folder = config.data_home(home)
    for name, pattern in _CONTENTS.items():
        found = sorted((folder / name).glob(pattern)) if (folder / name).is_dir() else []
        found = [path for path in found if not path.name.endswith(_PARTIAL)]
        partial = sorted((folder / name).rglob(f"*{_PARTIAL}")) if found else []
        damaged = {path.name: error for path in found if (error := _why_not_open(name, path))}
        told = ", ".join(str(path.relative_to(folder / name)) for path in found[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        size = sum(map(_size, found))
        yield Finding(
            group="data",
            name=name,
            status="warning" if damaged else "ok" if found else "note",
            found="; ".join(f"{key} does not open: {error}" for key, error in damaged.items())
            or (f"{told}{more} ({in_words(size)})" if found else "nothing")
            + (f", {len(partial)} unfinished" if partial else ""),
            fix="make or fetch it again with --force" if damaged else None,
            facts={
                "names": [str(path.relative_to(folder / name)) for path in found],
                "bytes": size,
                "unfinished": len(partial),
                "damaged": [*damaged],
            },
        )


def sample() -> Iterator[Finding]:
    """Look at what the package brings: every byte of the embedded store, and the model."""
    from cgbench.store import find_model, open_store, verify_store

    embedded = config.assets_home() / "store" / f"{SAMPLE}.zarr"
    try:
        problems = list(verify_store(open_store(embedded)).problems)
        find_model(f"torchmd-gn/{SAMPLE}")
    except (CgbenchError, OSError) as error:
        problems = [str(error).splitlines()[0]]
    yield Finding(
        group="data",
        name="embedded sample",
        status="broken" if problems else "ok",
        found="; ".join(problems[:3]) if problems else f"{SAMPLE} is as its manifest says",
        fix="pip install --force-reinstall --no-deps cgbench" if problems else None,
        facts={"problems": list(problems)},
    )


def _why_not_open(kind: str, path: Path) -> str | None:
    """Return why a store or a reference does not open; None if it does."""
    from cgbench.evaluate import read_reference
    from cgbench.store import open_store

    try:
        if kind == "store":
            open_store(path)
        if kind == "references":
            read_reference(path)
    except (CgbenchError, OSError, ValueError, KeyError) as error:
        return str(error).splitlines()[0]
    return None


def _why_not_writable(folder: Path) -> str | None:
    """Try to write a file; return what keeps it from being written."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"trial")
            trial.flush()
    except OSError as error:
        return error.strerror or last_line(error)
    return None


def _file_system(folder: Path) -> str | None:
    """Return the kind of the file system that a folder is on."""
    try:
        mounts = [line.split() for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    place = folder.resolve()
    above = [
        (len(Path(mount[1]).parts), mount[2])
        for mount in mounts
        if len(mount) > 2 and place.is_relative_to(mount[1].replace("\\040", " "))
    ]
    return max(above)[1] if above else None


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
