"""Systems and structures: the sample's forces, copies that do not see each other, PDB files."""

from pathlib import Path

import numpy as np
import pytest

from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.generate.copies import Copies, check_copies, longest_extent
from cgbench.generate.pdb_lines import Selection
from cgbench.generate.settings import DynamicsSettings, ForceFieldName, SystemSettings
from cgbench.generate.simulate import Engine
from cgbench.generate.structures import (
    from_pdb,
    from_sequence,
    in_order_of,
    read_pdb,
    write_pdb,
)
from cgbench.generate.system import (
    alpha_carbons,
    bonded_hydrogens,
    build_system,
    masses,
    protein_atoms,
    rigid_groups,
)

SYSTEM, DYNAMICS = SystemSettings(), DynamicsSettings()


@pytest.mark.data
def test_the_default_settings_are_those_of_the_sample(chignolin_dir: Path) -> None:
    """Forces of the sample's own all-atom frames, computed anew."""
    structure = read_pdb(chignolin_dir / "topology_all_atom.pdb")
    system = build_system(structure.topology, SYSTEM)
    engine = Engine(system, DYNAMICS, seed=1, platform="Reference")
    with np.load(chignolin_dir / "all_atom_example.npz") as frames:
        for number, frame in ((0, 0), (2, 250)):
            engine.set_positions(frames[f"coords_{number}"][frame])
            stored = frames[f"forces_{number}"][frame]
            # The stored coordinates are rounded to single precision, and bonds are stiff.
            np.testing.assert_allclose(engine.state().forces, stored, atol=0.02)
    assert system.getNumConstraints() == 73
    found = masses(system)
    assert sorted({round(m, 1) for m in found[list(bonded_hydrogens(structure.topology)[4])]}) == [
        4.0
    ]


@pytest.mark.data
def test_chains_have_the_atoms_of_the_sample_in_its_order(chignolin_dir: Path) -> None:
    kept = read_pdb(chignolin_dir / "topology_all_atom.pdb")
    built = from_sequence("YYDPETGTWY", SYSTEM, seed=1)

    def names(topology: object) -> list[tuple[int, str]]:
        return [(atom.residue.index, atom.name) for atom in topology.atoms()]  # type: ignore[attr-defined]

    assert names(built.topology) == names(kept.topology)
    again = from_sequence("YYDPETGTWY", SYSTEM, seed=1)
    np.testing.assert_array_equal(built.positions, again.positions)


@pytest.mark.parametrize("force_field", ["amber99sbildn-obc", "amber14-gbn2", "amber14-obc2"])
@pytest.mark.parametrize(("platform", "tolerance"), [("Reference", 1e-10), ("CPU", 1e-5)])
def test_copies_do_not_see_each_other(
    force_field: ForceFieldName, platform: str, tolerance: float
) -> None:
    settings = SystemSettings(force_field=force_field)
    chain = from_sequence("AGSKEG", settings, seed=1)
    generator = np.random.default_rng(2)
    positions = chain.positions + 0.05 * generator.normal(size=(5, *chain.positions.shape))
    positions += 200 * generator.normal(size=(5, 1, 3))
    alone = Copies(chain.topology, settings, DYNAMICS, n_copies=1, seed=1, platform="Reference")
    expected, energies = [], []
    for one in positions:
        alone.set_positions(one[None])
        _, forces, energy = alone.state()
        expected.append(forces[0])
        assert energy is not None
        energies.append(energy)
    totals = []
    for n_copies in (2, 5):
        together = Copies(
            chain.topology, settings, DYNAMICS, n_copies=n_copies, seed=1, platform=platform
        )
        together.set_positions(positions[:n_copies])
        kept, forces, _ = together.state()
        np.testing.assert_allclose(kept, positions[:n_copies], atol=1e-4)
        scale = np.abs(expected[:n_copies]).max()
        assert np.abs(forces - expected[:n_copies]).max() < tolerance * scale
        totals.append(together.engine.state().energy)
    # The energy is that of the copies alone but for a constant of each, that of the cutoff.
    constant = (totals[0] - sum(energies[:2])) / 2
    assert totals[1] - 5 * constant == pytest.approx(sum(energies), rel=max(tolerance, 1e-9))


def test_copies_that_drift_are_put_back() -> None:
    chain = from_sequence("AGSA", SYSTEM, seed=1)
    copies = Copies(chain.topology, SYSTEM, DYNAMICS, n_copies=2, seed=1, platform="Reference")
    start = np.stack([chain.positions, chain.positions])
    copies.set_positions(start)
    moved = copies.engine.state().positions.reshape(start.shape)
    moved[0] += np.array([copies.cutoff * 0.65, 0.0, 0.0])
    copies.engine.set_positions(moved.reshape(-1, 3))
    first = copies.state()[0]
    # The trajectory goes on without a jump, although the copy is back at its place.
    shift = np.broadcast_to([copies.cutoff * 0.65, 0.0, 0.0], start[0].shape)
    np.testing.assert_allclose(first[0] - start[0], shift, atol=1e-9)
    np.testing.assert_allclose(copies.state()[0], first, atol=1e-6)
    placed = copies.engine.state().positions.reshape(start.shape)
    distance = np.linalg.norm(placed[0].mean(axis=0) - placed[1].mean(axis=0))
    assert distance == pytest.approx(2.4 * longest_extent(4), rel=1e-6)


