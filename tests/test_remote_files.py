"""The list of files that can be fetched, against the publisher's own list and the files at hand."""

import hashlib
import re
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.registry import RemoteFile, remote_files

PUBLISHED = [one for one in registry.systems() if one.published_key is not None]
ALL = remote_files()

#: The published list links another protein's archive here.
WRONG_LINK = "reference_trajectories/wwdomain_2_trajectories.tar.gz"
CORRECTED = "reference_trajectories/bbl_2_trajectories.tar.gz"


def named(name: str) -> RemoteFile:
    return next(file for file in ALL if file.name == name)


@pytest.fixture(scope="module")
def published_list(published_dir: Path) -> str:
    return (published_dir / "remote_files.md").read_text(encoding="utf-8")


def test_there_are_as_many_files_as_the_kinds_say() -> None:
    counts = Counter(file.kind for file in ALL)
    assert counts == {
        "setup": 12 + 12 + 1,
        "training": 4 * 12,
        "reference": 12 + 4 + 1,
        "native": 12 + 11 + 1,
        "cg": 4 * 12,
        "mutants": 3 * 11 + 2,
        "models": 1,
    }


def test_names_and_places_are_unique_and_below_the_data_home() -> None:
    paths = [file.path for file in ALL]
    assert len(set(paths)) == len(paths)
    assert len({(file.system, file.kind, file.name) for file in ALL}) == len(ALL)
    for path in paths:
        assert path.parts[0] == "raw"
        assert ".." not in path.parts


def test_training_arrays_lie_where_preprocessing_looks_for_them() -> None:
    file = named("chignolin_ca_coords.npy")
    assert file.path == PurePosixPath("raw/chignolin/chignolin_ca_coords.npy")
    assert named("cln.psf").path == PurePosixPath("raw/chignolin/setup/cln.psf")
    assert named("Models.zip").path == PurePosixPath("raw/suite/models/Models.zip")


def test_arrays_have_the_beads_of_their_system() -> None:
    for file in ALL:
        if file.content.startswith("npy") or file.kind == "setup":
            expected = None if file.system == "suite" else registry.system(file.system).n_beads
            assert file.n_beads == expected, file.name


def test_beads_of_mutants_are_stated_only_where_their_sequence_is_known() -> None:
    for file in remote_files(["mutants"], ["mutants"]):
        sequence = registry.mutant(file.system).sequence
        whole = file.content in ("psf", "pdb") and not file.name.endswith("_org.pdb")
        assert file.n_beads == (len(sequence) if sequence and whole else None)


def test_entries_of_the_protein_data_bank_follow_from_the_registry() -> None:
    for entry in (*PUBLISHED, *registry.mutants()):
        pdb_id = entry.native.pdb_id if isinstance(entry, registry.System) else entry.pdb_id
        (file,) = [one for one in ALL if (one.system, one.kind) == (entry.key, "native")]
        assert file.url == f"https://files.rcsb.org/download/{pdb_id}.pdb"
        assert file.name == f"{pdb_id}.pdb"
        assert len(file.mirrors) == 2
        assert all(str(pdb_id).lower() in mirror for mirror in file.mirrors)


@pytest.mark.data
def test_every_published_address_is_there_and_no_other(published_list: str) -> None:
    linked = set(re.findall(r"http://pub\.htmd\.org/[^\s)>]+", published_list))
    assert len(linked) == 148
    ours = {file.url for file in ALL if "pub.htmd.org" in file.url}
    base = "http://pub.htmd.org/protein_thermodynamics_data"
    assert ours - linked == {f"{base}/{CORRECTED}", f"{base}/Models.zip"}
    assert linked - ours == set()


