"""From ``sampler.pt`` to files, results, tracks and the structures task, as the commands do it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_ensemble_pipeline import quick_score
from toy_samplers import helix, toy_sampler, toy_structures
from typer.testing import CliRunner

import cgbench.pipeline.evaluate_ensemble as module
from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.evaluate.ensemble_files import read_ensemble
from cgbench.models import TrainedOn
from cgbench.pipeline.evaluate_sampler import evaluate_sampler
from cgbench.pipeline.run_facts import commands, cost_table, models_table
from cgbench.pipeline.sampler_leaks import sampler_leak
from cgbench.pipeline.sampling import draw, open_sampler, sample_systems
from cgbench.pipeline.sequence_models import sequence_models
from cgbench.pipeline.structures_tables import outcome_table
from cgbench.pipeline.structures_task import (
    DomainScore,
    level_score,
    rank_correlation,
    score_structures,
)
from cgbench.results import read_result
from cgbench.samplers import SamplerSpec, TrainedOnStructures, save_sampler
from cgbench.splits import read_split
from cgbench.store import find_split, open_store

SYSTEM = "chignolin-sample-v2"
HASH = "sha256:" + "0" * 64


def trained_on(system: str = SYSTEM, part: str = "train", **changes: str) -> TrainedOn:
    split = read_split(find_split(SYSTEM, "block-v1"))
    store = open_store(SYSTEM)
    facts = {
        "system": system, "split_id": "block-v1", "split_fingerprint": split.fingerprint,
        "store_fingerprint": store.fingerprint, "part": part,
    }  # fmt: skip
    return TrainedOn(**(facts | changes))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "score", quick_score)
    monkeypatch.setattr(module, "report_runs", lambda *_, **__: None)


@pytest.fixture
def sampler(tmp_path: Path) -> Path:
    path = tmp_path / "sampler.pt"
    save_sampler(
        path, toy_sampler(trained_on=(trained_on(),), training_cost_s=12.0, temperature=350.0)
    )
    return path


def test_samples_are_a_file_that_every_part_reads(tmp_path: Path, sampler: Path) -> None:
    out = tmp_path / "s.zarr"
    run = CliRunner().invoke(
        app, ["sample", str(sampler), "--n", "40", "--seed", "3", "--out", str(out), "--json"]
    )
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)["systems"]
    assert [(one["system"], one["n_samples"]) for one in told] == [(SYSTEM, 40)]
    assert told[0]["seconds_per_sample"] > 0
    ensemble = read_ensemble(out, SYSTEM)
    assert (ensemble.n_frames, ensemble.time_ordered) == (40, False)
    drawn = open_sampler(sampler).sampler.structures("YYDPETGTWY", 40, seed=3)
    assert np.allclose(np.concatenate(ensemble.trajectories), drawn)
    assert CliRunner().invoke(app, ["validate", str(out)]).exit_code == 0
    npz = CliRunner().invoke(
        app, ["sample", str(sampler), "--n", "40", "--seed", "3", "--out", str(tmp_path / "s.npz")]
    )
    assert npz.exit_code == 0
    assert np.allclose(
        np.concatenate(read_ensemble(tmp_path / "s.npz", SYSTEM).trajectories), drawn
    )


def test_what_is_drawn_is_kept_until_something_changes(tmp_path: Path, sampler: Path) -> None:
    opened, out = open_sampler(sampler), tmp_path / "s.zarr"
    options: dict[str, Any] = {"temperature": None, "seed": 1, "out": out}
    first = draw(opened, SYSTEM, 20, **options)
    assert draw(opened, SYSTEM, 20, **options) == first
    assert draw(opened, SYSTEM, 20, **(options | {"seed": 2})) != first
    assert draw(opened, SYSTEM, 21, **options).n_samples == 21
    (out / SYSTEM / "zarr.json").unlink()
    assert draw(opened, SYSTEM, 21, **options).n_samples == 21
    assert read_ensemble(out, SYSTEM).n_frames == 21


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "x.txt"],
        ["--temperature", "-1"],
        ["--profile", "chignolin"],
        ["--system", "nothing"],
        ["--system", "chignolin", "--system", "trpcage", "--out", "x.npz"],
    ],
)
def test_samples_that_make_no_sense(sampler: Path, arguments: list[str]) -> None:
    run = CliRunner().invoke(app, ["sample", str(sampler), "--n", "2", *arguments])
    assert isinstance(run.exception, UsageError)


def test_a_sampler_is_scored_as_ensembles_are(tmp_path: Path, sampler: Path, quick: None) -> None:
    run = CliRunner().invoke(
        app, ["evaluate", str(sampler), "--n", "320", "--out", str(tmp_path / "run"), "--json"]
    )
    assert run.exit_code == 0, run.output
    result = read_result(tmp_path / "run" / "result.json")
    assert (result.model.name, result.model.kind, result.protocol) == ("toy", "sampler", None)
    assert result.model.spec is not None
    assert result.model.spec["training_cost_s"] == 12.0
    assert result.seeds["sampling"] == 1
    (system,) = result.systems
    assert (system.status, system.track, system.n_frames) == ("ok", "sampler", 320)
    assert system.leak is not None
    assert system.leak.status == "none"
    kinetic = [one.id for one in registry.metrics() if "time_order" in one.needs]
    assert all(system.metrics[key].status == "n/a" for key in kinetic if key in system.metrics)
    assert system.metrics["w1_tic1"].value is not None
    assert system.models is not None
    assert (system.models.n_models, system.models.measure) == (100, "rmsd")
    assert system.models.representative_tm is None
    assert result.cost is not None
    assert result.cost.seconds_per_sample == result.cost.systems[SYSTEM].seconds_per_sample
    assert (result.cost.training_seconds, result.cost.steps_per_second) == (12.0, None)
    assert (tmp_path / "run" / "sampler.pt").read_bytes() == sampler.read_bytes()
    tables = [cost_table([result]), models_table([result])]
    assert all(table is not None for table in tables)
    assert commands([result])[0].startswith("cgbench evaluate sampler.pt --n 320 --system")
    again = evaluate_sampler(sampler, n=320, out=tmp_path / "run")
    assert again.systems == result.systems


def test_systems_without_a_reference_are_missing_and_say_why(tmp_path: Path, sampler: Path) -> None:
    result = evaluate_sampler(sampler, ["lambda"], n=4, out=tmp_path / "run", home=tmp_path)
    (system,) = result.systems
    assert system.status == "missing"
    assert "cgbench reference build lambda" in str(system.reason)


@pytest.mark.parametrize(
    ("spec", "system", "track", "status"),
    [
        ({"trained_on": (trained_on(),)}, SYSTEM, "sampler", "none"),
        ({"trained_on": (trained_on(part="test"),)}, SYSTEM, "sampler", "marked"),
        ({"trained_on": (trained_on("lambda"),)}, SYSTEM, "leave-one-out", "none"),
        ({"trained_on": (trained_on("chignolin"),)}, SYSTEM, "sampler", "marked"),
        ({}, SYSTEM, "sampler", "unchecked"),
        ({"structures": TrainedOnStructures(split_fingerprint=HASH, n_domains=3)}, SYSTEM,
         "sampler", "unchecked"),
    ],
)  # fmt: skip
def test_tracks_follow_from_what_was_trained_on(
    spec: dict[str, Any], system: str, track: str, status: str
) -> None:
    chosen, leak = sampler_leak(SamplerSpec(name="toy", **spec), system)
    assert (chosen, leak.status) == (track, status)


def test_a_track_that_was_asked_for_refuses(tmp_path: Path, sampler: Path) -> None:
    with pytest.raises(ValidationError, match="not on track leave-one-out"):
        evaluate_sampler(sampler, n=4, out=tmp_path / "run", track="leave-one-out")
    with pytest.raises(UsageError, match="no track of samplers"):
        evaluate_sampler(sampler, n=4, out=tmp_path / "run", track="mutants")
    assert not (tmp_path / "run" / "trajectories.zarr").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--protocol", "smoke"],
        ["--mutants"],
        ["--paper"],
        ["--structures", "nowhere"],
        ["--structures", "x", "--system", "chignolin"],
    ],
)
def test_evaluations_that_make_no_sense(
    tmp_path: Path, sampler: Path, arguments: list[str]
) -> None:
    run = CliRunner().invoke(
        app, ["evaluate", str(sampler), "--out", str(tmp_path / "o"), *arguments]
    )
    assert isinstance(run.exception, UsageError)
    other = CliRunner().invoke(app, ["evaluate", "torchmd-gn/x", "--n", "3"])
    assert isinstance(other.exception, UsageError)


def test_models_of_a_sequence_against_the_native_structure() -> None:
    native = helix(40)
    rng = np.random.default_rng(1)
    near = native[None] + rng.normal(0, 0.3, (6, 40, 3))
    far = helix(40, -170.0)[None] + rng.normal(0, 0.3, (3, 40, 3))
    lost = np.full((1, 40, 3), np.nan)
    found = sequence_models(np.concatenate([far, near, lost]), native, seconds_per_sample=0.1)
    assert (found.n_models, found.n_finite, found.n_clusters) == (10, 9, 2)
    assert found.largest == pytest.approx(6 / 9)
    assert found.representative_tm is not None
    assert found.best_tm >= found.representative_tm > 0.8 > found.mean_tm
    assert found.representative_rmsd < 1.0 < found.mean_rmsd
    alone = sequence_models(helix(12)[None], helix(12))
    assert (alone.n_clusters, alone.representative_tm, alone.measure) == (1, None, "rmsd")


def test_the_structures_task(tmp_path: Path) -> None:
    split = toy_structures(tmp_path / "structures")
    path = tmp_path / "sampler.pt"
    save_sampler(path, toy_sampler())
    folder, out = str(tmp_path / "structures"), tmp_path / "out"
    run = CliRunner().invoke(
        app, ["evaluate", str(path), "--structures", folder, "--n", "6", "--out", str(out)]
    )
    assert run.exit_code == 0, run.output
    for text in ("0.366", "0.446", "published", "cannot be compared", "not trained on structures"):
        assert text in " ".join((run.stdout + run.stderr).split())
    record = json.loads((out / "structures.json").read_text())
    tested = {
        name for part, names in split.parts.items() if part.startswith("test") for name in names
    }
    assert {one["name"] for one in record["domains"]} == tested
    assert all(one["models"]["n_models"] == 6 for one in record["domains"])
    assert record["total"]["n_domains"] == len(tested)
    validated = CliRunner().invoke(app, ["validate", str(out / "structures.json"), folder])
    assert validated.exit_code == 0, validated.output
    # Domains that are done are kept.
    kept = out / "domains" / f"{sorted(tested)[0]}.json"
    content = json.loads(kept.read_text())
    content["score"]["models"]["best_tm"] = 0.125
    kept.write_text(json.dumps(content))
    again = score_structures(path, tmp_path / "structures", n=6, out=out)
    assert any(one.models and one.models.best_tm == 0.125 for one in again.domains)
    forced = score_structures(path, tmp_path / "structures", n=6, out=out, force=True)
    assert forced.total.best_tm == record["total"]["best_tm"]
    assert outcome_table(forced).row_count == 7


def test_a_task_that_no_domain_can_be_modelled_of(tmp_path: Path) -> None:
    toy_structures(tmp_path / "structures")
    broken = toy_sampler()
    broken.network.residue.weight.data.fill_(1e30)
    broken.network.residue.bias.data.fill_(1e38)
    save_sampler(tmp_path / "sampler.pt", broken)
    with pytest.raises(SimulationError, match="no test domain could be modelled"):
        score_structures(tmp_path / "sampler.pt", tmp_path / "structures", n=4, out=tmp_path / "o")
    with pytest.raises(UsageError, match="too few models"):
        score_structures(tmp_path / "sampler.pt", tmp_path / "structures", n=1, out=tmp_path / "o")


def test_means_and_the_correlation_of_confidence() -> None:
    near = sequence_models(helix(40)[None], helix(40))
    far = sequence_models(helix(40, -170.0)[None], helix(40))
    scores = [
        DomainScore(name=name, code="1.1.1.1", level="C", n_residues=40, models=models)
        for name, models in (("a", near), ("b", far), ("c", None))
    ]
    assert level_score(scores).n_domains == 2
    assert level_score(scores).tm == pytest.approx(
        (near.representative_tm + far.representative_tm) / 2
    )
    assert level_score([]).tm is None
    assert rank_correlation([1, 2, 3], [0.9, 0.5, 0.1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 2, 3], [0.5, 0.5, 0.4, None]) == pytest.approx(-1.0)
    assert rank_correlation([1, 2], [0.1, 0.2]) is None
    assert rank_correlation([1, 1, 1], [0.1, 0.2, 0.3]) is None


def test_several_systems_go_into_one_file(tmp_path: Path, sampler: Path) -> None:
    opened, out = open_sampler(sampler), tmp_path / "all.zarr"
    records = sample_systems(opened, ["chignolin", "trpcage"], 3, out=out)
    assert [one.system for one in records] == ["chignolin", "trpcage"]
    assert read_ensemble(out, "trpcage").trajectories[0].shape[1:] == (20, 3)
    with pytest.raises(UsageError, match="holds one system"):
        sample_systems(opened, ["chignolin", "trpcage"], 3, out=tmp_path / "all.npz")


def test_published_numbers_are_those_that_were_published() -> None:
    rows = registry.sampler_constants().structures.published
    assert [(row.total, row.C, row.A, row.T, row.H) for row in rows] == [
        (0.366, 0.274, 0.361, 0.331, 0.431),
        (0.248, 0.198, 0.245, 0.254, 0.263),
        (0.335, 0.229, 0.282, 0.278, 0.446),
    ]
    assert registry.sampler_constants().models.per_sequence == 100
    page = (Path(__file__).parent.parent / "docs" / "structures-task.md").read_text()
    for row in rows:
        numbers = [f"{value:.3f}" for value in (row.total, row.C, row.A, row.T, row.H)]
        assert f"| {' | '.join(numbers)} |" in page
