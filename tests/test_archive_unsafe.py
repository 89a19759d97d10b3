"""Archives that attack: refused, with nothing written outside the folder."""

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
from toy_archives import CONTENT, FORMATS, files_below, header, put, tar_bytes, tar_of, zip_bytes

from cgbench.errors import CgbenchError, IntegrityError, UsageError
from cgbench.fetch.archive import Limits, extract

every_format = pytest.mark.parametrize("form", FORMATS)


UNSAFE_NAMES = (
    "../escape.txt", "a/../../escape.txt", "/tmp/cgbench-escape.txt", "a/..", "a\\..\\b.txt",
    "C:\\x.txt", "C:x.txt", "x\ny.txt", "x\x1b[31m.txt", "\udcff.txt", "n" * 300,
    "/".join("a" * 40),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "form"),
    # Names in zip archives are text, in tar archives bytes.
    [(n, f) for n in UNSAFE_NAMES for f in ("tar.gz", "zip") if "\udcff" not in n or f != "zip"],
    ids=ascii,
)
def test_names_that_lead_elsewhere_are_refused(name: str, form: str, tmp_path: Path) -> None:
    archive = put(tmp_path, FORMATS[form]({"good.txt": b"good", name: b"evil"}))
    with pytest.raises(IntegrityError, match=r"archive\.tar\.gz: unsafe"):
        extract(archive, tmp_path / "out" / "inner")
    assert files_below(tmp_path / "out" / "inner") == {"good.txt": b"good"}
    assert not list(tmp_path.rglob("*escape*"))
    assert not Path("/tmp/cgbench-escape.txt").exists()


@pytest.mark.parametrize(
    "member",
    [
        header("link", tarfile.SYMTYPE, "/etc/passwd"),
        header("link", tarfile.SYMTYPE, "good.txt"),
        header("hard", tarfile.LNKTYPE, "good.txt"),
        header("device", tarfile.CHRTYPE),
        header("disk", tarfile.BLKTYPE),
        header("pipe", tarfile.FIFOTYPE),
        header("odd", b"Z"),
    ],
    ids=lambda one: f"{one.name}-{one.linkname}",
)
def test_all_but_plain_files_are_refused(member: tarfile.TarInfo, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=f"'{member.name}' is a"):
        extract(put(tmp_path, tar_of(member)), tmp_path / "out")
    assert files_below(tmp_path / "out") == {"good.txt": b"good"}


