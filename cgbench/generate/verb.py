"""What ``cgbench generate`` does: adaptive sampling, replica exchange or mean forces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgbench.config import validate
from cgbench.errors import UsageError, ValidationError
from cgbench.generate.campaign import generate
from cgbench.generate.card import GenerationCard
from cgbench.generate.folder import RunFolder
from cgbench.generate.mean_force_run import mean_forces_of_raw
from cgbench.generate.mean_force_set import MeanForceSet, MeanForceSettings
from cgbench.generate.options import Options, ResolvedRun, resolve
from cgbench.generate.records import Machine
from cgbench.generate.replica_files import ExchangeCard
from cgbench.generate.replicas import run_replica_exchange
from cgbench.progress import Progress, silent


@dataclass(frozen=True)
class GenerateResult:
    """What was made.

    Attributes:
        folder: Folder of the run.
        card: Card of the trajectories or replicas; None where only mean forces were computed.
        mean_forces: The mean forces, None where none were asked for.
    """

    folder: Path
    card: GenerationCard | ExchangeCard | None
    mean_forces: MeanForceSet | None

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        held = self.mean_forces
        return {
            "folder": str(self.folder),
            "card": None if self.card is None else self.card.model_dump(mode="json"),
            "mean_forces": None if held is None else held.record.model_dump(mode="json"),
        }

    def summary(self) -> str:
        """Return the few lines that are shown to people."""
        lines = []
        if isinstance(self.card, GenerationCard):
            speed = self.card.nanoseconds_per_day
            failed = sum(one.status == "failed" for one in self.card.failures)
            lines.append(
                f"{self.card.raw.n_trajectories} trajectories, {self.card.raw.n_frames} frames, "
                f"{speed:.1f} ns/day in one process, {failed} given up: {self.folder}"
            )
        elif self.card is not None:
            lines.append(
                f"{len(self.card.settings.ladder)} replicas, {self.card.nanoseconds:g} ns, "
                f"{sum(self.card.round_trips)} round trips: {self.folder}"
            )
        if self.card is not None:
            lines.append(f"store: cgbench preprocess --recipe {self.folder / 'recipe.yaml'}")
        if self.mean_forces is not None:
            lines.append(
                f"mean forces at {len(self.mean_forces.frames)} frames, standard error "
                f"{self.mean_forces.noise**0.5:.2f} kcal/mol/Å: {self.folder / 'mean_force'}"
            )
        return "\n".join(lines)


def run(options: Options, progress: Progress = silent) -> GenerateResult:
    """Do what the options say; a run that is there already is continued.

    Raises:
        UsageError: An option is wrong, or options contradict each other.
        SimulationError: Nothing could be simulated.
    """
    _check_together(options)
    resolved = resolve(options)
    settings = resolved.settings
    folder = options.out or options.home / "generated" / settings.name
    machine = Machine(platform=options.platform, threads=options.threads)
    card: GenerationCard | ExchangeCard | None = None
    if settings.ladder:
        card = _exchange(options, resolved, folder, machine, progress)
    elif resolved.budget is not None:
        card = generate(
            settings,
            resolved.source,
            folder,
            budget=resolved.budget,
            machine=machine,
            workers=options.workers,
            earlier=options.from_raw,
            include_earlier=options.include_raw,
            # Mean forces begin at all-atom frames, so those are discarded after them.
            discard_all_atom=options.discard_all_atom and options.mean_force is None,
            progress=progress,
        )
    held = None
    if options.mean_force is not None:
        held = _mean_forces(options, resolved, folder, machine, progress)
        if options.discard_all_atom and card is not None:
            with RunFolder(folder).locked():
                RunFolder(folder).discard_frames()
    return GenerateResult(folder, card, held)


def _check_together(options: Options) -> None:
    """Refuse options that mean nothing without another one.

    Raises:
        UsageError: There is such an option.
    """
    lonely = {
        "--sampling": (options.sampling is not None, "--mean-force", options.mean_force),
        "--chain": (options.chain is not None, "--structure", options.structure),
    }
    for name, (given, needed, there) in lonely.items():
        if given and there is None:
            raise UsageError(f"{name}: means nothing without {needed}", fix=f"give {needed}")


def _exchange(
    options: Options, resolved: ResolvedRun, folder: Path, machine: Machine, progress: Progress
) -> ExchangeCard:
    unsuitable = {
        "--copies": options.copies > 1,
        "--from-raw": options.from_raw is not None,
        "--mean-force": options.mean_force is not None,
        "--discard-all-atom": options.discard_all_atom,
        "--per-round": options.per_round is not None,
    }
    for name, given in unsuitable.items():
        if given:
            raise UsageError(f"{name}: does not go together with replica exchange")
    if resolved.budget is None:
        raise UsageError(
            "replica exchange: nothing says when to stop",
            fix="give --hours, --nanoseconds or --trajectories (segments)",
        )
    return run_replica_exchange(
        resolved.settings,
        resolved.source,
        folder,
        budget=resolved.budget,
        machine=machine,
        workers=options.workers,
        progress=progress,
    )


def _mean_forces(
    options: Options, resolved: ResolvedRun, folder: Path, machine: Machine, progress: Progress
) -> MeanForceSet:
    """Compute mean forces at frames of the run, or of the earlier set where there is no run."""
    run_folder = RunFolder(folder)
    if (folder / "trajectories.json").is_file():
        with run_folder.locked():
            run_folder.claim(resolved.settings)
        raw = folder
    elif options.from_raw is not None:
        raw = options.from_raw
    else:
        raise UsageError(
            f"{folder}: no all-atom frames to hold the beads at",
            fix="generate trajectories first, or name a raw set with --from-raw",
        )
    dynamics = resolved.settings.dynamics
    plain = MeanForceSettings(seed=resolved.settings.seed)
    changed = {"temperature": dynamics.temperature, "timestep": dynamics.timestep}
    values = plain.model_dump() | {"dynamics": plain.dynamics.model_dump() | changed}
    if options.sampling is not None:
        values["sampling"] = options.sampling
    try:
        settings = validate(MeanForceSettings, values, "options")
    except ValidationError as error:
        raise UsageError("--sampling", found=error.found) from error
    return mean_forces_of_raw(
        raw,
        options.mean_force or 1,
        folder / "mean_force",
        system=resolved.settings.system,
        settings=settings,
        machine=machine,
        progress=progress,
    )
