"""Reading the members of tar and zip archives in one pass, refusing all but files and folders."""

import bz2
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from cgbench.errors import IntegrityError

_PIECE: Final = 256 * 1024
#: Long names and extended headers of tar are read into memory whole.
_LARGEST_HEADER: Final = 1024 * 1024
#: What may follow the end of a tar archive: padding to the size of a tape's record.
_LARGEST_PADDING: Final = 16 * 1024 * 1024
#: The largest dictionary of xz's presets needs 65 MiB.
_XZ_MEMORY: Final = 256 * 1024 * 1024
_HEADERS: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_ZIP_METHODS: Final = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)
_ENCRYPTED: Final = 0x1
#: What the readers raise at damaged bytes, besides an OSError without a number.
DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,
)


@dataclass(frozen=True)
class Member:
    """A plain file or a folder of an archive.

    Attributes:
        name: Its name as it is in the archive.
        size: Bytes, as the archive states them.
        is_folder: Whether it is a folder.
        open: Opens its content; only before the next member is asked for.
        consumed: Returns how many bytes of the archive were read so far.
    """

    name: str
    size: int
    is_folder: bool
    open: Callable[[], IO[bytes]]
    consumed: Callable[[], int]


def members(archive: Path) -> Iterator[Member]:
    """Yield the members of an archive; its first bytes tell what it is.

    Raises:
        IntegrityError: It is no archive, ends too early, or has a member that is neither a plain
            file nor a folder. Damaged bytes raise one of ``DAMAGE``.
    """
    with archive.open("rb") as raw:
        start = raw.read(265)
        raw.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            yield from _zip_members(archive, raw)
        elif start.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=raw) as stream:
                yield from _tar_members(archive, stream, raw)
        elif start.startswith(b"BZh"):
            yield from _tar_members(archive, _Decompressed(raw, bz2.BZ2Decompressor), raw)
        elif start.startswith(b"\xfd7zXZ\x00"):
            yield from _tar_members(archive, _Decompressed(raw, _xz_decompressor), raw)
        elif start[257:262] == b"ustar":
            yield from _tar_members(archive, raw, raw)
        else:
            raise IntegrityError(
                f"{archive}: not an archive",
                expected="tar (plain, gzip, bzip2 or xz) or zip",
                found=f"first bytes {start[:8]!r}" if start else "an empty file",
                fix="get the file again",
            )


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _xz_decompressor() -> _Decompressor:
    # lzma.open has no limit on memory, and a header of a few bytes can ask for gigabytes.
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


class _Decompressed(io.RawIOBase):
    """What a compressed stream holds; several streams one after the other count as one."""

    def __init__(self, raw: IO[bytes], make: Callable[[], _Decompressor]) -> None:
        self._raw = raw
        self._make = make
        self._decompressor = make()

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, none at the end of the last stream.

        Raises:
            EOFError: The last stream has no end.
        """
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._raw.read(_PIECE)
                # xz streams may be padded with zeros.
                while rest and not (rest := rest.lstrip(b"\0")):
                    rest = self._raw.read(_PIECE)
                if not rest:
                    return b""
                self._decompressor = self._make()
                data = self._decompressor.decompress(rest, size)
            elif self._decompressor.needs_input:
                piece = self._raw.read(_PIECE)
                if not piece:
                    raise EOFError("the compressed stream has no end")
                data = self._decompressor.decompress(piece, size)
            else:
                data = self._decompressor.decompress(b"", size)
            if data:
                return data


def _tar_members(archive: Path, stream: Any, raw: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a tar stream, and check that it has an end."""
    ended = False

    class Header(tarfile.TarInfo):
        """A header, looked at before tarfile acts on it."""

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
            nonlocal ended
            # tarfile takes a missing end, or a damaged header in the middle, for the end.
            ended = len(buf) == tarfile.BLOCKSIZE and not any(buf)
            made = super().frombuf(buf, encoding, errors)
            if made.size < 0 or (made.type in _HEADERS and made.size > _LARGEST_HEADER):
                raise IntegrityError(
                    f"{archive}: unsafe, a header of {made.size} bytes",
                    expected=f"0 to {_LARGEST_HEADER}",
                )
            return made

    with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header, bufsize=_PIECE) as opened:
        for one in opened:
            if not (one.isdir() or one.isreg()) or one.issparse():
                raise _not_plain(archive, one.name, _TAR_TYPES.get(one.type, "a special file"))

            def content(one: tarfile.TarInfo = one) -> IO[bytes]:
                opened_member = opened.extractfile(one)
                if opened_member is None:
                    raise tarfile.ReadError(f"{one.name} has no content")
                return opened_member

            yield Member(one.name, one.size, one.isdir(), content, raw.tell)
    if not ended:
        raise _cut_off(archive)
    # Reading on to the end makes the decompressor check its checksum.
    padding = 0
    while piece := stream.read(_PIECE):
        padding += len(piece)
        if padding > _LARGEST_PADDING:
            raise IntegrityError(f"{archive}: unsafe, {padding} bytes after the archive's end")


_TAR_TYPES: Final = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.REGTYPE: "a sparse file",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def _zip_members(archive: Path, raw: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a zip archive in the order of its directory."""
    with ExitStack() as stack:
        try:
            with _seeking():
                opened = stack.enter_context(zipfile.ZipFile(raw))
        except zipfile.BadZipFile as error:
            # The directory is at the end of a zip archive.
            raise _cut_off(archive) from error
        size = archive.stat().st_size
        consumed = 0
        for one in opened.infolist():
            kind = stat.S_IFMT(one.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                word = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
                raise _not_plain(archive, one.filename, word)
            if one.flag_bits & _ENCRYPTED or one.compress_type not in _ZIP_METHODS:
                raise _not_plain(archive, one.filename, "encrypted or compressed in another way")
            consumed += one.compress_size
            if consumed > size:
                raise IntegrityError(
                    f"{archive}: unsafe, its members overlap",
                    expected=f"at most {size} bytes of compressed data",
                    found=f"{consumed} up to {one.filename!r}",
                )

            def content(one: zipfile.ZipInfo = one) -> IO[bytes]:
                with _seeking():
                    return opened.open(one)

            def position(consumed: int = consumed) -> int:
                return consumed

            # The library cuts names at a zero byte; the name as it is gets refused further on.
            name = one.orig_filename if "\0" in one.orig_filename else one.filename
            yield Member(name, one.file_size, name.endswith("/"), content, position)


@contextmanager
def _seeking() -> Iterator[None]:
    """Tell a place before the archive's beginning from an error of the file system."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise zipfile.BadZipFile("a place outside the archive") from error
        raise


def _not_plain(archive: Path, name: str, kind: str) -> IntegrityError:
    return IntegrityError(
        f"{archive}: unsafe, {name!r} is {kind}",
        expected="plain files and folders only",
        fix="do not use this archive; tell its publisher",
    )


def _cut_off(archive: Path) -> IntegrityError:
    return IntegrityError(
        f"{archive}: truncated or damaged, it has no end",
        found=f"{archive.stat().st_size} bytes",
        fix="get the archive again",
    )
