"""Collects what a report draws of one row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate import geometry
from cgbench.evaluate.distributions import Distributions
from cgbench.evaluate.drawings import (
    Contacts,
    Display,
    MacrostatePopulation,
    Marginal,
    Profile,
    Trace,
)
from cgbench.evaluate.free_energy import smoothing_matrix
from cgbench.evaluate.metrics import Comparison
from cgbench.evaluate.metrics.divergence import smoothed_free_energy
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.units import thermal_energy

Float = NDArray[np.float64]

#: Bins that a drawn distribution has at most.
_DRAWN_BINS: Final = 200
#: Points that a drawn trajectory has at most.
_DRAWN_POINTS: Final = 400
#: Frames of each macrostate that are kept to be shown, and that are searched for the nearest.
_SHOWN_FRAMES: Final = 4
_SEARCHED_FRAMES: Final = 2000
#: Frames whose distances are held at a time.
_CHUNK: Final = 1000
#: Edges of what is counted over all bonds, angles and pairs of a frame.
_BOND_EDGES: Final = np.linspace(2.5, 5.5, 121)
_ANGLE_EDGES: Final = np.linspace(0.0, np.pi, 121)
_DIHEDRAL_EDGES: Final = np.linspace(-np.pi, np.pi, 73)
_DISTANCE_BINS: Final = 150


@dataclass(frozen=True)
class DrawnFrames:
    """Living frames of an ensemble that a report may draw.

    Attributes:
        coordinates: (n, n_beads, 3) float32 in Å.
        microstate: (n,) microstate of each in the reference's discretisation.
        weights: (n,) float64 weight of each, any scale.
    """

    coordinates: NDArray[np.float32]
    microstate: NDArray[np.integer[Any]]
    weights: Float


def display(
    comparison: Comparison, traces: Sequence[Trace] = (), subset: DrawnFrames | None = None
) -> Display:
    """Return what a report draws, from the first column of a comparison.

    Args:
        comparison: Distributions of a row and the reference.
        traces: Trajectories in time.
        subset: Frames of the row; contact maps, structures and the distributions of bonds, angles,
            dihedrals and distances are drawn only where there are some.
    """
    bundle = comparison.bundle
    sides = (comparison.reference, comparison.model)
    widths = bundle.metadata.smoothing * bundle.tic_sigma[:2]
    surfaces = [
        smoothed_free_energy(
            side.masses["plane"][:, :1], bundle.fes_edges, widths, bundle.temperature
        )[:, :, 0]
        for side in sides
    ]
    marginals = {
        name: _marginal(
            bundle.edges[name], sides[0].masses[name][:, 0], sides[1].masses[name][:, 0]
        )
        for name in ("tic1", "tic2", "rg", "end_to_end", "q", "rmsd")
    }
    profiles = {
        name: _profile(bundle.edges[name], sides, name, float(widths[axis]), bundle.temperature)
        for axis, name in enumerate(("tic1", "tic2"))
    }
    contacts = structures = None
    if subset is not None and len(subset.weights) and subset.weights.any():
        reference = reference_frames(bundle, comparison.reference.state_mass[:, 0])
        counted = [_counted(frames, bundle) for frames in (reference, subset)]
        for name, edges in _edges(bundle).items():
            marginals[name] = _marginal(edges, counted[0].masses[name], counted[1].masses[name])
        contacts = Contacts(counted[0].contacts, counted[1].contacts)
        structures = _structures(subset, bundle)
    return Display(
        fes_edges=bundle.fes_edges,
        fes_reference=surfaces[0],
        fes_model=surfaces[1],
        native_tics=np.asarray(bundle.native_tics[:2], dtype=np.float64),
        marginals=marginals,
        traces=tuple(traces),
        macrostates=_macrostates(comparison),
        profiles=profiles,
        contacts=contacts,
        structures=structures,
    )


def reference_frames(bundle: ReferenceBundle, state_mass: Float) -> DrawnFrames:
    """Return the reference's stored frames, each with its share of its microstate's mass.

    Args:
        bundle: The reference.
        state_mass: (n_microstates,) weight of each microstate over all frames.
    """
    microstate = bundle.observables.microstate[bundle.subset_frames]
    number = np.bincount(microstate, minlength=len(state_mass))
    return DrawnFrames(
        bundle.subset_coordinates, microstate, (state_mass / np.maximum(number, 1))[microstate]
    )


@dataclass(frozen=True)
class _Counted:
    masses: dict[str, Float]
    contacts: Float


def _edges(bundle: ReferenceBundle) -> dict[str, Float]:
    """Return the edges of what is counted over frames; distances reach a stretched chain's end."""
    longest = float(bundle.edges["end_to_end"][-1])
    named = {
        "bond": _BOND_EDGES,
        "angle": _ANGLE_EDGES,
        "pair_distance": np.linspace(0.0, longest, _DISTANCE_BINS + 1),
    }
    number = len(bundle.native) - 3
    return named | {f"dihedral{index + 1}": _DIHEDRAL_EDGES for index in range(number)}


