"""A publisher for tests: a folder with files where the addresses of the registry have them."""

import hashlib
import io
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from cgbench import registry
from cgbench.registry import RemoteFile, remote_files

#: Where the setup files are in the folder of reference data.
AT_HAND = {"psf": "topology", "xtc": "starting_frames", "yaml": "."}


def place(root: Path, file: RemoteFile) -> Path:
    """Where the publisher has a file."""
    path = root / urlsplit(file.url).path.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def find(system: str, name: str) -> RemoteFile:
    """The entry of a file."""
    return next(file for file in remote_files([system]) if file.name == name)


def publish_training(root: Path, key: str, n_frames: int = 30, seed: int = 1) -> dict[str, bytes]:
    """Write small training arrays of a system; return their content by name."""
    system = registry.system(key)
    random = np.random.default_rng(seed)
    shape = (n_frames, system.n_beads, 3)
    content = {}
    for file in remote_files([key], ["training"]):
        values = (
            np.array(system.bead_types)
            if file.content == "npy-bead-types"
            else random.normal(size=shape).astype(np.float32)
        )
        path = place(root, file)
        np.save(path, values)
        content[file.name] = path.read_bytes()
    return content


def publish_setup(root: Path, key: str, published: Path) -> None:
    """Copy the setup files at hand."""
    for file in remote_files([key], ["setup"]):
        source = published / AT_HAND[file.content] / file.name
        place(root, file).write_bytes(source.read_bytes())


def publish_entry(root: Path, key: str, content: bytes) -> None:
    """Write the entry of a system in the Protein Data Bank."""
    (file,) = remote_files([key], ["native"])
    place(root, file).write_bytes(content)


def publish_archive(root: Path, file: RemoteFile, members: dict[str, bytes]) -> None:
    """Write a gzipped tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    place(root, file).write_bytes(buffer.getvalue())


def sha256(data: bytes) -> str:
    """Hexadecimal hash."""
    return hashlib.sha256(data).hexdigest()
