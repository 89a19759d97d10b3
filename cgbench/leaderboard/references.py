"""Computes the reference rows of a system from the bundle at hand."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cgbench import config, registry
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.evaluate import ReferenceBundle, Scored, read_reference, reference_statistics
from cgbench.leaderboard.files import read_reference_rows, read_strict_result
from cgbench.leaderboard.known import known_reference
from cgbench.leaderboard.records import ReferenceRow, ReferenceRows
from cgbench.leaderboard.reference_rows import FOLDER, ROWS, missing_row
from cgbench.models import NetworkPotential, load_model
from cgbench.models.zoo import find_weights
from cgbench.pipeline.beside import reference_rows
from cgbench.pipeline.scored_rows import metric_version
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.simulation import simulate
from cgbench.store import find_reference
from cgbench.version import __version__

#: What the rows of embedded samples are scored under, and those of the published proteins.
_SAMPLE_PROTOCOL = "demo"
_PROTOCOL = "standard"


def compute_reference_rows(
    system: str,
    folder: Path,
    *,
    protocol: str | None = None,
    seed: int = 1,
    work: Path,
    home: Path | None = None,
    progress: Progress = silent,
) -> ReferenceRows:
    """Compute the reference rows of a system and write them into a leaderboard folder.

    Args:
        system: Registry key.
        folder: The leaderboard folder.
        protocol: Protocol of the prior's simulation, whose number of frames the noise floor has;
            ``demo`` for embedded samples and ``standard`` for the others if None.
        seed: Seed of simulation and resamples.
        work: Where the prior's trajectories are kept, so that an interrupted run goes on.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: No such system or protocol, or its reference is not at hand.
        ValidationError: The reference at hand is not the one that the leaderboard knows.
    """
    entry = registry.system(system)
    bundle = read_reference(find_reference(system, home))
    known = known_reference(system)
    if known is not None and known.fingerprint != bundle.fingerprint:
        raise ValidationError(
            f"{system}: the reference at hand is not the one that the leaderboard knows",
            expected=known.fingerprint,
            found=bundle.fingerprint,
        )
    chosen = registry.protocol(protocol or (_SAMPLE_PROTOCOL if entry.embedded else _PROTOCOL))
    if chosen.start != "k-centres":
        raise UsageError(f"{chosen.id}: a protocol for variants", expected="one that ranks models")
    statistics = reference_statistics(bundle, seed=seed, progress=progress)
    n_frames = chosen.n_replicas * chosen.n_frames(system)
    scored = reference_rows(statistics, n_frames, progress)
    rows = {row.name: _row(row) for row in scored}
    rows["prior_only"] = _prior(bundle, chosen, seed, work, home, progress)
    kept = _rescored(folder, system, bundle)
    if kept is not None:
        rows[kept.name] = kept
    made = ReferenceRows(
        system=system,
        reference=bundle.fingerprint,
        protocol=f"{chosen.id}@{chosen.version}",
        metrics_versions=_versions(rows.values()),
        seed=seed,
        suite_version=__version__,
        rows=tuple(rows[name] for name in ROWS if name in rows),
    )
    config.write_model(folder / FOLDER / f"{system}.json", made)
    return made


def add_rescored(result_file: Path, folder: Path) -> list[str]:
    """Enter the reference work's trajectories, scored by somebody, into the rows that are there.

    Args:
        result_file: The result that ``cgbench evaluate --published cg`` wrote.
        folder: The leaderboard folder.

    Returns:
        The systems that were entered.

    Raises:
        UsageError: A system has no reference rows yet.
        ValidationError: The result is of another reference or of other versions of metrics.
    """
    result = read_strict_result(result_file)
    title, description = ROWS["published_trajectories"]
    made = []
    for item in result.systems:
        if item.status != "ok":
            continue
        path = folder / FOLDER / f"{registry.system(item.system).key}.json"
        if not path.is_file():
            raise UsageError(
                f"{item.system}: no reference rows yet",
                fix=f"cgbench leaderboard references --system {item.system}",
            )
        rows = read_reference_rows(path)
        if result.reference.fingerprints.get(item.system) != rows.reference:
            raise ValidationError(
                f"{item.system}: scored against another reference", expected=rows.reference
            )
        row = ReferenceRow(
            name="published_trajectories",
            title=title,
            description=description,
            status="scored",
            result=item,
        )
        others = [one for one in rows.rows if one.name != row.name]
        versions = {**rows.metrics_versions, **_versions([row])}
        made.append(
            (path, rows.model_copy(update={"rows": (*others, row), "metrics_versions": versions}))
        )
    for path, rows in made:
        config.write_model(path, rows)
    return [rows.system for _, rows in made]


def _row(scored: Scored) -> ReferenceRow:
    title, description = ROWS[scored.name]
    return ReferenceRow(
        name=scored.name, title=title, description=description, status="scored",
        result=scored.result,
    )  # fmt: skip


def _prior(
    bundle: ReferenceBundle,
    protocol: Protocol,
    seed: int,
    work: Path,
    home: Path | None,
    progress: Progress,
) -> ReferenceRow:
    """Simulate and score the prior of the first baseline that was trained on the system alone."""
    system = bundle.system
    found = _baseline_with_prior(system, home)
    if found is None:
        return missing_row("prior_only", f"no baseline of {system} is at hand")
    name, potential = found
    alone = NetworkPotential(
        None, potential.prior, potential.spec.model_copy(update={"name": "prior_only"})
    )
    trajectories = work / "prior_only" / "trajectories.zarr"
    simulate(
        alone,
        system_input(system, home, bundle),
        protocol,
        seed=seed,
        out=trajectories,
        model_hash=config.fingerprint(potential.prior),
        progress=progress,
    )
    row = score_simulation(
        trajectories, bundle, protocol, name="prior_only", errors=None, seed=seed, progress=progress
    )
    told = (f"The prior of {name}, under the protocol {protocol.id}.", *row.result.notes)
    return _row(replace(row, result=row.result.model_copy(update={"notes": told})))


def _baseline_with_prior(system: str, home: Path | None) -> tuple[str, NetworkPotential] | None:
    for entry in registry.zoo():
        try:
            potential = load_model(find_weights(entry.name, home))
        except CgbenchError:
            continue
        trained = {item.system for item in potential.spec.trained_on}
        if potential.prior is not None and potential.network is not None and trained == {system}:
            return entry.name, potential
    return None


def _rescored(folder: Path, system: str, bundle: ReferenceBundle) -> ReferenceRow | None:
    """Return the re-scored trajectories that the file before had, where they still hold."""
    try:
        rows = read_reference_rows(folder / FOLDER / f"{system}.json")
    except CgbenchError:
        return None
    if rows.reference != bundle.fingerprint:
        return None
    return next((row for row in rows.rows if row.name == "published_trajectories"), None)


def _versions(rows: Iterable[ReferenceRow]) -> dict[str, int]:
    found = {}
    for row in rows:
        for metric in {} if row.result is None else row.result.metrics:
            found[metric] = metric_version(metric)
    return dict(sorted(found.items()))
