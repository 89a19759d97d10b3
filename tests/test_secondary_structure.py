"""Native elements: regenerated, against DSSP, by hand; and how far frames are from them."""

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import mdtraj
import numpy as np
import pydantic
import pytest
from hypothesis import given
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.secondary_structure import (
    element_rmsd,
    find_elements,
    ladders,
    propensity,
)
from cgbench.evaluate.superposition import rmsd
from cgbench.registry import Element
from cgbench.registry.loader import DATA
from cgbench.testing.strategies import chains, random_chains, rotations, translations

Array = NDArray[Any]
ROOT = Path(__file__).parents[1]

#: Systems whose whole entry is at hand, and the least share of beads on which P-SEA and DSSP, each
#: reduced to helix, strand and neither, agree. P-SEA, made for Cα, misses two-residue bridges and
#: half of a helix of α3D.
AGREEMENT = {
    "chignolin": 0.8, "trpcage": 0.75, "bba": 0.8, "villin": 0.95, "bbl": 0.9, "proteing": 0.8,
    "a3d": 0.75, "lambda": 0.85,
}  # fmt: skip


def generator() -> ModuleType:
    path = ROOT / "benchmarks" / "secondary_structure.py"
    specification = importlib.util.spec_from_file_location("generate_secondary_structure", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.data
def test_the_registry_holds_what_its_command_writes(published_dir: Path) -> None:
    module = generator()
    found = {
        system.key: module.elements_of(published_dir / "native", system)
        for system in registry.systems()
    }
    written = (DATA / "secondary_structure.yaml").read_text(encoding="utf-8")
    # Another version of biotite may say the same.
    assert module.as_yaml(found).split("pairing:")[1] == written.split("pairing:")[1]


@pytest.mark.data
@pytest.mark.parametrize("key", AGREEMENT)
def test_annotations_agree_with_dssp(key: str, published_dir: Path) -> None:
    system = registry.system(key)
    expected = whole_entry_dssp(system, published_dir)
    found = registry.native_annotation(key).annotation.translate(str.maketrans("abc", "HEC"))
    same = np.mean([a == b for a, b in zip(found, expected, strict=True)])
    assert same >= AGREEMENT[key]
    # No helix is taken for a strand or the reverse.
    assert not any({a, b} == {"H", "E"} for a, b in zip(found, expected, strict=True))


@pytest.mark.data
@pytest.mark.parametrize("key", ["chignolin", "bba", "proteing"])
def test_pairs_of_strands_hold_those_of_dssp(key: str, published_dir: Path) -> None:
    expected = whole_entry_dssp(registry.system(key), published_dir)
    strands = {bead for bead, letter in enumerate(expected) if letter == "E"}
    pairs = [e for e in registry.secondary_structure(key) if e.kind == "strand pair"]
    inside = {bead for element in pairs for bead in element.indices}
    assert strands
    assert len(strands & inside) >= 0.8 * len(strands)


def whole_entry_dssp(system: registry.System, folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entry = mdtraj.load(folder / "native" / "full" / f"{system.native.pdb_id}.pdb")[0]
    first, last = system.native.residues or (0, 0)
    chosen = [
        residue.index
        for residue in entry.topology.residues
        if residue.chain.chain_id == system.native.chain
        and first <= residue.resSeq <= last
        and any(atom.name == "CA" for atom in residue.atoms)
    ]
    assert len(chosen) == system.n_beads
    return "".join(mdtraj.compute_dssp(entry, simplified=True)[0][chosen])


def test_every_system_has_elements() -> None:
    for system in registry.systems():
        elements = registry.secondary_structure(system.key)
        assert elements
        assert len({element.name for element in elements}) == len(elements)
        for element in elements:
            assert max(element.indices) < system.n_beads
    with pytest.raises(UsageError, match="did you mean"):
        registry.secondary_structure("proteinh")


def test_those_of_protein_g_are_the_published_ones() -> None:
    elements = registry.secondary_structure("proteing")
    assert [element.name for element in elements] == [
        "helix 22–36",
        "strands 0–7 with 12–19",
        "strands 41–45 with 49–53",
        "strands 0–7 with 49–53",
    ]
    assert {element.source for element in elements} == {"paper"}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "strand pair"},
        {"direction": "parallel"},
        {"beads": ((3, 3),)},
        {"beads": ((3, 6), (5, 9)), "kind": "strand pair", "direction": "parallel"},
        {"source": "memory"},
    ],
)
def test_impossible_elements_are_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "kind": "helix", "direction": None, "beads": ((0, 8),), "source": "P-SEA",
    }  # fmt: skip
    Element.model_validate(good)
    with pytest.raises(pydantic.ValidationError):
        Element.model_validate(good | change)


# Found by hand


