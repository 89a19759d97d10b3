"""The table of a result in a terminal: whole at 80 columns, each note once, nothing unsaid."""

import io
import re

import pytest
from rich.console import Console
from toy_runs import FIRST, SECOND, toy_row

from cgbench import registry
from cgbench.evaluate import failed
from cgbench.pipeline.compare_tables import comparison_tables
from cgbench.pipeline.results import assemble
from cgbench.pipeline.tables import result_table
from cgbench.results import MetricValue, ModelIdentity, Result, SystemResult
from cgbench.results.comparison import ComparedDifference, ComparedRun, RunComparison

NOTE = "searched on at most 10000 seeded frames and the 1000 of least RMSD"


def every_metric(system: str) -> SystemResult:
    """A system with a value of each metric, as wide as values come."""
    metrics = {
        spec.id: MetricValue(
            value=0.00123, lo=0.000456, hi=0.0432, target=0.123,
            note=NOTE if spec.id.startswith("gdt") else None,
        )
        for spec in registry.metrics()
        if ":" not in spec.id
    }  # fmt: skip
    return toy_row(system).result.model_copy(update={"metrics": metrics})


class _Bundle:
    fingerprint, version = "sha256:" + 64 * "0", "v2"


def result(*systems: SystemResult) -> Result:
    whole = assemble(
        ModelIdentity(name="torchmd-gn/toy", hash=None, kind="potential"),
        {FIRST: toy_row(FIRST)},
        [],
        bundles={FIRST: _Bundle()},
        protocol=None,
        splits={},
        seeds={},
        wall_time=None,
    )
    used = {metric for item in systems for metric in item.metrics}
    return whole.model_copy(update={"systems": systems, "metrics_versions": dict.fromkeys(used, 1)})


def printed(found: Result, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(result_table(found))
    return file.getvalue()


def test_one_line_a_metric_at_80_columns() -> None:
    text = printed(result(every_metric(FIRST)))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.startswith(f"torchmd-gn/toy on {FIRST}")
    lines = text.splitlines()
    for spec in registry.metrics():
        if spec.optional or ":" in spec.id:
            continue
        (line,) = [one for one in lines if one.split()[:1] == [spec.id]]
        assert "0.00123 [4.6e-04, 0.0432]" in line, line
        assert spec.unit in line, line
    assert "…" not in text
    # The reference's value stands beside the arrow.
    assert re.search(r"native_population → 0\.123 ", text)


def test_each_note_once_below_the_table() -> None:
    text = " ".join(printed(result(every_metric(FIRST), every_metric(SECOND))).split())
    assert text.count(NOTE) == 1
    assert f"1: {NOTE}" in text


def test_optional_metrics_are_left_out_and_said() -> None:
    text = printed(result(every_metric(FIRST)))
    optional = [spec.id for spec in registry.metrics() if spec.optional]
    assert optional
    head, _, tail = text.partition("not shown")
    for metric in optional:
        assert metric not in head
        assert metric in tail


def test_systems_have_a_part_of_the_table_each() -> None:
    lost = failed("toy", SECOND, "every replica is lost", seed=1).result
    absent = SystemResult(system="bba", status="missing", reason="run [cgbench download bba]")
    found = result(every_metric(FIRST), lost, absent)
    text = printed(found)
    assert f"on {FIRST}" not in text
    assert re.search(rf"^\s*{FIRST}\s*$", text, re.M)
    assert re.search(rf"{SECOND} +failed +2", text)
    place = re.search(r"bba +missing +(\d+)", text)
    assert place
    assert text.count("every replica is lost") == 1
    # Brackets of a command are no mark-up.
    assert f"{place[1]}: run [cgbench download bba]" in text
    assert re.search(r"rg_w1 ↓ +\S+ \(failed\)", text)


def test_what_is_too_short_is_said() -> None:
    short = every_metric(FIRST).model_copy(
        update={
            "simulation_converged": False,
            "simulation_converged_reason": "too short to say: 0 folding events",
            "converged": False,
        }
    )
    text = printed(result(short))
    assert "simulation: too short to say: 0 folding events" in text
    assert "reference: not converged" in text


@pytest.mark.parametrize("width", [60, 80])
def test_a_metric_that_is_not_installed_is_shown_without_a_unit(width: int) -> None:
    name = "another-package:a_metric_with_a_very_long_name_that_is_not_installed_here"
    metrics = {name: MetricValue(value=0.5, lo=0.4, hi=0.6)}
    item = toy_row(FIRST).result.model_copy(update={"metrics": metrics})
    text = printed(result(item), width)
    assert "0.5 [0.4, 0.6]" in text
    shown = "".join(line.split()[0] for line in text.splitlines()[3:] if line.strip())
    assert name in shown


@pytest.mark.parametrize("kinds", [("paired", "paired"), ("paired", "unpaired")])
def test_a_comparison_of_two_runs_fits_80_columns(kinds: tuple[str, str]) -> None:
    shown = [spec for spec in registry.metrics() if spec.ranked]
    differences = [
        ComparedDifference(
            system=system, n_systems=1, metric=spec.id, unit=spec.unit, direction=spec.direction,
            a="one", b="other", value_a=0.00123, value_b=0.00145, target=None,
            diff=-0.00022, lo=-0.00111, hi=0.00089, kind=kind, significant=False, better=None,
            note=None,
        )
        for system, kind in zip((FIRST, SECOND), kinds, strict=True)
        for spec in shown
    ]  # fmt: skip
    runs = [
        ComparedRun(name=name, model=name, model_hash=None, protocol=None, seeds={}, resamples=True)
        for name in ("one", "other")
    ]
    found = RunComparison(
        runs=runs, systems=(FIRST, SECOND), differences=differences, summary=(), tallies=(),
        ranks={}, notes=(),
    )  # fmt: skip
    file = io.StringIO()
    for table in comparison_tables(found):
        Console(file=file, width=80, color_system=None).print(table)
    lines = file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    for spec in shown:
        own = [line for line in lines if line.split()[:1] == [spec.id]]
        assert len(own) == 2
        assert all("0.00123" in line and "-2.2e-04 [-0.00111, 8.9e-04]" in line for line in own)
    assert sum(line.split() == [FIRST] for line in lines) == 1
    said = "differences are paired" + ("; *: unpaired" if "unpaired" in kinds else "")
    assert any(line.strip() == said for line in lines)
    assert sum("8.9e-04] *" in line for line in lines) == kinds.count("unpaired") * len(shown)
