"""Figures that pages show are those of the committed results."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def rows(page: str) -> dict[str, list[str]]:
    """Cells of the tables of a page by their first one."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line)
    return {first: rest for first, *rest in cells}


def test_speed_of_making_stores() -> None:
    shown = rows("preprocess.md")
    for store in results("preprocess.json")["stores"]:
        default = " (default)" if store["codec"] == "zstd" else ""
        assert shown[f"`{store['codec']}`{default}"] == [
            f"{store['megabytes_per_second']:.0f}",
            f"{100 * store['ratio']:.0f} %",
            f"{store['peak_resident_megabytes']:.0f} MB",
        ]


def test_speed_of_reading_batches() -> None:
    found = {
        (one["method"], one["cache"]): f"{one['frames_per_second']:,.0f}"
        for one in results("data_loading.json")["measurements"]
    }
    shown = {
        name: cells for name, cells in rows("training-data.md").items() if (name, "warm") in found
    }
    assert len(shown) >= 8
    for name, cells in shown.items():
        assert cells == [found[name, "cold"], found[name, "warm"]]


def test_what_the_second_sample_brings() -> None:
    card = (ROOT / "datasets" / "chignolin-sample-v2" / "README.md").read_text(encoding="utf-8")
    versions = results("sample_versions.json")["versions"].values()
    for name in next(iter(versions))["split_half"]:
        cells = [version["split_half"][name] for version in versions]
        text = " | ".join(f"{c['value']:.3f} [{c['lo']:.3f}, {c['hi']:.3f}]" for c in cells)
        assert f"| `{name}` | {text} |" in card
