"""Writes the tables of costs in docs/reproduce.md: python docs/cost_table.py.

Sizes are those that the publisher states (registry), rates those of `benchmarks/results/`. A rate
between measured chain lengths is interpolated: a power of the number of beads.
"""

import json
import math
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.pipeline.baselines import baseline_configs
from cgbench.registry.remote import remote_files

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "reproduce.md"
RESULTS: Final = HERE.parent / "benchmarks" / "results"
MARKS: Final = ("<!-- costs -->\n", "<!-- end of costs -->")
ROWS: Final = ("<!-- rows -->\n", "<!-- end of rows -->")
BASELINES: Final = HERE.parent / "baselines"


def interpolated(rates: dict[int, float], beads: int) -> float:
    """Return a rate at a number of beads from those measured below and above."""
    known = sorted(rates)
    upper = next((n for n in known if n >= beads), known[-1])
    lower = max([n for n in known if n < upper], default=known[0])
    if upper == lower:
        return rates[upper]
    power = math.log(rates[upper] / rates[lower]) / math.log(upper / lower)
    return float(rates[lower] * (beads / lower) ** power)


def measured() -> tuple[dict[int, float], dict[int, float]]:
    """Return steps a second of 32 replicas, and frames a second of training, on one core."""
    speeds = json.loads((RESULTS / "simulation.json").read_text(encoding="utf-8"))["speeds"]
    steps = {one["n_beads"]: one["ours"] for one in speeds if one["threads"] == 1}
    training = json.loads((RESULTS / "training.json").read_text(encoding="utf-8"))["measurements"]
    frames = {
        one["n_beads"]: one["steps_per_second"] * one["frames"]
        for one in training
        if one["path"] == "fused"
    }
    return steps, frames


def table() -> str:
    """Return the table, one row for each published protein."""
    steps, frames = measured()
    paper = registry.protocol("paper")
    rows = [
        "| protein | beads | reference archives | training, a million frames and epoch "
        "| `paper` protocol | steps | one core |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    total_bytes, total_hours = 0, 0.0
    for system in registry.systems():
        if system.embedded:
            continue
        files = [f for f in remote_files() if f.system == system.key and f.kind == "reference"]
        sizes = [file.approximate_size for file in files]
        size = sum(one for one in sizes if one is not None)
        doubtful = any(one is None for one in sizes)
        length = (paper.lengths_per_system or {}).get(system.key, paper.length)
        n_steps = round(length / paper.timestep)
        hours = n_steps / interpolated(steps, system.n_beads) / 3600
        minutes = 1e6 / interpolated(frames, system.n_beads) / 60
        total_bytes, total_hours = total_bytes + size, total_hours + hours
        stated = f"{size / 1e9:.1f} GB" if size else ""
        shown = " + ".join(part for part in (stated, "in doubt" if doubtful else "") if part)
        rows.append(
            f"| `{system.key}` | {system.n_beads} | {shown} | {minutes:.0f} min "
            f"| 32 × {length / 1000:g} ns | {n_steps / 1e6:.3g} million | {hours:.1f} h |"
        )
    rows.append(f"| together | | {total_bytes / 1e9:.0f} GB | | | | {total_hours:.0f} h |")
    return "\n".join(rows) + "\n"


def baselines_table() -> str:
    """Return the table of the baselines of the published proteins, one row for each."""
    steps, frames = measured()
    paper, settings = registry.protocol("paper"), registry.baseline_settings()
    rows = [
        "| baseline | trained on | a million frames and epoch | at most | scored on "
        "| `paper` protocol | status |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for name, config in baseline_configs().items():
        systems = config["systems"] if "systems" in config else [config["system"]]
        scored = [config["left_out"]] if "left_out" in config else systems
        each = [1e6 / interpolated(frames, registry.system(key).n_beads) / 60 for key in systems]
        hours = sum(
            (paper.lengths_per_system or {}).get(key, paper.length)
            / paper.timestep
            / interpolated(steps, registry.system(key).n_beads)
            / 3600
            for key in scored
        )
        ran = any((BASELINES / name / "results").glob("*.json"))
        rows.append(
            f"| `{name}` | {len(systems)} | {sum(each) / len(each):.0f} min "
            f"| {settings.seeds} × {config['optimiser']['maximum_epochs']} epochs "
            f"| {f'`{scored[0]}`' if len(scored) == 1 else len(scored)} | {hours:.1f} h "
            f"| {'see its card' if ran else 'not yet run'} |"
        )
    return "\n".join(rows) + "\n"


def page() -> str:
    """Return docs/reproduce.md as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    for marks, content in ((MARKS, table()), (ROWS, baselines_table())):
        before, rest = text.split(marks[0])
        text = before + marks[0] + content + marks[1] + rest.split(marks[1])[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
