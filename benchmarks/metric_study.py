"""How every metric ranks graded corruptions of a simulation, and how the metrics correlate.

    python benchmarks/metric_study.py [--system chignolin-sample-v2] [--check]

Every second frame of a reference with its equilibrium weight is the untouched ensemble: a perfect
sampler. It is corrupted step by step (`graded_ensembles.py`), and every step is scored like any
model. Halves of the reference against each other say how much of a value is noise. Written are
`results/metric_study.json` and the tables of `docs/metrics.md` between their markers; the
thresholds of the registry are those of this study. With `--check` nothing is run or written, and
the exit code is 1 where page or registry differ from the results.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.stats
from graded_ensembles import Base, base_ensemble, families

from cgbench import provenance, registry
from cgbench.config import read_text, write_atomic
from cgbench.evaluate import (
    ReferenceBundle,
    frame_weights,
    ideal_chain,
    md_split_half,
    native_constant,
    read_reference,
    reference_statistics,
    score,
    start_frames,
)
from cgbench.results import SystemResult
from cgbench.store import find_reference, open_store

ROOT: Final = Path(__file__).parents[1]
OUT: Final = ROOT / "benchmarks" / "results" / "metric_study.json"
PAGE: Final = ROOT / "docs" / "metrics.md"
SEED: Final = 1
#: Intervals are not used here, so that a few resamples suffice.
RESAMPLES = 8
#: Random divisions of the reference for its noise floor.
FLOOR_DIVISIONS = 100
#: Share of its usual movement below which a metric is called blind.
BLIND: Final = 0.01


def untouched(bundle: ReferenceBundle) -> Base:
    """Return every second frame of a reference with its equilibrium weight: a perfect sampler."""
    store = open_store(bundle.system)
    weights = frame_weights(bundle)
    frames, kept = [], []
    for start, stop in store.trajectory_bounds:
        sound = bundle.observables.alive[int(start) : int(stop)]
        chosen = np.flatnonzero(sound)[::2]
        frames.append(store.coordinates(int(start), int(stop))[chosen])
        kept.append(chosen + int(start))
    return base_ensemble(bundle, frames, np.concatenate(kept), weights)


def values(result: SystemResult) -> dict[str, float | None]:
    """Return the value of every metric; a target metric's is its distance from the target."""
    found: dict[str, float | None] = {}
    for name, metric in result.metrics.items():
        value = metric.value
        if value is not None and registry.metric(name).direction == "target":
            value = None if metric.target is None else abs(value - metric.target)
        found[name] = value
    return found


def study(system: str) -> dict[str, Any]:
    """Score every step of every family, and the rows that stand beside models."""
    bundle = read_reference(find_reference(system))
    statistics = reference_statistics(bundle, seed=SEED, n_resamples=RESAMPLES)
    basins = bundle.metadata.basins
    made = families(
        untouched(bundle), folded_q=basins.folded_q, unfolded_q=basins.unfolded_q, seed=SEED
    )
    steps = []
    for family in made.values():
        for step in family():
            result = score(step.ensemble, bundle, seed=SEED, reference=statistics).result
            steps.append(
                {
                    "family": step.family,
                    "setting": step.setting,
                    "gate": result.gates["handedness"],
                    "metrics": values(result),
                }
            )
            print(f"{step.family}: {step.setting}", flush=True)
    rows = {
        row.__name__: values(row(bundle, seed=SEED, reference=statistics).result)
        for row in (start_frames, native_constant, ideal_chain)
    }
    floor = md_split_half(bundle, seed=SEED, n_resamples=FLOOR_DIVISIONS).result
    return {
        "system": system,
        "reference_fingerprint": bundle.fingerprint,
        "steps": steps,
        "rows": rows,
        "floor": values(floor),
    }


def series(result: Mapping[str, Any], family: str, metric: str) -> list[float | None]:
    """Return a metric's value at each step of a family, untouched first."""
    return [step["metrics"].get(metric) for step in result["steps"] if step["family"] == family]


def worse(metric: str, found: Sequence[float]) -> list[float]:
    """Return values so that larger is worse."""
    return [-value for value in found] if registry.metric(metric).direction == "max" else [*found]


