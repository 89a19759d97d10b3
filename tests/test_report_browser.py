"""The report page in headless Chromium: that it draws, sorts, filters, turns, saves and fits."""

from pathlib import Path

import pytest
from browser_pages import CONTRAST, Opened, browser, coloured, launch, missing, stage_of
from toy_report import HOSTILE, content

from cgbench.errors import UsageError
from cgbench.report import Viewer, read_viewer, write_report
from cgbench.report.viewer import install_viewer

pytestmark = pytest.mark.browser
__all__ = ["browser", "launch"]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Viewer:
    home = tmp_path_factory.mktemp("home")
    try:
        install_viewer(home)
    except UsageError as error:
        missing(f"3Dmol.js cannot be had: {error.message}")
    found = read_viewer(home)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory, library) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "plain": (content("model-a", "model-b"), None),
        "ribbons": (content(backbone=True), library),
        "hostile": (content(HOSTILE), library),
    }
    return {
        name: write_report(shown, folder / f"{name}.html", viewer)
        for name, (shown, viewer) in made.items()
    }


@pytest.mark.parametrize("width", [1280, 390, 360])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_page_draws_and_fits(browser, pages, name, width) -> None:
    with Opened(browser, pages[name], viewport={"width": width, "height": 900}) as page:
        assert page.title() == "Report"
        stage_of(page)
        assert page.locator("figure svg").count() > 8
        box = page.locator("figure svg").first.bounding_box()
        assert box["width"] > 0.7 * min(width, 500)
        # The page itself never scrolls sideways; wide tables do inside their own frame.
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def column(page, table: str, place: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr td:nth-child({place})").all_inner_texts()
    return [text.split("\n")[0] for text in cells]


def test_tables_sort_by_value_with_missing_last(browser, pages) -> None:
    with Opened(browser, pages["plain"]) as page:
        button = page.locator("table.metrics thead th:nth-child(2) button")
        head = page.locator("table.metrics thead th:nth-child(2)")
        assert head.get_attribute("aria-sort") is None
        button.click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(page, "table.metrics", 2) == ["0.05", "0.31", "1.31", "12.5", "n/a"]
        assert "ascending" in page.locator("#status").inner_text()
        button.focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert column(page, "table.metrics", 2) == ["12.5", "1.31", "0.31", "0.05", "n/a"]
        page.locator("table.overview thead th:nth-child(1) button").click()
        assert column(page, "table.overview", 3) == ["10", "10", "2", "2"]


def test_metrics_are_filtered_by_group(browser, pages) -> None:
    with Opened(browser, pages["plain"]) as page:
        heads = page.locator("table.metrics thead th:visible")
        bar = page.locator(".filters").first
        assert heads.count() == 2
        bar.get_by_role("button", name="Thermodynamics").click()
        assert heads.count() == 3
        bar.get_by_role("button", name="Structure").click()
        assert "TM score" in heads.nth(1).inner_text()
        bar.get_by_role("button", name="All").click()
        assert heads.count() == 4
        assert bar.get_by_role("button", name="All").get_attribute("aria-pressed") == "true"
        rows = page.locator("table.metrics tbody tr:visible")
        assert rows.count() == 5
        bar.get_by_label("reference rows").uncheck()
        assert rows.count() == 2
        open_ = page.locator("table.differences tbody tr:visible")
        assert open_.count() == 4
        page.get_by_label("differences that are not significant").uncheck()
        assert open_.count() == 2


def test_metrics_of_other_benchmarks_are_shown_when_asked_for(browser, pages) -> None:
    with Opened(browser, pages["plain"]) as page:
        theirs = page.locator("table.metrics thead th", has_text="Divergence of others")
        bar = page.locator(".filters").first
        for group in ("Leading", "Thermodynamics", "All"):
            bar.get_by_role("button", name=group).click()
            assert not theirs.is_visible()
        bar.get_by_role("button", name="As other benchmarks").click()
        assert theirs.is_visible()
        lines = page.locator("table.differences tbody tr:visible")
        assert lines.filter(has_text="Theirs").count() == 0
        page.get_by_label("metrics as other benchmarks define them").check()
        assert lines.filter(has_text="Theirs").count() == 2
        # The boxes do not undo each other.
        page.get_by_label("differences that are not significant").uncheck()
        page.get_by_label("metrics as other benchmarks define them").uncheck()
        assert lines.count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(browser, pages, scheme) -> None:
    def paper(page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.removeprefix("rgb(").split(",")[0])

    with Opened(browser, pages["plain"], color_scheme=scheme) as page:
        assert (paper(page) < 100) == (scheme == "dark")
        button = page.locator("#theme")
        button.click()
        assert "light" in button.inner_text()
        assert paper(page) > 200
        button.click()
        assert paper(page) < 100
        assert page.evaluate(CONTRAST) == []
        button.click()
        assert page.evaluate(CONTRAST) == []


def test_ribbons_turn_with_keys_buttons_and_mouse(browser, pages) -> None:
    with Opened(browser, pages["ribbons"]) as page:
        stage = stage_of(page)
        assert stage.get_attribute("data-drawn") == "3dmol"
        assert coloured(page) > 3000
        seen = {stage.screenshot()}
        for key in ("ArrowLeft", "ArrowUp", "+"):
            stage.press(key)
            page.wait_for_timeout(150)
            seen.add(stage.screenshot())
        page.get_by_role("button", name="Turn right").click()
        page.wait_for_timeout(150)
        seen.add(stage.screenshot())
        box = stage.bounding_box()
        page.mouse.move(box["x"] + 150, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 230, box["y"] + 190, steps=4)
        page.mouse.up()
        page.wait_for_timeout(150)
        seen.add(stage.screenshot())
        assert len(seen) == 6
        shown = page.locator("[data-role=structures]")
        shown.get_by_label("model-a").uncheck()
        shown.get_by_label("reference").uncheck()
        page.wait_for_timeout(150)
        assert coloured(page) == 0
        shown.get_by_label("native").check()
        page.get_by_role("group", name="Macrostate").get_by_role("button", name="1").click()
        page.wait_for_timeout(150)
        assert coloured(page) > 1000
        with page.expect_download() as download:
            page.locator("[data-turn=save]").click()
        assert download.value.suggested_filename.endswith("-macrostate.png")


@pytest.mark.parametrize("name", ["plain", "ribbons"])
def test_without_webgl_the_page_draws_traces_itself(launch, pages, name) -> None:
    browser = launch(["--disable-gpu", "--disable-3d-apis"])
    opened = Opened(browser, pages[name])
    page = opened.page
    stage = stage_of(page)
    assert stage.get_attribute("data-drawn") == "trace"
    assert coloured(page) > 3000
    before = stage.screenshot()
    stage.press("ArrowRight")
    assert stage.screenshot() != before
    page.get_by_label("more frames").check()
    page.get_by_role("button", name="Spin").click()
    moving = stage.screenshot()
    page.wait_for_timeout(200)
    assert stage.screenshot() != moving
    assert opened.problems == []
    opened.context.close()
    browser.close()


def test_figures_are_saved(browser, pages, tmp_path) -> None:
    with Opened(browser, pages["plain"], color_scheme="dark") as page:
        figure = page.locator("figure:visible").nth(2)
        with page.expect_download() as download:
            figure.get_by_role("button", name="SVG").click()
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        assert target.name.startswith("chignolin-sample-")
        text = target.read_text()
        assert 'xmlns="http://www.w3.org/2000/svg"' in text
        assert "currentColor" not in text
        assert "var(" not in text
        with page.expect_download() as download:
            figure.get_by_role("button", name="PNG").click()
        picture = tmp_path / "figure.png"
        download.value.save_as(picture)
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(picture.read_bytes()) > 20000
        # The picture of a dark page is for white paper.
        import matplotlib.image

        pixels = matplotlib.image.imread(picture)
        assert pixels.shape[1] > 1200
        assert pixels[2, 2, :3].min() == 1.0
        assert pixels[..., :3].min() < 0.3


def test_everything_is_reached_with_the_keyboard_in_the_order_of_the_page(browser, pages) -> None:
    with Opened(browser, pages["plain"]) as page:
        stage_of(page)
        page.evaluate("window.scrollTo(0, 0); document.activeElement.blur()")
        expected = page.evaluate(
            """() => [...document.querySelectorAll(
                'a[href], button, input, summary, [tabindex="0"]')]
                .filter(item => item.checkVisibility()).length"""
        )
        places = []
        for _ in range(expected):
            page.keyboard.press("Tab")
            places.append(
                page.evaluate(
                    """() => [...document.querySelectorAll('*')].indexOf(document.activeElement)"""
                )
            )
        assert len(set(places)) == expected
        assert places == sorted(places)
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, input, [tabindex="0"]')].filter(item =>
                !(item.getAttribute('aria-label') || item.textContent.trim()
                  || (item.labels && item.labels.length))).length"""
        )
        assert unnamed == 0


def test_print_shows_light_paper_without_controls(browser, pages) -> None:
    with Opened(browser, pages["plain"], color_scheme="dark") as page:
        stage_of(page)
        page.emulate_media(media="print", color_scheme="dark")
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert page.locator("button:visible:not(.sort)").count() == 0
        assert coloured(page) > 3000
