"""The report page: what it says, that it needs nothing else, and that nothing in it can run."""

import functools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from toy_report import HOSTILE, content, section

from cgbench.report import Cell, Viewer, cell_text, number, render, write_report
from cgbench.report.drawing import SOFT, colour_of, style, svg


@functools.cache
def drawn(*names: str, systems: tuple[str, ...] = ("chignolin-sample",)) -> str:
    """A page without the viewer, drawn once."""
    return render(content(*names, systems=systems))


LIBRARY = Viewer("window.$3Dmol = {};", "A licence -- with two hyphens and <tags>.")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0"), (0.12345, "0.123"), (1234.5, "1234"),
     (52500, "52500"), (1.5e-5, "1.5e-05"), (3.2e7, "3.2e+07"), (-0.04567, "-0.0457")],
)  # fmt: skip
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert number(value) == text


def test_cells_show_their_interval() -> None:
    assert cell_text(Cell(0.5, 0.25, 0.75)) == "0.5 [0.25, 0.75]"
    assert cell_text(Cell(0.5, None, None)) == "0.5"
    assert cell_text(Cell(None, None, None)) == "n/a"
    assert cell_text(None) == "n/a"


class Elements(HTMLParser):
    """Collects elements, their attributes, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_page_is_the_same_twice_and_asks_for_nothing(tmp_path: Path) -> None:
    first = write_report(content(), tmp_path / "a.html").read_text()
    assert first == drawn()
    assert first.startswith("<!doctype html>")
    addresses = [
        value
        for _, attributes in Elements(first).found
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "action", "srcset") and value is not None
    ]
    assert addresses
    assert [item for item in addresses if not item.startswith(("data:image/", "#"))] == []
    assert not re.search(r"@import|url\((?!#)", first)


def test_only_known_scripts_may_run() -> None:
    page = render(content(), LIBRARY)
    elements = Elements(page)
    policy = next(
        item["content"] for item in elements.of("meta") if item.get("http-equiv") is not None
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    script_sources = next(part for part in policy.split(";") if "script-src" in part)
    assert "unsafe-inline" not in script_sources
    running = [item for item in elements.of("script") if item.get("type") is None]
    assert len(running) == script_sources.count("'sha256-") == 5
    assert [key for _, attributes in elements.found for key in attributes if key[:2] == "on"] == []


@pytest.mark.parametrize("library", [None, LIBRARY])
def test_hostile_names_are_text(library: Viewer | None) -> None:
    page = render(content(HOSTILE), library)
    elements = Elements(page)
    # As many elements that could run or load as with a harmless name.
    harmless = Elements(drawn())
    extra = {"script": 0 if library is None else 1}
    for tag in ("script", "img", "iframe", "link", "object", "style"):
        assert len(elements.of(tag)) == len(harmless.of(tag)) + extra.get(tag, 0)
    assert "onerror=&#34;" in page or "onerror=&quot;" in page
    data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    shown = json.loads(data[0])["macrostates"][0]["structures"]
    assert [item["name"] for item in shown] == ["native", "reference", HOSTILE]


def test_every_figure_has_words_and_ids_are_unique() -> None:
    page = drawn("a", "b", systems=("one", "two"))
    elements = Elements(page)
    ids = [item["id"] for _, item in elements.found if item.get("id")]
    assert len(ids) == len(set(ids))
    drawings = [item for _, item in elements.found if item.get("class") == "drawing"]
    assert len(drawings) > 20
    for item in drawings:
        assert item["role"] == "img"
        assert len(item["aria-label"] or "") > 15
    assert len(elements.of("figcaption")) == len(elements.of("figure"))
    assert len(elements.of("caption")) == len(elements.of("table"))
    # What labels or is filtered is there.
    for _, item in elements.found:
        for key in ("aria-labelledby", "data-table", "data-differences", "data-viewer"):
            if item.get(key) is not None:
                assert item[key] in ids
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert max(np.diff(levels)) <= 1


def test_page_without_scripts_has_everything() -> None:
    page = re.sub(r"<script>.*?</script>", "", drawn(), flags=re.DOTALL)
    for text in ("folds too rarely", "✗ wrong", "✓ right", "? cannot tell", "0.2 … 0.4", "n/a",
                 "every frame is lost", "cgbench reference build", "not significant",
                 "first is better", "cgbench evaluate model-a", "void"):  # fmt: skip
        assert text in page
    assert "cgbench viewer install" in page


def test_size_and_the_viewer_once() -> None:
    two = content(systems=("one", "two"))
    # Figures take time to draw and have nothing to do with it.
    plain = {"surfaces": [], "standings": [], "profiles": [], "panels": [], "local_panels": [],
             "traces": {}, "contacts": {}, "dihedrals": {}}  # fmt: skip
    two = replace(two, sections=[replace(item, **plain) for item in two.sections])
    assert len(drawn()) < 3e6
    library = Viewer("/* the library */" + "x" * 1000, "A licence.")
    page = render(two, library)
    assert page.count("/* the library */") == 1
    assert "A licence." in page
    assert "cgbench viewer install" not in page
    # Nothing to show, nothing embedded.
    bare = replace(two, sections=[replace(item, structures=None) for item in two.sections])
    assert "/* the library */" not in render(bare, library)


def test_parts_may_be_missing() -> None:
    whole = section(("m",))
    bare = replace(
        whole, verdicts=[], warnings=[], surfaces=[], standings=[], profiles=[], panels=[],
        local_panels=[], traces={}, contacts={}, dihedrals={}, macrostates=[], structures=None,
        differences=[], paper=[], rows=[], columns=[],
    )  # fmt: skip
    page = render(replace(content(), sections=[bare], overview=None, absent=[], tables=[]))
    assert "<figure" not in page
    assert "chignolin-sample" in page
    nothing = render(replace(content(), sections=[], overview=None))
    assert "every frame is lost" in nothing


def test_colour_means_a_model() -> None:
    found = colour_of(["a", "b"], ["ideal_chain", "prior_only (b)", "prior_only"])
    assert found["prior_only (b)"][0] == found["b"][0]
    assert found["prior_only (b)"][1] != found["b"][1]
    assert found["ideal_chain"][0] == found["prior_only"][0] == SOFT
    assert len({str(value) for value in found.values()}) == 5


def test_parts_stand_where_they_belong() -> None:
    page = drawn()
    places = [
        page.index(text)
        for text in (">At a glance<", "<h3>Free-energy surfaces<", "surfaces of the reference rows",
                     ">Metrics<", ">Macrostates<", "Distributions and contacts")
    ]  # fmt: skip
    assert places == sorted(places)
    # The same with parts missing.
    less = replace(section(("m",)), standings=[], profiles=[])
    page = render(replace(content(), sections=[less]))
    assert page.index("surfaces of the reference rows") < page.index(">Metrics<")
    assert page.index(">Macrostates<") < page.index("Distributions and contacts")


def test_macrostates_are_columns_and_rows_are_explained() -> None:
    whole = section(("m",))
    rows = [replace(row, description=f"About {row.name}.") for row in whole.rows[1:]]
    page = render(replace(content(), sections=[replace(whole, rows=[whole.rows[0], *rows])]))
    table = page[page.index('<table class="macrostates') :]
    table = table[: table.index("</table>")]
    assert len(re.findall(r'<th scope="col"', table)) == 1 + len(whole.macrostates)
    assert re.findall(r'<th scope="row">(\w+)', table) == ["reference", "m"]
    assert "About ideal_chain." in page
    assert "void: native-like" in page
    assert "How this is judged" in page


def test_figures_take_the_colours_of_the_page() -> None:
    with style() as plt:
        figure, axis = plt.subplots()
        axis.set_title("0.123456789 #5 of 1.23456")
        drawn = svg(figure, "key")
    assert "0.123456789 #5 of 1.23456" in drawn
    assert "currentColor" in drawn
    assert "#010203" not in drawn
    assert re.findall(r'id="(?!key-)', drawn) == []
