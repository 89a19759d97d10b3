"""Verification, end to end on a real small run: the sample's prior under the protocol smoke."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_board import DAY, SAMPLE, toy_hash, toy_record
from typer.testing import CliRunner

from cgbench import config, registry
from cgbench.cli.main import app
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Scored, read_reference
from cgbench.leaderboard import verification
from cgbench.leaderboard.board import read_board
from cgbench.leaderboard.comparing import compared, repeated
from cgbench.leaderboard.files import read_submission, write_model_record, write_submission
from cgbench.leaderboard.records import Submission, TrajectoriesSource, submission_file
from cgbench.leaderboard.submission import SubmissionOptions, submit
from cgbench.leaderboard.trajectories import digest, read_submitted, trajectories_file
from cgbench.leaderboard.verification import Recomputed, verify_model, verify_trajectories
from cgbench.models import NetworkPotential, load_model, model_hash, save_model
from cgbench.models.zoo import find_weights
from cgbench.pipeline.evaluate import model_identity
from cgbench.pipeline.results import assemble, write_result_of
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.results import MetricValue, Result
from cgbench.simulation import simulate
from cgbench.store import find_reference, read_trajectories, write_trajectories
from cgbench.store.arrays import open_array

PROTOCOL = "smoke"


@dataclass(frozen=True)
class Run:
    """A run folder, its model, and the scored row."""

    folder: Path
    model: Path
    row: Scored
    result: Result

    def submission(self, **changes) -> Submission:
        data = {"model": "toy/prior", "submitted": DAY, "result": self.result}
        return Submission(**(data | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    shipped = load_model(find_weights("torchmd-gn/chignolin-sample-v2"))
    spec = shipped.spec.model_copy(update={"name": "toy/prior", "n_parameters": None})
    model = folder / "model.pt"
    save_model(model, NetworkPotential(None, shipped.prior, spec))
    potential, chosen = load_model(model), registry.protocol(PROTOCOL)
    bundle = read_reference(find_reference(SAMPLE))
    file = folder / "trajectories.zarr"
    simulate(
        potential,
        system_input(SAMPLE, None, bundle),
        chosen,
        seed=3,
        out=file,
        model_hash=model_hash(model),
    )
    row = score_simulation(file, bundle, chosen, name="toy/prior", errors=None, seed=5)
    result = assemble(
        model_identity(model, potential),
        {SAMPLE: row},
        [],
        bundles={SAMPLE: bundle},
        protocol=chosen,
        splits={},
        seeds={"simulation": 3, "resampling": 5},
        wall_time=None,
    )
    made = result.provenance.model_copy(update={"created": "2026-01-09T00:00:00+00:00"})
    result = result.model_copy(update={"provenance": made})
    write_result_of(folder, result)
    return Run(folder, model, row, result)


@pytest.fixture
def scored_before(run: Run, monkeypatch) -> None:
    """Stand in for scoring the same frames again, which the tests below have done before."""
    monkeypatch.setattr(verification, "score", lambda *a, **k: run.row)
    monkeypatch.setattr(verification, "score_simulation", lambda *a, **k: run.row)


def test_a_real_run_is_submitted_checked_and_reproduced(run: Run, tmp_path: Path) -> None:
    """The whole way: submit, verify by trajectories, verify by the model, and the board's level."""
    board = tmp_path / "board"
    board.mkdir()
    answers = {
        "authors": "A. Author", "title": "Prior", "description": "The prior alone.",
        "training_data": "the sample", "uses_native_structure": False,
    }  # fmt: skip
    said = SubmissionOptions(answers=answers, trajectories=run.folder, date=DAY)
    done = submit(run.folder, board, said)
    assert done.submission.trajectories is not None
    assert set(done.submission.trajectories.digests) == {SAMPLE}
    command = ["leaderboard", "verify", "toy/prior/2026-01-10", "--board", str(board)]
    alone = CliRunner().invoke(app, command)
    assert "level self_reported, nothing was computed again" in alone.output
    checked = CliRunner().invoke(
        app, [*command, "--trajectories", str(run.folder), "--write", "A maintainer"]
    )
    assert checked.exit_code == 0, checked.output
    stored = read_submission(done.submission_path)
    assert stored.level == "trajectories_checked"
    assert stored.verification is not None
    assert stored.verification.n_metrics > 100
    assert stored.result == run.result
    reproduced = CliRunner().invoke(
        app,
        [*command, "--model", str(run.model), "--out", str(tmp_path), "--write", "A maintainer"],
    )
    assert reproduced.exit_code == 0, reproduced.output
    row = read_board(board).row("toy/prior")
    assert row is not None
    assert row.level == "reproduced"
    assert row.rank is None
    assert row.unranked_reason == "fewer than 16 trajectories"


