"""Bytes of files below an address: what a remote store needs of a server, and how S3 gives it."""

import errno
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from cgbench.errors import IntegrityError, UsageError

SCHEMES: Final = ("https", "http", "s3")
PIECE_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class RemoteState:
    """Size of a file on a server, and what changes with its content, where the server says so."""

    size: int
    identity: str | None


class Transport(Protocol):
    """Files below one address. Names are relative, with ``/`` between folders."""

    def state(self, name: str) -> RemoteState:
        """Return size and identity of a file."""

    def read(self, name: str, start: int, stop: int, size: int) -> bytes:
        """Return bytes ``start:stop`` of a file that must have ``size`` bytes."""

    def fetch(self, name: str, size: int, target: BinaryIO) -> None:
        """Write a whole file, which must have ``size`` bytes, to an empty local one."""


def check_url(url: str) -> str:
    """Return an address without a slash at its end.

    Raises:
        UsageError: Not an address that can be read; one that holds a password is not repeated.
    """
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None
    except ValueError as error:
        raise UsageError("not an address of a store", found=error) from error
    if secret or parts.query or parts.fragment:
        raise UsageError(
            f"{parts.scheme}://{parts.hostname}/…: user, password, query and fragment are not "
            "taken from an address",
            fix="give credentials by storage_options, e.g. {'auth': ('user', 'password')}",
        )
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise UsageError(
            f"{url}: not an address of a store",
            expected=" or ".join(f"{scheme}://…" for scheme in SCHEMES),
        )
    return url.rstrip("/")


def wrong_size(url: str, expected: int, found: object) -> IntegrityError:
    """Return the error for a file of another size than the manifest says."""
    return IntegrityError(
        f"{url}: not the file that the manifest names",
        expected=f"{expected} bytes",
        found=f"{found} bytes",
        fix="open the store again; if this stays, the copy on the server is damaged",
    )


def missing(url: str, found: object) -> IntegrityError:
    """Return the error for a file that is not there."""
    return IntegrityError(
        f"{url}: missing on the server", found=found, fix="check the address, or tell its owner"
    )


def refused(url: str, found: object) -> UsageError:
    """Return the error for missing or wrong credentials."""
    return UsageError(
        f"{url}: the server refuses access",
        found=found,
        fix="give credentials by storage_options, or correct them",
    )


def unreachable(url: str, found: object) -> UsageError:
    """Return the error for a server that keeps failing."""
    return UsageError(f"{url}: the server does not answer", found=found, fix="try again later")


class S3Transport:
    """Objects of an S3 bucket, through s3fs.

    Without ``key``, ``profile`` or ``anon`` among the options, credentials are looked for where
    the AWS tools do (environment, files), and the access is anonymous where there are none.

    Args:
        url: ``s3://bucket/folder``.
        options: Arguments of ``s3fs.S3FileSystem``.

    Raises:
        UsageError: s3fs is not installed, or does not take the options.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url
        try:
            s3fs = importlib.import_module("s3fs")
            botocore = importlib.import_module("botocore.session")
            self._errors = importlib.import_module("botocore.exceptions")
        except ImportError as error:
            raise UsageError(
                f"{url}: reading from S3 needs s3fs",
                found=error,
                fix="pip install 'cgbench[cloud]'",
            ) from error
        settings = {"use_listings_cache": False, "skip_instance_cache": True, **options}
        if not {"anon", "key", "profile", "session"} & set(options):
            settings["anon"] = botocore.get_session().get_credentials() is None
        try:
            self._files: Any = s3fs.S3FileSystem(**settings)
            # Options of the session are looked at here.
            self._files.connect()
        except TypeError as error:
            raise UsageError(f"{url}: wrong storage options", found=error) from None

    def state(self, name: str) -> RemoteState:
        """Return size and identity of an object."""
        details = self._call(name, self._files.info)
        tag = details.get("ETag")
        return RemoteState(int(details["size"]), None if tag is None else str(tag))

    def read(self, name: str, start: int, stop: int, size: int) -> bytes:
        """Return bytes ``start:stop`` of an object that must have ``size`` bytes.

        Raises:
            IntegrityError: The object is missing, or shorter.
            UsageError: Access is refused, or the server does not answer.
        """
        data: bytes = self._call(name, self._files.cat_file, start=start, end=stop)
        if len(data) != stop - start:
            raise wrong_size(f"{self._url}/{name}", size, start + len(data))
        return data

    def fetch(self, name: str, size: int, target: BinaryIO) -> None:
        """Write a whole object, which must have ``size`` bytes, to an empty local file."""
        found = self.state(name).size
        if found != size:
            raise wrong_size(f"{self._url}/{name}", size, found)
        for start in range(0, size, PIECE_BYTES):
            target.write(self.read(name, start, min(start + PIECE_BYTES, size), size))

    def _call(self, name: str, function: Callable[..., Any], **arguments: int) -> Any:
        url = f"{self._url}/{name}"
        try:
            return function(url, **arguments)
        except FileNotFoundError as error:
            raise missing(url, error) from error
        except (PermissionError, self._errors.NoCredentialsError) as error:
            raise refused(url, error) from error
        except OSError as error:
            if error.errno == errno.EINVAL:
                # The range begins beyond the end.
                raise wrong_size(url, arguments.get("end", 0), "fewer") from error
            raise unreachable(url, error) from error
        except (self._errors.BotoCoreError, self._errors.ClientError) as error:
            raise unreachable(url, error) from error
