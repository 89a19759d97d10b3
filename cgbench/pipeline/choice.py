"""What rows say of a model that was chosen among several; nothing here loads what trains."""

from cgbench import registry
from cgbench.models import PotentialSpec, SelectedBy

#: In the place of a fingerprint that nobody wrote down.
_NOT_RECORDED = "not recorded"


def with_choice(spec: PotentialSpec, model_hash: str | None) -> PotentialSpec:
    """Return a specification with the choice that the zoo knows of, where the file says none.

    Args:
        spec: What the model says of itself.
        model_hash: Hash of its content.
    """
    if spec.selected_by is not None:
        return spec
    for model in registry.zoo():
        if model.hash == model_hash and model.choice is not None:
            chosen, systems = model.choice, model.choice.systems
            selected = SelectedBy(
                metric=chosen.metric,
                protocol=chosen.protocol,
                seed=spec.seeds[0] if spec.seeds else 0,
                references=dict.fromkeys(systems, _NOT_RECORDED),
                described={system: f"the whole reference of {system}" for system in systems},
            )
            changes = {"best_of_n": chosen.best_of_n, "selected_by": selected}
            return spec.model_copy(update=changes)
    return spec


def told_of_choice(spec: PotentialSpec) -> list[str]:
    """Return the label of a model that is the best of several, for its rows."""
    if spec.best_of_n is None or spec.selected_by is None:
        return []
    parts = []
    for name, found in spec.between_seed.items():
        deviation = found.standard_deviation
        spread_text = "" if deviation is None else f" ± {deviation:.3g}"
        parts.append(f"{name} {found.mean:.3g}{spread_text}")
    told = (
        f"Best of {spec.best_of_n} {'seeds' if parts else 'runs'} by {spec.selected_by.metric} in "
        f"short simulations ({spec.selected_by.protocol}), scored against "
        f"{'; '.join(spec.selected_by.described.values()) or 'another reference'}."
    )
    # The runs of a sweep differ in more than their seeds: they have no spread.
    spread = f" Over the seeds: {', '.join(parts)} (mean and standard deviation)."
    return [told + spread if parts else told]
