"""The authors' trajectories of mutants against the mutants' own native structures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.config import data_home
from cgbench.errors import CgbenchError, ValidationError
from cgbench.evaluate import Ensemble, interval, multiplicities
from cgbench.evaluate.ensemble_inputs import find_inputs
from cgbench.evaluate.ensemble_trajectories import MappedFile, read_mapped
from cgbench.evaluate.geometry import q_native, rmsd
from cgbench.evaluate.pdb_models import read_pdb_models
from cgbench.fetch import Settings
from cgbench.ingest.downloads import Outcome, download
from cgbench.ingest.trajectory_files import inspect_trajectory
from cgbench.pipeline.results import assemble, printed, write_result_of
from cgbench.progress import Progress, silent
from cgbench.registry import Mutant
from cgbench.results import MetricValue, ModelIdentity, Result, SystemResult

Float = NDArray[np.float64]

NAME: Final = "majewski-multi"
#: A frame counts as native below this RMSD in Å, as in the metric ``rmsd_below_2p5``.
_NATIVE_RMSD: Final = 2.5
_BINS: Final = 4000
_BLOCK: Final = 100_000


@dataclass(frozen=True)
class _Compared:
    """What the values of a mutant are relative to: its native structure."""

    fingerprint: str
    version: str = "native structure"


@dataclass(frozen=True, eq=False)
class _Native:
    """Native structure of a mutant as its trajectories have it.

    ``scored`` is the half-open range of beads that the experimental structure holds: two mutants
    were extended by one or two residues.
    """

    coordinates: NDArray[np.float32]
    sequence: str
    scored: tuple[int, int]

    @property
    def compared(self) -> _Compared:
        """Identity of the structure: sequence, scored beads, and every coordinate."""
        content = [self.sequence, list(self.scored), self.coordinates.tolist()]
        return _Compared(config.fingerprint(content))


def evaluate_published_mutants(
    mutants: Sequence[str],
    *,
    out: Path,
    mirror: str | None = None,
    settings: Settings | None = None,
    seed: int = 1,
    home: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Download the authors' trajectories of mutants and compare them with native structures.

    A mutant has no reference simulation, so nothing is said of its thermodynamics: values are
    those of ``rmsd_p1``, ``rmsd_below_2p5`` and ``q_native`` over all frames, each counting the
    same, which is sampling and no equilibrium.

    Args:
        mutants: Registry keys.
        out: Run folder; ``result.json`` is written after every mutant.
        mirror: Address tried before the publisher's.
        settings: How to fetch.
        seed: Seed of the resamples.
        home: Data home.
        progress: Told how far it is.
    """
    began = time.monotonic()
    systems: list[SystemResult] = []
    compared: dict[str, _Compared] = {}
    result = None
    for key in mutants:
        try:
            mutant = registry.mutant(key)
            item, native = _mutant(mutant, mirror, settings, seed, home, progress)
            systems.append(item)
            compared[key] = native.compared
        except CgbenchError as error:
            reason = f"{error.message}\n  to do:    cgbench download {key} --kind mutants --extract"
            systems.append(SystemResult(system=key, status="missing", reason=printed(reason)))
        result = assemble(
            ModelIdentity(name=NAME, hash=None, kind="ensemble"),
            {},
            sorted(systems, key=lambda one: one.status == "missing"),
            bundles=compared,
            protocol=registry.protocol(registry.PAPER_PROTOCOL),
            splits={},
            seeds={"resampling": seed},
            wall_time=time.monotonic() - began,
            track="mutants",
        )
        write_result_of(out, result)
    if result is None:
        raise ValidationError("no mutants", expected="at least one")
    return result


def _mutant(
    mutant: Mutant,
    mirror: str | None,
    settings: Settings | None,
    seed: int,
    home: Path | None,
    progress: Progress,
) -> tuple[SystemResult, _Native]:
    folder = data_home(home)
    outcomes = {
        one.file.name: one
        for one in download(
            registry.remote_files([mutant.key], ["mutants"]),
            folder,
            mirror=mirror,
            settings=settings,
            unpack=True,
            progress=progress,
        )
    }
    (archive,) = [one for one in outcomes.values() if one.file.content == "archive"]
    if archive.error is not None:
        raise archive.error
    native = _native(mutant, outcomes, folder)
    path = folder / archive.file.path
    inputs = find_inputs(path.with_name(path.name.removesuffix(".tar.gz")))
    files = [_mapped(file, mutant.key, len(native.sequence)) for file in inputs.files]
    raw = read_mapped(files, progress)
    paper = registry.protocol(registry.PAPER_PROTOCOL)
    ensemble = Ensemble.from_arrays(
        mutant.key,
        raw.trajectories,
        # Only the order counts here: nothing below is in ps.
        frame_interval=paper.output_interval,
        name=NAME,
        n_beads=len(native.sequence),
    ).kept(paper.drop_fraction)
    notes = [
        f"From {archive.file.url}"
        + (f", sha256 {archive.fetched.sha256}." if archive.fetched is not None else "."),
        "Against the mutant's own native structure, all frames counting the same: sampling, not "
        "equilibrium. There is no reference simulation.",
    ]
    first, last = native.scored
    if (first, last) != (0, len(native.sequence)):
        notes.append(f"Beads {first + 1} to {last} of {len(native.sequence)} are scored.")
    return _scored(mutant.key, ensemble, native, seed, notes), native


