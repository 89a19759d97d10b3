"""The page of a protein: its card, its reference where that is at hand, and all models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import CgbenchError, UsageError
from cgbench.evaluate import ReferenceBundle, geometry, read_reference
from cgbench.evaluate.backmap import backbone
from cgbench.evaluate.native import read_native
from cgbench.leaderboard.rows import Board, BoardRow, SystemCell
from cgbench.leaderboard.site import plots
from cgbench.leaderboard.site.markup import strict_svg
from cgbench.leaderboard.site.structures import StructureFile, structure_file
from cgbench.leaderboard.site.tables import address, cells_of, look, marks_of, role, under
from cgbench.pipeline.content import reference_warnings
from cgbench.registry import System
from cgbench.report import Structure, Structures
from cgbench.report.maps import reference_surface
from cgbench.store import find_native, find_reference

#: Further metrics beside the leading ones: those whose numbers people know.
_ALSO: Final = ("dG_fold", "native_population", "macro_pop", "rg_w1", "rmsd_p1", "replicas_alive")
_PIECE: Final = 10


@dataclass(frozen=True)
class Line:
    """One line of a protein's table."""

    row: BoardRow
    cell: SystemCell
    href: str
    look: str
    under: str
    protocol: str
    plot: Markup


@dataclass(frozen=True)
class Figure:
    """A figure with its words."""

    key: str
    title: str
    alt: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class AtHand:
    """What is on this machine of a protein.

    Attributes:
        bundle: Its reference bundle.
        native: (n_beads, 3) native Cα in Å.
        problem: Why there is no bundle, and what to do.
    """

    bundle: ReferenceBundle | None
    native: NDArray[np.float32] | None
    problem: str


def at_hand(system: System, home: Path | None) -> AtHand:
    """Return the reference bundle and the native structure that are here; neither has to be.

    Raises:
        IntegrityError: The bundle is damaged.
    """
    try:
        bundle = read_reference(find_reference(system.key, home))
    except UsageError as error:
        return AtHand(None, _native(system, home), _without_paths(system, error))
    return AtHand(bundle, bundle.native, "")


def _without_paths(system: System, error: UsageError) -> str:
    # The message names folders of this machine, which a page for everyone does not.
    fix = f" '{error.fix}' makes it." if error.fix and "cgbench" in error.fix else ""
    return f"The reference bundle of {system.key} was not at hand when this page was made.{fix}"


def _native(system: System, home: Path | None) -> NDArray[np.float32] | None:
    try:
        return read_native(find_native(system.key, home), system.sequence)
    except CgbenchError:
        # Another file of that name is no reason to have no site.
        return None


def picture(found: AtHand, system: System) -> Markup:
    """Return the trace of a protein's native structure, or where its helices and strands lie."""
    if found.native is None:
        return plots.fold(registry.native_annotation(system.key).annotation)
    return plots.chain(found.native)


def protein_page(system: System, board: Board, found: AtHand) -> dict[str, Any]:
    """Return what the page of a protein shows."""
    pairs = cells_of(board, system.key)
    lines, legend = marks_of(
        {role(row): cell.composite for row, cell in pairs if row.reference and cell.composite}
    )
    used = {metric for _, cell in pairs for metric in cell.metrics}
    return {
        "system": system,
        "sequence": [
            (start + 1, system.sequence[start : start + _PIECE])
            for start in range(0, system.n_beads, _PIECE)
        ],
        "rows": [_line(row, cell) for row, cell in pairs],
        "several": len({_protocol(row) for row, _ in pairs if not row.reference}) > 1,
        "axis": plots.axis("axis", lines),
        "marks": legend,
        "metrics": [
            spec
            for spec in registry.metrics()
            if spec.id in used and (spec.primary or spec.id in _ALSO)
        ],
        "reference": None if found.bundle is None else _reference(found.bundle),
        "structures": _structures(system, found),
        "absent": found.problem,
        "get_native": f"cgbench download {system.key} --kind native",
        "card": _card(system),
        "published": [
            fact
            for fact in registry.published_facts()
            # Facts of no system are of the twelve published ones.
            if fact.system == system.key or (fact.system is None and not system.embedded)
        ],
        "get": _commands(system),
    }


def _line(row: BoardRow, cell: SystemCell) -> Line:
    return Line(
        row=row,
        cell=cell,
        href=address(row),
        look=look(row),
        under=under(row),
        protocol=_protocol(row),
        plot=plots.interval(cell.composite, "axis"),
    )


def _protocol(row: BoardRow) -> str:
    protocol = None if row.submission is None else row.submission.result.protocol
    return "–" if protocol is None else f"{protocol.id}@{protocol.version}"


