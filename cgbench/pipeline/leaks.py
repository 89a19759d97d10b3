"""Whether a model was trained on what it is tested on, by the rules of each track.

- ``protein-specific`` and ``multi-protein``: trajectories that force errors are taken on (the test
  part of the canonical split) were not trained on, by the network or by the prior.
- ``leave-one-out``: no data of the protein, of a variant or of a similar sequence were trained on.
- ``mutants``: data of the parent may be trained on, data of the variant's own sequence not.
- ``sampler``: as protein-specific where the training data are stated.

Where a model was chosen among several, the reference that it was chosen by must not hold what it is
tested against.

Force maps are fitted for each store alone, so the store's fingerprint covers them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import Scored
from cgbench.models import NOT_STATED, NetworkPotential, PotentialSpec, TrainedOn
from cgbench.pipeline.bundles import References
from cgbench.pipeline.choice import with_choice
from cgbench.pipeline.evaluate_system import Plan
from cgbench.pipeline.leak_rules import (
    chosen_by,
    fitted_to,
    related,
    sequence_of,
    shared_trajectories,
)
from cgbench.priors import PriorParameters
from cgbench.results import Leak, Track
from cgbench.splits import relation

#: What ``fit_priors`` calls a prior that it fitted to one system.
_OWN_FIT = "Boltzmann inversion of weighted frames"


def track(spec: PotentialSpec, system: str, *, home: Path | None = None) -> Track:
    """Return the track that a model is on when it is tested on a system.

    ``mutants`` for a variant; ``leave-one-out`` where nothing like the protein is among what the
    model says it was trained on, or its splits leave the protein out; otherwise by the number of
    proteins trained on. A model that states nothing counts as protein-specific.

    Args:
        spec: What the model says of itself.
        system: Registry key, or the name of a user's own system.
        home: Data home.
    """
    if system in {one.key for one in registry.mutants()}:
        return "mutants"
    own = sequence_of(system, None, home)
    if spec.trained_on:
        if any(_leaves_out(item.split_id, system, own) for item in spec.trained_on):
            return "leave-one-out"
        kin = [related(system, own, item.system, None, home) for item in spec.trained_on]
        if not any(found is None or found.excluded for found in kin):
            return "leave-one-out"
    proteins = {item.system for item in spec.trained_on}
    return "multi-protein" if len(proteins) > 1 else "protein-specific"


def check_leaks(
    spec: PotentialSpec,
    system: str,
    *,
    prior: PriorParameters | None = None,
    asked: Track | None = None,
    sequence: str | None = None,
    references: Path | None = None,
    home: Path | None = None,
) -> Leak:
    """Look for data that a model was both trained on and is tested on.

    Args:
        spec: What the model says of itself.
        system: The system that it is tested on.
        prior: Its prior, whose record says what it was fitted to.
        asked: The track that was asked for by name: overlaps are then refused, else marked.
        sequence: Sequence of the system, where the registry does not know it.
        references: Folder of the references that it is tested against instead of the home's.
        home: Data home, for splits and own systems.
    """
    chosen = asked or track(spec, system, home=home)
    own = sequence or sequence_of(system, prior, home)
    checked = {"force map": _force_map(spec)} if spec.trained_on else {}
    checked |= {f"trained on {item.system}": _identity(item) for item in spec.trained_on}
    if not spec.trained_on:
        return Leak(
            status="unchecked",
            reason="the model does not state what it was trained on",
            checked=_with_prior(checked, prior),
        )
    overlaps = _wrong_track(spec, chosen, system)
    overlaps += _unknown_prior(prior, chosen, system)
    if chosen != "mutants":
        tested = References(references, home)
        overlaps += chosen_by(spec, system, own, chosen == "leave-one-out", tested)
    for data in fitted_to(spec, prior, home):
        if chosen == "leave-one-out":
            found = related(system, own, data.system, data.sequence, home)
            if found is None:
                overlaps.append(f"{data.what} {data.system}, whose sequence is not known")
            elif found.excluded:
                overlaps.append(f"{data.what} {data.system}: {found.reason}")
        elif chosen == "mutants":
            if data.system == system or (own is not None and data.sequence == own):
                overlaps.append(f"{data.what} {data.system}, which has the variant's own sequence")
        else:
            overlap = shared_trajectories(data, system, own, home)
            overlaps += [overlap] if overlap is not None else []
    unique = tuple(dict.fromkeys(text[:2000] for text in overlaps))[:100]
    return Leak(
        status="none" if not unique else "marked" if asked is None else "refused",
        overlaps=unique,
        checked=_with_prior(checked, prior),
    )


def refuse_leaks(plan: Plan, systems: Sequence[str]) -> None:
    """Raise where a track was asked for by name and the model has no place on it.

    Raises:
        ValidationError: It has not; the message names every overlap.
    """
    leaks = {system: _leak_of(plan, system, plan.track) for system in systems}
    refused = {system: leak for system, leak in leaks.items() if leak.status == "refused"}
    if refused:
        raise ValidationError(
            f"{plan.identity.name}: not on track {plan.track}",
            expected=f"a model that has not seen the test data of {', '.join(refused)}",
            found="\n".join(
                f"{system}: {overlap}"
                for system, leak in refused.items()
                for overlap in leak.overlaps
            ),
            fix="leave --track away to have this marked on the result",
        )


def told_of_leaks(plan: Plan, system: str, row: Scored) -> Scored:
    """Return a row that says which track it is on, and what was found.

    A system of an earlier run that the track would refuse is marked instead.
    """
    chosen, leak = plan.track, _leak_of(plan, system, plan.track)
    if leak.status == "refused":
        chosen, leak = None, _leak_of(plan, system, None)
    return with_leak(row, chosen or track(plan.potential.spec, system, home=plan.home), leak)


def with_leak(row: Scored, chosen: Track | None, leak: Leak | None) -> Scored:
    """Return a row with a track and what was found on it."""
    return replace(row, result=row.result.model_copy(update={"track": chosen, "leak": leak}))


def _leak_of(plan: Plan, system: str, asked: Track | None) -> Leak:
    prior = plan.potential.prior if isinstance(plan.potential, NetworkPotential) else None
    return check_leaks(
        with_choice(plan.potential.spec, plan.identity.hash),
        system,
        prior=prior,
        asked=asked,
        references=plan.folder,
        home=plan.home,
    )


def _leaves_out(split_id: str, system: str, own: str | None) -> bool:
    """Return whether a split of the registry leaves this protein, or one like it, out."""
    try:
        left_out = registry.split(split_id).left_out
    except UsageError:
        return False
    if left_out is None or own is None:
        return left_out == system
    return relation(left_out, system, own).excluded


def _wrong_track(spec: PotentialSpec, chosen: Track, system: str) -> list[str]:
    """Return why a model is not of a track at all."""
    proteins = sorted({item.system for item in spec.trained_on})
    variant = system in {one.key for one in registry.mutants()}
    if chosen == "protein-specific" and len(proteins) > 1:
        return [f"trained on {len(proteins)} proteins ({', '.join(proteins)}), not on one"]
    if chosen == "multi-protein" and len(proteins) == 1:
        return [f"trained on one protein, {proteins[0]}"]
    if variant != (chosen == "mutants"):
        return [f"{system} is {'a' if variant else 'no'} variant of a protein"]
    return []


def _unknown_prior(prior: PriorParameters | None, chosen: Track, system: str) -> list[str]:
    """Return what is not known of a prior and could be an overlap on this track."""
    if chosen != "leave-one-out" or prior is None or prior.transferable is not None:
        return []
    # A prior that training fitted to one system was fitted to what the model was trained on.
    if prior.source == _OWN_FIT:
        return []
    named = prior.source or prior.fingerprint
    return [f"the prior ({named}) does not state what it was fitted to; it may be {system}"]


def _identity(item: TrainedOn) -> str:
    if item.split_id == NOT_STATED:
        return "stated by the user, without a split"
    said = "stated by the user: " if item.stated else ""
    return (
        f"{said}"
        f"part {item.part} of {item.split_id} ({item.split_fingerprint}), "
        f"store {item.store_fingerprint}"
    )


def _force_map(spec: PotentialSpec) -> str:
    name = spec.force_map or "none"
    return f"{name}: fitted for each store alone, part of its fingerprint"


def _with_prior(checked: dict[str, str], prior: PriorParameters | None) -> dict[str, str]:
    if prior is None:
        return checked
    record = prior.transferable
    told = prior.source or "source not stated"
    if record is not None:
        told = "fitted on " + ", ".join(
            f"{one.system} ({one.split_id}, {one.split_fingerprint})" for one in record.fitted_on
        )
    return {**checked, "prior": f"{prior.fingerprint}, {told}"[:2000]}
