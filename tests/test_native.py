"""Native structures from entries of the Protein Data Bank: the right atoms, or a clear error."""

from pathlib import Path

import numpy as np
import pytest

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError, ValidationError
from cgbench.evaluate.native import read_native
from cgbench.ingest.native import extract_native, is_ours, mutations, write_native
from cgbench.ingest.variants import extract_variant

#: Proteins whose whole entry is at hand.
WHOLE = ("chignolin", "trpcage", "bba", "villin", "bbl", "proteing", "a3d", "lambda")
CHIGNOLIN = registry.system("chignolin")
NAMES = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}


def atom(
    serial: int,
    residue: str,
    chain: str,
    number: int,
    position: tuple[float, float, float],
    *,
    insertion: str = " ",
    alternative: str = " ",
    occupancy: float = 1.0,
    record: str = "ATOM",
    name: str = " CA ",
) -> str:
    """A line of coordinates in the columns of the format."""
    x, y, z = position
    return (
        f"{record:<6}{serial:5d} {name}{alternative}{residue:>3} {chain}{number:4d}{insertion}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0.0:6.2f}          {'C':>2}"
    )


def chain_lines(
    sequence: str = CHIGNOLIN.sequence, chain: str = "A", first: int = 1, shift: float = 0.0
) -> list[str]:
    """A straight chain with a step of 3.8 Å."""
    return [
        atom(bead + 1, NAMES[letter], chain, first + bead, (3.8 * bead, shift, 0.0))
        for bead, letter in enumerate(sequence)
    ]


def entry(folder: Path, lines: list[str], *, pdb_id: str = "5AWL", end: bool = True) -> Path:
    header = f"HEADER    DE NOVO PROTEIN{'':25}05-JUL-15   {pdb_id}"
    path = folder / f"{pdb_id}.pdb"
    path.write_text("\n".join([header, *lines, *(["END"] if end else []), ""]))
    return path


def alpha_carbons(path: Path) -> np.ndarray:
    lines = [line for line in path.read_text().splitlines() if line.startswith("ATOM")]
    return np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in lines])


@pytest.mark.data
@pytest.mark.parametrize("key", WHOLE)
def test_whole_entries_give_the_known_alpha_carbons(
    key: str, published_dir: Path, tmp_path: Path
) -> None:
    system = registry.system(key)
    pdb_id = system.native.pdb_id
    beads = extract_native(published_dir / "native" / "full" / f"{pdb_id}.pdb", system)
    known = alpha_carbons(published_dir / "native" / f"{system.published_key}_{pdb_id}_ca.pdb")
    np.testing.assert_allclose(beads.coordinates, known, atol=1e-3)
    write_native(tmp_path / f"{key}.pdb", beads)
    read = read_native(tmp_path / f"{key}.pdb", system.sequence)
    np.testing.assert_allclose(read, known, atol=1e-3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("key", "name"),
    [("homeodomain-1P7I", "1P7I.pdb"), ("proteinb-1GAB", "1GAB_model1_ca.pdb")],
)
def test_mutants_at_hand(key: str, name: str, published_dir: Path, tmp_path: Path) -> None:
    mutant = registry.mutant(key)
    path = published_dir / "mutants" / name
    beads = extract_native(path, mutant)
    assert mutant.native is not None
    assert beads.chain == mutant.native.chain
    assert beads.sequence == mutant.sequence
    parent = registry.system(mutant.parent)
    assert mutations(parent.sequence, beads.sequence) == mutant.mutations
    write_native(tmp_path / "native.pdb", beads)
    read = read_native(tmp_path / "native.pdb", beads.sequence)
    np.testing.assert_allclose(read, beads.coordinates, atol=1e-3)
    # A mutant of which the registry knows nothing yet is found by itself, in the same chain.
    unknown = mutant.model_copy(update={"native": None, "sequence": None, "mutations": None})
    found = extract_variant(path, unknown).beads
    assert (found.chain, found.sequence) == (beads.chain, mutant.sequence)
    np.testing.assert_array_equal(found.coordinates, beads.coordinates)


@pytest.mark.data
def test_the_wild_type_is_not_taken_for_the_native_entry(published_dir: Path) -> None:
    with pytest.raises(IntegrityError, match="another entry"):
        extract_native(published_dir / "native" / "full" / "2HBB.pdb", registry.system("ntl9"))