def test_the_same_frames_give_the_same_numbers(run: Run, scored_before: None) -> None:
    found = verify_trajectories(run.submission(), run.folder)
    assert found.disagreements == []
    assert max(one.ratio for one in found.differences) < 1e-6
    assert found.record(run.submission(), "A maintainer").level == "trajectories_checked"


def tampered(run: Run, **changes) -> Submission:
    """A submission in which one metric or field of the system is another."""
    item = run.result.systems[0]
    metrics = dict(item.metrics)
    for metric, values in changes.pop("metrics", {}).items():
        metrics[metric] = MetricValue(**(metrics[metric].model_dump() | values))
    item = item.model_copy(update={"metrics": metrics, **changes})
    return run.submission(result=run.result.model_copy(update={"systems": (item,)}))


def quarter(run: Run, metric: str) -> float:
    """A value inside the interval, a quarter of its width away."""
    value = run.result.systems[0].metrics[metric]
    assert None not in (value.value, value.lo, value.hi)
    return value.value - 0.25 * (value.hi - value.lo)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("w1_tic1", lambda run: {"metrics": {"w1_tic1": {"value": 0.01}}}),
        ("rg_w1", lambda run: {"metrics": {"rg_w1": {"value": quarter(run, "rg_w1")}}}),
        ("fes_rmse, lower end", lambda run: {"metrics": {"fes_rmse": {"lo": 0.0}}}),
        ("fes_rmse, lower end", lambda run: {"metrics": {"fes_rmse": {"lo": None, "hi": None}}}),
        ("dG_fold, target", lambda run: {"metrics": {"dG_fold": {"target": 2.0}}}),
        ("js_2d", lambda run: {"metrics": {"js_2d": {"value": None, "lo": None, "hi": None,
                                                     "status": "n/a"}}}),
        ("n_frames", lambda run: {"n_frames": run.result.systems[0].n_frames - 8}),
        ("n_trajectories", lambda run: {"n_trajectories": 32}),
        ("converged", lambda run: {"converged": not run.result.systems[0].converged}),
        ("gates", lambda run: {"gates": {"handedness": "failed"}}),
        ("weights_status", lambda run: {"weights_status": "given"}),
    ],
    ids=range(11),
)  # fmt: skip
def test_tampered_numbers_are_found(run: Run, scored_before: None, what: str, changes) -> None:
    """Also those that stay inside their interval."""
    found = verify_trajectories(tampered(run, **changes(run)), run.folder)
    assert what in {one.what for one in found.disagreements}
    with pytest.raises(ValidationError, match="not those that come out"):
        found.record(run.submission(), "A maintainer")


def test_a_metric_left_out_or_added_is_found(run: Run, scored_before: None) -> None:
    metrics = dict(run.result.systems[0].metrics)
    metrics["fes_rmse_twice"] = metrics.pop("kl_2d")
    item = run.result.systems[0].model_copy(update={"metrics": metrics})
    versions = run.result.metrics_versions | {"fes_rmse_twice": 1}
    result = run.result.model_copy(update={"systems": (item,), "metrics_versions": versions})
    found = verify_trajectories(run.submission(result=result), run.folder)
    assert {one.what for one in found.disagreements} == {"kl_2d", "fes_rmse_twice"}


