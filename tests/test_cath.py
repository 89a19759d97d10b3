"""CATH lists, boundaries and splits: read, refused, and never shared between test and training."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_fuzz import survives
from toy_samplers import toy_domains, toy_structures
from typer.testing import CliRunner

from cgbench.cli.main import app
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.ingest.domains import find_files, read_chains, read_domains_of
from cgbench.ingest.mmcif import chains_of_mmcif
from cgbench.pipeline.structures import make_structure_split
from cgbench.splits.cath import DEPTH, Domain, Segment, read_boundaries, read_domains
from cgbench.splits.cath_split import divide, part_of, problems_of
from cgbench.splits.cath_structures import (
    Structure,
    StructureSet,
    open_structures,
    read_structures,
    write_structures,
)

LINE = "1oaiA00     1    10     8    10     1     1     1     1     1    59 1.000"

#: Codes are made up: no CATH list is at hand. They only have the form of real ones.
MADE_UP = """# made up for tests
1fmeA00 4 10 1 1 1 1 1 1 1 28 999.000
1lmb300 1 10 260 40 1 1 1 1 1 87 1.800
1mi0A00 3 10 20 10 1 1 1 1 1 61 1.850
2a3dA00 1 20 5 1 1 1 1 1 1 73 999.000
2f4kA00 1 10 10 1 1 1 1 1 1 35 1.050
2hbbA00 3 10 30 5 1 1 1 1 1 51 1.900
2wxcA00 1 10 10 2 1 1 1 1 1 47 999.000
5awlA00 4 10 1 2 1 1 1 1 1 10 1.110
9zzzA00 1 10 10 2 1 1 1 1 1 47 1.000
"""


def test_a_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.txt.gz"
    path.write_bytes(
        gzip.compress(f"# comment\n\n{LINE}\n1CUKA03 1 10 8 10 3 1 2 1 1 48 1.9\n".encode())
    )
    first, second = read_domains(path)
    assert first == Domain("1oaiA00", (1, 10, 8, 10), (1, 1, 1, 1), 59)
    assert (second.name, second.entry, second.chain) == ("1cukA03", "1cuk", "A")
    assert (first.whole_chain, second.whole_chain) == (True, False)
    assert second.node("T") == (1, 10, 8)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (LINE + "\n" + LINE, "repeats a domain"),
        (LINE[:40], "no line of a CATH list"),
        (LINE.replace("1oaiA00", "oai"), "no line of a CATH list"),
        (LINE.replace("  59", " x9"), "cannot be parsed"),
        (LINE.replace("1    10", "0    10"), "below one"),
        ("\xff" + LINE, "damaged"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError, match=error):
        read_domains(path)


def test_lists_that_are_empty_missing_or_cut(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_domains(tmp_path / "none")
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ValidationError, match="holds no domain"):
        read_domains(tmp_path / "empty")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress((LINE + "\n").encode())[:-12])
    with pytest.raises(IntegrityError, match="damaged"):
        read_domains(cut)


def test_boundaries_of_the_format_description(tmp_path: Path) -> None:
    path = tmp_path / "ranges.txt"
    path.write_text(
        "1chmA  D02 F00  1  A    2 - A  156 -  1  A  157 - A  402 -\n"
        "1cnsA  D02 F00  2  A    1 - A   87 -  A  146 - A  243 -  1  A   88 - A  145 -\n"
        "1amg0  D02 F01  1  0    1 - 0  360 -  1  0  362 - 0  417 -  0  361 - 0  361 - (1)\n"
        "104lB  D01 F00  1  B   -3 - B  162 C\n"
    )
    found = read_boundaries(path)
    assert found["1cnsA01"] == (Segment(1, "", 87, ""), Segment(146, "", 243, ""))
    assert found["1amg002"] == (Segment(362, "", 417, ""),)
    assert found["104lB00"] == found["104lB01"] == (Segment(-3, "", 162, "C"),)


@pytest.mark.parametrize(
    "line",
    [
        "1chmA D02 F00 1 A 2 - A 156 -",
        "1chmA D01 F00 1 B 2 - B 156 -",
        "1chmA D01 F01 1 A 2 - A 156 -",
        "1chmA D01 F00 0",
        "1chmA D1 F00 1 A 2 - A 156 -",
        "1chmA D01 F00 1 A x - A 156 -",
    ],
)
def test_damaged_boundaries_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ranges.txt"
    path.write_text(line)
    with pytest.raises(IntegrityError, match="line 1"):
        read_boundaries(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_lists_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    survives(read_domains, path)
    survives(read_boundaries, path)
    survives(chains_of_mmcif, path, content.decode("utf-8", errors="replace"))


number = st.integers(1, 4)
domain_lists = st.lists(st.tuples(number, number, number, number), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(codes=domain_lists, seed=st.integers(0, 1000), share=st.floats(0.02, 0.4))
def test_no_level_is_shared_with_training(
    codes: list[tuple[int, int, int, int]], seed: int, share: float
) -> None:
    domains = [
        Domain(f"1{chr(97 + i // 26)}{chr(97 + i % 26)}aA00", code, (1, 1, 1, 1), 50)
        for i, code in enumerate(codes)
    ]
    parts = divide(domains, seed=seed, share=share)
    assert divide(domains[::-1], seed=seed, share=share) == parts
    of = {one.name: one.code for one in domains}
    assert sorted(name for names in parts.values() for name in names) == sorted(of)
    trained = [of[name] for name in (*parts["train"], *parts["val"])]
    assert parts["train"]
    for level, depth in DEPTH.items():
        for name in parts[part_of(level)]:
            assert of[name][:depth] not in {code[:depth] for code in trained}
            # The test is of this level alone: what is above it was trained on.
            assert of[name][: depth - 1] in {code[: depth - 1] for code in trained}
    texts = {name: ".".join(map(str, code)) for name, code in of.items()}
    assert problems_of(parts, texts) == []


def test_what_breaks_a_split_is_found() -> None:
    domains = toy_domains()
    parts = divide(domains, seed=3, share=0.2)
    codes = {one.name: ".".join(map(str, one.code)) for one in domains}
    assert all(parts[part_of(level)] for level in DEPTH)
    for level in DEPTH:
        name = parts[part_of(level)][0]
        moved = {part: tuple(one for one in names if one != name) for part, names in parts.items()}
        moved["train"] = (*moved["train"], name)
        if len(parts[part_of(level)]) > 1:
            assert any(f"{part_of(level)} shares its" in text for text in problems_of(moved, codes))
    twice = parts | {"val": (*parts["val"], parts["train"][0])}
    assert any("is in" in text for text in problems_of(twice, codes))
    assert problems_of(parts | {"train": ()}, codes)
    assert problems_of({"train": parts["train"]}, codes)


def write_pdb(path: Path, residues: list[tuple[str, int, str, str]], chain: str = "A") -> None:
    """Write Cα atoms: residue name, number, insertion code, comment."""
    lines = []
    for place, (name, resid, insertion, _) in enumerate(residues):
        lines.append(
            f"ATOM  {place + 1:5d}  CA  {name} {chain}{resid:4d}{insertion or ' '}   "
            f"{3.8 * place:8.3f}{0.0:8.3f}{0.0:8.3f}  1.00  0.00           C"
        )
    path.write_text("\n".join([*lines, "TER", "END", ""]))


def test_segments_insertions_and_gaps_are_cut_out(tmp_path: Path) -> None:
    residues = [("ALA", n, "", "") for n in range(1, 11)] + [
        ("GLY", 10, "A", ""),
        ("GLY", 10, "B", ""),
    ]
    residues += [("SER", n, "", "") for n in range(14, 21)]
    write_pdb(tmp_path / "1abc.pdb", residues)
    known = {
        "1abcA01": (Segment(1, "", 3, ""), Segment(9, "", 10, "A")),
        "1abcA02": (Segment(12, "", 16, ""),),
        "1abcA03": (Segment(30, "", 40, ""),),
        "1abcA04": (Segment(1, "", 5, ""), Segment(4, "", 9, "")),
    }
    domains = [Domain(f"1abcA0{n}", (1, 1, 1, n), (1, 1, 1, 1), 9) for n in range(1, 6)]
    domains.append(Domain("1abcB00", (1, 1, 1, 9), (1, 1, 1, 1), 9))
    found, reasons = read_domains_of(tmp_path, domains, known, shortest=2)
    first, second = found
    assert first.sequence == "AAAAAG"
    # Residues 3 and 9 are not neighbours; 9, 10 and 10A are.
    assert first.intact.tolist() == [True, True, False, True, True]
    assert second.sequence == "SSS"
    assert reasons == {
        "1abcA03": "a segment without residues in the entry",
        "1abcA04": "segments that overlap",
        "1abcA05": "no boundaries of the domain",
        "1abcB00": "no such chain in the entry",
    }


CIF = """data_1ABC
loop_
_atom_site.group_PDB
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.auth_comp_id
_atom_site.label_seq_id
_atom_site.auth_seq_id
_atom_site.pdbx_PDB_ins_code
_atom_site.auth_asym_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.pdbx_PDB_model_num
ATOM   CA     . MSE 1 5 ? A 0.0 0.0 0.0 1.00 1
ATOM   CA     A ALA 2 6 ? A 3.8 0.0 0.0 0.40 1
ATOM   CA     B ALA 2 6 ? A 3.9 0.0 0.0 0.60 1
ATOM   "CA'"  . ALA 2 6 ? A 9.0 0.0 0.0 1.00 1
ATOM   CA     . GLY 3 6 A A 7.6 0.0 0.0 1.00 1
HETATM CA     . CA  . 90 ? A 5.0 0.0 0.0 1.00 1
ATOM   CA     . ALA 1 5 ? A 1.0 1.0 1.0 1.00 2
#
"""


def test_mmcif_is_read_as_pdb_is(tmp_path: Path) -> None:
    (tmp_path / "1abc.cif").write_text(CIF)
    chain = read_chains(tmp_path / "1abc.cif")["A"]
    assert [(one.label, one.letter) for one in chain] == [("5", "M"), ("6", "A"), ("6A", "G")]
    assert chain[1].position[0] == 3.9
    for text, error in ((CIF[:-2], "truncated"), (CIF.replace("Cartn_z", "z"), "no loop"),
                        (CIF.replace("3.8 0.0 0.0", "3.8 0.0"), "cannot be parsed")):  # fmt: skip
        with pytest.raises(IntegrityError, match=error):
            chains_of_mmcif(tmp_path / "1abc.cif", text)


def test_structures_are_kept_bit_by_bit_and_checked(tmp_path: Path) -> None:
    split = toy_structures(tmp_path)
    found, structures = open_structures(tmp_path)
    assert found.fingerprint == split.fingerprint
    write_structures(tmp_path / "again.npz", structures)
    again = read_structures(tmp_path / "again.npz")
    assert again.fingerprint == structures.fingerprint
    one = structures[structures.names[0]]
    moved = Structure(one.name, one.sequence, one.coordinates + np.float32(0.1), one.intact)
    write_structures(tmp_path / "structures.npz", StructureSet([*list(structures)[1:], moved]))
    with pytest.raises(ValidationError, match="not the structures of"):
        open_structures(tmp_path)
    np.savez(tmp_path / "structures.npz", names=np.array([None], dtype=object))
    with pytest.raises(IntegrityError):
        read_structures(tmp_path / "structures.npz")
    data = split.model_dump(mode="json")
    data["codes"][split.parts["test-C"][0]] = data["codes"][split.parts["train"][0]]
    (tmp_path / "split.json").write_text(json.dumps(data))
    with pytest.raises(ValidationError, match="shares its class"):
        open_structures(tmp_path)


def test_the_verb_on_entries_at_hand(tmp_path: Path, published_dir: Path) -> None:
    (tmp_path / "list.txt").write_text(MADE_UP)
    native = published_dir / "native" / "full"
    assert {"1mi0", "2wxc"} <= set(find_files(native))
    arguments = ["--cath", tmp_path / "list.txt", "--structures", native, "--out", tmp_path / "out"]
    run = CliRunner().invoke(app, ["splits", "make", *map(str, arguments)])
    assert run.exit_code == 0, run.output
    split, structures = open_structures(tmp_path / "out")
    assert split.left_out == {"no file of the entry": 1, "shorter than 28 residues": 1}
    assert structures["1mi0A00"].n_residues == 61
    assert all(one.intact.all() for one in structures)
    assert split.level_of(split.parts["test-C"][0]) == "C"
    left_out = (tmp_path / "out" / "left-out.tsv").read_text()
    assert "9zzzA00\tno file of the entry" in left_out
    check = CliRunner().invoke(app, ["splits", "check", "--cath", str(tmp_path / "out")])
    assert check.exit_code == 0
    again = make_structure_split(tmp_path / "list.txt", native, tmp_path / "again")
    assert again == split


def test_one_domain_of_each_cluster_that_can_be_read(tmp_path: Path) -> None:
    helix_residues = [("ALA", n, "", "") for n in range(1, 31)]
    for entry in ("1aaa", "1bbb", "1ccc", "1ddd"):
        write_pdb(tmp_path / f"{entry}.pdb", helix_residues)
    (tmp_path / "1aaa.pdb").write_text("damaged")
    lines = [f"{entry}A00 1 10 {t} 1 1 1 1 1 1 30 1.0" for entry, t in
             (("1aaa", 1), ("1bbb", 1), ("1ccc", 1), ("1ddd", 2))]  # fmt: skip
    (tmp_path / "list").write_text("\n".join(lines))
    split = make_structure_split(tmp_path / "list", tmp_path, tmp_path / "out")
    assert set(split.codes) == {"1bbbA00", "1dddA00"}
    everything = make_structure_split(
        tmp_path / "list", tmp_path, tmp_path / "all", representatives="none"
    )
    assert set(everything.codes) == {"1bbbA00", "1cccA00", "1dddA00"}
    (tmp_path / "other").mkdir()
    with pytest.raises(ValidationError, match="no domain of the list can be used"):
        make_structure_split(tmp_path / "list", tmp_path / "other", tmp_path / "none")


@pytest.mark.parametrize(
    "arguments",
    [
        ["splits", "make"],
        ["splits", "make", "--cath", "x"],
        ["splits", "make", "chignolin", "--cath", "x", "--structures", ".", "--out", "y"],
        ["splits", "make", "chignolin", "--share", "0.1"],
    ],
)
def test_commands_that_make_no_sense(arguments: list[str]) -> None:
    run = CliRunner().invoke(app, arguments)
    assert isinstance(run.exception, UsageError)
