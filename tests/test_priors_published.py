"""The published force field and topologies, and TorchMD's numbers for them."""

from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.priors import Prior, chain_topology, read_psf, read_published_prior
from cgbench.registry import System

GOLDEN = Path(__file__).parent / "golden" / "priors_torchmd.npz"
PROTEINS = [one for one in registry.systems() if one.published_key is not None]
#: Agreement is at rounding; a constant or a missing pair shows far above this.
BOUND = 1e-10

per_protein = pytest.mark.parametrize("protein", PROTEINS, ids=lambda one: str(one.key))


def start_frames(folder: Path, protein: System) -> torch.Tensor:
    name = f"{protein.published_key}_kcenters_32clusters_coords.xtc"
    with mdtraj.formats.XTCTrajectoryFile(str(folder / "starting_frames" / name)) as file:
        nanometres = file.read()[0]
    return torch.tensor(nanometres.astype(np.float64) * 10.0)


def check_against_golden(prior: Prior, pos: torch.Tensor, name: str) -> None:
    with np.load(GOLDEN) as golden:
        terms = golden["terms"].tolist()
        energies = golden[f"{name}/energies"]
        forces = golden[f"{name}/forces"]
    assert energies.shape == (len(pos), 3)
    by_term = prior.energies_by_term(pos)
    for index, term in enumerate(terms):
        np.testing.assert_allclose(by_term[term].numpy(), energies[:, index], rtol=BOUND)
    total, found = prior.energy_forces(pos)
    np.testing.assert_allclose(total.numpy(), energies.sum(1), rtol=BOUND)
    error = np.linalg.norm(found[: len(forces)].numpy() - forces, axis=(1, 2))
    assert (error / np.linalg.norm(forces, axis=(1, 2))).max() < BOUND
    # Rounding the positions themselves moves stiff bonds; it is no error of the evaluation.
    rounded = pos.float()
    single, single_forces = prior.energy_forces(rounded)
    double, double_forces = prior.energy_forces(rounded.double())
    np.testing.assert_allclose(single.numpy(), double.numpy(), rtol=1e-5)
    assert (single_forces - double_forces).norm() / double_forces.norm() < 1e-5


def test_a_made_up_chain_equals_torchmd(tmp_path: Path) -> None:
    with np.load(GOLDEN) as golden:
        (tmp_path / "made_up.yaml").write_text(str(golden["synthetic/force_field"]))
        (tmp_path / "made_up.psf").write_text(str(golden["synthetic/topology"]))
        pos = torch.tensor(golden["synthetic/positions"])
    beads = registry.bead_vocabulary()
    topology = read_psf(tmp_path / "made_up.psf")
    types = beads.types(beads.sequence(topology.residues))
    prior = Prior(read_published_prior(tmp_path / "made_up.yaml"), types)
    bonds, dihedrals = chain_topology(len(types))
    assert np.array_equal(topology.bonds, bonds)
    assert np.array_equal(topology.dihedrals, dihedrals)
    check_against_golden(prior, pos, "synthetic")


def test_the_golden_file_says_what_made_it_and_is_small() -> None:
    with np.load(GOLDEN) as golden:
        assert "torchmd 1.1.2" in golden["versions"].tolist()
        assert set(golden["proteins"].tolist()) == {one.published_key for one in PROTEINS}
    assert GOLDEN.stat().st_size < 2**20


@pytest.mark.data
@per_protein
def test_published_start_frames_equal_torchmd(published_dir: Path, protein: System) -> None:
    parameters = read_published_prior(published_dir / "prior_force_field.yaml")
    prior = Prior(parameters, protein.bead_types)
    check_against_golden(prior, start_frames(published_dir, protein), str(protein.published_key))


@pytest.mark.data
@per_protein
def test_the_chain_of_a_sequence_is_the_published_topology(
    published_dir: Path, protein: System
) -> None:
    topology = read_psf(published_dir / "topology" / f"{protein.published_key}.psf")
    bonds, dihedrals = chain_topology(protein.n_beads)
    assert np.array_equal(topology.bonds, bonds)
    assert np.array_equal(topology.dihedrals, dihedrals)
    beads = registry.bead_vocabulary()
    assert beads.sequence(topology.residues) == protein.sequence
    assert topology.types == tuple(beads.psf_types[number] for number in protein.bead_types)


