"""What rows say of a model that was chosen among seeds; nothing here loads what trains."""

from cgbench.models import PotentialSpec


def told_of_choice(spec: PotentialSpec) -> list[str]:
    """Return the label of a model that is the best of several, for its rows."""
    if spec.best_of_n is None or spec.selected_by is None:
        return []
    parts = []
    for name, found in spec.between_seed.items():
        deviation = found.standard_deviation
        spread_text = "" if deviation is None else f" ± {deviation:.3g}"
        parts.append(f"{name} {found.mean:.3g}{spread_text}")
    return [
        f"Best of {spec.best_of_n} seeds by {spec.selected_by.metric} in short simulations "
        f"({spec.selected_by.protocol}), scored against "
        f"{'; '.join(spec.selected_by.described.values()) or 'another reference'}. "
        f"Over the seeds: {', '.join(parts)} (mean and standard deviation)."
    ]