def _counted(frames: DrawnFrames, bundle: ReferenceBundle) -> _Counted:
    n_beads = len(bundle.native)
    edges = _edges(bundle)
    masses = {name: np.zeros(len(edge) - 1) for name, edge in edges.items()}
    pairs = geometry.pair_indices(n_beads)
    close = np.zeros(len(pairs))
    total = float(frames.weights.sum())
    for start in range(0, len(frames.coordinates), _CHUNK):
        chunk = frames.coordinates[start : start + _CHUNK]
        weights = frames.weights[start : start + _CHUNK] / total
        distances = geometry.pair_distances(chunk)
        turns = geometry.dihedrals(chunk)
        close += weights @ (distances < registry.constants().contact_cutoff)
        measured: dict[str, NDArray[Any]] = {"pair_distance": distances}
        measured["bond"] = geometry.bond_lengths(chunk)
        measured["angle"] = geometry.bond_angles(chunk)
        for index in range(n_beads - 3):
            measured[f"dihedral{index + 1}"] = turns[:, index : index + 1]
        for name, values in measured.items():
            repeated = np.repeat(weights, values.shape[1])
            masses[name] += np.histogram(values.ravel(), edges[name], weights=repeated)[0]
    contacts = np.eye(n_beads)
    contacts[pairs[:, 0], pairs[:, 1]] = contacts[pairs[:, 1], pairs[:, 0]] = close
    return _Counted(masses, contacts)


def _structures(subset: DrawnFrames, bundle: ReferenceBundle) -> NDArray[np.float32]:
    """Return the frame nearest to each macrostate's structure, then others drawn by weight."""
    shape = (bundle.metadata.n_macrostates, _SHOWN_FRAMES, *bundle.native.shape)
    shown = np.full(shape, np.nan, dtype=np.float32)
    macrostate = bundle.macrostate[subset.microstate]
    for index, target in enumerate(bundle.macrostate_structures):
        random = np.random.default_rng([len(macrostate), index])
        inside = np.flatnonzero((macrostate == index) & (subset.weights > 0))
        if len(inside) > _SEARCHED_FRAMES:
            inside = np.sort(random.choice(inside, _SEARCHED_FRAMES, replace=False))
        if not len(inside):
            continue
        nearest = inside[np.argmin(geometry.rmsd(subset.coordinates[inside], target))]
        others = inside[inside != nearest]
        number = min(len(others), _SHOWN_FRAMES - 1)
        share = subset.weights[others] / subset.weights[others].sum() if number else None
        drawn = random.choice(others, number, replace=False, p=share) if number else others
        taken = np.concatenate([[nearest], drawn])
        shown[index, : len(taken)] = geometry.superpose(subset.coordinates[taken], target)
    return shown


