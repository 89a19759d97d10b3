"""Explicit solvent: a peptide in a box of water."""

from pathlib import Path

import numpy as np
import pytest
from toy_peptide import ONE_THREAD, settings, source

from cgbench.errors import UsageError
from cgbench.generate.campaign import Budget, generate
from cgbench.generate.mean_force_run import mean_forces_of_raw
from cgbench.generate.settings import SystemSettings
from cgbench.generate.structures import from_sequence, solvate
from cgbench.generate.system import build_system, protein_atoms

SMALL = SystemSettings(force_field="amber14-tip3p", padding=7.0, cutoff=7.0)


def test_the_box_is_neutral_and_the_peptide_comes_first() -> None:
    chain = from_sequence("AKSA", SMALL, seed=1)
    wet = solvate(chain, SMALL, seed=1)
    n_atoms = chain.topology.getNumAtoms()
    np.testing.assert_array_equal(protein_atoms(wet.topology), np.arange(n_atoms))
    moved = wet.positions[:n_atoms] - chain.positions
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-6)
    system = build_system(wet.topology, SMALL)
    charges = next(f for f in system.getForces() if type(f).__name__ == "NonbondedForce")
    total = sum(charges.getParticleParameters(i)[0]._value for i in range(system.getNumParticles()))
    assert total == pytest.approx(0.0, abs=1e-4)
    names = {residue.name for residue in wet.topology.residues()}
    assert {"HOH", "CL"} <= names
    assert solvate(chain, SMALL, seed=1).topology.getNumAtoms() == wet.topology.getNumAtoms()


def test_a_few_steps_in_water(tmp_path: Path) -> None:
    card = generate(
        settings(system=SMALL, equilibration=0.2, trajectory_length=0.04),
        source(native=False),
        tmp_path / "x",
        budget=Budget(trajectories=1),
        machine=ONE_THREAD,
    )
    assert card.n_finished == 1
    assert card.failures == ()
    forces = np.load(tmp_path / "x/peptide_ca_forces.npy")
    assert forces.shape == (2, 4, 3)
    assert np.isfinite(forces).all()
    assert "TIP3P" in (tmp_path / "x/README.md").read_text()
    with pytest.raises(UsageError, match="water"):
        mean_forces_of_raw(tmp_path / "x", 1, tmp_path / "held")
