"""Structures of the site: the data of the viewer, what is drawn as what, and where they lie."""

import json
import re
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from toy_rows import bundle
from toy_site import HOSTILE, board

from cgbench.evaluate import geometry
from cgbench.evaluate.backmap import backbone
from cgbench.leaderboard.site import build_site, plots
from cgbench.leaderboard.site.structures import residue_kinds, structure_file
from cgbench.report import Structure, Structures


def atoms_of(entry: mdtraj.Trajectory) -> np.ndarray:
    """N, Cα, C and O of the first chain, in Å."""
    residues = [one for one in entry.topology.chain(0).residues if one.is_protein]
    found = [[atom.index for name in ("N", "CA", "C", "O") for atom in one.atoms_by_name(name)]
             for one in residues]  # fmt: skip
    return 10.0 * entry.xyz[0][np.array(found)]


@pytest.mark.data
@pytest.mark.parametrize("name", ["2A3D", "2HBB", "1MI0"])
def test_helices_and_strands_are_those_of_another_implementation(name, published_dir) -> None:
    entry = mdtraj.load(published_dir / "native" / "full" / f"{name}.pdb")
    chain = [atom.index for atom in entry.topology.chain(0).atoms if atom.residue.is_protein]
    entry = entry.atom_slice(chain)
    kinds = residue_kinds(atoms_of(entry))
    expected = "".join(mdtraj.compute_dssp(entry, simplified=True)[0])
    same = np.mean([one == two for one, two in zip(kinds, expected, strict=True)])
    assert same > 0.88, f"{kinds}\n{expected}"
    assert kinds.count("H") > 10 or kinds.count("E") > 10


def test_a_broken_chain_has_no_structure() -> None:
    line = np.cumsum(np.full((12, 4, 3), 1.5), axis=0)
    assert residue_kinds(line) == "C" * 12


def structures() -> Structures:
    found = bundle()
    native = backbone(found.native[None], found.sequence).reshape(1, -1, 3)
    other = backbone(found.macrostate_structures[:1], found.sequence).reshape(1, -1, 3)
    return Structures(
        found.sequence, True,
        [("0", [Structure("native", "native", native), Structure(HOSTILE, "model", other)])],
    )  # fmt: skip


def test_data_keep_the_shape_and_cannot_end_their_script() -> None:
    shown = structures()
    made = structure_file(
        "structures/x.js", "x", shown, plots.chain(bundle().native), names=[HOSTILE],
        texts={"0": HOSTILE},
    )  # fmt: skip
    assert "<" not in made.script
    text = re.fullmatch(
        r'\(window\.cgbenchStructures \|\|= \{\}\)\["(.*?)"\] = (.*);\n', made.script
    )
    data = json.loads(text[2])
    assert (text[1], made.key) == ("structures/x", "structures/x")
    (state,) = data["states"]
    assert (state["text"], state["items"][0]["name"]) == (HOSTILE, HOSTILE)

    def placed(packed: dict) -> np.ndarray:
        return np.array(packed["xyz"]).reshape(-1, 2, 3)[:, 0] / 100.0

    native = placed(data["native"])
    assert len(data["native"]["kinds"]) == len(native) == len(data["sequence"])
    # Turned as a whole, and no mirror image.
    before = bundle().native
    assert geometry.rmsd(native[None].astype(np.float32), before)[0] < 0.02
    mirrored = (native * [1, 1, -1])[None].astype(np.float32)
    assert geometry.rmsd(mirrored, before)[0] > 0.2
    spread = np.ptp(native, axis=0)
    assert spread[0] >= spread[1] >= spread[2] - 0.5
    both = [placed(data["native"]), placed(state["items"][0]["frames"][0])]
    frames = [item.frames[0].reshape(-1, 4, 3)[:, 1] for item in shown.macrostates[0][1]]
    assert np.allclose(
        np.linalg.norm(both[0] - both[1], axis=1),
        np.linalg.norm(frames[0] - frames[1], axis=1), atol=0.03,
    )  # fmt: skip


@pytest.mark.data
def test_native_structures_are_read_from_the_home_and_never_shipped(
    tmp_path, published_dir
) -> None:
    empty = board(0)
    native = tmp_path / "home" / "native"
    native.mkdir(parents=True)
    source: Path = published_dir / "native" / "villin_2F4K_ca.pdb"
    (native / "villin.pdb").write_bytes(source.read_bytes())
    # Another file of that name is no reason to have no site.
    (native / "bba.pdb").write_bytes(source.read_bytes())
    out = build_site(empty, tmp_path / "site", home=tmp_path / "home").folder
    page = (out / "proteins" / "villin.html").read_text()
    assert 'data-structures="../structures/proteins/villin.js"' in page
    assert "HHHHH" in (out / "structures" / "proteins" / "villin.js").read_text()
    assert not (out / "structures" / "proteins" / "bba.js").exists()
    # Taken away again, it is gone from the site that is built next, which says how to get it.
    build_site(empty, tmp_path / "site", home=tmp_path / "nothing")
    page = (out / "proteins" / "villin.html").read_text()
    assert "cgbench download villin --kind native" in page
    assert "data-structures" not in page
    assert not (out / "structures" / "proteins" / "villin.js").exists()
