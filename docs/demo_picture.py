"""Draw the picture of README.md from a demo's report, with Chromium.

    python docs/demo_picture.py cgbench-demo/report.html [--out docs/demo-maps.png]

The first surfaces of the report are put side by side: reference, trained network, shipped baseline.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

OUT = Path(__file__).parent / "demo-maps.png"
N_SURFACES = 3
#: CSS pixels of a surface with its difference, and pixels of the picture for one of them.
WIDTH, HEIGHT, SCALE = 519, 250, 1.1
DRAWING = re.compile(
    r'<div class="drawing"[^>]*aria-label="Free-energy surface of.*?(<svg.*?</svg>)', re.S
)


def page(report: str) -> str:
    """Return a page of the first surfaces of a report.

    Raises:
        ValueError: It has too few.
    """
    surfaces = DRAWING.findall(report)[:N_SURFACES]
    if len(surfaces) < N_SURFACES:
        raise ValueError(f"{len(surfaces)} free-energy surfaces where {N_SURFACES} are expected")
    return (
        "<!doctype html><style>body{margin:0;display:flex;background:white}"
        f"svg{{width:{WIDTH}px;height:{HEIGHT}px}}</style>{''.join(surfaces)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium: not found; install it to draw the picture", file=sys.stderr)
        return 2
    with TemporaryDirectory() as name:
        drawn = Path(name) / "maps.html"
        drawn.write_text(page(options.report.read_text(encoding="utf-8")), encoding="utf-8")
        command = [
            chromium, "--headless", "--no-sandbox", "--hide-scrollbars",
            f"--window-size={N_SURFACES * WIDTH},{HEIGHT}", f"--force-device-scale-factor={SCALE}",
            f"--screenshot={options.out.resolve()}", drawn.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603
    return 0


if __name__ == "__main__":
    sys.exit(main())