def _native(mutant: Mutant, outcomes: dict[str, Outcome], folder: Path) -> _Native:
    """Return the structure of the file that the trajectories are loaded with.

    Raises:
        CgbenchError: It could not be fetched.
        ValidationError: It is not the sequence that the registry knows.
    """
    structures = [one for one in outcomes.values() if one.file.content == "pdb"]
    (whole,) = [one for one in structures if not one.file.name.endswith("_org.pdb")]
    if whole.error is not None:
        raise whole.error
    path = folder / whole.file.path
    models = read_pdb_models(path)
    sequence = "".join(chain.sequence for chain in models.chains)
    if mutant.sequence is not None and mutant.sequence not in sequence:
        raise ValidationError(
            f"{path}: not the sequence of {mutant.key}", expected=mutant.sequence, found=sequence
        )
    scored = mutant.scored_beads or (0, len(sequence))
    original = [one for one in structures if one is not whole and one.error is None]
    if original:
        before = read_pdb_models(folder / original[0].file.path)
        part = "".join(chain.sequence for chain in before.chains)
        start = sequence.find(part)
        if start >= 0:
            scored = (start, start + len(part))
    return _Native(models.coordinates[0], sequence, scored)


def _mapped(path: Path, key: str, n_beads: int) -> MappedFile:
    file = inspect_trajectory(path, in_order=False)
    if file.n_atoms != n_beads:
        raise ValidationError(
            f"{path}: not the beads of {key}", expected=f"{n_beads} atoms", found=file.n_atoms
        )
    return MappedFile(path, key, None, file.n_frames, file.interval)


def _scored(
    key: str, ensemble: Ensemble, native: _Native, seed: int, notes: list[str]
) -> SystemResult:
    """Return the values of a mutant, with intervals over its trajectories."""
    first, last = native.scored
    target = native.coordinates[first:last]
    n = ensemble.n_trajectories
    counts = np.zeros((n, _BINS))
    below, contacts, living = np.zeros(n), np.zeros(n), np.zeros(n)
    deviations = []
    unfolded = reached = 0
    for index, (frames, until) in enumerate(
        zip(ensemble.trajectories, ensemble.alive_until.tolist(), strict=True)
    ):
        alive = frames[:until, first:last]
        if not len(alive):
            continue
        blocks = range(0, len(alive), _BLOCK)
        deviation = np.concatenate([rmsd(alive[one : one + _BLOCK], target) for one in blocks])
        q = np.concatenate([q_native(alive[one : one + _BLOCK], target) for one in blocks])
        deviations.append(deviation)
        living[index] = len(alive)
        below[index] = (deviation < _NATIVE_RMSD).sum()
        contacts[index] = q.sum()
        if q[0] < registry.constants().unfolded_q:
            unfolded += 1
            reached += bool((deviation < _NATIVE_RMSD).any())
    if not deviations:
        return SystemResult(
            system=key, status="failed", reason="every frame is lost", n_trajectories=n
        )
    everything = np.concatenate(deviations)
    edges = np.linspace(0.0, float(everything.max()) + 1e-6, _BINS + 1)
    rows = np.flatnonzero(living)
    for index, deviation in zip(rows.tolist(), deviations, strict=True):
        counts[index] = np.histogram(deviation, edges)[0]
    taken = multiplicities(seed, n, registry.constants().n_resamples)
    share = registry.constants().rmsd_percentile
    lowest = _percentiles(counts.T @ taken, edges, share / 100.0)
    total = living @ taken
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "rmsd_p1": lowest,
            "rmsd_below_2p5": (below @ taken) / total,
            "q_native": (contacts @ taken) / total,
        }
    columns["rmsd_p1"][0] = np.percentile(everything, share)
    told = (
        f"{reached} of {unfolded} trajectories that start unfolded (Q < "
        f"{registry.constants().unfolded_q:g}) come within {_NATIVE_RMSD:g} Å; least RMSD "
        f"{everything.min():.2f} Å."
    )
    return SystemResult(
        system=key,
        status="ok",
        metrics={
            name: _value(values, n, int((living > 0).sum())) for name, values in columns.items()
        },
        n_trajectories=n,
        n_frames=ensemble.n_frames,
        dead_fraction=float(1.0 - living.sum() / max(1, ensemble.n_frames)),
        weights_status="uniform",
        weights_reason="sampling, not equilibrium: a mutant has no reference simulation",
        notes=(told, *notes),
    )


def _percentiles(counts: Float, edges: Float, share: float) -> Float:
    """Return the upper edge of the bin in which each column's share is reached."""
    cumulative = np.cumsum(counts, axis=0)
    reached = cumulative >= share * cumulative[-1]
    return np.asarray(edges[1:][reached.argmax(axis=0)])


def _value(values: Float, n_trajectories: int, n_living: int) -> MetricValue:
    found = float(values[0])
    ends = interval(found, values[1:]) if n_trajectories > 1 else None
    note = None if ends is not None else "one trajectory: no interval"
    return MetricValue(
        value=found,
        lo=None if ends is None else ends[0],
        hi=None if ends is None else ends[1],
        n_eff=float(n_living),
        note=note,
    )
