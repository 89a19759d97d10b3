"""Leaks: what a model was trained on and is tested on is refused, or stands on the result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from toy_runs import FIRST, SECOND, Play, save_toy_model
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import read_reference
from cgbench.models import NetworkPotential, PotentialSpec, TrainedOn, load_model, save_model
from cgbench.models.potential import SelectedBy
from cgbench.pipeline import evaluate as pipeline
from cgbench.pipeline.content import row_warnings
from cgbench.pipeline.leaks import check_leaks, track
from cgbench.pipeline.results import read_run
from cgbench.pipeline.tables import result_table
from cgbench.priors import PriorOrigin, PriorParameters, TransferableFit
from cgbench.results import TRACKS, Leak, read_result
from cgbench.splits import make_random_split, read_split, write_split
from cgbench.store import find_reference, find_split, open_store

TWELVE = [one.key for one in registry.systems() if one.published_key is not None]


def trained(system: str, split: str = "block-v1", **fields: str) -> TrainedOn:
    facts = {"split_fingerprint": "sha256:split", "store_fingerprint": "sha256:store"} | fields
    return TrainedOn(system=system, split_id=split, **facts)


def on_sample(system: str = FIRST, split: str = "block-v1", home: Path | None = None) -> TrainedOn:
    """What training on an embedded store leaves in a model."""
    found = read_split(find_split(system, split, home))
    return trained(
        system,
        split,
        split_fingerprint=found.fingerprint,
        store_fingerprint=found.store_fingerprint,
    )


def spec(*data: TrainedOn) -> PotentialSpec:
    return PotentialSpec(name="toy", trained_on=data, force_map="optimal")


def prior(*systems: str, source: str = "", **facts: str) -> PriorParameters:
    """A prior that says what it was fitted on; without systems one that does not."""
    record = None
    if systems:
        record = TransferableFit(
            fitted_on=tuple(
                PriorOrigin(
                    system=key,
                    sequence=registry.system(key).sequence,
                    n_frames=10,
                    **({"split_id": "block-v1"} | facts),
                )
                for key in systems
            ),
            balance="frames",
        )
    return PriorParameters(bonds={}, repulsion={1: 1.0}, source=source, transferable=record)


@pytest.mark.parametrize(
    ("system", "data", "expected"),
    [
        ("bba", [trained("bba")], "protein-specific"),
        ("bba", [], "protein-specific"),
        ("bba", [trained("bba"), trained("villin")], "multi-protein"),
        ("bba", [trained(key, "lopo-bba") for key in TWELVE if key != "bba"], "leave-one-out"),
        ("villin", [trained(key, "lopo-bba") for key in TWELVE if key != "bba"], "multi-protein"),
        # Nothing like the protein was trained on, whatever the split is called.
        ("bba", [trained("villin"), trained("lambda")], "leave-one-out"),
        ("lambda", [trained("bba")], "leave-one-out"),
        ("chignolin", [trained("chignolin-sample")], "protein-specific"),
        ("homeodomain-1P7I", [trained("homeodomain")], "mutants"),
        # Its splits claim to leave it out: the claim is what is checked.
        ("bba", [trained("bba", "lopo-bba")], "leave-one-out"),
        ("chignolin", [trained("chignolin-sample", "lopo-chignolin")], "leave-one-out"),
    ],
)
def test_the_track_is_told_from_the_training_data(
    system: str, data: list[TrainedOn], expected: str
) -> None:
    assert track(spec(*data), system) == expected


def test_a_model_trained_by_the_canonical_split_is_clean() -> None:
    leak = check_leaks(spec(on_sample()), FIRST, prior=prior(FIRST, **facts_of(FIRST)))
    assert (leak.status, leak.overlaps) == ("none", ())
    assert leak.sentences == ()
    split = read_split(find_split(FIRST, "block-v1"))
    assert split.fingerprint in leak.checked[f"trained on {FIRST}"]
    assert split.fingerprint in leak.checked["prior"]
    assert "optimal" in leak.checked["force map"]


def facts_of(system: str) -> dict[str, str]:
    item = on_sample(system)
    return {
        "split_fingerprint": item.split_fingerprint,
        "store_fingerprint": item.store_fingerprint,
    }


def test_a_model_that_states_nothing_is_unchecked() -> None:
    leak = check_leaks(spec(), "bba", asked="leave-one-out")
    assert leak.status == "unchecked"
    assert "does not state what it was trained on" in leak.sentences[0]


def test_shared_test_frames_are_counted(tmp_path: Path) -> None:
    """A random split of the same store: independent count of what it shares with the test part."""
    store = open_store(FIRST)
    random = make_random_split(store, (0.5, 0.2, 0.3), seed=4)
    write_split(tmp_path / "splits" / FIRST / f"{random.id}.json", random)
    data = on_sample(FIRST, random.id, tmp_path)
    leak = check_leaks(spec(data), FIRST, home=tmp_path)
    test = set(read_split(find_split(FIRST, "block-v1")).frames("test").tolist())
    both = len(test & set(random.frames("train").tolist()))
    assert leak.status == "marked"
    assert leak.overlaps == (
        f"trained on split {random.id}: {both:,} of the {len(test):,} test frames of block-v1 "
        "were trained on",
    )
    # The split is gone: what is shared cannot be told, which is no reason to say nothing.
    (tmp_path / "splits" / FIRST / f"{random.id}.json").unlink()
    (overlap,) = check_leaks(spec(data), FIRST, home=tmp_path).overlaps
    assert "not at hand" in overlap


def test_the_leave_one_out_split_of_another_protein_holds_this_ones_test_frames(
    tmp_path: Path,
) -> None:
    made = CliRunner().invoke(
        app, ["splits", "make", FIRST, "--split", "lopo-bba", "--home", str(tmp_path)]
    )
    assert made.exit_code == 0
    data = on_sample(FIRST, "lopo-bba", tmp_path)
    assert check_leaks(spec(data), "bba", home=tmp_path).status == "none"
    leak = check_leaks(spec(data), FIRST, home=tmp_path)
    n_test = len(read_split(find_split(FIRST, "block-v1")).frames("test"))
    assert f"{n_test:,} of the {n_test:,} test frames" in leak.overlaps[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": "test"}, "part 'test'"),
        ({"split_fingerprint": "sha256:other"}, "not at hand"),
        ({"store_fingerprint": "sha256:other", "split_fingerprint": "x"}, "another version"),
    ],
)
def test_other_parts_splits_and_stores_are_marked(fields: dict[str, str], message: str) -> None:
    data = on_sample().model_copy(update=fields)
    (overlap,) = check_leaks(spec(data), FIRST).overlaps
    assert message in overlap


def test_other_data_of_the_same_sequence_are_marked() -> None:
    (overlap,) = check_leaks(spec(on_sample(SECOND)), FIRST).overlaps
    assert "other data of the same sequence" in overlap
    assert check_leaks(spec(trained("lambda"), on_sample(FIRST)), FIRST).status == "none"


def test_the_prior_is_checked_like_the_network() -> None:
    facts = facts_of(FIRST)
    own = prior(FIRST, **(facts | {"split_fingerprint": "sha256:other"}))
    (overlap,) = check_leaks(spec(on_sample()), FIRST, prior=own).overlaps
    assert overlap.startswith("prior fitted on split block-v1")


@pytest.mark.parametrize("left_out", TWELVE)
def test_leaving_one_of_the_twelve_out(left_out: str) -> None:
    others = [key for key in TWELVE if key != left_out]
    model = spec(*(trained(key, f"lopo-{left_out}") for key in others))
    assert (
        check_leaks(model, left_out, prior=prior(*others), asked="leave-one-out").status == "none"
    )
    with_it = check_leaks(model, left_out, prior=prior(*TWELVE), asked="leave-one-out")
    assert with_it.status == "refused"
    assert with_it.overlaps == (f"prior fitted on {left_out}: the left-out protein",)
    assert check_leaks(model, left_out, prior=prior(*TWELVE)).status == "marked"


@pytest.mark.parametrize("data", ["chignolin", "chignolin-sample", "chignolin-sample-v2"])
def test_leave_one_out_is_by_sequence(data: str) -> None:
    model = spec(trained("bba", "lopo-chignolin"), trained(data, "lopo-chignolin"))
    leak = check_leaks(model, "chignolin")
    assert leak.status == "marked"
    assert leak.overlaps[0].startswith(f"trained on {data}: ")


def test_data_of_a_users_own_protein_are_told_by_the_prior_or_not_at_all() -> None:
    own = PriorOrigin(system="mine", sequence=registry.system("bba").sequence, n_frames=3)
    record = TransferableFit(fitted_on=(own,), balance="frames")
    known = prior().model_copy(update={"transferable": record})
    model = spec(trained("mine", "lopo-bba"), trained("villin", "lopo-bba"))
    found = check_leaks(model, "bba", prior=known)
    assert "trained on mine: same sequence as bba" in found.overlaps
    (overlap,) = check_leaks(model, "bba").overlaps
    assert overlap == "trained on mine, whose sequence is not known"


def test_a_prior_of_unknown_origin_is_no_leave_one_out() -> None:
    model = spec(trained("villin", "lopo-bba"))
    own = prior(source="Boltzmann inversion of weighted frames")
    assert check_leaks(model, "bba", prior=own).status == "none"
    (overlap,) = check_leaks(model, "bba", prior=prior(source="published force field")).overlaps
    assert "published force field) does not state what it was fitted to; it may be bba" in overlap


def test_mutants_may_train_on_the_parent_but_not_on_themselves() -> None:
    key = "homeodomain-1P7I"
    model = spec(*(trained(one) for one in TWELVE))
    assert check_leaks(model, key, prior=prior(*TWELVE)).status == "none"
    leak = check_leaks(spec(trained("homeodomain"), trained(key)), key)
    assert leak.overlaps == (f"trained on {key}, which has the variant's own sequence",)
    unknown = "homeodomain-1DU0"
    same = check_leaks(model, unknown, sequence=registry.system("homeodomain").sequence)
    assert "the variant's own sequence" in same.overlaps[0]


@pytest.mark.parametrize(
    ("asked", "data", "message"),
    [
        ("protein-specific", ["bba", "villin"], "trained on 2 proteins (bba, villin), not on one"),
        ("multi-protein", ["bba"], "trained on one protein, bba"),
        ("mutants", ["bba"], "no variant"),
        ("leave-one-out", ["bba"], "the left-out protein"),
    ],
)
def test_a_model_of_another_track_is_refused(asked: Any, data: list[str], message: str) -> None:
    leak = check_leaks(spec(*map(trained, data)), "bba", asked=asked)
    assert leak.status == "refused"
    assert any(message in overlap for overlap in leak.overlaps)


def test_a_leak_says_what_it_found_or_why_it_did_not_look() -> None:
    for wrong in (
        {"status": "marked"},
        {"status": "none", "overlaps": ("x",)},
        {"status": "unchecked"},
        {"status": "none", "reason": "x"},
    ):
        with pytest.raises(pydantic.ValidationError):
            Leak.model_validate(wrong)


def save(path: Path, *data: TrainedOn) -> Path:
    """A toy model file with other training data."""
    found = load_model(save_toy_model(path))
    save_model(path, NetworkPotential(None, found.prior, spec(*data)))
    return path


def test_an_evaluation_marks_refuses_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(monkeypatch.setattr)
    model = save(tmp_path / "model.pt", on_sample(FIRST))
    out = tmp_path / "run"
    result = pipeline.evaluate_model(model, [FIRST, SECOND], out=out, protocol="smoke", prior=False)
    first, second = result.systems
    assert (first.track, first.leak and first.leak.status) == ("protein-specific", "none")
    assert second.leak is not None
    assert second.leak.status == "marked"
    assert read_result(out / "result.json").systems == result.systems
    caption = str(result_table(result).caption)
    assert f"{FIRST}: track: protein-specific" in caption
    assert f"{SECOND}: data leak: trained on {FIRST}" in caption
    # What reports are drawn from knows it too.
    drawn = read_run(out).scored[SECOND]
    assert drawn.result.leak == second.leak
    assert f"toy: {second.leak.sentences[0]}" in row_warnings([drawn])

    done = len(play.scored)
    with pytest.raises(ValidationError, match="not on track leave-one-out") as caught:
        pipeline.evaluate_model(
            model, [FIRST], out=tmp_path / "no", protocol="smoke", track="leave-one-out"
        )
    assert caught.value.exit_code == 4
    assert f"{FIRST}: trained on {FIRST}: the left-out protein" in caught.value.message
    assert not (tmp_path / "no").exists()
    assert len(play.scored) == done
    # What is there is kept, with the track that is asked for now.
    again = pipeline.evaluate_model(
        model, [FIRST], out=out, protocol="smoke", prior=False, track="protein-specific"
    )
    assert [item.leak and item.leak.status for item in again.systems] == ["none", "marked"]
    assert len(play.scored) == done


def test_the_command_line_knows_all_tracks(tmp_path: Path) -> None:
    from cgbench.cli.evaluate import Track

    assert set(Track.__args__) == set(TRACKS)
    np.save(tmp_path / "frames.npy", np.zeros((1, 10, 3), dtype=np.float32))
    words = ["evaluate", "--ensemble", str(tmp_path / "frames.npy"), "--track", "sampler"]
    assert isinstance(CliRunner().invoke(app, words).exception, UsageError)
    model = save(tmp_path / "model.pt", on_sample(FIRST))
    words = ["evaluate", str(model), "--system", FIRST, "--track", "leave-one-out", "--json"]
    caught = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run")]).exception
    assert isinstance(caught, ValidationError)


def test_results_from_before_there_were_tracks_are_read(tmp_path: Path) -> None:
    content = json.loads(
        (
            Path(__file__).parent.parent
            / "baselines/torchmd-gn/chignolin-sample-v2/results/result.json"
        ).read_text()
    )
    for item in content["systems"]:
        item.pop("track", None)
        item.pop("leak", None)
    (tmp_path / "result.json").write_text(json.dumps(content))
    found = read_result(tmp_path / "result.json")
    assert all((item.track, item.leak) == (None, None) for item in found.systems)
    assert "track" not in str(result_table(found).caption)


def selected(system: str, fingerprint: str, *data: TrainedOn) -> PotentialSpec:
    chosen = SelectedBy(
        metric="w1_tic1", protocol="selection", seed=2, references={system: fingerprint}
    )
    return spec(*data).model_copy(update={"best_of_n": 4, "selected_by": chosen})


def test_the_reference_of_the_choice_must_not_be_that_of_the_test() -> None:
    own, other = (read_reference(find_reference(key)).fingerprint for key in (FIRST, SECOND))
    for fingerprint, message in (
        (own, f"chosen among 4 by w1_tic1 on the reference of {FIRST}, against which"),
        (other, f"on the reference of {SECOND}, other data of the same sequence"),
        ("sha256:share", f"on trajectories of {FIRST}; the reference here is of all of them"),
    ):
        leak = check_leaks(selected(FIRST, fingerprint, on_sample()), FIRST)
        assert leak.status == "marked"
        assert message in leak.overlaps[0]
    # The choice was by another protein.
    model = selected("bba", own, on_sample(), trained("bba"))
    assert check_leaks(model, FIRST).status == "none"
    assert (
        check_leaks(selected("villin", own, trained("villin", "lopo-bba")), "bba").status == "none"
    )
    (overlap,) = check_leaks(selected("bba", own, trained("villin", "lopo-bba")), "bba").overlaps
    assert overlap == "chosen among 4 by w1_tic1 on bba: the left-out protein"


def test_a_simulation_at_another_temperature_says_what_that_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Play(monkeypatch.setattr)
    cold = registry.protocol("smoke").model_copy(
        update={"temperature": registry.protocol("paper-300").temperature}
    )
    known = registry.protocol
    model = save(tmp_path / "model.pt", on_sample(FIRST))
    warm = pipeline.evaluate_model(model, [FIRST], out=tmp_path / "warm", protocol="smoke")
    monkeypatch.setattr(registry, "protocol", lambda one: cold if one == "smoke" else known(one))
    found = pipeline.evaluate_model(model, [FIRST], out=tmp_path / "cold", protocol="smoke")
    (note,) = set(found.systems[0].notes) - set(warm.systems[0].notes)
    assert note.startswith("Simulated at 300 K, the reference is at 350 K: free energies")
    assert not any("Simulated at" in one for one in warm.systems[0].notes)


def test_the_paper_protocols_all_have_the_papers_analysis() -> None:
    assert registry.PAPER_PROTOCOLS == ("paper", "paper-300", "paper-250")
    assert [registry.protocol(one).temperature for one in registry.PAPER_PROTOCOLS] == [
        350,
        300,
        250,
    ]
