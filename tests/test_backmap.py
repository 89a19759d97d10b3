"""Backbones from Cα against native ones, by their geometry, and by cases made by hand."""

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.evaluate.backmap import (
    ATOMS,
    backbone,
    backmap_ensemble,
    backmap_files,
    beta_carbons,
    pdb_model,
)
from cgbench.evaluate.ensemble import Ensemble
from cgbench.testing.strategies import chain_from_internal, chains, rotations, translations
from cgbench.units import ANGSTROM_PER_NANOMETRE

Array = NDArray[Any]

LETTERS = {name: bead.letter for bead in registry.bead_vocabulary().beads for name in bead.residues}
#: Whole entries: RMSD of N, C and O of the inner residues in Å that is not exceeded, and the share
#: of residues of the same DSSP class that is reached.
ENTRIES = {
    "1FME": (0.5, 0.96), "1LMB": (0.32, 0.9), "1MI0": (0.58, 0.88), "2A3D": (0.52, 0.92),
    "2F4K": (0.25, 0.96), "2HBB": (0.36, 0.92), "2JOF": (0.22, 0.85), "2WXC": (0.45, 0.95),
    "5AWL": (0.3, 0.9),
}  # fmt: skip


class Stretch(NamedTuple):
    atoms: Array
    names: list[str]
    beta: Array

    @property
    def sequence(self) -> str:
        return "".join(LETTERS.get(name, "A") for name in self.names)


