"""From ``sampler.pt`` to an ensemble file of the suite, system by system."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.nemo.features import Profile
from cgbench.progress import Progress, silent
from cgbench.samplers import LearnedSampler, SamplerSpec, load_sampler, read_profile, sampler_hash
from cgbench.samplers.learned import blocks
from cgbench.store import (
    TrajectoryAttributes,
    TrajectorySet,
    read_trajectories,
    stored_systems,
    write_trajectories,
)

#: Structures that are drawn where nothing else is asked for.
SAMPLES = 640


class SamplingRecord(Frozen):
    """What samples of a system were made from and took.

    Attributes:
        system: Registry key.
        fingerprint: Of sampler, number, seed, temperature and profile.
        n_samples: Structures drawn.
        seconds: Wall time of drawing them.
        threads: Threads of torch.
    """

    system: str
    fingerprint: str
    n_samples: int
    seconds: float
    threads: int

    @property
    def seconds_per_sample(self) -> float:
        """Wall time of one structure."""
        return self.seconds / self.n_samples


@dataclass(frozen=True, eq=False)
class OpenedSampler:
    """A sampler with its file.

    Attributes:
        path: The file.
        sampler: What is in it.
        hash: Names it.
    """

    path: Path
    sampler: LearnedSampler
    hash: str

    @property
    def spec(self) -> SamplerSpec:
        """What the sampler says of itself."""
        return self.sampler.spec


def open_sampler(path: Path, device: str = "cpu") -> OpenedSampler:
    """Read a sampler.

    Raises:
        UsageError: No such file.
        IntegrityError: It is damaged or unsafe.
        ValidationError: Its parts do not fit together.
    """
    return OpenedSampler(path, load_sampler(path, device=device), sampler_hash(path))


def systems_to_sample(opened: OpenedSampler, systems: Sequence[str] | None) -> list[str]:
    """Return the named systems, or those that the sampler says it was trained on.

    Raises:
        UsageError: None was named and the sampler names none, or a name is unknown.
    """
    chosen = list(systems or [item.system for item in opened.spec.trained_on])
    if not chosen:
        raise UsageError(
            f"{opened.path}: does not say which systems it was trained on", fix="give --system"
        )
    for key in chosen:
        sequence_of(key)
    return list(dict.fromkeys(chosen))


def read_profiles(given: Sequence[str]) -> dict[str, Profile]:
    """Read profiles given as ``SYSTEM=FILE``.

    Raises:
        UsageError: One is not of that form, or its file is not there.
        IntegrityError: A file cannot be parsed.
        ValidationError: A file is of another sequence.
    """
    found = {}
    for text in given:
        system, separator, path = text.partition("=")
        if not separator or not system or not path:
            raise UsageError(f"--profile {text}: not a profile", expected="SYSTEM=FILE")
        found[system] = read_profile(Path(path), sequence_of(system))
    return found


def draw(
    opened: OpenedSampler,
    system: str,
    n: int,
    *,
    temperature: float | None,
    seed: int,
    out: Path,
    force: bool = False,
) -> SamplingRecord:
    """Draw structures of a system into a ``trajectories.zarr``; what is there already is kept.

    Args:
        opened: The sampler.
        system: Registry key.
        n: Structures.
        temperature: In K; that of the registry if None.
        seed: Seed of the draws.
        out: The ``trajectories.zarr``.
        force: Draw again.

    Raises:
        UsageError: Nothing is to be drawn, or the path holds something else.
        ValidationError: The network cannot take the sequence.
        SimulationError: No structure is finite.
    """
    if n < 1:
        raise UsageError("--n: nothing to draw", expected="at least 1", found=n)
    wanted = temperature or _temperature_of(system)
    profile = opened.sampler.profiles.get(system)
    identity = config.fingerprint(
        {
            "sampler": opened.hash,
            "system": system,
            "n": n,
            "seed": seed,
            "temperature": wanted,
            "profile": None if profile is None else profile.astype(float).tolist(),
        }
    )
    path = _record_path(out, system)
    if not force and (found := _kept(path, out, identity)) is not None:
        return found
    sequence = sequence_of(system)
    started = time.perf_counter()
    coordinates = opened.sampler.structures(
        sequence, n, profile=profile, temperature=wanted, seed=seed
    )
    seconds = time.perf_counter() - started
    _write(out, system, sequence, coordinates, opened.hash, wanted, seed)
    record = SamplingRecord(
        system=system,
        fingerprint=identity,
        n_samples=n,
        seconds=seconds,
        threads=torch.get_num_threads(),
    )
    config.write_model(path, record)
    return record


def sample_systems(
    opened: OpenedSampler,
    systems: Sequence[str] | None,
    n: int = SAMPLES,
    *,
    temperature: float | None = None,
    seed: int = 1,
    out: Path,
    force: bool = False,
    progress: Progress = silent,
) -> list[SamplingRecord]:
    """Draw structures of several systems into one file; see :func:`draw`.

    A file that ends in ``.npz`` holds the samples of one system.

    Raises:
        UsageError: A system is unknown, or several systems are to go into one npz file.
        CgbenchError: As :func:`draw`.
    """
    keys = systems_to_sample(opened, systems)
    if out.suffix == ".npz":
        if len(keys) > 1:
            raise UsageError(
                f"{out}: holds one system", found=", ".join(keys), fix="--out NAME.zarr"
            )
        return [_drawn_npz(opened, keys[0], n, temperature, seed, out)]
    records = []
    for number, key in enumerate(keys):
        progress("sample", number, len(keys))
        records.append(
            draw(opened, key, n, temperature=temperature, seed=seed, out=out, force=force)
        )
    progress("sample", len(keys), len(keys))
    return records


def stored_samples(out: Path, system: str) -> NDArray[np.float32]:
    """Return the samples of a system as they were drawn, (n, n_beads, 3) in Å."""
    return np.concatenate(read_trajectories(out, system).coordinates)


def _drawn_npz(
    opened: OpenedSampler, system: str, n: int, temperature: float | None, seed: int, out: Path
) -> SamplingRecord:
    sequence = sequence_of(system)
    wanted = temperature or _temperature_of(system)
    started = time.perf_counter()
    coordinates = opened.sampler.structures(
        sequence, n, profile=opened.sampler.profiles.get(system), temperature=wanted, seed=seed
    )
    seconds = time.perf_counter() - started
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, coordinates=coordinates, sequence=sequence)
    return SamplingRecord(
        system=system,
        fingerprint=opened.hash,
        n_samples=n,
        seconds=seconds,
        threads=torch.get_num_threads(),
    )


def _write(
    out: Path,
    system: str,
    sequence: str,
    coordinates: NDArray[np.float32],
    identity: str,
    temperature: float,
    seed: int,
) -> None:
    parts = blocks(coordinates)
    write_trajectories(
        out,
        TrajectorySet(
            system=system,
            coordinates=parts,
            network_energy=None,
            prior_energy=None,
            weights=None,
            alive_until=np.array([len(part) for part in parts], dtype=np.int64),
            frame_interval=None,
            temperature=temperature,
            attributes=TrajectoryAttributes(
                sequence=sequence,
                temperature=temperature,
                frame_interval=None,
                model_hash=identity,
                seeds={"sampling": seed},
            ),
        ),
    )


def _record_path(out: Path, system: str) -> Path:
    return out.with_name(f"{out.stem}.{system}.sampling.json")


def _kept(path: Path, out: Path, identity: str) -> SamplingRecord | None:
    """Return the record of samples that are there and were made from the same."""
    try:
        found = config.read_model(SamplingRecord, path)
        if found.fingerprint == identity and found.system in stored_systems(out):
            return found
    except CgbenchError:
        return None
    return None


def _temperature_of(system: str) -> float:
    parents = {one.key: one.parent for one in registry.mutants()}
    return registry.system(parents.get(system, system)).temperature
