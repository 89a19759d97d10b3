"""Tables of results for the terminal."""

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from cgbench import registry
from cgbench.models.conformance import ConformanceReport
from cgbench.pipeline.comparable import known_metric
from cgbench.pipeline.demo import DemoOutcome
from cgbench.report import Cell, cell_text, number
from cgbench.results import MetricValue, Result
from cgbench.results.mutants import MutantsOutcome, VariantOutcome

if TYPE_CHECKING:
    from cgbench.samplers import SamplerConformanceReport

_ARROWS = {"min": "↓", "max": "↑", "target": "→"}

#: What fits a terminal; the report has the rest.
_DEMO_METRICS = ("force_mse", "rg_w1", "dihedral_js", "w1_tic1", "fes_rmse")


def _text(value: MetricValue | None) -> str:
    if value is None:
        return "n/a"
    text = cell_text(Cell(value.value, value.lo, value.hi))
    return f"{text} ({value.status})" if value.status in ("failed", "void") else text


def _heading(metric: str) -> str:
    spec = registry.metric(metric)
    return f"{metric} {_ARROWS[spec.direction]}\n{spec.unit or '–'}"


def _two_lines(value: MetricValue | None) -> str:
    """Return value and interval on lines of their own: five columns then fit 80 characters."""
    if value is None or value.value is None:
        return "n/a"
    lines = [number(value.value)]
    if value.lo is not None and value.hi is not None:
        lines.append(f"{value.lo:.2g}…{value.hi:.2g}")
    if value.status != "ok":
        lines.append(value.status)
    return "\n".join(lines)


