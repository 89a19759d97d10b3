"""The arrow from structures of any origin to ``result.json`` and a report, system by system."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol as Interface

import pydantic

from cgbench import config, registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Ensemble, ReferenceBundle, Scored, score
from cgbench.evaluate.ensemble_files import EnsembleFiles
from cgbench.pipeline.beside import report_runs
from cgbench.pipeline.bundles import References
from cgbench.pipeline.leaks import with_leak
from cgbench.pipeline.novelty import with_novelty
from cgbench.pipeline.paper import paper_stage
from cgbench.pipeline.results import assemble, commands_for, noted, printed, write_result_of
from cgbench.pipeline.scored_rows import RowRecord, Stopwatch, kept_row, row_inputs, write_row
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import Cost, Leak, ModelIdentity, Result, SystemResult
from cgbench.store import TrajectoryAttributes

#: Structures come without a statement of what made them.
_UNCHECKED = Leak(
    status="unchecked",
    reason="structures do not state what their maker was trained on; novelty tells frames that are "
    "played back",
)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class EnsembleMaker(Interface):
    """What made structures: a sampler, which says what it was trained on and what it costs."""

    @property
    def identity(self) -> ModelIdentity:
        """What a result says of it."""

    def told(self, row: Scored) -> Scored:
        """Return a row of a system with what is known of its maker."""

    def cost(self) -> Cost:
        """Return what it costs, of the systems drawn by now."""


@dataclass(frozen=True)
class EnsembleOptions:
    """What is said of an ensemble beside its files.

    Attributes:
        topology: Topology of all files.
        weights: A file ``FILE.npy`` with a weight for each frame.
        frame_interval: Time between frames in ps, which says that they are in time order.
        name: What it is called; after its file if None.
    """

    topology: Path | None = None
    weights: Path | None = None
    frame_interval: float | None = None
    name: str | None = None


@dataclass(frozen=True)
class EnsembleSource:
    """The structures of one system, or why there are none.

    Attributes:
        system: Registry key.
        files: Where they are; None where they are missing.
        said: What is said of them beside their files.
        notes: What a reader of scores has to know.
        missing: Why they are missing, with the command that helps.
    """

    system: str
    files: EnsembleFiles | None
    said: EnsembleOptions
    notes: tuple[str, ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class EnsemblePlan:
    """What an evaluation is asked for, the same for all its systems.

    Attributes:
        name: Name of the row.
        protocol: Protocol id, or None.
        paper: Whether the analysis of the reference work is done.
        out: Run folder.
        seed: Seed of the resamples.
        workers: Threads that measure frames; all cores if None.
        force: Whether what is there is scored again.
        home: Data home.
        maker: What made the structures, where that is known.
        references: Folder of the references that were named instead of the home's.
    """

    name: str
    protocol: str | None
    paper: bool
    out: Path
    seed: int
    workers: int | None
    force: bool
    home: Path | None
    maker: "EnsembleMaker | None" = None
    references: Path | None = None


@dataclass(frozen=True)
class _Named:
    """Fingerprint and version of a reference."""

    fingerprint: str
    version: str


@dataclass
class _Done:
    """What there is of a run by now, by system."""

    rows: dict[str, Scored] = field(default_factory=dict)
    records: dict[str, RowRecord] = field(default_factory=dict)
    missing: dict[str, SystemResult] = field(default_factory=dict)
    hashes: set[str | None] = field(default_factory=set)
    seeds: dict[str, int] = field(default_factory=dict)
    protocols: set[str | None] = field(default_factory=set)


def evaluate_ensemble(
    path: Path,
    systems: list[str] | None = None,
    *,
    options: EnsembleOptions | None = None,
    protocol: str | None = None,
    paper: bool = False,
    out: Path,
    seed: int = 1,
    workers: int | None = None,
    references: Path | None = None,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Score structures, whatever made them; what an earlier run has scored of them is kept.

    A system's row is on disk as soon as it is scored. One whose files are damaged does not keep
    others from being scored; where nothing could be scored, the first error is raised.

    Args:
        path: xtc, trr, dcd, netcdf, h5, pdb, npz or npy files, a ``trajectories.zarr``, a run
            folder, any other folder of files of one format, or a pattern.
        systems: Registry keys; found by sequence if None.
        options: What is said of the ensemble beside its files.
        protocol: Protocol id; if None the one that a ``trajectories.zarr`` names, and none for
            other files.
        paper: Whether the analysis of the reference work is done as well, of ensembles in time
            order; with the protocol ``paper`` it always is.
        out: Run folder to write.
        seed: Seed of the resamples.
        workers: Threads that measure frames; all cores if None.
        references: Folder with the references to score against instead of the home's.
        force: Score again what is there.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: No such file or system, or it cannot be told which system it is.
        IntegrityError: A file is damaged or not of its format.
        ValidationError: Structures are of another protein, or cannot be used.
        SimulationError: Samples of several temperatures do not overlap.
    """
    said = options or EnsembleOptions()
    if protocol is not None:
        registry.protocol(protocol)
    files = EnsembleFiles(
        path, systems, topology=said.topology, weights=said.weights, progress=progress
    )
    plan = EnsemblePlan(
        name=said.name or files.inputs.name,
        protocol=protocol,
        paper=paper or protocol in registry.PAPER_PROTOCOLS,
        out=out,
        seed=seed,
        workers=workers,
        force=force,
        home=home,
        references=references,
    )
    sources = (EnsembleSource(key, files, said) for key in files.systems)
    return evaluate_sources(plan, sources, progress)


