"""First view of the leaderboard's site: bytes and seconds in headless Chromium, with many models.

    python benchmarks/site.py                      # writes benchmarks/results/site.json

A board of made-up models is built as a real one is, with the models of ``tests/toy_site.py``, which
the code that ranks real ones has ranked. Its pages are opened from the disk in a fresh browser
profile, a few times each, at the width of a screen and of a phone: what they weigh, as they are and
as a host compresses them, how long they take to the first and to the largest paint and until they
are loaded, how much the layout moves meanwhile, and how long the browser's main thread is busy in
one piece. The budget of the first view is 300 kB and 1 s.
"""

import argparse
import gzip
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from cgbench.leaderboard.site import build_site
from cgbench.provenance import collect

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "site.json"
BUDGET_BYTES, BUDGET_SECONDS = 300_000, 1.0

#: Numbers that the browser itself keeps of a page, after it is idle.
_MEASURED = """async () => {
    const seen = type => new Promise(done => {
        try {
            const observer = new PerformanceObserver(list => done(list.getEntries()));
            observer.observe({ type, buffered: true });
        } catch { done([]); }
        setTimeout(() => done([]), 300);
    });
    const paints = await seen("paint"), large = await seen("largest-contentful-paint");
    const shifts = await seen("layout-shift"), tasks = await seen("longtask");
    const load = performance.getEntriesByType("navigation")[0];
    const first = paints.find(one => one.name === "first-contentful-paint");
    return {
        first_paint_s: first ? first.startTime / 1000 : null,
        largest_paint_s: large.length ? large[large.length - 1].startTime / 1000 : null,
        loaded_s: load.loadEventEnd / 1000,
        layout_shift: shifts.reduce((sum, one) => sum + (one.hadRecentInput ? 0 : one.value), 0),
        longest_task_s: Math.max(0, ...tasks.map(one => one.duration)) / 1000,
        requests: performance.getEntriesByType("resource").length,
        elements: document.querySelectorAll("*").length,
    };
}"""


def measure(folder: Path, pages: dict[str, str], repetitions: int) -> list[dict[str, Any]]:
    """Open pages of a site and return what they take, medians over repetitions.

    Args:
        folder: The site.
        pages: Address below the folder of each page, by what it is.
        repetitions: How often each is opened, each time in a new profile.
    """
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("no chromium on this machine")
    rows = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for what, address in pages.items():
            content = (folder / address).read_bytes()
            for device, width in (("screen", 1280), ("phone", 390)):
                found = []
                for _ in range(repetitions):
                    context = browser.new_context(viewport={"width": width, "height": 844})
                    page = context.new_page()
                    page.goto((folder / address).as_uri(), wait_until="load")
                    found.append(page.evaluate(_MEASURED))
                    context.close()
                medians = {
                    key: round(statistics.median(one[key] or 0.0 for one in found), 4)
                    for key in found[0]
                }
                rows.append(
                    {
                        "page": what,
                        "device": device,
                        "bytes": len(content),
                        "compressed_bytes": len(gzip.compress(content, 6)),
                        **medians,
                    }
                )
        browser.close()
    return rows


def main() -> None:
    """Build, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from toy_site import SAMPLE, board

    with tempfile.TemporaryDirectory() as name:
        made = build_site(board(asked.models), Path(name) / "site")
        model = next(page for page in made.pages if page.startswith("models/"))
        pages = {
            "overview": "index.html",
            "model": model,
            "protein": f"proteins/{SAMPLE}.html",
            "compare": "compare.html",
        }
        rows = measure(made.folder, pages, asked.repetitions)
        lazy = {
            path.relative_to(made.folder).as_posix(): path.stat().st_size
            for path in sorted(made.folder.glob("assets/*.js"))
        }
    first = [row for row in rows if row["page"] == "overview"]
    within = all(
        row["bytes"] <= BUDGET_BYTES and row["largest_paint_s"] <= BUDGET_SECONDS for row in first
    )
    content = {
        "what": "first view of the leaderboard's site in headless Chromium",
        "command": "python benchmarks/site.py",
        "models": asked.models,
        "repetitions": asked.repetitions,
        "budget": {"bytes": BUDGET_BYTES, "seconds": BUDGET_SECONDS, "within": within},
        "loaded_when_seen_bytes": lazy,
        "pages": rows,
        "provenance": collect({}).model_dump(mode="json"),
    }
    asked.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['page']:<9} {row['device']:<7} {row['bytes'] / 1000:7.1f} kB "
            f"{row['compressed_bytes'] / 1000:6.1f} kB compressed, first paint "
            f"{row['first_paint_s']:.3f} s, largest {row['largest_paint_s']:.3f} s, loaded "
            f"{row['loaded_s']:.3f} s, shift {row['layout_shift']:.3f}, "
            f"longest task {row['longest_task_s']:.3f} s"
        )
    print(f"within the budget of the first view: {within}")


if __name__ == "__main__":
    main()
