"""Numbers and names as a reader of the site sees them."""

from typing import Final

from cgbench.leaderboard.rows import RowFlag, Score, SystemCell
from cgbench.report import number
from cgbench.results import Track, Verification

#: Name of each track, and what belongs there.
TRACK_TEXTS: Final[dict[Track, tuple[str, str]]] = {
    "protein-specific": (
        "Protein-specific",
        "A potential for each protein, trained on that protein's own simulations.",
    ),
    "multi-protein": (
        "Multi-protein",
        "One potential for all proteins, trained on all of them together.",
    ),
    "leave-one-out": (
        "Leave-one-out",
        "Scored on a protein that training, priors and force maps never saw.",
    ),
    "sampler": (
        "Samplers",
        "Generative models: structures without dynamics, scored on the same distributions.",
    ),
    "mutants": (
        "Mutants",
        "Sequence variants: which stay folded and fold again, where controls unfold.",
    ),
}
#: What ids of a track's tables begin with.
SHORT: Final[dict[str, str]] = {
    "protein-specific": "p", "multi-protein": "m", "leave-one-out": "l", "sampler": "s",
    "mutants": "v",
}  # fmt: skip
#: Level of verification: short name, and what it means.
LEVEL_TEXTS: Final[dict[Verification, tuple[str, str]]] = {
    "self_reported": ("self-reported", "Numbers as the authors sent them; nobody recomputed them."),
    "trajectories_checked": (
        "recomputed",
        "Every metric was computed again from the submitted trajectories and agrees.",
    ),
    "reproduced": (
        "reproduced",
        "The model was simulated, or drawn from, again from its file, and the metrics agree.",
    ),
}
#: Flags of a row: short name, and what it means.
FLAG_TEXTS: Final[dict[RowFlag, tuple[str, str]]] = {
    "best_of_n": ("best of n", "The best of several trained models, chosen on validation data."),
    "leak": ("leak", "Training data and scored data overlap."),
    "missing": ("incomplete", "Systems that count were not scored; they score 0."),
    "failed": ("failures", "The model failed on some systems; they score 0."),
    "gate": ("gate failed", "A gate was not passed, so that thermodynamic scores do not count."),
    "unconverged": (
        "finite reference",
        "The reference has too few folding events: read it beside the noise floor.",
    ),
    "few_trajectories": ("few trajectories", "Too few trajectories for a rank."),
    "foreign_code": ("foreign code", "An adapter ran code of another program to score it."),
    "native": ("uses native", "Native structures of the scored proteins went into it."),
    "pretrained": ("pretrained", "Pretrained weights or embeddings went into it."),
    "unregistered": (
        "reference not registered",
        "Scored against a reference that the leaderboard does not know yet: no score, no rank.",
    ),
    "unreliable_weights": (
        "uniform weights",
        "Equilibrium weights could not be found; every frame counts the same.",
    ),
}
ARROWS: Final = {"min": "↓", "max": "↑", "target": "→"}
DIRECTIONS: Final = {
    "min": "lower is better",
    "max": "higher is better",
    "target": "nearer to the reference is better",
}

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def score(value: Score | float | None) -> str:
    """Return a score with two digits, or a dash."""
    if value is None:
        return "–"
    return f"{value.value if isinstance(value, Score) else value:.2f}"


def between(value: Score | None) -> str:
    """Return the interval of a score as ``lo – hi``; empty without one."""
    return "" if value is None else f"{value.lo:.2f} – {value.hi:.2f}"


def duration(seconds: float | None) -> str:
    """Return a time in the largest unit of which there is at least one."""
    if seconds is None:
        return "–"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{number(seconds / unit)} {name}"
    return f"{number(seconds)} s"


def amount(value: float | None) -> str:
    """Return a count with the prefix that makes it short."""
    if value is None:
        return "–"
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{number(value / unit)}{name}"
    return number(value)


def precise(value: float) -> str:
    """Return a number for a script to sort by: four digits are enough and take little room."""
    return f"{value:.4g}"


def remarks(cell: SystemCell) -> str:
    """Return in a sentence what a reader has to know of one system of a row."""
    told = [] if cell.reason is None else [cell.reason]
    told += [f"{gate} gate failed" for gate in cell.gates_failed]
    if cell.leak:
        told.append(cell.leak)
    if cell.converged is False:
        told.append("reference not converged")
    if cell.weights_status not in (None, "ok", "given"):
        told.append(f"weights: {cell.weights_status.replace('_', ' ')}")
    told += cell.notes
    return "; ".join(told) or "–"
