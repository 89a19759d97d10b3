"""The molecular viewer that a page embeds: 3Dmol.js (Rego and Koes, Bioinformatics 31, 1322, 2015).

It comes from its npm package in one fixed version, is kept in the data home, and is read only when
its hash is the expected one. Pages work without it: they then show their own drawing of the trace.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cgbench import config
from cgbench.errors import IntegrityError, UsageError

VERSION: Final = "2.5.5"
#: What npm's lock files hold of the package, and the hashes of the two files taken out of it.
INTEGRITY: Final = (
    "sha512-kqNHouGqq3YfW58174tdERvm0XYTmP0tavQKOqIw1ouc2OJ7epkXEFrtEkVX"
    "V0clBZT2Ze2xHRC/qxX0u0qCdw=="
)
SHA256: Final = {
    "3Dmol-min.js": "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016",
    "LICENSE": "4c6eaaed856f3f28a3b1a98e74f4a8a71618de7d51ea4155c29f6f793bcef861",
}
_MEMBERS: Final = {"3Dmol-min.js": "package/build/3Dmol-min.js", "LICENSE": "package/LICENSE"}
_MAXIMUM_PACKAGE: Final = 32 * 1024 * 1024
_MAXIMUM_FILE: Final = 4 * 1024 * 1024
_SECONDS: Final = 300
#: What gets the viewer.
COMMAND: Final = "cgbench viewer install"


@dataclass(frozen=True)
class Viewer:
    """The library as text, and the licence that goes with it."""

    script: str
    licence: str


def viewer_folder(home: Path | None = None) -> Path:
    """Return where the data home keeps the viewer."""
    return config.data_home(home) / "viewer" / f"3dmol-{VERSION}"


def read_viewer(home: Path | None = None) -> Viewer | None:
    """Return the installed viewer, or None where there is none.

    Raises:
        IntegrityError: A file of it is not what was installed.
    """
    folder = viewer_folder(home)
    paths = {name: folder / name for name in SHA256}
    if not all(path.is_file() for path in paths.values()):
        return None
    found = {}
    for name, path in paths.items():
        if path.stat().st_size > _MAXIMUM_FILE:
            raise IntegrityError(f"{path}: too large", expected=f"at most {_MAXIMUM_FILE} bytes")
        found[name] = path.read_bytes()
        _require(path, found[name], SHA256[name])
    return Viewer(found["3Dmol-min.js"].decode(), found["LICENSE"].decode())


def install_viewer(home: Path | None = None, package: Path | None = None) -> Path:
    """Put the viewer into the data home and return its folder.

    Args:
        home: Data home.
        package: The npm package as a file, for machines that npm or the network do not reach;
            fetched with ``npm pack`` if None.

    Raises:
        UsageError: There is no npm, it cannot get the package, or there is no such file.
        IntegrityError: The package or a file in it is not the expected one.
    """
    content = _packed() if package is None else _read(package)
    origin = package or f"3dmol {VERSION}"
    digest = "sha512-" + b64encode(hashlib.sha512(content).digest()).decode()
    if digest != INTEGRITY:
        raise IntegrityError(
            f"{origin}: not the package of 3Dmol.js that is expected",
            expected=INTEGRITY,
            found=digest,
            fix=f"use version {VERSION}",
        )
    folder = viewer_folder(home)
    # The hash is that of one known package: what is inside needs no further trust.
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name, member in _MEMBERS.items():
            handle = archive.extractfile(member)
            if handle is None:
                raise IntegrityError(f"{origin}: no file {member}")
            text = handle.read(_MAXIMUM_FILE)
            _require(Path(member), text, SHA256[name])
            config.write_atomic(folder / name, text)
    return folder


def _require(path: Path, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise IntegrityError(
            f"{path}: the viewer is damaged", expected=expected, found=found, fix=COMMAND
        )


def _read(package: Path) -> bytes:
    if not package.is_file():
        raise UsageError(f"{package}: no such file", expected=f"3dmol-{VERSION}.tgz")
    if package.stat().st_size > _MAXIMUM_PACKAGE:
        raise IntegrityError(f"{package}: too large for the package of 3Dmol.js")
    return package.read_bytes()


def _packed() -> bytes:
    """Return the npm package, fetched with the user's own npm and its settings."""
    npm = shutil.which("npm")
    advice = (
        f"where npm works: 'npm pack 3dmol@{VERSION}', "
        f"then '{COMMAND} --from 3dmol-{VERSION}.tgz' here"
    )
    if npm is None:
        raise UsageError("npm is not on this machine", fix=advice)
    with tempfile.TemporaryDirectory() as name:
        command = [npm, "pack", f"3dmol@{VERSION}", "--silent", "--ignore-scripts"]
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command, no shell
                command, cwd=name, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"npm did not answer within {_SECONDS} s", fix=advice) from error
        found = sorted(Path(name).glob("*.tgz"))
        if done.returncode != 0 or len(found) != 1:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise UsageError(
                f"npm could not get 3dmol {VERSION}",
                found=said or f"exit status {done.returncode}",
                fix=advice,
            )
        return _read(found[0])
