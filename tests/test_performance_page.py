"""Tables of the page on performance are those of the committed results."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import simulation_tables

    page = simulation_tables.PAGE.read_text(encoding="utf-8")
    assert simulation_tables.filled(page) == page
    assert simulation_tables.tables()["speed"].count("\n") >= 4
