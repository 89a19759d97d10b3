"""The analysis of the reference work, from trajectories to the model of its results."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.free_energy import free_energy_surface
from cgbench.evaluate.paper.elements import Elements, elements_of
from cgbench.evaluate.paper.frames import PaperFrames, gather, project, stride_of
from cgbench.evaluate.paper.model import (
    Degenerate,
    PaperModel,
    fit_model,
    reference_model,
)
from cgbench.evaluate.paper.readings import energy_criterion, passages, reactive_pathways
from cgbench.evaluate.paper.table import (
    FrameNumbers,
    Spreads,
    Structures,
    macrostate_table,
    spreads,
)
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.progress import Progress, silent
from cgbench.registry import PaperConstants
from cgbench.results.paper import PaperAnalysis, PaperSetting, PaperTable, PaperTransitions

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PaperTrace:
    """One trajectory along time.

    Attributes:
        index: Its index in the order of the ensemble.
        time: (n,) ps since the simulation's start, in the model's own time.
        tics: (n, 2) projection on the first two slow coordinates.
        rmsd: (n,) Cα RMSD to the native structure in Å.
    """

    index: int
    time: Float
    tics: NDArray[np.float32]
    rmsd: NDArray[np.float32]


@dataclass(frozen=True)
class PaperStudy:
    """The analysis and the arrays that its figures are drawn from.

    Attributes:
        analysis: The numbers.
        system: Registry key.
        name: What the ensemble is called.
        edges: (2, n + 1) edges of the grid over the first two slow coordinates.
        reference_fes: (n, n) free energy of the reference in kcal/mol.
        native_tics: (2,) projection of the experimental structure.
        fes: (n, n) free energy of the ensemble in kcal/mol, infinite where no frame is; None
            without a model.
        trace: The trajectory with most passages; None without a model.
    """

    analysis: PaperAnalysis
    system: str
    name: str
    edges: Float
    reference_fes: Float
    native_tics: Float
    fes: Float | None = None
    trace: PaperTrace | None = None


def paper_analysis(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    energies: Sequence[NDArray[np.floating]] | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> PaperAnalysis:
    """Analyse an ensemble as the reference work did; see :func:`paper_study`."""
    return paper_study(ensemble, bundle, energies=energies, seed=seed, progress=progress).analysis


def paper_study(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    energies: Sequence[NDArray[np.floating]] | None = None,
    drop_fraction: float | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> PaperStudy:
    """Analyse an ensemble, and the reference beside it, as the reference work did.

    Majewski et al., Nat. Commun. (2023); every constant and its source is in the registry
    (``registry.paper_constants``). An ensemble without a Markov state model to speak of is a
    status of the result, never an exception.

    Args:
        ensemble: Whole trajectories: their start is dropped here.
        bundle: The reference.
        energies: Energy of the network at each frame in kcal/mol, (n_frames_i,) for each
            trajectory; by default the ensemble's own.
        drop_fraction: Share of each trajectory's start to drop; by default that of the reference
            work.
        seed: Seed of clusters, draws and folds.
        progress: Told how far it is.
    """
    constants = registry.paper_constants(bundle.system)
    if energies is not None:
        # Not stored back: the ensemble may be shared.
        own = [np.asarray(values, dtype=np.float32) for values in energies]
        ensemble = replace(ensemble, network_energy=own)
    dropped = constants.number("drop_fraction") if drop_fraction is None else drop_fraction
    elements = elements_of(bundle)
    reference = _of_reference(bundle, constants, elements, seed, progress)
    common: dict[str, Any] = {
        "settings": _settings(constants),
        "n_trajectories": ensemble.n_trajectories,
        "elements": elements.described,
        "element_distance": constants.number("element_distance") if elements.described else None,
        **reference,
    }
    study = PaperStudy(
        PaperAnalysis(
            status="n/a",
            reason="samples have no time order, and a Markov state model needs one",
            **common,
        ),
        bundle.system,
        ensemble.name,
        bundle.fes_edges,
        bundle.fes,
        np.asarray(bundle.native_tics[:2], dtype=np.float64),
    )
    if ensemble.frame_interval is None:
        return study
    kept = ensemble.kept(dropped)
    n_frames = kept.n_frames
    alive = float(kept.alive_until.sum()) / n_frames if n_frames else 0.0
    common |= {"n_frames": n_frames, "alive_fraction": min(1.0, alive)}
    stride, note = stride_of(constants.number("frame_interval"), ensemble.frame_interval)
    frames = project(
        ensemble,
        bundle,
        components=min(constants.count("tica_components"), bundle.tica.dimensions),
        stride=stride,
        drop_fraction=dropped,
        progress=progress,
    )
    progress(f"Markov state model of {ensemble.name}", 0, 1)
    model = fit_model(frames, constants, seed)
    progress(f"Markov state model of {ensemble.name}", 1, 1)
    notes = _simulated_otherwise(ensemble, constants, ensemble.frame_interval)
    notes += [] if note is None else [note]
    if not elements.described:
        notes.append("The registry knows no secondary structure of this system.")
    if isinstance(model, Degenerate):
        analysis = PaperAnalysis(
            status="degenerate",
            reason=f"{model.reason} ({alive:.0%} of the frames are alive)",
            connected_fraction=model.connected_fraction,
            notes=tuple(notes),
            **common,
        )
        return replace(study, analysis=analysis)
    notes += model.notes
    if frames.network_energy is None:
        notes.append("The network's energies are not known, nor is the energy criterion then.")
    structures = Structures(
        native=bundle.native,
        gather=lambda chosen: gather(ensemble, frames, chosen),
        available=None,
        element_names=elements.names,
        element_rmsd=elements.rmsd,
    )
    folded = bundle.metadata.basins.folded(frames.q, frames.rmsd)
    numbers = FrameNumbers(
        frames.rmsd.astype(np.float64), frames.q.astype(np.float64), folded, frames.network_energy
    )
    table, found = _table(model, numbers, structures, constants, seed, ensemble.name, progress)
    transitions = passages(
        model,
        table.native,
        frames.given,
        frames.started_unfolded,
        folded,
    )
    fes, outside = _surface(model, frames, bundle)
    native = table.macrostates[table.native]
    if native.folded_fraction < 0.5:
        notes.append(
            f"The native macrostate only holds the frame closest to the native structure: "
            f"{native.folded_fraction:.0%} of it is folded, and its mean RMSD is "
            f"{native.rmsd_mean:.1f} Å."
        )
    if outside > 0.01:
        notes.append(f"{outside:.0%} of the weight lies outside the grid of the reference.")
    limit = registry.constants().unreliable_disconnected_fraction
    if table.connected_fraction < 1.0 - limit:
        notes.append(
            f"{1.0 - table.connected_fraction:.0%} of the frames lie outside the largest connected "
            "set and weigh nothing."
        )
    analysis = PaperAnalysis(
        status="ok" if model.flaw is None else "degenerate",
        reason=model.flaw,
        connected_fraction=table.connected_fraction,
        table=table,
        transitions=transitions,
        pathways=reactive_pathways(model, table),
        energy=energy_criterion(table, found),
        notes=tuple(notes),
        **common,
    )
    return replace(study, analysis=analysis, fes=fes, trace=_trace(frames, transitions))


def _simulated_otherwise(
    ensemble: Ensemble, constants: PaperConstants, frame_interval: float
) -> list[str]:
    """Say where trajectories are not as many, or not as long, as those of the reference work."""
    number, length = constants.count("replicas"), constants.number("length")
    longest = int(ensemble.lengths.max(initial=0)) * frame_interval
    if ensemble.n_trajectories == number and abs(longest - length) <= 0.01 * length:
        return []
    return [
        f"Not simulated as in the reference work: {ensemble.n_trajectories} trajectories of up to "
        f"{longest:g} ps, there {number} of {length:g} ps."
    ]


def _settings(constants: PaperConstants) -> tuple[PaperSetting, ...]:
    return tuple(
        PaperSetting(
            name=constant.name,
            value=constant.value,
            unit=constant.unit,
            source=constant.source,
            reason=constant.reason,
        )
        for constant in constants.constants
    )


def _table(
    model: PaperModel,
    numbers: FrameNumbers,
    structures: Structures,
    constants: PaperConstants,
    seed: int,
    name: str,
    progress: Progress,
) -> tuple[PaperTable, Spreads]:
    progress(f"macrostates of {name}", 0, 1)
    found = spreads(model, numbers, constants, seed)
    table = macrostate_table(model, numbers, structures, constants, found, seed)
    progress(f"macrostates of {name}", 1, 1)
    return table, found


def _of_reference(
    bundle: ReferenceBundle,
    constants: PaperConstants,
    elements: Elements,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Return the fields of the result that are about the reference."""
    model = reference_model(bundle)
    if isinstance(model, Degenerate):
        return {"reference_status": "degenerate", "reference_reason": model.reason}
    used = np.flatnonzero(bundle.observables.alive)
    # Frames are numbered among the living ones; the bundle has the coordinates of some of them.
    place = np.searchsorted(used, bundle.subset_frames)
    place_of = dict(zip(place.tolist(), range(len(place)), strict=True))
    structures = Structures(
        native=bundle.native,
        gather=lambda chosen: bundle.subset_coordinates[[place_of[int(row)] for row in chosen]],
        available=place,
        element_names=elements.names,
        element_rmsd=elements.rmsd,
    )
    observables = bundle.observables
    rmsd, q = observables.rmsd[used], observables.q[used]
    numbers = FrameNumbers(
        rmsd.astype(np.float64),
        q.astype(np.float64),
        bundle.metadata.basins.folded(q, rmsd),
        None,
    )
    table, _ = _table(model, numbers, structures, constants, seed, "the reference", progress)
    return {"reference": table, "reference_pathways": reactive_pathways(model, table)}


