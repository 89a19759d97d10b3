"""Whether the outcome of a test of variants contradicts itself, the registry or its result."""

from cgbench import registry
from cgbench.leaderboard.records import Submission
from cgbench.results.mutants import MutantsOutcome, ParentOutcome, VariantOutcome


def mutants_problems(submission: Submission) -> list[str]:
    """Return what of a test of variants is not as this suite writes it.

    A recovery counts only where trajectories began unfolded, one of them reached the native state,
    and the controls other than the wild type unfolded: all of it is in the outcome and is put
    together again here.

    Args:
        submission: A submission of the mutants' track; nothing is found in another.
    """
    outcome = submission.mutants
    if outcome is None:
        return []
    problems = _identity_problems(submission, outcome)
    known = {one.key: one.parent for one in registry.mutants()}
    parents = {one.parent: one for one in outcome.parents}
    keys = [one.key for one in outcome.variants]
    if len(set(keys)) != len(keys) or len(parents) != len(outcome.parents):
        problems.append("mutants: a variant or a parent is there twice")
    for parent in outcome.parents:
        problems += _parent_problems(parent, outcome)
    for one in outcome.variants:
        if known.get(one.key) != one.parent:
            problems.append(f"mutants: {one.key}: no variant of this suite")
            continue
        problems += _variant_problems(one, outcome, parents.get(one.parent))
    rows = {item.system: item.status for item in submission.result.systems}
    for one in outcome.variants:
        if one.unfolded_starts is not None and rows.get(one.key) in (None, "missing"):
            problems.append(f"mutants: {one.key}: has a second stage, and the result no row of it")
    if extra := sorted(set(rows) - set(keys)):
        problems.append(f"mutants: {extra[0]} is in the result and not in the outcome")
    if outcome.recovered != sum(bool(one.recovered and one.counts) for one in outcome.variants):
        problems.append("mutants: recovered is not the number of variants whose recovery counts")
    return problems


def _identity_problems(submission: Submission, outcome: MutantsOutcome) -> list[str]:
    # It brings torch with it, which the other tracks do without.
    from cgbench.pipeline.mutant_screening import window_of

    result = submission.result
    screening = registry.mutant_screening()
    protocol = registry.protocol(screening.protocol)
    second = None if result.protocol is None else result.protocol.id
    expected = {
        "model_hash": result.model.hash,
        "seed": result.seeds.get("simulation"),
        "screening": f"{protocol.id} version {protocol.version}",
        "protocol": second,
        "window_ps": window_of(protocol),
        "least_q": screening.least_q,
    }
    problems = [
        f"mutants: {name} is {getattr(outcome, name)}, expected {value}"
        for name, value in expected.items()
        if getattr(outcome, name) != value
    ]
    if outcome.synthetic:
        problems.append("mutants: of a model with known answers, which test the harness alone")
    return problems


def _parent_problems(parent: ParentOutcome, outcome: MutantsOutcome) -> list[str]:
    from cgbench.pipeline.mutant_screening import control_sequences

    if parent.parent not in {one.parent for one in registry.mutants()}:
        return [f"mutants: {parent.parent}: no protein that has variants"]
    expected = control_sequences(parent.parent)
    if {one.name: one.sequence for one in parent.controls} != expected or len(
        parent.controls
    ) != len(expected):
        return [f"mutants: {parent.parent}: the controls are not those of the registry"]
    problems = [
        f"mutants: {parent.parent} {one.name}: {one.status} with a median Q of {one.median_q}"
        for one in parent.controls
        if not _agrees(one.status, one.median_q, outcome.least_q)
    ]
    others = [one.status for one in parent.controls if one.name != "wild-type"]
    if parent.controls_unfold and set(others) != {"unfolds"}:
        problems.append(f"mutants: {parent.parent}: a control does not unfold, and it is said to")
    return problems


def _variant_problems(
    one: VariantOutcome, outcome: MutantsOutcome, parent: ParentOutcome | None
) -> list[str]:
    problems = []
    if not _agrees(one.status, one.median_q, outcome.least_q):
        problems.append(f"{one.status} with a median Q of {one.median_q}")
    unfolded, reached = one.unfolded_starts, one.reached_native
    if (unfolded is None) != (reached is None):
        problems.append("unfolded starts without what became of them")
    if unfolded is not None and one.status != "stays":
        problems.append(f"{one.status} in stage one, and has a second stage")
    if unfolded is not None and reached is not None and reached > unfolded:
        problems.append(f"{reached} of {unfolded} unfolded starts reached the native state")
    if one.recovered != (bool(reached) if unfolded else None):
        problems.append(f"recovered {one.recovered} with {reached} of {unfolded} unfolded starts")
    if one.counts and not (one.recovered and parent is not None and parent.controls_unfold):
        problems.append("counts, although it is not recovered or its controls do not unfold")
    return [f"mutants: {one.key}: {text}" for text in problems]


def _agrees(status: str, median: float | None, least: float) -> bool:
    """Return whether a status is the one that a median Q gives."""
    if status in ("stays", "unfolds"):
        return median is not None and (median >= least) == (status == "stays")
    return median is None
