"""The registry against the published files and the raw arrays of the sample."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import pdist

from cgbench import registry

PUBLISHED = [system for system in registry.systems() if system.published_key is not None]
by_key = pytest.mark.parametrize("system", PUBLISHED, ids=lambda system: system.key)


def psf_beads(path: Path) -> list[tuple[str, str]]:
    """Residue name and type of each bead of a psf file."""
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if "!NATOM" in line)
    count = int(lines[first].split()[0])
    rows = [line.split() for line in lines[first + 1 : first + 1 + count]]
    return [(row[3], row[5]) for row in rows]


def pdb_alpha_carbons(
    path: Path, chain: str | None = None, residues: tuple[int, int] | None = None, model: int = 1
) -> list[tuple[str, tuple[float, float, float]]]:
    """Residue name and position of each Cα, first alternative only."""
    atoms, current = [], 1
    for line in path.read_text().splitlines():
        if line.startswith("MODEL"):
            current = int(line.split()[1])
        if not line.startswith(("ATOM", "HETATM")) or line[12:16].strip() != "CA":
            continue
        if current != model or line[16] not in " A" or (chain and line[21] != chain):
            continue
        if residues and not residues[0] <= int(line[22:26]) <= residues[1]:
            continue
        position = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
        atoms.append((line[17:20].strip(), position))
    return atoms


def substituted(sequence: str, substitutions: tuple[str, ...]) -> str:
    letters = list(sequence)
    for substitution in substitutions:
        old, bead, new = substitution[0], int(substitution[1:-1]), substitution[-1]
        assert letters[bead - 1] == old, substitution
        letters[bead - 1] = new
    return "".join(letters)


@pytest.mark.data
@by_key
def test_sequences_and_bead_types_follow_from_the_psf(
    system: registry.System, published_dir: Path
) -> None:
    beads = psf_beads(published_dir / "topology" / f"{system.published_key}.psf")
    vocabulary = registry.bead_vocabulary()
    assert vocabulary.sequence(residue for residue, _ in beads) == system.sequence
    assert tuple(vocabulary.names[residue] for residue, _ in beads) == system.bead_types
    assert [vocabulary.psf_types[number] for number in system.bead_types] == [
        psf_type for _, psf_type in beads
    ]


@pytest.mark.data
@by_key
def test_natives_agree_bead_for_bead(system: registry.System, published_dir: Path) -> None:
    name = f"{system.published_key}_{system.native.pdb_id}_ca.pdb"
    beads = pdb_alpha_carbons(published_dir / "native" / name)
    assert len(beads) == system.n_beads
    experimental = registry.bead_vocabulary().sequence(residue for residue, _ in beads)
    assert substituted(experimental, system.substitutions) == system.sequence


@pytest.mark.data
@pytest.mark.parametrize(
    "key", ["chignolin", "trpcage", "bba", "villin", "bbl", "proteing", "a3d", "lambda"]
)
def test_chain_and_residues_find_the_native_in_the_whole_entry(
    key: str, published_dir: Path
) -> None:
    system = registry.system(key)
    native = system.native
    entry = published_dir / "native" / "full" / f"{native.pdb_id}.pdb"
    trace = published_dir / "native" / f"{system.published_key}_{native.pdb_id}_ca.pdb"
    found = pdb_alpha_carbons(entry, native.chain, native.residues, native.model or 1)
    expected = pdb_alpha_carbons(trace)
    assert [name for name, _ in found] == [name for name, _ in expected]
    # Superposition is tested elsewhere; distances need none.
    found_positions, expected_positions = (
        np.array([position for _, position in beads]) for beads in (found, expected)
    )
    np.testing.assert_allclose(pdist(found_positions), pdist(expected_positions), atol=0.01)


@pytest.mark.data
def test_the_sample_has_the_bead_types_and_length_of_its_arrays(chignolin_dir: Path) -> None:
    sample = registry.system("chignolin-sample")
    types = np.load(chignolin_dir / "chignolin_ca_embeddings.npy")
    assert sample.bead_types == tuple(types.tolist())
    native = pdb_alpha_carbons(chignolin_dir / "native_ca.pdb")
    names = registry.bead_vocabulary().sequence(residue for residue, _ in native)
    assert names == sample.sequence == registry.system("chignolin").sequence


@pytest.mark.data
def test_the_vocabulary_covers_the_published_force_field(published_dir: Path) -> None:
    text = (published_dir / "prior_force_field.yaml").read_text()
    # The keys of the file are tuples in YAML's eyes; only its first list is of interest.
    types = yaml.safe_load(text.partition("bonds:")[0])["atomtypes"]
    vocabulary = registry.bead_vocabulary()
    assert set(types) == set(vocabulary.psf_types.values())
    masses = re.findall(r"^  CA[A-Z]: ([0-9.]+)$", text.partition("masses:")[2], re.MULTILINE)
    assert len(masses) == len(types)
    assert {float(mass) for mass in masses} == {registry.constants().bead_mass}


def test_eleven_mutants_of_known_parents() -> None:
    mutants = registry.mutants()
    assert {(m.parent, m.pdb_id) for m in mutants} == {
        ("bbl", "1BAL"), ("proteinb", "1GAB"), ("proteinb", "2N35"), ("homeodomain", "1DU0"),
        ("homeodomain", "1P7I"), ("homeodomain", "1P7J"), ("homeodomain", "2HOS"),
        ("homeodomain", "6M3D"), ("a3d", "2MTQ"), ("lambda", "1LLI"), ("lambda", "3KZ3"),
    }  # fmt: skip
    assert len(mutants) == 11
    for mutant in mutants:
        parent = registry.system(mutant.parent)
        if mutant.sequence is not None:
            assert mutant.mutations is not None
            assert substituted(parent.sequence, mutant.mutations) == mutant.sequence
            registry.bead_vocabulary().types(mutant.sequence)


@pytest.mark.data
@pytest.mark.parametrize(
    ("key", "file"),
    [("homeodomain-1P7I", "1P7I.pdb"), ("proteinb-1GAB", "1GAB_model1_ca.pdb")],
)
def test_mutant_sequences_are_those_of_their_files(
    key: str, file: str, published_dir: Path
) -> None:
    mutant = registry.mutant(key)
    assert mutant.native is not None
    beads = pdb_alpha_carbons(
        published_dir / "mutants" / file, mutant.native.chain, mutant.native.residues
    )
    names = registry.bead_vocabulary().sequence(residue for residue, _ in beads)
    assert names == mutant.sequence
    assert mutant.scored_beads == (0, len(beads))
