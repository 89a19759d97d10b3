"""Every parser of files that may come from anyone: refused with our errors, or read; no third way."""

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from toy_archives import FORMATS, files_below
from toy_board import SAMPLE, put, toy_record, toy_result, toy_submission
from toy_runs import save_toy_model

from cgbench import config
from cgbench.config import assets_home
from cgbench.errors import CgbenchError
from cgbench.evaluate.scored import read_scored, write_scored
from cgbench.fetch.archive import extract
from cgbench.ingest.npy import HEAD_BYTES, parse_header, read_header
from cgbench.ingest.recipe import Recipe
from cgbench.leaderboard.checking import check_submission, text_problems
from cgbench.leaderboard.files import (
    plain_yaml,
    read_model_record,
    read_strict_result,
    read_submission,
    strict_json,
)
from cgbench.leaderboard.text import https_url, model_id
from cgbench.leaderboard.validate import validate
from cgbench.models import load_model, model_hash
from cgbench.priors import PriorParameters
from cgbench.priors.published import read_psf, read_published_prior
from cgbench.results import Result, read_result
from cgbench.splits import read_split
from cgbench.store import TrajectoryAttributes, TrajectorySet, read_trajectories, write_trajectories
from cgbench.train import read_config

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: Values that parsers meet where they expect something else.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([10**400, -1, 1e308, "NaN", "<script>", "../../x", "\x00", "\u202e", [], {}]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)  # fmt: skip


class Bomb:
    """Runs when it is unpickled."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Bomb, "ran", True))


@pytest.fixture(autouse=True)
def nothing_runs():
    Bomb.ran = False
    yield
    assert not Bomb.ran


def survives(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a parser; only our own errors may come out."""
    try:
        return function(*arguments)
    except CgbenchError as error:
        assert str(error)
        return None


@st.composite
def mutated(draw: st.DrawFn, data: Any) -> Any:
    """Plain data with some places replaced, removed, repeated or added."""
    data = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = data
        for _ in range(draw(st.integers(0, 6))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            inner = place[draw(st.sampled_from(keys))]
            if not isinstance(inner, dict | list) or not inner:
                break
            place = inner
        if isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            change = draw(st.sampled_from(["replace", "remove", "add"]))
            if change == "replace":
                place[key] = draw(ODD)
            elif change == "remove":
                del place[key]
            else:
                place[draw(st.text(max_size=10))] = draw(ODD)
        elif isinstance(place, list) and place:
            place[draw(st.integers(0, len(place) - 1))] = draw(ODD)
    return data


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut off, changed, or grown."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "zero", "large"]))
        if kind == "cut":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=16))
        elif kind in ("zero", "large"):
            changed[place : place + 4] = (b"\0" if kind == "zero" else b"\xff") * 4
        elif changed:
            changed[place] ^= draw(st.integers(1, 255))
    return bytes(changed)


RESULT = toy_result().model_dump(mode="json")
SUBMISSION = toy_submission().model_dump(mode="json")
RECORD = toy_record().model_dump(mode="json")


# Results and submissions


@FUZZ
@given(data=mutated(RESULT))
def test_results(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    for reader in (read_result, read_strict_result, validate):
        survives(reader, path)


@FUZZ
@given(data=mutated(SUBMISSION))
def test_submissions(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(data))
    found = survives(read_submission, path)
    if found is not None:
        survives(check_submission, found, toy_record())
        assert config.fingerprint(found.result).startswith("sha256:")


@FUZZ
@given(content=st.binary(max_size=400))
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 5000)
@example(content=b"1" * 10_000)
@example(content=b"-" + b"9" * 5000 + b".5e" + b"9" * 400)
@example(content="{\"a\": \"\ud800\"}".encode("utf-8", "surrogatepass"))
@example(content=b'"\\ud800"')
def test_text_of_any_kind(content: bytes, tmp_path: Path) -> None:
    for name in ("a.json", "a.yml", "a.yaml"):
        path = tmp_path / name
        path.write_bytes(content)
        for reader in (config.read_data, read_submission, read_model_record, validate):
            survives(reader, path)


@FUZZ
@given(content=damaged(json.dumps(SUBMISSION).encode()))
def test_submissions_with_damaged_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    path.write_bytes(content)
    survives(read_submission, path)


@FUZZ
@given(value=st.recursive(ODD, lambda inner: st.dictionaries(st.text(), inner, max_size=3)))
def test_the_search_for_markup_takes_any_plain_data(value: Any) -> None:
    assert isinstance(text_problems(value), list)


@FUZZ
@given(text=st.text(max_size=80))
def test_identifiers_and_addresses_stay_what_they_are(text: str) -> None:
    try:
        parts = Path(model_id(text)).parts
    except ValueError:
        pass
    else:
        assert len(parts) == 2
        assert not {"", ".", ".."} & set(parts)
    try:
        assert https_url("https://example.org/" + text).isascii()
    except ValueError:
        pass


