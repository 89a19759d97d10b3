"""Says in sentences what the rows of one system show: right, wrong, and what cannot be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.evaluate import ReferenceBundle, Scored, moved
from cgbench.registry import MetricSpec
from cgbench.report import Standing, Statement, StatementKind, Verdict, number
from cgbench.results import MetricValue, PairedDifference

#: Rows that are shown beside models and are not models themselves.
REFERENCE_ROWS: Final = (
    "md_split_half", "start_frames", "prior_only", "native_constant", "ideal_chain", "md_replay"
)  # fmt: skip
#: The row of a model's prior; where models have different ones, their names follow in brackets.
PRIOR_ROW: Final = "prior_only"
#: How the metrics that do not lead are summed up.
_SUMMED_UP: Final[dict[StatementKind, tuple[str, str]]] = {
    "right": ("Within the noise floor", "Within the noise floor as well"),
    "wrong": ("Beyond the noise floor", "Beyond the noise floor as well"),
    "open": ("Cannot be told", "Cannot be told either"),
}
#: Names in a list of metrics at most; the others are counted.
_MOST_NAMES: Final = 4
#: Rows that are marked there; others are the ends of the scale.
_MARKED: Final = ("start_frames", PRIOR_ROW, "md_replay")
#: Metrics that are drawn between the noise floor and the ideal chain at most.
_MOST_STANDINGS: Final = 12


def is_model(row: Scored) -> bool:
    """Return whether a row is a model, not a reference row."""
    return role(row) not in REFERENCE_ROWS


def role(row: Scored) -> str:
    """Return a row's name without the model that it belongs to."""
    return row.name.partition(" (")[0]


def is_sampler(row: Scored) -> bool:
    """Return whether a row is of samples: they have no start frames and no prior of their own."""
    return "novelty" in row.result.metrics


def held_still(row: Scored, starts: Scored | None) -> list[str]:
    """Return the metrics in which a simulation cannot be told from its start frames held still."""
    return [] if starts is None or is_sampler(row) else moved(row, starts)


def priors_of(model: str) -> tuple[str, str]:
    """Return the names that the row of a model's prior may have."""
    return PRIOR_ROW, f"{PRIOR_ROW} ({model})"


def metric_spec(metric: str) -> MetricSpec | None:
    """Return the description of a metric; a result may hold some that this registry lacks."""
    try:
        return registry.metric(metric)
    except UsageError:
        return None


@dataclass(frozen=True)
class _Judged:
    """One distance of a model beside the noise floor and the ideal chain."""

    spec: MetricSpec
    value: MetricValue
    floor: MetricValue
    ideal: float | None
    still: bool

    @property
    def kind(self) -> StatementKind:
        """What the value says of the model."""
        value, floor = self.value, self.floor
        if value.value is None or floor.hi is None or self.still:
            return "open"
        if value.value > floor.hi:
            return "wrong" if value.lo is None or value.lo > floor.hi else "open"
        return "open" if self.blind else "right"

    @property
    def blind(self) -> bool:
        """Whether an ideal chain is within the noise floor too."""
        return self.ideal is not None and self.floor.hi is not None and self.ideal <= self.floor.hi

    @property
    def sentence(self) -> str:
        """The same in words, with the numbers."""
        floor = self.floor
        found = f"{self.spec.name}: {_measured(self.value, self.spec.unit)}"
        beside = f"the noise floor {_measured(floor, self.spec.unit)}"
        if self.still:
            return f"{found}, against {beside}; its start frames held still score as well."
        if self.value.value is not None and floor.hi is not None and self.value.value <= floor.hi:
            text = f"{found}, within {beside}"
            if self.blind:
                text += f", as is an ideal chain with {number(self.ideal)}, so this tells nothing"
            return f"{text}."
        text = f"{found}, against {beside}"
        if floor.value and self.value.value is not None:
            text = f"{found}, {number(self.value.value / floor.value)} times {beside}"
        if self.kind == "open":
            text += "; its interval reaches down to it"
        if self.ideal is not None and self.value.value is not None:
            worse = self.value.value >= self.ideal
            text += f"; {'no better than' if worse else 'an ideal chain has'} "
            text += f"{'an ideal chain, ' if worse else ''}{number(self.ideal)}"
        return f"{text}."

    @property
    def brief(self) -> str:
        """The name, the value, and the end of the noise floor."""
        unit = "" if self.spec.unit in ("", "1") else f" {self.spec.unit}"
        ends = f"{number(self.value.value)} against {number(self.floor.hi)}{unit}"
        return f"{self.spec.name} ({ends})"


