"""The rows that stand beside a model, and the pages drawn from runs."""

import contextlib
from pathlib import Path
from typing import Final

from cgbench import config, registry
from cgbench.config import Frozen
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate import (
    ReferenceBundle,
    ReferenceStatistics,
    Scored,
    ideal_chain,
    load_plugins,
    md_split_half,
    native_constant,
    read_scored,
    reference_statistics,
    start_frames,
    write_scored,
)
from cgbench.pipeline.bundles import References
from cgbench.pipeline.compare import compare_runs
from cgbench.pipeline.content import report_content
from cgbench.pipeline.novelty import replay_row
from cgbench.pipeline.prior_row import prior_rows
from cgbench.pipeline.results import ScoredRun, read_run, write_run
from cgbench.pipeline.run_facts import comparison_table, mutant_tables
from cgbench.progress import Progress, silent
from cgbench.report import Absent, Table, read_viewer, write_report
from cgbench.results import Result
from cgbench.results.mutants import MutantsOutcome
from cgbench.version import __version__

#: Rows drawn over another reference than they were scored against would show nothing true.
_OTHER_REFERENCE: Final = (
    "scored against another reference than the one at hand: run 'cgbench evaluate' on the same "
    "folder, or name the references that it was scored against with --references"
)


def reference_rows(
    statistics: ReferenceStatistics, n_frames: int | None, progress: Progress = silent
) -> list[Scored]:
    """Return the rows that need no simulation: noise floor, start frames, native, ideal chain."""
    bundle, seed = statistics.bundle, statistics.seed
    return [
        md_split_half(
            bundle, seed=seed, reference=statistics, n_frames=n_frames, progress=progress
        ),
        start_frames(bundle, seed=seed, reference=statistics, progress=progress),
        native_constant(bundle, seed=seed, reference=statistics, progress=progress),
        ideal_chain(bundle, seed=seed, reference=statistics, progress=progress),
    ]


def _beside(
    drawn: list[tuple[Scored, Path]],
    bundle: ReferenceBundle,
    home: Path | None,
    progress: Progress,
) -> list[Scored]:
    """Return rows with the reference rows beside them, resampled as the first of them was."""
    rows = [row for row, _ in drawn]
    frames = [row.result.n_frames for row in rows if row.result.n_frames]
    kept = kept_rows(
        bundle,
        rows[0].seed,
        min(frames, default=None),
        drawn[0][1],
        # Only samples have a novelty, and only they can be training frames played back.
        replay=any("novelty" in row.result.metrics for row in rows),
        home=home,
        progress=progress,
    )
    return [*rows, *prior_rows(drawn, bundle), *kept]


class _Kept(Frozen):
    """What the reference rows of a run folder were made from, and their files' hashes."""

    fingerprint: str
    files: dict[str, str]