def test_no_pair_of_a_stretched_chain_is_beyond_the_cutoff() -> None:
    chain = from_sequence("RRRRRRRRRR", SYSTEM, seed=1)
    extent = np.linalg.norm(chain.positions[:, None] - chain.positions[None], axis=2).max()
    assert extent < longest_extent(10)


def test_copies_have_limits() -> None:
    with pytest.raises(UsageError, match="implicit"):
        check_copies(2, 10, SystemSettings(force_field="amber14-tip3p"))
    with pytest.raises(UsageError, match="too many"):
        check_copies(10**6, 10, SYSTEM)
    check_copies(1000, 10, SYSTEM)


def test_structures_with_gaps_in_their_atoms_are_completed(tmp_path: Path) -> None:
    chain = from_sequence("AHSKA", SYSTEM, seed=1)
    lines = write_pdb(chain).splitlines(keepends=True)
    gone = {("CD", "LYS"), ("CE", "LYS"), ("NZ", "LYS"), ("OXT", "ALA")}
    kept = [
        line
        for line in lines
        if line.startswith("ATOM")
        and (line[12:16].strip(), line[17:20]) not in gone
        and line[76:78].strip() != "H"
    ]
    water = "HETATM 9000  O   HOH A 900      50.000  50.000  50.000  1.00  0.00           O  \n"
    path = tmp_path / "gaps.pdb"
    path.write_text("".join([*kept, water, "END\n"]))
    found = from_pdb(path, SYSTEM, Selection(sequence="AHSKA"), seed=1)
    assert found.sequence == "AHSKA"
    assert found.left_out == ("water",)
    whole = from_sequence("AHSKA", SYSTEM, seed=1, variants=found.variants)
    positions = in_order_of(found, whole.topology, path)
    backbone = alpha_carbons(whole.topology)
    np.testing.assert_allclose(positions[backbone], chain.positions[backbone], atol=1e-3)
    build_system(found.topology, SYSTEM)
    assert len(protein_atoms(found.topology)) == found.topology.getNumAtoms()


def test_structures_that_are_refused(tmp_path: Path) -> None:
    chain = from_sequence("AGSA", SYSTEM, seed=1)
    text = write_pdb(chain)
    path = tmp_path / "x.pdb"

    def refused(content: str, error: type[Exception], match: str, **selection: object) -> None:
        path.write_text(content)
        with pytest.raises(error, match=match):
            from_pdb(path, SYSTEM, Selection(**selection), seed=1)  # type: ignore[arg-type]

    refused(text.replace("SER A", "NLE A"), UsageError, "NLE")
    refused(text, ValidationError, "not the residues", sequence="AGAA")
    refused(text, ValidationError, "no atoms", chain="Z")
    refused(text.replace("GLY A", "GLY B"), UsageError, "which chain")
    without = "".join(
        line for line in text.splitlines(keepends=True) if line[17:20] not in ("GLY", "SER")
    )
    refused(without, ValidationError, "missing between")
    refused("not a structure\n", ValidationError, "no atoms")
    with pytest.raises(UsageError, match="no such file"):
        from_pdb(tmp_path / "none.pdb", SYSTEM, Selection(), seed=1)


def test_residues_are_substituted_where_the_registry_says_so(tmp_path: Path) -> None:
    chain = from_sequence("AGSA", SYSTEM, seed=1)
    path = tmp_path / "x.pdb"
    path.write_text(write_pdb(chain))
    selection = Selection(sequence="AGTA", substitutions=("S3T",))
    assert from_pdb(path, SYSTEM, selection, seed=1).sequence == "AGTA"


def test_sequences_that_are_refused() -> None:
    with pytest.raises(UsageError, match="norleucine at position 2"):
        from_sequence("AXAA", SYSTEM, seed=1)
    with pytest.raises(UsageError, match="too short"):
        from_sequence("AGA", SYSTEM, seed=1)
    with pytest.raises(ValidationError, match="not the atoms"):
        in_order_of(
            from_sequence("AGSA", SYSTEM, seed=1),
            from_sequence("AGAA", SYSTEM, seed=1).topology,
            "x",
        )


def test_heavy_atoms_are_rigid_with_their_hydrogens() -> None:
    topology = from_sequence("AGSA", SYSTEM, seed=1).topology
    groups = rigid_groups(topology)
    for heavy, hydrogens in bonded_hydrogens(topology).items():
        assert set(groups[list(hydrogens)]) <= {groups[heavy]}
    n_heavy = len(bonded_hydrogens(topology))
    assert len(np.unique(groups)) == n_heavy


def test_divergence_is_an_error() -> None:
    chain = from_sequence("AGSA", SYSTEM, seed=1)
    engine = Engine(build_system(chain.topology, SYSTEM), DYNAMICS, seed=1, platform="Reference")
    engine.set_positions(np.zeros_like(chain.positions))
    with pytest.raises(SimulationError, match="diverged"):
        engine.state()
    engine.set_positions(chain.positions * 0.3)

    def integrate() -> None:
        engine.step(500)
        engine.state()

    with pytest.raises(SimulationError, match="diverged"):
        integrate()
