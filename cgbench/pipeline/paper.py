"""The analysis of the reference work as a step of a run: numbers and figures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.errors import CgbenchError
from cgbench.evaluate import Ensemble, ReferenceBundle
from cgbench.evaluate.paper import elements_of, paper_study
from cgbench.pipeline.stages import run_stage
from cgbench.progress import Progress, silent
from cgbench.report.paper_figures import FIGURES, figure_names, paper_figures
from cgbench.report.paper_text import paper_markdown
from cgbench.results.paper import PaperAnalysis

#: Grows when the analysis finds other numbers from the same constants, or draws other figures.
ANALYSIS_VERSION: Final = 2
FOLDER: Final = "paper"


def paper_stage(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    run_folder: Path,
    *,
    energies: Sequence[NDArray[np.floating]] | None = None,
    drop_fraction: float | None = None,
    seed: int = 1,
    force: bool = False,
    progress: Progress = silent,
) -> PaperAnalysis:
    """Analyse an ensemble as the reference work did and keep numbers and figures.

    Writes ``paper/<system>.json``, the same as a table in ``paper/<system>.md``, and
    ``paper/figures/<system>-<figure>.svg`` and ``.png`` in the run folder. Skipped when they are
    there and were made from the same trajectories, energies, reference, constants and seed.

    Args:
        ensemble: Whole trajectories: their start is dropped here.
        bundle: The reference.
        run_folder: The folder of the run.
        energies: Energy of the network at each frame in kcal/mol, by trajectory; by default the
            ensemble's own.
        drop_fraction: Share of each trajectory's start to drop; by default that of the reference
            work.
        seed: Seed of clusters, draws and folds.
        force: Do it again in any case.
        progress: Told how far it is.
    """
    folder = run_folder / FOLDER
    record = folder / f"{ensemble.system}.json"
    used = ensemble.network_energy if energies is None else energies

    def analyse() -> None:
        study = paper_study(
            ensemble,
            bundle,
            energies=energies,
            drop_fraction=drop_fraction,
            seed=seed,
            progress=progress,
        )
        progress("figures", 0, 1)
        for name in FIGURES:
            # Those of an earlier analysis would not fit these numbers.
            for path in _figure_files(run_folder, ensemble.system, name):
                path.unlink(missing_ok=True)
        for figure in paper_figures(study):
            drawing, image = _figure_files(run_folder, ensemble.system, figure.name)
            config.write_atomic(drawing, figure.svg)
            config.write_atomic(image, figure.png)
        progress("figures", 1, 1)
        config.write_atomic(
            folder / f"{ensemble.system}.md", paper_markdown(study.analysis, bundle.system)
        )
        # Last, so that what it names is there.
        config.write_model(record, study.analysis)

    inputs = {
        "version": ANALYSIS_VERSION,
        "constants": registry.paper_constants(bundle.system).model_dump(mode="json"),
        "elements": [item.model_dump(mode="json") for item in elements_of(bundle).described],
        "reference": bundle.fingerprint,
        "name": ensemble.name,
        "frame_interval": ensemble.frame_interval,
        "alive_until": ensemble.alive_until.tolist(),
        "coordinates": _digest(ensemble.trajectories),
        "energies": None if used is None else _digest(used),
        "drop_fraction": drop_fraction,
        "seed": seed,
    }
    whole = _is_whole(run_folder, ensemble.system)
    run_stage(run_folder, f"paper-{ensemble.system}", inputs, analyse, force=force or not whole)
    return config.read_model(PaperAnalysis, record)


def _is_whole(run_folder: Path, system: str) -> bool:
    """Return whether every file of an analysis is there and its numbers can be read."""
    try:
        paths = figure_paths(run_folder, system)
    except CgbenchError:
        # Not there, damaged, or of another version: made anew.
        return False
    return all(path.is_file() for path in (run_folder / FOLDER / f"{system}.md", *paths))


def figure_paths(run_folder: Path, system: str) -> tuple[Path, ...]:
    """Return the figures that a finished analysis has written, SVG and PNG.

    Args:
        run_folder: The folder of the run.
        system: Registry key.

    Raises:
        UsageError: The system has not been analysed.
        IntegrityError: Its numbers cannot be parsed.
        ValidationError: They are no analysis of this version.
    """
    analysis = config.read_model(PaperAnalysis, run_folder / FOLDER / f"{system}.json")
    return tuple(
        path for name in figure_names(analysis) for path in _figure_files(run_folder, system, name)
    )


def _figure_files(run_folder: Path, system: str, name: str) -> tuple[Path, Path]:
    stem = run_folder / FOLDER / "figures" / f"{system}-{name}"
    return stem.with_suffix(".svg"), stem.with_suffix(".png")


def _digest(series: Sequence[NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for values in series:
        array = np.asarray(values)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
