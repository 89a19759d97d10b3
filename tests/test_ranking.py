"""Scores and ranks: frozen thresholds, penalties, ties, and what a board keeps and refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_board import (
    DAY,
    OTHER_SAMPLE,
    SAMPLE,
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

from cgbench import config, registry
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.leaderboard import model_rows
from cgbench.leaderboard.board import read_board
from cgbench.leaderboard.known import counting_systems, group_of, published_systems
from cgbench.leaderboard.model_rows import model_row
from cgbench.leaderboard.ranking import ranks, significantly_better
from cgbench.leaderboard.records import TRACKS, ReferenceRow, ReferenceRows
from cgbench.leaderboard.reference_rows import ROWS
from cgbench.leaderboard.references import add_rescored
from cgbench.leaderboard.rows import Score
from cgbench.leaderboard.scoring import (
    NOTHING,
    mean_score,
    metric_score,
    recovery_score,
    scored_metrics,
)
from cgbench.results import MetricValue
from cgbench.version import __version__


def row_of(*systems, record=None, **changes):
    result = toy_result(*systems, **changes)
    return model_row(record or toy_record(), [toy_submission(result)])


@pytest.mark.parametrize("metric", scored_metrics(), ids=lambda one: one.metric)
def test_the_score_is_one_at_good_zero_at_bad_and_linear_between(metric) -> None:
    shift = 3.0 if metric.direction == "target" else 0.0
    for value, expected in [
        (metric.good, 1.0), (metric.bad, 0.0), ((metric.good + metric.bad) / 2, 0.5),
        (metric.bad * 100, 0.0),
    ]:  # fmt: skip
        for sign in (1, -1) if metric.direction == "target" else (1,):
            at = shift + sign * value
            found = metric_score(metric, MetricValue(value=at, lo=at, hi=at), shift)
            assert found.value == pytest.approx(expected, abs=1e-9)
            assert found.lo <= found.value <= found.hi


@given(
    value=st.floats(-5, 5), below=st.floats(0, 3), above=st.floats(0, 3), target=st.floats(-2, 2)
)
def test_the_interval_of_a_score_holds_the_scores_of_the_interval(value, below, above, target):
    for metric in scored_metrics()[::5] + tuple(
        one for one in scored_metrics() if one.direction == "target"
    ):
        measured = MetricValue(value=value, lo=value - below, hi=value + above)
        found = metric_score(metric, measured, target)
        for inside in np.linspace(value - below, value + above, 7):
            point = MetricValue(value=float(inside), lo=float(inside), hi=float(inside))
            one = metric_score(metric, point, target).value
            assert found.lo - 1e-9 <= one <= found.hi + 1e-9


def test_what_has_no_value_scores_nothing() -> None:
    metric = scored_metrics()[0]
    for value in (
        None,
        MetricValue(status="n/a"),
        MetricValue(value=0.0, status="void"),
        MetricValue(value=0.0, status="failed"),
    ):
        assert metric_score(metric, value, None) == NOTHING


def test_a_value_without_interval_may_be_anything_down_to_nothing() -> None:
    found = metric_score(scored_metrics()[0], MetricValue(value=0.0), None)
    assert (found.lo, found.value, found.hi) == (0.0, 1.0, 1.0)


def test_penalties_are_not_scored_whatever_their_value() -> None:
    """The penalty of a population is 0, which a rarely folded reference would reward."""
    row = row_of(failed_system())
    assert row.score == NOTHING
    assert "failed" in row.flags
    void = row_of(void_system())
    assert void.score == NOTHING
    assert void.gates_failed == (f"handedness ({SAMPLE})",)


def test_a_metric_left_out_scores_nothing_and_the_rest_does_not_make_up_for_it() -> None:
    whole = row_of(toy_system(metrics=metrics_at(0.0))).score
    metrics = metrics_at(0.0)
    del metrics["w1_tic1"]
    part = row_of(toy_system(metrics=metrics)).score
    assert whole.value == pytest.approx(1.0)
    assert part.value == pytest.approx(1.0 - 1.0 / len(scored_metrics()))


def test_missing_systems_count_as_nothing(monkeypatch) -> None:
    reference = {"version": "v2", "fingerprints": {"chignolin": toy_hash(4)}}
    result = toy_result(toy_system("chignolin", 0.0, metrics=metrics_at(0.0)),
                        trained=("chignolin", "villin"), reference=reference)  # fmt: skip
    record = toy_record(track="multi-protein")
    monkeypatch.setattr(model_rows, "unregistered_systems", lambda result: ())
    row = model_row(record, [toy_submission(result)])
    assert tuple(row.systems) == published_systems()
    assert row.score.value == pytest.approx(1.0 / 12.0)
    assert "missing" in row.flags
    assert row.systems["villin"].status == "missing"


def test_the_composite_does_not_depend_on_who_is_listed(tmp_path: Path) -> None:
    put_model(tmp_path, 1, 0.4)
    alone = read_board(tmp_path).row("toy/m1")
    for number in range(2, 8):
        put_model(tmp_path, number, 0.1 * number)
    among = read_board(tmp_path).row("toy/m1")
    assert alone.score == among.score
    assert alone.metrics == among.metrics


def brute_ranks(scores):
    """The definition written as loops, with the normal quantile spelled out."""
    found = []
    for mine in scores:
        better = 0
        for other in scores:
            gap = other.value - mine.value
            error = math.sqrt((other.value - other.lo) ** 2 + (mine.hi - mine.value) ** 2)
            better += gap > error
        found.append(better + 1)
    return found


@given(
    st.lists(
        # Squares of tinier numbers vanish, which is no matter of ranks.
        st.tuples(*(st.floats(0, most).map(lambda x: round(x, 9)) for most in (1, 0.3, 0.3))),
        min_size=1,
        max_size=12,
    )
)
def test_ranks_are_one_plus_the_models_that_are_better(drawn) -> None:
    scores = [Score(value=v, lo=max(0.0, v - b), hi=min(1.0, v + a)) for v, b, a in drawn]
    found = ranks(scores)
    assert found == brute_ranks(scores)
    assert min(found) == 1
    assert not any(significantly_better(one, one) for one in scores)


def test_tied_models_share_a_rank_and_ties_are_not_chained(tmp_path: Path) -> None:
    scores = [Score(value=v, lo=v - 0.1, hi=v + 0.1) for v in (0.8, 0.7, 0.6, 0.5)]
    assert ranks(scores) == [1, 1, 2, 3]
    for number, share in enumerate((0.2, 0.205, 0.7), start=1):
        put_model(tmp_path, number, share)
    rows = [row for row in read_board(tmp_path).tracks["protein-specific"] if not row.reference]
    assert [(row.id, row.rank) for row in rows] == [("toy/m1", 1), ("toy/m2", 1), ("toy/m3", 3)]


def test_the_mean_over_systems_adds_independent_errors() -> None:
    one = Score(value=0.5, lo=0.4, hi=0.6)
    found = mean_score([one] * 4)
    assert found.value == 0.5
    assert found.lo == pytest.approx(0.45)
    assert found.hi == pytest.approx(0.55)
    assert mean_score([]) is None


def test_recovery_has_wilsons_interval() -> None:
    found = recovery_score(5, 10)
    # Wilson's 95 % interval of 5 of 10, as in tables.
    assert (found.lo, found.hi) == (
        pytest.approx(0.2366, abs=1e-4),
        pytest.approx(0.7634, abs=1e-4),
    )
    assert recovery_score(0, 11).lo == 0.0
    assert recovery_score(11, 11).hi == 1.0


def test_rows_are_ranked_within_systems_and_protocol() -> None:
    demo, smoke = toy_result(), toy_result(protocol="smoke")
    assert group_of(demo, "protein-specific") == f"{SAMPLE} · demo@1"
    assert group_of(smoke, "protein-specific") != group_of(demo, "protein-specific")
    other = toy_result(toy_system(OTHER_SAMPLE), trained=(OTHER_SAMPLE,))
    assert group_of(other, "protein-specific") == f"{OTHER_SAMPLE} · demo@1"
    assert counting_systems(other, "multi-protein") == (OTHER_SAMPLE,)
    assert len(counting_systems(demo, "mutants")) == 11


def test_few_trajectories_have_no_rank(tmp_path: Path) -> None:
    system = toy_system(n_trajectories=8, n_frames=8 * 180)
    put(tmp_path, toy_record(), toy_submission(toy_result(system, protocol="smoke")))
    row = read_board(tmp_path).row("toy/one")
    assert row.rank is None
    assert row.unranked_reason == "fewer than 16 trajectories"
    assert row.score is not None


def test_superseded_and_withdrawn_models_are_kept_without_rank(tmp_path: Path) -> None:
    put_model(tmp_path, 1, 0.1, status="superseded", superseded_by="toy/m2", reason="a better one")
    put_model(tmp_path, 2, 0.3)
    put_model(tmp_path, 3, 0.05, status="withdrawn", reason="a mistake")
    board = read_board(tmp_path)
    assert board.row("toy/m2").rank == 1
    assert board.row("toy/m1").unranked_reason == "superseded by toy/m2: a better one"
    assert board.row("toy/m3").unranked_reason == "withdrawn: a mistake"
    (tmp_path / "models/toy/m2.yml").unlink()
    with pytest.raises(ValidationError, match="superseded by a model that is not there"):
        read_board(tmp_path)


def test_the_latest_submission_is_shown_and_earlier_ones_are_kept(tmp_path: Path) -> None:
    later = DAY.replace(day=20)
    put(
        tmp_path,
        toy_record(),
        toy_submission(),
        toy_submission(toy_result(toy_system(share=0.2)), submitted=later),
    )
    row = read_board(tmp_path).row("toy/one")
    assert row.submission.submitted == later
    assert [past.submitted for past in row.history] == [DAY]
    assert row.history[0].score.value < row.score.value


def test_a_result_of_an_older_reference_stays_without_rank(tmp_path: Path) -> None:
    reference = {"version": "v2", "fingerprints": {SAMPLE: toy_hash(9)}}
    put(tmp_path, toy_record(), toy_submission(toy_result(reference=reference)))
    row = read_board(tmp_path).row("toy/one")
    assert row.rank is None
    assert "another reference" in row.unranked_reason


def test_flags_say_what_to_know() -> None:
    spec = {"name": "toy/one", "best_of_n": 4, "seeds": [1, 2, 3]}
    model = toy_result().model.model_copy(update={"spec": spec})
    record = toy_record(uses_native_structure=True, uses_pretrained="an embedding")
    system = toy_system(converged=False, weights_status="weights_unreliable")
    row = row_of(system, record=record, model=model)
    assert set(row.flags) == {
        "best_of_n", "native", "pretrained", "unconverged", "unreliable_weights",
    }  # fmt: skip
    assert (row.best_of_n, row.n_seeds) == (4, 4)
    assert row.cost.ns_per_day == 100.0


@pytest.mark.parametrize("value", ["<b>", -3, 10**40, [1], {"a": 1}, 1.5, True, None])
def test_odd_numbers_in_a_specification_are_ignored(value) -> None:
    spec = {"name": "toy/one", "best_of_n": value, "seeds": value, "trained_on": value}
    model = toy_result().model.model_copy(update={"spec": spec})
    assert row_of(model=model).best_of_n is None


# Reference rows


def reference_rows(folder: Path, target: float = 0.4, **changes) -> Path:
    metrics = {
        name: value.model_copy(update={"target": target}) for name, value in metrics_at(0.1).items()
    }
    title, description = ROWS["md_split_half"]
    row = ReferenceRow(
        name="md_split_half", title=title, description=description, status="scored",
        result=toy_system(metrics=metrics),
    )  # fmt: skip
    data = {
        "system": SAMPLE,
        "reference": toy_result().reference.fingerprints[SAMPLE],
        "protocol": "demo@1",
        "metrics_versions": {name: registry.metric(name).version for name in metrics},
        "seed": 1,
        "suite_version": __version__,
        "rows": (row,),
    }
    path = folder / "reference_rows" / f"{SAMPLE}.json"
    config.write_model(path, ReferenceRows(**(data | changes)))
    return path


def test_reference_rows_are_always_there_and_have_no_rank(tmp_path: Path) -> None:
    board = read_board(tmp_path)
    assert tuple(board.tracks) == TRACKS
    for rows in board.tracks.values():
        assert all(row.reference and row.rank is None for row in rows)
        names = {row.id for row in rows}
        assert set(ROWS) <= names
        published = [row for row in rows if row.unranked_reason == "published, not re-scored"]
        assert len({fact.label for row in published for fact in row.facts}) == len(published) >= 3
        floor = next(row for row in rows if row.id == "md_split_half" and row.group == "published")
        assert {cell.status for cell in floor.systems.values()} == {"not yet run"}
        assert "cgbench leaderboard references" in floor.systems["villin"].reason
        rescored = next(row for row in rows if row.id == "published_trajectories")
        assert "cgbench evaluate --published cg" in rescored.systems["villin"].reason


def test_reference_rows_are_scored_and_outdated_ones_are_not(tmp_path: Path) -> None:
    path = reference_rows(tmp_path)

    def floor():
        rows = read_board(tmp_path).tracks["sampler"]
        return next(row for row in rows if row.id == "md_split_half" and row.group == SAMPLE)

    assert floor().score is not None
    assert floor().systems[SAMPLE].status == "ok"
    reference_rows(tmp_path, reference=toy_hash(3))
    assert floor().score is None
    assert floor().systems[SAMPLE].status == "not yet run"
    path.rename(path.with_name("villin.json"))
    with pytest.raises(IntegrityError, match="another system"):
        read_board(tmp_path)


def test_the_target_is_the_leaderboards_and_not_the_submitters(tmp_path: Path) -> None:
    put(tmp_path, toy_record(), toy_submission(toy_result(toy_system(metrics=metrics_at(0.0)))))
    before = read_board(tmp_path).row("toy/one").score.value
    reference_rows(tmp_path, target=0.9)
    after = read_board(tmp_path).row("toy/one")
    assert after.systems[SAMPLE].metrics["dG_fold"].target == 0.9
    assert after.score.value < before


def test_rescored_trajectories_join_the_rows(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    config.write_model(result, toy_result())
    with pytest.raises(UsageError, match="no reference rows yet"):
        add_rescored(result, tmp_path)
    path = reference_rows(tmp_path)
    assert add_rescored(result, tmp_path) == [SAMPLE]
    assert "published_trajectories" in path.read_text()
    reference_rows(tmp_path, reference=toy_hash(3))
    with pytest.raises(ValidationError, match="another reference"):
        add_rescored(result, tmp_path)


# The command


def test_rank_prints_a_table_and_json(tmp_path: Path) -> None:
    put_model(tmp_path, 1, 0.3)
    put_model(tmp_path, 2, 0.8)
    run = CliRunner().invoke
    text = run(app, ["leaderboard", "rank", "--board", str(tmp_path)], env={"COLUMNS": "200"})
    assert text.exit_code == 0
    assert "toy/m1" in text.output
    found = run(
        app,
        ["leaderboard", "rank", "--board", str(tmp_path), "--json", "--no-references",
         "--track", "protein-specific"],
    )  # fmt: skip
    board = json.loads(found.stdout)
    assert list(board["tracks"]) == ["protein-specific"]
    rows = board["tracks"]["protein-specific"]
    assert [(row["id"], row["rank"]) for row in rows] == [("toy/m1", 1), ("toy/m2", 2)]
    unknown = run(app, ["leaderboard", "rank", "--board", str(tmp_path), "--track", "all"])
    assert isinstance(unknown.exception, UsageError)
    absent = run(app, ["leaderboard", "rank", "--board", str(tmp_path / "none")])
    assert isinstance(absent.exception, UsageError)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no submissions yet" in run(app, ["leaderboard", "rank", "--board", str(empty)]).output
