"""Verification of tests of variants: from the trajectories of both stages, and by simulation."""

import shutil
from pathlib import Path

import pytest
from test_mutants import HASH, toy_reference, use
from toy_board import DAY
from toy_mutants import holder, home_with_variants

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.leaderboard import mutant_verification, verification
from cgbench.leaderboard.mutant_checks import mutants_problems
from cgbench.leaderboard.mutant_verification import trajectory_digests, variants_from_model
from cgbench.leaderboard.records import Submission, TrajectoriesSource
from cgbench.leaderboard.verification import Recomputed, verify_model, verify_trajectories
from cgbench.pipeline import mutant_rows, mutants
from cgbench.priors import read_published_prior
from cgbench.results import read_result

pytestmark = pytest.mark.data
KEY = "homeodomain-1P7I"


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def home(tmp_path_factory, request, patched) -> Path:
    """A home with the variant, protocols of a few ps, and a potential that holds the fold."""
    published = request.getfixturevalue("published_dir")
    made = home_with_variants(tmp_path_factory.mktemp("home"), published)
    prior = read_published_prior(published / "prior_force_field.yaml")
    shorter = {
        "mutants": {"length": 2.0, "output_interval": 0.1},
        "standard": {"length": 0.8, "n_replicas": 4, "model_msm_lag": 0.1},
    }
    known = registry.protocol
    protocols = {key: known(key).model_copy(update=one) for key, one in shorter.items()}
    patched.setattr(registry, "protocol", lambda one: protocols.get(one) or known(one))
    screening = registry.mutant_screening().model_copy(update={"window_ps": 1.0})
    patched.setattr(registry, "mutant_screening", lambda: screening)
    bundle = toy_reference(made)
    for module in (mutant_rows, mutant_verification):
        patched.setattr(module, "find_reference", lambda key, home: key)
        patched.setattr(module, "read_reference", lambda path: bundle)
    use(patched, holder(made, "homeodomain", prior, reads_sequence=True))
    return made


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory) -> Path:
    """A run folder in which the variant stays, and its second stage."""
    out = tmp_path_factory.mktemp("run")
    mutants.evaluate_mutants("toy", [KEY], out=out, home=home, protocol="standard")
    return out


@pytest.fixture
def submission(folder) -> Submission:
    outcome = mutants.MutantsOutcome.model_validate_json((folder / "mutants.json").read_bytes())
    result = read_result(folder / "result.json")
    stated = TrajectoriesSource(digests=trajectory_digests(result, outcome, folder))
    return Submission(
        model="toy/holder", submitted=DAY, result=result, mutants=outcome, trajectories=stated
    )


def changed(submission: Submission, **updates) -> Submission:
    """Return a submission whose first variant says something else."""
    outcome = submission.mutants
    variant = outcome.variants[0].model_copy(update=updates)
    update = {"mutants": outcome.model_copy(update={"variants": (variant,)})}
    return submission.model_copy(update=update)


def told(found: Recomputed) -> set[str]:
    return {one.what for one in found.disagreements}


def test_both_stages_come_out_again(submission, folder, home) -> None:
    assert set(submission.trajectories.digests) == {"homeodomain-54-beads", KEY}
    assert mutants_problems(submission) == []
    found = verify_trajectories(submission, folder, home=home)
    found.require("it")
    compared = {(one.system, one.what) for one in found.differences}
    assert {(KEY, "status"), (KEY, "reached_native"), (KEY, "rmsd_p1")} <= compared
    assert ("homeodomain poly-glycine", "median Q") in compared
    record = found.record(submission, "A maintainer")
    assert (record.level, record.systems) == ("trajectories_checked", (KEY,))
    assert record.digests == submission.trajectories.digests


def test_tampered_numbers_of_a_variant_are_found(submission, folder, home) -> None:
    """What contradicts itself is refused at once; the rest does not come out of the frames."""
    first = submission.mutants.variants[0]
    sly = changed(
        submission, reached_native=1, recovered=True, counts=True,
        median_q=min(1.0, first.median_q + 0.01),
    )  # fmt: skip
    sly = sly.model_copy(update={"mutants": sly.mutants.model_copy(update={"recovered": 1})})
    assert mutants_problems(sly) == []
    item = submission.result.systems[0]
    value = item.metrics["rmsd_p1"]
    better = value.model_copy(update={"value": value.value - (value.hi - value.lo) / 4})
    item = item.model_copy(update={"metrics": {**item.metrics, "rmsd_p1": better}})
    result = submission.result.model_copy(update={"systems": (item,)})
    found = verify_trajectories(sly.model_copy(update={"result": result}), folder, home=home)
    assert told(found) == {"reached_native", "recovered", "counts", "median Q", "rmsd_p1"}
    with pytest.raises(ValidationError, match="not those that come out"):
        found.record(sly, "A maintainer")


