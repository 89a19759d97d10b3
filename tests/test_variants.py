"""Variants read from their entries: aligned with the parent, extended, or refused with reasons."""

from pathlib import Path

import numpy as np
import pytest
from toy_mutants import ENTRIES, home_with_variants

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate.native import read_native
from cgbench.ingest.variant_alignment import align
from cgbench.ingest.variants import (
    Variant,
    extract_variant,
    read_variant,
    variant_path,
    write_variant,
)

#: A variant of which the registry knows the entry's name only.
MUTANT = registry.mutant("homeodomain-1P7J")
PARENT = registry.system("homeodomain").sequence
NAMES = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}


def helix(n_beads: int) -> np.ndarray:
    """A helix of Cα atoms: 100° and 1.5 Å a residue, 2.3 Å from the axis."""
    turn = np.radians(100.0) * np.arange(n_beads)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n_beads)], axis=1)


def entry(
    folder: Path, sequence: str, places: np.ndarray | None = None, first: int = 3, chain: str = "A"
) -> Path:
    """An entry of one chain."""
    places = helix(len(sequence)) if places is None else places
    lines = [f"HEADER    TRANSCRIPTION{'':27}05-MAY-03   1P7J"]
    for index, (letter, (x, y, z)) in enumerate(zip(sequence, places, strict=True)):
        lines.append(
            f"ATOM  {index + 1:5d}  CA  {NAMES[letter]} {chain}{first + index:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
        )
    path = folder / "1P7J.pdb"
    path.write_text("\n".join([*lines, "TER", "END", ""]))
    return path


@pytest.mark.parametrize(
    ("sequence", "mutations", "scored"),
    [
        (PARENT, (), (0, 54)),
        (PARENT[:49] + "E" + PARENT[50:], ("K50E",), (0, 54)),
        # What hangs over at the ends is no part of the parent.
        ("GSE" + PARENT + "KKS", (), (0, 54)),
        # One or two residues that the entry does not show are built on, not scored.
        (PARENT[:-2], (), (0, 52)),
        (PARENT[:-1], (), (0, 53)),
        (PARENT[2:], (), (2, 54)),
        (PARENT[1:-1], (), (1, 53)),
        (PARENT[1:49] + "E" + PARENT[50:-1], ("K50E",), (1, 53)),
    ],
)
def test_an_entry_is_aligned_with_its_parent(tmp_path, sequence, mutations, scored):
    found = extract_variant(entry(tmp_path, sequence), MUTANT)
    assert (found.variant.mutations, found.variant.scored_beads) == (mutations, scored)
    expected = list(PARENT)
    for one in mutations:
        expected[int(one[1:-1]) - 1] = one[-1]
    assert found.variant.sequence == "".join(expected)
    # A helix goes on as a helix: built beads are where the ideal ones would be.
    offset = sequence.find(PARENT[scored[0] : scored[0] + 20])
    ideal = helix(len(PARENT) + 10)
    turned = ideal[: len(PARENT)]
    built = found.beads.coordinates
    assert built.shape == (54, 3)
    moved = _superposed(built, turned)
    np.testing.assert_allclose(moved, turned, atol=0.05)
    assert offset >= 0
    steps = np.linalg.norm(np.diff(built, axis=0), axis=1)
    assert np.all((steps > 3.7) & (steps < 3.9))


def _superposed(coordinates, target):
    """Kabsch, without any code of the package."""
    a, b = coordinates - coordinates.mean(axis=0), target - target.mean(axis=0)
    left, _, right = np.linalg.svd(a.T @ b)
    hand = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return a @ left @ hand @ right + target.mean(axis=0)


