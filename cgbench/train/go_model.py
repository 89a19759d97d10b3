"""Structure-based (Gō) models of proteins, with an energy ε that fits the data.

Everything in such a model but ε follows from the native structure. ε is given, or fitted to the
folded population of the reference (:mod:`cgbench.train.folding`), or to forces.
"""

import copy
import shutil
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic
import torch
import yaml
from numpy.typing import NDArray

from cgbench import config as files
from cgbench.errors import ValidationError
from cgbench.evaluate import ReferenceBundle, geometry, read_reference
from cgbench.evaluate.superposition import rmsd
from cgbench.models import (
    GoChain,
    GoConstants,
    GoModel,
    GoModelSettings,
    NetworkPotential,
    PotentialSpec,
)
from cgbench.models.go_model import NOT_A_PREDICTION
from cgbench.progress import Progress, silent
from cgbench.store import find_reference
from cgbench.train.clock import Clock
from cgbench.train.config import SystemsConfig, TrainingConfig
from cgbench.train.folding import Calibration, FoldingCurve, folding_curve
from cgbench.train.force_frames import finish_fit, force_blocks, frames_of, system_loss
from cgbench.train.material import SystemMaterial, open_material
from cgbench.train.records import SystemLoss, TrainingOutcome, take_folder


class GoModelConfig(SystemsConfig):
    """A Gō model of one or several proteins.

    Attributes:
        systems: Proteins; ``system: x`` is short for ``systems: [x]``. A model of several holds
            the structure of each and knows these chains alone.
        scale: ε in kcal/mol, or how it is found: ``population`` gives the folded population of the
            reference, ``forces`` the least squares of forces on the training part.
        constants: Strengths relative to ε.
        calibration: The simulation behind ``population``.
    """

    kind: Literal["go-model"] = "go-model"
    scale: Literal["population", "forces"] | Annotated[float, pydantic.Field(gt=0, lt=1e3)] = (
        "population"
    )
    constants: GoConstants = GoConstants()
    calibration: Calibration = Calibration()

    def as_training(self) -> TrainingConfig:
        """Return the settings of the data, in the form in which a training run opens them."""
        return TrainingConfig(
            name=self.name, systems=self.systems, split=self.split, force_map=self.force_map
        )


