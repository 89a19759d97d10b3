"""Every parser of files from anyone: they are read or refused with our errors; no third way."""

import contextlib
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from toy_board import put, toy_record, toy_result, toy_submission
from toy_fuzz import FUZZ, ODD, Bomb, damaged, mutated, nothing_runs, survives, trajectories
from toy_runs import save_toy_model

from cgbench import config
from cgbench.errors import CgbenchError
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
from cgbench.train import read_config

__all__ = ["nothing_runs", "trajectories"]

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
@example(content='{"a": "\ud800"}'.encode("utf-8", "surrogatepass"))
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
    with contextlib.suppress(ValueError):
        assert https_url("https://example.org/" + text).isascii()


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


def test_the_unchanged_files_are_read(
    tmp_path: Path, trajectories: Path, model_bytes: bytes
) -> None:
    """What is fuzzed here is read when nothing was changed: otherwise nothing would be tested."""
    for name, data in (("r.json", RESULT), ("s.json", SUBMISSION)):
        (tmp_path / name).write_text(json.dumps(data))
    (tmp_path / "m.yml").write_text(yaml.safe_dump(RECORD))
    (tmp_path / "m.pt").write_bytes(model_bytes)
    kinds = {path.name: validate(path).kind for path in (*sorted(tmp_path.iterdir()), trajectories)}
    assert kinds == {
        "m.pt": "model", "m.yml": "model record", "r.json": "result", "s.json": "submission",
        "trajectories.zarr": "ensemble",
    }  # fmt: skip
    assert strict_json(json.dumps(RESULT), "toy") == RESULT
    assert config.validate(Result, RESULT, "toy") == toy_result().model_copy(
        update={"provenance": config.validate(Result, RESULT, "toy").provenance}
    )
