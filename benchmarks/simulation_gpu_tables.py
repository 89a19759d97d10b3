"""Tables of docs/gpu.md from the results of ``benchmarks/simulation_gpu.py``, between markers."""

import json
from pathlib import Path
from typing import Any

from simulation_tables import table

from cgbench.config import write_atomic

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gpu.md"
RESULTS = ROOT / "benchmarks" / "results" / "simulation_gpu.json"
#: Replicas at which the peer is measured.
_FIRST = 32


def _cells(row: Any, *figures: tuple[str, str]) -> list[str]:
    """Return figures as text, or what is the matter in the first cell."""
    if row["status"] != "ok":
        return [row["status"], *["–"] * (len(figures) - 1)]
    return ["–" if row[name] is None else format(row[name], form) for name, form in figures]


def machine(found: Any) -> str:
    """Return where and with what the figures were measured."""
    if found["device"] is None:
        return "Not yet run."
    versions = found["provenance"]["packages"]
    peer = ", ".join(f"{name} {text}" for name, text in found["peer_versions"].items()) or "none"
    return (
        f"Measured on {found['device']} with torch {versions['torch']} and triton "
        f"{found['triton'] or 'not installed'}; the peer: {peer}. Matrix products: "
        f"{found['matrix_gigaflops']:.0f} GFLOP/s."
    )


def speed(found: Any) -> str:
    """Return steps a second of 32 replicas beside the peer's."""
    rows = []
    for row in found["simulations"]:
        if row["n_replicas"] != _FIRST:
            continue
        flat = {**row, "best": max(row["peer"].values(), default=None)}
        figures = (("ours", ".0f"), ("best", ".1f"), ("ratio", ".0f"), ("floor_ratio", ".1f"))
        rows.append([f"`{row['case']}`", str(row["n_beads"]), *_cells(flat, *figures)])
    return table(["protein", "beads", "steps/s", "peer", "ratio", "time over floor"], rows)


def saturation(found: Any) -> str:
    """Return steps times replicas a second for ever more replicas."""
    figures = (("ours", ".0f"), ("replica_steps", ".3g"), ("peak_megabytes", ".0f"))
    rows = [
        [f"`{row['case']}`", str(row["n_replicas"]), *_cells(row, *figures)]
        for row in found["simulations"]
    ]
    return table(["protein", "replicas", "steps/s", "steps·replicas/s", "MB"], rows)


def training(found: Any) -> str:
    """Return optimiser steps a second beside the peer's."""
    figures = (("ours", ".1f"), ("peer", ".1f"), ("ratio", ".1f"))
    rows = [
        [f"`{row['case']}`", str(row["frames"]), row["path"], *_cells(row, *figures)]
        for row in found["training"]
    ]
    return table(["protein", "frames", "path", "steps/s", "peer", "ratio"], rows)


def filled(page: str) -> str:
    """Return a page with its tables replaced."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    for part in (machine, speed, saturation, training):
        begin, end = f"<!-- {part.__name__} -->", f"<!-- /{part.__name__} -->"
        before, _, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed:
            raise SystemExit(f"{PAGE}: no markers for {part.__name__}")
        page = f"{before}{begin}\n{part(found)}\n{end}{after}"
    return page


def write_page() -> None:
    """Replace the tables of the page."""
    write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8")))
