"""Pages in headless Chromium: what the tests of the report and of the site share."""

import os
import shutil

import pytest

STRICT = bool(os.environ.get("CGBENCH_TEST_STRICT"))
#: WebGL without a graphics card.
SOFTWARE_WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def missing(reason: str) -> None:
    if STRICT:
        pytest.fail(f"{reason}, but CGBENCH_TEST_STRICT is set")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def launch():
    executable = shutil.which("chromium")
    if executable is None:
        missing("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        yield lambda flags: driver.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-background-networking", *flags],
        )


@pytest.fixture(scope="module")
def browser(launch):
    instance = launch(SOFTWARE_WEBGL)
    yield instance
    instance.close()


class Opened:
    """A page, of a file or an address, that remembers what it complained of and asked for."""

    def __init__(self, browser, path, **settings) -> None:
        settings = {"viewport": {"width": 1280, "height": 900}, **settings}
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        # A page may ask for itself, and for nothing elsewhere.
        own = path.rpartition("/")[0] if isinstance(path, str) else "file:"
        self.allowed = (own, "data:", "blob:")
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.goto(path if isinstance(path, str) else path.as_uri())

    def _asked(self, url: str) -> None:
        if not url.startswith(self.allowed):
            self.problems.append(f"asked for {url}")

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *rest) -> None:
        self.context.close()
        if kind is None:
            assert self.problems == []


def stage_of(page):
    page.locator(".viewer").first.scroll_into_view_if_needed()
    stage = page.locator(".stage").first
    page.locator(".stage[data-drawn]").first.wait_for()
    page.wait_for_timeout(300)
    return stage


def coloured(page) -> int:
    """Return how many pixels of the viewer's canvas are drawn."""
    return page.evaluate(
        """() => {
            const drawn = document.querySelector('.stage canvas');
            const copy = document.createElement('canvas');
            [copy.width, copy.height] = [drawn.width, drawn.height];
            const pen = copy.getContext('2d');
            pen.drawImage(drawn, 0, 0);
            const data = pen.getImageData(0, 0, copy.width, copy.height).data;
            let found = 0;
            for (let i = 3; i < data.length; i += 4) found += data[i] > 0;
            return found;
        }"""
    )


#: Texts whose contrast with the nearest painted background is below 4.5.
CONTRAST = """() => {
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = item => {
        for (let e = item; e; e = e.parentElement) {
            const found = channels(getComputedStyle(e).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    const low = [];
    for (const item of document.querySelectorAll('body *:not(svg *):not(script)')) {
        const own = [...item.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!own || !item.checkVisibility()) continue;
        const [a, b] = [light(channels(getComputedStyle(item).color)), light(ground(item))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push(`${item.tagName}.${item.className} ${ratio.toFixed(2)}`);
    }
    return low;
}"""
