"""Archives, arrays and zarr folders from anyone: read or refused with our errors; no third way."""

import json
import shutil
import struct
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from toy_archives import FORMATS, files_below
from toy_board import SAMPLE
from toy_fuzz import FUZZ, ODD, damaged, mutated, nothing_runs, survives, trajectories

from cgbench.config import assets_home
from cgbench.evaluate.scored import read_scored, write_scored
from cgbench.fetch.archive import extract
from cgbench.ingest.npy import HEAD_BYTES, parse_header, read_header
from cgbench.leaderboard.validate import validate
from cgbench.splits import read_split
from cgbench.store import read_trajectories

__all__ = ["nothing_runs", "trajectories"]

# Archives and arrays


@FUZZ
@given(data=st.data(), form=st.sampled_from(sorted(FORMATS)))
def test_archives(data: st.DataObject, form: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    path = tmp_path / "archive"
    path.write_bytes(data.draw(damaged(FORMATS[form]({"a.txt": b"x" * 300, "b/c.txt": b"y"}))))
    survives(extract, path, tmp_path / "out")
    inside = files_below(tmp_path / "out") if (tmp_path / "out").is_dir() else {}
    assert set(files_below(tmp_path)) - {"archive"} == {f"out/{name}" for name in inside}


def npy(header: bytes, version: bytes = b"\x01\x00") -> bytes:
    form = "<H" if version == b"\x01\x00" else "<I"
    return b"\x93NUMPY" + version + struct.pack(form, len(header)) + header + bytes(64)


HEADERS = st.one_of(
    st.binary(max_size=100),
    st.text(alphabet="{}'()[],: <>fi48O|descrshapefortran_orderTrueFalse0123456789-", max_size=120)
    .map(str.encode),
    st.builds(
        lambda d, f, s: repr({"descr": d, "fortran_order": f, "shape": s}).encode(),
        st.sampled_from(["<f4", "|O", "<U9", ">f8", "junk", [("a", "<f4")], "|V0"]),
        st.sampled_from([True, False, 1, "x"]),
        st.tuples(st.integers(-(10**20), 10**20), st.integers(-3, 10**9)) | st.integers() | ODD,
    ),
)  # fmt: skip


@FUZZ
@given(
    header=HEADERS, version=st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\xff\xff"])
)
@example(header=b"(" * 3000, version=b"\x01\x00")
@example(header=b"-" * 9000 + b"1", version=b"\x01\x00")
@example(header=b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", version=b"\x01\x00")
def test_npy_headers(header: bytes, version: bytes, tmp_path: Path) -> None:
    content = npy(header, version)
    survives(parse_header, content[:HEAD_BYTES], len(content), "toy")
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    found = survives(read_header, path)
    if found is not None:
        assert not found.dtype.hasobject
        assert found.size == len(content)


@FUZZ
@given(data=st.data())
def test_scored_rows(data: st.DataObject, tmp_path: Path) -> None:
    from toy_runs import toy_row

    path = tmp_path / "row.npz"
    write_scored(path, toy_row(SAMPLE))
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    for reader in (read_scored, validate):
        survives(reader, path)


@FUZZ
@given(data=st.data())
def test_splits(data: st.DataObject, tmp_path: Path) -> None:
    source = assets_home() / "splits" / "chignolin-sample" / "block-v1.json"
    path = tmp_path / "split.json"
    path.write_text(json.dumps(data.draw(mutated(json.loads(source.read_text())))))
    for reader in (read_split, validate):
        survives(reader, path)


# Folders of zarr


@FUZZ
@given(data=st.data())
def test_metadata_of_trajectories(
    data: st.DataObject, trajectories: Path, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("copy") / "trajectories.zarr"
    shutil.copytree(trajectories, folder)
    files = sorted(folder.rglob("zarr.json"))
    file = data.draw(st.sampled_from(files))
    file.write_text(json.dumps(data.draw(mutated(json.loads(file.read_text())))))
    survives(read_trajectories, folder)
    survives(validate, folder)
    shutil.rmtree(folder)


@FUZZ
@given(data=st.data())
def test_any_file_of_trajectories(
    data: st.DataObject, trajectories: Path, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("copy") / "trajectories.zarr"
    shutil.copytree(trajectories, folder)
    file = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file())))
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    survives(read_trajectories, folder)
    shutil.rmtree(folder)


@settings(FUZZ, max_examples=15)
@given(data=st.data())
def test_metadata_of_a_reference_bundle(data: st.DataObject, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("copy") / "chignolin-sample.zarr"
    shutil.copytree(assets_home() / "references/v2/chignolin-sample.zarr", folder)
    file = data.draw(st.sampled_from(sorted(folder.rglob("zarr.json"))))
    file.write_text(json.dumps(data.draw(mutated(json.loads(file.read_text())))))
    survives(validate, folder)
    shutil.rmtree(folder)