def test_tampered_numbers_are_no_level_on_the_command_line(
    run: Run, scored_before: None, tmp_path: Path
) -> None:
    submission = tampered(run, metrics={"fes_rmse": {"lo": 0.0}})
    write_model_record(tmp_path, toy_record("toy/prior"))
    path = write_submission(tmp_path, submission)
    command = ["leaderboard", "verify", str(path), "--trajectories", str(run.folder)]
    found = CliRunner().invoke(app, [*command, "--json"])
    assert isinstance(found.exception, ValidationError)
    assert '"agrees": false' in found.stdout
    assert '"level": "self_reported"' in found.stdout
    with pytest.raises(ValidationError):
        CliRunner().invoke(app, [*command, "--write", "M"], catch_exceptions=False)
    assert read_submission(path).verification is None


# Swapped trajectories


def swapped(run: Run, tmp_path: Path, change) -> Path:
    stored = read_trajectories(run.folder / "trajectories.zarr", SAMPLE)
    path = tmp_path / "trajectories.zarr"
    write_trajectories(path, change(stored))
    return path


def attributes(stored, **changes):
    return replace(stored, attributes=stored.attributes.model_copy(update=changes))


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ("model hash", lambda s: attributes(s, model_hash=toy_hash(1))),
        ("model hash", lambda s: attributes(s, model_hash=None)),
        ("protocol", lambda s: attributes(s, protocol="standard")),
        ("seed", lambda s: attributes(s, seeds={"simulation": 4})),
        ("temperature", lambda s: replace(s, temperature=300.0)),
        ("frame interval", lambda s: replace(s, frame_interval=1.0)),
    ],
    ids=range(6),
)
def test_trajectories_of_something_else_are_refused(run, tmp_path, told, change) -> None:
    path = swapped(run, tmp_path, change)
    with pytest.raises(ValidationError, match=f"another {told}"):
        verify_trajectories(run.submission(), path)


def test_frames_changed_after_submission_are_found(run: Run, tmp_path: Path) -> None:
    stored = read_submitted(run.folder / "trajectories.zarr", SAMPLE, run.result)
    source = TrajectoriesSource(digests={SAMPLE: digest(stored)})
    path = Path(shutil.copytree(run.folder / "trajectories.zarr", tmp_path / "trajectories.zarr"))
    frames = open_array(path / SAMPLE / "coordinates", "r+")
    frames[7, 3, 1] = float(np.asarray(frames[7, 3, 1])) + 1e-4
    with pytest.raises(IntegrityError, match="other trajectories"):
        verify_trajectories(run.submission(trajectories=source), path)


def test_the_digest_is_of_content_and_not_of_packing(run: Run, tmp_path: Path) -> None:
    stored = read_submitted(run.folder / "trajectories.zarr", SAMPLE, run.result)
    again = swapped(run, tmp_path, lambda s: s)
    assert digest(read_trajectories(again, SAMPLE)) == digest(stored)
    fewer = replace(stored, alive_until=stored.alive_until - 1)
    assert digest(fewer) != digest(stored)


def test_other_trajectories_give_other_numbers(run: Run, tmp_path: Path, monkeypatch) -> None:
    """Frames of another run with the right labels: nothing but computing them again finds it."""
    rng = np.random.default_rng(1)
    path = swapped(run, tmp_path, lambda s: replace(s, coordinates=[
        (frames[::-1] * (1 + 0.02 * rng.random())).astype(np.float32) for frames in s.coordinates
    ]))  # fmt: skip
    original = verification.score
    monkeypatch.setattr(
        verification, "score", lambda *a, **k: original(*a, **(k | {"n_resamples": 20}))
    )
    found = verify_trajectories(run.submission(), path)
    assert len(found.disagreements) > 20


