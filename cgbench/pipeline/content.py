"""Turns scored rows into what a report page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.evaluate import (
    COMPARED,
    FORCE_METRICS,
    ReferenceBundle,
    Scored,
    can_pair,
    paired_difference,
)
from cgbench.pipeline.drawn import (
    contacts,
    dihedrals,
    macrostates,
    panels,
    profiles,
    structures,
    surfaces,
    traces,
)
from cgbench.pipeline.paper_content import paper_section
from cgbench.pipeline.run_facts import (
    absent,
    commands,
    cost_table,
    models_table,
    origin,
    overview,
    timing_table,
)
from cgbench.pipeline.verdict import (
    held_still,
    is_model,
    is_sampler,
    metric_spec,
    priors_of,
    role,
    standings,
    verdict,
)
from cgbench.report import (
    Absent,
    Cell,
    Column,
    Difference,
    ReportContent,
    Row,
    SystemSection,
    Table,
)
from cgbench.results import PairedDifference, Result

#: What the rows beside a model are for.
ROW_DESCRIPTIONS: Final = {
    "md_split_half": "Halves of the reference's own trajectories against each other, at the "
    "model's number of frames: the noise floor, below which nothing can be told.",
    "start_frames": "The frames that simulations start from, held still: what is given away "
    "before the first step.",
    "prior_only": "The model's prior simulated without its network: what the network adds is the "
    "difference.",
    "native_constant": "The native structure alone, repeated.",
    "ideal_chain": "A freely jointed chain with the reference's bond lengths, which knows nothing "
    "of the protein. It is as often a mirror image, so that its scores may be marked void.",
    "md_replay": "Frames of the training data played back: a sampler that only remembers.",
}


def paired_rows(rows: Sequence[Scored]) -> list[PairedDifference]:
    """Return paired differences of every model to its prior, and of models to each other."""
    models = [row for row in rows if is_model(row)]
    # Blocks of samples share no starts with anything, however many there are.
    models = [row for row in models if not is_sampler(row)]
    pairs = [(a, b) for a in models for b in rows if b.name in priors_of(a.name)]
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
    frames = [row.result.n_frames for row in rows if is_model(row) and row.result.n_frames]
    if frames and max(frames) > min(frames):
        found.append(
            f"The noise floor is that of {min(frames)} frames, the fewest of these models. One "
            "with more frames is judged more leniently here than on a page of its own."
        )
    for row in rows:
        result = row.result
        if result.status != "ok":
            found.append(f"{row.name}: {result.status}, {result.reason}")
        if result.simulation_converged is False and is_model(row):
            found.append(
                f"{row.name}: the simulation is not converged: "
                f"{result.simulation_converged_reason or 'no reason is given'}"
            )
        if result.weights_status == "weights_unreliable":
            found.append(
                f"{row.name}: every frame counts the same, because {result.weights_reason}"
            )
        if result.dead_fraction:
            found.append(f"{row.name}: {100 * result.dead_fraction:.1f} % of the frames are lost")
        if result.gates.get("handedness") == "failed" and is_model(row):
            found.append(
                f"{row.name}: native-like frames have the wrong handedness; scores are void"
            )
        if is_model(row) and (same := held_still(row, starts)):
            found.append(
                f"{row.name} cannot be told from its start frames held still in "
                f"{', '.join(map(_named, same))}: the run is too short for a statement about them."
            )
        if result.leak is not None:
            found += [f"{row.name}: {sentence}" for sentence in result.leak.sentences]
        if is_model(row):
            found += [f"{row.name}: {note}" for note in result.notes]
    return found


def _named(metric: str) -> str:
    spec = metric_spec(metric)
    return metric if spec is None else f"{spec.name} ({metric})"


def _columns(rows: Sequence[Scored]) -> list[Column]:
    """Return the metrics that any row has, in the registry's order, unknown ones last."""
    used = {metric for row in rows for metric in row.result.metrics}
    known = [spec for spec in registry.metrics() if spec.id in used]
    columns = [
        Column(
            spec.id, spec.name, "" if spec.unit == "1" else spec.unit, spec.direction,
            spec.description, "optional" if spec.optional else spec.group,
            spec.primary or (spec.ranked and spec.direction == "target"),
        )
        for spec in known
    ]  # fmt: skip
    return columns + [
        Column(metric, metric, "", "target", "A metric that this version does not know.")
        for metric in sorted(used - {spec.id for spec in known})
    ]


def _row(row: Scored) -> Row:
    cells = {
        metric: Cell(value.value, value.lo, value.hi, value.note, value.status)
        for metric, value in row.result.metrics.items()
    }
    if is_model(row):
        return Row(row.name, "model", cells)
    return Row(row.name, "reference row", cells, ROW_DESCRIPTIONS.get(role(row), ""))


