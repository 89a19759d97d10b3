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


def test_what_the_optimal_force_map_is_worth() -> None:
    found = results("force_map_effect.json")
    page = (ROOT / "docs" / "force-maps.md").read_text(encoding="utf-8")
    table = page[page.index("## What the map is worth") :]
    shown = {
        line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| `")
    }

    def text(one: dict[str, float], digits: int) -> str:
        return f"{one['value']:.{digits}f} ± {one['error']:.{digits}f}".replace("-", "−")

    for item in found["noise"]:
        assert text(item["mean_square"], 1) in shown[f"`{item['force_map']}`"]
    for item in found["bias"]:
        line = shown[f"`{item['maps'][0]}`"]
        assert f"| {item['root_mean_square']:.2f}" in line
        assert text(item["largest"], 2) in line
        assert f"| {item['chi_square']:.1f} |" in line
    for item in found["trained"]:
        line = shown[f"`{item['force_map']}`"]
        assert text(item["optimal_error"], 2) in line
        assert f"| {item['validation_loss']['value']:.1f}" in line
    assert text(found["excess_error"], 2) in table
    assert f"{found['n_test_frames']:,}\nframes of {found['n_test_trajectories']}" in table
    assert found["bias"][1]["chi_square"] < 2 < found["bias"][0]["chi_square"]
    cells: dict[str, list[str]] = {}
    for name in ("selected", "slice"):
        path = ROOT / f"baselines/torchmd-gn/chignolin-sample-{name}/results/standard.json"
        (system,) = json.loads(path.read_text(encoding="utf-8"))["systems"]
        for key in ("force_mse", "rg_w1", "end_to_end_w1", "angle_js", "dihedral_js"):
            one, digits = system["metrics"][key], 3 if key.endswith("js") else 2
            numbers = [f"{one[part]:.{digits}f}" for part in ("value", "lo", "hi")]
            cells.setdefault(key, []).append(f"{numbers[0]} [{numbers[1]}, {numbers[2]}]")
    for key, both in cells.items():
        (line,) = (line for first, line in shown.items() if first.startswith(f"`{key}`"))
        assert line.endswith(f"| {both[0]} | {both[1]} |")
