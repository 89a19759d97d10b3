"""Numbers as a reader sees them."""

from cgbench.report.content import Cell


def number(value: float | None) -> str:
    """Return a value with three significant digits, without an exponent where that is readable."""
    if value is None or value != value:
        return "–"
    if value != 0.0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    magnitude = f"{value:.3g}"
    return f"{value:.0f}" if "e" in magnitude else magnitude


def interval(value: float | None, lo: float | None, hi: float | None) -> str:
    """Return ``value [lo, hi]``, ``value`` alone, or a dash."""
    text = number(value)
    if value is not None and lo is not None and hi is not None:
        text += f" [{number(lo)}, {number(hi)}]"
    return text


def cell_text(cell: Cell | None) -> str:
    """Return ``value [lo, hi]``, or ``n/a``."""
    if cell is None or cell.value is None:
        return "n/a"
    return interval(cell.value, cell.lo, cell.hi)