def _difference(item: PairedDifference) -> Difference:
    spec = metric_spec(item.metric)
    if spec is None:
        return Difference(item.metric, item.a, item.b, item.diff, item.lo, item.hi)
    return Difference(
        spec.name,
        item.a,
        item.b,
        item.diff,
        item.lo,
        item.hi,
        spec.unit,
        spec.direction,
        "optional" if spec.optional else spec.group,
    )


def _facts(rows: Sequence[Scored], bundle: ReferenceBundle) -> dict[str, str]:
    facts = bundle.metadata
    return {
        "sequence": bundle.sequence,
        "reference": f"{facts.n_frames} frames in {facts.n_trajectories} trajectories, every "
        f"{facts.frame_interval:g} ps, {facts.temperature:g} K",
        "reference fingerprint": bundle.fingerprint,
        "store fingerprint": bundle.store_fingerprint,
        "TICA lag": f"{facts.analysis.tica_lag_ps:g} ps",
        "MSM lag": f"{facts.analysis.msm_lag_ps:g} ps, {facts.n_microstates} microstates",
        "macrostates": f"{facts.n_macrostates}, from the {facts.macrostates_source}",
        "folded population": f"{facts.folded_population.value:.3f} "
        f"[{facts.folded_population.lo:.3f}, {facts.folded_population.hi:.3f}]",
        "folding / unfolding events": f"{facts.n_folding} / {facts.n_unfolding}",
        "frames of the rows": "; ".join(
            f"{row.name}: {row.result.n_frames} in {row.result.n_trajectories} trajectories"
            for row in rows
            if row.result.n_frames
        ),
        "weights of the rows": "; ".join(
            f"{row.name}: {row.result.weights_status}" for row in rows if row.result.weights_status
        ),
    }


def system_section(rows: Sequence[Scored], bundle: ReferenceBundle) -> SystemSection:
    """Return the section of one system: its rows against its reference."""
    entry = registry.system(bundle.system)
    differences = paired_rows(rows)
    beside = {row.name: row for row in rows if not is_model(row)}
    models = [row for row in rows if is_model(row)]
    shown, local = panels(rows)
    return SystemSection(
        system=bundle.system,
        title=f"{entry.name} ({bundle.system})",
        verdicts=[verdict(row, beside, differences, bundle) for row in models],
        warnings=[*reference_warnings(bundle), *row_warnings(rows)],
        facts=_facts(rows, bundle),
        columns=_columns(rows),
        rows=[_row(row) for row in rows],
        surfaces=surfaces(rows, bundle),
        map_edges=(bundle.fes_edges[0], bundle.fes_edges[1]),
        map_cutoff=registry.constants().fes_cutoff,
        native_tics=(float(bundle.native_tics[0]), float(bundle.native_tics[1])),
        standings=standings(rows),
        profiles=profiles(rows),
        panels=shown,
        local_panels=local,
        traces=traces(rows),
        contacts=contacts(rows),
        dihedrals=dihedrals(rows),
        macrostates=macrostates(rows),
        structures=structures(rows, bundle),
        differences=[_difference(item) for item in differences],
    )


def report_content(
    *,
    title: str,
    rows: Mapping[str, Sequence[Scored]],
    bundles: Mapping[str, ReferenceBundle],
    results: Sequence[Result],
    folders: Mapping[str, Path] | None = None,
    comparison: Table | None = None,
    tables: Sequence[Table] = (),
    unread: Sequence[Absent] = (),
) -> ReportContent:
    """Return a page: one section a system, one row a model.

    Args:
        title: Heading of the page.
        rows: Scored rows by system, models first.
        bundles: References by system.
        results: The results that the rows are from.
        folders: Run folders by name of the row, for figures that were drawn there.
        comparison: Differences of the runs, where there are several.
        tables: Further tables of the runs, shown before cost and time.
        unread: Systems that were scored and cannot be drawn here, with the reason.
    """
    sections = [
        replace(
            system_section(rows[key], bundles[key]),
            paper=paper_section(rows[key], key, folders or {}),
        )
        for key in rows
    ]
    timed = [models_table(results), cost_table(results), timing_table(results)]
    return ReportContent(
        title=title,
        introduction="Distances of coarse-grained models from all-atom molecular dynamics. Every "
        "number has its 95 % interval and stands beside the noise floor: what the reference's own "
        "halves score against each other.",
        sections=sections,
        provenance=origin(results),
        overview=overview(results),
        comparison=comparison,
        absent=[*absent(results), *unread],
        tables=[*tables, *(table for table in timed if table is not None)],
        commands=commands(results),
    )
