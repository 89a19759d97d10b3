"""The report page: what it says, that it needs nothing else, and that it draws in a browser."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cgbench.report import (
    Cell,
    Column,
    Curve,
    Difference,
    MacrostateRow,
    Panel,
    ReportContent,
    Row,
    SystemSection,
    cell_text,
    number,
    render,
    write_report,
)

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def make_content(name: str = "model-a") -> ReportContent:
    edges = (np.linspace(-2, 2, 81), np.linspace(-2, 2, 81))
    x = 0.5 * (edges[0][1:] + edges[0][:-1])
    surface = 3.0 * (x[:, None] ** 2 + x[None, :] ** 2)
    surface = np.where(surface > 12.0, np.nan, surface)
    density = np.exp(-(x**2))
    time = np.linspace(0.0, 20.0, 201)
    section = SystemSection(
        system="chignolin-sample",
        title="chignolin-sample",
        verdicts=[f"{name} is nearer than prior_only"],
        warnings=["The reference is not converged."],
        facts={"frames": "52500", "licence": "MIT"},
        columns=[Column("rg_w1", "rg_w1", "Å", "min", "Wasserstein distance of Rg")],
        rows=[
            Row(name, "model", {"rg_w1": Cell(0.31, 0.2, 0.4)}),
            Row("native_constant", "reference row", {"rg_w1": Cell(None, None, None, "no time")}),
        ],
        maps=[("reference", surface), (name, surface + 1.0)],
        map_edges=edges,
        map_cutoff=4.0,
        native_tics=(0.0, 0.0),
        panels=[
            Panel("Rg", "Å", (Curve("reference", x, density, True), Curve(name, x, density * 0.9)))
        ],
        traces={name: [(time, 2.0 + np.sin(time)), (time, 3.0 + np.cos(time))]},
        macrostates=[MacrostateRow(0, True, 0.2, 1.1, {name: 0.3})],
        differences=[Difference("rg_w1", name, "prior_only", -0.5, -0.7, -0.2)],
    )
    return ReportContent("Report", "A page.", [section], {"version": "0.1.0"})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.12345, "0.123"), (1234.5, "1234"), (52500, "52500"),
     (1.5e-5, "1.5e-05"), (3.2e7, "3.2e+07"), (-0.04567, "-0.0457")],
)  # fmt: skip
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert number(value) == text


def test_cells_show_their_interval() -> None:
    assert cell_text(Cell(0.5, 0.25, 0.75)) == "0.5 [0.25, 0.75]"
    assert cell_text(Cell(0.5, None, None)) == "0.5"
    assert cell_text(Cell(None, None, None)) == "n/a"
    assert cell_text(None) == "n/a"


def test_page_is_the_same_twice_and_asks_for_nothing(tmp_path: Path) -> None:
    first = write_report(make_content(), tmp_path / "a.html").read_text()
    assert first == render(make_content())
    addresses = set(re.findall(r"""(?:src|href)=["']([^"']+)""", first))
    outside = {item for item in addresses if not item.startswith(("data:", "#"))}
    assert not outside
    assert "0.2 … 0.4" in first
    assert "n/a" in first


def test_hostile_names_are_escaped() -> None:
    page = render(make_content(HOSTILE))
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


@pytest.fixture(scope="module")
def browser():  # type: ignore[no-untyped-def]
    executable = shutil.which("chromium")
    if executable is None:
        if os.environ.get("CGBENCH_TEST_STRICT"):
            pytest.fail("no chromium on this machine, but CGBENCH_TEST_STRICT is set")
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield instance
        instance.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["model-a", HOSTILE])
def test_page_draws_in_a_browser(browser, tmp_path: Path, width: int, name: str) -> None:  # type: ignore[no-untyped-def]
    path = write_report(make_content(name), tmp_path / "report.html")
    page = browser.new_page(viewport={"width": width, "height": 900})
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    assert page.title() == "Report"
    assert not problems
    assert all(url.startswith(("file:", "data:")) for url in requests)
    image = page.locator("figure img").first
    assert image.evaluate("image => image.naturalWidth") > 300
    assert page.locator("figure svg").count() == 2
    assert page.locator("table.metrics tbody tr").count() == 2
    # The page itself never scrolls sideways; wide tables do inside their own frame.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
