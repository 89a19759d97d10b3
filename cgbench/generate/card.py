"""The card of a run: every setting, version, speed and failure, for machines and for people."""

import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from cgbench import provenance
from cgbench.config import Frozen, write_atomic, write_model
from cgbench.generate.folder import RunFolder
from cgbench.generate.raw_files import RawSummary
from cgbench.generate.records import TrajectoryRecord
from cgbench.generate.settings import FORCE_FIELDS, GenerationSettings
from cgbench.units import PICOSECONDS_PER_NANOSECOND, SECONDS_PER_DAY

_PACKAGES: Final = ("openmm", "pdbfixer", "PeptideBuilder", "biopython")


class Failure(Frozen):
    """A trajectory that diverged at least once.

    Attributes:
        trajectory: Its number.
        attempts: Attempts that diverged.
        status: ``ok`` if a later attempt did not.
        reason: Why the first did.
    """

    trajectory: int
    attempts: int
    status: Literal["ok", "failed"]
    reason: str


class GenerationCard(Frozen):
    """What ``generation.json`` holds.

    Attributes:
        format: Name of this format.
        version: Version of this format.
        settings: What the trajectories were made from.
        force_field: The force field in words.
        files: OpenMM's files of it.
        started_from: Number of new trajectories of each kind of start.
        n_finished: Number of new trajectories.
        nanoseconds: Their total length.
        failures: Trajectories that diverged at least once.
        raw: What the raw files hold.
        earlier: Name of the earlier set that starts were drawn from.
        left_out: Residues of the given structure that are not simulated.
        notes: What a user should know.
        platforms: OpenMM platforms that were used.
        wall_time: Seconds of all new trajectories together, preparation included.
        nanoseconds_per_day: Their total length over that time: one process's speed.
        packages: Versions of the simulation packages.
        provenance: Versions, machine, seeds and command of the last run.
    """

    format: Literal["cgbench-generation"] = "cgbench-generation"
    version: Literal[1] = 1
    settings: GenerationSettings
    force_field: str
    files: tuple[str, ...]
    started_from: dict[str, int]
    n_finished: int
    nanoseconds: float
    failures: tuple[Failure, ...]
    raw: RawSummary
    earlier: str | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    platforms: tuple[str, ...]
    wall_time: float
    nanoseconds_per_day: float
    packages: dict[str, str]
    provenance: provenance.Provenance


def write_card(
    folder: RunFolder,
    settings: GenerationSettings,
    raw: RawSummary,
    *,
    earlier: str | None,
    left_out: Sequence[str],
    notes: Sequence[str],
) -> GenerationCard:
    """Write ``generation.json`` and ``README.md`` of a run.

    Args:
        folder: The run.
        settings: Of the run.
        raw: What its raw files hold.
        earlier: Name of the earlier set, if any.
        left_out: Residues of the given structure that are not simulated.
        notes: What a user should know.
    """
    records = list(folder.records().values())
    finished = [one for one in records if one.status == "ok"]
    force_field = FORCE_FIELDS[settings.system.force_field]
    nanoseconds = sum(one.n_frames for one in finished) * settings.dynamics.frame_interval
    nanoseconds /= PICOSECONDS_PER_NANOSECOND
    wall_time = sum(one.wall_time for one in finished)
    card = GenerationCard(
        settings=settings,
        force_field=force_field.description,
        files=force_field.files,
        started_from=dict(sorted(Counter(one.planned.kind for one in finished).items())),
        n_finished=len(finished),
        nanoseconds=nanoseconds,
        failures=tuple(
            Failure(
                trajectory=one.planned.index,
                attempts=len(one.divergences),
                status=one.status,
                reason=one.divergences[0].reason,
            )
            for one in records
            if one.divergences
        ),
        raw=raw,
        earlier=earlier,
        left_out=tuple(left_out),
        notes=tuple(notes),
        platforms=tuple(sorted({one.platform for one in finished})),
        wall_time=wall_time,
        nanoseconds_per_day=nanoseconds / wall_time * SECONDS_PER_DAY if wall_time > 0 else 0.0,
        packages=package_versions(),
        provenance=provenance.collect({"generate": settings.seed}),
    )
    write_atomic(folder.path / "README.md", _text(card, records))
    write_model(folder.path / "generation.json", card)
    return card


def package_versions() -> dict[str, str]:
    """Return the versions of the simulation packages that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _text(card: GenerationCard, records: Sequence[TrajectoryRecord]) -> str:
    settings, dynamics = card.settings, card.settings.dynamics
    kinds = ", ".join(f"{number} {kind}" for kind, number in card.started_from.items())
    failed = sum(one.status == "failed" for one in records)
    steps = f"{1000 * dynamics.timestep:g} fs"
    lines = [
        f"# {settings.name}: all-atom molecular dynamics generated with cgbench",
        "",
        f"Sequence {settings.sequence}. {card.force_field} ({', '.join(card.files)}), OpenMM "
        f"{card.packages.get('openmm', 'unknown')} ({', '.join(card.platforms)}). Charged termini. "
        f"Rigid bonds to hydrogen, hydrogen mass {settings.system.hydrogen_mass:g} amu, Langevin "
        f"middle integrator, {dynamics.temperature:g} K, friction {dynamics.friction:g}/ps, "
        f"{steps} steps, a frame every {dynamics.frame_interval:g} ps.",
        "",
        f"{card.n_finished} trajectories of {settings.trajectory_length:g} ps "
        f"({card.nanoseconds:g} ns) started from: {kinds}. The kinds: native is the given "
        f"structure; coil is the extended chain after {settings.coil_length:g} ps at "
        f"{settings.coil_temperature:g} K; adaptive is an earlier frame, drawn by least counts "
        f"over {settings.n_clusters} k-centres in Cα distances. Starting frames are not Boltzmann "
        "distributed: use a Markov state model for equilibrium weights.",
        "",
        f"Trajectories that diverged and were repeated: {len(card.failures) - failed}; given up: "
        f"{failed}. {card.nanoseconds_per_day:.1f} ns/day in one process, preparation included.",
        "",
        f"Optimal force map: {card.raw.map_source}.",
    ]
    if card.raw.n_earlier:
        lines += ["", f"The first {card.raw.n_earlier} trajectories are those of {card.earlier}."]
    if card.raw.force_maps is not None:
        report = card.raw.force_maps
        lines += [
            "",
            f"Mean square force per component in (kcal/mol/Å)², {report.training_frames} training "
            f"and {report.held_out_frames} held-out frames; the lowest held-out error of a "
            f"consistent map is that of {report.lowest_held_out}:",
            "",
            "| map | consistent with the mean force | training | held out |",
            "|---|---|---|---|",
            *(
                f"| {one.name} | {'yes' if one.consistent else 'no'} | {one.training:.1f} "
                f"| {one.held_out:.1f} |"
                for one in report.maps
            ),
        ]
    lines += ["", *card.notes] if card.notes else []
    return "\n".join(lines) + "\n"