@pytest.mark.parametrize(
    ("updates", "words"),
    [
        ({"recovered": True}, "recovered True with 0"),
        ({"reached_native": 99, "recovered": True}, "unfolded starts reached"),
        ({"median_q": 0.2}, "stays with a median Q of 0.2"),
        ({"counts": True}, "counts, although"),
        ({"status": "unfolds", "median_q": 0.2}, "unfolds in stage one, and has a second stage"),
        ({"key": "made-1UPP"}, "no variant of this suite"),
    ],
)
def test_outcomes_that_contradict_themselves_are_refused(submission, updates, words) -> None:
    assert words in "\n".join(mutants_problems(changed(submission, **updates)))


def test_controls_and_settings_are_those_of_the_registry(submission) -> None:
    outcome = submission.mutants
    (parent,) = outcome.parents
    control = parent.controls[1].model_copy(update={"sequence": "A" * 54})
    other = parent.model_copy(update={"controls": (parent.controls[0], control)})
    stays = parent.controls[1].model_copy(update={"status": "stays", "median_q": 0.9})
    kept = parent.model_copy(
        update={"controls": (parent.controls[0], stays, parent.controls[2])}
    )  # fmt: skip
    for update, words in (
        ({"least_q": 0.1}, "least_q is 0.1, expected 0.6"),
        ({"model_hash": "sha256:" + "1" * 64}, "model_hash"),
        ({"seed": 9}, "seed is 9"),
        ({"recovered": 5}, "recovered is not the number"),
        ({"variants": outcome.variants * 2}, "there twice"),
        ({"parents": (other,)}, "not those of the registry"),
        ({"parents": (kept,)}, "a control does not unfold, and it is said to"),
        ({"synthetic": True}, "known answers"),
    ):
        sly = submission.model_copy(update={"mutants": outcome.model_copy(update=update)})
        assert words in "\n".join(mutants_problems(sly)), words


def test_other_trajectories_are_refused(submission, folder, home, tmp_path) -> None:
    assert submission.result.model.hash == HASH
    other = {"homeodomain-54-beads": "sha256:" + "1" * 64}
    swapped = submission.model_copy(update={"trajectories": TrajectoriesSource(digests=other)})
    with pytest.raises(IntegrityError, match="other trajectories of homeodomain-54-beads"):
        verify_trajectories(swapped, folder, home=home)
    model = submission.result.model.model_copy(update={"hash": "sha256:" + "2" * 64})
    result = submission.result.model_copy(update={"model": model})
    foreign = submission.model_copy(update={"result": result})
    with pytest.raises(ValidationError, match="another model or sequences"):
        verify_trajectories(foreign, folder, home=home)
    with pytest.raises(UsageError, match="no trajectories of stage one"):
        verify_trajectories(submission, tmp_path, home=home)
    (tmp_path / "screening.zarr").symlink_to(folder / "screening.zarr")
    with pytest.raises(IntegrityError, match="symbolic link"):
        verify_trajectories(submission, tmp_path, home=home)


def test_variants_are_simulated_again(submission, folder, home, tmp_path, monkeypatch) -> None:
    shutil.copytree(folder, tmp_path / "again")
    differences, digests = variants_from_model(
        submission, Path("toy"), tmp_path / "again", home=home
    )
    found = Recomputed("reproduced", tuple(differences), (), digests)
    found.require("it")
    assert set(digests) == {KEY}
    # What was found is that of above, without simulating once more.
    again = mutant_verification.evaluate_mutants
    monkeypatch.setattr(
        mutant_verification, "evaluate_mutants", lambda *_, **__: submission.mutants
    )

    def wrong(**updates) -> set[str]:
        other = changed(submission, **updates)
        found, _ = variants_from_model(other, Path("toy"), tmp_path / "again", home=home)
        return {one.what for one in found if one.ratio > 1}

    assert wrong() == set()
    assert wrong(reached_native=1, recovered=True, counts=True) == {"recovered and counts"}
    # Near the limit chaos decides on which side of it a chain ends; this one is far from it.
    assert wrong(status="unfolds", median_q=0.58) == {"median Q"}
    near = changed(submission, status="stays", median_q=0.61).mutants
    monkeypatch.setattr(mutant_verification, "evaluate_mutants", lambda *_, **__: near)
    assert wrong(status="unfolds", median_q=0.58) == set()
    monkeypatch.setattr(mutant_verification, "evaluate_mutants", again)
    with pytest.raises(CgbenchError):
        verify_model(submission, tmp_path / "nowhere.pt", tmp_path, home=home)
    monkeypatch.setattr(verification, "is_program", lambda path: True)
    with pytest.raises(UsageError, match="never runs foreign"):
        verify_model(submission, Path("program.pt"), tmp_path, home=home)