@pytest.mark.parametrize(
    ("sequence", "mutations", "length"),
    [
        (PARENT[:20] + "G" + PARENT[20:], ("20_21insG",), 55),
        (PARENT[:20] + "GS" + PARENT[20:], ("20_21insG", "20_21insS"), 56),
        (PARENT[:20] + PARENT[21:], (f"{PARENT[20]}21del",), 53),
    ],
)
def test_true_insertions_and_deletions_stay(tmp_path, sequence, mutations, length):
    found = extract_variant(entry(tmp_path, sequence), MUTANT).variant
    assert found.sequence == sequence
    assert found.mutations == mutations
    assert found.scored_beads == (0, length)


@pytest.mark.parametrize(
    ("sequence", "told"),
    [
        (PARENT[:-3], "3 residues more or less"),
        ("A" * 54, "shares"),
        (PARENT[:20] + "GSG" + PARENT[20:], "3 residues more or less"),
    ],
)
def test_another_protein_is_refused_with_what_was_found(tmp_path, sequence, told):
    with pytest.raises(ValidationError, match="but for a few residues") as error:
        extract_variant(entry(tmp_path, sequence), MUTANT)
    assert told in error.value.found
    assert PARENT in error.value.expected
    assert error.value.fix is not None
    assert "--kind mutants" in error.value.fix


def test_a_gap_in_the_structure_is_no_deletion(tmp_path):
    places = helix(55)
    path = entry(tmp_path, PARENT[:20] + PARENT[21:], np.delete(places[:54], 20, axis=0))
    with pytest.raises(ValidationError, match="not neighbours"):
        extract_variant(path, MUTANT)


def test_a_known_variant_must_be_what_the_registry_says(tmp_path):
    known = registry.mutant("homeodomain-1P7I")
    path = entry(tmp_path, PARENT, chain="D")
    text = path.read_text().replace("1P7J", "1P7I")
    path = tmp_path / "1P7I.pdb"
    path.write_text(text)
    with pytest.raises(ValidationError, match="not that of bead 50"):
        extract_variant(path, known)


def test_alignment_against_brute_force():
    """Every way of leaving out one residue of a short parent, by hand."""
    parent = "ACDEFGHIKL"
    for cut in range(1, 9):
        _, pairs = align(parent, parent[:cut] + parent[cut + 1 :])
        assert [old for old, new in pairs if new is None] == [cut]
        assert [new for _, new in pairs if new is not None] == list(range(9))
    score, pairs = align(parent, "WW" + parent + "W")
    assert score == 20
    assert pairs == [(index, index + 2) for index in range(10)]


def test_what_was_read_is_kept_beside_the_structure(tmp_path):
    found = extract_variant(entry(tmp_path, PARENT[:-2]), MUTANT)
    write_variant(tmp_path / "native", found)
    assert read_variant(MUTANT.key, tmp_path) == found.variant
    places = read_native(tmp_path / "native" / f"{MUTANT.key}.pdb", found.variant.sequence)
    np.testing.assert_allclose(places, found.beads.coordinates, atol=1e-3)
    with pytest.raises(UsageError, match="no native structure here") as error:
        read_variant("bbl-1BAL", tmp_path)
    assert error.value.fix == "cgbench download bbl-1BAL --kind native"
    path = variant_path(MUTANT.key, tmp_path)
    path.write_text(path.read_text().replace("homeodomain-1P7J", "homeodomain-2HOS"))
    with pytest.raises(IntegrityError, match="another variant"):
        read_variant(MUTANT.key, tmp_path)


@pytest.mark.data
def test_variants_at_hand_are_those_of_the_registry(tmp_path, published_dir):
    home = home_with_variants(tmp_path, published_dir)
    for key in ENTRIES:
        known = registry.mutant(key)
        described = read_variant(key, home)
        assert described.sequence == known.sequence
        assert described.mutations == known.mutations
        # A structure from before there were descriptions, of a variant that the registry knows.
        variant_path(key, home).unlink()
        without = read_variant(key, home)
        same = {"entry_sha256": described.entry_sha256}
        assert Variant.model_validate(without.model_dump() | same) == described