@pytest.mark.data
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_entry_is_refused(fraction: float, published_dir: Path, tmp_path: Path) -> None:
    whole = (published_dir / "native" / "full" / "5AWL.pdb").read_bytes().rstrip()
    path = tmp_path / "5AWL.pdb"
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(IntegrityError, match=r"5AWL\.pdb: truncated"):
        extract_native(path, CHIGNOLIN)


def test_substitutions_are_undone_for_the_check_and_written_as_simulated(tmp_path: Path) -> None:
    system = registry.system("proteinb")
    letters = list(system.sequence)
    assert (letters[4], letters[38]) == ("I", "V")
    letters[4], letters[38] = "K", "K"
    path = entry(tmp_path, chain_lines("".join(letters), first=7), pdb_id="1PRB")
    beads = extract_native(path, system)
    write_native(tmp_path / "native.pdb", beads)
    assert read_native(tmp_path / "native.pdb", system.sequence).shape == (47, 3)
    text = (tmp_path / "native.pdb").read_text()
    assert "RESIDUE 11 IS LYS IN THE ENTRY" in text
    assert is_ours(tmp_path / "native.pdb")
    # The simulated sequence itself is not what the entry holds.
    with pytest.raises(ValidationError, match="residue 11 of chain A is not that of bead 5"):
        extract_native(
            entry(tmp_path, chain_lines(system.sequence, first=7), pdb_id="1PRB"), system
        )


def test_the_highest_occupancy_is_taken_and_of_equal_ones_the_first_letter(tmp_path: Path) -> None:
    lines = chain_lines()
    lines[2:3] = [
        atom(3, "ASP", "A", 3, (7.0, 1.0, 0.0), alternative="A", occupancy=0.3),
        atom(3, "ASP", "A", 3, (7.6, 2.0, 0.0), alternative="B", occupancy=0.7),
    ]
    lines[-1:] = [
        atom(9, "TYR", "A", 10, (34.2, 2.0, 0.0), alternative="B", occupancy=0.5),
        atom(9, "TYR", "A", 10, (34.2, 1.0, 0.0), alternative="A", occupancy=0.5),
    ]
    places = extract_native(entry(tmp_path, lines), CHIGNOLIN).coordinates
    assert places[2].tolist() == [7.6, 2.0, 0.0]
    assert places[9].tolist() == [34.2, 1.0, 0.0]


def test_only_the_chosen_model_and_chain_count(tmp_path: Path) -> None:
    blocks = []
    for model in (1, 2):
        shift = 10.0 * model
        blocks += [f"MODEL     {model:4d}", *chain_lines(chain="B", shift=shift + 5)]
        blocks += ["TER", *chain_lines(shift=shift), "TER", "ENDMDL"]
    path = entry(tmp_path, blocks)
    assert extract_native(path, CHIGNOLIN).coordinates[:, 1].tolist() == [10.0] * 10
    second = CHIGNOLIN.native.model_copy(update={"model": 2})
    system = CHIGNOLIN.model_copy(update={"native": second})
    assert extract_native(path, system).coordinates[:, 1].tolist() == [20.0] * 10
    third = CHIGNOLIN.native.model_copy(update={"model": 3})
    with pytest.raises(ValidationError, match="no Cα atom in model 3"):
        extract_native(path, CHIGNOLIN.model_copy(update={"native": third}))


def test_modified_residues_count_and_what_follows_the_chain_does_not(tmp_path: Path) -> None:
    system = registry.system("villin")
    lines = chain_lines(system.sequence, first=42)
    assert "NLE" in lines[23]
    lines[23] = lines[23].replace("ATOM  ", "HETATM", 1)
    lines[11] = lines[11].replace("ATOM  ", "HETATM", 1).replace("MET", "MSE")
    ligand = atom(99, "ALA", "A", 50, (0.0, 9.0, 0.0), record="HETATM")
    calcium = atom(98, "CA", "A", 77, (0.0, 9.0, 9.0), record="HETATM", name="CA  ")
    path = entry(tmp_path, [*lines, f"TER{'':18}A", ligand, calcium], pdb_id="2F4K")
    beads = extract_native(path, system)
    assert "".join(one.letter for one in beads.residues) == system.sequence


