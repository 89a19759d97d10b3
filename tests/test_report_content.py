"""From scored rows to the page: verdicts, warnings, rows kept, runs that are not whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
from toy_reference import toy_input
from toy_rows import SEED, SYSTEM, bundle, samples, scored, statistics, trajectories

from cgbench.evaluate import failed, reference_statistics, score, write_reference
from cgbench.evaluate.reference import build_from_trajectories
from cgbench.pipeline import beside
from cgbench.pipeline.content import paired_rows, row_warnings, system_section
from cgbench.pipeline.drawn import structures
from cgbench.pipeline.results import ScoredRun, assemble, read_run, write_run
from cgbench.pipeline.run_facts import commands
from cgbench.pipeline.verdict import standings, verdict
from cgbench.results import MetricValue, ModelIdentity, PairedDifference, SystemResult


@pytest.fixture(scope="module")
def reference():
    return beside.reference_rows(statistics(), None)


@pytest.fixture(scope="module")
def good():
    return scored(trajectories(name="good"))


@pytest.fixture(scope="module")
def bad():
    return scored(samples(1.0, name="bad"))


def judge(row, reference, **changes):
    rows = {item.name: item for item in reference}
    return verdict(replace(row, **changes), rows, [], bundle())


def kinds(found):
    return {kind: [s.text for s in found.statements if s.kind == kind] for kind in
            ("right", "wrong", "open", "note")}  # fmt: skip


def test_verdict_tells_a_good_model_from_a_bad_one(good, bad, reference):
    right, wrong = judge(good, reference), judge(bad, reference)
    assert "beyond it" in right.headline
    assert len(kinds(right)["right"]) > len(kinds(right)["wrong"])
    assert len(kinds(wrong)["wrong"]) > len(kinds(wrong)["right"])
    assert any("times the noise floor" in text for text in kinds(wrong)["wrong"])
    native = bad.result.metrics["native_population"]
    assert f"the reference in {100 * native.target:.0f} %" in wrong.headline


def test_a_model_that_never_folds_is_told_although_nothing_is_known_of_its_error(reference):
    never = judge(scored(samples(0.0, name="never")), reference)
    told = [text for text in kinds(never)["open"] if "No interval: no frame is" in text]
    assert any("native basin" in text and "the reference has" in text for text in told)
    assert any("no frame is folded; clipped at 5 kcal/mol" in text for text in told)


def test_a_reference_of_one_trajectory_is_shown_without_noise_floor():
    alone = build_from_trajectories(toy_input(n_trajectories=1, n_frames=3000)[0], n_resamples=4)
    few = reference_statistics(alone, seed=SEED, n_resamples=4)
    model = score(samples(0.5, name="model"), alone, seed=SEED, reference=few)
    rows = [model, *beside.reference_rows(few, 100)]
    assert rows[1].result.status == "missing"
    section = system_section(rows, alone)
    assert section.verdicts
    assert not standings(rows)


def with_metric(row, **values):
    """The row with other values of w1_tic1."""
    value = row.result.metrics["w1_tic1"].model_copy(update=values)
    metrics = {**row.result.metrics, "w1_tic1": value}
    return replace(row, result=row.result.model_copy(update={"metrics": metrics}))


@pytest.mark.parametrize(
    ("value", "lo", "hi", "ideal", "kind", "words"),
    [
        (0.1, 0.05, 0.15, 2.0, "right", "within the noise floor"),
        (0.9, 0.7, 1.1, 2.0, "wrong", "4.5 times the noise floor"),
        (0.9, 0.7, 1.1, 0.8, "wrong", "no better than an ideal chain"),
        (0.4, 0.2, 0.6, 2.0, "open", "reaches down to it"),
        (0.1, 0.05, 0.15, 0.25, "open", "this tells nothing"),
    ],
)
def test_one_distance(good, reference, value, lo, hi, ideal, kind, words):
    rows = {row.name: row for row in reference if row.name != "start_frames"}
    rows["md_split_half"] = with_metric(rows["md_split_half"], value=0.2, lo=0.1, hi=0.3)
    rows["ideal_chain"] = with_metric(rows["ideal_chain"], value=ideal, lo=ideal, hi=ideal)
    found = verdict(with_metric(good, value=value, lo=lo, hi=hi), rows, [], bundle())
    text = next(s for s in found.statements if s.text.startswith("Distance of TIC 1"))
    assert (text.kind, words in text.text) == (kind, True)


def with_values(row, **metrics):
    """The row with other metrics."""
    merged = {**row.result.metrics, **metrics}
    return replace(row, result=row.result.model_copy(update={"metrics": merged}))


@pytest.mark.parametrize(
    ("halves", "kind", "words"),
    [
        ((0.05, 0.25), "wrong", "Its halves alone reach from 0.05 to 0.25"),
        ((0.05, 0.6), "open", "own halves reach from 0.05 to 0.6"),
        ((None, None), "wrong", "the reference has 0.16."),
    ],
)
def test_a_target_is_not_missed_by_less_than_the_noise_floor(good, reference, halves, kind, words):
    value = MetricValue(value=0.5, lo=0.4, hi=0.7, target=0.16)
    noise = MetricValue(value=0.15, lo=halves[0], hi=halves[1], target=0.16)
    rows = {row.name: row for row in reference if row.name != "start_frames"}
    rows["md_split_half"] = with_values(rows["md_split_half"], native_population=noise)
    found = verdict(with_values(good, native_population=value), rows, [], bundle())
    text = next(s for s in found.statements if s.text.startswith("Native population"))
    assert (text.kind, words in text.text) == (kind, True)


def test_every_judged_value_stands_beside_its_noise_floor(good, bad, reference):
    for row in (good, bad):
        statements = judge(row, reference).statements
        told = [item for item in statements if item.text.startswith(("Distance of", "Free-energy"))]
        assert told
        assert all("noise floor" in item.text for item in told)
        listed = [item.text for item in statements if ": Mean free-energy error" in item.text]
        assert all(" against " in text for text in listed)
    # Nothing is "as well" where nothing leads.
    plain = {row.name: row for row in reference}
    for item in verdict(good, plain, [], bundle()).statements:
        if "as well:" in item.text:
            assert any(other.kind == item.kind and other is not item
                       and "noise floor" in other.text
                       for other in verdict(good, plain, [], bundle()).statements)  # fmt: skip


def test_samples_have_no_start_frames_and_pair_with_nothing(good, reference):
    prior = replace(good, name="prior_only")
    starts = replace(next(row for row in reference if row.name == "start_frames"), name="a model")
    sampler = with_values(starts, novelty=MetricValue(value=0.4, lo=0.3, hi=0.5, target=0.5))
    assert any("held still" in text for text in row_warnings([starts, *reference]))
    assert not any("held still" in text for text in row_warnings([sampler, *reference]))
    assert paired_rows([good, prior])
    drawn = with_values(good, novelty=MetricValue(value=0.4))
    assert paired_rows([drawn, prior, replace(good, name="other")]) == paired_rows(
        [replace(good, name="other"), prior]
    )


def test_the_prior_is_set_beside_ranked_metrics_alone(good, reference):
    rows = {row.name: row for row in reference}
    names = ("bioemu_fes_mae", "fes_rmse_paper", "w1_tic1", "rg_w1")
    paired = [
        PairedDifference(metric=name, a="good", b="prior_only", diff=-1.0, lo=-2.0, hi=-0.5)
        for name in names
    ]
    note = kinds(verdict(good, rows, paired, bundle()))["note"]
    assert note == [
        "Against the prior alone, of 2 distances: better in 2 (Distance of TIC 1, "
        "Distance of radius of gyration)."
    ]


def test_marks_and_words_of_the_rows_beside(good, reference):
    rows = [good, *reference, replace(good, name="prior_only (good)")]
    rows.append(replace(good, name="md_replay"))
    marks = standings(rows)[0].marks
    assert {"start_frames", "prior_only (good)", "md_replay"} <= set(marks)
    section = system_section(rows, bundle())
    assert {row.name for row in section.rows if row.description} == {
        row.name for row in rows if row.name != "good"
    }
    shown = [item.name for item in section.surfaces]
    assert {"prior_only (good)", "md_replay"} <= set(shown)
    mirrored = good.result.model_copy(update={"gates": {"handedness": "failed"}})
    beside_, own = (replace(good, name=name, result=mirrored) for name in ("ideal_chain", "own"))
    told = [text for text in row_warnings([own, beside_]) if "handedness" in text]
    assert len(told) == 1
    assert told[0].startswith("own")


def test_a_noise_floor_of_fewer_frames_is_said(good):
    n_frames = good.result.n_frames
    short = replace(
        good, name="short", result=good.result.model_copy(update={"n_frames": n_frames - 1})
    )
    assert any(f"of {n_frames - 1} frames" in text for text in row_warnings([good, short]))
    assert not any("noise floor" in text for text in row_warnings([good]))


def test_held_still_is_no_success(reference):
    rows = {row.name: row for row in reference}
    starts = replace(rows["start_frames"], name="a model")
    found = verdict(starts, rows, [], bundle())
    told = kinds(found)["open"]
    assert any("start frames held still" in text for text in told)
    assert not any(text.startswith("Distance of TIC 1") for text in kinds(found)["right"])


def test_gates_and_failures_lead(good, reference):
    mirrored = good.result.model_copy(update={"gates": {"handedness": "failed"}})
    assert "void" in judge(good, reference, result=mirrored).headline
    lost = failed("lost", SYSTEM, "every frame is lost", seed=SEED)
    assert "every frame is lost" in judge(lost, reference).headline
    short = good.result.model_copy(
        update={"simulation_converged": False, "simulation_converged_reason": "2 events"}
    )
    assert "too short" in judge(good, reference, result=short).headline
    assert any("2 events" in text for text in row_warnings([replace(good, result=short)]))


def test_standings_are_of_ranked_distances(good, reference):
    found = standings([good, *reference])
    assert 3 <= len(found) <= 12
    assert found[0].metric == "w1_tic1"
    for item in found:
        assert item.floor[1] <= item.floor[2]
        assert "good" in item.models
    assert standings(reference) == []


def test_structures_are_superposed_backbones(good, reference):
    found = structures([good, *reference], bundle())
    assert found.backbone
    n_beads = len(bundle().native)
    for _, shown in found.macrostates:
        assert [item.name for item in shown[:2]] == ["native", "reference"]
        assert {item.name for item in shown} <= {"native", "reference", "good"}
        for item in shown:
            assert item.frames.shape[1:] == (4 * n_beads, 3)
            centre = item.frames[:, 1::4].mean(axis=1)
            assert np.abs(centre - bundle().native.mean(axis=0)).max() < 0.05
    assert structures(reference, bundle()) is None


def test_section_has_every_part_and_a_failed_row_takes_none_away(good, reference):
    lost = failed("lost", SYSTEM, "every frame is lost", seed=SEED)
    section = system_section([lost, good, *reference], bundle())
    assert [item.name for item in section.verdicts] == ["lost", "good"]
    assert [item.name for item in section.surfaces][:2] == ["reference", "good"]
    for part in (section.profiles, section.panels, section.local_panels, section.traces,
                 section.contacts, section.dihedrals, section.macrostates):  # fmt: skip
        assert part
    only = system_section([lost, *reference], bundle())
    assert only.structures is None
    assert only.macrostates


def make_run(folder, row, missing=(), name=None):
    result = assemble(
        ModelIdentity(name=name or row.name, hash=None, kind="ensemble"),
        {SYSTEM: row},
        list(missing),
        bundles={SYSTEM: bundle()},
        protocol=None,
        splits={},
        seeds={"resampling": SEED},
        wall_time=None,
    )
    write_run(folder, ScoredRun(result, {SYSTEM: row}))
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with the toy reference, and few resamples so that rows are quick."""
    place = tmp_path / "home" / "references"
    path = place / bundle().version / f"{SYSTEM}.zarr"
    path.parent.mkdir(parents=True)
    write_reference(path, bundle())
    return tmp_path / "home"


