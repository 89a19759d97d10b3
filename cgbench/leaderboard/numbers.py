"""Whether the numbers of a system can be what the harness wrote."""

from typing import Final

from cgbench import registry
from cgbench.evaluate.metrics import COMPARED
from cgbench.leaderboard.scoring import ranked_metrics
from cgbench.registry import MetricSpec
from cgbench.results import MetricValue, Result, SystemResult

#: Rounding of numbers that are written and read again.
_ROUNDING: Final = 1e-9


def system_problems(result: Result, item: SystemResult) -> list[str]:
    """Return which numbers of a system contradict each other or the definitions.

    Args:
        result: The result that it is in.
        item: The system.
    """
    if item.status == "missing":
        return []
    problems = []
    known = {spec.id: spec for spec in registry.metrics()}
    for metric, value in item.metrics.items():
        if metric in known:
            told = _value_problem(known[metric], value)
            problems += [] if told is None else [f"{item.system} {metric}: {told}"]
    if result.track == "mutants":
        return problems
    lacking = [spec.id for spec in ranked_metrics() if spec.id not in item.metrics]
    if lacking:
        problems.append(f"{item.system}: ranked metrics are missing, {', '.join(lacking[:5])}")
    if item.status == "failed":
        return problems + _failed_problems(item)
    return problems + _frame_problems(result, item) + _gate_problems(item)


def _value_problem(spec: MetricSpec, value: MetricValue) -> str | None:
    if value.value is None:
        return None
    if value.lo is not None and value.hi is not None:
        # Resamples with a long tail may leave their own estimate just outside.
        slack = value.hi - value.lo + _ROUNDING * max(1.0, abs(value.value))
        if not value.lo - slack <= value.value <= value.hi + slack:
            return f"{value.value} is far outside its own interval [{value.lo}, {value.hi}]"
    if spec.ranked and spec.direction == "min" and value.value < 0.0:
        return f"{value.value} is below 0, the least distance"
    # Shares and divergences have the unit 1 and lie between 0 and 1.
    if spec.unit == "1" and not -_ROUNDING <= value.value <= 1.0 + _ROUNDING:
        return f"{value.value} is not between 0 and 1"
    if spec.direction == "target" and spec.ranked and value.status == "ok" and value.target is None:
        return "has no target"
    return None


def _failed_problems(item: SystemResult) -> list[str]:
    """A failed system has the registry's penalties and nothing else to be proud of."""
    wrong = [
        spec.id
        for spec in ranked_metrics()
        if spec.id in item.metrics
        and (item.metrics[spec.id].status, item.metrics[spec.id].value) != ("failed", spec.penalty)
    ]
    return [f"{item.system}: failed, but {one} is not the penalty" for one in wrong[:3]]


def _frame_problems(result: Result, item: SystemResult) -> list[str]:
    if item.n_trajectories is None or item.n_frames is None:
        return [f"{item.system}: the number of trajectories or frames is missing"]
    problems = []
    if not 1 <= item.n_trajectories <= item.n_frames:
        problems.append(f"{item.system}: {item.n_frames} frames in {item.n_trajectories}")
    chosen = None
    if result.protocol is not None:
        known = {protocol.id: protocol for protocol in registry.protocols()}
        chosen = known.get(result.protocol.id)
    if chosen is not None:
        if item.n_trajectories != chosen.n_replicas:
            problems.append(
                f"{item.system}: {item.n_trajectories} trajectories, but the protocol "
                f"{chosen.id} has {chosen.n_replicas}"
            )
        # The start frame may be stored as well.
        most = chosen.n_replicas * (chosen.n_frames(item.system) + 1)
        if item.n_frames > most:
            problems.append(f"{item.system}: {item.n_frames} frames, at most {most} expected")
    if item.effective_frames is not None and item.effective_frames > item.n_frames * (1 + 1e-6):
        problems.append(f"{item.system}: more effective frames than frames")
    return problems


def _gate_problems(item: SystemResult) -> list[str]:
    """A gate that was not passed voids what compares distributions."""
    if "handedness" not in item.gates:
        return [f"{item.system}: the gate handedness is missing"]
    failed = item.gates["handedness"] == "failed"
    compared = [spec.id for spec in ranked_metrics() if spec.id in COMPARED]
    states = {item.metrics[one].status for one in compared if one in item.metrics}
    if failed and "ok" in states:
        return [f"{item.system}: handedness is not passed, and metrics count all the same"]
    if not failed and "void" in states:
        return [f"{item.system}: metrics are void without a gate that failed"]
    return []