@pytest.mark.data
def test_the_published_force_field_holds_every_pair_of_beads(published_dir: Path) -> None:
    parameters = read_published_prior(published_dir / "prior_force_field.yaml")
    types = [bead.type for bead in registry.bead_vocabulary().beads]
    for first in types:
        for second in types:
            assert parameters.bond(first, second).k > 0
    leucine, norleucine = registry.bead_vocabulary().types("LX")
    assert parameters.epsilon(norleucine) == parameters.epsilon(leucine)
    assert parameters.bond(norleucine, 1) == parameters.bond(leucine, 1)
    # Amplitudes are read as they are, never halved.
    assert [term.k for term in parameters.dihedral([1, 2, 3, 4])] == [0.202036165, 0.32990447]
    assert [term.gamma for term in parameters.dihedral([1, 2, 3, 4])] == [-130.5337, -97.9884]


@pytest.mark.data
def test_repulsion_of_native_lambda_counts_second_and_third_neighbours(published_dir: Path) -> None:
    """85 kcal/mol as in the reference work; without the 1-4 pairs it would be 58."""
    protein = registry.system("lambda")
    native = mdtraj.load(str(published_dir / "native" / "lambda_1LMB_ca.pdb"))
    pos = torch.tensor(native.xyz.astype(np.float64) * 10.0)
    parameters = read_published_prior(published_dir / "prior_force_field.yaml")
    repulsion = Prior(parameters, protein.bead_types).energies_by_term(pos)["repulsion"].item()
    assert repulsion == pytest.approx(85.0, abs=0.5)
    epsilon = np.array([parameters.epsilon(number) for number in protein.bead_types])
    distance = np.linalg.norm(pos[0, 3:] - pos[0, :-3], axis=-1)
    third = (4 * np.sqrt(epsilon[3:] * epsilon[:-3]) * distance**-6).sum()
    assert repulsion - third == pytest.approx(58.0, abs=0.5)


VALID = """
atomtypes: [CAA]
bonds:
  (CAA, CAA): {k0: 61.0, req: 3.83}
dihedrals:
  (X, X, X, X):
    terms:
      - {phi_k: 0.2, phase: -130.5, per: 1}
lj:
  CAA: {epsilon: 2296.0, sigma: 1.0}
"""


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (VALID.replace("lj:", "other:"), ValidationError, "lj: Field required"),
        (VALID.replace("sigma: 1.0", "sigma: 3.0"), ValidationError, "another length scale"),
        (VALID.replace("X, X, X, X", "CAA, X, X, X"), ValidationError, "another form"),
        (VALID.replace("k0: 61.0", "k0: much"), ValidationError, "k0"),
        (VALID.replace("{k0: 61.0", "[k0: 61.0"), IntegrityError, "cannot be parsed"),
        (VALID + "x: !!python/object/apply:os.getcwd []", IntegrityError, "cannot be parsed"),
    ],
)
def test_wrong_force_fields(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "force_field.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message) as caught:
        read_published_prior(path)
    assert str(path) in str(caught.value)


def test_a_small_force_field_serves_its_types_only(tmp_path: Path) -> None:
    path = tmp_path / "force_field.yaml"
    path.write_text(VALID)
    parameters = read_published_prior(path)
    Prior(parameters, [1, 1, 1, 1])
    with pytest.raises(ValidationError, match="GLY"):
        Prior(parameters, [1, 2])
    with pytest.raises(UsageError, match="no such file"):
        read_published_prior(tmp_path / "none.yaml")


@pytest.mark.parametrize("keep", [0.02, 0.4, 0.55, 0.75, 0.97])
def test_a_topology_that_is_cut_short(tmp_path: Path, keep: float) -> None:
    with np.load(GOLDEN) as golden:
        text = str(golden["synthetic/topology"]).split("\n\n       0 !NIMPHI")[0]
    path = tmp_path / "short.psf"
    path.write_text(text[: int(keep * len(text))])
    with pytest.raises(IntegrityError, match=r"short\.psf"):
        read_psf(path)


@pytest.mark.parametrize("wrong", ["14", "0", "one"])
def test_a_topology_with_an_index_of_no_bead(tmp_path: Path, wrong: str) -> None:
    with np.load(GOLDEN) as golden:
        text = str(golden["synthetic/topology"])
    path = tmp_path / "wrong.psf"
    path.write_text(text.replace("      12      13\n", f"      12{wrong:>8}\n", 1))
    with pytest.raises(IntegrityError, match="!NBOND"):
        read_psf(path)