def train_go_model(
    settings: GoModelConfig,
    out: Path,
    *,
    home: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> TrainingOutcome:
    """Build a Gō model and write ``model.pt``.

    The folder holds ``config.yaml``, ``calibration.json`` where ε was found by simulation,
    ``model.pt``, ``training.json`` and ``provenance.json``. A finished run with the same
    configuration, stores, splits and references is returned as it is; an interrupted one goes on
    with the simulation at which it stopped.

    Args:
        settings: What to build.
        out: The run folder.
        home: Data home.
        force: Start over.
        progress: Told how far it is.

    Raises:
        UsageError: A system, its split or reference is not here, or the folder holds another run.
        ValidationError: No ε gives the folded population.
    """
    material = open_material(settings.as_training(), home)
    bundles = {
        item.system: item.bundle or read_reference(find_reference(item.system, home))
        for item in material.systems
    }
    identity = {
        "config": settings.model_dump(mode="json"),
        "data": material.fingerprint,
        "references": {name: bundle.fingerprint for name, bundle in bundles.items()},
    }
    fingerprint = files.fingerprint(identity)
    out.mkdir(parents=True, exist_ok=True)
    if force:
        shutil.rmtree(out / "calibration", ignore_errors=True)
    state = take_folder(out, fingerprint, True, force)
    finished = out / "training.json"
    if finished.is_file() and (out / "model.pt").is_file():
        return files.read_model(TrainingOutcome, finished)
    files.write_atomic(out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    clock = Clock(state)
    chains = [
        GoChain(name=item.system, bead_types=tuple(int(kind) for kind in item.store.bead_types))
        for item in material.systems
    ]
    natives = [bundles[chain.name].native for chain in chains]
    shape = GoModelSettings(constants=settings.constants, chains=tuple(chains))
    scales = [
        _scale(settings, item, bundles[item.system], chain, out, progress)
        for item, chain in zip(material.systems, chains, strict=True)
    ]
    network = GoModel(shape, natives, scales).eval()
    losses = {item.system: _loss(network, settings, item, progress) for item in material.systems}
    spent = clock.now()
    spec = PotentialSpec(
        name=settings.name,
        version="1",
        cutoff=None,
        trained_on=material.trained_on(),
        force_map=material.force_map if settings.scale == "forces" else None,
        licence=settings.licence,
        description=f"{NOT_A_PREDICTION} {settings.description}".strip(),
        seeds=(settings.seed,),
        training_cost_s=round(spent.seconds, 1),
        n_parameters=network.n_parameters,
    )
    return finish_fit(
        out,
        NetworkPotential(network, None, spec),
        losses,
        spent=spent,
        how=f"ε by {settings.scale}" if isinstance(settings.scale, str) else "ε given",
        seed=settings.seed,
    )


def _scale(
    settings: GoModelConfig,
    item: SystemMaterial,
    bundle: ReferenceBundle,
    chain: GoChain,
    out: Path,
    progress: Progress,
) -> float:
    """Return ε of one protein in kcal/mol."""
    if not isinstance(settings.scale, str):
        return settings.scale
    if settings.scale == "forces":
        return _scale_of_forces(settings, item, bundle, chain, progress)
    path = out / "calibration" / f"{chain.name}.json"
    metadata = bundle.metadata
    if not path.is_file():
        native = bundle.native

        def folded(frames: NDArray[np.float32]) -> NDArray[np.bool_]:
            q = geometry.q_native(frames, native).astype(np.float32)
            return metadata.basins.folded(q, rmsd(frames, native).astype(np.float32))

        folder = out / "calibration" / chain.name
        curve = folding_curve(
            native,
            chain,
            metadata.sequence,
            folded,
            temperature=metadata.temperature,
            constants=settings.constants,
            calibration=settings.calibration,
            folder=folder,
            progress=progress,
        )
        files.write_model(path, curve)
        shutil.rmtree(folder)
    curve = files.read_model(FoldingCurve, path)
    return curve.scale_at(metadata.folded_population.value)


def _scale_of_forces(
    settings: GoModelConfig,
    item: SystemMaterial,
    bundle: ReferenceBundle,
    chain: GoChain,
    progress: Progress,
) -> float:
    """Return the ε of least squares, Σ f·f₁ / Σ f₁² with the forces f₁ at ε = 1.

    Raises:
        ValidationError: Forces point the other way on average, so that there is none above zero.
    """
    shape = GoModelSettings(constants=settings.constants, chains=(chain,))
    unit = GoModel(shape, [bundle.native], [1.0]).double()
    types = torch.tensor(chain.bead_types)
    product = square = 0.0
    frames = frames_of(item, "train")
    for pos, forces in force_blocks(item, frames, settings.force_map, None, progress):
        own = unit.energy_forces_chains(types, torch.from_numpy(pos))[1].numpy()
        product += float((own * forces).sum())
        square += float((own * own).sum())
    if not product > 0.0:
        raise ValidationError(
            f"{item.store.path}: no energy of a Gō model fits these forces",
            found=f"least squares give ε = {product / square if square else float('nan'):.3g}",
            fix="give a number as scale",
        )
    return product / square


def _loss(
    network: GoModel, settings: GoModelConfig, item: SystemMaterial, progress: Progress
) -> SystemLoss:
    types = torch.as_tensor(np.asarray(item.store.bead_types))
    precise = copy.deepcopy(network).double()
    frames = frames_of(item, "val")
    error = square = 0.0
    for pos, forces in force_blocks(item, frames, settings.force_map, None, progress):
        own = precise.energy_forces_chains(types, torch.from_numpy(pos))[1].numpy()
        error += float(((own - forces) ** 2).sum())
        square += float((forces**2).sum())
    n_training = len(frames_of(item, "train")) if settings.scale == "forces" else 0
    return system_loss(n_training, len(frames), item, error, square)
