"""The first arrow after ``model.pt``: does it keep the contract?"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.evaluate import ReferenceBundle, read_reference
from cgbench.models.conformance import ConformanceReport, check_potential
from cgbench.pipeline.programs import AnyPotential, load_potential
from cgbench.progress import Progress, silent
from cgbench.store import find_reference

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice


def systems_of(potential: AnyPotential, systems: list[str] | None, model: str | Path) -> list[str]:
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
    trust: bool = False,
    adapter: "AdapterChoice | None" = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> ConformanceReport:
    """Run the conformance suite on the start frames of the model's systems.

    Args:
        model: A model file, or the name of a model.
        systems: Registry keys; those that the model was trained on if None.
        trust: Whether a program may be opened, or an adapter may run foreign code.
        adapter: What opens a model of another program.
        home: Data home.
        progress: Told after each check.

    Raises:
        UsageError: The model, a system or its reference is not there.
        IntegrityError: The model file is damaged or unsafe.
    """
    potential = load_potential(model, home, trust=trust, adapter=adapter)
    bundles = {
        key: read_reference(find_reference(key, home))
        for key in systems_of(potential, systems, model)
    }
    return check_on(potential, bundles, progress=progress)


def check_on(
    potential: AnyPotential,
    bundles: Mapping[str, ReferenceBundle],
    *,
    progress: Progress = silent,
) -> ConformanceReport:
    """Run the conformance suite on the start frames of reference bundles, by system."""
    inputs = {
        key: (
            torch.tensor(registry.system(key).bead_types),
            torch.from_numpy(bundle.start_coordinates.copy()),
        )
        for key, bundle in bundles.items()
    }
    return check_potential(potential, inputs, progress=progress)
