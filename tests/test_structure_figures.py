"""Figures and elements that the pages show are those of the results and of the registry."""

import json
from pathlib import Path
from typing import Any

from cgbench import registry

ROOT = Path(__file__).parents[1]


def results() -> Any:
    path = ROOT / "benchmarks" / "results" / "structure_scores.json"
    return json.loads(path.read_text(encoding="utf-8"))


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def optional(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def test_searches() -> None:
    page, found = text("structure.md"), results()
    assert len(found["searches"]) == 12
    for one in found["searches"]:
        deficit, largest = one["gdt_ts_deficit_mean"], one["gdt_ts_deficit_largest"]
        expected = row(
            f"`{one['system']}`",
            str(one["n_beads"]),
            f"{one['milliseconds']:.2f}",
            f"{one['tmtools_milliseconds']:.2f}",
            optional(one["tm_minus_tmtools_mean"], ".4f"),
            f"{deficit:.4f} ({largest:.3f})",
            f"{one['gdt_ha_deficit_mean']:.4f}",
        )
        assert expected in page
        # What the page claims in words.
        assert (one["tm_minus_tmtools_least"] or 0.0) > -1e-4
        assert (one["triple_deficit"] or 0.0) <= 1e-9
    assert f"take {found['search_seconds']:.0f} s" in page
    assert found["search_seconds"] < 60.0


def test_speeds() -> None:
    page = text("structure.md")
    for one in results()["speeds"]:
        cells = [f"{one['cgbench']:.0f}"]
        cells += [optional(one[name], ".0f") for name in ("mdtraj", "mdtraj_precentred")]
        assert row(f"`{one['score']}`", str(one["n_beads"]), *cells) in page
        if one["score"] == "rmsd":
            assert one["cgbench"] < one["mdtraj"]


def test_elements() -> None:
    page = text("structure.md")
    agreement = {one["system"]: one["agreement"] for one in results()["annotations"]}
    for system in registry.systems():
        if system.published_key is None:
            continue
        elements = registry.secondary_structure(system.key)
        share = agreement.get(system.key)
        expected = row(
            f"`{system.key}`",
            ", ".join(element.name for element in elements),
            ", ".join(dict.fromkeys(element.source for element in elements)),
            "–" if share is None else f"{100 * share:.0f} %",
        )
        assert expected in page


def test_backbones() -> None:
    page, found = text("backmap.md"), results()
    for one in [*found["backbones"], found["backbone_overall"]]:
        numbers = [f"{one[name]:.2f}" for name in ("nitrogen", "carbon", "oxygen", "all_three")]
        share = f"{100 * one['dssp_agreement']:.0f} %"
        assert row(one["entry"], str(one["n_residues"]), *numbers, share) in page
    assert f"{100 * found['backbone_overall']['far_oxygens']:.0f} % of the oxygens" in page
    cost = found["backbone_milliseconds"]
    assert f"takes {cost['10']:.2f} ms, one of 80 beads {cost['80']:.1f} ms" in page