def test_writing_through_a_link_of_the_archive_is_impossible(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    members = [header("way", tarfile.SYMTYPE, str(tmp_path / "outside")), header("way/file")]
    with pytest.raises(IntegrityError, match="symbolic link"):
        extract(put(tmp_path, tar_of(*members)), tmp_path / "out")
    assert not list((tmp_path / "outside").iterdir())


def test_a_link_in_the_target_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "way").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="leads out of"):
        extract(put(tmp_path, tar_bytes({"way/file": b"x"})), tmp_path / "out")
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_special_files_of_zip_are_refused(mode: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        one = zipfile.ZipInfo("link")
        one.external_attr = (mode | 0o777) << 16
        archive.writestr(one, "/etc/passwd")
    with pytest.raises(IntegrityError, match="'link' is a"):
        extract(put(tmp_path, buffer.getvalue()), tmp_path / "out")


def test_encrypted_and_overlapping_zip_members_are_refused(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"a": b"x" * 100}, zipfile.ZIP_STORED))
    place = data.index(b"PK\x01\x02") + 8
    data[place] |= 1
    with pytest.raises(IntegrityError, match="encrypted"):
        extract(put(tmp_path, bytes(data)), tmp_path / "out")
    # The directory lists the same 100 bytes again and again, under other names.
    data = bytearray(zip_bytes({f"{number}": b"x" * 1000 for number in range(9)}, 0))
    start = data.index(b"PK\x01\x02")
    entries, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    first = data[: data.index(b"PK\x03\x04", 10)]
    size = len(entries) // 9
    for number in range(9):
        entries[number * size + 42 : number * size + 46] = struct.pack("<I", 0)
    end[16:20] = struct.pack("<I", len(first))
    with pytest.raises(IntegrityError, match=r"overlap|damaged"):
        extract(put(tmp_path, bytes(first + entries + end)), tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("a.txt", "a.txt"), "same name"),
        (("a.txt", "./a.txt"), "same name"),
        (("a.txt", "A.TXT"), "same name"),
        (("\u00e9", "e\u0301"), "same name"),
        (("a", "a/b"), "same name"),
        (("a/b", "a"), "same name"),
        ((".archive.tar.gz.journal",), "same name"),
        ((".archive.tar.gz.member.partial",), "same name"),
    ],
    ids=str,
)
def test_two_members_of_one_name_are_refused(
    names: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    archive = put(tmp_path, tar_of(*map(header, names)))
    with pytest.raises(IntegrityError, match=problem):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("form", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_bombs_are_refused_before_they_fill_the_disk(form: str, tmp_path: Path) -> None:
    archive = put(tmp_path, FORMATS[form]({"zeros": bytes(60_000_000)}))
    with pytest.raises(IntegrityError, match="decompression bomb"):
        extract(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == {}


def test_limits_on_members_bytes_and_depth(tmp_path: Path) -> None:
    archive = put(tmp_path, tar_bytes(CONTENT))
    for limits, problem in (
        (Limits(members=3), "too many members"),
        (Limits(total_bytes=100_000), "too much"),
        (Limits(depth=2), "folders within folders"),
    ):
        with pytest.raises(IntegrityError, match=problem):
            extract(archive, tmp_path / problem, limits=limits)
    extract(archive, tmp_path / "out", limits=Limits(members=4, total_bytes=160_400, depth=3))


def test_headers_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        big = header("big", kind)
        big.size = 50_000_000
        archive = put(tmp_path, gzip.compress(tar_of(big)))
        with pytest.raises(IntegrityError, match="a header of 50000000 bytes"):
            extract(archive, tmp_path / "out")
    nested = tar_of(*(header(f"{n}", tarfile.GNUTYPE_LONGNAME) for n in range(5000)))
    with pytest.raises(IntegrityError):
        extract(put(tmp_path, nested), tmp_path / "out")
    padded = gzip.compress(tar_bytes(CONTENT) + bytes(40_000_000))
    with pytest.raises(IntegrityError, match="after the archive's end"):
        extract(put(tmp_path, padded), tmp_path / "out")


@every_format
def test_damaged_archives_end_in_errors_of_ours(form: str, tmp_path: Path) -> None:
    data = FORMATS[form](CONTENT)
    dice = random.Random(form)
    refused = 0
    for number in range(150):
        damaged = bytearray(data)
        area = len(data) if number % 2 else min(1500, len(data))
        for _ in range(dice.choice((1, 3, 30))):
            damaged[dice.randrange(area)] ^= dice.randrange(1, 256)
        out = tmp_path / f"{number}"
        try:
            extract(put(tmp_path, bytes(damaged)), out)
        except CgbenchError:
            refused += 1
    # Bytes of members are not protected in a plain tar.
    assert refused > (20 if form == "tar" else 100)
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"<html>", b"\x1f\x8b", b"BZh", os.urandom(2000), b"PK\x03\x04" + bytes(500)):
        with pytest.raises(IntegrityError):
            extract(put(tmp_path, data), tmp_path / "out")
    with pytest.raises(UsageError, match="no such file"):
        extract(tmp_path / "nowhere.zip", tmp_path / "out")


names = st.lists(
    st.one_of(
        st.sampled_from(["..", ".", "", "a", "A", "b.txt", "C:", "é", "~", "-rf", "\\", "nul"]),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
).map("/".join)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@hypothesis.settings(max_examples=150)
@hypothesis.given(st.lists(names, min_size=1, max_size=6), st.sampled_from(["tar", "zip"]))
def test_nothing_is_ever_written_outside(
    tmp_path_factory: pytest.TempPathFactory, members: list[str], form: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    buffer = io.BytesIO()
    if form == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in members:
                one = header(name)
                one.size = 4
                archive.addfile(one, io.BytesIO(b"data"))
    else:
        with zipfile.ZipFile(buffer, "w") as packed:
            for name in dict.fromkeys(members):
                with packed.open(zipfile.ZipInfo(name), "w") as sink:
                    sink.write(b"data")
    packed_path = put(folder, buffer.getvalue() or b"x")
    out = folder / "one" / "two" / "out"
    try:
        made = extract(packed_path, out)
    except CgbenchError:
        made = []
    for path in made:
        assert path.resolve().is_relative_to(out.resolve())
        assert path.read_bytes() == b"data"
    outside = [
        path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(out)
    ]
    assert outside == [packed_path]