def strand(n_beads: int, *, shift: float = 0.0, side: float = 0.0, turned: bool = False) -> Array:
    """Return an extended strand, 3.3 Å along for each bead, pleated out of the sheet's plane."""
    steps = np.arange(n_beads)
    beads = np.stack([3.3 * steps + shift, np.full(n_beads, side), 0.9 * (-1.0) ** steps], axis=1)
    return beads[::-1] if turned else beads


def loop(n_beads: int, start: Array, stop: Array) -> Array:
    """Return beads that go from one place to another far above the sheet, and not side by side."""
    share = np.linspace(0.0, 1.0, n_beads + 2)[1:-1, None]
    above = np.array([0.0, 0.0, 20.0]) * np.sin(np.pi * share)
    across = np.array([0.0, 20.0, 0.0]) * np.sin(2 * np.pi * share)
    return start + share * (stop - start) + above + across


@pytest.mark.parametrize(("direction", "side"), [("antiparallel", 5.0), ("parallel", 4.8)])
def test_two_strands_side_by_side_are_one_element(direction: str, side: float) -> None:
    one = strand(6)
    other = strand(6, side=side, turned=direction == "antiparallel")
    chain = np.concatenate([one, loop(12, one[-1], other[0]), other])
    (ladder,) = ladders(chain)
    assert ladder.direction == direction
    assert (ladder.first, ladder.second) == ((0, 6), (18, 24))
    assert ladder.mean_distance == pytest.approx(side, abs=0.01)
    annotation = "c" + "b" * 5 + "c" * 12 + "b" * 6
    (element,) = find_elements(chain, annotation)
    assert element.name == "strands 1–5 with 18–23"
    assert element.source == "P-SEA"
    # P-SEA's strands need not be there, and a helix is no strand.
    (element,) = find_elements(chain, "c" * 24)
    assert (element.beads, element.source) == (((0, 6), (18, 24)), "Cα pairs")
    found = find_elements(chain, "a" * 6 + "c" * 18)
    assert [element.kind for element in found] == ["helix"]
    # Strands that lie apart are no pair.
    far = np.concatenate([one, loop(12, one[-1], other[0]), strand(6, side=7.0)])
    assert ladders(far) == ()


def test_helices_have_no_ladders() -> None:
    turn = np.radians(100.0) * np.arange(40)
    helix = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(40)], axis=1)
    assert ladders(helix) == ()
    (element,) = find_elements(helix, "cc" + "a" * 36 + "cc")
    assert element.name == "helix 2–37"


def test_an_annotation_of_another_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="one letter for each bead"):
        find_elements(random_chains(1, 12, seed=0)[0], "c" * 11)


# Frames


def pair(*beads: tuple[int, int]) -> Element:
    return Element(kind="strand pair", direction="parallel", beads=beads, source="Cα pairs")


@given(chains(min_beads=10, max_beads=14), rotations(), translations())
def test_deviations_are_those_of_the_beads_alone(
    coords: Array, rotation: Array, shift: Array
) -> None:
    native = random_chains(1, coords.shape[1], seed=3)[0]
    helix = Element(kind="helix", direction=None, beads=((2, 7),), source="P-SEA")
    elements = [helix, pair((0, 3), (6, 10))]
    found = element_rmsd(coords, native, elements)
    np.testing.assert_allclose(found[:, 0], rmsd(coords[:, 2:7], native[2:7]))
    beads = [0, 1, 2, 6, 7, 8, 9]
    np.testing.assert_allclose(found[:, 1], rmsd(coords[:, beads], native[beads]))
    np.testing.assert_allclose(
        element_rmsd(coords @ rotation.T + shift, native, elements), found, atol=1e-3
    )


def test_strands_that_parted_are_far() -> None:
    native = np.concatenate([strand(6), strand(6, side=5.0, turned=True)])
    parted = native.copy()
    parted[6:] += [0.0, 6.0, 0.0]
    found = element_rmsd(np.stack([native, parted]), native, [pair((0, 6), (6, 12))])
    np.testing.assert_allclose(found[:, 0], [0.0, 3.0], atol=1e-5)


def test_propensities_are_weighted_fractions() -> None:
    deviations = np.array([[1.0, 3.0], [2.0, np.nan], [2.1, 0.5]])
    np.testing.assert_allclose(propensity(deviations, 2.0), [2 / 3, 1 / 3])
    np.testing.assert_allclose(propensity(deviations, 2.0, np.array([1.0, 0.0, 3.0])), [0.25, 0.75])
    assert np.isnan(propensity(deviations, 2.0, np.zeros(3))).all()
    with pytest.raises(ValidationError, match="do not fit"):
        propensity(deviations, 2.0, np.ones(4))


def test_elements_of_a_longer_chain_are_refused() -> None:
    frames = random_chains(2, 12, seed=4)
    with pytest.raises(ValidationError, match="over the end"):
        element_rmsd(frames, frames[0], [pair((0, 3), (9, 13))])
    assert element_rmsd(frames, frames[0], []).shape == (2, 0)
