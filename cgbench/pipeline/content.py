"""Turns scored rows into what a report page shows."""

from collections.abc import Mapping, Sequence

import numpy as np

from cgbench import registry
from cgbench.evaluate import (
    COMPARED,
    FORCE_METRICS,
    ReferenceBundle,
    Scored,
    can_pair,
    moved,
    paired_difference,
)
from cgbench.report import (
    Cell,
    Column,
    Curve,
    Difference,
    MacrostateRow,
    Panel,
    ReportContent,
    Row,
    SystemSection,
)
from cgbench.results import PairedDifference, Result, SystemResult

#: Rows that are shown beside models and are not models themselves.
REFERENCE_ROWS = ("md_split_half", "start_frames", "prior_only", "native_constant", "ideal_chain")

_PANELS = {
    "tic1": ("TIC 1", ""),
    "tic2": ("TIC 2", ""),
    "rg": ("radius of gyration", "Å"),
    "end_to_end": ("end-to-end distance", "Å"),
    "q": ("native contacts Q", ""),
    "rmsd": ("RMSD to native", "Å"),
}


def is_model(row: Scored) -> bool:
    """Return whether a row is a model, not a reference row."""
    return row.name not in REFERENCE_ROWS


def paired_rows(rows: Sequence[Scored]) -> list[PairedDifference]:
    """Return paired differences of every model to ``prior_only``, and of models to each other."""
    models = [row for row in rows if is_model(row)]
    baselines = [row for row in rows if row.name == "prior_only"]
    pairs = [(model, baseline) for model in models for baseline in baselines]
    pairs += [(a, b) for index, a in enumerate(models) for b in models[index + 1 :]]
    return [
        paired_difference(a, b, metric)
        for a, b in pairs
        for metric in (*FORCE_METRICS, *COMPARED)
        if can_pair(a, b, metric)
    ]


def reference_warnings(bundle: ReferenceBundle) -> list[str]:
    """Say how far a reference can be trusted."""
    facts = bundle.metadata
    folded = facts.folded_population
    least = registry.constants().minimum_events
    if bundle.converged:
        return []
    return [
        f"The reference is not converged: its trajectories hold {facts.n_folding} folding and "
        f"{facts.n_unfolding} unfolding events, and at least {least} of each are asked for. Its "
        f"folded population is {folded.value:.2f} with a 95 % interval from {folded.lo:.2f} to "
        f"{folded.hi:.2f}. Free energies, populations and distances along the slow coordinates "
        "are therefore against this finite ensemble: read them beside md_split_half, the "
        "difference between two halves of the reference itself. They decide nothing.",
        facts.timescale_statement,
    ]


def row_warnings(rows: Sequence[Scored]) -> list[str]:
    """Say what is unusual about how rows were simulated and weighted."""
    found = []
    starts = next((row for row in rows if row.name == "start_frames"), None)
    for row in rows:
        result = row.result
        if result.status != "ok":
            found.append(f"{row.name}: {result.status}, {result.reason}")
        if result.weights_status == "weights_unreliable":
            found.append(
                f"{row.name}: every frame counts the same, because {result.weights_reason}"
            )
        if result.dead_fraction:
            found.append(f"{row.name}: {100 * result.dead_fraction:.1f} % of the frames are lost")
        if result.gates.get("handedness") == "failed":
            found.append(
                f"{row.name}: native-like frames have the wrong handedness; scores are void"
            )
        if starts is not None and is_model(row) and (same := moved(row, starts)):
            found.append(
                f"{row.name} cannot be told from its start frames held still in "
                f"{', '.join(same)}: the run is too short for a statement about them."
            )
    return found


def verdicts(rows: Sequence[Scored], differences: Sequence[PairedDifference]) -> list[str]:
    """Say in which metrics each model differs from the prior alone, given the paired rows."""
    found = []
    for row in (row for row in rows if is_model(row)):
        own = [item for item in differences if item.a == row.name and item.b == "prior_only"]
        minimised = [item for item in own if registry.metric(item.metric).direction == "min"]
        better = [item.metric for item in minimised if item.hi < 0]
        worse = [item.metric for item in minimised if item.lo > 0]
        open_ = [item.metric for item in minimised if not item.significant]
        if not minimised:
            continue
        text = f"{row.name} against the prior alone: better in {', '.join(better) or 'nothing'}"
        if worse:
            text += f"; worse in {', '.join(worse)}"
        if open_:
            text += f"; no significant difference in {', '.join(open_)}"
        found.append(text + ".")
    return found


def _columns(rows: Sequence[Scored]) -> list[Column]:
    used = {metric for row in rows for metric in row.result.metrics}
    return [
        Column(spec.id, spec.id, spec.unit, spec.direction, spec.description)
        for spec in registry.metrics()
        if spec.id in used
    ]


def _row(row: Scored) -> Row:
    cells = {
        metric: Cell(value.value, value.lo, value.hi, value.note, value.status)
        for metric, value in row.result.metrics.items()
    }
    return Row(row.name, "model" if is_model(row) else "reference row", cells)


