"""Comparisons of runs: paired and unpaired differences, whom they favour, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_runs import FIRST, SECOND

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import ForceErrors, Scored, failed, write_scored
from cgbench.evaluate.differences import (
    interval_difference,
    mean_difference,
    row_difference,
)
from cgbench.pipeline.compare import compare_runs
from cgbench.pipeline.compare_tables import comparison_tables
from cgbench.pipeline.results import ScoredRun, assemble, write_run
from cgbench.results import MetricValue, ModelIdentity, SystemResult

FINGERPRINT = "sha256:" + "0" * 64
N = 200


def row(name, system=FIRST, *, noise=0.05, own=0.01, seed=1, starts=32, **values):
    """A row whose resamples share the noise of its trajectories and have some of their own."""
    shared = np.random.default_rng([seed, starts, len(system)]).normal(0, noise, N)
    private = np.random.default_rng(list(name.encode())).normal(0, own, (len(values), N))
    resamples = {
        metric: value + shared + private[index]
        for index, (metric, value) in enumerate(values.items())
    }
    metrics = {
        metric: MetricValue(
            value=value, lo=value - 1.96 * noise, hi=value + 1.96 * noise,
            target=0.5 if registry.metric(metric).direction == "target" else None,
        )
        for metric, value in values.items()
    }  # fmt: skip
    result = SystemResult(
        system=system, status="ok", metrics=metrics, n_trajectories=starts, n_frames=1
    )
    return Scored(name, result, seed, starts, resamples)


class Bundle:
    fingerprint = FINGERPRINT
    version = "v2"


class Other(Bundle):
    fingerprint = "sha256:" + "1" * 64


def save(folder, rows, *, protocol="standard", bundle=Bundle, changes=None):
    """Write rows as a run folder and return it."""
    scored = {item.result.system: item for item in rows}
    result = assemble(
        ModelIdentity(name=rows[0].name, hash=FINGERPRINT, kind="potential"),
        scored, [], bundles=dict.fromkeys(scored, bundle()),
        protocol=None if protocol is None else registry.protocol(protocol),
        splits={}, seeds={"simulation": rows[0].seed}, wall_time=1.0,
    )  # fmt: skip
    write_run(folder, ScoredRun(result.model_copy(update=changes or {}), scored))
    return folder


def only(found, **wanted):
    (item,) = [
        one for one in found.differences
        if all(getattr(one, key) == value for key, value in wanted.items())
    ]  # fmt: skip
    return item


def test_common_noise_cancels_on_the_same_starts(tmp_path):
    a = save(tmp_path / "a", [row("a", rg_w1=1.00)])
    b = save(tmp_path / "b", [row("b", rg_w1=1.06)])
    paired = only(compare_runs([a, b]), metric="rg_w1")
    assert (paired.kind, paired.significant, paired.better) == ("paired", True, "a")
    assert paired.diff == pytest.approx(-0.06)
    assert paired.lo < -0.06 < paired.hi
    # The same values of other seeds: the common noise is in both, and nothing can be said.
    c = save(tmp_path / "c", [row("c", rg_w1=1.06, seed=2)])
    unpaired = only(compare_runs([a, c]), metric="rg_w1")
    assert (unpaired.kind, unpaired.significant, unpaired.better) == ("unpaired", False, None)
    assert "seeds 1 and 2" in unpaired.note
    assert unpaired.hi - unpaired.lo > 3 * (paired.hi - paired.lo)
    # The interval is that of two independent normal errors of 0.05.
    assert unpaired.hi - unpaired.lo == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(2), rel=0.15)


def test_the_direction_of_a_metric_says_who_is_better(tmp_path):
    a = save(
        tmp_path / "a", [row("a", noise=0.02, rg_w1=1.0, coverage=0.5, native_population=0.30)]
    )
    b = save(
        tmp_path / "b", [row("b", noise=0.02, rg_w1=2.0, coverage=0.9, native_population=0.58)]
    )
    found = compare_runs([a, b])
    assert only(found, metric="rg_w1").better == "a"
    assert only(found, metric="coverage").better == "b"
    target = only(found, metric="native_population")
    # 0.30 is 0.20 from the target of 0.5, 0.58 is 0.08 from it.
    assert target.target == 0.5
    assert target.diff == pytest.approx(0.12)
    assert target.better == "b"
    swapped = only(compare_runs([b, a]), metric="native_population")
    assert (swapped.diff, swapped.better) == (pytest.approx(-0.12), "b")


def test_rows_without_common_starts_are_not_paired(tmp_path):
    a = save(tmp_path / "a", [row("a", rg_w1=1.0)])
    fewer = save(tmp_path / "b", [row("b", rg_w1=1.06, starts=16)])
    samples = save(tmp_path / "c", [row("c", rg_w1=1.06)], protocol=None)
    assert "32 and 16 trajectories" in only(compare_runs([a, fewer]), metric="rg_w1").note
    found = compare_runs([a, samples])
    assert only(found, metric="rg_w1").kind == "unpaired"
    assert "no protocol" in found.notes[0]


def test_result_files_alone_compare_by_their_intervals(tmp_path):
    a = save(tmp_path / "a", [row("a", rg_w1=1.0)])
    b = save(tmp_path / "b", [row("b", rg_w1=1.5)])
    for folder in (a, b):
        (tmp_path / f"{folder.name}.json").write_bytes((folder / "result.json").read_bytes())
    item = only(compare_runs([tmp_path / "a.json", tmp_path / "b.json"]), metric="rg_w1")
    assert (item.kind, item.better) == ("intervals", "a")
    assert item.hi - item.lo == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(2))
    # A result.json beside its rows is its folder.
    assert only(compare_runs([a / "result.json", b]), metric="rg_w1").kind == "paired"


def test_what_must_not_be_compared_is_refused(tmp_path):
    a = save(tmp_path / "a", [row("a", rg_w1=1.0, coverage=0.5)])
    reference = save(tmp_path / "b", [row("b", rg_w1=1.0)], bundle=Other)
    protocol = save(tmp_path / "c", [row("c", rg_w1=1.0)], protocol="smoke")
    versions = {"rg_w1": 99, "coverage": registry.metric("coverage").version}
    version = save(
        tmp_path / "d", [row("d", rg_w1=1.0, coverage=0.5)], changes={"metrics_versions": versions}
    )
    for other, told in (
        (reference, "different references"),
        (protocol, "different protocols"),
        (version, "different versions of rg_w1"),
    ):
        with pytest.raises(ValidationError, match=told):
            compare_runs([a, other])
    assert compare_runs([a, version], metrics=["coverage"]).differences
    elsewhere = save(tmp_path / "e", [row("e", SECOND, rg_w1=1.0)])
    for arguments, told in (
        ([a], "two runs or more"),
        ([a, elsewhere], "no system was scored in two"),
        ([a, tmp_path / "nowhere"], "no run folder"),
    ):
        with pytest.raises(UsageError, match=told):
            compare_runs(arguments)
    with pytest.raises(UsageError, match="no such metric"):
        compare_runs([a, a], metrics=["rg_w2"])
    with pytest.raises(UsageError, match="none of the runs has it"):
        compare_runs([a, a], metrics=["js_2d"])
    with pytest.raises(UsageError, match="not scored in two"):
        compare_runs([a, a], systems=[SECOND])


def test_a_row_that_is_not_of_its_result_is_refused(tmp_path):
    a = save(tmp_path / "a", [row("a", rg_w1=1.0)])
    write_scored(a / "scored" / f"{FIRST}.npz", row("a", rg_w1=3.0))
    with pytest.raises(IntegrityError, match="not the row"):
        compare_runs([a, a])


def test_a_failed_model_loses_without_an_interval(tmp_path):
    a = save(tmp_path / "a", [row("a", rg_w1=1.0)])
    b = save(tmp_path / "b", [failed("b", FIRST, "every frame is lost", seed=1)])
    item = only(compare_runs([a, b]), metric="rg_w1")
    assert (item.better, item.significant, item.lo) == ("a", None, None)
    assert "b failed" in item.note


def test_a_void_score_favours_nobody(tmp_path):
    bad = row("b", rg_w1=0.1)
    void = bad.result.metrics["rg_w1"].model_copy(update={"status": "void"})
    result = bad.result.model_copy(update={"metrics": {"rg_w1": void}})
    bad = Scored(bad.name, result, bad.seed, bad.n_trajectories, bad.resamples)
    found = compare_runs([save(tmp_path / "a", [row("a", rg_w1=1.0)]),
                          save(tmp_path / "b", [bad])])  # fmt: skip
    item = only(found, metric="rg_w1")
    assert item.better is None
    assert "void for b" in item.note


def test_a_value_that_is_a_bound_has_a_difference_without_an_interval(tmp_path):
    bound = row("b", dG_fold=5.0)
    value = bound.result.metrics["dG_fold"].model_copy(update={"lo": None, "hi": None})
    bound = replace(bound, result=bound.result.model_copy(update={"metrics": {"dG_fold": value}}))
    found = only(
        compare_runs(
            [save(tmp_path / "a", [row("a", dG_fold=1.0)]), save(tmp_path / "b", [bound])]
        ),
        metric="dG_fold",
    )
    assert found.diff == pytest.approx(-4.0)
    assert (found.lo, found.hi, found.significant, found.better) == (None,) * 4
    assert "is a bound" in found.note


def test_over_systems_the_mean_has_less_noise(tmp_path):
    def both(name, first, second):
        systems = ((FIRST, first), (SECOND, second))
        return [row(name, key, own=0.05, rg_w1=value) for key, value in systems]

    a = save(tmp_path / "a", both("a", 1.0, 1.0))
    b = save(tmp_path / "b", both("b", 1.2, 1.1))
    found = compare_runs([a, b])
    (mean,) = found.summary
    assert (mean.system, mean.n_systems, mean.better) == (None, 2, "a")
    assert mean.diff == pytest.approx(-0.15)
    widths = [item.hi - item.lo for item in found.differences]
    assert mean.hi - mean.lo == pytest.approx(np.linalg.norm(widths) / 2, rel=0.25)
    (tally,) = found.tallies
    assert tally.a_better + tally.undecided == 2


def test_ranks_count_the_significantly_better(tmp_path):
    runs = [
        save(tmp_path / name, [row(name, rg_w1=value)])
        for name, value in (("a", 1.0), ("b", 1.005), ("c", 2.0))
    ]
    found = compare_runs(runs)
    assert found.ranks == {FIRST: {"rg_w1": {"a": 1, "b": 1, "c": 3}}}
    few = [save(tmp_path / f"few-{name}", [row(name, rg_w1=value, starts=8)])
           for name, value in (("a", 1.0), ("c", 2.0))]  # fmt: skip
    assert compare_runs(few).ranks == {}


def forces(squared, force_map="optimal"):
    squared = np.asarray(squared, dtype=np.float64)
    count = np.full(len(squared), 300)
    return ForceErrors(force_map, np.arange(len(squared)), squared, squared / 10.0, count)


def with_forces(name, errors):
    base = row(name, rg_w1=1.0)
    value = MetricValue(value=float(errors.squared.sum() / errors.count.sum()))
    result = base.result.model_copy(update={"metrics": {"force_mse": value}})
    return Scored(name, result, 1, 32, {}, force_errors=errors)


def test_force_errors_pair_by_test_trajectory_and_never_across_maps():
    noise = np.random.default_rng(0).normal(3000.0, 500.0, 20)
    a, b = with_forces("a", forces(noise)), with_forces("b", forces(noise * 1.02))
    found = row_difference(a, b, "force_mse")
    assert (found.kind, found.significant) == ("paired", True)
    other = with_forces("c", forces(noise[:-1] * 1.02))
    assert row_difference(a, other, "force_mse").kind == "unpaired"
    assert not row_difference(a, other, "force_mse").significant
    with pytest.raises(ValidationError, match="different force maps"):
        row_difference(a, with_forces("d", forces(noise, "slice")), "force_mse")


def test_equal_rows_resampled_together_do_not_differ():
    a, b = row("a", rg_w1=1.0, own=0.0), row("b", rg_w1=1.0, own=0.0)
    assert row_difference(a, b, "rg_w1").significant is False
    # Taken as independent, the same resamples are not subtracted from themselves.
    apart = row_difference(a, b, "rg_w1", same_starts=False)
    assert apart.hi - apart.lo == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(2), rel=0.15)
    assert mean_difference([]) is None
    with pytest.raises(ValidationError, match="two values"):
        interval_difference(MetricValue(status="n/a"), MetricValue(value=1.0))


def test_false_positives_are_as_rare_as_the_level_says():
    """Independent rows of one truth: 95 % intervals exclude zero in about 5 % of the cases."""
    generator = np.random.default_rng(5)
    hits = 0
    for index in range(400):
        truth = [1.0 + generator.normal(0, 0.05) for _ in range(2)]
        rows = [
            row(f"{index}-{side}", rg_w1=value, noise=0.0, own=0.05, seed=side)
            for side, value in enumerate(truth)
        ]
        hits += bool(row_difference(*rows, "rg_w1").significant)
    assert 8 <= hits <= 36


def test_the_command_prints_and_writes(tmp_path, capsys):
    a = save(tmp_path / "a", [row("model", rg_w1=1.0, js_2d=0.5)])
    b = save(tmp_path / "b", [row("model", rg_w1=2.0, js_2d=0.5)])
    out = tmp_path / "compare.json"
    app(["compare", str(a), str(b), "--json", "--out", str(out)], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(out.read_text())
    # One model twice: the folders tell which is which.
    assert [run["name"] for run in told["runs"]] == ["model (a)", "model (b)"]
    app(["compare", str(a), str(b), "--metric", "rg_w1"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "model (a)" in shown
    assert "js_2d" not in shown
    tables = comparison_tables(compare_runs([a, b, a]), everything=True)
    assert [table.row_count for table in tables] == [6, 3]


def test_paths_may_be_relative(tmp_path, monkeypatch):
    save(tmp_path / "a", [row("m", rg_w1=1.0)])
    monkeypatch.chdir(tmp_path / "a")
    assert compare_runs([Path(), Path("result.json")]).runs[1].name == "m (a) #2"