def evaluate_sources(
    plan: EnsemblePlan, sources: Iterable[EnsembleSource], progress: Progress = silent
) -> Result:
    """Score structures system by system into one run folder.

    Args:
        plan: What is asked for.
        sources: Taken one after the other, each when those before it are scored.
        progress: Told how far it is.

    Raises:
        CgbenchError: Nothing could be scored; the first error.
    """
    done = _Done(seeds={"resampling": plan.seed})
    errors: list[CgbenchError] = []
    for source in sources:
        key = source.system
        if source.missing is not None or source.files is None:
            done.missing[key] = _unscored(key, printed(source.missing or "no structures"))
            continue
        try:
            bundle = References(plan.references, plan.home).bundle(key)
        except (UsageError, IntegrityError, ValidationError) as error:
            done.missing[key] = _unscored(key, commands_for(key, error, plan.home))
            continue
        try:
            _score(plan, source, source.files, done, bundle, progress)
        except CgbenchError as error:
            errors.append(error)
            done.missing[key] = _unscored(key, printed(error.message))
        else:
            _written(plan, done)
    if not done.rows and errors:
        raise errors[0]
    result = _written(plan, done)
    if done.rows:
        report_runs(
            [plan.out],
            plan.out / "report.html",
            references=plan.references,
            home=plan.home,
            progress=progress,
        )
    return result


def _score(
    plan: EnsemblePlan,
    source: EnsembleSource,
    files: EnsembleFiles,
    done: _Done,
    bundle: ReferenceBundle,
    progress: Progress,
) -> None:
    """Score one system and keep its row, or take the one that an earlier run left."""
    key = bundle.system
    watch = Stopwatch()
    facts = files.stored_attributes(key)
    interval = source.said.frame_interval
    chosen = _protocol_of(plan.protocol, facts)
    known = None
    if facts is not None:
        # The file may come from anywhere: what it says is kept only in the form we write.
        known = facts.model_hash if _HASH.fullmatch(facts.model_hash or "") else None
        known_uses = ("simulation", "sampling")
        done.seeds |= {use: facts.seeds[use] for use in known_uses if use in facts.seeds}
    inputs = row_inputs(
        key,
        model_hash=known,
        protocol=chosen,
        reference=bundle.fingerprint,
        split=None,
        seeds={"resampling": plan.seed},
        options=_inputs(plan, source, files),
    )
    found = None if plan.force else kept_row(plan.out, key, inputs)
    if found is None:
        with watch.stage("read"):
            ensemble = files.read(
                key,
                temperature=bundle.temperature,
                frame_interval=interval,
                name=plan.name,
                progress=progress,
            )
        row = _scored(plan, source, ensemble, bundle, chosen, watch, progress)
        record = write_row(
            plan.out,
            row,
            inputs,
            reference=bundle.fingerprint,
            reference_version=bundle.version,
            split=None,
            timings=watch.seconds,
            cost=None,
        )
    else:
        row, record = found
    done.rows[key] = row if plan.maker is None else plan.maker.told(row)
    done.records[key] = record
    done.hashes.add(known)
    done.protocols.add(None if chosen is None else chosen.id)


