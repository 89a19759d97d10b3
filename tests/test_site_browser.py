"""The leaderboard's site in headless Chromium: sorting, filters, comparison, viewer, keyboard."""

import itertools
from pathlib import Path
from threading import Thread

import pytest
from browser_pages import CONTRAST, Opened, browser, coloured, launch, stage_of
from toy_site import HOSTILE, SAMPLE, board, crowded

from cgbench.leaderboard.site import build_site, make_server
from cgbench.leaderboard.site.build import overview
from cgbench.leaderboard.site.markup import Templates
from cgbench.leaderboard.site.model_pages import rows_of_models
from cgbench.leaderboard.site.protein_pages import AtHand
from cgbench.registry import systems

pytestmark = pytest.mark.browser
__all__ = ["browser", "launch"]


@pytest.fixture(scope="module")
def found():
    return board(24, notes=("A note on all of it.",))


@pytest.fixture(scope="module")
def site(found, tmp_path_factory) -> Path:
    return build_site(found, tmp_path_factory.mktemp("site") / "site").folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    shown = board(4, text=HOSTILE, notes=(HOSTILE,))
    return build_site(shown, tmp_path_factory.mktemp("hostile") / "site").folder


@pytest.fixture(scope="module")
def many(found, tmp_path_factory) -> Path:
    """The first page with two hundred models."""
    full = crowded(found, 200)
    nothing = {system.key: AtHand(None, None, "") for system in systems()}
    page = Templates().render("index", "index.html", overview(full, rows_of_models(full), nothing))
    path = tmp_path_factory.mktemp("many") / "index.html"
    path.write_text(page)
    return path


def kinds(site: Path) -> list[Path]:
    """Return one page of each kind."""
    models = sorted(site.glob("models/*/*.html"))
    named = ("index.html", "compare.html", "metrics.html", "proteins/chignolin.html",
             f"proteins/{SAMPLE}.html")  # fmt: skip
    return [*(site / name for name in named), *models[:2]]


def titles(page) -> list[str]:
    return page.locator("table.board tbody tr:visible th a").all_inner_texts()


def scores(page) -> list[float]:
    return [
        float(text) for text in page.locator("table.board tbody tr:visible td b").all_inner_texts()
    ]


@pytest.mark.parametrize("width", [1280, 360])
def test_every_kind_of_page_draws_and_fits(browser, site, width) -> None:
    for path in kinds(site):
        with Opened(browser, path, viewport={"width": width, "height": 900}) as page:
            assert page.locator("h1").count() == 1
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path


def test_hostile_text_is_text(browser, hostile) -> None:
    for path in kinds(hostile):
        with Opened(browser, path, viewport={"width": 390, "height": 900}) as page:
            assert page.evaluate("window.hacked") is None
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
    with Opened(browser, hostile / "compare.html") as page:
        assert HOSTILE in page.locator("#out h2").first.inner_text()
        assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(browser, site, scheme) -> None:
    for path in kinds(site):
        with Opened(browser, path, color_scheme=scheme) as page:
            assert page.evaluate(CONTRAST) == [], path


def test_tables_sort_and_the_address_remembers(browser, site) -> None:
    with Opened(browser, site / "index.html") as page:
        head = page.locator("#table-p1 thead th", has_text="ns/day")
        assert page.locator("#table-p1 thead th").first.get_attribute("aria-sort") == "ascending"
        before = titles(page)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        speeds = [
            float(text)
            for text in page.locator("#table-p1 tbody tr td:nth-child(5)").all_inner_texts()
            if text != "–"
        ]
        assert speeds == sorted(speeds, reverse=True)
        after, address = titles(page), page.url
        assert after != before
        assert sorted(after) == sorted(before)
        page.goto("about:blank")
        page.goto(address)
        assert titles(page) == after
        assert page.locator("#table-p1 thead th[aria-sort=descending]").count() == 1


