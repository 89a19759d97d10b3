"""What a report says of whole runs: overview, cost, time, origin, and how to make them again."""

import shlex
from collections.abc import Sequence

from cgbench import registry
from cgbench.pipeline.verdict import metric_spec
from cgbench.report import Absent, Table
from cgbench.results import Result, SystemResult
from cgbench.results.comparison import ComparedDifference, ComparisonTally, RunComparison
from cgbench.results.mutants import MutantsOutcome, VariantOutcome


def _leading(results: Sequence[Result]) -> list[str]:
    used = {metric for result in results for item in result.systems for metric in item.metrics}
    return [spec.id for spec in registry.metrics() if spec.primary and spec.id in used]


def _trust(item: SystemResult) -> str:
    """Return in a few words what stands against the numbers of a system."""
    told = []
    if item.gates.get("handedness") == "failed":
        told.append("mirror image")
    if item.converged is False:
        told.append("reference not converged")
    if item.simulation_converged is False:
        told.append("simulation too short")
    if item.weights_status == "weights_unreliable":
        told.append("weights unreliable")
    if item.dead_fraction:
        told.append(f"{100 * item.dead_fraction:.0f} % lost")
    return ", ".join(told) or "nothing"


def overview(results: Sequence[Result]) -> Table | None:
    """Return the leading metrics of every model on every system; None for a single line."""
    if sum(len(result.systems) for result in results) < 2:
        return None
    leading = _leading(results)
    specs = {metric: metric_spec(metric) for metric in leading}
    titles = []
    for metric, spec in specs.items():
        unit = "" if spec is None or spec.unit == "1" else f" ({spec.unit})"
        titles.append(f"{metric if spec is None else spec.name}{unit}")
    rows: list[list[str | float | None]] = []
    for result in results:
        for item in result.systems:
            values = [item.metrics.get(metric) for metric in leading]
            rows.append(
                [
                    item.system,
                    result.model.name,
                    item.status,
                    *(None if value is None else value.value for value in values),
                    "–" if item.status == "missing" else _trust(item),
                ]
            )
    return Table(
        "The leading metrics, lower is better; intervals are in the tables of the systems.",
        ["system", "model", "status", *titles, "stands against it"],
        rows,
    )


def absent(results: Sequence[Result]) -> list[Absent]:
    """Return the systems that failed or are missing, with the reason."""
    found = []
    for result in results:
        for item in result.systems:
            if item.status != "ok":
                reason = item.reason or "no reason is given"
                found.append(Absent(result.model.name, item.system, item.status, reason))
    return found


def cost_table(results: Sequence[Result]) -> Table | None:
    """Return what the models cost; None where nothing was measured."""
    rows: list[list[str | float | None]] = []
    hardware = []
    for result in results:
        cost = result.cost
        if cost is None:
            continue
        hours = None if cost.training_seconds is None else cost.training_seconds / 3600.0
        numbers = [
            None if cost.n_parameters is None else float(cost.n_parameters),
            hours,
            cost.steps_per_second,
            cost.ns_per_day,
            None if cost.n_replicas is None else float(cost.n_replicas),
            cost.largest_stable_step,
            None if cost.seconds_per_sample is None else 1000.0 * cost.seconds_per_sample,
        ]
        if any(item is not None for item in numbers):
            rows.append([result.model.name, *numbers])
            hardware.append(f"{result.model.name}: {cost.hardware or 'hardware not recorded'}.")
    if not rows:
        return None
    head = ["model", "parameters", "training (h)", "steps/s", "ns/day of a replica", "replicas",
            "largest stable step (ps)", "one sample (ms)"]  # fmt: skip
    return Table("Cost", head, rows, [*hardware, "Speeds on other hardware cannot be compared."])


