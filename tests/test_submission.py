"""Submissions: what is accepted, what is refused for its numbers or claims, pull requests."""

import json
from pathlib import Path

import pytest
import yaml
from toy_board import (
    DAY,
    SAMPLE,
    copied,
    failed_system,
    metrics_at,
    put,
    put_model,
    toy_hash,
    toy_record,
    toy_result,
    toy_submission,
    toy_system,
    void_system,
)
from typer.testing import CliRunner

from cgbench import config
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.leaderboard.board import read_records, read_submissions
from cgbench.leaderboard.checking import check_submission
from cgbench.leaderboard.files import (
    read_model_record,
    read_submission,
)
from cgbench.leaderboard.pull_request import check_folder
from cgbench.leaderboard.records import TrajectoriesSource, VerificationRecord, submission_file
from cgbench.leaderboard.schemas import main as export_schemas
from cgbench.leaderboard.submission import SubmissionOptions, next_steps, submit
from cgbench.results import MetricValue, SystemResult

ROOT = Path(__file__).parent.parent
OTHER = {SAMPLE: toy_hash(9)}
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


def with_metric(metric: str, **changes) -> SystemResult:
    metrics = metrics_at(0.5)
    metrics[metric] = metrics[metric].model_copy(update=changes)
    return toy_system(metrics=metrics)


def test_an_honest_submission_is_accepted_and_written(tmp_path: Path, board: Path) -> None:
    done = submit(result_file(tmp_path), board, SubmissionOptions(answers=ANSWERS, date=DAY))
    assert done.new_model
    assert done.submission_path == board / "submissions/toy/one/2026-01-10.json"
    stored = read_submission(done.submission_path)
    assert stored.result == toy_result().model_copy(update={"provenance": stored.result.provenance})
    assert stored.level == "self_reported"
    record = read_model_record(done.record_path)
    assert [author.name for author in record.authors] == ["A. Author", "B. Author"]
    assert record.track == "protein-specific"
    assert check_folder(board).submissions == 1
    assert any("gh pr create" in step for step in next_steps(done, board))


def test_the_command_writes_says_what_is_next_and_asks(tmp_path: Path, board: Path) -> None:
    path = result_file(tmp_path)
    run = CliRunner().invoke
    flags = ["--board", str(board), "--date", "2026-01-10"]
    lacking = run(app, ["submit", str(path), *flags, "--no-ask"])
    assert isinstance(lacking.exception, UsageError)
    assert "--authors" in str(lacking.exception)
    assert not list(board.iterdir())
    typed = "\n\nA. Author\nA toy\n\nn\nMIT\n\n\n\n"
    asked = run(app, ["submit", str(path), *flags, "--ask"], input=typed)
    assert asked.exit_code == 0, asked.output
    assert "git switch --create submission/toy-one-2026-01-10" in asked.output
    assert read_model_record(board / "models/toy/one.yml").licence == "MIT"
    again = run(app, ["submit", str(path), *flags, "--no-ask", "--json"])
    assert "of that day already" in str(again.exception)
    forced = run(app, ["submit", str(path), *flags, "--no-ask", "--json", "--force"])
    assert json.loads(forced.stdout)["new_model"] is False


