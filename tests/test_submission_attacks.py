"""Files that attack the leaderboard: oversized, malformed, leading elsewhere, holding script."""

import json
import re
from pathlib import Path

import pytest
from toy_board import (
    DAY,
    put,
    toy_record,
    toy_result,
    toy_submission,
    toy_system,
)

from cgbench import config
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.leaderboard.board import read_board, read_records, read_submissions
from cgbench.leaderboard.checking import check_submission
from cgbench.leaderboard.files import (
    find_submissions,
    strict_json,
)
from cgbench.leaderboard.pull_request import check_folder
from cgbench.leaderboard.records import submission_file
from cgbench.leaderboard.submission import SubmissionOptions, parse_authors, submit
from cgbench.leaderboard.text import https_url, model_id

ANSWERS = {
    "model": "toy/one",
    "title": "Toy one",
    "authors": "A. Author (An institute); B. Author",
    "description": "A model that was never trained.",
    "training_data": "the embedded sample",
    "uses_native_structure": False,
}


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    folder.mkdir()
    return folder


def result_file(tmp_path: Path, result=None) -> Path:
    path = tmp_path / "run" / "result.json"
    config.write_model(path, result or toy_result())
    return path


def refused(submission, record=None, others=()) -> str:
    with pytest.raises(ValidationError) as caught:
        check_submission(submission, record or toy_record(), others)
    return str(caught.value.found)


# Oversized and malformed files


def test_oversized_files_are_refused_before_they_are_read(tmp_path: Path, board: Path) -> None:
    path = tmp_path / "result.json"
    with path.open("wb") as handle:
        handle.truncate(9 * 1024 * 1024)
    with pytest.raises(IntegrityError, match="too large"):
        submit(path, board, SubmissionOptions(answers=ANSWERS))
    record = put(board, toy_record()) / "models/toy/one.yml"
    record.write_text("a: " + "x" * 70_000)
    with pytest.raises(IntegrityError, match="too large"):
        read_records(board)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "NaN", '{"format": "cgbench-submission"}', '{"a": 1, "a": 2}',
     '{"format": "cgbench-submission", "result": {"x": NaN}}', "[" * 100_000,
     '{"format": "cgbench-submission", "result": {"format": "cgbench-result", "version": true}}',
     '{"format": ' + "9" * 5000 + "}"],
    ids=range(11),
)  # fmt: skip
def test_malformed_submissions_are_refused(text: str, board: Path) -> None:
    path = put(board, toy_record()) / "submissions/toy/one/2026-01-10.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(CgbenchError):
        read_submissions(board, read_records(board))


@pytest.mark.parametrize(
    "text",
    ["a: &x [1]\nb: *x", "a: !!python/object/apply:os.system [echo]", "a: 1\na: 2", "1: 2",
     "[" * 20_000, "a: \x00", "format: cgbench-leaderboard-model\nauthors: 7"],
    ids=range(7),
)  # fmt: skip
def test_malformed_records_are_refused(text: str, board: Path) -> None:
    path = put(board, toy_record()) / "models/toy/one.yml"
    path.write_text(text)
    with pytest.raises(CgbenchError):
        read_records(board)


def test_two_equal_keys_cannot_show_two_things_to_two_readers() -> None:
    with pytest.raises(IntegrityError, match="twice"):
        strict_json('{"value": 1, "value": 2}', "toy")


# Path tricks


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "toy/../one", "/toy/one", "toy", "toy/one/two", "Toy/one", "toy/.one",
     "toy/one.", "toy//one", "toy\\one/x", "con/one", "toy/nul.txt", "toy/o\ne", "toy/o\u202ene",
     "tоy/one", "~/one", "toy/" + "x" * 61, "", "-rf/one", "toy/a..b"],
)  # fmt: skip
def test_identifiers_cannot_leave_their_folder(name: str, tmp_path: Path, board: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        model_id(name)
    path, options = result_file(tmp_path), SubmissionOptions(ANSWERS | {"model": name}, date=DAY)
    with pytest.raises((ValidationError, UsageError)):
        submit(path, board, options)
    assert not list(board.iterdir())


def test_files_that_lie_elsewhere_than_they_say_are_refused(board: Path) -> None:
    put(board, toy_record(), toy_submission())
    path = submission_file(board, "toy/one", DAY)
    moved = path.with_name("2026-01-11.json")
    path.rename(moved)
    with pytest.raises(ValidationError, match="not the place"):
        check_folder(board)
    moved.rename(board / "submissions/toy/one/x.json")
    with pytest.raises(IntegrityError, match="does not belong"):
        check_folder(board)


@pytest.mark.parametrize("where", ["models/toy/two.yml", "submissions/toy/one/2026-01-11.json",
                                   "submissions/toy/two", "models"])  # fmt: skip
def test_links_are_refused(where: str, board: Path, tmp_path: Path) -> None:
    put(board, toy_record(), toy_submission())
    secret = tmp_path / "secret"
    secret.mkdir()
    place = board / where
    if place.exists():
        place.rename(tmp_path / "moved")
    place.symlink_to(secret)
    with pytest.raises(IntegrityError, match="symbolic link"):
        check_folder(board)


@pytest.mark.parametrize("name", ["run.sh", "x/y/z/w.json", "toy/__init__.py", "toy/one/a.json"])
def test_anything_else_in_the_folder_is_refused(name: str, board: Path) -> None:
    put(board, toy_record(), toy_submission())
    path = board / "submissions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    with pytest.raises(IntegrityError):
        find_submissions(board)


# HTML and script

ATTACKS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title><b>", "<!-- x",
    "javascript:alert(1)", "&lt;script&gt;", "&#60;script>", "<svg/onload=x>", "< script >",
)  # fmt: skip


