"""Unpacking archives: every format, and interruptions that go on where they stopped."""

import bz2
import gzip
import lzma
import random
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from toy_archives import CONTENT, FORMATS, files_below, header, put, tar_bytes, tar_of, zip_bytes

from cgbench.errors import IntegrityError, UsageError
from cgbench.fetch.archive import extract

every_format = pytest.mark.parametrize("form", FORMATS)


@every_format
def test_every_format_gives_the_files(form: str, tmp_path: Path) -> None:
    archive = put(tmp_path, FORMATS[form](CONTENT), f"archive.{form}")
    seen: list[tuple[float, float]] = []
    made = extract(
        archive, tmp_path / "out", progress=lambda _, done, all_: seen.append((done, all_))
    )
    assert made == [tmp_path / "out" / name for name in CONTENT]
    assert files_below(tmp_path / "out") == CONTENT
    assert seen[-1] == (archive.stat().st_size, archive.stat().st_size)
    assert not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_zip(method: int, tmp_path: Path) -> None:
    extract(put(tmp_path, zip_bytes(CONTENT, method)), tmp_path / "out")
    assert files_below(tmp_path / "out") == CONTENT


def test_folders_long_names_and_several_compressed_streams(tmp_path: Path) -> None:
    long = {"a/" * 20 + "x" * 200: b"deep", **CONTENT}
    whole = tar_bytes(long, folders=("trajectories", "trajectories/empty", "./"))
    parts = [whole[start : start + 50_000] for start in range(0, len(whole), 50_000)]
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        out = tmp_path / compress.__module__
        extract(put(tmp_path, b"".join(map(compress, parts))), out)
        assert files_below(out) == long
        assert (out / "trajectories" / "empty").is_dir()


def test_permissions_of_the_archive_are_ignored(tmp_path: Path) -> None:
    one = header("run.sh")
    one.mode = 0o6777
    extract(put(tmp_path, tar_of(one)), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "run.sh").stat().st_mode) & 0o6111 == 0


def test_a_full_disk_is_told_before_a_member_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 80_000})
    archive = put(tmp_path, tar_bytes(CONTENT))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(UsageError, match=r"no room for trajectories/1/output\.xtc"):
            extract(archive, tmp_path / "out")
    assert list(files_below(tmp_path / "out")) == ["trajectories/0/output.xtc"]
    extract(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == CONTENT


@every_format
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.6, 0.95, 0.999])
def test_truncated_archives_are_named(form: str, fraction: float, tmp_path: Path) -> None:
    data = FORMATS[form](CONTENT)
    # A plain tar ends with padding that it can do without.
    end = data.rstrip(b"\0") if form == "tar" else data
    archive = put(tmp_path, end[: int(fraction * len(end))], f"archive.{form}")
    with pytest.raises(IntegrityError, match="archive"):
        extract(archive, tmp_path / "out")
    for name, found in files_below(tmp_path / "out").items():
        assert found == CONTENT[name]


@every_format
def test_a_second_run_writes_nothing(form: str, tmp_path: Path) -> None:
    archive = put(tmp_path, FORMATS[form](CONTENT))
    first = extract(archive, tmp_path / "out")
    before = {path: path.stat().st_ino for path in first}
    assert extract(archive, tmp_path / "out") == first
    assert {path: path.stat().st_ino for path in first} == before
    # One that lost bytes or is gone is written again, and only it.
    first[0].write_bytes(b"short")
    first[3].unlink()
    extract(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == CONTENT
    again = [path for path in first if path.stat().st_ino != before[path]]
    assert set(again) <= {first[0], first[3]}
    assert first[0].read_bytes() == CONTENT["trajectories/0/output.xtc"]


def test_another_archive_of_the_same_name_is_unpacked_anew(tmp_path: Path) -> None:
    extract(put(tmp_path, tar_bytes({"a": b"old"})), tmp_path / "out")
    extract(put(tmp_path, tar_bytes({"a": b"new"})), tmp_path / "out")
    assert files_below(tmp_path / "out") == {"a": b"new"}


def test_a_torn_journal_line_is_dropped(tmp_path: Path) -> None:
    archive = put(tmp_path, tar_bytes(CONTENT))
    made = extract(archive, tmp_path / "out")
    journal = tmp_path / "out" / ".archive.tar.gz.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:10])
    kept = [path.stat().st_ino for path in made[:2]]
    extract(archive, tmp_path / "out")
    assert [path.stat().st_ino for path in made[:2]] == kept
    assert journal.read_bytes() == b"".join(lines)


WORKER = """
import sys, time
from pathlib import Path
from cgbench.fetch import archive
write = archive._Extraction.write
def slow(self, member, path):
    write(self, member, path)
    print(path.name, flush=True)
    time.sleep(0.05)
archive._Extraction.write = slow
archive.extract(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_after_kill_9_finished_members_are_not_written_again(form: str, tmp_path: Path) -> None:
    dice = random.Random(5)
    content = {f"{number:02d}.xtc": dice.randbytes(20_000) for number in range(40)}
    archive = put(tmp_path, FORMATS[form](content))
    out = tmp_path / "out"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(archive), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    while worker.stdout.readline().strip() != "09.xtc":
        pass
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    left = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.xtc")}
    assert 10 <= len(left) < 40
    # The last one may have been renamed and not yet noted.
    certain = sorted(left)[:-1]
    time.sleep(0.01)
    extract(archive, out)
    assert files_below(out) == content
    for path in certain:
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == left[path]


def test_two_processes_do_not_unpack_into_one_folder(tmp_path: Path) -> None:
    content = {f"{number}": b"x" for number in range(100)}
    archive = put(tmp_path, tar_bytes(content))
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(archive), str(tmp_path / "out")], stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    try:
        with pytest.raises(UsageError, match="another process"):
            extract(archive, tmp_path / "out")
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    extract(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == content
