"""Turns what scored rows hold to be drawn into the panels of a report."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate import Profile, ReferenceBundle, Scored, geometry
from cgbench.evaluate.backmap import backbone
from cgbench.pipeline.verdict import PRIOR_ROW, is_model, role
from cgbench.report import (
    Curve,
    MacrostateRow,
    PairMaps,
    Panel,
    Structure,
    Structures,
    Surface,
    TraceSet,
)

Float = NDArray[np.float64]

_SHOWN: Final = {
    "rg": ("radius of gyration", "Å"),
    "end_to_end": ("end-to-end distance", "Å"),
    "q": ("native contacts Q", ""),
    "rmsd": ("RMSD to native", "Å"),
    "pair_distance": ("distances of all pairs", "Å"),
    "tic1": ("TIC 1", ""),
}
_LOCAL: Final = {"bond": ("bond length", "Å"), "angle": ("bond angle", "°")}
#: Rows drawn as curves beside the models: a held-still or single structure would be a spike.
_CURVES: Final = (PRIOR_ROW, "ideal_chain")
#: Rows whose surfaces are drawn beside the models.
_MAPS: Final = ("md_split_half", PRIOR_ROW, "start_frames", "ideal_chain", "md_replay")


def _drawn(rows: Sequence[Scored], also: Sequence[str] = ()) -> list[Scored]:
    return [row for row in rows if row.display is not None and (is_model(row) or role(row) in also)]


def surfaces(rows: Sequence[Scored], bundle: ReferenceBundle) -> list[Surface]:
    """Return the free-energy surfaces, the reference's first."""
    found = [("reference", bundle.fes, False)] + [
        (row.name, row.display.fes_model, is_model(row))
        for row in _drawn(rows, _MAPS)
        if row.display is not None
    ]
    return [
        Surface(name, np.where(np.isfinite(energy), energy, np.nan), model)
        for name, energy, model in found
    ]


def _panel(key: str, title: str, unit: str, rows: Sequence[Scored]) -> Panel | None:
    curves: list[Curve] = []
    for row in rows:
        marginal = None if row.display is None else row.display.marginals.get(key)
        if marginal is None:
            continue
        scale = 180.0 / np.pi if unit == "°" else 1.0
        x = scale * 0.5 * (marginal.edges[1:] + marginal.edges[:-1])
        if not curves:
            curves.append(Curve("reference", x, marginal.reference / scale, True))
        curves.append(Curve(row.name, x, marginal.model / scale))
    return Panel(title, unit, tuple(curves)) if curves else None


def panels(rows: Sequence[Scored]) -> tuple[list[Panel], list[Panel]]:
    """Return the distributions: those of the whole chain, and those of its bonds and pairs."""
    drawn = _drawn(rows, _CURVES)
    both = [
        [_panel(key, title, unit, drawn) for key, (title, unit) in named.items()]
        for named in (_SHOWN, _LOCAL)
    ]
    whole, local = ([panel for panel in found if panel is not None] for found in both)
    return whole, local


def profiles(rows: Sequence[Scored]) -> list[Panel]:
    """Return the free energies along the two slowest coordinates."""
    found = []
    for key, title in (("tic1", "TIC 1"), ("tic2", "TIC 2")):
        curves: list[Curve] = []
        for row in _drawn(rows):
            profile = None if row.display is None else row.display.profiles.get(key)
            if profile is None:
                continue
            if not curves:
                curves.append(_reference_curve(profile))
            curves.append(
                Curve(row.name, profile.x, profile.model, lo=profile.model_lo, hi=profile.model_hi)
            )
        if curves:
            found.append(Panel(title, "", tuple(curves)))
    return found


def _reference_curve(profile: Profile) -> Curve:
    return Curve(
        "reference", profile.x, profile.reference, True, profile.reference_lo, profile.reference_hi
    )


def traces(rows: Sequence[Scored]) -> dict[str, TraceSet]:
    """Return the trajectories of every model with time order."""
    found = {}
    for row in _drawn(rows):
        if row.display is None or not row.display.traces:
            continue
        beside = {key: _panel(key, *_SHOWN[key], [row]) for key in ("rmsd", "tic1")}
        rmsd, tic1 = beside["rmsd"], beside["tic1"]
        if rmsd is not None and tic1 is not None:
            replicas = [(item.time, item.rmsd, item.tic1) for item in row.display.traces]
            found[row.name] = TraceSet(replicas, rmsd, tic1)
    return found


def contacts(rows: Sequence[Scored]) -> dict[str, PairMaps]:
    """Return the contact maps of every model."""
    return {
        row.name: PairMaps(row.display.contacts.reference, row.display.contacts.model)
        for row in _drawn(rows)
        if row.display is not None and row.display.contacts is not None
    }


def dihedrals(rows: Sequence[Scored]) -> dict[str, PairMaps]:
    """Return the distributions of every dihedral angle, one line an angle, for every model."""
    found = {}
    for row in _drawn(rows):
        named = {} if row.display is None else row.display.marginals
        strips = [marginal for key, marginal in named.items() if key.startswith("dihedral")]
        if strips:
            reference, model = (
                np.stack([getattr(marginal, side) for marginal in strips])
                for side in ("reference", "model")
            )
            found[row.name] = PairMaps(reference, model)
    return found


def macrostates(rows: Sequence[Scored]) -> list[MacrostateRow]:
    """Return the reference's macrostates with their populations in every row."""
    shown = [(row.name, row.display.macrostates) for row in rows if row.display is not None]
    if not shown:
        return []
    return [
        MacrostateRow(
            index=state.index,
            native=state.native,
            reference_population=state.reference_population,
            reference_rmsd=float("nan") if state.reference_rmsd is None else state.reference_rmsd,
            populations={name: states[place].model_population for name, states in shown},
            rmsds={name: states[place].model_rmsd for name, states in shown},
        )
        for place, state in enumerate(shown[0][1])
    ]


def _atoms(frames: NDArray[Any], bundle: ReferenceBundle) -> Float:
    """Return the backbone that is drawn of each frame, (n_frames, 4·n_beads, 3) in Å."""
    atoms = backbone(frames, bundle.sequence)
    return atoms.reshape(len(frames), -1, 3).astype(np.float64)


def structures(rows: Sequence[Scored], bundle: ReferenceBundle) -> Structures | None:
    """Return each macrostate's structures; None without any.

    The reference's are superposed on the native conformer, the model's on the reference's.
    """
    shown = [
        (row.name, row.display.structures)
        for row in _drawn(rows)
        if row.display is not None and row.display.structures is not None
    ]
    if not shown:
        return None
    found = []
    native = Structure("native", "native", _atoms(bundle.native[None], bundle))
    placed = geometry.superpose(bundle.macrostate_structures, bundle.native)
    for index, target in enumerate(placed):
        items = [native, Structure("reference", "reference", _atoms(target[None], bundle))]
        for name, frames in shown:
            own = frames[index][np.isfinite(frames[index]).all(axis=(1, 2))]
            if len(own):
                own_placed = geometry.superpose(own, target)
                items.append(Structure(name, "model", _atoms(own_placed, bundle)))
        label = f"{index} (native)" if index == bundle.metadata.native_macrostate else f"{index}"
        found.append((label, items))
    return Structures(bundle.sequence, True, found)