def test_a_link_is_no_trajectories(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trajectories.zarr").symlink_to(run.folder / "trajectories.zarr")
    with pytest.raises(IntegrityError, match="symbolic link"):
        trajectories_file(tmp_path)
    with pytest.raises(UsageError, match="no trajectories"):
        trajectories_file(tmp_path / "nothing")


# Models


def test_another_model_is_refused(run: Run, tmp_path: Path) -> None:
    other = find_weights("torchmd-gn/chignolin-sample")
    with pytest.raises(ValidationError, match="not the model that was submitted"):
        verify_model(run.submission(), other, tmp_path)


class Toy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_programs_are_never_run(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Toy()).save(str(path))
    with pytest.raises(UsageError, match="never runs foreign code"):
        verify_model(run.submission(), path, tmp_path)
    pickled = tmp_path / "pickled.pt"
    torch.save(Toy(), pickled)
    with pytest.raises(CgbenchError):
        verify_model(run.submission(), pickled, tmp_path)


def test_models_behind_adapters_are_not_simulated(run: Run, tmp_path: Path) -> None:
    model = run.result.model.model_copy(
        update={
            "adapter": {
                "name": "x:y", "version": "1", "origin": "function", "foreign_code": True,
            }
        }
    )  # fmt: skip
    data = run.result.model_dump(mode="json")
    data["model"] = model.model_dump(mode="json", warnings=False)
    result = config.validate(Result, data, "toy")
    with pytest.raises(UsageError, match="behind an adapter"):
        verify_model(run.submission(result=result), run.model, tmp_path)


def test_numbers_that_no_repetition_gives_are_found(
    run: Run, scored_before: None, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(verification, "simulate", lambda *a, **k: None)
    monkeypatch.setattr(
        verification, "read_trajectories",
        lambda path, key: read_trajectories(run.folder / "trajectories.zarr", key),
    )  # fmt: skip
    assert verify_model(run.submission(), run.model, tmp_path).disagreements == []
    value = run.result.systems[0].metrics["fes_rmse"]
    width = value.hi - value.lo
    near = tampered(run, metrics={"fes_rmse": {"value": value.value - 0.4 * width}})
    assert verify_model(near, run.model, tmp_path).disagreements == []
    below = value.value - 3 * width
    for far in (
        {"value": below, "lo": below - width},
        {"value": below, "lo": None, "hi": None},
        {"hi": value.value + 20 * width},
    ):
        found = verify_model(tampered(run, metrics={"fes_rmse": far}), run.model, tmp_path)
        assert [one.what for one in found.disagreements] == ["fes_rmse"]


def test_a_rare_state_may_be_missed_where_nothing_rests_on_it(run: Run) -> None:
    """A repetition without a frame in the native macrostate has no RMSD of it; ranks need none."""
    item = run.result.systems[0]
    nothing = MetricValue(status="n/a", note="no frame")
    for metric, least in (("rmsd_native", 0.0), ("js_2d", 2.0)):
        one = MetricValue(value=0.5, lo=0.4, hi=0.6)
        before = item.model_copy(update={"metrics": {metric: one}})
        result = run.result.model_copy(update={"systems": (before,)})
        found = item.model_copy(update={"metrics": {metric: nothing}})
        made = compared(result, SAMPLE, found, repeated(10), exact=("status",))
        assert (made[-1].what, made[-1].ratio >= least) == (metric, True)
        assert (made[-1].ratio == 0.0) == (metric == "rmsd_native")


# References


def test_a_reference_that_the_leaderboard_does_not_know_is_refused(
    run: Run, tmp_path: Path
) -> None:
    fingerprints = {SAMPLE: toy_hash(3)}
    reference = run.result.reference.model_copy(update={"fingerprints": fingerprints})
    result = run.result.model_copy(update={"reference": reference})
    with pytest.raises(ValidationError, match="the reference at hand is not the one"):
        verify_trajectories(run.submission(result=result), run.folder)


def test_a_record_names_what_was_checked(run: Run) -> None:
    made = Recomputed("trajectories_checked", (), ("force_mse",), {SAMPLE: toy_hash(2)})
    record = made.record(run.submission(), "A maintainer")
    assert record.result == run.submission().result_fingerprint
    assert record.systems == (SAMPLE,)
    with pytest.raises(ValidationError):
        made.record(run.submission(), "<script>")


def test_a_submission_is_found_by_its_name_and_never_outside(tmp_path: Path) -> None:
    for name in ("../x", "/etc/passwd.json", "toy/one/2026-01-10"):
        command = ["leaderboard", "verify", name, "--board", str(tmp_path)]
        assert isinstance(CliRunner().invoke(app, command).exception, CgbenchError)
    assert submission_file(tmp_path, "toy/one", DAY).parent.parent.parent.parent == tmp_path
