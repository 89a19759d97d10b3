"""The first arrow after ``model.pt``: does it keep the contract?"""

from pathlib import Path

import torch

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.evaluate import read_reference
from cgbench.models import NetworkPotential, load
from cgbench.models.conformance import ConformanceReport, check_potential
from cgbench.progress import Progress, silent
from cgbench.store import find_reference


def systems_of(
    potential: NetworkPotential, systems: list[str] | None, model: str | Path
) -> list[str]:
    """Return the named systems, or those that the model says it was trained on.

    Raises:
        UsageError: None was named and the model names none, or a name is unknown.
    """
    chosen = systems or [item.system for item in potential.spec.trained_on]
    if not chosen:
        raise UsageError(f"{model}: does not say what it was trained on", fix="give --system")
    return [registry.system(key).key for key in dict.fromkeys(chosen)]


def check_model(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    home: Path | None = None,
    progress: Progress = silent,
) -> ConformanceReport:
    """Run the conformance suite on the start frames of the model's systems.

    Raises:
        UsageError: The model, a system or its reference is not there.
        IntegrityError: The model file is damaged or unsafe.
    """
    potential = load(model, home)
    inputs = {}
    for key in systems_of(potential, systems, model):
        bundle = read_reference(find_reference(key, home))
        inputs[key] = (
            torch.tensor(registry.system(key).bead_types),
            torch.from_numpy(bundle.start_coordinates.copy()),
        )
    return check_potential(potential, inputs, progress=progress)