def places(value, path=()):
    """Every place of a string in plain data."""
    if isinstance(value, str):
        yield path
    for key, item in (value.items() if isinstance(value, dict) else enumerate(value)
                      if isinstance(value, list) else ()):  # fmt: skip
        yield from places(item, (*path, key))


def test_markup_in_any_field_of_a_record_is_refused() -> None:
    full = toy_record(
        contact="a@example.org", url="https://example.org", code_url="https://example.org/x",
        citation="A paper", licence="MIT", uses_pretrained="nothing", reason="a better one",
        status="superseded", superseded_by="toy/two",
    ).model_dump(mode="json")  # fmt: skip
    tried = 0
    for place in places(full):
        for attack in ATTACKS:
            data = json.loads(json.dumps(full))
            parent = data
            for part in place[:-1]:
                parent = parent[part]
            parent[place[-1]] = attack
            with pytest.raises(ValidationError):
                config.validate(type(toy_record()), data, "toy")
            tried += 1
    assert tried > 100


def test_script_in_any_field_of_a_submission_is_refused() -> None:
    system = toy_system(notes=("a note",), weights_reason="none")
    result = toy_result(system, cost={"hardware": "a processor"})
    plain = toy_submission(result).model_dump(mode="json")
    tried = 0
    for place in places(plain):
        data = json.loads(json.dumps(plain))
        parent = data
        for part in place[:-1]:
            parent = parent[part]
        parent[place[-1]] = "<script>alert(1)</script>"
        try:
            read = config.validate(type(toy_submission()), data, "toy")
        except ValidationError:
            continue
        assert re.search("not allowed", refused(read)), place
        tried += 1
    assert tried > 5


def test_script_that_is_there_already_ends_the_reading(board: Path) -> None:
    cost = {"hardware": "<script>alert(1)</script>"}
    put(board, toy_record(), toy_submission(toy_result(cost=cost)))
    with pytest.raises(ValidationError, match="not plain text"):
        read_board(board)


@pytest.mark.parametrize("key", ["<script>", "a\x1b[31m", "\u202eevil"])
def test_script_in_a_key_is_refused(key: str) -> None:
    spec = {"name": "toy/one", "trained_on": [], key: 1}
    model = toy_result().model.model_copy(update={"spec": {**spec, "deep": [{key: {"x": key}}]}})
    assert "not allowed" in refused(toy_submission(toy_result(model=model)))


def test_a_less_than_sign_in_a_sentence_is_plain_text() -> None:
    system = toy_system(notes=("frames with Q < 0.3 and a value of <class 'float'>",))
    check_submission(toy_submission(toy_result(system)), toy_record())


@pytest.mark.parametrize(
    "url",
    ["http://example.org", "javascript:alert(1)", "https://user@example.org", "file:///etc/passwd",
     "https://127.0.0.1/x", "https://localhost", "https://example.org/\"onclick=x", "https://",
     "https://example.org/<script>", "//example.org", "https://exam ple.org", "https://[::1]/"],
)  # fmt: skip
def test_only_plain_https_addresses_are_taken(url: str, tmp_path: Path, board: Path) -> None:
    with pytest.raises(ValueError, match=r".+"):
        https_url(url)
    path, options = result_file(tmp_path), SubmissionOptions(ANSWERS, trajectories_url=url)
    with pytest.raises(CgbenchError):
        submit(path, board, options)


def test_authors_of_a_line() -> None:
    assert parse_authors("A. B (C, D) ; E") == [
        {"name": "A. B", "affiliation": "C, D"}, {"name": "E"},
    ]  # fmt: skip
    with pytest.raises(UsageError):
        parse_authors("A;;B")