def models_table(results: Sequence[Result]) -> Table | None:
    """Return what samplers' models of each sequence say; None where there are none."""
    rows: list[list[str | float | None]] = []
    for result in results:
        for item in result.systems:
            found = item.models
            if found is not None:
                rows.append(
                    [
                        item.system,
                        result.model.name,
                        float(found.n_models),
                        float(found.n_clusters),
                        100.0 * found.largest,
                        found.representative_rmsd,
                        found.representative_tm,
                        found.mean_rmsd,
                        found.best_tm,
                    ]
                )
    if not rows:
        return None
    head = ["system", "sampler", "models", "clusters", "in the largest (%)",
            "RMSD of its representative (Å)", "its TM-score", "mean RMSD (Å)",
            "best TM-score"]  # fmt: skip
    told = (
        "Few clusters say that a sampler is sure of a structure, not that it is right; an ensemble "
        "that unfolds and folds has many. Chains of under 28 residues have no TM-score and are "
        "clustered by their RMSD."
    )
    return Table("Models of each sequence, clustered by structural similarity", head, rows, [told])


def timing_table(results: Sequence[Result]) -> Table | None:
    """Return the seconds of every stage; None where none is recorded."""
    timed = [result for result in results if result.timings]
    if not timed:
        return None
    stages = list(dict.fromkeys(stage for result in timed for stage in result.timings))
    rows: list[list[str | float | None]] = [
        [stage, *(result.timings.get(stage) for result in timed)] for stage in stages
    ]
    names = [f"{result.model.name} (s)" for result in timed]
    return Table("Where the time went", ["stage", *names], rows)


def _compared(
    item: ComparedDifference, *, several: bool, systems: bool
) -> list[str | float | None]:
    spec = metric_spec(item.metric)
    name = item.metric if spec is None else spec.name
    if spec is not None and spec.unit != "1":
        name += f" ({spec.unit})"
    where = [item.system or f"mean over {item.n_systems} systems"] if systems else []
    sides = [item.a, item.b] if several else [item.value_a, item.value_b]
    ends = "–" if item.lo is None or item.hi is None else f"{item.lo:.3g} … {item.hi:.3g}"
    verdict = "not significant"
    if item.significant is None:
        verdict = "no interval"
    elif item.significant:
        verdict = f"{item.better} is better" if item.better else "significant"
    return [name, *where, *sides, item.diff, ends, item.kind, verdict]


def mutant_tables(outcomes: Sequence[MutantsOutcome]) -> list[Table]:
    """Return the test of variants: the variants, and the controls that make recovery count."""
    if not outcomes:
        return []
    variants: list[list[str | float | None]] = []
    controls: list[list[str | float | None]] = []
    for outcome in outcomes:
        for item in outcome.variants:
            starts = None if item.unfolded_starts is None else float(item.unfolded_starts)
            reached = None if item.reached_native is None else float(item.reached_native)
            variants.append(
                [
                    item.key,
                    outcome.model,
                    "–" if item.mutations is None else ", ".join(item.mutations) or "none",
                    item.status,
                    item.median_q,
                    starts,
                    reached,
                    _counted(item),
                    item.reason or "–",
                ]
            )
        controls += [
            [
                parent.parent,
                outcome.model,
                item.name,
                item.status,
                item.median_q,
                item.reason or "–",
            ]
            for parent in outcome.parents
            for item in parent.controls
        ]
    first = outcomes[0]
    notes = [
        f"{item.model}: of {item.tested} simulated variants {item.recovered} are recovered in a "
        "way that counts."
        for item in outcomes
    ]
    notes.append(
        f"A variant stays when its median Q over the last {first.window_ps:g} ps is at least "
        f"{first.least_q:g}. Recovery counts only where the controls other than the wild type "
        "unfold: a model that ignores the sequence would keep all of them folded."
    )
    return [
        Table(
            "Mutants",
            ["variant", "model", "mutations", "stage one", "median Q", "unfolded starts",
             "reached native", "recovered", "why"],
            variants,
            notes,
        ),
        Table(
            "Controls of the mutants",
            ["parent", "model", "control", "status", "median Q", "why"],
            controls,
        ),
    ]  # fmt: skip


def _counted(item: VariantOutcome) -> str:
    if item.recovered is None:
        return "–"
    if not item.recovered:
        return "no"
    return "yes" if item.counts else "yes, does not count"