def kept_rows(
    bundle: ReferenceBundle,
    seed: int,
    n_frames: int | None,
    folder: Path,
    *,
    replay: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> list[Scored]:
    """Return the reference rows, computed once for a bundle, a seed and a number of frames.

    Args:
        bundle: The reference.
        seed: Seed of the resamples.
        n_frames: Frames of the model, for the noise floor.
        folder: Run folder; rows are kept in its ``beside/<system>``. One that may not be written
            is only read.
        replay: Whether training frames played back are one of the rows, where they are at hand.
        home: Data home, of those frames.
        progress: Told how far it is.
    """
    place = folder / "beside" / bundle.system
    made_from = config.fingerprint(
        {
            "reference": bundle.fingerprint,
            "seed": seed,
            "frames": n_frames,
            "metrics": {spec.id: spec.version for spec in registry.metrics()},
            "constants": registry.constants().model_dump(mode="json"),
            "suite": __version__,
            "replay": replay,
        }
    )
    try:
        kept = config.read_model(_Kept, place / "rows.json")
        if kept.fingerprint == made_from:
            return [_kept_row(place / name, digest) for name, digest in kept.files.items()]
    except CgbenchError:
        pass  # None yet, or not whole: they are computed.
    statistics = reference_statistics(bundle, seed=seed, progress=progress)
    rows = reference_rows(statistics, n_frames, progress)
    if replay:
        played = replay_row(bundle, home=home, seed=seed, reference=statistics, progress=progress)
        rows += [] if played is None else [played]
    with contextlib.suppress(OSError):
        files = {}
        for row in rows:
            path = place / f"{row.name}.npz"
            write_scored(path, row)
            files[path.name] = config.file_sha256(path)
        config.write_model(place / "rows.json", _Kept(fingerprint=made_from, files=files))
    return rows


def _kept_row(path: Path, digest: str) -> Scored:
    if path.parent / path.name != path or not path.is_file() or config.file_sha256(path) != digest:
        raise IntegrityError(f"{path}: not the row that was kept", expected=digest)
    return read_scored(path)


def finish_run(
    out: Path, run: ScoredRun, *, home: Path | None = None, progress: Progress = silent
) -> Result:
    """Write a run folder and draw its report; return the result."""
    write_run(out, run)
    report_runs([out], out / "report.html", home=home, progress=progress)
    return run.result


def report_runs(
    runs: list[Path],
    out: Path,
    *,
    references: Path | None = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Draw one page from run folders, with the reference rows beside the models.

    A system whose reference is not at hand, or not the one that it was scored against, is listed
    with the reason.

    Args:
        runs: Run folders, or their ``result.json``.
        out: The page.
        references: Folder with the references of the runs, where those are not the home's.
        home: Data home, of references and of the molecular viewer.
        progress: Told how far it is.

    Raises:
        UsageError: A folder holds no result.
        IntegrityError: A result, a row, a reference or the viewer is damaged.
    """
    # So that the metrics of other packages are described as well.
    load_plugins()
    read = [read_run(path) for path in runs]
    places = [path.parent if path.name == "result.json" else path for path in runs]
    if len({run.result.model.name for run in read}) < len(read):
        # The same model twice: the folders tell which is which.
        read = [
            run.renamed(f"{run.result.model.name} ({path.resolve().name} {index + 1})")
            for index, (path, run) in enumerate(zip(places, read, strict=True))
        ]
    keys = dict.fromkeys(key for run in read for key in run.scored)
    bundles: dict[str, ReferenceBundle] = {}
    rows: dict[str, list[Scored]] = {}
    unread = []
    for key in keys:
        own = [(run, place) for run, place in zip(read, places, strict=True) if key in run.scored]
        try:
            bundle = References(references, home).bundle(key)
        except (UsageError, ValidationError) as error:
            unread += [
                Absent(run.result.model.name, key, "missing", error.message) for run, _ in own
            ]
            continue
        drawn = []
        for run, place in own:
            if run.result.reference.fingerprints.get(key) == bundle.fingerprint:
                drawn.append((run.scored[key], place))
            else:
                unread.append(Absent(run.result.model.name, key, "missing", _OTHER_REFERENCE))
        if drawn:
            bundles[key] = bundle
            rows[key] = _beside(drawn, bundle, home, progress)
    content = report_content(
        title=", ".join(dict.fromkeys(run.result.model.name for run in read)),
        rows=rows,
        bundles=bundles,
        results=[run.result for run in read],
        # A row may be called by its role, as prior_only is, and not by its model.
        folders={
            row.name: place
            for run, place in zip(read, places, strict=True)
            for row in run.scored.values()
        },
        comparison=_comparison(runs),
        tables=mutant_tables(_mutants(places)),
        unread=unread,
    )
    return write_report(content, out, read_viewer(home))


def _mutants(places: list[Path]) -> list[MutantsOutcome]:
    """Return the tests of variants that run folders hold."""
    paths = [place / "mutants.json" for place in places]
    return [config.read_model(MutantsOutcome, path) for path in paths if path.is_file()]


def _comparison(runs: list[Path]) -> Table | None:
    """Return the differences of several runs; None for one run, or where there are none."""
    if len(runs) < 2:
        return None
    try:
        return comparison_table(compare_runs(runs))
    except (UsageError, ValidationError) as error:
        return Table("Differences of the runs", ["runs"], [], [f"Not compared: {error.message}"])
