"""Tables of docs/synthetic.md from the results of the benchmark, between markers."""

import json
import statistics
from pathlib import Path
from typing import Any

from synthetic_answers import ROUNDING, interval

from cgbench.config import write_atomic

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "synthetic.md"
MODELS = ("generating", "multi-protein", "leave-one-out", "prior", "pair-spline")


def table(heading: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _by_system(found: Any) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for row in found["rows"]:
        rows.setdefault(row["system"], {})[row["row"]] = row
    return rows


def systems_table(found: Any) -> str:
    """Return what the synthetic systems are."""
    rows = [
        [
            f"`{one['system']}`",
            f"{one['scale']:.3f}",
            str(one["n_frames"]),
            f"{one['folded_population']:.2f}",
            f"{one['n_folding']}, {one['n_unfolding']}",
        ]
        for one in found["systems"]
    ]
    return table(["system", "ε (kcal/mol)", "frames", "folded", "foldings, unfoldings"], rows)


def forces_table(found: Any) -> str:
    """Return mean square force errors."""
    rows = [
        [f"`{system}`", *(_error(by_row[name]["forces"]) for name in MODELS)]
        for system, by_row in _by_system(found).items()
    ]
    return table(["protein", *MODELS], rows)


def _error(forces: list[float]) -> str:
    mean = sum(forces) / len(forces)
    # Rounding, and no statement about a potential.
    if mean < ROUNDING:
        return f"{mean:.0e}"
    low, high = interval(forces)
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def scores_table(found: Any) -> str:
    """Return distances on the first slow coordinate, beside the noise floor."""

    def cell(row: Any) -> str:
        if row["status"] != "ok":
            return "failed"
        ends = f"{_number(row['w1_lo'], '.2f')}, {_number(row['w1_hi'], '.2f')}"
        return f"{_number(row['w1_tic1'], '.2f')} [{ends}]"

    simulated = [name for name in MODELS if name != "pair-spline"]
    rows = [
        [f"`{system}`", *(cell(by_row[name]) for name in (*simulated, "md_split_half"))]
        for system, by_row in _by_system(found).items()
    ]
    return table(["protein", *simulated, "noise floor"], rows)


def variants_table(found: Any) -> str:
    """Return force errors on variants, and whether they stay folded."""
    rows = [
        [
            f"`{one['variant']}`",
            one["row"],
            _error(one["forces"]),
            one["status"] or "–",
            _number(one["median_q"], ".2f"),
            ", ".join(f"{name} {status}" for name, status in one["controls"].items()) or "–",
            {True: "yes", False: "no", None: "–"}[one["recovered"]],
        ]
        for one in found["variants"]
    ]
    heading = ["variant", "model", "force error", "stage one", "median Q", "controls", "recovered"]
    return table(heading, rows)


def answers_table(found: Any) -> str:
    """Return which known answers came out."""
    rows = [
        [
            one["statement"],
            f"{one['holds']} of {one['cases']}",
            ", ".join(one["open"]) or "–",
            ", ".join(one["failing"]) or "–",
            _ratios(one["ratios"]),
        ]
        for one in found["answers"]
    ]
    return table(["known answer", "holds", "open", "does not hold", "ratio of force errors"], rows)


def _ratios(found: dict[str, dict[str, float]]) -> str:
    """Return the median over the cases, and the least and largest with its interval."""
    if not found:
        return "–"
    ordered = sorted(found.items(), key=lambda item: item[1]["value"])
    told = [
        f"{one['value']:.2f} [{one['lo']:.2f}, {one['hi']:.2f}] ({name})"
        for name, one in (ordered[0], ordered[-1])
    ]
    middle = statistics.median(one["value"] for one in found.values())
    return f"median {middle:.2f}, from {told[0]} to {told[1]}"


def tables(found: Any) -> dict[str, str]:
    """Return the text between the markers of the page, by name."""
    return {
        "systems": systems_table(found),
        "forces": forces_table(found),
        "scores": scores_table(found),
        "variants": variants_table(found),
        "answers": answers_table(found),
    }


def filled(page: str, found: Any) -> str:
    """Return a page with its tables replaced."""
    for name, text in tables(found).items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, opened, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not opened or not closed:
            raise SystemExit(f"{PAGE}: no markers for {name}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def write_page(results: Path) -> None:
    """Replace the tables of the page."""
    found = json.loads(results.read_text(encoding="utf-8"))
    write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8"), found))