def ranking(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return rank correlation with the step and the number of inversions, by family and metric.

    An inversion is a step that scores better than the step before it. A metric is blind to a family
    that moves it by less than a hundredth of what the median family does: what is left is the
    choice of the frames that distributions of single distances and angles are counted over.
    """
    names = list(dict.fromkeys(step["family"] for step in result["steps"]))
    lines: dict[str, dict[str, list[float]]] = {}
    for metric in result["steps"][0]["metrics"]:
        for family in names:
            line = [value for value in series(result, family, metric) if value is not None]
            if len(line) == len(series(result, family, metric)):
                lines.setdefault(metric, {})[family] = line
    found: dict[str, dict[str, dict[str, Any]]] = {family: {} for family in names}
    for metric, by_family in lines.items():
        usual = float(np.median([np.ptp(line) for line in by_family.values()]))
        for family, line in by_family.items():
            told = worse(metric, line)
            blind = float(np.ptp(told)) <= max(BLIND * usual, 1e-9)
            found[family][metric] = {
                "values": line,
                "rank_correlation": None
                if blind
                else float(scipy.stats.spearmanr(range(len(told)), told).statistic),
                "inversions": 0 if blind else int((np.diff(told) < -1e-9).sum()),
            }
    return found


def correlations(result: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return Spearman's rank correlation of every two metrics over all corrupted steps."""
    metrics = [
        spec.id
        for spec in registry.metrics()
        if spec.id in result["steps"][0]["metrics"] and spec.ranked
    ]
    columns = {}
    for metric in metrics:
        line = [step["metrics"].get(metric) for step in result["steps"]]
        if all(value is not None for value in line):
            columns[metric] = worse(metric, [value for value in line if value is not None])
    table: dict[str, dict[str, float | None]] = {}
    for a, first in columns.items():
        for b, second in columns.items():
            value = float(scipy.stats.spearmanr(first, second).statistic)
            table.setdefault(a, {})[b] = value if np.isfinite(value) else None
    return table


def thresholds(result: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return good and bad of every ranked metric, the values of score 1 and score 0.

    Good is the untouched ensemble: it does not depend on how long the reference is. Bad is the
    median over the last steps of the families that the metric sees.
    """
    ranked = result["ranking"]
    found: dict[str, dict[str, float | None]] = {}
    for spec in registry.metrics():
        lines = [
            one[spec.id]["values"]
            for one in ranked.values()
            if spec.id in one and one[spec.id]["rank_correlation"] is not None
        ]
        if spec.ranked:
            found[spec.id] = {
                "good": _rounded(lines[0][0]) if lines else None,
                "bad": _rounded(float(np.median([line[-1] for line in lines]))) if lines else None,
            }
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _rows(heading: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in heading[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *body))


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables of the page by the name of their markers."""
    ranked = result["ranking"]
    names = list(ranked)
    primary = [spec.id for spec in registry.metrics() if spec.primary]
    compared = [
        spec.id
        for spec in registry.metrics()
        if spec.group in ("thermodynamics", "gate") and any(spec.id in ranked[f] for f in names)
    ]

    def cell(family: str, metric: str) -> str:
        one = ranked[family].get(metric)
        if one is None:
            return "–"
        if one["rank_correlation"] is None:
            return "blind"
        mark = f" ({one['inversions']})" if one["inversions"] else ""
        return f"{one['rank_correlation']:.2f}{mark}"

    steps = []
    for step in result["steps"]:
        line = [step["metrics"].get(metric) for metric in (*primary, "handedness")]
        shown = ["–" if value is None else f"{value:.3g}" for value in line]
        steps.append([f"{step['family']}: {step['setting']}", *shown, step["gate"]])
    table = result["correlations"]
    limits = result["thresholds"]
    beside = {"md_split_half": result["floor"], **result["rows"]}
    return {
        "study-rows": _rows(
            ["row", *(f"`{m}`" for m in limits)],
            [
                [f"`{name}`", *("–" if row.get(m) is None else f"{row[m]:.2g}" for m in limits)]
                for name, row in beside.items()
            ],
        ),
        "study-steps": _rows(
            ["ensemble", *(f"`{m}`" for m in primary), "`handedness`", "gate"], steps
        ),
        "study-ranking": _rows(
            ["metric", *names],
            [[f"`{m}`", *(cell(family, m) for family in names)] for m in compared],
        ),
        "study-correlations": _rows(
            ["", *(f"`{m}`" for m in table)],
            [
                [f"`{a}`", *("–" if v is None else f"{v:.2f}" for v in line.values())]
                for a, line in table.items()
            ],
        ),
        "study-thresholds": _rows(
            ["metric", "good", "bad"],
            [
                [f"`{m}`", *("–" if one[k] is None else f"{one[k]:g}" for k in ("good", "bad"))]
                for m, one in limits.items()
            ],
        ),
    }


def filled(page: str, found: Mapping[str, str]) -> str:
    """Return a page with the tables between their markers."""
    for name, table in found.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin not in page or end not in page:
            raise SystemExit(f"{PAGE}: no place for the table {name}")
        head, rest = page.split(begin, 1)
        page = f"{head}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"
    return page


def unequal(result: Mapping[str, Any]) -> list[str]:
    """Return the metrics whose thresholds in the registry are not those of the study."""
    return [
        name
        for name, one in result["thresholds"].items()
        if (registry.metric(name).good, registry.metric(name).bad) != (one["good"], one["bad"])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", default="chignolin-sample-v2")
    parser.add_argument("--check", action="store_true", help="only compare page and results")
    chosen = parser.parse_args()
    if chosen.check:
        result = json.loads(read_text(OUT))
        return int(
            bool(unequal(result)) or filled(read_text(PAGE), tables(result)) != read_text(PAGE)
        )
    result = study(chosen.system)
    result["ranking"] = ranking(result)
    result |= {
        "correlations": correlations(result),
        "thresholds": thresholds(result),
        "metrics_versions": {
            spec.id: spec.version for spec in registry.metrics() if "training" not in spec.needs
        },
        "provenance": provenance.collect({"study": SEED}).model_dump(mode="json"),
    }
    write_atomic(OUT, json.dumps(result, indent=1) + "\n")
    write_atomic(PAGE, filled(read_text(PAGE), tables(result)))
    for family, found in result["ranking"].items():
        for metric, one in found.items():
            if registry.metric(metric).primary and one["inversions"]:
                print(f"inversion: {family}, {metric}: {one['values']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
