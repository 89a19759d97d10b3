"""A sampler on the leaderboard: submitted, verified from samples and from the file, and shown."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_ensemble_pipeline import quick_score
from test_sampler_pipeline import SYSTEM, trained_on
from toy_board import DAY, toy_hash
from toy_samplers import SMALL, toy_sampler
from typer.testing import CliRunner

import cgbench.pipeline.evaluate_ensemble as module
from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.leaderboard import sampler_verification, verification
from cgbench.leaderboard.board import read_board
from cgbench.leaderboard.checking import result_problems
from cgbench.leaderboard.files import read_submission
from cgbench.leaderboard.records import Submission
from cgbench.leaderboard.site.build import build_site
from cgbench.leaderboard.submission import SubmissionOptions, submit
from cgbench.leaderboard.verification import verify_model, verify_trajectories
from cgbench.pipeline.evaluate_sampler import evaluate_sampler
from cgbench.results import Result
from cgbench.samplers import LearnedSampler, SamplerSpec, sampler_hash, save_sampler
from cgbench.samplers.recurrent import RecurrentNetwork
from cgbench.store import read_trajectories, write_trajectories

#: Fewer than the models of a sequence, so that each sample counts in both.
SAMPLES = 64
ANSWERS = {
    "authors": "A. Author", "title": "Toy sampler", "description": "Random.",
    "training_data": "the sample", "uses_native_structure": False,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder, its sampler and the result."""

    folder: Path
    sampler: Path
    result: Result

    def submission(self, **changes: Any) -> Submission:
        data = {"model": "toy/sampler", "submitted": DAY, "result": self.result}
        return Submission(**(data | changes))

    def with_system(self, **changes: Any) -> Submission:
        item = self.result.systems[0].model_copy(update=changes)
        return self.submission(result=self.result.model_copy(update={"systems": (item,)}))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sampler")
    sampler = folder / "sampler.pt"
    spec = {"trained_on": (trained_on(),), "temperature": 350.0, "training_cost_s": 12.0}
    save_sampler(sampler, toy_sampler("toy/sampler", **spec))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "report_runs", lambda *_, **__: None)
        patched.setattr(module, "score", quick_score)
        result = evaluate_sampler(sampler, n=SAMPLES, out=folder / "run", seed=3, workers=1)
    made = result.provenance.model_copy(update={"created": "2026-01-09T00:00:00+00:00"})
    return Run(folder / "run", sampler, result.model_copy(update={"provenance": made}))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score as the run was scored."""
    for one in (verification, sampler_verification):
        monkeypatch.setattr(one, "score", quick_score)


@pytest.fixture
def scored_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for scoring the same samples again, which the first test does."""

    class Row:
        result = run.result.systems[0]

    for one in (verification, sampler_verification):
        monkeypatch.setattr(one, "score", lambda *_, **__: Row)


def test_a_sampler_is_submitted_checked_reproduced_and_shown(run: Run, tmp_path: Path) -> None:
    """The whole way on the command line, computing everything again."""
    board = tmp_path / "board"
    board.mkdir()
    words = [
        "submit", str(run.folder), "--board", str(board), "--trajectories", str(run.folder),
        "--no-ask", "--authors", "A. Author", "--title", "Toy sampler", "--description", "Random.",
        "--training-data", "the sample", "--no-uses-native",
    ]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    (path,) = (board / "submissions").rglob("*.json")
    stored = read_submission(path)
    assert stored.trajectories is not None
    assert set(stored.trajectories.digests) == {SYSTEM}
    row = read_board(board).row("toy/sampler")
    assert row is not None
    assert (row.track, row.level, row.rank) == ("sampler", "self_reported", 1)
    command = ["leaderboard", "verify", str(path), "--write", "A maintainer", "--workers", "1"]
    checked = CliRunner().invoke(app, [*command, "--trajectories", str(run.folder)])
    assert checked.exit_code == 0, (checked.output, checked.exception)
    record = read_submission(path).verification
    assert record is not None
    ranked = {one.id for one in registry.metrics() if one.ranked}
    assert record.level == "trajectories_checked"
    assert not ranked & set(record.not_recomputed)
    again = CliRunner().invoke(app, [*command, "--model", str(run.sampler), "--out", str(tmp_path)])
    assert again.exit_code == 0, (again.output, again.exception)
    record = read_submission(path).verification
    assert record is not None
    # Drawn on the same machine the samples are the same, and with them their clusters.
    assert (record.level, record.largest_difference) == ("reproduced", 0.0)
    assert "models" not in record.not_recomputed
    assert record.digests == stored.trajectories.digests
    check = CliRunner().invoke(app, ["leaderboard", "check", str(board)])
    assert check.exit_code == 0, check.output


@pytest.mark.slow
def test_the_site_shows_the_track_of_samplers(run: Run, tmp_path: Path) -> None:
    board, site = tmp_path / "board", tmp_path / "site"
    board.mkdir()
    said = SubmissionOptions(answers=ANSWERS, trajectories=run.folder)
    submit(run.folder, board, said)
    build_site(read_board(board), site, details=folder_of_details(run, tmp_path))
    page = (site / "index.html").read_text()
    assert "Toy sampler" in page[page.index('id="table-s') :]
    own = next(one for one in site.rglob("*.html") if "toy" in str(one)).read_text()
    for text in ("ms a sample", "of 64 models", "cgbench evaluate", "sampler.pt"):
        assert text in own


def folder_of_details(run: Run, folder: Path) -> Path:
    shutil.copytree(run.folder, folder / "details" / "toy" / "sampler")
    return folder / "details"


