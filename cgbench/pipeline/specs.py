"""What the author of a sampler has to produce, system by system."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cgbench import registry
from cgbench.config import Frozen
from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate import md_split_half, read_reference
from cgbench.pipeline.results import commands_for
from cgbench.progress import Progress, silent
from cgbench.registry import System
from cgbench.splits import read_split
from cgbench.store import find_reference, find_split, find_store

#: Samples that are enough for the metrics not to be of their number: the searches look at 10,000
#: frames, and distances between distributions of independent samples have settled by then.
RECOMMENDED_SAMPLES: Final = 10_000
_SPLIT: Final = "block-v1"

UNITS: Final = {
    "coordinates": "Å",
    "energy": "kcal/mol",
    "temperature": "K",
    "frame_interval": "ps",
}
FORMATS: Final = {
    ".npz": "coordinates (n, n_beads, 3) or trajectories (m, n, n_beads, 3); optional trajectory, "
    "weights, temperature, energy, frame_interval_ps, sequence",
    ".npy": "(n, n_beads, 3) or (m, n, n_beads, 3)",
    ".pdb": "one or many models, all atoms or Cα alone",
    ".xtc .trr .dcd .nc .h5": "one trajectory a file, with a topology beside it or --topology FILE",
    "trajectories.zarr": "as 'cgbench simulate' writes it, one group a system",
}
WEIGHTS: Final = (
    "None where samples are Boltzmann distributed at the temperature: every one counts the same. "
    "Else 'weights' in the npz or --weights FILE.npy, not negative, one a frame. Several "
    "temperatures: 'temperature' and 'energy' of each frame, weighted by MBAR."
)
NOVELTY: Final = (
    "Share of samples that are further from the nearest training frame than usual; needs the store "
    "and the split block-v1, whose part 'train' is what a sampler may be trained on."
)


class NoiseFloor(Frozen):
    """What the reference scores against itself at a number of frames.

    Attributes:
        n_frames: Frames of the scored half.
        metrics: Value of each ranked metric.
    """

    n_frames: int
    metrics: dict[str, float]


class SamplerSpecs(Frozen):
    """What is expected of a sampler on one system.

    Attributes:
        system: Registry key.
        name: Name for people.
        sequence: One letter for each bead; X is norleucine.
        n_beads: Cα atoms of each structure.
        residues: Three-letter name of each bead.
        temperature: What the samples are a Boltzmann distribution at, in K.
        reference: Whether the reference bundle is at hand.
        training: Whether the training part is at hand, which novelty needs.
        fix: Commands that get what is not at hand; None where everything is.
        units: By quantity.
        formats: By ending of the file.
        recommended_samples: How many samples to give.
        least_trajectories: Independent trajectories or chains that a rank takes, for samples that
            are correlated.
        weights: When samples need them.
        scored: Metrics of samples.
        not_applicable: Metrics without a value for samples, with the reason.
        novelty: What novelty is and needs.
        noise_floor: What the reference scores against itself, where it was asked for.
        command: How to score the samples.
    """

    system: str
    name: str
    sequence: str
    n_beads: int
    residues: tuple[str, ...]
    temperature: float
    reference: bool
    training: bool
    fix: str | None
    units: dict[str, str]
    formats: dict[str, str]
    recommended_samples: int
    least_trajectories: int
    weights: str
    scored: tuple[str, ...]
    not_applicable: dict[str, str]
    novelty: str
    noise_floor: NoiseFloor | None
    command: str


def sampler_specs(
    systems: Sequence[str] | None = None,
    *,
    noise_floor: int | None = None,
    seed: int = 1,
    home: Path | None = None,
    progress: Progress = silent,
) -> list[SamplerSpecs]:
    """Return what a sampler's author has to produce.

    Args:
        systems: Registry keys; all systems if None.
        noise_floor: Also score the reference against itself at this number of frames, which takes
            some seconds a system; None for not.
        seed: Seed of the divisions for it.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: A system is unknown, or a noise floor was asked for without its reference.
    """
    keys = systems or [one.key for one in registry.systems()]
    return [
        _specs(registry.system(key), noise_floor, seed, home, progress)
        for key in dict.fromkeys(keys)
    ]


def _specs(
    system: System, noise_floor: int | None, seed: int, home: Path | None, progress: Progress
) -> SamplerSpecs:
    names = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    fix = None
    try:
        find_reference(system.key, home)
    except CgbenchError as error:
        fix = commands_for(system.key, error, home)
        if noise_floor is not None:
            raise UsageError(
                f"{system.key}: no reference bundle here, so no noise floor", found=fix
            ) from error
    floor = None if noise_floor is None else _floor(system.key, noise_floor, seed, home, progress)
    scored, without = _metrics()
    return SamplerSpecs(
        system=system.key,
        name=system.name,
        sequence=system.sequence,
        n_beads=system.n_beads,
        residues=tuple(names[letter] for letter in system.sequence),
        temperature=system.temperature,
        reference=fix is None,
        training=_has_training(system.key, home),
        fix=fix,
        units=UNITS,
        formats=FORMATS,
        recommended_samples=RECOMMENDED_SAMPLES,
        least_trajectories=registry.constants().minimum_trajectories,
        weights=WEIGHTS,
        scored=scored,
        not_applicable=without,
        novelty=NOVELTY,
        noise_floor=floor,
        command=f"cgbench evaluate --ensemble samples.npz --system {system.key}",
    )


def _metrics() -> tuple[tuple[str, ...], dict[str, str]]:
    reasons = {
        "time_order": "needs frames in time order",
        "store": "needs a model that predicts forces",
    }
    scored, without = [], {}
    for metric in registry.metrics():
        reason = next((reasons[need] for need in metric.needs if need in reasons), None)
        if reason is None:
            scored.append(metric.id)
        else:
            without[metric.id] = reason
    return tuple(scored), without


def _has_training(system: str, home: Path | None) -> bool:
    try:
        find_store(system, home)
        read_split(find_split(system, _SPLIT, home))
    except CgbenchError:
        return False
    return True


def _floor(
    system: str, n_frames: int, seed: int, home: Path | None, progress: Progress
) -> NoiseFloor:
    bundle = read_reference(find_reference(system, home))
    row = md_split_half(bundle, seed=seed, n_frames=n_frames, progress=progress)
    ranked = [metric.id for metric in registry.metrics() if metric.ranked and not metric.optional]
    values = {
        metric: value.value
        for metric in ranked
        if (value := row.result.metrics.get(metric)) is not None and value.value is not None
    }
    return NoiseFloor(n_frames=row.result.n_frames or 0, metrics=values)