def test_rows_are_filtered_and_the_address_remembers(browser, site) -> None:
    with Opened(browser, site / "index.html") as page:
        rows = page.locator("table.board tbody tr:visible")
        whole = rows.count()
        page.get_by_label("reference rows").uncheck()
        models = rows.count()
        assert whole - models == 5
        page.get_by_label("superseded and withdrawn").uncheck()
        assert page.locator("tr.past:visible").count() == 0
        assert rows.count() == models - 2
        page.get_by_label("checked").select_option("reproduced")
        assert 0 < rows.count() < models - 2
        for text in page.locator("table.board tbody tr:visible td.text").all_inner_texts():
            assert "reproduced" in text
        assert f"{rows.count()} of" in page.locator("#found").inner_text()
        seen, address = titles(page), page.url
        page.goto("about:blank")
        page.goto(address)
        assert titles(page) == seen
        page.get_by_role("button", name="Clear").click()
        assert rows.count() == whole
        assert "#" not in page.url
        page.get_by_role("button", name="Samplers").click()
        assert page.locator("#track-sampler").is_visible()
        assert not page.locator("#track-protein-specific").is_visible()
        page.locator("#bar").get_by_role("button", name="All", exact=True).click()
        page.get_by_label("kind").select_option("sampler")
        assert page.locator("tr.model:visible").count() == 2


def test_search_finds_models_and_proteins_from_anywhere(browser, site) -> None:
    model = next(iter(sorted(site.glob("models/*/*.html"))))
    with Opened(browser, model) as page:
        title = page.locator("h1").inner_text()
        page.get_by_role("searchbox").fill(title.upper())
        page.keyboard.press("Enter")
        page.wait_for_url("**/index.html#*")
        models = page.locator("tr:is(.model, .past):visible th a")
        assert models.all_inner_texts() == [title]
        page.locator("#search").fill("Trp cage")
        page.wait_for_timeout(50)
        assert page.locator("#cards .card:visible").count() <= 1
        page.locator("#search").fill("trp-cage")
        assert page.locator("#cards .card:visible .name").all_inner_texts() == ["Trp-cage"]
        assert "0 of" in page.locator("#found").inner_text()


def test_two_models_are_compared(browser, site) -> None:
    with Opened(browser, site / "index.html") as page:
        boxes = page.locator("#table-p1 .pickbox:visible")
        names = [
            page.locator("#table-p1 tr:has(.pickbox) th a").nth(place).inner_text()
            for place in (0, 5)
        ]
        boxes.nth(0).check()
        assert not page.locator("#compare").is_visible()
        boxes.nth(5).focus()
        page.keyboard.press("Space")
        assert boxes.nth(3).is_disabled()
        page.locator("#compare").click()
        assert page.locator("#out .pair h2").all_inner_texts() == names
        first = page.locator("#out table").first.locator("tbody tr").first.locator("td")
        assert first.nth(4).inner_text() == "first is better"
        page.locator("#swap").click()
        assert page.locator("#out .pair h2").all_inner_texts() == names[::-1]
        assert first.nth(4).inner_text() == "second is better"
        page.locator("#protein").select_option("proteing")
        assert page.locator("#out details").count() == 1
        assert page.locator("#out details table tbody tr").count() > 10
        cards, address = page.locator("#out").inner_text(), page.url
        assert "protein=proteing" in address
        page.goto("about:blank")
        page.goto(address)
        assert page.locator("#out").inner_text() == cards


def test_dots_of_the_plots_belong_to_rows(browser, site) -> None:
    with Opened(browser, site / "index.html") as page:
        dot = page.locator("section:visible .pareto circle[data-i]").first
        dot.scroll_into_view_if_needed()
        dot.hover()
        tip = page.locator(".tip")
        assert tip.is_visible()
        place = dot.get_attribute("data-i")
        row = page.locator(f"#table-p1 tr[data-i='{place}']")
        assert row.locator("th a").inner_text() in tip.inner_text()
        assert "near" in row.get_attribute("class")
        dot.click()
        page.wait_for_url("**/models/**")
        assert page.locator("h1").inner_text() in tip_free(row_title(site, place))


def row_title(site: Path, place: str | None) -> str:
    text = (site / "index.html").read_text()
    start = text.index(f'data-i="{place}"', text.index('id="table-p1"'))
    return text[start : text.index("</tr>", start)]


def tip_free(text: str) -> str:
    return text.partition("<small>")[0]


