"""Trajectories exported as xtc, pdb and psf, read back by mdtraj."""

from pathlib import Path

import mdtraj
import numpy as np
import pytest
from toy_simulation import KEY, N_BEADS, SEQUENCE

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.simulation import export_xtc
from cgbench.simulation.export import pdb_text, psf_text
from cgbench.store import TrajectoryAttributes, TrajectorySet, write_trajectories

# mdtraj keeps three decimals of a nanometre; half of the last one is 0.005 Å.
XTC_PRECISION = 0.005 + 1e-4


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, TrajectorySet]:
    """Three random trajectories: whole, dying at its fourth frame, dead from the start."""
    generator = np.random.default_rng(0)
    coordinates = [
        generator.normal(scale=8.0, size=(6, N_BEADS, 3)).astype(np.float32) for _ in range(3)
    ]
    energies = [np.zeros(6, dtype=np.float32)] * 3
    trajectories = TrajectorySet(
        system=KEY,
        coordinates=coordinates,
        network_energy=energies,
        prior_energy=energies,
        weights=None,
        alive_until=np.array([6, 4, 0]),
        frame_interval=0.1,
        temperature=350.0,
        attributes=TrajectoryAttributes(sequence=SEQUENCE, temperature=350.0, frame_interval=0.1),
    )
    path = tmp_path / "trajectories.zarr"
    write_trajectories(path, trajectories)
    return path, trajectories


def check_topology(topology: mdtraj.Topology) -> None:
    """Assert that a topology is the chain: names, and bonds of neighbours only."""
    vocabulary = registry.bead_vocabulary()
    assert vocabulary.sequence(residue.name for residue in topology.residues) == SEQUENCE
    assert [atom.name for atom in topology.atoms] == ["CA"] * N_BEADS
    bonds = sorted(sorted((first.index, second.index)) for first, second in topology.bonds)
    assert bonds == [[index, index + 1] for index in range(N_BEADS - 1)]


def test_exported_files_are_read_by_mdtraj(
    tmp_path: Path, stored: tuple[Path, TrajectorySet]
) -> None:
    path, trajectories = stored
    files = export_xtc(path, tmp_path / "xtc")
    assert sorted(files.trajectories) == [0, 1]
    for topology in (files.pdb, files.psf):
        check_topology(mdtraj.load_topology(str(topology)))
        for index, length in ((0, 6), (1, 4)):
            found = mdtraj.load(str(files.trajectories[index]), top=str(topology))
            expected = trajectories.coordinates[index][:length]
            # Nanometres in files, ångström in cgbench.
            np.testing.assert_allclose(found.xyz * 10, expected, rtol=0, atol=XTC_PRECISION)
            np.testing.assert_allclose(found.time, 0.1 * np.arange(1, length + 1), rtol=1e-5)
    pictured = mdtraj.load(str(files.pdb)).xyz[0] * 10
    np.testing.assert_allclose(pictured, trajectories.coordinates[0][0], rtol=0, atol=6e-4)


def test_dead_frames_are_exported_only_when_asked_for(
    tmp_path: Path, stored: tuple[Path, TrajectorySet]
) -> None:
    path, trajectories = stored
    files = export_xtc(path, tmp_path / "xtc", system=KEY, include_dead=True)
    assert sorted(files.trajectories) == [0, 1, 2]
    for index, coordinates in enumerate(trajectories.coordinates):
        found = mdtraj.load(str(files.trajectories[index]), top=str(files.psf))
        np.testing.assert_allclose(found.xyz * 10, coordinates, rtol=0, atol=XTC_PRECISION)


def test_unknown_names_are_refused(tmp_path: Path, stored: tuple[Path, TrajectorySet]) -> None:
    with pytest.raises(UsageError):
        export_xtc(stored[0], tmp_path / "xtc", system="lambda")
    with pytest.raises(UsageError):
        export_xtc(tmp_path / "nothing.zarr", tmp_path / "xtc")
    assert not (tmp_path / "xtc").exists()


def test_every_kind_of_bead_has_a_name(tmp_path: Path) -> None:
    vocabulary = registry.bead_vocabulary()
    sequence = "".join(vocabulary.letters)
    pdb, psf = tmp_path / "all.pdb", tmp_path / "all.psf"
    coordinates = np.arange(3.0 * len(sequence)).reshape(-1, 3)
    pdb.write_text(pdb_text(sequence, coordinates))
    psf.write_text(psf_text(sequence))
    for path in (pdb, psf):
        topology = mdtraj.load_topology(str(path))
        names = [residue.name for residue in topology.residues]
        assert vocabulary.sequence(names) == sequence
        assert topology.n_bonds == len(sequence) - 1
    np.testing.assert_allclose(mdtraj.load(str(pdb)).xyz[0] * 10, coordinates, atol=1e-4)


@pytest.mark.data
def test_psf_agrees_with_the_published_topologies(published_dir: Path) -> None:
    vocabulary = registry.bead_vocabulary()

    def rows(lines: list[str], title: str) -> list[list[str]]:
        start = next(index for index, line in enumerate(lines) if title in line) + 1
        stop = next(index for index in range(start, len(lines)) if not lines[index].strip())
        return [line.split() for line in lines[start:stop]]

    compared = 0
    for entry in registry.systems():
        if entry.published_key is None:
            continue
        path = published_dir / "topology" / f"{entry.published_key}.psf"
        published, ours = path.read_text().splitlines(), psf_text(entry.sequence).splitlines()
        found, expected = rows(ours, "!NATOM"), rows(published, "!NATOM")
        # Histidine has several names, of which the vocabulary knows the published ones.
        assert vocabulary.sequence(row[3] for row in found) == vocabulary.sequence(
            row[3] for row in expected
        )
        assert [row[4:6] for row in found] == [row[4:6] for row in expected]
        bonds = [
            [word for row in rows(lines, "!NBOND") for word in row] for lines in (ours, published)
        ]
        assert bonds[0] == bonds[1]
        compared += 1
    assert compared == 12