def test_an_unlisted_modification_counts_as_what_the_entry_says(tmp_path: Path) -> None:
    lines = chain_lines()
    lines[8] = lines[8].replace("TRP", "HTR").replace("ATOM  ", "HETATM", 1)
    with pytest.raises(ValidationError, match="bead 9"):
        extract_native(entry(tmp_path, lines), CHIGNOLIN)
    record = "MODRES 5AWL HTR A    9  TRP  BETA-HYDROXYTRYPTOPHANE"
    beads = extract_native(entry(tmp_path, [record, *lines]), CHIGNOLIN)
    assert beads.residues[8].letter == "W"


def test_inserted_residues_are_residues(tmp_path: Path) -> None:
    lines = chain_lines()
    # 1, 2, 3, 3A, 5 …: ten residues, one of them an insertion.
    lines[3] = atom(4, "PRO", "A", 3, (11.4, 0.0, 0.0), insertion="A")
    beads = extract_native(entry(tmp_path, lines), CHIGNOLIN)
    assert [one.label for one in beads.residues][:5] == ["1", "2", "3", "3A", "5"]
    write_native(tmp_path / "native.pdb", beads)
    assert read_native(tmp_path / "native.pdb", CHIGNOLIN.sequence).shape == (10, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:4] + lines[5:], "without 5"),
        (lambda lines: [line.replace(" A ", " B ") for line in lines], "no chain A"),
        (lambda lines: [*lines[:4], lines[4].replace("GLU", "ALA"), *lines[5:]], "bead 5 of"),
        (lambda lines: [line[:30] for line in lines], "line 2 cannot be parsed"),
        (lambda lines: [*lines[:4], lines[4].replace("15.200", "   nan"), *lines[5:]], "line 6"),
        (lambda lines: [*lines[:4], lines[4].replace("15.200", "16.900"), *lines[5:]], "neighb"),
        (lambda lines: [line.replace(" CA ", " CB ") for line in lines], "no Cα atom"),
    ],
    ids=["missing", "chain", "sequence", "short", "nan", "gap", "no Cα"],
)
def test_a_wrong_entry_is_refused(change: object, message: str, tmp_path: Path) -> None:
    lines = change(chain_lines())  # type: ignore[operator]
    with pytest.raises(CgbenchError, match=message) as caught:
        extract_native(entry(tmp_path, lines), CHIGNOLIN)
    assert "5AWL.pdb" in caught.value.what


def test_a_mutant_that_is_much_shorter_than_its_parent_is_refused(tmp_path: Path) -> None:
    mutant = registry.mutant("homeodomain-1P7J")
    parent = registry.system("homeodomain")
    lines = chain_lines(parent.sequence[3:], first=6)
    path = entry(tmp_path, lines, pdb_id="1P7J")
    with pytest.raises(ValidationError, match="no chain of 1P7J") as caught:
        extract_variant(path, mutant)
    assert "--kind mutants" in str(caught.value.fix)
    with pytest.raises(ValidationError, match="does not say which residues"):
        extract_native(path, mutant)


def test_a_mutant_with_a_gap_or_unlike_its_parent_is_refused(tmp_path: Path) -> None:
    mutant = registry.mutant("a3d-2MTQ")
    parent = registry.system("a3d")
    lines = chain_lines(parent.sequence)
    gap = lines[:30] + chain_lines(parent.sequence[30:], first=33, shift=8.0)
    with pytest.raises(ValidationError, match="not neighbours"):
        extract_variant(entry(tmp_path, gap, pdb_id="2MTQ"), mutant)
    other = chain_lines("G" * parent.n_beads)
    with pytest.raises(ValidationError, match="no chain of 2MTQ"):
        extract_variant(entry(tmp_path, other, pdb_id="2MTQ"), mutant)


def test_a_mutant_is_cut_to_its_parent_s_beads(tmp_path: Path) -> None:
    mutant = registry.mutant("a3d-2MTQ")
    parent = registry.system("a3d")
    changed = "C" + parent.sequence[1:]
    lines = chain_lines("AG" + changed + "KK", first=-1, chain="X")
    beads = extract_variant(entry(tmp_path, lines, pdb_id="2MTQ"), mutant).beads
    assert beads.sequence == changed
    assert beads.residues[0].number == 1
    assert mutations(parent.sequence, beads.sequence) == ("M1C",)