def _card(system: System) -> list[tuple[str, str]]:
    native = system.native
    if native.pdb_id is None:
        source = native.source
    else:
        residues = (
            ""
            if native.residues is None
            else f", residues {native.residues[0]} to {native.residues[1]}"
        )
        source = f"PDB {native.pdb_id}, chain {native.chain}{residues}"
    split, analysis = system.split, system.analysis
    return [
        ("beads", f"{system.n_beads}, one at each Cα atom"),
        ("native structure", source),
        ("substitutions", ", ".join(system.substitutions) or "none"),
        ("temperature", f"{system.temperature:g} K"),
        (
            "frame interval",
            _reason(system, "frame_interval")
            if system.frame_interval is None
            else f"{system.frame_interval:g} ps",
        ),
        ("constraints", system.constraints or _reason(system, "constraints")),
        (
            "force maps",
            ", ".join(
                f"{name} (consistent: {system.force_map_consistent[name]})"
                for name in system.force_maps
            ),
        ),
        ("licence", system.licence or _reason(system, "licence")),
        (
            "canonical split",
            f"{'whole trajectories' if split.unit == 'trajectory' else 'blocks of frames'}; train "
            f"{split.train:.0%}, val {split.val:.0%}, test {split.test:.0%}",
        ),
        ("TICA lag", f"{analysis.tica_lag_ps:g} ps ({analysis.source['tica_lag_ps']})"),
        ("MSM lag", f"{analysis.msm_lag_ps:g} ps ({analysis.source['msm_lag_ps']})"),
        ("microstates", f"{analysis.n_microstates} ({analysis.source['n_microstates']})"),
    ]  # fmt: skip


def _reason(system: System, name: str) -> str:
    return f"not known: {system.reasons[name]}"


def _commands(system: System) -> list[str]:
    evaluate = f"cgbench evaluate model.pt --system {system.key} --out RUN"
    if system.embedded:
        return ["# data, split and reference come with the package", evaluate]
    return [
        f"cgbench download {system.key}",
        f"cgbench preprocess {system.key}",
        f"cgbench reference build {system.key}",
        evaluate,
    ]


@dataclass(frozen=True)
class Reference:
    """What is shown of a reference bundle."""

    figure: Figure
    states: Sequence[tuple[str, float, float]]
    facts: Sequence[tuple[str, str]]
    converged: bool
    warning: str


def _reference(bundle: ReferenceBundle) -> Reference:
    facts = bundle.metadata
    folded = facts.folded_population
    edges = (bundle.fes_edges[0], bundle.fes_edges[1])
    cutoff = registry.constants().fes_cutoff
    native = (float(bundle.native_tics[0]), float(bundle.native_tics[1]))
    energy = np.where(np.isfinite(bundle.fes), bundle.fes, np.nan)
    return Reference(
        figure=Figure(
            "surface",
            "Free-energy surface of the reference",
            f"Free energy of {bundle.system} over the two slowest components of its reference",
            f"The line is at {cutoff:g} kcal/mol, up to where models are compared; the star is the "
            "native conformer.",
            strict_svg(reference_surface(energy, edges, cutoff, native, "surface")),
        ),
        states=_states(bundle),
        facts=[
            (
                "frames",
                f"{facts.n_frames:,} in {facts.n_trajectories:,} trajectories, every "
                f"{facts.frame_interval:g} ps",
            ),
            ("folded population", f"{folded.value:.3f} [{folded.lo:.3f}, {folded.hi:.3f}]"),
            ("folding / unfolding events", f"{facts.n_folding} / {facts.n_unfolding}"),
            ("slowest process", facts.timescale_statement),
            ("fingerprint", bundle.fingerprint),
            ("store", bundle.store_fingerprint),
        ],
        converged=bundle.converged,
        warning=" ".join(reference_warnings(bundle)),
    )  # fmt: skip


def _states(bundle: ReferenceBundle) -> list[tuple[str, float, float]]:
    """Return name, population and RMSD to native of the structure of every macrostate."""
    structures = geometry.superpose(bundle.macrostate_structures, bundle.native)
    found = []
    for index, placed in enumerate(structures):
        population = float(bundle.stationary[bundle.macrostate == index].sum())
        rmsd = float(np.sqrt(np.square(placed - bundle.native).sum(axis=1).mean()))
        native = " (native)" if index == bundle.metadata.native_macrostate else ""
        found.append((f"{index}{native}", population, rmsd))
    return found


def _drawn(positions: NDArray[Any], sequence: str) -> NDArray[np.float64]:
    atoms = backbone(positions[None], sequence)
    return atoms.reshape(1, -1, 3).astype(np.float64)


def _structures(system: System, found: AtHand) -> StructureFile | None:
    """Return the native structure and the reference's macrostates over it, as far as at hand."""
    if found.native is None:
        return None
    native = Structure("native", "native", _drawn(found.native, system.sequence))
    states: list[tuple[str, list[Structure]]] = [("native", [native])]
    texts = {}
    if found.bundle is not None:
        placed = geometry.superpose(found.bundle.macrostate_structures, found.native)
        states = []
        for (name, population, rmsd), one in zip(_states(found.bundle), placed, strict=True):
            shown = Structure("reference", "reference", _drawn(one, system.sequence))
            states.append((name, [native, shown]))
            texts[name] = f"population {population:.2f}, {rmsd:.1f} Å from the native structure"
    return structure_file(
        f"structures/proteins/{system.key}.js",
        system.key,
        Structures(system.sequence, True, states),
        plots.chain(found.native),
        texts=texts,
    )


def best_scores(board: Board, system: str) -> tuple[int, float | None]:
    """Return how many models were scored on a protein, and the best score."""
    cells = [(row.id, cell) for row, cell in cells_of(board, system) if not row.reference]
    scores = [cell.composite.value for _, cell in cells if cell.composite is not None]
    return len({model for model, cell in cells if cell.status == "ok"}), max(scores, default=None)


def pictures(systems: Mapping[str, System], found: Mapping[str, AtHand]) -> dict[str, Markup]:
    """Return the picture of every protein."""
    return {key: picture(found[key], system) for key, system in systems.items()}