def test_structures_turn(browser, site) -> None:
    with Opened(browser, site / "proteins" / f"{SAMPLE}.html") as page:
        stage = stage_of(page)
        assert coloured(page) > 3000
        seen = {stage.screenshot()}
        for key in ("ArrowLeft", "ArrowUp", "+"):
            stage.press(key)
            page.wait_for_timeout(100)
            seen.add(stage.screenshot())
        page.get_by_label("native").check()
        page.wait_for_timeout(100)
        seen.add(stage.screenshot())
        assert len(seen) == 5


def test_rows_of_a_protein_are_filtered(browser, site) -> None:
    with Opened(browser, site / "proteins" / "chignolin.html") as page:
        rows = page.locator("#table-models tbody tr:visible")
        whole = rows.count()
        page.locator("#track").select_option("Samplers")
        page.get_by_label("reference rows").uncheck()
        assert rows.count() == 2
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        assert rows.count() == 2 < whole
        values = scores(page)
        page.locator("#table-models thead th", has_text="Score").locator("button").click()
        assert scores(page) == sorted(values)


def test_everything_is_reached_with_the_keyboard(browser, site) -> None:
    for path in (site / "index.html", kinds(site)[-1]):
        with Opened(browser, path) as page:
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.id") == "content"
            # From the very start again: the main part had the focus.
            page.goto("about:blank")
            page.goto(path.as_uri())
            expected = page.evaluate(
                """() => [...document.querySelectorAll('a[href], button, input, select, summary, '
                    + '[tabindex="0"]')].filter(item => item.checkVisibility()
                    && !item.disabled && !item.closest('[hidden]')).length"""
            )
            places = []
            for _ in range(expected):
                page.keyboard.press("Tab")
                places.append(
                    page.evaluate(
                        "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
                    )
                )
            assert len(set(places)) == expected
            assert places == sorted(places)
            unnamed = page.evaluate(
                """() => [...document.querySelectorAll('button, input, select, a[href], '
                    + '[tabindex="0"]')].filter(item => !(item.getAttribute('aria-label')
                    || item.textContent.trim() || (item.labels && item.labels.length)))
                    .map(item => item.outerHTML.slice(0, 80))"""
            )
            assert unnamed == []


def test_landmarks_and_headings_are_in_order(browser, site) -> None:
    for path in kinds(site):
        with Opened(browser, path) as page:
            for landmark in ("banner", "main", "contentinfo"):
                assert page.get_by_role(landmark).count() == 1, path
            levels = page.evaluate(
                "[...document.querySelectorAll('h1,h2,h3,h4')].map(item => +item.tagName[1])"
            )
            assert levels[0] == 1
            assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), (path, levels)
            regions = page.locator("nav:not([aria-label]), [role=region]:not([aria-label])")
            assert regions.count() == 0
            twice = page.evaluate(
                """() => [...document.querySelectorAll('[id]')].map(item => item.id)
                    .filter((id, place, all) => all.indexOf(id) !== place)"""
            )
            assert twice == []


def test_long_tables_open_and_stay_light(browser, many) -> None:
    with Opened(browser, many) as page:
        rows = page.locator("#table-p1 tbody tr:is(.model, .past):visible")
        assert rows.count() == 25
        page.get_by_role("button", name="Show all").click()
        assert rows.count() > 150
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        assert rows.count() > 150
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        # The page is one file: nothing else is asked for.
        assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_tables_are_there_without_scripts(browser, site) -> None:
    with Opened(browser, site / "index.html", java_script_enabled=False) as page:
        assert page.locator("table.board").count() == 3
        assert page.locator("tr:is(.model, .past):visible").count() == 23
        assert not page.locator("#bar").is_visible()
        assert page.locator(".pareto:visible").count() >= 4


def test_a_server_gives_the_same_site(browser, site) -> None:
    with make_server(site) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}/index.html"
            with Opened(browser, address) as page:
                page.locator("#table-p1 tbody tr.model th a").first.click()
                page.wait_for_url("**/models/**")
                page.get_by_role("link", name="chignolin", exact=True).click()
                page.wait_for_url("**/proteins/chignolin.html")
                page.get_by_role("searchbox").first.fill("graph")
                assert page.locator("h1").inner_text().startswith("Chignolin")
        finally:
            server.shutdown()
            thread.join()
