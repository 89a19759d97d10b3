"""Tables of a comparison of runs, for the terminal; nothing here needs torch."""

from collections import Counter
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.report import number
from cgbench.results.comparison import ComparedDifference, RunComparison

_ARROWS = {"min": "↓", "max": "↑", "target": "→", None: ""}


_KINDS: Final = {
    "paired": "paired",
    "unpaired": "unpaired",
    "intervals": "from the intervals of both",
}


def comparison_tables(found: RunComparison, *, everything: bool = False) -> list[Table]:
    """Return the tables of a comparison.

    Args:
        found: The comparison.
        everything: Show metrics that models are not ranked by as well.
    """
    tables = [_differences(found, list(found.differences), "differences a − b", everything)]
    if found.summary:
        title = "mean differences over systems"
        tables.append(_differences(found, list(found.summary), title, everything))
    tables.append(_tallies(found))
    return tables


def _differences(
    found: RunComparison, items: list[ComparedDifference], title: str, everything: bool
) -> Table:
    shown = [item for item in items if everything or _ranked(item.metric)]
    if not shown:
        shown = items
    # Two runs are called a and b, which leaves room for numbers; more are named in each line.
    several = len(found.runs) > 2
    one_system = len({item.system for item in shown}) == 1
    if one_system and shown[0].system is not None:
        title += f" on {shown[0].system}"
    # The kind that most differences are of goes without saying in each line.
    kinds = [kind for kind, _ in Counter(item.kind for item in shown).most_common()]
    marks = dict(zip(kinds, ("", " *", " †"), strict=False))
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("metric", overflow="fold")
    for name in ("a", "b"):
        if several:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("better", overflow="fold")
    system = None
    for item in shown:
        where = item.system or f"{item.n_systems} systems"
        if not one_system and where != system:
            table.add_section()
            table.add_row(where)
            system = where
        names = (item.a, item.b) if several else (_value(item.value_a), _value(item.value_b))
        table.add_row(
            f"{item.metric} {_ARROWS[item.direction]}".rstrip(),
            *names,
            _interval(item) + marks[item.kind],
            _better(item, several=several),
        )
    lines = (
        [] if several else [f"{key}: {run.name}" for key, run in zip("ab", found.runs, strict=True)]
    )
    if any(item.target is not None for item in shown):
        lines.append("→: the difference is that of the distances to the reference's value")
    lines.append("–: no significant difference")
    told = [f"{mark.strip()}: {_KINDS[kind]}" for kind, mark in marks.items() if mark]
    lines.append("; ".join([f"differences are {_KINDS[kinds[0]]}", *told]))
    table.caption = Text("\n".join(lines))
    table.caption_justify = "left"
    return table


def _value(value: float | None) -> str:
    return "" if value is None else number(value)


def _interval(item: ComparedDifference) -> str:
    text = number(item.diff)
    if item.lo is not None and item.hi is not None:
        text += f" [{number(item.lo)}, {number(item.hi)}]"
    return text


def _better(item: ComparedDifference, *, several: bool) -> str:
    if item.better is not None:
        return item.better if several else "a" if item.better == item.a else "b"
    return "–" if item.significant is not None else "no interval"


def _ranked(metric: str) -> bool:
    try:
        return registry.metric(metric).ranked
    except UsageError:
        return False


def _tallies(found: RunComparison) -> Table:
    table = Table(
        title="ranked metrics, significant differences", title_justify="left", box=box.SIMPLE_HEAD
    )
    for name in ("a", "b"):
        table.add_column(name, overflow="fold")
    for name in ("a better", "b better", "undecided"):
        table.add_column(name, justify="right")
    for item in found.tallies:
        counts = (item.a_better, item.b_better, item.undecided)
        table.add_row(item.a, item.b, *(str(count) for count in counts))
    return table