def test_reference_rows_are_computed_once(good, reference, home, tmp_path, monkeypatch):
    calls = []

    def rows(statistics, n_frames, progress):
        calls.append(n_frames)
        return reference

    monkeypatch.setattr(beside, "reference_rows", rows)
    monkeypatch.setattr(beside, "reference_statistics", lambda *_, **__: statistics())
    monkeypatch.setattr(
        beside, "write_report", lambda content, path, _: path.write_text(repr(content)) and path
    )
    run = make_run(tmp_path / "run", good)
    first = beside.report_runs([run], tmp_path / "a.html", home=home).read_text()
    assert calls == [good.result.n_frames]
    again = beside.report_runs([run / "result.json"], tmp_path / "b.html", home=home).read_text()
    assert len(calls) == 1
    assert again == first
    kept = run / "beside" / SYSTEM / "ideal_chain.npz"
    kept.write_bytes(kept.read_bytes()[:-1])
    beside.report_runs([run], tmp_path / "c.html", home=home)
    assert len(calls) == 2
    record = json.loads((kept.parent / "rows.json").read_text())
    record["files"] = {"../../../outside.npz": "0" * 64}
    (kept.parent / "rows.json").write_text(json.dumps(record))
    beside.report_runs([run], tmp_path / "d.html", home=home)
    assert len(calls) == 3