@pytest.mark.data
def test_the_list_of_archives_is_the_published_table(published_list: str) -> None:
    table = published_list.partition("## Reference MD")[2].partition("## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if "http" in line]
    assert len(rows) == len(PUBLISHED)
    for system, (_, sizes, links) in zip(PUBLISHED, rows, strict=True):
        files = remote_files([system.key], ["reference"])
        urls = re.findall(r"\((http[^)]+)\)", links)
        expected = [
            url.replace(WRONG_LINK, CORRECTED) if system.key == "bbl" else url for url in urls
        ]
        assert [file.url for file in files] == expected
        stated = [size.strip() for size in sizes.split("+")]
        if system.key == "a3d":
            # Two sizes and one link.
            stated = [" + ".join(stated)]
        assert [file.stated_size for file in files] == stated


@pytest.mark.data
def test_each_table_row_belongs_to_its_system(published_list: str) -> None:
    parts = re.split(r"^## ", published_list, flags=re.MULTILINE)
    for heading, kind, keys in (
        ("Training", "training", [one.key for one in PUBLISHED]),
        ("Coarse-grained", "cg", [one.key for one in PUBLISHED]),
        ("Mutant", "mutants", [one.key for one in registry.mutants()]),
    ):
        (part,) = [text for text in parts if text.startswith(heading)]
        rows = [re.findall(r"\((http[^)]+)\)", line) for line in part.splitlines() if "](" in line]
        for key, urls in zip(keys, rows, strict=True):
            assert [file.url for file in remote_files([key], [kind])] == urls  # type: ignore[list-item]


@pytest.mark.data
def test_the_setup_files_at_hand_are_the_pinned_ones(published_dir: Path) -> None:
    folders = {"psf": "topology", "xtc": "starting_frames", "yaml": "."}
    setup = remote_files(kinds=["setup"])
    for file in setup:
        content = (published_dir / folders[file.content] / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert "/39beeab6c8399763c8304922f8ff2d11ee0962ec/Tutorials/" in file.url


def test_only_setup_is_pinned() -> None:
    for file in ALL:
        assert (file.sha256 is not None) == (file.kind == "setup") == (file.size is not None)


def test_known_errors_of_the_list_are_noted() -> None:
    noted = {file.name for file in ALL if file.note is not None}
    assert noted == {
        "bbl_2_trajectories.tar.gz",
        "a3D_trajectories.tar.gz",
        "proteing_3_trajectories.tar.gz",
    }
    assert "wwdomain_2" in str(named("bbl_2_trajectories.tar.gz").note)
    assert "805 GB" in str(named("proteing_3_trajectories.tar.gz").note)


def test_stated_sizes_are_read_and_doubtful_ones_are_not() -> None:
    assert named("chignolin_trajectories.tar.gz").approximate_size == 1_400_000_000
    assert named("wwdomain_1_trajectories.tar.gz").approximate_size == 19_000_000_000
    assert named("proteing_3_trajectories.tar.gz").approximate_size is None
    assert named("a3D_trajectories.tar.gz").approximate_size is None
    assert named("cln.psf").approximate_size == named("cln.psf").size
    stated = [file for file in ALL if file.stated_size is not None]
    assert all((file.approximate_size is None) == file.size_doubtful for file in stated)


def test_a_system_brings_the_prior_with_its_setup() -> None:
    names = [file.name for file in remote_files(["villin"], ["setup"])]
    assert names == [
        "villin.psf",
        "villin_kcenters_32clusters_coords.xtc",
        "prior_force_field.yaml",
    ]
    assert "Models.zip" not in [file.name for file in remote_files(["villin"])]


def test_all_is_the_twelve_and_the_suite_and_mutants_of_their_own_kind() -> None:
    everything = remote_files(["all"])
    assert Counter(file.kind for file in everything)["native"] == 13
    assert {file.path for file in ALL} - {file.path for file in everything} == {
        file.path for file in remote_files(["mutants"], ["native"])
    }
    assert remote_files(["all", "mutants"]) == ALL


def test_mutants_are_systems_too() -> None:
    files = remote_files(["homeodomain-1P7J"])
    assert [file.name for file in files] == [
        "1P7J.pdb",
        "homeodomain_1P7J_traj.tar.gz",
        "homeodomain_1P7J.pdb",
        "homeodomain_1P7J.psf",
        "homeodomain_1P7J_org.pdb",
    ]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("chignlin", "chignolin"), ("cln", "chignolin"), ("2MTQ", "a3d-2MTQ"), ("sweet", None)],
)
def test_an_unknown_system_is_named_with_the_closest(wrong: str, meant: str | None) -> None:
    with pytest.raises(UsageError, match=wrong) as caught:
        remote_files([wrong])
    assert (caught.value.fix is None) == (meant is None)
    assert meant is None or meant in str(caught.value.fix)


def test_an_unknown_kind_is_named_with_the_closest() -> None:
    with pytest.raises(UsageError, match="training"):
        remote_files(None, ["trainng"])  # type: ignore[list-item]


def test_the_sample_is_fetched_from_nowhere() -> None:
    with pytest.raises(UsageError, match="comes with the package"):
        remote_files(["chignolin-sample"])
