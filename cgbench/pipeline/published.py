"""The authors' own coarse-grained trajectories, downloaded and scored like any other ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from cgbench import registry
from cgbench.config import data_home
from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate import read_reference
from cgbench.evaluate.ensemble_files import EnsembleFiles
from cgbench.evaluate.ensemble_trajectories import stated_intervals
from cgbench.fetch import Settings
from cgbench.ingest.downloads import download
from cgbench.pipeline.evaluate_ensemble import (
    EnsembleOptions,
    EnsemblePlan,
    EnsembleSource,
    evaluate_sources,
)
from cgbench.pipeline.published_mutants import evaluate_published_mutants
from cgbench.pipeline.results import commands_for
from cgbench.progress import Progress, silent
from cgbench.registry import RemoteFile
from cgbench.results import Result
from cgbench.store import find_reference
from cgbench.units import FEMTOSECONDS_PER_PICOSECOND

PublishedKind = Literal["cg", "mutants"]

#: Rows of the coarse-grained trajectories, and what the names of their archives end with.
ROWS: Final = {
    "majewski-specific": "_cgtraj_protspecific.tar.gz",
    "majewski-multi": "_cgtraj_multiprotein.tar.gz",
}
_TOLERANCE: Final = 0.02


@dataclass(frozen=True)
class PublishedOptions:
    """How published files are fetched.

    Attributes:
        mirror: Address tried before the publisher's.
        settings: Patience and parallelism.
    """

    mirror: str | None = None
    settings: Settings | None = None


def evaluate_published(
    kind: PublishedKind,
    systems: Sequence[str] | None = None,
    *,
    out: Path,
    options: PublishedOptions | None = None,
    seed: int = 1,
    workers: int | None = None,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Result]:
    """Download and score the authors' trajectories, one run folder for each row.

    ``cg`` gives the rows ``majewski-specific`` and ``majewski-multi`` on the twelve proteins, under
    the constants of the protocol ``paper``; ``mutants`` the row ``majewski-multi`` on the eleven
    mutants, which have no reference simulation and are compared with their own native structures.
    Nothing is fetched for a system without its reference bundle: it is missing, with the commands
    that get it. What is downloaded, unpacked or scored already is kept, and an interrupted download
    goes on where it was.

    Args:
        kind: Which trajectories.
        systems: Registry keys of systems, or of mutants; all if None.
        out: Folder of the run folders, which have the names of the rows.
        options: How files are fetched.
        seed: Seed of the resamples.
        workers: Threads that measure frames.
        force: Score again what is there; files are not fetched again.
        home: Data home.
        progress: Told how far it is.

    Returns:
        The result of each row.

    Raises:
        UsageError: A system is unknown, or none of them is published.
        CgbenchError: Nothing of a row could be scored.
    """
    if kind not in ("cg", "mutants"):
        raise UsageError("published trajectories", expected="cg or mutants", found=kind)
    how = options or PublishedOptions()
    if kind == "mutants":
        mutants = [registry.mutant(key).key for key in systems or ()] or [
            one.key for one in registry.mutants()
        ]
        result = evaluate_published_mutants(
            mutants,
            out=out / "majewski-multi",
            mirror=how.mirror,
            settings=how.settings,
            seed=seed,
            home=home,
            progress=progress,
        )
        return {"majewski-multi": result}
    published = [one.key for one in registry.systems() if one.published_key is not None]
    keys = [registry.system(key).key for key in dict.fromkeys(systems or published)]
    unknown = [key for key in keys if key not in published]
    if unknown:
        raise UsageError(f"{unknown[0]}: no published trajectories", expected=", ".join(published))
    results = {}
    errors: list[CgbenchError] = []
    for row, ending in ROWS.items():
        plan = EnsemblePlan(
            name=row,
            protocol=registry.PAPER_PROTOCOL,
            paper=True,
            out=out / row,
            seed=seed,
            workers=workers,
            force=force,
            home=home,
        )
        sources = (_source(key, ending, how, home, progress) for key in keys)
        try:
            results[row] = evaluate_sources(plan, sources, progress)
        except CgbenchError as error:
            errors.append(error)
    if not results:
        raise errors[0]
    return results


def _source(
    system: str, ending: str, how: PublishedOptions, home: Path | None, progress: Progress
) -> EnsembleSource:
    said = EnsembleOptions()
    try:
        read_reference(find_reference(system, home))
    except CgbenchError as error:
        return EnsembleSource(system, None, said, missing=commands_for(system, error, home))
    files = [
        file
        for file in registry.remote_files([system], ["cg"])
        if file.content != "archive" or file.name.endswith(ending)
    ]
    try:
        fetched = fetch_trajectories(files, home, how, progress)
        topology = fetched.topology(system)
        found = EnsembleFiles(fetched.folder, [system], topology=topology, progress=progress)
    except CgbenchError as error:
        return EnsembleSource(
            system,
            None,
            said,
            missing=f"{error.message}\n  to do:    cgbench download {system} --kind cg --extract",
        )
    interval, note = frame_interval(found, system)
    said = replace(said, frame_interval=interval, topology=topology)
    return EnsembleSource(system, found, said, notes=(*fetched.notes, note))


@dataclass(frozen=True)
class FetchedTrajectories:
    """A published archive, unpacked, and the topologies beside it.

    Attributes:
        folder: What was in the archive.
        topologies: Topology files in the order in which they are tried.
        notes: Where it is from.
    """

    folder: Path
    topologies: tuple[Path, ...]
    notes: tuple[str, ...]

    def topology(self, system: str) -> Path | None:
        """Return the first topology whose residues are the system's; None where none is.

        A file of the wrong protein is told by its sequence when trajectories are mapped, so that
        only topologies that cannot be read are passed over here.
        """
        from cgbench.evaluate.sequence_match import match_system, topology_chains
        from cgbench.ingest.topology import load_topology

        for path in self.topologies:
            try:
                match_system(topology_chains(load_topology(path)), path, system)
            except CgbenchError:
                continue
            return path
        return None


def fetch_trajectories(
    files: Sequence[RemoteFile],
    home: Path | None,
    how: PublishedOptions,
    progress: Progress = silent,
) -> FetchedTrajectories:
    """Download and unpack one archive of trajectories and the topologies beside it.

    Raises:
        CgbenchError: The archive cannot be fetched or unpacked.
    """
    folder = data_home(home)
    outcomes = download(
        files,
        folder,
        mirror=how.mirror,
        settings=how.settings,
        unpack=True,
        progress=progress,
    )
    (archive,) = [one for one in outcomes if one.file.content == "archive"]
    if archive.error is not None:
        raise archive.error
    fetched = archive.fetched
    path = folder / archive.file.path
    notes = [
        f"From {archive.file.url}" + ("" if fetched is None else f", sha256 {fetched.sha256}") + "."
    ]
    topologies = [
        folder / one.file.path
        for one in outcomes
        if one.error is None
        and one.file.content in ("pdb", "psf")
        and not one.file.name.endswith("_org.pdb")
    ]
    if not topologies:
        notes.append("No topology could be fetched: beads were matched by their number alone.")
    unpacked = path.with_name(path.name.removesuffix(".tar.gz"))
    return FetchedTrajectories(unpacked, tuple(topologies), tuple(notes))


def frame_interval(files: EnsembleFiles, system: str) -> tuple[float, str]:
    """Return the time between frames of published trajectories in ps, and how it is known.

    In this order: what the files state, where it is the output interval of the protocol or that of
    the published analysis, in ps or, by mistake, in femtoseconds; that of the two which makes
    the trajectories as long as the protocol says; and that of the analysis, as an assumption.
    """
    paper = registry.protocol(registry.PAPER_PROTOCOL)
    analysed = registry.paper_constants(system).number("frame_interval")
    candidates = (paper.output_interval, analysed)
    stated = stated_intervals(files.mapped(system))
    for interval in stated:
        for candidate in candidates:
            for scale in (1.0, FEMTOSECONDS_PER_PICOSECOND):
                if len(stated) == 1 and _close(interval, candidate * scale):
                    unit = "" if scale == 1.0 else ", in femtoseconds by mistake"
                    return candidate, f"The files state frames {candidate:g} ps apart{unit}."
    lengths = [file.n_frames for file in files.mapped(system)]
    for candidate in candidates:
        if all(_close(n * candidate, paper.length_of(system)) for n in lengths):
            return candidate, (
                f"Frames are {candidate:g} ps apart: {max(lengths)} frames a trajectory then make "
                f"the {paper.length_of(system):g} ps of the protocol. The files do not say."
            )
    told = ", ".join(f"{one:g}" for one in stated) or "nothing"
    return analysed, (
        f"The time between frames is not known (the files state {told}): {analysed:g} ps, that of "
        "the published analysis, was assumed. Lags and lengths in ps depend on it; "
        "thermodynamic scores hardly do."
    )


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= _TOLERANCE * second