def other_models(run: Run, **changes: Any) -> Submission:
    models = run.result.systems[0].models
    assert models is not None
    return run.with_system(models=models.model_copy(update=changes))


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("models: n_clusters", lambda run: other_models(run, n_clusters=1)),
        ("models: representative_rmsd", lambda run: other_models(run, representative_rmsd=0.5)),
        ("models: largest", lambda run: other_models(run, largest=1.0)),
        ("models: best_tm", lambda run: other_models(run, best_tm=0.9)),
    ],
)
def test_tampered_models_are_found(
    run: Run, scored_before: None, tmp_path: Path, what: str, changed: Any
) -> None:
    found = verify_trajectories(changed(run), run.folder)
    assert [one.what for one in found.disagreements] == [what]
    with pytest.raises(ValidationError, match="not those that come out"):
        found.record(run.submission(), "A maintainer")
    drawn = verify_model(changed(run), run.sampler, tmp_path)
    assert [one.what for one in drawn.disagreements] == [what]


def test_tampered_metrics_are_found(run: Run, tmp_path: Path) -> None:
    """Also ends of intervals, and numbers that stay inside them."""
    metrics = dict(run.result.systems[0].metrics)
    value = metrics["rg_w1"]
    assert value.value is not None
    assert value.lo is not None
    assert value.hi is not None
    inside = value.value - 0.25 * (value.hi - value.lo)
    metrics["rg_w1"] = value.model_copy(update={"value": inside})
    metrics["fes_rmse"] = metrics["fes_rmse"].model_copy(update={"value": 0.01, "lo": 0.0})
    tampered = run.with_system(metrics=metrics)
    found = verify_trajectories(tampered, run.folder, workers=1)
    assert {one.what for one in found.disagreements} == {
        "rg_w1", "fes_rmse", "fes_rmse, lower end"
    }  # fmt: skip
    drawn = verify_model(tampered, run.sampler, tmp_path, workers=1)
    assert "fes_rmse" in {one.what for one in drawn.disagreements}
    assert "models" in drawn.not_recomputed


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ("model hash", {"model_hash": toy_hash(1)}),
        ("seed", {"seeds": {"sampling": 4}}),
        ("seed", {"seeds": {}}),
    ],
)
def test_samples_of_something_else_are_refused(
    run: Run, tmp_path: Path, told: str, change: dict[str, Any]
) -> None:
    stored = read_trajectories(run.folder / "trajectories.zarr", SYSTEM)
    path = tmp_path / "trajectories.zarr"
    attributes = stored.attributes.model_copy(update=change)
    write_trajectories(path, replace(stored, attributes=attributes))
    with pytest.raises(ValidationError, match=f"another {told}"):
        verify_trajectories(run.submission(), path)


def test_samples_in_time_order_are_refused(run: Run, tmp_path: Path) -> None:
    stored = read_trajectories(run.folder / "trajectories.zarr", SYSTEM)
    path = tmp_path / "trajectories.zarr"
    write_trajectories(path, replace(stored, frame_interval=100.0))
    with pytest.raises(ValidationError, match="another frame interval"):
        verify_trajectories(run.submission(), path)


def test_another_sampler_or_other_words_are_refused(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    save_sampler(other, toy_sampler("toy/sampler"))
    with pytest.raises(ValidationError, match="not the model that was submitted"):
        verify_model(run.submission(), other, tmp_path)
    spec = dict(run.result.model.spec or {}) | {"trained_on": []}
    model = run.result.model.model_copy(update={"spec": spec})
    told = run.submission(result=run.result.model_copy(update={"model": model}))
    with pytest.raises(ValidationError, match="another trained_on"):
        verify_model(told, run.sampler, tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        verify_model(run.submission(), tmp_path / "nothing.pt", tmp_path)
    (tmp_path / "bad.pt").write_bytes(run.sampler.read_bytes()[:-200])
    with pytest.raises(IntegrityError):
        verify_model(run.submission(), tmp_path / "bad.pt", tmp_path)


def test_a_sampler_of_profiles_is_verified_by_its_samples(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(1)
    settings = SMALL.model_copy(update={"features": "profile"})
    spec = SamplerSpec.model_validate(run.result.model.spec)
    save_sampler(tmp_path / "p.pt", LearnedSampler(RecurrentNetwork(settings), spec))
    model = run.result.model.model_copy(update={"hash": sampler_hash(tmp_path / "p.pt")})
    told = run.submission(result=run.result.model_copy(update={"model": model}))
    with pytest.raises(UsageError, match="give --trajectories"):
        verify_model(told, tmp_path / "p.pt", tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"hash": None}}, "model.hash"),
        ({"model": {"spec": {"name": ""}}}, "model.spec"),
        ({"model": {"spec": None}}, "model.spec"),
        ({"seeds": {"resampling": 1}}, "seeds.sampling"),
    ],
)
def test_what_a_result_of_a_sampler_has_to_say(
    run: Run, changes: dict[str, Any], told: str
) -> None:
    assert result_problems(run.result) == []
    model = run.result.model.model_copy(update=changes.get("model", {}))
    wrong = run.result.model_copy(update={k: v for k, v in changes.items() if k != "model"})
    problems = result_problems(wrong.model_copy(update={"model": model}))
    assert any(one.startswith(told) for one in problems)


def test_a_sampler_is_on_its_own_track_alone(run: Run, tmp_path: Path) -> None:
    for wrong in ({"track": "leave-one-out"}, {"kind": "potential", "track": "multi-protein"}):
        said = SubmissionOptions(answers=ANSWERS | wrong, date=DAY.replace(year=2027))
        with pytest.raises(ValidationError, match="cannot be accepted"):
            submit(run.folder, tmp_path, said)
    assert not list(tmp_path.rglob("*.json"))
