"""Figures and the self-contained HTML report."""

from cgbench.report.content import (
    Cell,
    Column,
    Difference,
    MacrostateRow,
    ReportContent,
    Row,
    SystemSection,
)
from cgbench.report.figures import Curve, Panel
from cgbench.report.page import cell_text, number, render, write_report

__all__ = [
    "Cell",
    "Column",
    "Curve",
    "Difference",
    "MacrostateRow",
    "Panel",
    "ReportContent",
    "Row",
    "SystemSection",
    "cell_text",
    "number",
    "render",
    "write_report",
]