def _scored(
    plan: EnsemblePlan,
    source: EnsembleSource,
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    protocol: Protocol | None,
    watch: Stopwatch,
    progress: Progress,
) -> Scored:
    with watch.stage("score"):
        row = score(
            ensemble,
            bundle,
            protocol=protocol,
            seed=plan.seed,
            workers=plan.workers,
            progress=progress,
        )
    usual = References(plan.references, plan.home).told(bundle)
    row = noted(row, [*usual, *source.notes, *ensemble.notes])
    row = with_leak(row, None if ensemble.time_ordered else "sampler", _UNCHECKED)
    with watch.stage("novelty"):
        row = with_novelty(row, ensemble, bundle, home=plan.home, seed=plan.seed, progress=progress)
    if plan.paper and ensemble.time_ordered:
        with watch.stage("paper"):
            analysis = paper_stage(
                ensemble, bundle, plan.out, seed=plan.seed, force=plan.force, progress=progress
            )
        row = replace(row, result=row.result.model_copy(update={"paper": analysis}))
    elif plan.paper:
        row = noted(row, ["The analysis of the reference work needs frames in time order."])
    return row


def _inputs(
    plan: EnsemblePlan, source: EnsembleSource, files: EnsembleFiles
) -> dict[str, pydantic.JsonValue]:
    """Return what decides the row of a system beside the reference: files as they are now."""
    said = source.said
    beside = [one for one in (said.topology, said.weights) if one is not None]
    described: list[pydantic.JsonValue] = []
    for path in (*files.paths(source.system), *beside):
        status = path.stat()
        described.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return {
        "files": config.fingerprint(described),
        "frame_interval": said.frame_interval,
        "name": plan.name,
        "paper": plan.paper,
    }


def _written(plan: EnsemblePlan, done: _Done) -> Result:
    """Write the result of what there is by now."""
    timings = {
        f"{stage}/{key}": seconds
        for key, record in done.records.items()
        for stage, seconds in record.timings.items()
    }
    protocols = set(done.protocols)
    only = protocols.pop() if len(protocols) == 1 else None
    model_hash = next(iter(done.hashes)) if len(done.hashes) == 1 else None
    identity = ModelIdentity(name=printed(plan.name)[:200], hash=model_hash, kind="ensemble")
    result = assemble(
        identity if plan.maker is None else plan.maker.identity,
        done.rows,
        list(done.missing.values()),
        bundles={
            key: _Named(record.reference, record.reference_version)
            for key, record in done.records.items()
        },
        protocol=None if only is None else registry.protocol(only),
        splits={},
        seeds=done.seeds,
        wall_time=sum(timings.values()),
        timings=timings,
        cost=None if plan.maker is None else plan.maker.cost(),
    )
    write_result_of(plan.out, result)
    return result


def _unscored(key: str, reason: str) -> SystemResult:
    return SystemResult(system=key, status="missing", reason=reason)


def _protocol_of(asked: str | None, stored: TrajectoryAttributes | None) -> Protocol | None:
    """Return the protocol that frames are scored under: asked for, named by them, or none."""
    if asked is not None:
        return registry.protocol(asked)
    known = {protocol.id for protocol in registry.protocols()}
    if stored is None or stored.frame_interval is None or stored.protocol not in known:
        return None
    return registry.protocol(stored.protocol)