def longest_stretch(path: Path) -> Stretch:
    """Return the first of the longest unbroken stretches of residues with whole backbones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entry = mdtraj.load(path)[0]
    xyz = entry.xyz[0] * ANGSTROM_PER_NANOMETRE
    stretches: list[list[tuple[str, Array, Array]]] = [[]]
    for residue in entry.topology.residues:
        atoms = {atom.name: atom.index for atom in residue.atoms}
        if not set(ATOMS) <= set(atoms):
            continue
        place = xyz[[atoms[name] for name in ATOMS]]
        if stretches[-1] and np.linalg.norm(place[0] - stretches[-1][-1][1][2]) > 2.0:
            stretches.append([])
        beta = xyz[atoms["CB"]] if "CB" in atoms else np.full(3, np.nan)
        stretches[-1].append((residue.name, place, beta))
    names, places, betas = zip(*max(stretches, key=len), strict=True)
    return Stretch(np.array(places), list(names), np.array(betas))


def dssp(atoms: Array, names: list[str]) -> str:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name in names:
        residue = topology.add_residue(name if name in LETTERS else "ALA", chain)
        for atom in ATOMS:
            topology.add_atom(atom, mdtraj.element.get_by_symbol(atom[0]), residue)
    flat = atoms.reshape(1, -1, 3) / ANGSTROM_PER_NANOMETRE
    return "".join(mdtraj.compute_dssp(mdtraj.Trajectory(flat, topology), simplified=True)[0])


def angles(first: Array, second: Array, third: Array) -> Array:
    one, other = first - second, third - second
    cosine = np.sum(one * other, axis=-1)
    cosine /= np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.degrees(np.arccos(cosine))


def dihedrals(first: Array, second: Array, third: Array, fourth: Array) -> Array:
    middle = third - second
    near, far = np.cross(second - first, middle), np.cross(middle, fourth - third)
    length = np.linalg.norm(middle, axis=-1)
    sine = length * np.sum((second - first) * far, axis=-1)
    return np.degrees(np.arctan2(sine, np.sum(near * far, axis=-1)))


def helix(n_beads: int, sign: float = 1.0) -> Array:
    turn = sign * np.radians(100.0) * np.arange(n_beads)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n_beads)], axis=1)


# Native backbones


@pytest.mark.data
@pytest.mark.parametrize("entry", ENTRIES)
def test_native_backbones_are_found_from_their_alpha_carbons(
    entry: str, published_dir: Path
) -> None:
    native = longest_stretch(published_dir / "native" / "full" / f"{entry}.pdb")
    found = backbone(native.atoms[None, :, 1], native.sequence)[0]
    np.testing.assert_allclose(found[:, 1], native.atoms[:, 1], atol=1e-4)
    others = np.linalg.norm(found - native.atoms, axis=-1)[1:-1, [0, 2, 3]]
    largest, least = ENTRIES[entry]
    assert np.sqrt(np.mean(others**2)) < largest
    same = zip(dssp(found, native.names), dssp(native.atoms, native.names), strict=True)
    assert np.mean([a == b for a, b in same]) >= least


@pytest.mark.data
def test_beta_carbons_are_those_of_natural_residues(published_dir: Path) -> None:
    native = longest_stretch(published_dir / "native" / "full" / "1LMB.pdb")
    found = beta_carbons(native.atoms[None])[0]
    away = np.linalg.norm(found - native.beta, axis=1)
    # The mirror image would be 2 Å away; the entry's first residues are strained themselves.
    assert np.nanmax(away) < 1.0
    assert np.nanmedian(away) < 0.15
    assert np.isnan(away).sum() == native.sequence.count("G")


# Geometry


@pytest.mark.data
def test_reconstructed_units_are_ideal(published_dir: Path) -> None:
    system = registry.system("proteing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = mdtraj.formats.XTCTrajectoryFile(
            str(published_dir / "starting_frames" / "proteing_kcenters_32clusters_coords.xtc")
        ).read()[0]
    found = backbone(frames * ANGSTROM_PER_NANOMETRE, system.sequence)
    nitrogen, alpha, carbon, oxygen = np.moveaxis(found.astype(float), 2, 0)
    before, after = slice(None, -1), slice(1, None)
    lengths = {
        1.329: (carbon[:, before], nitrogen[:, after], 1e-3),
        1.231: (carbon, oxygen, 1e-3),
        # These take up what the chain angles cannot.
        1.458: (nitrogen, alpha, 0.15),
        1.525: (alpha, carbon, 0.15),
    }
    for ideal, (first, second, tolerance) in lengths.items():
        bonds = np.linalg.norm(first - second, axis=-1)
        assert np.abs(bonds - ideal).max() < tolerance
        assert abs(bonds.mean() - ideal) < 0.01
    turned = dihedrals(alpha[:, before], carbon[:, before], nitrogen[:, after], alpha[:, after])
    np.testing.assert_allclose(np.abs(turned), 180.0, atol=0.1)
    flat = dihedrals(alpha[:, before], nitrogen[:, after], carbon[:, before], oxygen[:, before])
    np.testing.assert_allclose(np.abs(flat), 180.0, atol=0.1)
    at_alpha = angles(nitrogen, alpha, carbon)
    assert abs(at_alpha.mean() - 111.2) < 1.5
    assert at_alpha.std() < 5.0
    at_carbon = angles(alpha[:, before], carbon[:, before], nitrogen[:, after])
    assert np.abs(at_carbon - 116.2).max() < 9.0
    # L-residues: φ is negative, but for glycine and what little the map allows.
    phi = dihedrals(carbon[:, before], nitrogen[:, after], alpha[:, after], carbon[:, after])
    general = np.array([letter != "G" for letter in system.sequence[1:]])
    assert np.mean(phi[:, general] < 0) > 0.93


def test_a_right_handed_helix_is_an_alpha_helix_and_its_mirror_image_is_not() -> None:
    nitrogen, alpha, carbon, oxygen = np.moveaxis(backbone(helix(20)[None], "A" * 20)[0], 1, 0)
    phi = dihedrals(carbon[:-1], nitrogen[1:], alpha[1:], carbon[1:])[1:-1]
    psi = dihedrals(nitrogen[:-1], alpha[:-1], carbon[:-1], nitrogen[1:])[1:-1]
    np.testing.assert_allclose(phi, -62.0, atol=8.0)
    np.testing.assert_allclose(psi, -44.0, atol=8.0)
    # Each oxygen points to the nitrogen four residues on.
    np.testing.assert_allclose(
        np.linalg.norm(oxygen[1:-5] - nitrogen[5:-1], axis=1), 2.95, atol=0.35
    )
    assert dssp(backbone(helix(20)[None], "A" * 20)[0], ["ALA"] * 20).count("H") >= 16
    left = backbone(helix(20, sign=-1.0)[None], "A" * 20)[0]
    phi = dihedrals(left[:-1, 2], left[1:, 0], left[1:, 1], left[1:, 2])[1:-1]
    assert np.mean(phi) > -20.0


def test_short_bonds_are_cis() -> None:
    bonds = np.full((1, 11), 3.8)
    bonds[0, 5] = 2.95
    chain = chain_from_internal(
        bonds, np.full((1, 10), np.radians(110.0)), np.full((1, 9), np.radians(-170.0))
    )
    nitrogen, alpha, carbon, _ = np.moveaxis(backbone(chain, "A" * 12)[0].astype(float), 1, 0)
    turned = np.abs(dihedrals(alpha[:-1], carbon[:-1], nitrogen[1:], alpha[1:]))
    assert turned[5] < 0.1
    np.testing.assert_allclose(np.delete(turned, 5), 180.0, atol=0.1)


def test_residues_have_angles_of_their_kind() -> None:
    def phi(letter: str, angle: float, turn: float) -> Array:
        chain = chain_from_internal(
            np.full((1, 14), 3.8),
            np.full((1, 13), np.radians(angle)),
            np.full((1, 12), np.radians(turn)),
        )
        atoms = backbone(chain, letter * 15)[0].astype(float)
        found = dihedrals(atoms[:-1, 2], atoms[1:, 0], atoms[1:, 1], atoms[1:, 2])
        return np.asarray(found[1:-1])

    # A left-handed helix of the α kind: glycine takes it as it is.
    assert (phi("G", 95.0, -50.0) > 0).all()
    # The threefold helix of polyproline.
    np.testing.assert_allclose(phi("P", 120.0, -110.0), -68.0, atol=20.0)


# Properties


@settings(max_examples=15, deadline=None)
@given(chains(min_beads=6, max_beads=12), rotations(), translations(50.0))
def test_backbones_move_with_the_chain(coords: Array, rotation: Array, shift: Array) -> None:
    sequence = "A" * coords.shape[1]
    here = backbone(coords, sequence).astype(float)
    there = backbone(coords.astype(float) @ rotation.T + shift, sequence)
    assert np.isfinite(here).all()
    # Two choices may be as good as one another; most frames have a single best one.
    away = np.abs(here @ rotation.T + shift - there).max(axis=(1, 2, 3))
    assert np.median(away) < 0.05


def test_threads_and_neighbours_do_not_matter() -> None:
    frames = np.stack([helix(16), helix(16)[::-1], 1.02 * helix(16)]).repeat(60, axis=0)
    told: list[float] = []
    several = backbone(frames, "A" * 16, lambda *task: told.append(task[1]), workers=3)
    np.testing.assert_array_equal(several, backbone(frames, "A" * 16))
    np.testing.assert_array_equal(several[70:71], backbone(frames[70:71], "A" * 16))
    assert told[-1] == len(frames)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_frame_keeps_to_itself(value: float) -> None:
    frames = np.stack([helix(12)] * 3)
    frames[1, 4, 2] = value
    found = backbone(frames, "A" * 12)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[0], found[2])
    assert np.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0])
def test_chains_that_no_protein_has_give_numbers(scale: float) -> None:
    found = backbone(scale * helix(8)[None], "A" * 8)
    assert np.isfinite(found).all()
    rod = np.outer(np.arange(8.0), [3.8, 0.0, 0.0])
    assert np.isfinite(backbone(rod[None], "A" * 8)).all()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValidationError, match="sequence"):
        backbone(helix(8)[None], "A" * 7)
    with pytest.raises(ValidationError, match="wrong shape"):
        backbone(helix(3)[None], "A" * 3)
    assert backbone(np.zeros((0, 8, 3)), "A" * 8).shape == (0, 8, 4, 3)


# Files


def test_models_are_read_back_by_another_program(tmp_path: Path) -> None:
    sequence = registry.system("chignolin").sequence
    atoms = backbone(helix(10)[None] + 5000.0, sequence)[0]
    path = tmp_path / "model.pdb"
    path.write_text(pdb_model(atoms, sequence, with_beta=True) + "END\n")
    read = mdtraj.load(path)
    assert read.topology.n_residues == 10
    assert "".join(residue.code for residue in read.topology.residues) == sequence
    # Glycine has no Cβ, and what has drifted too far for the columns comes back to the origin.
    assert read.n_atoms == 50 - sequence.count("G")
    alpha = read.xyz[0, read.topology.select("name CA")] * ANGSTROM_PER_NANOMETRE
    np.testing.assert_allclose(alpha - alpha[0], helix(10) - helix(10)[0], atol=3e-3)


def ensemble(n_frames: int = 30) -> Ensemble:
    frames = np.stack([helix(10)] * n_frames)
    frames[:, :, 0] += np.arange(n_frames)[:, None]
    frames[n_frames // 2, 3] = np.nan
    return Ensemble.from_arrays("chignolin", [frames.astype(np.float32)])


def test_an_ensemble_is_thinned_evenly_and_without_its_bad_frames(tmp_path: Path) -> None:
    written = backmap_ensemble(ensemble(), tmp_path / "out" / "x.pdb", most=5)
    assert (written.n_frames, written.n_intact, written.n_models) == (30, 29, 5)
    read = mdtraj.load(written.file)
    assert read.n_frames == 5
    steps = read.xyz[:, read.topology.select("name CA")[0], 0] * ANGSTROM_PER_NANOMETRE
    assert steps[0] == pytest.approx(2.3, abs=1e-3)
    assert steps[-1] == pytest.approx(31.3, abs=1e-3)
    bad = Ensemble.from_arrays("chignolin", [np.full((3, 10, 3), np.nan, dtype=np.float32)])
    with pytest.raises(ValidationError, match="no frame is an intact chain"):
        backmap_ensemble(bad, tmp_path / "bad.pdb")
    assert not (tmp_path / "bad.pdb").exists()


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    source = tmp_path / "samples.npz"
    np.savez(source, coordinates=np.stack([helix(10)] * 4).astype(np.float32))
    arguments = ["backmap", str(source), "--system", "chignolin", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)
    assert (one["n_frames"], one["n_models"]) == (4, 4)
    assert Path(one["file"]).name == "samples-chignolin.pdb"
    assert mdtraj.load(one["file"]).n_frames == 4
    # Nothing is written over unless it is asked for.
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, UsageError)
    assert CliRunner().invoke(app, [*arguments, "--force", "--beta"]).exit_code == 0
    assert mdtraj.load(one["file"]).n_atoms == 49


def test_files_that_cannot_be_done_leave_nothing(tmp_path: Path) -> None:
    source = tmp_path / "samples.npz"
    np.savez(source, coordinates=np.stack([helix(10)] * 4).astype(np.float32))
    for fault in (
        lambda: backmap_files([source], tmp_path / "o", system="chignolin", most=10_000),
        lambda: backmap_files([source, source], tmp_path / "o", system="chignolin"),
        lambda: backmap_files([source], tmp_path / "o", system="villin"),
        lambda: backmap_files([tmp_path / "none.pdb"], tmp_path / "o"),
    ):
        with pytest.raises(CgbenchError):
            fault()
    assert not (tmp_path / "o").exists()
