"""What the stages of the mutants' test add up to, variant by variant."""

from collections.abc import Mapping

from cgbench.ingest.variants import Variant
from cgbench.pipeline.mutant_rows import VariantRun
from cgbench.pipeline.mutant_screening import Screened, control_sequences
from cgbench.registry import Mutant
from cgbench.results import SystemResult
from cgbench.results.mutants import ControlOutcome, ParentOutcome, VariantOutcome


def parent_outcome(
    parent: str, screened: Mapping[str, Screened], missing: str | None
) -> ParentOutcome:
    """Return what became of a parent's controls.

    Args:
        parent: Registry key.
        screened: What became of each, by name.
        missing: Why there are none.
    """
    controls = []
    for name, sequence in control_sequences(parent).items():
        found = screened.get(name, Screened("missing", None, missing))
        controls.append(
            ControlOutcome(
                name=name,
                sequence=sequence,
                status=found.status,
                median_q=found.median_q,
                reason=found.reason,
            )
        )
    others = [one.status for one in controls if one.name != "wild-type"]
    unfold = None
    if "stays" in others:
        unfold = False
    elif others and all(status == "unfolds" for status in others):
        unfold = True
    return ParentOutcome(parent=parent, controls=tuple(controls), controls_unfold=unfold)


def absent(one: Mutant, reason: str) -> VariantOutcome:
    """Return the outcome of a variant without native structure."""
    return VariantOutcome(
        key=one.key,
        parent=one.parent,
        pdb_id=one.pdb_id,
        sequence=one.sequence,
        mutations=one.mutations,
        scored_beads=one.scored_beads,
        status="missing",
        reason=reason,
    )


def variant_outcome(
    variant: Variant,
    found: Screened,
    run: VariantRun | None,
    reason: str | None,
    parent: ParentOutcome,
) -> VariantOutcome:
    """Return the outcome of a variant.

    Args:
        variant: What it is.
        found: What became of it in stage one.
        run: Stage two, for those that stay.
        reason: Why there is no stage two.
        parent: The controls of its parent.
    """
    recovered: bool | None = None
    counts: bool | None = None
    if run is not None and run.unfolded_starts:
        recovered = run.reached_native > 0
    elif run is not None:
        reason = "no trajectory started unfolded"
    if recovered:
        counts = parent.controls_unfold
        if not counts:
            keeps = [
                f"{one.name} {one.status}"
                for one in parent.controls
                if one.name != "wild-type" and one.status != "unfolds"
            ]
            reason = f"does not count: {', '.join(keeps)}"
    return VariantOutcome(
        key=variant.key,
        parent=variant.parent,
        pdb_id=variant.pdb_id,
        sequence=variant.sequence,
        mutations=variant.mutations,
        scored_beads=variant.scored_beads,
        status=found.status,
        median_q=found.median_q,
        unfolded_starts=None if run is None else run.unfolded_starts,
        reached_native=None if run is None else run.reached_native,
        recovered=recovered,
        counts=counts,
        reason=reason,
    )


def without_row(one: VariantOutcome, *, synthetic: bool = False) -> SystemResult:
    """Return the result of a variant without a row of the second stage, with the reason."""
    if one.status == "missing":
        reason = one.reason
    elif one.status == "stays":
        reason = one.reason or "stays folded in stage one; stage two was left out"
    else:
        told = "" if one.median_q is None else f", median Q {one.median_q:.2f}"
        reason = f"{one.status} in stage one{told}" + (f": {one.reason}" if one.reason else "")
    return SystemResult(
        system=one.key,
        status="missing" if one.status in ("missing", "stays") else "failed",
        reason=None if reason is None else reason[:2000],
        synthetic=synthetic,
    )
