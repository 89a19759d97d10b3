"""Mean forces at real frames of CLN025."""

from pathlib import Path

import numpy as np
import pytest

from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps import constraint_groups
from cgbench.generate.held import hold
from cgbench.generate.mean_force_run import frame_numbers, mean_forces_of_raw
from cgbench.generate.mean_force_set import MeanForceSettings, read_mean_forces
from cgbench.generate.records import Machine
from cgbench.generate.settings import DynamicsSettings, SystemSettings
from cgbench.generate.structures import read_pdb
from cgbench.generate.system import alpha_carbons, build_system

openmm = pytest.importorskip("openmm")

QUICK = MeanForceSettings(
    dynamics=DynamicsSettings(friction=1.0, timestep=0.004, frame_interval=0.04),
    copies=2,
    heating=0.04,
    equilibration=0.04,
    sampling=0.16,
    blocks=2,
)
ONE_THREAD = Machine(platform="CPU", threads=1)


@pytest.mark.data
def test_frames_of_the_sample(chignolin_dir: Path, tmp_path: Path) -> None:
    found = mean_forces_of_raw(
        chignolin_dir, 2, tmp_path, system=SystemSettings(), settings=QUICK, machine=ONE_THREAD
    )
    stored = np.load(chignolin_dir / "chignolin_ca_coords.npy", mmap_mode="r")
    np.testing.assert_array_equal(found.coordinates.astype(np.float32), stored[found.frames])
    # Trajectories 2, 9, 17 and 20 of the sample are the ones with all atoms.
    assert set(found.frames // 500) <= {2, 9, 17, 20}
    assert found.record.drift < 1e-5
    assert found.record.force_map == "optimal"
    assert found.record.failed == ()
    assert np.abs(found.mean_forces).max() < 100
    np.testing.assert_array_equal(read_mean_forces(tmp_path).mean_forces, found.mean_forces)


@pytest.mark.data
def test_glycine_alone_gets_a_correction(chignolin_dir: Path) -> None:
    topology = read_pdb(chignolin_dir / "topology_all_atom.pdb").topology
    system, sites = build_system(topology, SystemSettings()), alpha_carbons(topology)
    held = hold(system, sites, 350.0)
    corrections = [one for one in held.getForces() if isinstance(one, openmm.CustomAngleForce)]
    assert [one.getNumAngles() for one in corrections] == [1]
    atoms = list(topology.atoms())
    members = corrections[0].getAngleParameters(0)[:3]
    assert [atoms[i].residue.name for i in members] == ["GLY"] * 3
    assert atoms[members[1]].name == "CA"
    np.testing.assert_array_equal(constraint_groups(held), constraint_groups(system))


@pytest.mark.data
def test_errors(chignolin_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which force field"):
        mean_forces_of_raw(chignolin_dir, 2, tmp_path)
    with pytest.raises(UsageError, match="no water"):
        mean_forces_of_raw(
            chignolin_dir, 2, tmp_path, system=SystemSettings(force_field="amber14-tip3p")
        )
    with pytest.raises(UsageError, match="too few"):
        mean_forces_of_raw(chignolin_dir, 2001, tmp_path, system=SystemSettings())
    with pytest.raises(UsageError, match=r"no topology_all_atom\.pdb"):
        mean_forces_of_raw(tmp_path, 2, tmp_path / "out", system=SystemSettings())


def test_frames_are_found_by_their_coordinates() -> None:
    frames = np.random.default_rng(0).normal(size=(20, 4, 3)).astype(np.float32)
    frames[7] = frames[3]
    assert frame_numbers(frames[[5, 7, 0]], frames, "raw").tolist() == [5, 3, 0]
    with pytest.raises(ValidationError, match="1 of 2"):
        frame_numbers(np.stack([frames[0], frames[0] + 1e-3]), frames, "raw")