def _profile(
    edges: Float, sides: Sequence[Distributions], name: str, width: float, temperature: float
) -> Profile:
    """Return the smoothed free energy along one coordinate with its percentile interval."""
    drawn, joined = _joined(edges, [side.masses[name] for side in sides])
    kernel = smoothing_matrix(drawn, width)
    tail = 0.5 * (1.0 - registry.constants().confidence_level)
    curves: dict[str, Float] = {}
    for side, mass in zip(("reference", "model"), joined, strict=True):
        smoothed = kernel @ mass
        smoothed = np.where(smoothed > 1e-12 * smoothed.sum(axis=0), smoothed, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            energy = -thermal_energy(temperature) * np.log(smoothed)
            energy = np.where(np.isfinite(energy), energy - energy.min(axis=0), np.inf)
        resampled = energy[:, 1:] if energy.shape[1] > 1 else energy
        # Ranks, not interpolated values: some resamples are infinite.
        ranked = np.sort(resampled, axis=1)
        last = ranked.shape[1] - 1
        lo, hi = ranked[:, round(tail * last)], ranked[:, round((1.0 - tail) * last)]
        curves |= {side: energy[:, 0], f"{side}_lo": lo, f"{side}_hi": hi}
    return Profile(x=0.5 * (drawn[1:] + drawn[:-1]), **curves)


def _joined(edges: Float, masses: Sequence[Float]) -> tuple[Float, list[Float]]:
    """Join neighbouring bins until there are few enough to draw; masses (n_bins, …)."""
    n_bins = len(edges) - 1
    least = -(-n_bins // _DRAWN_BINS)
    width = next(size for size in range(least, n_bins + 1) if n_bins % size == 0)
    joined = [mass.reshape(n_bins // width, width, *mass.shape[1:]).sum(axis=1) for mass in masses]
    return edges[::width], joined


def _marginal(edges: Float, reference: Float, model: Float) -> Marginal:
    drawn, joined = _joined(edges, (reference, model))
    densities = []
    for mass in joined:
        total = mass.sum()
        densities.append(mass / np.diff(drawn) / (total if total > 0 else 1.0))
    return Marginal(edges=drawn, reference=densities[0], model=densities[1])


def _macrostates(comparison: Comparison) -> tuple[MacrostatePopulation, ...]:
    bundle = comparison.bundle
    rows = []
    for index in range(bundle.metadata.n_macrostates):
        inside = bundle.macrostate == index
        reference, model = (
            _population(side, inside) for side in (comparison.reference, comparison.model)
        )
        rows.append(
            MacrostatePopulation(
                index=index,
                native=index == bundle.metadata.native_macrostate,
                reference_population=reference[0],
                model_population=model[0],
                reference_rmsd=reference[1],
                model_rmsd=model[1],
            )
        )
    return tuple(rows)


def _population(side: Distributions, inside: NDArray[np.bool_]) -> tuple[float, float | None]:
    mass = float(side.state_mass[inside, 0].sum())
    return mass, float(side.state_rmsd[inside, 0].sum()) / mass if mass > 0 else None


def traces(observables: Observables, dropped: NDArray[np.int64], interval: float) -> list[Trace]:
    """Return each trajectory's slowest coordinate and RMSD, thinned, up to its first bad frame.

    Args:
        observables: Per-frame numbers, trajectories in time order.
        dropped: (n_trajectories,) frames that were dropped from the start of each.
        interval: Time between frames in ps.
    """
    result = []
    bounds = np.searchsorted(observables.trajectory, np.arange(observables.n_trajectories + 1))
    for index in range(observables.n_trajectories):
        frames = np.arange(bounds[index], bounds[index + 1])
        frames = frames[observables.alive[frames]]
        frames = frames[:: -(-len(frames) // _DRAWN_POINTS) or 1]
        result.append(
            Trace(
                trajectory=index,
                time=(frames - bounds[index] + dropped[index]) * interval,
                tic1=observables.tics[frames, 0].astype(np.float64),
                rmsd=observables.rmsd[frames].astype(np.float64),
            )
        )
    return result