def test_without_gh_the_option_pr_says_so(tmp_path: Path, board: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    named = [f"--{key.replace('_', '-')}={value}" for key, value in ANSWERS.items() if value]
    flags = ["--board", str(board), "--no-uses-native", "--no-ask", "--pr", *named]
    found = CliRunner().invoke(app, ["submit", str(result_file(tmp_path)), *flags])
    assert "not installed" in str(found.exception)


def test_pull_requests_are_opened_by_git_and_gh(tmp_path: Path, board: Path, monkeypatch) -> None:
    """Programs that only note what they are asked stand in for git and gh."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "gh"):
        program = programs / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s|" {name} "$@" >> {tmp_path}/log\necho >> {tmp_path}/log\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    named = [f"--{key.replace('_', '-')}={value}" for key, value in ANSWERS.items() if value]
    flags = ["--board", str(board), "--no-uses-native", "--no-ask", "--pr", *named]
    found = CliRunner().invoke(app, ["submit", str(result_file(tmp_path)), *flags])
    assert found.exit_code == 0, found.exception
    commands = [line.split("|")[:3] for line in (tmp_path / "log").read_text().splitlines()]
    assert [one[:2] for one in commands] == [
        ["git", "switch"], ["git", "add"], ["git", "commit"], ["git", "push"], ["gh", "pr"],
    ]  # fmt: skip


# Tampered numbers


@pytest.mark.parametrize(
    ("system", "told"),
    [
        (with_metric("w1_tic1", value=-0.1, lo=-0.2, hi=0.0), "below 0"),
        (with_metric("w1_tic1", value=0.0001), "outside its own interval"),
        (with_metric("js_2d", value=1.2, lo=1.1, hi=1.3), "not between 0 and 1"),
        (with_metric("native_population", target=None), "has no target"),
        (toy_system(n_trajectories=64, n_frames=64 * 360), "64 trajectories"),
        (toy_system(n_frames=32 * 4000), "frames, at most"),
        (toy_system(n_frames=None), "number of trajectories or frames"),
        (toy_system(effective_frames=1e9), "more effective frames"),
        (toy_system(gates={}), "gate handedness is missing"),
        (toy_system(gates={"handedness": "failed"}), "count all the same"),
        (toy_system(metrics={"w1_tic1": MetricValue(value=0.1)}), "ranked metrics are missing"),
        (
            failed_system().model_copy(update={"metrics": metrics_at(0.1)}),
            "failed, but w1_tic1 is not the penalty",
        ),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_numbers_that_contradict_each_other_are_refused(system: SystemResult, told: str) -> None:
    assert told in refused(toy_submission(toy_result(system)))


def test_failed_and_void_systems_are_accepted_as_they_are_written() -> None:
    for system in (failed_system(), void_system()):
        check_submission(toy_submission(toy_result(system)), toy_record())


def test_a_result_cannot_state_its_own_verification(tmp_path: Path, board: Path) -> None:
    path = result_file(tmp_path, toy_result(verification="reproduced"))
    with pytest.raises(ValidationError, match="own verification"):
        submit(path, board, SubmissionOptions(answers=ANSWERS, date=DAY))
    assert not list(board.iterdir())


def verified(submission, **changes):
    data = {
        "level": "reproduced",
        "by": "A maintainer",
        "date": DAY,
        "suite_version": "0.1.0",
        "result": submission.result_fingerprint,
        "systems": (SAMPLE,),
        "n_metrics": 10,
        "largest_difference": 0.0,
    }
    return submission.model_copy(update={"verification": VerificationRecord(**(data | changes))})


def test_a_level_belongs_to_the_result_that_was_verified() -> None:
    honest = verified(toy_submission())
    assert honest.level == "reproduced"
    better = toy_result(toy_system(share=0.1))
    swapped = honest.model_copy(update={"result": better})
    assert swapped.level == "self_reported"
    assert "verification: of another result" in refused(swapped)


# Duplicates, references of other versions, leaks


def test_a_model_under_a_second_name_is_refused() -> None:
    first = (toy_submission(), toy_record())
    second = toy_record("toy/two", title="TOY TOY/ONE")
    told = refused(toy_submission(model="toy/two"), second, [first])
    assert "the same model as toy/one" in told
    assert "toy/one has the same" in told
    assert "the same numbers as those of toy/one" in told


def test_trajectories_of_another_model_are_refused() -> None:
    shared = TrajectoriesSource(digests={SAMPLE: toy_hash(77)})
    first = (toy_submission(trajectories=shared), toy_record())
    result = toy_result(toy_system(share=0.3), name="toy/two", number=2)
    second = toy_submission(result, model="toy/two", trajectories=shared)
    told = refused(second, toy_record("toy/two"), [first])
    assert told == "trajectories: the same as those of toy/one"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference": {"version": "v2", "fingerprints": OTHER}}, "another reference"),
        ({"reference": {"version": "v1", "fingerprints": OTHER}}, "version v1"),
        ({"protocol": {"id": "demo", "version": 7}}, "version 7 of demo"),
        ({"protocol": {"id": "quick", "version": 1}}, "none that models are ranked by"),
        ({"protocol": {"id": "mutants", "version": 1}}, "none that models are ranked by"),
        ({"protocol": None}, "simulated under one"),
        ({"split": {"id": "block-v1", "fingerprints": {SAMPLE: toy_hash(9)}}}, "expected sha256"),
        ({"split": {"id": "mine", "fingerprints": {SAMPLE: toy_hash(9)}}}, "not known"),
        ({"seeds": {}}, "seeds.resampling"),
        ({"seeds": {"simulation": 10**30, "resampling": 1}}, "out of range"),
        ({"suite_version": "9.9.9"}, "not that of the provenance"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_results_of_other_versions_are_refused(changes: dict, told: str) -> None:
    plain = toy_result().model_dump(mode="json")
    result = config.validate(type(toy_result()), {**plain, **changes}, "toy")
    assert told in refused(toy_submission(result))


def test_metrics_of_other_versions_are_refused() -> None:
    versions = dict(toy_result().metrics_versions)
    told = refused(toy_submission(toy_result(metrics_versions=versions | {"w1_tic1": 99})))
    assert "w1_tic1 is of version 99" in told
    told = refused(toy_submission(toy_result(metrics_versions=versions | {"made_up": 1})))
    assert "no metric made_up" in told


def test_systems_of_no_registry_are_refused() -> None:
    reference = {"version": "v2", "fingerprints": {"synthetic-well": toy_hash(4)}}
    told = refused(toy_submission(toy_result(toy_system("synthetic-well"), reference=reference)))
    assert "synthetic-well: no protein or variant of this suite" in told


def test_results_of_models_with_known_answers_are_refused() -> None:
    told = refused(toy_submission(toy_result(toy_system(synthetic=True))))
    assert "known answers" in told


def test_a_claimed_track_has_to_be_that_of_the_training_data() -> None:
    told = refused(toy_submission(), toy_record(track="multi-protein"))
    assert "fewer than two proteins" in told
    told = refused(toy_submission(), toy_record(track="leave-one-out"))
    assert "data leak" in told
    told = refused(toy_submission(), toy_record(track="sampler"))
    assert "samplers, and only they" in told
    two = toy_result(trained=(SAMPLE, "villin"))
    assert "not on one" in refused(toy_submission(two))


def test_systems_that_count_are_there_or_marked() -> None:
    reference = {"version": "v2", "fingerprints": {"chignolin": toy_hash(4)}}
    result = toy_result(
        toy_system("chignolin"), trained=("chignolin", "villin"), reference=reference
    )
    record = toy_record(track="multi-protein")
    assert "neither in the result nor marked" in refused(toy_submission(result), record)
    marked = toy_submission(result, missing={"villin": "no data at hand", "chignolin": "x"})
    assert "missing: chignolin is in the result" in refused(marked, record)


# Pull requests


def test_a_pull_request_adds_and_changes_nothing_else(board: Path, tmp_path: Path) -> None:
    put_model(board, 1, 0.4)
    base = copied(board, tmp_path / "base")
    put_model(board, 2, 0.6)
    assert check_folder(board, base).added == ("toy/m2/2026-01-10",)
    old = read_submissions(board, read_records(board))["toy/m1"][0]
    path = submission_file(board, "toy/m1", DAY)
    cases = {
        "submissions are not changed": old.model_copy(update={"missing": {}, "result": toy_result(
            toy_system(share=0.01), name="toy/m1", number=1)}),
        "submissions are not changed; add": verified(old),
    }  # fmt: skip
    for told, changed in cases.items():
        config.write_model(path, changed)
        with pytest.raises(ValidationError, match=told):
            check_folder(board, base)
    config.write_model(path, verified(old))
    assert check_folder(board, base, maintainer=True).added == ("toy/m2/2026-01-10",)
    path.unlink()
    with pytest.raises(ValidationError, match="submissions are kept"):
        check_folder(board, base, maintainer=True)


def test_a_new_submission_brings_no_verification_of_its_own(board: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    put(board, toy_record(), verified(toy_submission()))
    with pytest.raises(ValidationError, match="written by maintainers"):
        check_folder(board, base)


def test_records_are_kept(board: Path, tmp_path: Path) -> None:
    put_model(board, 1, 0.4, status="withdrawn", reason="a mistake")
    base = copied(board, tmp_path / "base")
    put_model(board, 1, 0.4)
    with pytest.raises(ValidationError, match="only maintainers bring it back"):
        check_folder(board, base)
    for path in (board / "models/toy/m1.yml", submission_file(board, "toy/m1", DAY)):
        path.unlink()
    with pytest.raises(ValidationError, match="records are kept"):
        check_folder(board, base)


def test_the_checked_in_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    assert export_schemas([str(tmp_path)]) == 0
    assert export_schemas([]) == 2
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    folder = ROOT / "leaderboard" / "schemas"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made, (
        "run: python -m cgbench.leaderboard.schemas leaderboard/schemas"
    )


def test_the_checked_in_leaderboard_is_in_order() -> None:
    assert check_folder(ROOT / "leaderboard").models >= 0
    for path in (ROOT / "leaderboard" / "models").rglob("*.yml"):
        assert yaml.safe_load(path.read_text())["model"]