def _surface(
    model: PaperModel, frames: PaperFrames, bundle: ReferenceBundle
) -> tuple[Float, float]:
    """Return the free energy surface on the reference's grid, and the weight outside the grid."""
    probability, _, _ = np.histogram2d(
        frames.tics[:, 0], frames.tics[:, 1], bins=list(bundle.fes_edges),
        weights=model.frame_weights,
    )  # fmt: skip
    widths = registry.constants().fes_smoothing * bundle.tic_sigma[:2]
    surface = free_energy_surface(probability, bundle.fes_edges, widths, bundle.temperature)
    return surface, max(0.0, 1.0 - float(probability.sum()))


def _trace(frames: PaperFrames, transitions: PaperTransitions) -> PaperTrace | None:
    """Return the trajectory with most passages; of several, the longest."""
    counts = np.add(transitions.into_native, transitions.out_of_native)[frames.given]
    lengths = np.diff(frames.bounds)
    order = np.lexsort((-lengths, -counts))
    chosen = int(order[0])
    rows = slice(*frames.bounds[chosen : chosen + 2])
    if not lengths[chosen]:
        return None
    return PaperTrace(
        index=int(frames.given[chosen]),
        time=np.asarray(frames.place[rows] * (frames.frame_interval / frames.stride)),
        tics=frames.tics[rows, :2],
        rmsd=frames.rmsd[rows],
    )