def _measured(value: MetricValue, unit: str) -> str:
    text = number(value.value)
    if unit not in ("", "1"):
        text += f" {unit}"
    if value.lo is not None and value.hi is not None:
        text += f" [{number(value.lo)}, {number(value.hi)}]"
    return text


def _judged(row: Scored, beside: Mapping[str, Scored]) -> list[_Judged]:
    """Return the ranked distances of a row, the leading ones first."""
    floor, ideal, starts = (
        beside.get(name) for name in ("md_split_half", "ideal_chain", "start_frames")
    )
    if floor is None:
        return []
    still = set(held_still(row, starts))
    found = []
    for metric, value in row.result.metrics.items():
        spec, noise = metric_spec(metric), floor.result.metrics.get(metric)
        if spec is None or spec.direction != "min" or not spec.ranked or value.status != "ok":
            continue
        if noise is None or noise.value is None or noise.hi is None:
            continue
        chain = None if ideal is None else ideal.result.metrics.get(metric)
        far = None if chain is None or chain.value is None else chain.value
        found.append(_Judged(spec, value, noise, far, metric in still))
    return sorted(found, key=lambda item: not item.spec.primary)


def _targets(row: Scored, still: set[str], floor: Scored | None) -> list[Statement]:
    """Say of values that have a target whether the reference's lies in their interval.

    Without an interval, as where no frame is folded, it stays open and the reason is said. Halves
    of the reference that reach as far as the model leave it open as well.
    """
    found: list[Statement] = []
    for metric, value in row.result.metrics.items():
        spec = metric_spec(metric)
        if spec is None or spec.direction != "target" or value.status != "ok":
            continue
        if value.value is None or value.target is None:
            continue
        text = f"{spec.name}: {_measured(value, spec.unit)}; the reference has "
        text += f"{number(value.target)}."
        if value.lo is None or value.hi is None:
            why = f" {value.note[0].upper()}{value.note[1:]}." if value.note else ""
            found.append(Statement("open", f"{text}{why}"))
            continue
        if metric in still:
            found.append(Statement("open", f"{text} The start frames held still score the same."))
        elif value.lo <= value.target <= value.hi:
            found.append(Statement("right", text))
        else:
            noise = None if floor is None else floor.result.metrics.get(metric)
            if noise is None or noise.lo is None or noise.hi is None:
                found.append(Statement("wrong", text))
                continue
            ends = f"{number(noise.lo)} to {number(noise.hi)}"
            if noise.lo <= value.hi and value.lo <= noise.hi:
                text += f" The reference's own halves reach from {ends}: no more can be told."
                found.append(Statement("open", text))
            else:
                found.append(Statement("wrong", f"{text} Its halves alone reach from {ends}."))
    return found


def _against_prior(row: Scored, differences: Sequence[PairedDifference]) -> Statement | None:
    """Say in what a model differs from the prior alone, paired on the same starts."""
    own = [item for item in differences if item.a == row.name and item.b in priors_of(row.name)]
    named = [(item, spec) for item in own if (spec := metric_spec(item.metric)) is not None]
    minimised = [(item, spec) for item, spec in named if spec.direction == "min" and spec.ranked]
    if not minimised:
        return None
    minimised.sort(key=lambda pair: not pair[1].primary)
    told = [
        f"{words} {len(names)} ({_listed(names)})"
        for words, names in (
            ("better in", [spec.name for item, spec in minimised if item.hi < 0]),
            ("worse in", [spec.name for item, spec in minimised if item.lo > 0]),
            ("no significant difference in",
             [spec.name for item, spec in minimised if not item.significant]),
        )
        if names
    ]  # fmt: skip
    text = f"Against the prior alone, of {len(minimised)} distances"
    return Statement("note", f"{text}: {'; '.join(told)}.")


