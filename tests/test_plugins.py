"""Metrics of other packages: found by entry point, scored as the suite's own, never fatal."""

import importlib
import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from toy_rows import PROTOCOL, SEED, bundle, samples

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.evaluate import load_plugins, md_split_half, reference_statistics, score
from cgbench.pipeline.compare import compare_runs
from cgbench.pipeline.compare_tables import comparison_tables
from cgbench.pipeline.results import ScoredRun, assemble, read_run, write_run
from cgbench.pipeline.tables import result_table
from cgbench.registry import loader
from cgbench.results import ModelIdentity
from cgbench.results.table import to_frame

MODULE = """
import numpy as np
from cgbench import registry
from cgbench.evaluate import Metric, PluginMetric, Statistic

SPAN = Statistic(
    name="toymetrics:span",
    version=1,
    frames="{frames}",
    kind="bins",
    n_columns=lambda definition: 2,
    measure=lambda frames, definition: {measured},
)


def wide(comparison):
    return {value}


def described(id):
    return registry.MetricSpec(
        id=id, version=3, name="Wide chains", group="thermodynamics", unit="1",
        direction="target", needs=("reference",), ranked=False, primary=False, penalty=None,
        penalty_source=None, good=None, bad=None, threshold_source="none", description="Share.",
    )


WIDE = PluginMetric(described("{id}"), Metric("{id}", wide, statistics=(SPAN,), compared=True))
NOT_ONE = "a string"
"""
RIGHT = {
    "frames": "all",
    "measured": "(frames.end_to_end > 15.0).astype(int)[:, None]",
    "value": 'comparison.model.masses["toymetrics:span"][1]',
    "id": "toymetrics:wide",
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution of one module on the path."""
    monkeypatch.setattr(loader, "_added_metrics", {})

    def installed(points="wide = toymetrics:WIDE", **changes):
        (tmp_path / "toymetrics.py").write_text(MODULE.format(**(RIGHT | changes)))
        facts = tmp_path / "toymetrics-1.0.dist-info"
        facts.mkdir(exist_ok=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toymetrics\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[cgbench.metrics]\n{points}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "toymetrics", raising=False)
        importlib.invalidate_caches()

    yield installed
    sys.modules.pop("toymetrics", None)


def row(**changes):
    ensemble = samples(0.5, n_trajectories=6)
    return score(ensemble, bundle(), protocol=PROTOCOL, seed=SEED, n_resamples=8, **changes)


@pytest.mark.parametrize("frames", ["all", "subset"])
def test_a_metric_of_another_package_is_scored(install, frames):
    install(frames=frames)
    found = row().result.metrics["toymetrics:wide"]
    ensemble = samples(0.5, n_trajectories=6)
    coordinates = np.concatenate(ensemble.trajectories)
    ends = np.linalg.norm(coordinates[:, -1] - coordinates[:, 0], axis=1)
    assert found.value == pytest.approx((ends > 15.0).mean())
    assert found.lo < found.value < found.hi
    # A target is the reference's own value, from the frames that its bundle keeps.
    assert 0.0 < found.target < 1.0
    assert registry.metric("toymetrics:wide").version == 3
    assert row().result.notes == row(workers=1).result.notes
    statistics = reference_statistics(bundle(), seed=SEED, n_resamples=8)
    floor = md_split_half(bundle(), seed=SEED, reference=statistics)
    assert floor.result.metrics["toymetrics:wide"].value == pytest.approx(found.target, abs=0.05)


def test_it_is_void_when_the_gate_is_not_passed(install):
    install()
    mirrored = samples(0.5, n_trajectories=6, mirrored=True)
    found = score(mirrored, bundle(), protocol=PROTOCOL, seed=SEED, n_resamples=4).result
    assert found.gates == {"handedness": "failed"}
    assert found.metrics["toymetrics:wide"].status == "void"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"points": "wide = toymetrics:NOT_THERE"}, "AttributeError"),
        ({"points": "wide = no_such_module:WIDE"}, "ModuleNotFoundError"),
        ({"points": "wide = toymetrics:NOT_ONE"}, "no PluginMetric"),
        ({"points": "narrow = toymetrics:WIDE"}, "another id"),
        ({"id": "rg_w1"}, "another id"),
        ({"measured": "1 / 0"}, "ZeroDivisionError"),
        ({"measured": "np.full((len(frames), 1), 7)"}, "out of range"),
        ({"measured": "1 / 0", "frames": "subset"}, "ZeroDivisionError"),
        ({"value": "1 / 0"}, "ZeroDivisionError"),
        ({"value": "np.zeros(3)"}, "wrong shape"),
    ],
)
def test_what_goes_wrong_is_a_note(install, changes, told):
    install(**changes)
    found = row().result
    assert found.status == "ok"
    assert any(told in note and "another package" in note for note in found.notes), found.notes
    assert not any(":" in metric for metric in found.metrics)
    assert found.metrics["rg_w1"].value is not None


def test_a_stored_result_is_read_with_and_without_the_package(install, tmp_path, monkeypatch):
    install()
    folders = []
    for index, name in enumerate(("first", "second")):
        ensemble = replace(samples(0.2 + 0.5 * index, n_trajectories=6), name=name)
        found = score(ensemble, bundle(), protocol=PROTOCOL, seed=SEED, n_resamples=40)
        scored = {found.result.system: found}
        result = assemble(
            ModelIdentity(name=name, hash=None, kind="sampler"), scored, [],
            bundles={found.result.system: bundle()}, protocol=None, splits={},
            seeds={"evaluation": SEED}, wall_time=1.0,
        )  # fmt: skip
        assert result.metrics_versions["toymetrics:wide"] == 3
        folders.append(tmp_path / name)
        write_run(folders[-1], ScoredRun(result, scored))
    # As in a new process, which has loaded no plug-in yet.
    monkeypatch.setattr(loader, "_added_metrics", {})
    (one,) = compare_runs(folders, metrics=["toymetrics:wide"]).differences
    assert one.target is not None
    # The package is gone.
    (tmp_path / "toymetrics-1.0.dist-info" / "entry_points.txt").write_text("")
    importlib.invalidate_caches()
    monkeypatch.setattr(loader, "_added_metrics", {})
    found = compare_runs(folders, metrics=["toymetrics:wide"])
    assert found.differences[0].better is None
    assert any("the package toymetrics that brings it is not" in note for note in found.notes)
    with pytest.raises(UsageError, match="install the package toymetrics"):
        registry.metric("toymetrics:wide")
    result = read_run(folders[0]).result
    for table in (result_table(result), *comparison_tables(found, everything=True)):
        Console(file=io.StringIO()).print(table)
    assert "toymetrics:wide" in set(to_frame(result).metric)


def test_without_plugins_there_are_none(install):
    found = load_plugins()
    assert (found.metrics, found.statistics, found.notes) == ({}, {}, ())
    with pytest.raises(UsageError, match="needs its name"):
        registry.add_metric(registry.metric("rg_w1"))