def _panels(drawn: Sequence[Scored]) -> list[Panel]:
    panels = []
    for key, (title, unit) in _PANELS.items():
        curves: list[Curve] = []
        for row in drawn:
            if row.display is None:
                continue
            marginal = row.display.marginals[key]
            x = 0.5 * (marginal.edges[1:] + marginal.edges[:-1])
            if not curves:
                curves.append(Curve("reference", x, marginal.reference, is_reference=True))
            curves.append(Curve(row.name, x, marginal.model))
        if curves:
            panels.append(Panel(title, unit, tuple(curves)))
    return panels


def _macrostates(drawn: Sequence[Scored]) -> list[MacrostateRow]:
    shown = [(row.name, row.display.macrostates) for row in drawn if row.display is not None]
    if not shown:
        return []
    return [
        MacrostateRow(
            index=state.index,
            native=state.native,
            reference_population=state.reference_population,
            reference_rmsd=float("nan") if state.reference_rmsd is None else state.reference_rmsd,
            populations={name: states[place].model_population for name, states in shown},
        )
        for place, state in enumerate(shown[0][1])
    ]


def system_section(
    rows: Sequence[Scored], bundle: ReferenceBundle, missing: Sequence[str] = ()
) -> SystemSection:
    """Return the section of one system: its rows against its reference."""
    entry = registry.system(bundle.system)
    differences = paired_rows(rows)
    surfaces = [
        (row.name, row.display.fes_model, row.display) for row in rows if row.display is not None
    ]
    maps = [(name, np.where(np.isfinite(values), values, np.nan)) for name, values, _ in surfaces]
    reference = np.where(np.isfinite(bundle.fes), bundle.fes, np.nan)
    # Held-still and single structures are points on a map and spikes in a marginal.
    drawn = [row for row in rows if row.name not in ("native_constant", "start_frames")]
    facts = bundle.metadata
    return SystemSection(
        system=bundle.system,
        title=f"{entry.name} ({bundle.system})",
        verdicts=verdicts(rows, differences),
        warnings=[*reference_warnings(bundle), *row_warnings(rows), *missing],
        facts={
            "sequence": bundle.sequence,
            "reference": f"{facts.n_frames} frames in {facts.n_trajectories} trajectories, every "
            f"{facts.frame_interval:g} ps, {facts.temperature:g} K",
            "reference fingerprint": bundle.fingerprint,
            "store fingerprint": bundle.store_fingerprint,
            "TICA lag": f"{facts.analysis.tica_lag_ps:g} ps",
            "MSM lag": f"{facts.analysis.msm_lag_ps:g} ps, {facts.n_microstates} microstates",
            "folded population": f"{facts.folded_population.value:.3f} "
            f"[{facts.folded_population.lo:.3f}, {facts.folded_population.hi:.3f}]",
            "folding / unfolding events": f"{facts.n_folding} / {facts.n_unfolding}",
            "weights of the rows": "; ".join(
                f"{row.name}: {row.result.weights_status}" for row in rows
            ),
        },
        columns=_columns(rows),
        rows=[_row(row) for row in rows],
        maps=[("reference", reference), *maps],
        map_edges=(bundle.fes_edges[0], bundle.fes_edges[1]),
        map_cutoff=registry.constants().fes_cutoff,
        native_tics=(float(bundle.native_tics[0]), float(bundle.native_tics[1])),
        panels=_panels(drawn),
        traces={
            row.name: [(trace.time, trace.rmsd) for trace in row.display.traces]
            for row in rows
            if row.display is not None and row.display.traces
        },
        macrostates=_macrostates(rows),
        differences=[
            Difference(item.metric, item.a, item.b, item.diff, item.lo, item.hi)
            for item in differences
        ],
    )


def report_content(
    *,
    title: str,
    rows: Mapping[str, Sequence[Scored]],
    bundles: Mapping[str, ReferenceBundle],
    results: Sequence[Result],
    missing: Sequence[SystemResult] = (),
) -> ReportContent:
    """Return a page: one section a system, one row a model."""
    origin: dict[str, str] = {}
    for result in results:
        protocol = "none" if result.protocol is None else result.protocol.id
        origin[result.model.name] = (
            f"{result.model.hash or 'no model file'}, protocol {protocol}, "
            f"seeds {dict(result.seeds)}, {result.verification}"
        )
    first = results[0].provenance
    origin["machine"] = f"{first.hardware.processor}, {first.hardware.cores} cores"
    origin["software"] = f"cgbench {first.suite_version}, " + ", ".join(
        f"{name} {version}" for name, version in first.packages.items()
    )
    origin["made"] = first.created
    notes = [f"{item.system}: missing. {item.reason}" for item in missing]
    return ReportContent(
        title=title,
        introduction="Every number has its interval; every distribution its reference beside it.",
        sections=[system_section(rows[key], bundles[key], notes) for key in rows],
        provenance=origin,
    )