def comparison_table(found: RunComparison) -> Table:
    """Return the differences of runs, those over several systems first.

    Metrics that are there for comparison with numbers published elsewhere are left out.
    """
    order = {metric: place for place, metric in enumerate(_ranked_first())}
    chosen = sorted(
        (
            item
            for item in (*found.summary, *found.differences)
            if (spec := metric_spec(item.metric)) is None or not spec.optional
        ),
        key=lambda item: (item.system is not None, order.get(item.metric, len(order))),
    )
    several = len(found.runs) > 2
    systems = len({item.system for item in chosen}) > 1
    names = ["first", "second"] if several else [run.name for run in found.runs]
    where = ["system"] if systems else []
    return Table(
        "Differences of the runs, first minus second, with 95 % intervals",
        ["metric", *where, *names, "difference", "95 % interval", "how", "reading"],
        [_compared(item, several=several, systems=systems) for item in chosen],
        lead=" ".join(map(_tally, found.tallies)),
        notes=[
            "Paired differences are of the same starts and resamples; unpaired ones of independent "
            "resamples; “intervals” know the intervals of the two values only.",
            *found.notes,
        ],
    )


def _tally(item: ComparisonTally) -> str:
    """Return in a sentence which of two runs is better how often."""
    total = item.a_better + item.b_better + item.undecided
    return (
        f"Of {total} ranked differences, significantly in favour of {item.a}: {item.a_better}; "
        f"of {item.b}: {item.b_better}; undecided: {item.undecided}."
    )


def _ranked_first() -> list[str]:
    specs = sorted(registry.metrics(), key=lambda spec: (not spec.primary, not spec.ranked))
    return [spec.id for spec in specs]


def origin(results: Sequence[Result]) -> dict[str, str]:
    """Return where the numbers are from."""
    found: dict[str, str] = {}
    for result in results:
        protocol = (
            "none"
            if result.protocol is None
            else (f"{result.protocol.id} (version {result.protocol.version})")
        )
        seeds = ", ".join(f"{use} {seed}" for use, seed in result.seeds.items())
        found[result.model.name] = (
            f"{result.model.kind}, {result.model.hash or 'no model file'}; protocol {protocol}; "
            f"seeds: {seeds or 'none'}; {result.verification.replace('_', ' ')}"
        )
    versions = {
        metric: version for result in results for metric, version in result.metrics_versions.items()
    }
    references = {
        system: fingerprint
        for result in results
        for system, fingerprint in result.reference.fingerprints.items()
    }
    for system, fingerprint in references.items():
        found[f"reference of {system}"] = fingerprint
    first = results[0].provenance
    found["machine"] = f"{first.hardware.processor}, {first.hardware.cores} cores"
    found["software"] = f"cgbench {first.suite_version}, " + ", ".join(
        f"{name} {version}" for name, version in first.packages.items()
    )
    found["metric versions"] = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
    found["made"] = first.created
    return found


def commands(results: Sequence[Result]) -> list[str]:
    """Return commands that make the runs and the page again."""
    found = []
    folders = []
    for index, result in enumerate(results):
        folder = "RUN" if len(results) == 1 else f"RUN{index + 1}"
        folders.append(folder)
        parts = ["cgbench", "evaluate"]
        if result.model.kind == "ensemble":
            parts += ["--ensemble", "TRAJECTORIES"]
        elif result.model.kind == "sampler":
            # The run folder keeps it; the number of structures is that of the first system scored.
            drawn = next((item.n_frames for item in result.systems if item.n_frames), None)
            parts += ["sampler.pt", *([] if drawn is None else ["--n", str(drawn)])]
        else:
            # Names with a slash are shipped; others are the file that the run folder keeps.
            shipped = "/" in result.model.name
            parts.append(result.model.name if shipped else "model.pt")
        for item in result.systems:
            parts += ["--system", item.system]
        if result.protocol is not None:
            parts += ["--protocol", result.protocol.id]
        if any(item.paper is not None for item in result.systems):
            parts.append("--paper")
        seed = result.seeds.get("simulation", result.seeds.get("resampling"))
        if seed is not None:
            parts += ["--seed", str(seed)]
        found.append(shlex.join([*parts, "--out", folder]))
    found.append(shlex.join(["cgbench", "report", *folders, "--out", "report.html"]))
    return found
