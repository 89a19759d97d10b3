"""Tables of docs/performance.md from the results of the benchmarks, between markers."""

import json
from pathlib import Path
from typing import Any

from cgbench.config import write_atomic

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"


def table(heading: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def speed_table(found: Any) -> str:
    """Return steps a second beside the peer's and the floor."""
    one_thread = {row["case"]: row["ours"] for row in found["speeds"] if row["threads"] == 1}
    rows = [
        [
            f"`{row['case']}`",
            str(row["n_beads"]),
            str(row["threads"]),
            f"{row['ours']:.1f}",
            _number(row["peer"], ".2f"),
            _number(row["ratio"], ".1f"),
            f"{row['floor_ratio']:.2f}",
            _number(
                row["ours"] / one_thread[row["case"]] if row["case"] in one_thread else None, ".2f"
            ),
        ]
        for row in found["speeds"]
    ]
    heading = ["protein", "beads", "threads", "steps/s", "peer", "ratio", "time over floor"]
    return table([*heading, "over one thread"], rows)


def growth_table(found: Any) -> str:
    """Return how the cost of a step grows with beads and replicas."""
    rows = [
        [
            str(row["n_beads"]),
            str(row["n_replicas"]),
            f"{row['milliseconds']:.2f}",
            f"{row['microseconds_per_bead']:.1f}",
        ]
        for row in [*found["beads"], *found["replicas"]]
    ]
    return table(["beads", "replicas", "ms a step", "µs a bead"], rows)


def parts_table(found: Any) -> str:
    """Return where the time of a step goes."""
    parts = ("network", "prior", "noise", "integrator")
    rows = [
        [f"`{row['case']}`", *(f"{100 * row[part]:.1f} %" for part in parts)]
        for row in found["parts"]
    ]
    return table(["protein", *parts], rows)


def frames_table(found: Any) -> str:
    """Return what writing frames takes."""
    cases = list(dict.fromkeys(row["case"] for row in found["frames"]))
    ordered = sorted(
        found["frames"], key=lambda row: (cases.index(row["case"]), row["steps_per_frame"])
    )
    rows = [
        [
            f"`{row['case']}`",
            str(row["steps_per_frame"]),
            f"{row['milliseconds']:.2f}",
            f"{row['milliseconds_beside']:.2f}",
            f"{100 * row['share']:.1f} %",
        ]
        for row in ordered
    ]
    header = ["protein", "steps a frame", "ms a frame", "ms of the thread beside", "held up"]
    return table(header, rows)


def machine(found: Any) -> str:
    """Return where and with what the figures were measured."""
    row, clock = found["speeds"][0], found["clock"]
    hardware, versions = row["hardware"], row["versions"]
    words = [
        f"{name.removeprefix('peer ')} {text}" for name, text in versions.items() if "peer" in name
    ]
    peer = ", ".join(words) or "none"
    alone = [one for one in found["speeds"] if one["threads"] == 1]
    best = max(one["matrix_gigaflops"] for one in alone)
    library = max(one["library_gigaflops"] for one in alone)
    return (
        f"Measured on {hardware['processor']}, {hardware['cores']} cores, with torch "
        f"{versions['torch']} and numpy {versions['numpy']}; the peer: {peer}. "
        f"Matrix products of one thread: {best:.0f} GFLOP/s; of the library, with its kernels for "
        f"{versions['matrix kernels']}: {library:.0f}. "
        f"Clock: {clock} time."
    )


def step_tables(found: Any) -> str:
    """Return what the time step does to ensembles, a table for each model."""
    return "\n\n".join(_steps_of(case, found) for case in found["cases"])


def _steps_of(case: Any, found: Any) -> str:
    names = list(case["rows"][0]["metrics"])
    rows = []
    for row in case["rows"]:
        cells = [f"{row['timestep_fs']:.0f} (seed {row['seed']})", f"{row['mass']:.0f}"]
        cells.append(f"{row['replicas_alive']} of {found['n_replicas']}")
        if row["differences"]:
            cells += [_difference(row["differences"].get(name)) for name in names]
        else:
            cells += [_value(row["metrics"][name]) for name in names]
        rows.append([*cells, _number(row["fes_rms"], ".2f")])
    heading = ["Δt in fs", "amu", "alive", *(f"`{name}`" for name in names), "surfaces"]
    largest = case["largest_stable_fs"]
    stable = "none" if largest is None else f"{largest:.0f} fs"
    return (
        f"Largest stable step of `{case['model']}`: {stable}. Replicas of "
        f"{found['length_ps']:g} ps:\n\n{table(heading, rows)}"
    )


def _value(metric: Any) -> str:
    return "–" if metric["value"] is None else f"{metric['value']:.3f}"


def _difference(one: Any) -> str:
    if one is None:
        return "–"
    mark = "**" if one["significant"] else ""
    if one["lo"] is None:
        return f"{one['diff']:+.3f}"
    return f"{mark}{one['diff']:+.3f}{mark} [{one['lo']:+.3f}, {one['hi']:+.3f}]"


def training_table(found: Any) -> str:
    """Return steps a second and memory of training beside the peer's."""
    rows = [
        [
            f"`{row['case']}`",
            f"{row['frames']} × {row['n_beads']}",
            row["path"],
            f"{row['steps_per_second']:.2f}",
            _number(row["ratio"], ".1f"),
            f"{row['peak_megabytes']:.0f}",
            _number(row["memory_ratio"], ".2f"),
            f"{row['first_seconds']:.0f}",
            _number(row["gradient_error"], ".0e"),
        ]
        for row in found["measurements"]
    ]
    heading = ["protein", "batch", "path", "steps/s", "ratio", "MB", "of the peer's"]
    return table([*heading, "first step, s", "error of the gradient"], rows)


def profile_table(profiles: list[Any]) -> str:
    """Return the shares of runs."""
    names = list(profiles[0]["shares"])
    rows = [
        [f"`{one['run']}`", *(f"{100 * one['shares'][name]:.1f} %" for name in names)]
        for one in profiles
    ]
    return table(["run", *names], rows)


def tables() -> dict[str, str]:
    """Return the text between the markers of the page, by name."""
    found, training, profile, steps = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("simulation", "training", "profile", "time_step")
    )
    return {
        "time-step": step_tables(steps),
        "machine": machine(found),
        "speed": speed_table(found),
        "growth": growth_table(found),
        "parts": parts_table(found),
        "frames": frames_table(found),
        "training": training_table(training),
        "profile-simulation": profile_table(profile["simulations"]),
        "profile-training": profile_table([profile["training"]]),
    }


def filled(page: str) -> str:
    """Return a page with its tables replaced."""
    for name, text in tables().items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed:
            raise SystemExit(f"{PAGE}: no markers for {name}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def write_page() -> None:
    """Replace the tables of the page."""
    write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8")))
