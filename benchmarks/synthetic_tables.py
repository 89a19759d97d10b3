"""Tables of docs/synthetic.md from the results of the benchmark, between markers."""

import json
from pathlib import Path
from typing import Any

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
        [f"`{system}`", *(_number(by_row[name]["force_mse"], ".3g") for name in MODELS)]
        for system, by_row in _by_system(found).items()
    ]
    return table(["protein", *MODELS], rows)


def scores_table(found: Any) -> str:
    """Return distances on the first slow coordinate, beside the noise floor."""

    def cell(row: Any) -> str:
        if row["status"] != "ok":
            return "failed"
        ends = f"{_number(row['w1_lo'], '.2f')}, {_number(row['w1_hi'], '.2f')}"
        return f"{_number(row['w1_tic1'], '.2f')} [{ends}]"

    names = (*MODELS, "md_split_half")
    rows = [
        [f"`{system}`", *(cell(by_row[name]) for name in names)]
        for system, by_row in _by_system(found).items()
    ]
    return table(["protein", *MODELS, "noise floor"], rows)


def variants_table(found: Any) -> str:
    """Return force errors on variants, and whether they stay folded."""
    rows = [
        [
            f"`{one['variant']}`",
            one["row"],
            f"{one['force_mse']:.3g}",
            one["status"] or "–",
            _number(one["median_q"], ".2f"),
        ]
        for one in found["variants"]
    ]
    return table(["variant", "model", "force error", "stage one", "median Q"], rows)


def answers_table(found: Any) -> str:
    """Return which known answers came out."""
    rows = [
        [one["statement"], f"{one['holds']} of {one['cases']}", ", ".join(one["failing"]) or "–"]
        for one in found["answers"]
    ]
    return table(["known answer", "holds", "but for"], rows)


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