# YAML


@FUZZ
@given(data=mutated(RECORD))
def test_model_records(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.yml"
    path.write_text(yaml.safe_dump(data) if data is not None else "", encoding="utf-8")
    survives(read_model_record, path)


@FUZZ
@given(text=st.text(alphabet="abc:-[]{}&*!|>?%@`'\"#,\n\t 019.<~=", max_size=120))
@example(text="a: &a [*a]")
@example(text="a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]")
@example(text="!!python/object/apply:os.system [echo]")
@example(text="? [a]\n: b")
@example(text="a: 2001-99-99")
@example(text="a: 1:1:1:" + "9" * 5000)
@example(text="[" * 5000)
def test_yaml_of_any_kind(text: str, tmp_path: Path) -> None:
    survives(plain_yaml, text, "toy")
    survives(config.parse_yaml, text, "toy")
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    for reader in (read_config, read_published_prior, validate):
        survives(reader, path)
    survives(config.read_model, Recipe, path)
    survives(config.read_model, PriorParameters, path)


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(CgbenchError, match="anchors"):
        plain_yaml("\n".join(levels), "toy")


@FUZZ
@given(text=st.text(alphabet="0123456789 !NATOMBDHI:\n", max_size=200))
def test_psf_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.psf"
    path.write_text("PSF\n" + text)
    survives(read_psf, path)


# Model files


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory) -> bytes:
    return save_toy_model(tmp_path_factory.mktemp("model") / "model.pt").read_bytes()


@FUZZ
@given(data=st.data())
def test_model_files(data: st.DataObject, model_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(data.draw(damaged(model_bytes)))
    for reader in (load_model, model_hash, validate):
        survives(reader, path)


@FUZZ
@given(data=st.data())
def test_the_pickle_inside_a_model_file(
    data: st.DataObject, model_bytes: bytes, tmp_path: Path
) -> None:
    """With right checksums, so that what torch reads is what was damaged."""
    with zipfile.ZipFile(io.BytesIO(model_bytes)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(one for one in members if one.endswith("data.pkl"))
    members[name] = data.draw(damaged(members[name]))
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    survives(load_model, path)


def test_a_pickled_bomb_in_a_model_file_does_not_go_off(model_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(io.BytesIO(model_bytes)) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            bomb = pickle.dumps({"format": Bomb()})
            target.writestr(name, bomb if name.endswith("data.pkl") else source.read(name))
    for reader in (load_model, validate):
        with pytest.raises(CgbenchError):
            reader(path)
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CgbenchError):
        validate(bare)


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
@given(header=HEADERS, version=st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\xff\xff"]))
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


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("zarr") / "trajectories.zarr"
    attributes = TrajectoryAttributes(sequence="YYDP", temperature=350.0, frame_interval=0.1)
    frames = [np.zeros((5, 4, 3), dtype=np.float32)] * 2
    write_trajectories(
        path,
        TrajectorySet(
            system="toy", coordinates=frames, network_energy=None, prior_energy=None, weights=None,
            alive_until=np.array([5, 5]), frame_interval=0.1, temperature=350.0,
            attributes=attributes,
        ),
    )  # fmt: skip
    return path


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


# Leaderboard folders


@FUZZ
@given(
    names=st.lists(
        st.text(alphabet="ab./-_0123456789jsonymlTOY~\\", min_size=1, max_size=30), max_size=4
    )
)
def test_names_in_a_leaderboard_folder(names: list[str], tmp_path_factory) -> None:
    folder = put(tmp_path_factory.mktemp("board"), toy_record())
    for name in names:
        path = folder / "submissions" / name.replace("..", "_").lstrip("/")
        if folder in path.parents and not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("{}")
            except OSError:
                continue
    survives(validate, folder)
    shutil.rmtree(folder)


def test_the_unchanged_files_are_read(tmp_path: Path, trajectories: Path, model_bytes: bytes) -> None:
    """What is fuzzed here is read when nothing was changed: otherwise nothing would be tested."""
    for name, data in (("r.json", RESULT), ("s.json", SUBMISSION)):
        (tmp_path / name).write_text(json.dumps(data))
    (tmp_path / "m.yml").write_text(yaml.safe_dump(RECORD))
    (tmp_path / "m.pt").write_bytes(model_bytes)
    kinds = {
        path.name: validate(path).kind
        for path in (*sorted(tmp_path.iterdir()), trajectories)
    }
    assert kinds == {
        "m.pt": "model", "m.yml": "model record", "r.json": "result", "s.json": "submission",
        "trajectories.zarr": "ensemble",
    }  # fmt: skip
    assert strict_json(json.dumps(RESULT), "toy") == RESULT
    assert config.validate(Result, RESULT, "toy") == toy_result().model_copy(
        update={"provenance": config.validate(Result, RESULT, "toy").provenance}
    )
