"""What ``cgbench evaluate`` does with a sampler: draw, score, cluster; or the structures task."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cgbench.cli.common import console, print_json, progress_bars
from cgbench.errors import UsageError

if TYPE_CHECKING:
    from cgbench.pipeline.structures_task import StructuresOutcome
    from cgbench.results import Result, Track


def is_sampler_file(model: str) -> bool:
    """Return whether MODEL on the command line is the file of a sampler."""
    path = Path(model)
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    from cgbench.samplers import is_sampler

    return is_sampler(path)


def evaluate_sampler_file(
    path: Path,
    systems: list[str] | None,
    *,
    n: int | None,
    profiles: list[str],
    structures: Path | None,
    out: Path | None,
    seed: int,
    workers: int | None,
    track: "Track | None",
    refused: Mapping[str, object],
    force: bool,
    home: Path | None,
    as_json: bool,
    show: "Callable[[dict[Path, Result], bool, Path], None]",
) -> None:
    """Run the evaluation of a sampler that the command line asks for.

    Raises:
        UsageError: An option has no meaning for a sampler.
    """
    if given := [key for key, value in refused.items() if value]:
        raise UsageError(
            f"{', '.join(given)}: not with a sampler, which has no dynamics", found=str(path)
        )
    from cgbench.pipeline.simulate import default_run_folder

    folder = out or default_run_folder(str(path), "samples" if structures is None else "structures")
    if structures is not None:
        if systems or track is not None or len(profiles) > 1:
            raise UsageError(
                "--structures: not with --system or --track; --profile is a folder with the "
                "profiles of domains"
            )
        folder_of_profiles = Path(profiles[0]) if profiles else None
        _test_structures(
            path, structures, n, folder_of_profiles, folder, seed, workers, force, as_json
        )
        return
    from cgbench.pipeline.evaluate_sampler import evaluate_sampler
    from cgbench.pipeline.sampling import SAMPLES

    with progress_bars() as progress:
        result = evaluate_sampler(
            path,
            systems,
            n=n or SAMPLES,
            out=folder,
            seed=seed,
            profiles=profiles,
            workers=workers,
            track=track,
            force=force,
            home=home,
            progress=progress,
        )
    show({folder: result}, as_json, folder)
    if not as_json:
        for item in result.systems:
            if item.models is not None:
                told = item.models
                console.print(
                    f"{item.system}: {told.n_models} models in {told.n_clusters} cluster(s), the "
                    f"representative {told.representative_rmsd:.2f} Å from the native structure, "
                    f"{1000 * (told.seconds_per_sample or 0.0):.2f} ms a sample",
                    soft_wrap=True,
                )


def _test_structures(
    path: Path,
    structures: Path,
    n: int | None,
    profiles: Path | None,
    folder: Path,
    seed: int,
    workers: int | None,
    force: bool,
    as_json: bool,
) -> None:
    from cgbench.pipeline.structures_task import score_structures

    with progress_bars() as progress:
        outcome = score_structures(
            path,
            structures,
            n=n,
            profiles=profiles,
            out=folder,
            seed=seed,
            workers=workers or 1,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(outcome.model_dump(mode="json"))
        return
    _print_structures(outcome)
    console.print(f"outcome: {folder / 'structures.json'}", soft_wrap=True)


def _print_structures(outcome: "StructuresOutcome") -> None:
    from rich.console import Console

    from cgbench.pipeline.structures_tables import outcome_table

    Console().print(outcome_table(outcome))
    for note in outcome.notes:
        console.print(note, soft_wrap=True)