def demo_table(outcome: DemoOutcome) -> Table:
    """Return the demo's rows with the metrics that fit a terminal."""
    table = Table(
        title="chignolin-sample, value and 95 % interval",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("row", overflow="fold", max_width=18)
    for metric in _DEMO_METRICS:
        table.add_column(_heading(metric), justify="right", overflow="fold")
    for row in outcome.rows:
        table.add_row(row.name, *(_two_lines(row.metrics.get(metric)) for metric in _DEMO_METRICS))
    return table


def paired_table(outcome: DemoOutcome) -> Table:
    """Return the paired differences to the prior alone."""
    table = Table(
        title="paired differences, first minus second",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("metric", "first", "second"):
        table.add_column(name, overflow="fold")
    table.add_column("difference [95 % interval]", justify="right", no_wrap=True)
    for item in outcome.paired:
        if item.metric in _DEMO_METRICS:
            interval = f"[{number(item.lo)}, {number(item.hi)}]"
            table.add_row(item.metric, item.a, item.b, f"{number(item.diff)} {interval}")
    return table


def result_table(result: Result) -> Table:
    """Return the metrics of a result, one line each, and how they are to be read below them.

    Metrics that are there only for comparison with numbers published elsewhere are left out, and
    the table says so.
    """
    alone = result.systems[0].system if len(result.systems) == 1 else None
    table = Table(
        title=result.model.name if alone is None else f"{result.model.name} on {alone}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        # Room for what is said below it.
        min_width=78,
    )
    # Where it is tight a long name of another package's metric is folded, and never a number.
    table.add_column("metric", overflow="fold")
    table.add_column("value [95 % interval]", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("note", justify="right", no_wrap=True)
    notes: dict[str, int] = {}
    left_out: dict[str, None] = {}

    def noted(text: str | None) -> str:
        return "" if not text else str(notes.setdefault(text, len(notes) + 1))

    for item in result.systems:
        if alone is None:
            table.add_section()
        if alone is None or item.status != "ok":
            state = "" if item.status == "ok" else item.status
            table.add_row(item.system, state, "", noted(item.reason))
        for metric, value in item.metrics.items():
            spec = known_metric(metric)
            if spec is not None and spec.optional:
                left_out[metric] = None
                continue
            arrow, unit = ("", "") if spec is None else (_ARROWS[spec.direction], spec.unit)
            if spec is not None and spec.direction == "target" and value.target is not None:
                arrow += f" {number(value.target)}"
            # What made a whole system fail stands beside its name.
            note = None if item.status == "failed" and value.note == item.reason else value.note
            table.add_row(f"{metric} {arrow}".rstrip(), _text(value), unit, noted(note))
    lines = [f"{place}: {text}" for text, place in notes.items()]
    lines += [*_tracks(result), *_convergence(result)]
    if left_out:
        lines.append(f"not shown, only for comparison elsewhere: {', '.join(left_out)}")
    table.caption = Text("\n".join(lines)) if lines else None
    return table


def _tracks(result: Result) -> list[str]:
    """Return the track of each system, and what was trained on and tested on."""
    lines = []
    for item in result.systems:
        where = "" if len(result.systems) == 1 else f"{item.system}: "
        if item.track is not None:
            lines.append(f"{where}track: {item.track}")
        if item.leak is not None:
            lines += [f"{where}{sentence}" for sentence in item.leak.sentences]
    return lines


def _convergence(result: Result) -> list[str]:
    """Return what is too short or not converged, for the systems that are so."""
    lines = []
    for item in result.systems:
        where = "" if len(result.systems) == 1 else f"{item.system}: "
        if item.simulation_converged is False:
            reason = item.simulation_converged_reason or "not converged"
            lines.append(f"{where}simulation: {reason}")
        if item.converged is False:
            lines.append(f"{where}reference: not converged; populations are against this ensemble")
    return lines


def mutants_tables(outcome: MutantsOutcome) -> list[Table]:
    """Return the tables of the mutants' test: the variants, and the controls of their parents."""
    variants = Table(title=outcome.model, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("variant", "stays"):
        variants.add_column(name, no_wrap=True)
    variants.add_column("median Q", justify="right")
    for name in ("recovered", "controls", "note"):
        variants.add_column(name, overflow="fold")
    parents = {one.parent: one for one in outcome.parents}
    for one in outcome.variants:
        unfold = parents[one.parent].controls_unfold if one.parent in parents else None
        variants.add_row(
            one.key,
            {"stays": "yes", "unfolds": "no"}.get(one.status, one.status),
            "" if one.median_q is None else f"{one.median_q:.2f}",
            _recovered(one),
            {True: "unfold", False: "stay", None: "n/a"}[unfold],
            (one.reason or "").splitlines()[0] if one.reason else "",
        )
    variants.caption = f"{outcome.recovered} of {outcome.tested} tested variants count as recovered"
    variants.caption_justify = "left"
    controls = Table(title="controls", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("parent", "control", "status"):
        controls.add_column(name, no_wrap=True)
    controls.add_column("median Q", justify="right")
    controls.add_column("note", overflow="fold")
    for parent in outcome.parents:
        for control in parent.controls:
            controls.add_row(
                parent.parent,
                control.name,
                control.status,
                "" if control.median_q is None else f"{control.median_q:.2f}",
                (control.reason or "").partition("\n")[0],
            )
    return [variants, controls]


def _recovered(one: VariantOutcome) -> str:
    if one.recovered is None:
        return "n/a"
    share = f"{one.reached_native} of {one.unfolded_starts}"
    if not one.recovered:
        return f"no ({share})"
    return f"yes ({share})" if one.counts else f"does not count ({share})"


def conformance_table(report: "ConformanceReport | SamplerConformanceReport") -> Table:
    """Return the conformance checks with measured value and bound."""
    table = Table(title="conformance", title_justify="left")
    for name in ("check", "passed"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "bound"):
        table.add_column(name, justify="right")
    table.add_column("detail")
    for item in report.checks:
        table.add_row(
            item.name,
            "yes" if item.passed else "NO",
            number(item.value),
            number(item.bound),
            item.detail,
        )
    return table
