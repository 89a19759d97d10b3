"""What a published file must hold, from its first bytes and when it is whole."""

import io
import struct
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from publisher import AT_HAND, find, publish_training

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError, ValidationError
from cgbench.ingest.contents import (
    check_arrays_agree,
    check_contents,
    head_check,
    read_psf_residues,
)
from cgbench.registry import remote_files

COORDINATES = find("chignolin", "chignolin_ca_coords.npy")
TYPES = find("chignolin", "chignolin_ca_embeddings.npy")
START = find("chignolin", "cln_kcenters_32clusters_coords.xtc")


def npy(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, version=version, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_sound_arrays_pass(dtype: str, version: tuple[int, int]) -> None:
    data = npy(np.zeros((7, 10, 3), dtype), version)
    head_check(COORDINATES)(data[:200], len(data))
    head_check(COORDINATES)(data, None)
    data = npy(np.array(registry.system("chignolin").bead_types))
    head_check(TYPES)(data, len(data))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros((7, 11, 3), np.float32), ValidationError),
        (np.zeros((7, 10, 2), np.float32), ValidationError),
        (np.zeros((70, 3), np.float32), ValidationError),
        (np.zeros((0, 10, 3), np.float32), ValidationError),
        (np.zeros((7, 10, 3), np.int32), ValidationError),
        (np.zeros((7, 10, 3), np.complex64), ValidationError),
        (np.array([{}] * 3, dtype=object), IntegrityError),
    ],
    ids=["beads", "axes", "flat", "empty", "integers", "complex", "objects"],
)
def test_arrays_of_another_kind_are_refused(values: np.ndarray, error: type[Exception]) -> None:
    data = npy(values)
    with pytest.raises(error) as caught:
        head_check(COORDINATES)(data, len(data))
    assert COORDINATES.url in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [np.zeros(11, np.int64), np.zeros(10, np.float32), np.zeros((1, 10), np.int64)],
    ids=["beads", "floats", "two axes"],
)
def test_bead_types_of_another_kind_are_refused(values: np.ndarray) -> None:
    data = npy(values)
    with pytest.raises(ValidationError):
        head_check(TYPES)(data, len(data))


@pytest.mark.parametrize("change", [-1, 1, -1000, 10**9])
def test_the_announced_size_must_be_that_of_the_header(change: int) -> None:
    data = npy(np.zeros((70, 10, 3), np.float32))
    with pytest.raises(IntegrityError, match=r"truncated|longer"):
        head_check(COORDINATES)(data[:500], len(data) + change)


@hypothesis.given(st.binary(max_size=300), st.sampled_from(remote_files()))
def test_noise_is_refused_with_an_error_of_ours(noise: bytes, file: registry.RemoteFile) -> None:
    message = ""
    try:
        head_check(file)(noise, None)
    except CgbenchError as error:
        message = error.what
    # Plain text is a sound beginning of a YAML file, and an archive has but a few fixed bytes.
    assert file.url in message or (not message and file.content in ("yaml", "archive"))


@pytest.mark.parametrize("page", [b"<html>", b"  <!DOCTYPE html><html>", b"", b"\0\0\0\0\0\0\0\0"])
@pytest.mark.parametrize("file", remote_files(["chignolin"]), ids=lambda file: file.name)
def test_pages_are_no_files(page: bytes, file: registry.RemoteFile) -> None:
    with pytest.raises(IntegrityError):
        head_check(file)(page, None)


def test_a_text_that_is_too_large_is_refused_before_the_bulk() -> None:
    entry = find("chignolin", "5AWL.pdb")
    head_check(entry)(b"HEADER\n", 10**7)
    with pytest.raises(IntegrityError, match="too large"):
        head_check(entry)(b"HEADER\n", 10**9)


@pytest.mark.data
@pytest.mark.parametrize("file", remote_files(kinds=["setup"]), ids=lambda file: file.name)
def test_the_setup_files_at_hand_pass(file: registry.RemoteFile, published_dir: Path) -> None:
    path = published_dir / AT_HAND[file.content] / file.name
    data = path.read_bytes()
    head_check(file)(data[: 64 * 1024], len(data))
    check_contents(file, path)


@pytest.mark.data
def test_the_entries_at_hand_pass(published_dir: Path) -> None:
    file = find("chignolin", "5AWL.pdb")
    entries = sorted((published_dir / "native" / "full").glob("*.pdb"))
    assert entries
    for path in entries:
        head_check(file)(path.read_bytes()[: 64 * 1024], None)


def test_start_frames_of_another_protein_are_refused() -> None:
    head_check(START)(struct.pack(">2i", 1995, 10) + bytes(100), None)
    with pytest.raises(ValidationError, match="not the beads"):
        head_check(START)(struct.pack(">2i", 1995, 20) + bytes(100), None)
    with pytest.raises(IntegrityError, match="not an xtc"):
        head_check(START)(struct.pack("<2i", 1995, 10) + bytes(100), None)


@pytest.mark.data
def test_a_psf_of_another_sequence_is_refused(published_dir: Path, tmp_path: Path) -> None:
    file = find("chignolin", "cln.psf")
    text = (published_dir / "topology" / "cln.psf").read_text()
    path = tmp_path / "cln.psf"
    path.write_text(text.replace("GLU", "ALA"))
    with pytest.raises(ValidationError, match="residues are not those of chignolin"):
        check_contents(file, path)
    path.write_text(text.replace("10 !NATOM", " 9 !NATOM"))
    with pytest.raises(ValidationError, match="not the beads"):
        check_contents(file, path)
    path.write_text(text[:400])
    with pytest.raises(IntegrityError, match="cut off"):
        read_psf_residues(path)
    path.write_text("PSF\n")
    with pytest.raises(IntegrityError, match="not a psf"):
        read_psf_residues(path)


def test_other_bead_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "types.npy"
    types = list(registry.system("chignolin").bead_types)
    np.save(path, np.array(types, np.int32))
    check_contents(TYPES, path)
    np.save(path, np.array(types[::-1]))
    with pytest.raises(ValidationError, match="bead types are not those"):
        check_contents(TYPES, path)


def test_a_coarse_grained_pdb_has_one_atom_for_each_bead(tmp_path: Path) -> None:
    file = find("chignolin", "chignolin_ca.pdb")
    path = tmp_path / "x.pdb"
    path.write_text("ATOM\n" * 10 + "END\n")
    check_contents(file, path)
    path.write_text("ATOM\n" * 11 + "END\n")
    with pytest.raises(ValidationError, match="not the beads"):
        check_contents(file, path)


def test_arrays_of_a_system_have_the_same_number_of_frames(tmp_path: Path) -> None:
    publish_training(tmp_path, "chignolin")
    files = remote_files(["chignolin"], ["training"])
    pairs = [(file, next(tmp_path.rglob(file.name))) for file in files]
    check_arrays_agree(pairs)
    np.save(pairs[1][1], np.zeros((29, 10, 3), np.float32))
    with pytest.raises(ValidationError, match="different numbers of frames"):
        check_arrays_agree(pairs)
