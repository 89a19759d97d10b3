"""Small archives of all kinds, good and bad."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

Content = dict[str, bytes]
CONTENT: Content = {
    "trajectories/0/output.xtc": random.Random(1).randbytes(70_000),
    "trajectories/1/output.xtc": random.Random(2).randbytes(90_000),
    "trajectories/empty.txt": b"",
    "top.psf": b"PSF\n" * 100,
}


def tar_bytes(content: Content, folders: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in folders:
            header = tarfile.TarInfo(folder)
            header.type = tarfile.DIRTYPE
            archive.addfile(header)
        for name, data in content.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def tar_of(*headers: tarfile.TarInfo) -> bytes:
    """A tar whose first member is in order and whose others are as given, without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        good = tarfile.TarInfo("good.txt")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        for header in headers:
            archive.addfile(header, io.BytesIO(bytes(header.size)))
    return buffer.getvalue()


def header(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = link
    return made


def zip_bytes(content: Content, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Content], bytes]] = {
    "tar": tar_bytes,
    "tar.gz": lambda content: gzip.compress(tar_bytes(content)),
    "tar.bz2": lambda content: bz2.compress(tar_bytes(content)),
    "tar.xz": lambda content: lzma.compress(tar_bytes(content)),
    "zip": zip_bytes,
}


def put(folder: Path, data: bytes, name: str = "archive.tar.gz") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def files_below(folder: Path) -> Content:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".archive")
    }