def _listed(names: Sequence[str]) -> str:
    """Return names with commas, all but the first few counted."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def verdict(
    row: Scored,
    beside: Mapping[str, Scored],
    differences: Sequence[PairedDifference],
    bundle: ReferenceBundle,
) -> Verdict:
    """Return what the numbers of one system say of one model.

    A distance is right where it is at most the upper end of the noise floor, and wrong where its
    whole interval lies above. It is open in between, where the start frames held still score as
    well, and where an ideal chain is within the noise floor too.

    Args:
        row: The model.
        beside: The reference rows by name.
        differences: Paired differences of the rows.
        bundle: The reference.
    """
    if row.result.status != "ok":
        reason = row.result.reason or "no reason is given"
        return Verdict(
            row.name,
            f"Failed: {reason}",
            [Statement("wrong", "Every ranked metric counts with its penalty.")],
        )
    judged = _judged(row, beside)
    still = {item.spec.id for item in judged if item.still}
    still |= set(held_still(row, beside.get("start_frames")))
    statements = _targets(row, still, beside.get("md_split_half"))
    for kind, (alone, as_well) in _SUMMED_UP.items():
        own = [item for item in judged if item.kind == kind]
        leading = [Statement(kind, item.sentence) for item in own if item.spec.primary]
        others = [item.brief for item in own if not item.spec.primary]
        statements += leading
        if others:
            told = as_well if leading else alone
            statements.append(Statement(kind, f"{told}: {', '.join(others)}."))
    statements.sort(key=lambda item: get_args(StatementKind).index(item.kind))
    if row.result.gates.get("handedness") == "failed":
        statements.insert(
            0, Statement("wrong", "Native-like frames are mirror images: every score is void.")
        )
    prior = _against_prior(row, differences)
    if prior is not None:
        statements.append(prior)
    return Verdict(row.name, _headline(row, judged, bundle), statements)


def _headline(row: Scored, judged: Sequence[_Judged], bundle: ReferenceBundle) -> str:
    if row.result.gates.get("handedness") == "failed":
        return "The handedness gate is not passed: the scores are void."
    if not judged:
        return "No distance can be set beside a noise floor."
    count = {kind: sum(item.kind == kind for item in judged) for kind in ("right", "wrong", "open")}
    text = f"Of {len(judged)} distances from the reference, {count['right']} are within the noise "
    text += f"floor, {count['wrong']} beyond it"
    if count["open"]:
        text += f", and {count['open']} cannot be told"
    native = row.result.metrics.get("native_population")
    if native is not None and native.value is not None and native.target is not None:
        shares = f"{_percent(native.value)} of its frames, the reference in "
        text = f"Native in {shares}{_percent(native.target)}. {text}"
    if row.result.simulation_converged is False:
        text += "; the simulation is too short for its populations to be the model's own"
    if not bundle.converged:
        text += "; the reference itself is not converged"
    return f"{text}."


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def standings(rows: Sequence[Scored]) -> list[Standing]:
    """Return where the models stand between the noise floor and the ideal chain."""
    beside = {row.name: row for row in rows if not is_model(row)}
    models = [row for row in rows if is_model(row) and row.result.status == "ok"]
    if not {"md_split_half", "ideal_chain"} <= set(beside) or not models:
        return []
    floors = beside["md_split_half"].result.metrics
    chains = beside["ideal_chain"].result.metrics
    found = []
    for metric, floor in floors.items():
        spec, chain = metric_spec(metric), chains.get(metric)
        if spec is None or spec.direction != "min" or not spec.ranked or chain is None:
            continue
        if floor.value is None or floor.lo is None or floor.hi is None or not chain.value:
            continue
        marks: dict[str, float] = {
            name: value.value
            for name, row in beside.items()
            if role(row) in _MARKED
            and (value := row.result.metrics.get(metric)) is not None
            and value.value is not None
        }
        values = {row.name: row.result.metrics.get(metric) for row in models}
        drawn = {
            name: (
                value.value,
                value.value if value.lo is None else value.lo,
                value.value if value.hi is None else value.hi,
            )
            for name, value in values.items()
            if value is not None and value.value is not None
        }
        if drawn:
            found.append(
                (
                    spec.primary,
                    Standing(
                        metric, spec.name, spec.unit, (floor.value, floor.lo, floor.hi),
                        chain.value, marks, drawn,
                    ),
                )
            )  # fmt: skip
    found.sort(key=lambda item: not item[0])
    return [item for _, item in found[:_MOST_STANDINGS]]
