"""The structure viewer in headless Chromium: lazy, drawn, turned, played, coloured, described."""

from pathlib import Path
from threading import Thread

import pytest
from browser_pages import Opened, browser, coloured, launch, stage_of
from test_site_drawings import run_folder
from toy_rows import bundle
from toy_site import SAMPLE, board

from cgbench.leaderboard.site import build, build_site, details, make_server
from cgbench.leaderboard.site.protein_pages import AtHand

pytestmark = pytest.mark.browser
__all__ = ["browser", "launch"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str]:
    """A site with a protein's structures and a model's, and the address of the model's page."""
    runs = tmp_path_factory.mktemp("runs")
    shown, key = run_folder(runs)
    found = board(3)
    tracks = {**found.tracks, "protein-specific": (shown, *found.tracks["protein-specific"])}
    hand = AtHand(bundle(), bundle().native, "")
    real = build.at_hand
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(details, "kept_rows", lambda *_, **__: [])
        patch.setattr(
            build, "at_hand", lambda system, home: hand if system.key == key else real(system, home)
        )
        out = build_site(
            found.model_copy(update={"tracks": tracks}), tmp_path_factory.mktemp("site") / "site",
            details=runs,
        )  # fmt: skip
    assert out.figures == (shown.id,)
    return out.folder, f"models/{shown.id}.html"


def test_a_model_s_structures_lie_on_the_native_one(browser, made) -> None:
    folder, model = made
    with Opened(browser, folder / model) as page:
        stage_of(page)
        viewer = page.locator(".viewer").first
        assert page.locator(".stage .poster").count() == 0
        assert coloured(page) > 3000
        native = coloured(page)
        assert viewer.get_by_label("native").is_checked()
        viewer.get_by_label("native").uncheck()
        page.wait_for_timeout(150)
        assert coloured(page) != native
        told = viewer.locator("[data-role=told]")
        assert "in the reference" in told.inner_text()
        assert "strand" in told.inner_text()
        viewer.get_by_label("more frames").check()
        page.wait_for_timeout(150)
        assert coloured(page) > native


def test_a_picture_is_there_until_a_structure_comes_into_view(browser, made) -> None:
    folder, model = made
    # As high as a line: nothing below the head is in view.
    with Opened(browser, folder / model, viewport={"width": 1280, "height": 40}) as page:
        assert page.locator(".stage .poster svg").count() == 1
        assert page.evaluate("typeof Ribbons") == "undefined"
        stage_of(page)
        assert page.locator(".stage .poster").count() == 0


def test_it_plays_colours_and_names_with_the_keyboard_alone(browser, made) -> None:
    folder, _ = made
    with Opened(browser, folder / "proteins" / f"{SAMPLE}.html") as page:
        stage = stage_of(page)
        viewer = page.locator(".viewer").first
        pressed = "[data-state][aria-pressed=true]"
        first, told = viewer.locator(pressed).inner_text(), viewer.locator("[data-role=told]")
        assert "native" in first
        assert stage.get_attribute("aria-describedby") == told.get_attribute("id")
        words = told.inner_text()
        stage.press("PageDown")
        assert viewer.locator(pressed).inner_text() != first
        assert told.inner_text() != words
        assert page.locator("#status").inner_text() == told.inner_text()
        before = viewer.locator(pressed).inner_text()
        stage.press(" ")
        assert viewer.get_by_role("button", name="Pause").count() == 1
        viewer.locator(f"{pressed}:not(:text-is('{before}'))").wait_for(timeout=8000)
        stage.press(" ")
        assert viewer.get_by_role("button", name="Play").get_attribute("aria-pressed") == "false"
        seen = {stage.screenshot()}
        for scheme in ("kind of residue", "secondary structure", "one colour each"):
            viewer.get_by_label("colour").select_option(scheme)
            page.wait_for_timeout(150)
            seen.add(stage.screenshot())
        assert len(seen) == 4
        # What is under the pointer is named.
        stage.hover()
        named = False
        for step in range(40):
            box = stage.bounding_box()
            page.mouse.move(
                box["x"] + box["width"] * (0.2 + 0.015 * step), box["y"] + box["height"] / 2
            )
            named = named or "·" in viewer.locator(".residue").inner_text()
        assert named


def test_served_pages_load_their_own_files_and_a_lone_page_keeps_its_picture(
    browser, made, tmp_path
) -> None:
    folder, model = made
    with make_server(folder) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            root = f"http://127.0.0.1:{server.server_address[1]}"
            context = browser.new_context()
            page = context.new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"{root}/{model}")
            stage_of(page)
            assert coloured(page) > 3000
            assert all(one.startswith((root, "data:", "blob:")) for one in asked)
            assert len([one for one in asked if one.endswith(".js")]) == 2
            context.close()
        finally:
            server.shutdown()
            thread.join()
    (tmp_path / "models" / "a").mkdir(parents=True)
    alone = tmp_path / "models" / "a" / "b.html"
    alone.write_bytes((folder / model).read_bytes())
    context = browser.new_context()
    page = context.new_page()
    page.goto(alone.as_uri())
    page.locator(".viewer").first.scroll_into_view_if_needed()
    page.get_by_text("could not be loaded").wait_for()
    assert page.locator(".stage .poster svg").is_visible()
    context.close()
