"""What the documentation is made of: pictures and tables are up to date, and Sphinx is content."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cgbench import registry

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MISSING = [
    name for name in ("sphinx", "myst_parser", "furo") if importlib.util.find_spec(name) is None
]


def script(name: str) -> ModuleType:
    """A script of the documentation as a module."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


def test_pictures_are_drawn_from_the_layers_of_today() -> None:
    drawing = script("draw_architecture")
    for name, picture in drawing.PICTURES.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        assert text == picture(), "python docs/draw_architecture.py"


def test_every_package_of_the_layers_is_described() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| package |") : page.index("`testing` is for tests")]
    described = [
        set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:-1]
    ]
    named = set().union(*described)
    assert named == {name for layer in script("draw_architecture").layers() for name in layer}


def test_costs_are_those_of_the_measurements() -> None:
    costs = script("cost_table")
    text = costs.PAGE.read_text(encoding="utf-8")
    assert text == costs.page(), "python docs/cost_table.py"
    assert all(
        f"| `{system.key}` |" in text for system in registry.systems() if not system.embedded
    )


def test_rates_between_measured_lengths_are_between_measured_rates() -> None:
    costs = script("cost_table")
    rates = {10: 100.0, 40: 10.0}
    assert costs.interpolated(rates, 10) == pytest.approx(100.0)
    assert costs.interpolated(rates, 40) == pytest.approx(10.0)
    assert costs.interpolated(rates, 20) == pytest.approx(1000.0**0.5)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_pages_stay_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.slow  # .ci/run builds them, too
@pytest.mark.skipif(bool(MISSING), reason=f"the docs extra is not installed: {MISSING}")
def test_the_pages_build_without_warnings(tmp_path: Path) -> None:
    """About 50 s on one core, most of it the API page."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         str(DOCS), str(tmp_path / "html")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
    # Sections without content would build as well.
    for name in ("cgbench.store.open_store", "cgbench.evaluate.score", "cgbench.models.save_model"):
        assert f'id="{name}"' in api
