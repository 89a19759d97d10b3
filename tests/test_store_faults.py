"""A full disk, and kill -9 at any write: the next run completes, and writes no shard twice."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import store_sources
from hypothesis import given, settings
from hypothesis import strategies as st
from store_sources import LAYOUT, CountingSource, metadata_of, random_source, write

from cgbench import config
from cgbench.errors import IntegrityError
from cgbench.store import manifest, open_store, shard_file, verify_store, write_store, writer

#: First frames of the chunks of each unit of random_source in LAYOUT.
CHUNKS = {0: [0, 8], 1: [16, 24], 2: [32]}
#: Calls of os.write for the shards of one unit: six arrays of up to two chunks, and an index each.
WRITES_PER_UNIT = 18


def finished_units(path):
    """Return the journal's units and what their files are, by inode and time of change."""
    journal = path / manifest.JOURNAL_NAME
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    files = {}
    for line in lines:
        for shard in json.loads(line)["shards"]:
            status = (path / shard["file"]).stat()
            files[shard["file"]] = (status.st_ino, status.st_mtime_ns)
    return {json.loads(line)["index"] for line in lines}, files


def complete(path, folder, **options):
    """Finish a store; check that only what was missing is read and written. Return the manifest."""
    units, files = finished_units(path)
    source = CountingSource(random_source(), folder / "reads")
    found = write_store(path, source, metadata_of(source), layout=LAYOUT, **options)
    missing = sorted(set(CHUNKS) - units)
    assert sorted(source.reads) == [start for unit in missing for start in CHUNKS[unit]]
    for name, (inode, changed) in files.items():
        status = (path / name).stat()
        assert (status.st_ino, status.st_mtime_ns) == (inode, changed), name
    assert verify_store(path).problems == ()
    assert [entry.name for entry in path.parent.iterdir() if entry.name.endswith(".partial")] == []
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "toy.zarr"
    return write(path), (path / "manifest.json").read_bytes()


class Disk:
    """Counts calls of the functions that write, and is full from the n-th on."""

    def __init__(self, room):
        self.room = room

    def _take(self):
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def limit(self, function):
        def limited(*arguments, **named):
            self._take()
            return function(*arguments, **named)

        return limited

    def torn(self, descriptor, content):
        """Write half of what is asked for where there is no more room."""
        try:
            self._take()
        except OSError:
            os.write(descriptor, content[: len(content) // 2])
            raise
        return os.write(descriptor, content)


class Os:
    """The module ``os`` with another ``write`` and ``fsync``."""

    def __init__(self, disk):
        self.write = disk.torn
        self.fsync = disk.limit(os.fsync)

    def __getattr__(self, name):
        return getattr(os, name)


@settings(max_examples=15)
@given(room=st.integers(0, 110), workers=st.sampled_from([1, 2]))
def test_a_full_disk_at_any_write(room, workers, expected, tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    path = folder / "toy.zarr"
    disk = Disk(room)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_file, "os", Os(disk))
        # Journal lines and atomic files are synchronised after they are written.
        patch.setattr(manifest, "os", Os(disk))
        patch.setattr(config, "os", Os(disk))
        for module, name in ((writer, "create_array"), (writer, "consolidate")):
            patch.setattr(module, name, disk.limit(getattr(module, name)))
        try:
            write(path, workers=workers)
            full = False
        except OSError as error:
            full = error.errno == errno.ENOSPC
            if not full:
                raise
    assert full == (disk.room < 0)
    if full and not (path / "manifest.json").exists():
        with pytest.raises(IntegrityError):
            open_store(path)
    found = complete(path, folder, workers=workers) if full else writer.read_manifest(path)
    assert found == expected[0]
    assert (path / "manifest.json").read_bytes() == expected[1]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_file, "os", Os(Disk(WRITES_PER_UNIT + 9)))
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "toy.zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.zarr"]
    assert finished_units(tmp_path / "toy.zarr")[0] == {0}


def fill_a_disk(path, kilobytes):
    """Run in a mount namespace: write until the disk is full, enlarge it, and write again."""
    disk = path.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", disk], check=True)
    try:
        write(path)
    except OSError as error:
        print(errno.errorcode[error.errno])
    subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
    # What a test notes of reads must not lie on the small disk.
    folder = Path(os.environ["CGBENCH_FAULTS"])
    complete(path, folder)
    shutil.copy(path / "manifest.json", folder)


@pytest.mark.parametrize("kilobytes", [16, 64, 88, 104, 136, 140])
def test_a_disk_that_is_really_full(kilobytes, expected, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk of their own")
    (tmp_path / "disk").mkdir()
    here = Path(__file__)
    code = (
        f"import {here.stem} as t; t.fill_a_disk(t.Path('disk/toy.zarr').absolute(), {kilobytes})"
    )
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(here.parent), "CGBENCH_FAULTS": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ENOSPC"
    assert (tmp_path / "manifest.json").read_bytes() == expected[1]


@pytest.mark.parametrize("number", [1, 17, 18, 23, 40, 48])
def test_kill_9_at_any_write(number, expected, tmp_path):
    path = tmp_path / "toy.zarr"
    killed = subprocess.run(
        [sys.executable, store_sources.__file__, path, f"write {number}"],
        cwd=Path(store_sources.__file__).parent,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert len(finished_units(path)[0]) == min(number // (WRITES_PER_UNIT + 1), 2)
    assert complete(path, tmp_path, workers=2) == expected[0]
    assert (path / "manifest.json").read_bytes() == expected[1]
