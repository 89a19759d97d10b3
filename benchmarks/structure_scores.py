"""Speed and thoroughness of the structure scores, and backbones from Cα, beside other programs.

    python benchmarks/structure_scores.py PUBLISHED_FOLDER [--out FILE]

PUBLISHED_FOLDER holds the published `native/` and `starting_frames/`, and in `native/full/` the
whole entries there are. One run on one core measures processor time, the least of several repeats:
- RMSD, Q and dihedrals a frame, and mdtraj's: with and without the centring that it can skip when
  it was done before;
- the superposition search for GDT and TM-score on 11,000 frames of 80 beads, and on start frames
  and shapes between them and the native one: against tmtools with the same fixed alignment, and
  against a search from many more starts; for up to 20 residues against every residue triple;
- N, C and O from the Cα of whole entries: distance to the entry's own, DSSP classes in common.
Takes about two minutes.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import mdtraj
import numpy as np
import tmtools
from numpy.typing import NDArray
from rich.console import Console

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.evaluate import alignment_search, geometry
from cgbench.evaluate.alignment_search import search_scores, search_seeds
from cgbench.evaluate.backmap import ATOMS, backbone
from cgbench.evaluate.rotation import best_rotation
from cgbench.registry import System
from cgbench.testing.strategies import random_chains
from cgbench.units import ANGSTROM_PER_NANOMETRE

Array = NDArray[Any]
RESULTS = Path(__file__).parent / "results" / "structure_scores.json"
REPEATS = 7
SEARCHED = 11_000
DENSE_TRIPLES = 6000


class Speed(Frozen):
    """Nanoseconds a frame, on one core."""

    score: str
    n_beads: int
    cgbench: float
    mdtraj: float | None
    mdtraj_precentred: float | None


class Search(Frozen):
    """The search on 64 frames of a system, from its start frames to near the native structure.

    Deficits are those to a search that also starts from 6,000 random triples of beads; for up to 20
    residues ``triple_deficit`` is the largest by which a superposition of three residues is better.
    """

    system: str
    n_beads: int
    n_seeds: int
    milliseconds: float
    tmtools_milliseconds: float
    tm_minus_tmtools_least: float | None
    tm_minus_tmtools_mean: float | None
    gdt_ts_deficit_mean: float
    gdt_ts_deficit_largest: float
    gdt_ha_deficit_mean: float
    tm_deficit_mean: float | None
    triple_deficit: float | None


class Backbone(Frozen):
    """Backbones of an entry's longest unbroken stretch; Å over the inner residues.

    ``far_oxygens`` is the share of oxygens that are more than 1.5 Å off.
    """

    entry: str
    n_residues: int
    nitrogen: float
    carbon: float
    oxygen: float
    all_three: float
    far_oxygens: float
    dssp_agreement: float


class Annotation(Frozen):
    """Share of residues on which P-SEA's classes, from Cα alone, are DSSP's."""

    system: str
    agreement: float


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    speeds: tuple[Speed, ...]
    searched_frames: int
    searched_beads: int
    search_seconds: float
    searches: tuple[Search, ...]
    backbones: tuple[Backbone, ...]
    backbone_overall: Backbone
    backbone_milliseconds: dict[int, float]
    annotations: tuple[Annotation, ...]
    peers: dict[str, str]
    provenance: provenance.Provenance


def fastest(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the processor seconds of the fastest of several repeats, after one that compiles."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def alpha_trajectory(coords: Array) -> mdtraj.Trajectory:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(coords.shape[1]):
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("ALA", chain))
    return mdtraj.Trajectory(coords / ANGSTROM_PER_NANOMETRE, topology)


def measure_speed(n_beads: int) -> list[Speed]:
    coords = random_chains(1_000_000 // n_beads, n_beads, seed=1).astype(np.float32)
    native = coords[0].astype(np.float64)
    nanoseconds = 1e9 / len(coords)
    trajectory, centred = alpha_trajectory(coords), alpha_trajectory(coords)
    centred.center_coordinates()
    quadruples = np.arange(n_beads - 3)[:, None] + np.arange(4)

    def peer(which: mdtraj.Trajectory, ready: bool) -> float:
        return nanoseconds * fastest(
            lambda: mdtraj.rmsd(which, which, 0, parallel=False, precentered=ready)
        )

    return [
        Speed(
            score="rmsd",
            n_beads=n_beads,
            cgbench=nanoseconds * fastest(lambda: geometry.rmsd(coords, native)),
            mdtraj=peer(trajectory, False),
            mdtraj_precentred=peer(centred, True),
        ),
        Speed(
            score="q_native",
            n_beads=n_beads,
            cgbench=nanoseconds * fastest(lambda: geometry.q_native(coords, native)),
            mdtraj=None,
            mdtraj_precentred=None,
        ),
        Speed(
            score="dihedrals",
            n_beads=n_beads,
            cgbench=nanoseconds * fastest(lambda: geometry.dihedrals(coords)),
            mdtraj=nanoseconds
            * fastest(lambda: mdtraj.compute_dihedrals(trajectory, quadruples, periodic=False)),
            mdtraj_precentred=None,
        ),
    ]


def native_of(folder: Path, system: System) -> Array:
    name = f"{system.published_key}_{system.native.pdb_id}_ca.pdb"
    return mdtraj.load(folder / "native" / name).xyz[0] * ANGSTROM_PER_NANOMETRE


def graded_frames(folder: Path, system: System) -> tuple[Array, Array]:
    """Return the 32 start frames and 32 shapes from the native one half way to them."""
    native = native_of(folder, system)
    name = f"{system.published_key}_kcenters_32clusters_coords.xtc"
    with mdtraj.formats.XTCTrajectoryFile(str(folder / "starting_frames" / name)) as handle:
        frames = handle.read()[0] * ANGSTROM_PER_NANOMETRE
    share = np.linspace(0.0, 0.5, len(frames))[:, None, None]
    between = (1 - share) * native + share * geometry.superpose(frames, native)
    return np.concatenate([frames, between]).astype(np.float32), native


def measure_search(folder: Path, system: System) -> Search:
    frames, native = graded_frames(folder, system)
    n_beads = system.n_beads
    found = search_scores(frames, native)
    seconds = fastest(lambda: search_scores(frames, native), 2)
    sequence = "A" * n_beads
    fixed = native.astype(np.float64)

    def peer() -> Array:
        return np.array(
            [
                tmtools.tm_align(
                    frame.astype(np.float64), fixed, sequence, sequence,
                    alignment=[sequence, sequence],
                ).tm_norm_chain2
                for frame in frames
            ]
        )  # fmt: skip

    difference = None if found.tm is None else found.tm - peer()
    seeds = np.concatenate([search_seeds(n_beads), random_triples(n_beads)])
    with mock.patch.object(alignment_search, "search_seeds", return_value=seeds):
        dense = search_scores(frames, native)
    deficit = dense.gdt_ts - found.gdt_ts
    return Search(
        system=system.key,
        n_beads=n_beads,
        n_seeds=len(search_seeds(n_beads)),
        milliseconds=1e3 * seconds / len(frames),
        tmtools_milliseconds=1e3 * fastest(peer, 1) / len(frames),
        tm_minus_tmtools_least=None if difference is None else float(difference.min()),
        tm_minus_tmtools_mean=None if difference is None else float(difference.mean()),
        gdt_ts_deficit_mean=float(deficit.mean()),
        gdt_ts_deficit_largest=float(deficit.max()),
        gdt_ha_deficit_mean=float((dense.gdt_ha - found.gdt_ha).mean()),
        tm_deficit_mean=(
            None if found.tm is None or dense.tm is None else float((dense.tm - found.tm).mean())
        ),
        triple_deficit=triple_deficit(frames, native, found.gdt_ts) if n_beads <= 20 else None,
    )


def random_triples(n_beads: int) -> NDArray[np.float32]:
    everything = np.array(list(combinations(range(n_beads), 3)))
    generator = np.random.default_rng(1)
    chosen = everything
    if len(everything) > DENSE_TRIPLES:
        chosen = everything[generator.choice(len(everything), DENSE_TRIPLES, replace=False)]
    seeds = np.zeros((len(chosen), n_beads), dtype=np.float32)
    seeds[np.arange(len(chosen))[:, None], chosen] = 1.0
    return seeds


def triple_deficit(frames: Array, native: Array, found: Array) -> float:
    """Return by how much any superposition of three residues beats the search, the largest."""
    worst = -1.0
    cutoffs = np.array(alignment_search.GDT_TS_CUTOFFS)
    for frame, score in zip(frames.astype(np.float64), found, strict=True):
        best = np.zeros(len(cutoffs))
        for triple in map(list, combinations(range(len(native)), 3)):
            centre, target = frame[triple].mean(axis=0), native[triple].mean(axis=0)
            covariance = (frame[triple] - centre).T @ (native[triple] - target)
            rotation = np.array(best_rotation(tuple(covariance.ravel()))).reshape(3, 3)
            away = np.linalg.norm((frame - centre) @ rotation.T - (native - target), axis=1)
            # A hair tighter: the search works in single precision.
            best = np.maximum(best, (away[:, None] <= cutoffs - 1e-4).mean(axis=0))
        worst = max(worst, float(best.mean() - score))
    return worst


def longest_stretch(path: Path) -> tuple[Array, list[str]]:
    """Return the backbone (n, 4, 3) in Å of the longest unbroken stretch, and its residues."""
    entry = mdtraj.load(path)[0]
    stretches: list[list[tuple[str, Array]]] = [[]]
    for residue in entry.topology.residues:
        atoms = {atom.name: atom.index for atom in residue.atoms}
        if not set(ATOMS) <= set(atoms):
            continue
        place = entry.xyz[0][[atoms[name] for name in ATOMS]] * ANGSTROM_PER_NANOMETRE
        if stretches[-1] and np.linalg.norm(place[0] - stretches[-1][-1][1][2]) > 2.0:
            stretches.append([])
        stretches[-1].append((residue.name, place))
    names, places = zip(*max(stretches, key=len), strict=True)
    return np.array(places), list(names)


def letters() -> dict[str, str]:
    return {name: one.letter for one in registry.bead_vocabulary().beads for name in one.residues}


def dssp(atoms: Array, names: list[str]) -> str:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name in names:
        residue = topology.add_residue(name if name in letters() else "ALA", chain)
        for atom in ATOMS:
            topology.add_atom(atom, mdtraj.element.get_by_symbol(atom[0]), residue)
    flat = atoms.reshape(1, -1, 3) / ANGSTROM_PER_NANOMETRE
    return "".join(mdtraj.compute_dssp(mdtraj.Trajectory(flat, topology), simplified=True)[0])


def measure_backbones(folder: Path) -> tuple[list[Backbone], Backbone]:
    rows, squares, same = [], [], []
    for path in sorted((folder / "native" / "full").glob("*.pdb")):
        atoms, names = longest_stretch(path)
        sequence = "".join(letters().get(name, "A") for name in names)
        found = backbone(atoms[None, :, 1], sequence)[0]
        square = (np.linalg.norm(found - atoms, axis=-1) ** 2)[1:-1, [0, 2, 3]]
        agree = np.array(list(dssp(found, names))) == np.array(list(dssp(atoms, names)))
        rows.append(backbone_row(path.stem, len(names), square, agree))
        squares.append(square)
        same.append(agree)
    square, agree = np.concatenate(squares), np.concatenate(same)
    return rows, backbone_row("all", len(agree), square, agree)


def backbone_row(entry: str, n_residues: int, square: Array, agree: Array) -> Backbone:
    nitrogen, carbon, oxygen = np.sqrt(square.mean(axis=0))
    return Backbone(
        entry=entry,
        n_residues=n_residues,
        nitrogen=nitrogen,
        carbon=carbon,
        oxygen=oxygen,
        all_three=float(np.sqrt(square.mean())),
        far_oxygens=float((square[:, 2] > 1.5**2).mean()),
        dssp_agreement=float(agree.mean()),
    )


def backbone_cost(frames: Array) -> float:
    """Return the milliseconds that the backbone of one frame takes."""
    return 1e3 / len(frames) * fastest(lambda: backbone(frames, "A" * frames.shape[1]), 3)


def measure_annotations(folder: Path) -> list[Annotation]:
    rows = []
    for system in registry.systems():
        path = folder / "native" / "full" / f"{system.native.pdb_id}.pdb"
        if system.native.residues is None or not path.is_file():
            continue
        entry = mdtraj.load(path)[0]
        first, last = system.native.residues
        chosen = [
            residue.index
            for residue in entry.topology.residues
            if residue.chain.chain_id == system.native.chain
            and first <= residue.resSeq <= last
            and any(atom.name == "CA" for atom in residue.atoms)
        ]
        expected = mdtraj.compute_dssp(entry, simplified=True)[0][chosen]
        found = registry.native_annotation(system.key).annotation
        same = [
            {"a": "H", "b": "E", "c": "C"}[ours] == theirs
            for ours, theirs in zip(found, expected, strict=True)
        ]
        rows.append(Annotation(system=system.key, agreement=float(np.mean(same))))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("published_folder", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.published_folder
    warnings.simplefilter("ignore")
    published = [system for system in registry.systems() if system.published_key is not None]
    longest = max(published, key=lambda system: system.n_beads)
    frames, native = graded_frames(folder, longest)
    many = np.concatenate([frames] * (SEARCHED // len(frames) + 1))[:SEARCHED]
    noise = np.random.default_rng(2).normal(scale=0.3, size=many.shape)
    many = (many + noise).astype(np.float32)
    search_scores(many[:2], native)
    start = time.process_time()
    search_scores(many, native)
    seconds = time.process_time() - start
    rows, overall = measure_backbones(folder)
    shapes = (random_chains(200, 10, seed=3), frames)
    benchmark = Benchmark(
        speeds=tuple(row for n_beads in (10, 56, 80) for row in measure_speed(n_beads)),
        searched_frames=len(many),
        searched_beads=longest.n_beads,
        search_seconds=seconds,
        searches=tuple(measure_search(folder, system) for system in published),
        backbones=tuple(rows),
        backbone_overall=overall,
        backbone_milliseconds={len(shape[0]): backbone_cost(shape) for shape in shapes},
        annotations=tuple(measure_annotations(folder)),
        peers={"mdtraj": mdtraj.__version__, "tmtools": tmtools.__version__},
        provenance=provenance.collect({"frames": 1, "noise": 2}),
    )
    write_model(options.out, benchmark)
    Console().print_json(benchmark.model_dump_json(exclude={"provenance"}))


if __name__ == "__main__":
    main()