def test_missing_and_failed_systems_are_listed(good, reference, home, tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "kept_rows", lambda *_, **__: reference)
    absent = SystemResult(
        system="lambda", status="missing", reason="no reference: 'cgbench reference build lambda'"
    )
    run = make_run(tmp_path / "run", good, [absent])
    page = beside.report_runs([run], tmp_path / "page.html", home=home).read_text()
    assert "cgbench reference build lambda" in page
    assert 'id="absent"' in page
    # Another reference at hand, here the shipped one, takes the drawings away, not the page.
    page = beside.report_runs([run], tmp_path / "page.html", home=tmp_path / "empty").read_text()
    assert "cgbench reference build lambda" in page
    assert "another reference" in page
    assert "<figure" not in page


def test_the_same_model_twice_is_told_apart_and_compared(
    good, reference, home, tmp_path, monkeypatch
):
    monkeypatch.setattr(beside, "kept_rows", lambda *_, **__: reference)
    runs = [make_run(tmp_path / name, good) for name in ("one", "two")]
    page = beside.report_runs(runs, tmp_path / "page.html", home=home).read_text()
    assert "good (one 1)" in page
    assert "good (two 2)" in page
    assert "Differences of the runs" in page
    assert "ranked differences, significantly in favour of" in page
    assert "BioEmu" not in page[page.index('id="comparison"') : page.index('id="system-1"')]


def test_commands_ask_for_the_analysis_that_is_shown(good, tmp_path):
    run = read_run(make_run(tmp_path / "run", good))
    assert not any("--paper" in command for command in commands([run.result]))
    systems = tuple(item.model_copy(update={"paper": object()}) for item in run.result.systems)
    analysed = run.result.model_copy(update={"systems": systems})
    assert "--paper" in commands([analysed])[0]


def test_unknown_metrics_are_shown(good, reference):
    value = MetricValue(value=1.0, note="<b>bold</b>")
    metrics = {**good.result.metrics, "other:<i>": value}
    row = replace(good, result=good.result.model_copy(update={"metrics": metrics}))
    section = system_section([row, *reference], bundle())
    assert section.columns[-1].id == "other:<i>"
    assert section.rows[0].cells["other:<i>"].note == "<b>bold</b>"
